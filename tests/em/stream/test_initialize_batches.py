"""Test starts from batches: they do not depend on the batches, and the sample is random."""

import jax
import numpy as np
import pytest

import jaxgmm
from jaxgmm import chunking
from jaxgmm.em.stream.initialize_batches import sample_batches

from helpers import assert_mixtures_close

X = np.random.default_rng(0).normal(size=(300, 2)).astype(np.float32)
WEIGHT = np.random.default_rng(1).gamma(1.0, size=300)


def sampled(batches, size):
    *sample, number = sample_batches(jax.random.key(0), batches, size)
    assert number == 300
    return sample


@pytest.mark.parametrize("weights", [False, True])
def test_samples_do_not_depend_on_batches(weights):
    """Rows are distinct and in the order of the data, and the same for batches of 1, 7 and 300 rows."""

    def parts(n):
        return [(X[i : i + n], WEIGHT[i : i + n]) if weights else X[i : i + n] for i in range(0, 300, n)]

    expected, weight = sampled(parts(300), 40)
    assert weight is None
    places = [np.flatnonzero((row == X).all(1)).item() for row in expected]
    assert len(places) == 40
    assert places == sorted(set(places))
    for n in (1, 7):
        np.testing.assert_array_equal(sampled(parts(n), 40)[0], expected)
    if weights:
        assert WEIGHT[places].mean() > 1.3 * WEIGHT.mean()  # heavy rows are drawn more often


def test_small_data_are_taken_whole():
    """With no more rows than the sample holds, the start is that of `initialize`, with the weights of the rows."""
    x, weight = sampled([(X[:100], WEIGHT[:100]), (X[100:], WEIGHT[100:])], 300)
    np.testing.assert_array_equal(x, X)
    np.testing.assert_allclose(weight, WEIGHT, rtol=1e-6)
    key, options = jax.random.key(0), {"num_components": 2}
    found = jaxgmm.initialize_batches(key, (part for part in (X[:100], X[100:])), **options)
    assert_mixtures_close(found, jaxgmm.initialize(key, X, **options), 0)


def test_invalid_arguments_are_refused():
    with pytest.raises(ValueError, match="no rows of positive weight"):
        jaxgmm.initialize_batches(jax.random.key(0), [X[:0]], num_components=2)
    with pytest.raises(ValueError, match="covariance_type is 'round'"):
        jaxgmm.initialize_batches(jax.random.key(0), [X], num_components=2, covariance_type="round")
    assert chunking.sample_rows(2) == 1 << 16
