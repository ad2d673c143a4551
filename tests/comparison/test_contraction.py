"""Contraction: the widths of priors agree with their marginal distributions, and known widths give known contractions."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import jaxgmm
from jaxgmm.comparison import contraction
from jaxgmm.studies import parameters


def marginals(prior, covariance_type, d):
    """Return the marginal distributions of one weight of two, and of a mean and variance, under the conjugate prior."""
    c, kappa, nu = (np.asarray(v, float) for v in (prior.weight_concentration, prior.mean_precision, prior.degrees_of_freedom))
    scale = np.asarray(prior.scale, float)
    first = scale[0, 0] if scale.ndim == 2 else scale.ravel()[0]
    degrees = nu - d + 1 if covariance_type in ("full", "tied") else nu
    spread = np.sqrt(first / (kappa * degrees))
    return {
        "weights[0]": stats.beta(c[0], c[1]),
        "means[0,0]": stats.t(degrees, float(prior.mean[0]), spread),
        "covariances": stats.invgamma(degrees / 2, scale=first / 2),
    }


@pytest.mark.parametrize("covariance_type", ["full", "tied", "diag", "spherical"])
def test_prior_widths_are_those_of_its_marginals(covariance_type):
    """Widths of at least 4000 draws are within 10 % of the exact ones, five standard errors of these tails."""
    d = 2
    scale = {"full": [[2.0, 0.5], [0.5, 3.0]], "tied": [[2.0, 0.5], [0.5, 3.0]], "diag": [2.0, 3.0], "spherical": 2.0}[
        covariance_type
    ]
    prior = jaxgmm.Prior(*(jnp.asarray(v, float) for v in ([2.0, 2.0], [1.0, -1.0], 0.5, 7.0, scale)))
    covariances = {
        "full": np.stack([np.eye(2)] * 2),
        "tied": np.eye(2)[None],
        "diag": np.ones((2, 2)),
        "spherical": np.ones((2, 1)),
    }
    mixture = jaxgmm.make_mixture([0.5, 0.5], np.zeros((2, d)), covariances[covariance_type], covariance_type=covariance_type)
    names = [parameter.name for parameter in parameters.parameters(mixture, ["a", "b"])]
    found = contraction.widths(mixture, prior, 0)
    for name, marginal in marginals(prior, covariance_type, d).items():
        p = next(i for i, full in enumerate(names) if full.startswith(name))
        assert found[p] == pytest.approx(np.ptp(marginal.ppf([0.05, 0.95])), rel=0.1), name
    # the prior is symmetric: both components have the same widths
    assert found[0] == found[1]
    assert found[2] == found[2 + d]


def test_contraction_of_draws_made_up():
    prior = jaxgmm.Prior(*(jnp.asarray(v, float) for v in ([1.0], [0.0], 1.0, 9.0, [[9.0]])))
    mixture = jaxgmm.make_mixture([1.0], [[0.0]], [[[1.0]]])
    width = contraction.widths(mixture, prior, 0)
    draws = np.random.default_rng(0).uniform(-1, 1, (4, 1000, 3)) * width / 2 / 0.9  # central 90 % of the prior's width
    np.testing.assert_allclose(contraction.contractions(mixture, prior, draws, 0)[1:], 0, atol=0.05)
    np.testing.assert_allclose(contraction.contractions(mixture, prior, draws / 2, 0)[1:], 0.75, atol=0.02)
    assert np.isnan(contraction.contractions(mixture, prior, draws, 0)[0])  # the only weight is 1


@pytest.mark.slow
def test_prior_widths_without_closed_conditionals():
    """The variance has the law of a squared half-normal variable."""
    scale = jaxgmm.HalfNormal(jnp.array(2.0), jnp.array(1.0))
    prior = jaxgmm.IndependentPrior(jnp.ones(2), jnp.zeros(1), jnp.eye(1), scale)
    mixture = jaxgmm.make_mixture([0.5, 0.5], [[0.0], [1.0]], [[1.0], [1.0]], covariance_type="spherical")
    expected = np.ptp(stats.halfnorm(scale=2).ppf([0.05, 0.95]) ** 2)
    assert contraction.widths(mixture, prior, 0)[-1] == pytest.approx(expected, rel=0.1)


VAGUE = {
    "few degrees of freedom": dict(degrees_of_freedom=1.0001),
    "far means": dict(degrees_of_freedom=1.01, mean_precision=1e-6),
    "far means only": dict(mean_precision=1e-30),
    "tiny scale": dict(scale=np.eye(2) * 1e-20, degrees_of_freedom=1.05),
    "huge scale": dict(scale=np.eye(2) * 1e30),
    "sparse weights": dict(weight_concentration=[1e-12, 1e-12]),
    "half-normal": jaxgmm.HalfNormal(np.full(2, 1e20, np.float32), np.float32(0.001)),
    "independent": jaxgmm.InverseWishart(np.float32(1.0001), np.eye(2, dtype=np.float32)),
}


@pytest.mark.parametrize("name", VAGUE)
def test_very_vague_priors(name):
    """Draws from them overflow. Data that say anything contract such a prior completely, and NumPy has nothing to warn of."""
    mixture = jaxgmm.make_mixture([0.5, 0.5], np.zeros((2, 2), np.float32), np.stack([np.eye(2, dtype=np.float32)] * 2))
    change = VAGUE[name]
    base = jaxgmm.default_prior(np.random.default_rng(0).normal(size=(50, 2)).astype(np.float32), num_components=2)
    if isinstance(change, dict):
        prior = dataclasses.replace(base, **{field: np.asarray(value, np.float32) for field, value in change.items()})
    else:
        prior = jaxgmm.IndependentPrior(base.weight_concentration, base.mean, 1e30 * np.eye(2, dtype=np.float32), change)
    draws = parameters.values(mixture) * np.exp(0.1 * np.random.default_rng(0).normal(size=(4, 500, 12)))
    found = contraction.contractions(mixture, prior, draws + 0.1, 0)
    assert (found > 0.9).all()
    assert (found <= 1).all()
    low, high = contraction.prior_intervals(mixture, prior, 0, 0.9)
    assert (low <= high).all()
    variances = [place for place, one in enumerate(parameters.parameters(mixture)) if one.kind == "variance"]
    assert (low[variances] >= 0).all()
