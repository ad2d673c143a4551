"""Test the quantities of a study: descriptions, values and intervals agree with each other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from jaxgmm.coverage.quantities import HEADINGS, describe, estimate_intervals, posterior_intervals, values

from helpers import OTHER_TWO_COVARIANCE_TYPES, random_data, random_mixture


@pytest.mark.parametrize("covariance_type", OTHER_TWO_COVARIANCE_TYPES)
def test_descriptions_match_values(covariance_type):
    mixture = random_mixture(0, covariance_type, 2, 2)
    described, found = describe(mixture), np.asarray(values(mixture))
    assert len(described) == len(found)
    assert {one.kind for one in described} <= set(HEADINGS)
    for parameter, value in zip(described, found, strict=True):
        field, index = parameter.place
        assert getattr(mixture, field)[index] == value


def test_intervals_have_one_entry_per_quantity():
    x = random_data(0, 60, 2, 2).astype(np.float32)
    fit = jaxgmm.fit(jaxgmm.from_labels(x, (x[:, 0] > x[:, 0].mean()).astype(int), num_components=2), x, tol=1e-6)
    found = jax.jit(estimate_intervals, static_argnums=(3, 4))(fit.mixture, x, None, (0.5, 0.9), "observed")
    assert found.lower.shape == found.upper.shape == (2, len(describe(fit.mixture)))
    estimate = np.asarray(values(fit.mixture))
    assert ((found.lower <= estimate) & (estimate <= found.upper) | ~found.defined).all()


def test_intervals_of_draws_are_quantiles_over_all_chains():
    one = random_mixture(1, "diag", 2, 1)
    factor = 1 + np.arange(10.0, dtype=np.float32).reshape(2, 5) / 100
    draws = jax.tree.map(lambda leaf: leaf * factor.reshape(2, 5, *[1] * leaf.ndim), one)
    posterior = jaxgmm.Posterior(draws, jnp.zeros((2, 5)), None, jnp.array(0), {})
    mean, found = posterior_intervals(posterior, (0.5,))
    base = np.asarray(values(one))
    np.testing.assert_allclose(mean, base * factor.mean(), rtol=1e-5)
    ends = np.sort(base * np.quantile(factor, [[0.25], [0.75]]), 0)
    np.testing.assert_allclose([found.lower[0], found.upper[0]], ends, rtol=1e-5)
