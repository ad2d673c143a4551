"""The independent prior: its density against scipy under every law of the covariances, its means in closed form, refusals."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import jaxgmm
from jaxgmm.priors.interface import ComponentSums

from helpers import COVARIANCE_TYPES, OTHER_TWO_COVARIANCE_TYPES, independent_prior, independent_prior_with, random_mixture

log_prior = jax.jit(jaxgmm.log_prior)


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_independent_density_is_scipys(kind, x64):
    """The density is that of a Dirichlet law, N(m, M), and an inverse Wishart or gamma law."""
    mixture = random_mixture(0, kind, d=2)
    matrix = np.array([[1.2, 0.3], [0.3, 0.9]])
    shape, rate = 2.5, np.array([0.7, 1.1]) if kind == "diag" else np.array(0.7)
    wishart = kind in ("full", "tied")
    scale = (
        jaxgmm.InverseWishart(jnp.asarray(4.5), jnp.asarray(matrix))
        if wishart
        else jaxgmm.InverseGamma(jnp.asarray(shape), jnp.asarray(rate))
    )
    prior = independent_prior_with(scale)
    expected = stats.dirichlet([1.5, 2.0, 1.0]).logpdf(np.asarray(mixture.weights))
    expected += stats.multivariate_normal(prior.mean, prior.mean_covariance).logpdf(np.asarray(mixture.means)).sum()
    for stored in np.asarray(mixture.covariances):
        expected += (
            stats.invwishart(4.5, matrix).logpdf(stored) if wishart else stats.invgamma(shape, scale=rate).logpdf(stored).sum()
        )
    np.testing.assert_allclose(log_prior(mixture, prior), expected, rtol=1e-11)


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_half_normal_density_is_scipys(kind, x64):
    """Half-normal standard deviations and LKJ correlations give a density of the free entries of the covariances, D=2."""
    mixture, lkj = random_mixture(0, kind, d=2), 1.7
    sd = np.array(0.8) if kind == "spherical" else np.array([0.8, 1.3])
    prior = independent_prior_with(jaxgmm.HalfNormal(jnp.asarray(sd), jnp.asarray(lkj)))
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


@pytest.mark.parametrize("kind", OTHER_TWO_COVARIANCE_TYPES)
def test_means_given_sums(kind, x64):
    """The mode solves (n Sigma^-1 + M^-1) mu = n Sigma^-1 xbar + M^-1 m, without rows too; the scatter is about it."""
    prior, mixture = independent_prior(kind, 3, 2, False), random_mixture(0, kind, d=2)
    count, mean = np.array([0.0, 2.0, 50.0]), np.array([[1.0, 2.0], [3.0, -1.0], [0.5, 0.5]])
    scatter = jnp.zeros((3, 2, 2) if kind in ("full", "tied") else (3, 2))
    means, about_mode = prior.maximize_means(mixture, ComponentSums(jnp.asarray(count), jnp.asarray(mean), scatter))
    inverse = np.linalg.inv(prior.mean_covariance)
    dense = jaxgmm.covariance.to_dense(mixture.covariances, kind, 3, 2)
    for k in range(3):
        precision = count[k] * np.linalg.inv(dense[k])
        expected = np.linalg.solve(precision + inverse, precision @ mean[k] + inverse @ prior.mean)
        np.testing.assert_allclose(means[k], expected, rtol=1e-9)
    diagonal = count[:, None] * (mean - np.asarray(means)) ** 2
    found = np.diagonal(about_mode, axis1=1, axis2=2) if about_mode.ndim == 3 else about_mode
    np.testing.assert_allclose(found, diagonal, rtol=1e-9, atol=1e-12)


def test_law_must_fit_the_covariance_type():
    """An inverse Wishart is for matrices, an inverse gamma for variances; a half-normal for both."""
    for kind, other in (("full", "diag"), ("diag", "full")):
        with pytest.raises(TypeError, match=r"prior\.scale is Inverse\w+; Inverse\w+ or HalfNormal was expected"):
            independent_prior(kind, 3, 2, False).hyperparameter_shapes(2, other)
    for kind in COVARIANCE_TYPES:
        assert independent_prior(kind, 3, 2, True).hyperparameter_shapes(2, kind)["scale.lkj"] == ()


def test_improper_values_are_named():
    """Those of the law by their place in it."""
    prior = independent_prior("full", 3, 2, False)
    with pytest.raises(ValueError, match=r"prior\.mean_covariance is not positive definite"):
        dataclasses.replace(prior, mean_covariance=-prior.mean_covariance).check_values(2, "full")
    for scale, kind, sentence in [
        (jaxgmm.InverseWishart(jnp.array(0.5), jnp.eye(2)), "full", r"prior\.scale\.degrees_of_freedom is 0\.5"),
        (jaxgmm.InverseWishart(jnp.array(3.0), -jnp.eye(2)), "full", r"prior\.scale\.scale is not positive definite"),
        (jaxgmm.InverseGamma(jnp.array(0.0), jnp.ones(2)), "diag", r"prior\.scale\.shape has 0"),
        (jaxgmm.InverseGamma(jnp.array(1.0), -jnp.ones(2)), "diag", r"prior\.scale\.rate is not positive definite"),
        (jaxgmm.HalfNormal(jnp.zeros(2), jnp.array(1.0)), "diag", r"prior\.scale\.sd has 0"),
        (jaxgmm.HalfNormal(jnp.ones(2), jnp.array(-1.0)), "full", r"prior\.scale\.lkj has -1"),
    ]:
        with pytest.raises(ValueError, match=sentence):
            independent_prior_with(scale).check_values(2, kind)
