"""Tests of Observations: what `observations` accepts, what it makes of it, and which functions take it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm

from helpers import random_data, random_mixture

NAN = np.nan
X = np.array([[1.0, NAN], [2.0, 3.0], [4.0, 5.0], [0.0, 1.0]])
MATRIX = np.array([[2.0, 0.5], [0.5, 1.0]])


def test_fields():
    """Missing values become zeros with a mask; the noise of a missing value is ignored; labels are kept."""
    found = jaxgmm.observations(
        X, noise=np.full(X.shape, 0.1) * (1 + 0 * X) + np.where(np.isnan(X), NAN, 0), labels=[0, -1, 1, -1]
    )
    np.testing.assert_array_equal(found.mask(), ~np.isnan(X))
    np.testing.assert_allclose(found.noise, np.where(np.isnan(X), 0, 0.1), rtol=1e-6)
    assert found.x[0, 1] == 0
    assert found.allowed.tolist() == [0, -1, 1, -1]
    assert repr(found) == "Observations, N=4 rows, D=2 features: 1 value is missing, with noise, 2 rows have a label"
    masked = jaxgmm.observations(np.nan_to_num(X), missing=np.isnan(X))
    np.testing.assert_array_equal(masked.mask(), found.mask())


def test_empty_fields_are_dropped():
    """Complete data without noise and labels go the way of a plain array, with the same numbers."""
    x, mixture = random_data(0), random_mixture(0, "tied")
    plain = jaxgmm.observations(x, noise=np.zeros(3), labels=np.full(60, -1))
    assert plain.is_plain
    assert jaxgmm.fit(mixture, plain).log_likelihood == jaxgmm.fit(mixture, x).log_likelihood


def test_empty_rows_are_ignored():
    """A row with neither value nor label has weight 0 and is not counted in BIC; a row with only a label counts."""
    rows = np.concatenate([X, [[NAN, NAN]]])
    with pytest.warns(RuntimeWarning, match="x has 1 row in which nothing is observed, which is ignored"):
        found = jaxgmm.observations(rows)
    assert found.weight.tolist() == [1, 1, 1, 1, 0]
    mixture = random_mixture(1, "full", k=2, d=2)
    np.testing.assert_allclose(jaxgmm.bic(mixture, found), jaxgmm.bic(mixture, jaxgmm.observations(X)), rtol=1e-6)
    assert jaxgmm.observations(rows, labels=[-1, -1, -1, -1, 1]).weight is None
    weighted = jaxgmm.observations(rows, sample_weight=[1, 1, 1, 1, 0])
    assert weighted.weight.tolist() == [1, 1, 1, 1, 0]
    with pytest.raises(ValueError, match="no observed value"):
        jaxgmm.observations(rows[-1:])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"x": np.where(np.isnan(X), np.inf, X)}, "x contains infinity in 1 of 4 rows"),
        ({"x": X[0]}, r"x has shape \(2,\); \(N, D\) was expected"),
        ({"missing": np.zeros((2, 2), bool)}, r"missing has shape \(2, 2\); the shape of x was expected"),
        ({"noise": [-1.0, 0.0]}, "noise has a negative variance; variances >= 0"),
        ({"noise": np.stack([MATRIX] * 3 + [-MATRIX])}, "not symmetric and positive semidefinite in row 3"),
        ({"noise": np.ones(3)}, r"noise has shape \(3,\); variances of shape \(2,\) or \(4, 2\)"),
        ({"x": X[:2], "noise": MATRIX}, "which could be one matrix or the variances of 2 rows"),
        ({"labels": [0, -2, 1, 1]}, "labels has the value -2"),
        ({"labels": [0, 1]}, "labels has 2 rows; one label for each row of x was expected: 4"),
        ({"labels": np.array([[True, True], [False, False]] * 2)}, "labels allows no component in row 1"),
        ({"method": "both"}, "method is 'both'"),
        ({"sample_weight": [1, 1]}, "sample_weight has shape"),
    ],
)
def test_invalid_values(options, message):
    with pytest.raises(ValueError, match=message):
        jaxgmm.observations(**{"x": X} | options)


@pytest.mark.parametrize(("name", "value"), [("missing", np.zeros(X.shape)), ("labels", [0.0, 1.0, 0.0, 1.0])])
def test_invalid_types(name, value):
    with pytest.raises(TypeError, match=f"{name} has dtype float64"):
        jaxgmm.observations(X, **{name: value})


def test_columns():
    """Two columns that are never observed together cause a warning with their names."""
    apart = np.array([[1.0, NAN, 1.0], [NAN, 2.0, 1.5], [3.0, NAN, 0.0]])
    pandas = pytest.importorskip("pandas")
    with pytest.warns(RuntimeWarning, match=r"Columns a and b are never observed in the same row"):
        jaxgmm.observations(pandas.DataFrame(apart, columns=["a", "b", "c"]))


@pytest.mark.parametrize("name", ["calibrate", "sample_prior"])
def test_other_functions_refuse_observations(name):
    """A function that does not support Observations says so in one sentence, whichever argument holds them."""
    with pytest.raises(TypeError, match=f"{name} does not take Observations yet; give it complete rows as an array"):
        getattr(jaxgmm, name)(jax.random.key(0), jaxgmm.observations(X), num_components=2)


def test_plain_data_with_nan_name_observations():
    with pytest.raises(ValueError, match=r"x contains NaN in 1 of 4 rows; .* use jaxgmm.observations\(x\)"):
        jaxgmm.fit(random_mixture(0, "full", k=2, d=2), X)


def test_traced():
    """Inside jit, NaN marks missing values as it does outside."""
    inside = jax.jit(lambda x: jaxgmm.observations(x).mask())(jnp.asarray(X))
    np.testing.assert_array_equal(inside, ~np.isnan(X))


def test_limits():
    """Limits concern missing values only; two in a row need diagonal covariances."""
    x = np.array([[1.0, NAN], [NAN, NAN], [4.0, 5.0]])
    found = jaxgmm.observations(x, limits=(None, [2.0, 3.0]))
    np.testing.assert_array_equal(found.upper, [[np.inf, 3], [2, 3], [np.inf, np.inf]])
    assert repr(found) == "Observations, N=3 rows, D=2 features: 3 values are missing, 3 of them between limits"
    mixture = random_mixture(0, "full", k=2, d=2)
    with pytest.raises(ValueError, match="more than one censored value in 1 row, the first of them row 1"):
        jaxgmm.fit(mixture, found)
    with pytest.raises(ValueError, match="a lower limit that is not below the upper limit in row 1"):
        jaxgmm.observations(x, limits=([2.0, 2.0], [2.0, 3.0]))
    with pytest.raises(ValueError, match=r"limits has an array of shape \(3,\)"):
        jaxgmm.observations(x, limits=(None, np.ones(3)))
    with pytest.raises(TypeError, match="limits is ndarray; a pair"):
        jaxgmm.observations(x, limits=np.zeros(2))
