"""Diagnostics against ArviZ 0.23.4 (rhat by ranks, ess, mcse, bfmi, psislw) on the series made here, and what must hold."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxgmm.posterior import diagnostics
from jaxgmm.posterior.diagnostics import e_bfmi, ess_bulk, ess_mean, ess_tail, mcse_mean, mcse_quantile, mcse_sd, pareto_k, rhat


def series():
    """Autoregressive, skewed with shifted chains, antithetic: (4, 200) each."""
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
def test_is_arviz(name):
    """Seven figures of three series."""
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


def test_energy_and_pareto_are_arviz():
    """bfmi a chain, psislw of heavy tails; k-hat in JAX too."""
    values, rng = series()
    np.testing.assert_allclose(e_bfmi(values["x"]), [0.69226924, 0.93111682, 0.69987321, 0.87695667], rtol=1e-7)
    first, second = rng.standard_t(3, size=1000), 0.9 * rng.exponential(size=2000)
    np.testing.assert_allclose(pareto_k(first), 1.4200906822678256, rtol=1e-6)
    np.testing.assert_allclose(pareto_k(second), 1.052772462218403, rtol=1e-6)
    np.testing.assert_allclose(pareto_k(jnp.asarray(second), xp=jnp), 1.052772462218403, rtol=1e-3)


def test_quantities_are_worked_through_at_once():
    """(C, S, ...) equals one at a time, and no quantity disturbs another."""
    draws = np.random.default_rng(0).normal(size=(3, 40, 2, 2))
    draws[..., 1, 1] = np.nan
    draws[..., 0, 1] = 3.0
    for function in (rhat, ess_bulk, ess_tail, mcse_mean):
        with np.errstate(invalid="ignore"):
            together = function(draws)
        assert np.isnan(together[1, 1])
        assert np.isnan(together[0, 1])
        np.testing.assert_allclose(together[1, 0], function(draws[..., 1, 0]))


def test_what_must_be_seen():
    """Chains apart, a chain of another width, stuck chains; too few draws are refused."""
    rng = np.random.default_rng(1)
    good = rng.normal(size=(4, 300))
    assert rhat(good) < 1.02
    assert rhat(good + np.arange(4)[:, None]) > 1.3
    assert rhat(good * np.array([1, 1, 1, 4])[:, None]) > 1.05  # only the folded one sees it
    assert rhat(np.broadcast_to(np.arange(4.0)[:, None], (4, 300))) > 1e6
    with pytest.raises(ValueError, match="at least 4 draws"):
        rhat(good[:, :3])


def test_pareto_k_of_hard_ratios():
    """Ratios all the same are perfect; NaN, infinity and nothing at all are hopeless; the shape is found (sd under 0.1)."""
    assert pareto_k(np.full(500, 3.0)) < 0.7
    for bad in (np.nan, np.inf):
        assert np.isinf(pareto_k(np.r_[bad, np.zeros(500)]))
    assert np.isinf(pareto_k(np.full(500, -np.inf)))
    exponential = np.random.default_rng(0).exponential(size=20000)
    for shape in (0.3, 1.0):
        assert abs(pareto_k(shape * exponential) - shape) < 0.4
    assert diagnostics.pareto_k(exponential[:3]) == np.inf
