"""Test how columns are chosen, and which columns are taken for row numbers and identifiers."""

import numpy as np
import pytest

from jaxgmm.io.column_choice import choose_columns, identifies_rows

NAMES = ["height", "weight", "Length, cm", "sepal-length", "sepal-width", "2019"]


@pytest.mark.parametrize(
    ("columns", "drop", "keep"),
    [
        (None, None, [0, 1, 2, 3, 4, 5]),
        ("weight,0", None, [1, 0]),
        ("1-3", None, [1, 2, 3]),
        ("1:3", None, [1, 2, 3]),
        ("weight-sepal-length", None, [1, 2, 3]),
        ("sepal-length", None, [3]),
        ("sepal-length-sepal-width", None, [3, 4]),
        ("Length, cm", None, [2]),
        ('"Length, cm", 2019', None, [2, 5]),
        (["Length, cm", 0, "3-4"], None, [2, 0, 3, 4]),
        (None, "1-4", [0, 5]),
        ("0-4", "weight", [0, 2, 3, 4]),
    ],
)
def test_requests(columns, drop, keep):
    assert choose_columns(columns, NAMES, "points.csv", drop=drop) == (keep, [NAMES[i] for i in keep])


@pytest.mark.parametrize(
    ("columns", "drop", "words"),
    [
        (["length"], None, "no column 'length'"),
        ("hieght", None, r"no column 'hieght' \(did you mean 'height'\?\); its columns, .*, are: height, weight"),
        ("WEIGHT", None, "did you mean 'weight'"),
        (None, "wieght", "did you mean 'weight'"),
        (["0", "height"], None, "named twice"),
        ("0-1,weight", None, "named twice"),
        ([], None, "at least one column"),
        (["6"], None, "no column '6'"),
        (["\u0661"], None, "no column '\u0661'"),
        ("3-1", None, "no column '3-1'"),
        (None, "0-5", "drop leaves no column"),
    ],
)
def test_requests_that_are_refused(columns, drop, words):
    with pytest.raises(ValueError, match=words):
        choose_columns(columns, NAMES, "points.csv", drop=drop)


@pytest.mark.parametrize("name", ["id", "ID", "row", "index", "rownames", "row.names", "sample_id", "CustomerID", "Unnamed: 0"])
def test_names_of_identifiers(name):
    assert identifies_rows(np.array([7.0, 3.0, 3.0]), name, True, True)
    assert not identifies_rows(np.array([7.5, 3.0]), name, True, True)


@pytest.mark.parametrize("name", ["width", "grid", "humid", "arrow", "throw", "acid", "covid", "bid"])
def test_names_of_measurements(name):
    assert not identifies_rows(np.array([7.0, 3.0]), name, True, True)


def test_numbers_in_steps_of_one():
    rng = np.random.default_rng(0)
    assert identifies_rows(np.arange(5.0), "a", True, True)
    assert identifies_rows(rng.permutation(20).astype(float) + 7, "a", True, True)
    assert not identifies_rows(np.arange(2.0), "a", True, True)
    assert identifies_rows(np.arange(2.0), "column 0", False, True)
    assert not identifies_rows(np.arange(5.0), "a", True, False)
    assert not identifies_rows(rng.integers(0, 20, 20).astype(float), "a", True, True)
    assert not identifies_rows(np.array([0.0, 1.0, np.nan, 3.0]), "a", True, True)
