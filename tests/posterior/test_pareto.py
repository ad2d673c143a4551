"""pareto: k-hat against ArviZ 0.23.4 (psislw), and ratios of known tails. Smoothed weights: tests/comparison."""

import jax.numpy as jnp
import numpy as np

from jaxgmm.posterior.pareto import pareto_k, psis


def test_k_hat_equals_arviz():
    """Heavy tails of two kinds, by NumPy and by JAX."""
    rng = np.random.default_rng(12)
    rng.normal(size=(4, 200))
    first, second = rng.standard_t(3, size=1000), 0.9 * rng.exponential(size=2000)
    np.testing.assert_allclose(pareto_k(first), 1.4200906822678256, rtol=1e-6)
    np.testing.assert_allclose(pareto_k(second), 1.052772462218403, rtol=1e-6)
    np.testing.assert_allclose(pareto_k(jnp.asarray(second), xp=jnp), 1.052772462218403, rtol=1e-3)


def test_pareto_k_of_hard_ratios():
    """Equal ratios are perfect; NaN, infinity and ratios of zero give infinity; the shape is estimated (sd below 0.1)."""
    assert pareto_k(np.full(500, 3.0)) < 0.7
    for bad in (np.nan, np.inf):
        assert np.isinf(pareto_k(np.r_[bad, np.zeros(500)]))
    assert np.isinf(pareto_k(np.full(500, -np.inf)))
    exponential = np.random.default_rng(0).exponential(size=20000)
    for shape in (0.3, 1.0):
        assert abs(pareto_k(shape * exponential) - shape) < 0.4
    assert pareto_k(exponential[:3]) == np.inf


def test_smoothed_weights_are_normalised():
    """Weights sum to one; few draws are not smoothed; a ratio of zero stays without weight."""
    ratios = 0.5 * np.random.default_rng(0).exponential(size=(2000, 2))
    weights, khat = psis(ratios)
    np.testing.assert_allclose(np.exp(weights).sum(0), 1)
    np.testing.assert_allclose(khat, [pareto_k(ratios[:, q]) for q in range(2)])
    few = np.array([0.0, -np.inf, 1.0])
    weights, khat = psis(few)
    assert np.isinf(khat)
    np.testing.assert_allclose(np.exp(weights), np.exp(few) / np.exp(few).sum(), atol=1e-12)
