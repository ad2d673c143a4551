"""Test which text is a number, and how decimal signs are found."""

import numpy as np
import pytest

from jaxgmm.io.number_formats import as_numbers, as_text, find_decimal, is_missing, is_number

NUMBERS = ["1", "-1.5", "+.5", "5.", "1e-3", "1,234.5", "1.234,5", "1'000", "1\u202f000,5", "12%", " 3 "]
OTHERS = ["", "1_000", "\u0661", "1,23,4", "1,2345,678", "0x1A", "1e", "--1", "1 000", "inf", "nan", "1.2.3"]
GAPS = ["", " ", "NA", "n/a", "#N/A", "NaN", "null", "-", "?", ".", "#DIV/0!", "inf", "-Infinity"]


@pytest.mark.parametrize("text", NUMBERS)
def test_numbers(text):
    assert is_number(text)


@pytest.mark.parametrize("text", OTHERS)
def test_no_numbers(text):
    assert not is_number(text)


@pytest.mark.parametrize("text", GAPS)
def test_missing(text):
    assert is_missing(text)


def test_the_decimal_sign_of_a_column():
    assert as_numbers(["1,5", "2", "NA"], ".,").values[:2].tolist() == [1.5, 2]
    assert as_numbers(["1,5", "x"], ".,").wrong.tolist() == [1]
    both = as_numbers(["1,234"], ".,")
    assert (both.values.tolist(), both.is_ambiguous) == ([1234], True)
    assert as_numbers(["1,234"], ",.").values.tolist() == [1.234]
    assert not as_numbers(["1,234"], ",").is_ambiguous
    assert not as_numbers(["12", "13"], ".,").is_ambiguous
    percent = as_numbers(["12%", "3.5 %", ""], ".,")
    assert percent.percent
    np.testing.assert_array_equal(percent.values, [12, 3.5, np.nan])


def test_the_decimal_sign_of_a_table():
    assert find_decimal([["1.234"], ["2,5"], ["low"]]) == ","
    assert find_decimal([["1,234"], ["2.5"]]) == "."
    assert find_decimal([["1,234"], ["2"]]) is None
    assert find_decimal([["1,5"], ["2.5"]]) is None


def test_columns_of_frames():
    import pandas

    assert as_text(pandas.Series([1, None, "a"], dtype=object)) == ["1", "", "a"]
