"""The model of covariances that share volumes, shapes or orientations: samplers against importance sampling from the prior."""

import dataclasses
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from jaxgmm.covariance.types import TYPES, is_coupled
from jaxgmm.posterior.result import PosteriorStatus

from helpers import check_log_density, coupled_prior

NEW = ("EII", "EEI", *(name for name in TYPES if is_coupled(name)))


def make_problem(kind):
    """Return 6 rows in two groups, and a prior that is informative enough for importance sampling."""
    rng = np.random.default_rng(5)
    x = np.concatenate([rng.normal([0, 0], [0.8, 0.3], (3, 2)), rng.normal([1, 1.5], [0.4, 0.6], (3, 2))])
    if kind in ("EII", "EEI"):
        law = jaxgmm.InverseGamma(jnp.array(3.0), jnp.array(0.7) if kind == "EII" else jnp.array([1.0, 0.6]))
    else:
        law = coupled_prior(kind, 2, 2).scale
        if law.scale.ndim == 2:
            law = dataclasses.replace(law, scale=jnp.array([[0.5, 0.1], [0.1, 0.6]]))
    return x, jaxgmm.IndependentPrior(jnp.array([2.0, 3.0]), jnp.array([0.5, 0.7]), jnp.eye(2), law)


@jax.jit
def summaries(mixture, x):
    """Return label-invariant quantities (Q, ...): a log-likelihood, the larger weight, and the covariance of the mixture."""
    dense = mixture.covariances
    dense = dense if dense.ndim == mixture.means.ndim + 1 else dense[..., None] * jnp.eye(2)
    weights = mixture.weights[..., None]
    mean = (weights * mixture.means).sum(-2, keepdims=True)
    around = mixture.means - mean
    total = (weights[..., None] * (dense + around[..., :, None] * around[..., None, :])).sum(-3)
    logs = jnp.linalg.slogdet(dense)[1].mean(-1)
    likelihood = jaxgmm.log_prob(mixture, x).sum(-1)
    return jnp.stack([likelihood, weights.max((-2, -1)), jnp.log(total[..., 0, 0]), total[..., 0, 1], logs])


def by_importance(kind, x, prior):
    """Return the posterior means of the summaries, their standard errors, and the evidence, from 200000 draws of the prior."""
    draws = jaxgmm.sample_prior(jax.random.key(7), prior, num_components=2, covariance_type=kind, num_samples=200_000)
    values = np.asarray(summaries(draws, x), float)
    weights = np.exp(values[0] - values[0].max())
    evidence = np.log(weights.mean()) + values[0].max()
    weights /= weights.sum()
    means = values @ weights
    errors = np.sqrt(((weights * (values - means[:, None])) ** 2).sum(1))
    assert 1 / (weights**2).sum() > 200
    return means, errors, evidence


def test_draws_have_the_density_of_the_model():
    """A small twin of the tests below: the log densities of Laplace's draws are those of `log_prob` and `log_prior`."""
    x, prior = make_problem("VEV")
    start = jaxgmm.from_labels(x, np.repeat([0, 1], 3), num_components=2, covariance_type="VEV")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # so few rows do not have a normal posterior
        posterior = jaxgmm.laplace(jax.random.key(0), start, x, prior, num_samples=50)
    assert len(np.unique(posterior.mixture.means)) > 50
    check_log_density(posterior, x, prior)


@pytest.mark.slow
@pytest.mark.parametrize("kind", NEW)
def test_nuts_agrees_with_importance_sampling(kind):
    """All means are within 5 standard errors of both methods (five quantities; false failures under 1e-5)."""
    x, prior = make_problem(kind)
    means, errors, _ = by_importance(kind, x, prior)
    start = jaxgmm.from_labels(x, np.repeat([0, 1], 3), num_components=2, covariance_type=kind)
    posterior = jaxgmm.nuts(jax.random.key(0), start, x, prior, num_samples=1000, num_warmup=300, adapt_mass_matrix=True)
    assert int(posterior.status) not in (PosteriorStatus.NONFINITE, PosteriorStatus.ALL_DIVERGENT)
    found = np.asarray(summaries(posterior.mixture, x), float)
    chains = found.mean(-1)
    own = np.maximum(chains.std(-1, ddof=1) / 2, found.std((1, 2)) / np.sqrt(1000))
    assert (abs(found.mean((1, 2)) - means) < 5 * np.hypot(own, errors)).all()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["VEE", "EVV", "VEV", "VVE"])
def test_smc_agrees_with_importance_sampling(kind):
    """The evidence is within 0.3 nats, and the means are within 5 standard errors of both methods."""
    x, prior = make_problem(kind)
    means, errors, evidence = by_importance(kind, x, prior)
    shape = {"num_components": 2, "covariance_type": kind}
    posterior = jaxgmm.smc(jax.random.key(0), x, prior, num_samples=500, num_chains=4, **shape)
    log_evidence = np.asarray(posterior.stats["log_evidence"], float)
    assert abs(np.log(np.exp(log_evidence - evidence).mean())) < 0.3
    found = np.asarray(summaries(posterior.mixture, x), float)
    own = np.maximum(found.mean(-1).std(-1, ddof=1) / 2, found.std((1, 2)) / np.sqrt(1000))
    assert (abs(found.mean((1, 2)) - means) < 5 * np.hypot(own, errors)).all()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["EII", "EEI"])
def test_gibbs_and_the_evidence_agree_with_importance_sampling(kind):
    """Types with one covariance for all components have conditional distributions, and an evidence by `log_evidence`."""
    x, prior = make_problem(kind)
    means, errors, evidence = by_importance(kind, x, prior)
    start = jaxgmm.from_labels(x, np.repeat([0, 1], 3), num_components=2, covariance_type=kind)
    posterior = jaxgmm.gibbs(jax.random.key(0), start, x, prior, num_samples=4000)
    found = np.asarray(summaries(posterior.mixture, x), float)
    own = np.maximum(found.mean(-1).std(-1, ddof=1) / 2, found.std((1, 2)) / np.sqrt(1000))
    assert (abs(found.mean((1, 2)) - means) < 5 * np.hypot(own, errors)).all()
    assert abs(float(jaxgmm.log_evidence(jax.random.key(1), posterior, x).value) - evidence) < 0.2


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["VEE", "EVV", "VEV"])
def test_ranks_of_the_truth_are_uniform(kind):
    """Simulation-based calibration of `nuts` with 96 data sets; each check fails with probability 0.01 if all is correct."""
    options = dict(num_datasets=96, num_observations=20, num_draws=63, num_warmup=300, adapt_mass_matrix=True)
    prior = coupled_prior(kind, 2, 2)
    assert jaxgmm.calibrate(jax.random.key(2), prior, "nuts", num_components=2, covariance_type=kind, **options).passed


@pytest.mark.slow
def test_calibration_takes_the_prior():
    """A small twin of the calibration, whose programs take long to compile: the ranks of four data sets by `laplace`."""
    options = dict(num_datasets=4, num_observations=20, num_draws=31, num_components=1, covariance_type="VEE")
    found = jaxgmm.calibrate(jax.random.key(0), coupled_prior("VEE", 1, 2), "laplace", **options)
    assert len(found.ranks) == 4
    assert found.ranks.min() >= 0
