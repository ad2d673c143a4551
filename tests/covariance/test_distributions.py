"""Distributions of covariances: densities against scipy, draws against their moments, factors against their meaning."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxgmm import covariance
from jaxgmm.covariance import distributions as distributions

import oracle
from helpers import COVARIANCE_TYPES, random_mixture

K, D, NU = 3, 3, 9.5


def prior_scale(covariance_type):
    """Return the scale S of an inverse Wishart or inverse gamma law."""
    root = np.eye(D) + 0.3 * np.random.default_rng(0).normal(size=(D, D))
    matrix = root @ root.T
    diagonal = np.diagonal(matrix)
    return jnp.asarray({"full": matrix, "tied": matrix, "diag": diagonal, "spherical": diagonal.mean()}[covariance_type])


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_inverse_wishart_density(covariance_type, x64):
    """The log-density is that of scipy's inverse Wishart, or the sum of its inverse gammas."""
    mixture, scale = random_mixture(0, covariance_type), prior_scale(covariance_type)
    found = jax.jit(
        lambda covariances: distributions.inverse_wishart_log_prob(
            covariance.factorize(covariances, covariance_type, D), jnp.asarray(NU), scale, covariance_type, D
        )
    )(mixture.covariances)
    if covariance.is_dense(covariance_type):
        stored = 1 if covariance_type == "tied" else K
        expected = [stats.invwishart(NU, np.asarray(scale)).logpdf(oracle.dense(mixture, k)) for k in range(stored)]
    else:
        expected = stats.invgamma(NU / 2, scale=np.asarray(scale) / 2).logpdf(mixture.covariances).sum(-1)
    np.testing.assert_allclose(found, expected, rtol=1e-11)


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_half_normal_density(covariance_type, x64):
    """At lkj = 1 and D = 2 correlations are uniform on (-1, 1), and the density is that of standard deviations, transformed."""
    mixture, sd = random_mixture(0, covariance_type, d=2), 1.3
    found = jax.jit(
        lambda covariances: distributions.half_normal_lkj_log_prob(
            covariances, covariance.factorize(covariances, covariance_type, 2), sd, jnp.asarray(1.0), covariance_type, 2
        )
    )(mixture.covariances)
    if covariance.is_dense(covariance_type):
        tau = np.sqrt(np.diagonal(mixture.covariances, axis1=-2, axis2=-1))
        expected = stats.halfnorm.logpdf(tau, scale=sd).sum(-1) - np.log(2) - np.log(4 * tau.prod(-1) ** 2)
    else:
        tau = np.sqrt(np.asarray(mixture.covariances))
        expected = (stats.halfnorm.logpdf(tau, scale=sd) - np.log(2 * tau)).sum(-1)
    np.testing.assert_allclose(found, expected, rtol=1e-10)


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_draws_have_the_mean_of_the_law(covariance_type):
    """Means of 4000 draws are S / (nu - D - 1), or S / (nu - 2) for variances.

    The bounds are 6 standard errors of at most 27 entries: the test fails by chance with probability under 1e-7.
    """
    scale, draws = prior_scale(covariance_type), 4000
    keys = jax.random.split(jax.random.key(0), draws)
    sample = jax.jit(
        jax.vmap(lambda key: distributions.sample_inverse_wishart(key, jnp.asarray(NU), scale, covariance_type, K, D))
    )
    found = np.asarray(sample(keys), float)
    assert found.shape[1:] == covariance.storage_shape(covariance_type, K, D)
    expected = np.asarray(scale, float) / (NU - (D + 1 if covariance.is_dense(covariance_type) else 2))
    errors = 6 * found.std(0) / np.sqrt(draws)
    assert (abs(found.mean(0) - expected) < errors).all()


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_factors_of_draws(covariance_type, x64):
    """Factors made of standard variables are a square root of the covariance, its inverse, and half of its log-determinant."""
    scale = jnp.broadcast_to(prior_scale(covariance_type), covariance.storage_shape(covariance_type, K, D))
    rng = np.random.default_rng(1)
    shapes = distributions.gamma_shapes(jnp.asarray(NU), covariance_type, K, D)
    gammas, normals = jnp.asarray(rng.gamma(shapes)), jnp.asarray(rng.normal(size=(len(shapes), D, D)))
    vectors = jnp.asarray(rng.normal(size=(K, D)))

    @jax.jit
    def compared(gammas, normals, scale, vectors):
        found = distributions.inverse_wishart_factors(gammas, normals, scale, covariance_type, D)
        expected = covariance.factorize(covariance.from_factor(found.lower, covariance_type), covariance_type, D)
        there = covariance.transform(found.lower, vectors, covariance_type)
        return found.half_log_det, expected.half_log_det, covariance.transform(found.whitener, there, covariance_type)

    found, expected, back = compared(gammas, normals, scale, vectors)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(back, vectors, rtol=1e-9)
