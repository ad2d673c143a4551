"""spread: equal to NumPy for finite draws, and without warnings for infinite ones."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxgmm.spread import is_constant, length, mean_and_sd, quantiles

PROBABILITIES = [0.05, 0.5, 0.95]


def test_finite_draws_are_numpys():
    draws = np.random.default_rng(0).normal(size=(101, 3, 2))
    mean, sd = mean_and_sd(draws)
    np.testing.assert_allclose(mean, draws.mean(0))
    np.testing.assert_allclose(sd, draws.std(0, ddof=1))
    np.testing.assert_allclose(mean_and_sd(draws, ddof=0)[1], draws.std(0))
    np.testing.assert_array_equal(quantiles(draws, PROBABILITIES), np.quantile(draws, PROBABILITIES, axis=0))
    np.testing.assert_array_equal(length(*draws[:2]), draws[1] - draws[0])
    assert mean_and_sd(np.full((5, 1), 0.1))[1] == 0  # not a rounding error
    assert mean_and_sd(draws[:1])[1].max() == 0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_draws_that_differ_by_rounding_are_constant(dtype):
    """In float64 too if the draws were rounded to float32 before; a spread of a thousand roundings is no constant."""
    steps = np.finfo(dtype).eps * np.array([[-2, 1, 0, 2], [-1000, 500, 0, 1000]])
    draws = (0.5 * (1 + steps)).astype(dtype)
    for found in (
        is_constant(draws, 1),
        is_constant(draws.astype(float), 1),
        is_constant(jnp.asarray(draws, jnp.float32), 1, jnp),
    ):
        assert found[0]
    assert not is_constant(draws, 1)[1]
    assert ((mean_and_sd(draws.T)[1] > 0) == [False, True]).all()


@pytest.mark.parametrize(
    ("infinite", "mean", "ends"),
    [
        ([np.inf], np.inf, (False, False)),
        ([np.inf] * 20, np.inf, (False, True)),
        ([-np.inf] * 20, -np.inf, (True, False)),
        ([np.inf, -np.inf] * 20, np.nan, (True, True)),
        ([np.nan] * 40, np.nan, (True, True)),
        ([np.inf] * 99, np.inf, (True, True)),
    ],
)
def test_infinite_draws_lie_beyond_all_others(infinite, mean, ends):
    """One infinite draw of a hundred moves no 90 % interval; the other quantity does not notice."""
    draws = np.stack([np.r_[infinite, np.linspace(0, 1, 101)[: 100 - len(infinite)]], np.linspace(0, 1, 100)], 1)
    found, sd = mean_and_sd(draws)
    np.testing.assert_equal(found[0], mean)
    assert np.isnan(sd[0])
    np.testing.assert_allclose((found[1], sd[1]), (0.5, draws[:, 1].std(ddof=1)))
    low, _, high = quantiles(draws, PROBABILITIES)
    assert (np.isinf(low[0]), np.isinf(high[0])) == ends
    np.testing.assert_allclose((low[1], high[1]), (0.05, 0.95))
    assert np.isinf(length(low, high)).tolist() == [any(ends), False]
