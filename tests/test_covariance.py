"""Storage and pooling of the four types: each function against its dense meaning."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxgmm import covariance

import oracle
from helpers import COVARIANCE_TYPES, random_mixture

K, D = 3, 5  # above the size up to which factorisations are written out
SHAPES = {"full": (K, D, D), "tied": (1, D, D), "diag": (K, D), "spherical": (K, 1)}


def dense(mixture):
    return np.array([oracle.dense(mixture, k) for k in range(len(mixture.weights))])


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_storage(kind, x64):
    """Shapes, numbers of free entries, and their labels agree with one another."""
    assert covariance.storage_shape(kind, K, D) == SHAPES[kind] == random_mixture(0, kind, d=D).covariances.shape
    free = {"full": K * 15, "tied": 15, "diag": K * D, "spherical": K}[kind]
    assert covariance.num_free(kind, K, D) == free == len(set(covariance.labels(kind, K, D)))
    assert all(np.zeros(SHAPES[kind])[index] == 0 for index in covariance.labels(kind, K, D))


@pytest.mark.parametrize("d", [1, 3, 5])
@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_factors(kind, d, x64):
    """lower lower' = Sigma, whitener = its inverse, half_log_det = log|Sigma| / 2, at every size."""
    mixture = random_mixture(1, kind, d=d)
    factors = covariance.factorize(mixture.covariances, kind, d)
    expected = dense(mixture)
    halves = np.linalg.slogdet(expected)[1] / 2
    np.testing.assert_allclose(np.broadcast_to(factors.half_log_det, (K,)), halves, rtol=1e-12, atol=1e-12)
    vectors = np.random.default_rng(0).normal(size=(K, d))
    there = covariance.transform(factors.lower, jnp.asarray(vectors), kind)
    np.testing.assert_allclose(covariance.transform(factors.whitener, there, kind), vectors, rtol=1e-10, atol=1e-12)
    roots = np.linalg.cholesky(expected)
    np.testing.assert_allclose(there, np.einsum("kij,kj->ki", roots, vectors), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_dense_and_back(kind, x64):
    """to_dense is the matrices, from_dense its inverse; tied averages by weight."""
    mixture = random_mixture(2, kind, d=D)
    matrices = covariance.to_dense(mixture.covariances, kind, K, D)
    np.testing.assert_allclose(matrices, dense(mixture), rtol=1e-14)
    np.testing.assert_allclose(covariance.from_dense(matrices, kind, mixture.weights), mixture.covariances, rtol=1e-12)
    free = random_mixture(2, "full", d=D)
    pooled = covariance.from_dense(free.covariances, "tied", free.weights)
    np.testing.assert_allclose(pooled[0], np.einsum("k,kij->ij", free.weights, free.covariances), rtol=1e-12)


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_features_and_components(kind, x64):
    """Variances, shares of a floor, ridges and orders of components are those of the dense matrices."""
    mixture = random_mixture(3, kind, d=D)
    matrices = dense(mixture)
    diagonals = np.diagonal(matrices, axis1=1, axis2=2)
    np.testing.assert_allclose(
        np.broadcast_to(covariance.variances(mixture.covariances, kind, D), (K, D)), diagonals, rtol=1e-12
    )
    factors = covariance.factorize(mixture.covariances, kind, D)
    share = covariance.floor_fraction(0.25 * mixture.covariances, factors, kind)
    np.testing.assert_allclose(share, 0.25 * D if covariance.is_dense(kind) else 0.25, rtol=1e-10)
    lifted = covariance.to_dense(covariance.ridge(mixture.covariances, jnp.full(1, 0.5), kind), kind, K, D)
    np.testing.assert_allclose(lifted, matrices + 0.5 * np.eye(D), rtol=1e-12)
    order = jnp.array([2, 0, 1])
    turned = covariance.to_dense(covariance.permute(mixture.covariances, order, kind), kind, K, D)
    np.testing.assert_allclose(turned, matrices if kind == "tied" else matrices[np.array(order)], rtol=1e-12)


@pytest.mark.parametrize("d", [2, 6])
def test_not_positive_definite_is_nan(d):
    """A matrix without a Cholesky factor gives NaN, never an error and never a number."""
    matrix = jnp.eye(d).at[0, 1].set(2.0).at[1, 0].set(2.0)
    assert np.isnan(covariance.factorize(matrix[None], "full", d).half_log_det).all()
    for kind, values in (
        ("diag", jnp.array([[1.0, -1.0]])),
        ("diag", jnp.array([[0.0, 1.0]])),
        ("spherical", jnp.array([[-1.0]])),
    ):
        assert np.isnan(covariance.factorize(values, kind, 2).half_log_det).all()
