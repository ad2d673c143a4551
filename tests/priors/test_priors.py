"""The priors: densities against scipy's own distributions, draws against their moments, defaults against their formula."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import jaxgmm

import oracle
from helpers import COVARIANCE_TYPES, random_data, random_mixture, random_prior

log_prior = jax.jit(jaxgmm.log_prior)


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_density_is_scipys(kind, x64):
    """Dirichlet x inverse Wishart (gamma) x normal, normalised; an absent component does not count."""
    mixture, prior = random_mixture(0, kind), random_prior(0, kind)
    np.testing.assert_allclose(log_prior(mixture, prior), oracle.log_prior(mixture, prior), rtol=1e-11)
    absent = dataclasses.replace(mixture, weights=jnp.array([0.3, 0.7, 0.0]))
    np.testing.assert_allclose(log_prior(absent, prior), oracle.log_prior(absent, prior), rtol=1e-11)
    stack = jax.tree.map(lambda a, b: jnp.stack([a, b]), mixture, random_mixture(1, kind))
    both = log_prior(stack, prior)
    np.testing.assert_allclose(both, [log_prior(stack[0], prior), log_prior(stack[1], prior)], rtol=1e-12)


def independent(kind, scale):
    root = np.array([[1.5, 0.0], [0.4, 0.8]])
    return jaxgmm.IndependentPrior(jnp.array([1.5, 2.0, 1.0]), jnp.array([0.5, -1.0]), jnp.asarray(root @ root.T), scale)


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_independent_density_is_scipys(kind, x64):
    """Means free of covariances: Dirichlet x N(m, M) x inverse Wishart or gamma."""
    mixture = random_mixture(0, kind, d=2)
    matrix = np.array([[1.2, 0.3], [0.3, 0.9]])
    shape, rate = 2.5, np.array([0.7, 1.1]) if kind == "diag" else np.array(0.7)
    wishart = kind in ("full", "tied")
    scale = (
        jaxgmm.InverseWishart(jnp.asarray(4.5), jnp.asarray(matrix))
        if wishart
        else jaxgmm.InverseGamma(jnp.asarray(shape), jnp.asarray(rate))
    )
    prior = independent(kind, scale)
    expected = stats.dirichlet([1.5, 2.0, 1.0]).logpdf(np.asarray(mixture.weights))
    expected += stats.multivariate_normal(prior.mean, prior.mean_covariance).logpdf(np.asarray(mixture.means)).sum()
    for stored in np.asarray(mixture.covariances):
        expected += (
            stats.invwishart(4.5, matrix).logpdf(stored) if wishart else stats.invgamma(shape, scale=rate).logpdf(stored).sum()
        )
    np.testing.assert_allclose(log_prior(mixture, prior), expected, rtol=1e-11)


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_half_normal_density_is_scipys(kind, x64):
    """Half-normal standard deviations and LKJ correlations, D=2, as a density of the covariances' free entries."""
    mixture, lkj = random_mixture(0, kind, d=2), 1.7
    sd = np.array(0.8) if kind == "spherical" else np.array([0.8, 1.3])
    prior = independent(kind, jaxgmm.HalfNormal(jnp.asarray(sd), jnp.asarray(lkj)))
    expected = stats.dirichlet([1.5, 2.0, 1.0]).logpdf(np.asarray(mixture.weights))
    expected += stats.multivariate_normal(prior.mean, prior.mean_covariance).logpdf(np.asarray(mixture.means)).sum()
    for stored in np.asarray(mixture.covariances):
        if kind in ("diag", "spherical"):
            tau = np.sqrt(stored)
            expected += (stats.halfnorm(scale=sd).logpdf(tau) - np.log(2 * tau)).sum()
        else:
            tau = np.sqrt(np.diag(stored))
            correlation = stored[0, 1] / tau.prod()
            expected += stats.halfnorm(scale=sd).logpdf(tau).sum() - np.log(4 * tau.prod() ** 2)  # |d Sigma / d (tau, r)|
            expected += stats.beta(lkj, lkj, loc=-1, scale=2).logpdf(correlation)
    np.testing.assert_allclose(log_prior(mixture, prior), expected, rtol=1e-11)


