"""Storage and pooling of the four covariance types: each function against its meaning for dense matrices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgmm import covariance
from jaxgmm.covariance import types as covariance_types

import oracle
from helpers import COVARIANCE_TYPES, random_mixture

K, D = 3, 5  # above the size up to which factorisations are written out
# whole: operation by operation they compile for seconds
factorize = jax.jit(covariance.factorize, static_argnums=(1, 2))
to_dense = jax.jit(covariance.to_dense, static_argnums=(1, 2, 3))
from_dense = jax.jit(covariance.from_dense, static_argnums=1)
transform = jax.jit(covariance.transform, static_argnums=2)
SHAPES = {"full": (K, D, D), "tied": (1, D, D), "diag": (K, D), "spherical": (K, 1)}


def dense(mixture):
    """Return the covariance matrices (K, D, D) of all components."""
    return np.array([oracle.dense(mixture, k) for k in range(len(mixture.weights))])


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_storage(covariance_type, x64):
    """Shapes, numbers of free entries and their labels agree with one another."""
    assert (
        covariance.storage_shape(covariance_type, K, D)
        == SHAPES[covariance_type]
        == random_mixture(0, covariance_type, d=D).covariances.shape
    )
    free = {"full": K * 15, "tied": 15, "diag": K * D, "spherical": K}[covariance_type]
    assert covariance_types.num_free(covariance_type, K, D) == free == len(set(covariance.labels(covariance_type, K, D)))
    assert all(np.zeros(SHAPES[covariance_type])[index] == 0 for index in covariance.labels(covariance_type, K, D))


@pytest.mark.parametrize("d", [1, 3, 5])
@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_factors(covariance_type, d, x64):
    """At every size lower lower' is Sigma, whitener the inverse of lower, and half_log_det is log|Sigma| / 2."""
    mixture = random_mixture(1, covariance_type, d=d)
    factors = factorize(mixture.covariances, covariance_type, d)
    expected = dense(mixture)
    halves = np.linalg.slogdet(expected)[1] / 2
    np.testing.assert_allclose(np.broadcast_to(factors.half_log_det, (K,)), halves, rtol=1e-12, atol=1e-12)
    vectors = np.random.default_rng(0).normal(size=(K, d))
    there = transform(factors.lower, vectors, covariance_type)
    np.testing.assert_allclose(transform(factors.whitener, there, covariance_type), vectors, rtol=1e-10, atol=1e-12)
    roots = np.linalg.cholesky(expected)
    np.testing.assert_allclose(there, np.einsum("kij,kj->ki", roots, vectors), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_dense_and_back(covariance_type, x64):
    """Conversion to dense matrices and back is the identity; tied averages matrices by weight."""
    mixture = random_mixture(2, covariance_type, d=D)
    matrices = to_dense(mixture.covariances, covariance_type, K, D)
    np.testing.assert_allclose(matrices, dense(mixture), rtol=1e-14)
    np.testing.assert_allclose(from_dense(matrices, covariance_type, mixture.weights), mixture.covariances, rtol=1e-12)
    free = random_mixture(2, "full", d=D)
    pooled = from_dense(free.covariances, "tied", free.weights)
    np.testing.assert_allclose(pooled[0], np.einsum("k,kij->ij", free.weights, free.covariances), rtol=1e-12)


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_features_and_components(covariance_type, x64):
    """Variances, fractions of a floor, ridges and orders of components are those of the dense matrices."""
    mixture = random_mixture(3, covariance_type, d=D)
    matrices = dense(mixture)
    diagonals = np.diagonal(matrices, axis1=1, axis2=2)
    np.testing.assert_allclose(
        np.broadcast_to(covariance.variances(np.asarray(mixture.covariances), covariance_type, D), (K, D)),
        diagonals,
        rtol=1e-12,
    )
    factors = factorize(mixture.covariances, covariance_type, D)
    share = jax.jit(covariance.floor_fraction, static_argnums=2)(
        0.25 * np.asarray(mixture.covariances), factors, covariance_type
    )
    np.testing.assert_allclose(share, 0.25 * D if covariance.is_dense(covariance_type) else 0.25, rtol=1e-10)
    lifted = to_dense(
        jax.jit(covariance.ridge, static_argnums=2)(mixture.covariances, np.full(1, 0.5), covariance_type),
        covariance_type,
        K,
        D,
    )
    np.testing.assert_allclose(lifted, matrices + 0.5 * np.eye(D), rtol=1e-12)
    order = jnp.array([2, 0, 1])
    permuted = jax.jit(covariance.permute, static_argnums=2)(mixture.covariances, order, covariance_type)
    turned = to_dense(permuted, covariance_type, K, D)
    np.testing.assert_allclose(turned, matrices if covariance_type == "tied" else matrices[np.array(order)], rtol=1e-12)


@pytest.mark.parametrize("d", [2, 6])
def test_not_positive_definite_is_nan(d):
    """A matrix without a Cholesky factor gives NaN, neither an error nor a number."""
    matrix = np.eye(d, dtype=np.float32)
    matrix[0, 1] = matrix[1, 0] = 2
    assert np.isnan(factorize(matrix[None], "full", d).half_log_det).all()
    for covariance_type, values in (
        ("diag", jnp.array([[1.0, -1.0]])),
        ("diag", jnp.array([[0.0, 1.0]])),
        ("spherical", jnp.array([[-1.0]])),
    ):
        assert np.isnan(factorize(values, covariance_type, 2).half_log_det).all()


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_fewest_rows_and_points(kind, x64):
    """With as many rows as are said to be needed some split of them determines the covariances, with one less none does."""
    k, d = 2, 3
    needed, own = covariance_types.fewest_rows(kind, k, d), covariance_types.fewest_points(kind, d)
    assert own <= needed
    for n in (needed - 1, needed):
        x = np.random.default_rng(n).normal(size=(n, d))
        groups = np.minimum(np.arange(n), k - 1) if kind == "tied" else np.zeros(n, int)
        means = np.array([x[groups == g].mean(0) for g in groups]) if n else x
        scatter = (x - means).T @ (x - means)
        rank = np.linalg.matrix_rank(scatter) if kind in ("full", "tied") else int((np.diag(scatter) > 0).sum())
        assert (rank == d) == (n == needed)
