"""Test that the sums of batches, once added and finished, are those of all rows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgmm import covariance
from jaxgmm.em import kernels
from jaxgmm.em.stream.sums import additive_sums, finish_sums

from helpers import random_data, random_mixture


def compare(k, kind, number_far):
    """Compare the sums of two batches with those of all rows, with the given number of components in the whitened kernel."""
    mixture, x = random_mixture(0, kind, k=k), jnp.asarray(random_data(0, n=96, k=k))
    center = jnp.asarray(x.mean(0))
    factors = covariance.factorize(mixture.covariances, kind, 3)
    far = jnp.arange(k) % (k // number_far) == 0 if number_far else jnp.zeros(k, bool)
    batches = [additive_sums(far, mixture, factors, kernels.Rows(part, None, center), None) for part in (x[:32], x[32:])]
    found, log_likelihood = finish_sums(far, mixture, factors, jax.tree.map(jnp.add, *batches))
    rows = kernels.Rows(x, None, center)
    expected, total = kernels.whitened_component_sums(96, mixture, factors, rows)
    np.testing.assert_allclose(log_likelihood, total, rtol=1e-11)
    for name in ("count", "mean", "scatter"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize(("kind", "number_far"), [("full", 0), ("full", 3), pytest.param("tied", 0, marks=pytest.mark.slow)])
def test_sums_of_batches(kind, number_far, x64):
    compare(3, kind, number_far)


@pytest.mark.slow
@pytest.mark.parametrize("number_far", [0, 2, 4, 16, 64])
def test_sums_by_the_mixed_kernel(number_far, x64):
    """With 64 components, some of them are summed by the whitened kernel and the others by the quadratic kernel."""
    compare(64, "full", number_far)