def test_lkj_is_normalised(x64):
    """At lkj=1 and D=3 the density of correlation matrices is uniform: one over their volume, pi^2 / 2."""
    from jaxgmm import covariance
    from jaxgmm.covariance_distributions import half_normal_lkj_log_prob

    matrix = random_mixture(0, "full", k=1).covariances
    tau = np.sqrt(np.diag(matrix[0]))
    value = half_normal_lkj_log_prob(matrix, covariance.factorize(matrix, "full", 3), jnp.ones(3), jnp.asarray(1.0), "full", 3)
    expected = stats.halfnorm.logpdf(tau).sum() - np.log(8 * tau.prod() ** 3) - math.log(math.pi**2 / 2)
    np.testing.assert_allclose(value[0], expected, rtol=1e-11)


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_default_prior(kind, x64):
    """c = 1, m = column means, kappa = 0.01, nu = D + 2, S = V / K^(2/D); weights are repetition; units of columns go along."""
    x, d = random_data(0), 3
    prior = jaxgmm.default_prior(x, num_components=4, covariance_type=kind)
    covariance = np.cov(x.T, ddof=0)
    v = {"full": covariance, "tied": covariance, "diag": np.diag(covariance), "spherical": np.trace(covariance) / d}[kind]
    np.testing.assert_allclose(prior.weight_concentration, np.ones(4))
    np.testing.assert_allclose(prior.mean, x.mean(0))
    assert (float(prior.mean_precision), float(prior.degrees_of_freedom)) == (0.01, d + 2)
    np.testing.assert_allclose(prior.scale, v / 4 ** (2 / d), rtol=1e-6)
    w = np.random.default_rng(0).integers(0, 3, 60)
    weighted = jaxgmm.default_prior(
        np.where(w[:, None] > 0, x, np.nan), num_components=4, covariance_type=kind, sample_weight=w
    )
    repeated = jaxgmm.default_prior(np.repeat(x, w, axis=0), num_components=4, covariance_type=kind)
    for a, b in zip(jax.tree.leaves(weighted), jax.tree.leaves(repeated), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)
    units = np.array([1e-3, 1.0, 1e3]) if kind != "spherical" else np.full(3, 1e3)
    scaled = jaxgmm.default_prior(x * units + 7, num_components=4, covariance_type=kind)
    back = {"full": np.outer(units, units), "tied": np.outer(units, units), "diag": units**2, "spherical": 1e6}[kind]
    np.testing.assert_allclose(scaled.scale / back, prior.scale, rtol=1e-9)


@pytest.mark.parametrize("kind", ["full", "spherical"])
def test_default_prior_of_singular_data_is_proper(kind):
    """Constant and collinear columns, one row, identical rows, float32: the prior passes its own door."""
    line = np.linspace(0, 1, 20)[:, None]
    for x in (
        np.hstack([line, np.full((20, 1), 7.0)]),
        np.hstack([line, 2 * line]),
        np.ones((1, 2)),
        np.zeros((5, 2)),
        np.full((5, 2), 1e4),
    ):
        prior = jaxgmm.default_prior(x, num_components=2, covariance_type=kind)
        from jaxgmm.priors.interface import check_prior

        check_prior(prior, 2, 2, kind, mode=True)


