"""Quadratic features: log-densities and moments computed from them are those of the deviations themselves."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxgmm import covariance
from jaxgmm.covariance.quadratic import quadratic_coefficients, quadratic_features, split_quadratic

from helpers import COVARIANCE_TYPES, random_mixture

RNG = np.random.default_rng(0)
X, R = RNG.normal(size=(3, 20)), RNG.uniform(size=(2, 20))  # features by rows, responsibilities of two components


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_coefficients(covariance_type, x64):
    """Coefficients times features are a constant minus half the squared Mahalanobis distance."""
    mixture = random_mixture(0, covariance_type, k=2, d=3)
    whitener = covariance.factorize(mixture.covariances, covariance_type, 3).whitener
    constant = jnp.array([0.5, -2.0])
    found = quadratic_coefficients(whitener, mixture.means, constant, covariance_type) @ quadratic_features(X, covariance_type)
    deviations = X[None] - mixture.means[:, :, None]
    distances = (covariance.whiten_each(whitener, deviations, covariance_type) ** 2).sum(1)
    np.testing.assert_allclose(found, constant[:, None] - distances / 2, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("covariance_type", ["full", "diag"])
def test_sums(covariance_type, x64):
    """Weighted sums of the features hold the scatter about 0, the first moments and the counts."""
    sums = R @ quadratic_features(X, covariance_type).T
    scatter, first, count = split_quadratic(jnp.asarray(sums), covariance_type, 3)
    expected = np.einsum("kn,in,jn->kij", R, X, X)
    expected = expected if covariance_type == "full" else np.diagonal(expected, axis1=1, axis2=2)
    np.testing.assert_allclose(scatter, expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(first, R @ X.T, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(count, R.sum(1), rtol=1e-12)
