"""diagnostics: figures of ArviZ 0.23.4 (rank R-hat, ess, mcse, bfmi) for series made here, and chains that must be noticed."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import rankdata

from jaxgmm.posterior.diagnostics import (
    _average_ranks,
    e_bfmi,
    ess_bulk,
    ess_mean,
    ess_tail,
    mcse_mean,
    mcse_quantile,
    mcse_sd,
    rhat,
    rhat_limit,
    split_rhat,
)


def series():
    """Return autoregressive, skewed with shifted chains, and antithetic series (4, 200), and the random generator."""
    rng = np.random.default_rng(12)
    noise = rng.normal(size=(4, 200))
    x, z = np.zeros((4, 200)), np.zeros((4, 200))
    for t in range(1, 200):
        x[:, t] = 0.6 * x[:, t - 1] + noise[:, t]
        z[:, t] = -0.5 * z[:, t - 1] + noise[:, t]
    return {"x": x, "y": np.exp(x) + np.arange(4)[:, None] * 0.2, "z": z}, rng


ARVIZ = {  # rhat, ess bulk, tail, mean, mcse mean, sd, quantile 0.1
    "x": (
        1.0021291237925485,
        238.50975885001478,
        344.6951156032568,
        238.4530317368442,
        0.07996861712917441,
        0.04824762887423668,
        0.13255077162167617,
    ),
    "y": (
        1.0287788791256551,
        217.4384145791984,
        159.60794219455624,
        274.0239551724374,
        0.26783190823113123,
        0.8785466060899437,
        0.10032775869329785,
    ),
    "z": (
        0.9984359998003803,
        2322.471989593555,
        847.2996836088358,
        2322.471989593555,
        0.02309888440923833,
        0.032248292887950746,
        0.06891434928700346,
    ),
}


@pytest.mark.parametrize("name", "xyz")
def test_equal_arviz(name):
    """Seven statistics of three series equal those of ArviZ."""
    draws = series()[0][name]
    found = (
        rhat(draws),
        ess_bulk(draws),
        ess_tail(draws),
        ess_mean(draws),
        mcse_mean(draws),
        mcse_sd(draws),
        mcse_quantile(draws, 0.1),
    )
    np.testing.assert_allclose(found, ARVIZ[name], rtol=1e-9)


def test_energy_equals_arviz():
    """E-BFMI of each chain equals ArviZ's bfmi."""
    np.testing.assert_allclose(e_bfmi(series()[0]["x"]), [0.69226924, 0.93111682, 0.69987321, 0.87695667], rtol=1e-7)


def test_many_quantities_at_once():
    """Diagnostics of (C, S, ...) equal those of one quantity at a time, also beside undefined ones."""
    draws = np.random.default_rng(0).normal(size=(3, 40, 2, 2))
    draws[..., 1, 1] = np.nan
    draws[..., 0, 1] = 3.0
    for function in (rhat, ess_bulk, ess_tail, mcse_mean):
        with np.errstate(invalid="ignore"):
            together = function(draws)
        assert np.isnan(together[1, 1])
        assert np.isnan(together[0, 1])
        np.testing.assert_allclose(together[1, 0], function(draws[..., 1, 0]))


DIAGNOSTICS = (rhat, ess_bulk, ess_tail, ess_mean, mcse_mean, mcse_sd, lambda draws: mcse_quantile(draws, 0.3), split_rhat)


@pytest.mark.parametrize("function", DIAGNOSTICS)
@pytest.mark.parametrize("num_samples", [40, 41])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_bad_draw_is_never_dropped(function, num_samples, bad):
    """Every draw counts, the middle one too, which splitting an odd number of draws leaves out."""
    for place in (0, num_samples // 2, num_samples - 1):
        draws = np.random.default_rng(0).normal(size=(3, num_samples))
        draws[1, place] = bad
        with np.errstate(all="raise"):
            assert np.isnan(function(jnp.asarray(draws) if function is split_rhat else draws))


@pytest.mark.parametrize("value", [1.0, 1 / 3, -1e-20, 1e6, 0.0])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("function", DIAGNOSTICS)
def test_constants_up_to_rounding(function, dtype, value):
    """A constant with rounding errors has no R-hat and no effective sample size; a small spread about a large value has."""
    rounding = np.finfo(dtype).eps * np.random.default_rng(0).integers(-2, 3, (4, 50))
    draws = (value * (1 + rounding)).astype(dtype)
    if function is split_rhat:
        assert split_rhat(jnp.asarray(draws.astype(np.float32))) == 1
        return
    assert np.isnan(function(draws))
    assert np.isnan(function(draws.astype(float)))
    if value:
        spread = value + 1e3 * np.finfo(dtype).eps * abs(value) * np.random.default_rng(0).normal(size=(4, 50))
        assert np.isfinite(function(spread.astype(dtype)))


def test_constant_chains_that_differ_by_more_than_rounding():
    """Each chain is constant, but the chains differ: R-hat is infinite, in JAX too."""
    draws = np.float32(0.5) + np.float32(1e-4) * np.broadcast_to(np.arange(4, dtype=np.float32)[:, None], (4, 50))
    assert rhat(draws) > 1e3
    assert split_rhat(jnp.asarray(draws)) > 1e3


def test_rhat_notices_chains_that_differ():
    """R-hat notices chains that are apart, wider or constant; fewer than 4 draws raise an error."""
    rng = np.random.default_rng(1)
    good = rng.normal(size=(4, 300))
    assert rhat(good) < 1.02
    assert rhat(good + np.arange(4)[:, None]) > 1.3
    assert rhat(good * np.array([1, 1, 1, 4])[:, None]) > 1.05  # only the folded R-hat notices it
    assert rhat(np.broadcast_to(np.arange(4.0)[:, None], (4, 300))) > 1e6
    with pytest.raises(ValueError, match="at least 4 draws"):
        rhat(good[:, :3])


def test_split_rhat_in_jax():
    """R-hat of normal draws without ranks is near that with ranks; it is 1 for fewer than 4 draws; limits shrink with S."""
    draws = np.random.default_rng(2).normal(size=(4, 300))
    np.testing.assert_allclose(split_rhat(jnp.asarray(draws)), rhat(draws), atol=0.01)
    assert float(split_rhat(jnp.asarray(draws + np.arange(4)[:, None]))) > 1.3
    np.testing.assert_array_equal(split_rhat(jnp.ones((2, 4, 3))), [1, 1])
    assert rhat_limit(100) > rhat_limit(1000) > 1.05


def test_ranks_are_those_of_scipy():
    """Equal values share the average of their ranks."""
    rng = np.random.default_rng(0)
    for values in (rng.normal(size=(50, 3)), rng.integers(0, 5, (51, 4)).astype(np.float32), np.zeros((7, 2)), np.ones((1, 1))):
        np.testing.assert_array_equal(_average_ranks(values), rankdata(values, axis=0))