@pytest.mark.parametrize("kind", ["full"])
def test_draws_have_the_priors_moments(kind):
    """E Sigma = S / (nu - D - 1) or S / (nu - 2), E w = c / sum c, E mu = m with variance E Sigma / kappa. False failure: 5 sds
    of 20 means that are near normal at 4000 draws, under 1e-4."""
    root = np.array([[1.0, 0.0], [0.5, 0.8]])
    scale = root @ root.T if kind == "full" else 1.3
    prior = jaxgmm.Prior(*(jnp.asarray(v, jnp.float32) for v in ([1.0, 2.0], [3.0, -1.0], 0.5, 12.0, scale)))
    draws = jax.jit(lambda key: jaxgmm.sample_prior(key, prior, num_components=2, covariance_type=kind, num_samples=4000))(
        jax.random.key(0)
    )
    assert draws.batch_shape == (4000,)
    assert draws.covariance_type == kind

    def agree(values, mean):
        values = np.asarray(values, float)
        assert (abs(values.mean(0) - mean) < 5 * values.std(0) / np.sqrt(4000)).all()

    sigma = np.asarray(scale) / (12 - 3 if kind == "full" else 10)
    agree(draws.weights[:, 0], 1 / 3)
    agree(draws.covariances, sigma)
    agree(draws.means, prior.mean)
    variance = np.diag(sigma) if kind == "full" else sigma
    agree((draws.means - prior.mean) ** 2, variance / 0.5)
    np.testing.assert_allclose(draws.weights.sum(-1), 1, rtol=1e-5)


@pytest.mark.parametrize("kind", ["tied"])
def test_independent_draws(kind):
    """Half-normal sds and means of their own covariance; LKJ correlations have variance 1 / (2 lkj + 1) at D=2. False failure:
    5 sds of 10 means at 4000 draws, under 1e-4."""
    prior = independent(kind, jaxgmm.HalfNormal(jnp.array([0.8, 1.3]), jnp.array(1.7)))
    draws = jax.jit(lambda key: jaxgmm.sample_prior(key, prior, num_components=3, covariance_type=kind, num_samples=4000))(
        jax.random.key(1)
    )

    def agree(values, mean):
        values = np.asarray(values, float)
        assert (abs(values.mean(0) - mean) < 5 * values.std(0) / np.sqrt(4000)).all()

    dense = np.asarray(draws.covariances[:, 0])
    tau = np.sqrt(np.diagonal(dense, axis1=1, axis2=2) if kind == "tied" else dense)
    agree(tau**2, np.array([0.8, 1.3]) ** 2)
    agree(tau, np.array([0.8, 1.3]) * math.sqrt(2 / math.pi))
    deviation = np.asarray(draws.means[:, 0] - prior.mean)
    agree(deviation[:, :, None] * deviation[:, None, :], np.asarray(prior.mean_covariance))
    if kind == "tied":
        correlation = dense[:, 0, 1] / tau.prod(1)
        agree(correlation, 0)
        agree(correlation**2, 1 / (2 * 1.7 + 1))


def test_refusals():
    """Priors of the wrong type, shape or range are refused by field."""
    mixture, prior, key = random_mixture(0, "full"), random_prior(0, "full"), jax.random.key(0)
    for wrong, error, words in [
        (lambda: jaxgmm.log_prior(mixture, "flat"), TypeError, "Prior or IndependentPrior was expected"),
        (lambda: jaxgmm.log_prior(mixture, random_prior(0, "spherical")), ValueError, r"prior.scale has shape \(\); \(3, 3\)"),
        (
            lambda: jaxgmm.log_prior(mixture, random_prior(0, "full", k=2)),
            ValueError,
            r"prior.weight_concentration has shape \(2,\)",
        ),
        (lambda: jaxgmm.log_prior("mixture", prior), TypeError, "Mixture"),
        (lambda: jaxgmm.sample_prior(key, prior, num_components=2, num_samples=3), ValueError, "weight_concentration"),
        (lambda: jaxgmm.sample_prior(key, prior, num_components=3, num_samples=0), ValueError, "num_samples is 0"),
        (
            lambda: jaxgmm.sample_prior(key, prior, num_components=3, covariance_type="diag", num_samples=3),
            ValueError,
            r"prior.scale",
        ),
        (lambda: jaxgmm.sample_prior(1, prior, num_components=3, num_samples=3), TypeError, "random key"),
    ]:
        with pytest.raises(error, match=words):
            wrong()
