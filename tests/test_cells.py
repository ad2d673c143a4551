"""Texts of numbers, arrays, statuses and objects; `test_tables.py` tests them inside the reprs of results."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgmm.cells import counted, fields_of, look, number, numbers, numbers_of, reach, shortened
from jaxgmm.em.result import Status
from jaxgmm.mixture import Mixture


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [(0.00123456, 4, "0.001235"), (123456.78, 4, "123456.8"), (123456.0, 4, "123456"), (1e7, 4, "1e+07"), (np.nan, 4, "nan")],
)
def test_numbers_near_and_far_from_zero(value, digits, text):
    """Below 1e7, no integer digit is lost, because data far from 0 may differ only in their last digits."""
    assert number(value, digits) == text


def test_vectors_and_matrices():
    """Long vectors keep their ends, and matrices larger than 2 by 2 keep their diagonals."""
    assert numbers(np.arange(9.0)) == "[0 1 2 3 4 ... 8]"
    assert numbers_of(3) == "3"
    assert numbers_of(np.eye(2)) == "[1 0; 0 1]"
    assert numbers_of(np.diag([1.0, 2.0, 3.0])) == "diagonal [1 2 3]"
    assert numbers_of("text") == ""


def test_what_cannot_be_read():
    """Tracers, deleted arrays and shapes hold no numbers that can be read."""
    seen = []
    jax.eval_shape(lambda value: seen.append(look(value)), jnp.zeros(3))
    gone = jnp.zeros(3)
    gone.delete()
    assert [*seen, look(gone), look(jax.ShapeDtypeStruct((3,), float)), look(None)] == [None] * 4


def test_range_of_an_array():
    """Only finite numbers count."""
    assert reach(np.array([3.0, np.nan, 1.0, 2.0])) == ("1", "2", "3")
    assert reach(np.array([np.inf])) == ("not finite",) * 3
    assert reach(np.zeros(0)) == ("",) * 3


def test_statuses_objects_and_long_texts():
    """The most frequent status comes first, arrays of an object are shown by their shapes, and long texts are cut."""
    assert counted(np.array([1, 0, 0, 77]), Status) == "2 CONVERGED, 1 MAX_ITER, 1 77"
    mixture = Mixture(None, np.zeros(3), {"a": np.ones((2, 2))}, "diag")
    assert fields_of(mixture).startswith(
        "Mixture(weights=None, means=float64[3], covariances={a: float64[2,2]}, covariance_type"
    )
    assert [shortened("abcdef", width) for width in (6, 4, 0)] == ["abcdef", "abc…", "…"]
