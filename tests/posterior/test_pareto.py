"""pareto: k-hat and smoothed weights against ArviZ (psislw), also where the tail is hopeless, and ratios of known tails."""

import warnings
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgmm.posterior.pareto import effective_number, honest_khat, khat_limit, pareto_k, psis

traced_k = jax.jit(partial(pareto_k, xp=jnp))


def test_k_hat_equals_arviz():
    """Heavy tails of two kinds, by NumPy and by JAX."""
    rng = np.random.default_rng(12)
    rng.normal(size=(4, 200))
    first, second = rng.standard_t(3, size=1000), 0.9 * rng.exponential(size=2000)
    np.testing.assert_allclose(pareto_k(first), 1.4200906822678256, rtol=1e-6)
    np.testing.assert_allclose(pareto_k(second), 1.052772462218403, rtol=1e-6)
    np.testing.assert_allclose(traced_k(second), 1.052772462218403, rtol=1e-3)


def hard_ratios(count):
    """Return log ratios (count,) by name: wide and narrow, one or few that are everything, ties at the cutoff, ratios of 0."""
    rng = np.random.default_rng(count)
    normal = rng.normal(size=count)
    found = {f"normal times {scale:g}": scale * normal for scale in (0.01, 0.5, 1, 3, 10, 50, 200, 1000)}
    for height in (100.0, 1000.0):
        found[f"one at {height:g}"] = np.r_[height, normal[1:]]
    ordered = np.sort(normal)
    size = int(np.ceil(min(count / 5, 3 * count**0.5)))
    for kept in (0, 3, 4, 5, 6, 40):  # ratios that remain above a cutoff with which the others are tied
        if kept <= size:
            found[f"{kept} above ties"] = np.r_[
                ordered[: count - size], np.full(size - kept, ordered[-size - 1]), ordered[count - kept :]
            ]
    found["lattice"] = np.round(normal, 1)
    found["zeros"] = np.where(normal > 0, normal, -np.inf)
    found["four not zero"] = np.where(np.arange(count) < 4, normal, -np.inf)
    return found


@pytest.mark.parametrize(
    "count", [10, 21, 1000, *(pytest.param(count, marks=pytest.mark.slow) for count in (20, 24, 30, 100, 20000))]
)
def test_k_hat_and_weights_equal_arviz_for_hard_ratios(count):
    """Exceedances at or below the cutoff are left out, and k-hat is infinite where four or fewer remain, as in ArviZ."""
    arviz = pytest.importorskip("arviz")
    for name, ratios in hard_ratios(count).items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # ArviZ computes logarithms of 0
            theirs, k = arviz.psislw(ratios.copy())
        weights, khat = psis(ratios)
        np.testing.assert_allclose(khat, k, rtol=1e-9, err_msg=name)
        np.testing.assert_allclose(pareto_k(ratios), k, rtol=1e-9, err_msg=name)
        in_float32 = traced_k(ratios.astype(np.float32))
        np.testing.assert_allclose(in_float32, k, rtol=2e-3, atol=2e-3, err_msg=name)
        # which of several equal ratios gets which quantile is arbitrary
        np.testing.assert_allclose(np.sort(weights), np.sort(theirs), rtol=1e-6, atol=1e-6, err_msg=name)


def test_ratios_that_are_equal_up_to_rounding():
    """A perfect proposal has ratios that differ by rounding only, and k-hat 0 rather than that of the rounding errors."""
    rng = np.random.default_rng(0)
    for size in (0.0, 300.0):
        noisy = np.float32(size) + np.float32(1e-6) * rng.integers(-2, 3, 2000).astype(np.float32)
        assert traced_k(noisy) == 0
    assert pareto_k(np.full(500, 3.0)) == psis(np.full(500, 3.0))[1] == 0


def test_one_ratio_that_is_everything_is_noticed():
    """k-hat alone can be small for one ratio that is three nats above all others together; the effective number is not."""
    ratios = np.random.default_rng(0).normal(size=20000)
    ratios[0] = np.logaddexp.reduce(ratios) + 3
    assert pareto_k(ratios) < khat_limit(20000)
    assert effective_number(ratios) < 2
    assert honest_khat(ratios) == jax.jit(partial(honest_khat, xp=jnp))(ratios) == np.inf
    even = np.random.default_rng(1).normal(size=20000)
    assert honest_khat(even) == pareto_k(even)
    np.testing.assert_allclose(effective_number(even), np.exp(even).sum() ** 2 / np.exp(2 * even).sum())
    for hopeless in (np.full(9, -np.inf), np.r_[np.nan, np.zeros(8)], np.r_[np.inf, np.zeros(8)]):
        assert effective_number(hopeless) == 0


def test_weights_of_ratios_that_are_no_numbers():
    """Infinity takes all weight, NaN stays NaN, and without any ratio all weights are equal; k-hat is infinite."""
    few = np.zeros((50, 3))
    few[3, 0], few[4, 1], few[:, 2] = np.inf, np.nan, -np.inf
    weights, khat = psis(few)
    assert np.isinf(khat).all()
    np.testing.assert_array_equal(np.exp(weights[:, 0]), np.arange(50) == 3)
    assert np.isnan(weights[:, 1]).all()
    np.testing.assert_allclose(np.exp(weights[:, 2]), 1 / 50)


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
