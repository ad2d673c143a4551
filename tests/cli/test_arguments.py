"""Test the options that commands share, and the parsers of their values."""

import argparse
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxgmm.cli.arguments import add_fit_options, add_model_options, parse_counts, parse_names


def test_defaults():
    parser = argparse.ArgumentParser()
    add_fit_options(parser)
    add_model_options(parser)
    found = vars(parser.parse_args(["data.csv", "-k", "3"]))
    assert found == {
        "data": "data.csv",
        "columns": None,
        "drop": None,
        "delimiter": None,
        "decimal": None,
        "array": None,
        "restarts": 10,
        "labels": None,
        "seed": 0,
        "out": Path("."),
        "force": False,
        "num_components": 3,
        "covariance_type": "full",
    }


@given(st.lists(st.sampled_from(["nuts", "gibbs", "laplace"]), min_size=1, unique=True), st.sampled_from([",", ", ", " , "]))
def test_names_keep_their_order(names, separator):
    assert parse_names(separator.join(names), "--methods", ("nuts", "gibbs", "laplace")) == names


@pytest.mark.parametrize(
    ("text", "words"), [("nuts,vb", "'vb'"), ("nuts,nuts", "the same name twice"), ("", "''"), ("nuts,", "''")]
)
def test_names_refused(text, words):
    with pytest.raises(ValueError, match=words):
        parse_names(text, "--methods", ("nuts", "gibbs"))


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(0, 5)), min_size=1))
def test_counts_are_the_union_of_ranges(ranges):
    text = ",".join(f"{low}-{low + more}" if more else str(low) for low, more in ranges)
    assert parse_counts(text) == sorted({i for low, more in ranges for i in range(low, low + more + 1)})


@pytest.mark.parametrize("text", ["0", "3-1", "two", "1,,2", "", "-3", "1.5", "99999"])
def test_counts_refused(text):
    with pytest.raises(ValueError, match="integers from 1 were expected"):
        parse_counts(text)
