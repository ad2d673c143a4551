"""Test how the delimiter of a table and its names are found."""

import pytest

from jaxgmm.io.delimiters import NO_DELIMITER, find_delimiter, has_names, split


@pytest.mark.parametrize(
    ("lines", "delimiter"),
    [
        (["a,b;c", "1,5;2", "2,5;3"], ";"),
        (["a\tb, c", "1\t2"], "\t"),
        (["1.5 2", "3   4"], " "),
        (["a b|c d", "1|2"], "|"),
        (["2020-01-01 10:00,1.5", "2020-01-02 11:00,2.5"], ","),
        (['"a, b"', "1.5"], NO_DELIMITER),
        (["1.5", "2"], NO_DELIMITER),
        (["x", "1,5", "2,75"], NO_DELIMITER),
        (["1,234", "12,345,678", "987"], NO_DELIMITER),
        (["1, 2", "3, 4"], ","),
        (["1,-2", "3,4"], ","),
        ([f"{i},{10 + i % 80}" for i in range(100)], ","),
        ([f"{i},{i % 100:02d}" for i in range(100)], NO_DELIMITER),
    ],
)
def test_delimiters(lines, delimiter):
    assert find_delimiter(lines, None)[0] == delimiter


def test_a_ragged_table_keeps_the_delimiter_of_most_rows():
    assert find_delimiter(["1,5;2,5", "3,5;4,5", "5,5"], None)[0] == ";"
    assert find_delimiter(["1,2", "3"], None)[0] == ","


def test_quotes_protect_delimiters():
    assert list(split(['"a, b" ,c', ' 1,"2"'], ",")) == [["a, b", "c"], ["1", "2"]]
    assert list(split(["  1\t 2 ", '"a b" 3'], " ")) == [["1", "2"], ["a b", "3"]]


@pytest.mark.parametrize(
    ("rows", "names"),
    [
        ([["a", "b"], ["1", "2"]], True),
        ([["", "b"], ["1", "2"]], True),
        ([["1", "2"], ["3", "4"]], False),
        ([["1", "NA"], ["3", "4"]], False),
        ([["5.1", "setosa"], ["4.9", "setosa"]], False),
        ([["1_000", "2"], ["3", "4"]], False),
        ([["1,5", "x"], ["1.5", "2"]], True),
        ([["1,5", "2"], ["1,75", "2"]], False),
        ([["1", "2"], ["3", "4"], ["5", "6"]], False),
        ([["2019", "2020"], ["2021", "2022"], ["2023", "2024"]], False),
        ([["2015", "2020"], ["3", "4"], ["5", "6"]], True),
    ],
)
def test_names(rows, names):
    assert has_names(rows)[0] is names
