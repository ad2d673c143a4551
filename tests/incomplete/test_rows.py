"""The rows of observations: their summaries are those of the observed values, and units apply to values, noise and limits."""

import jax.numpy as jnp
import numpy as np

import jaxgmm
from jaxgmm.incomplete.rows import filled_rows, is_allowed, moments_of_columns, rows_at, standardised

NAN = np.nan
X = np.array([[1.0, NAN], [2.0, 3.0], [4.0, 5.0], [NAN, 7.0]])


def test_moments_of_columns():
    """Means and variances are those of the observed values of rows with positive weight."""
    mean, variance = moments_of_columns(jaxgmm.observations(X), jnp.array([1.0, 2.0, 0.0, 1.0]))
    np.testing.assert_allclose(mean, [5 / 3, 13 / 3], rtol=1e-6)
    np.testing.assert_allclose(variance, [2 / 9, 32 / 9], rtol=1e-6)


def test_filled_rows():
    """The largest observed value of a column stands for its missing values."""
    np.testing.assert_array_equal(filled_rows(jaxgmm.observations(X)), [[1, 7], [2, 3], [4, 5], [4, 7]])


def test_standardised():
    """The density of standardised rows is that of the rows in the new units."""
    shift, unit = np.array([1.0, -2.0]), np.array([2.0, 0.5])
    noise = np.array([[0.4, 0.1], [0.1, 0.2]])
    found = standardised(jaxgmm.observations(X, noise=noise, limits=(np.where(np.isnan(X), -1.0, NAN), None)), shift, unit)
    np.testing.assert_allclose(found.x, np.where(np.isnan(X), 0, (X - shift) / unit), rtol=1e-6)
    np.testing.assert_allclose(found.noise[0], noise / np.outer(unit, unit), rtol=1e-6)
    np.testing.assert_allclose(found.lower[0, 1], (-1.0 + 2.0) / 0.5, rtol=1e-6)
    assert np.isinf(found.lower[1]).all()
    assert np.isinf(found.upper).all()


def test_rows_at():
    """Chosen rows keep their own values, noise and labels; arrays are indexed as they are."""
    rows = jaxgmm.observations(X, noise=np.arange(8.0).reshape(4, 2), labels=[0, -1, 1, 0], method="rows")
    found = rows_at(rows, np.array([3, 1]))
    np.testing.assert_array_equal(found.x, [[0, 7], [2, 3]])
    np.testing.assert_array_equal(found.noise, [[0, 7], [2, 3]])  # a missing value has no noise
    np.testing.assert_array_equal(found.allowed, [0, -1])
    assert found.method is None
    np.testing.assert_array_equal(rows_at(jnp.asarray(X), np.array([1])), X[[1]])


def test_is_allowed():
    """Labels allow one component, or all where they are unknown; booleans are transposed."""
    expected = [[True, True, False], [False, True, True]]
    np.testing.assert_array_equal(is_allowed(jnp.array([0, -1, 1]), 2), expected)
    np.testing.assert_array_equal(is_allowed(jnp.array(expected).T, 2), expected)
