"""Linear algebra of covariances in storage form: factorisation, scatters, whitening and pooling.

Covariances are stored as matrices (..., K or 1, D, D) for dense covariance types, and as variances (..., K or 1, D or 1) for
the other types. The module `types` defines how each type is stored. The functions here rely on broadcasting.

A scatter is a weighted sum of outer products v v'. It has one of two forms: "dense" (..., D, D) for dense types, "diagonal"
(..., D) for the others. All functions accept leading batch axes. In shapes, "K or 1" is K, but 1 if all components share one
covariance; "D or 1" is D, but 1 if one variance applies to all features.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple, overload

import jax
import jax.numpy as jnp
import numpy as np

from .. import linalg
from .types import is_dense, is_shared, is_spherical, storage_shape

# by default, some GPUs multiply in the format TF32, whose relative error of 1e-3 is too large for EM
einsum = partial(jnp.einsum, precision=jax.lax.Precision.HIGHEST)


def without_shared_axis(covariances: np.ndarray, covariance_type: str) -> np.ndarray:
    """Return the covariances of one mixture without the axes of length 1: (D, D) for tied and (K,) for spherical."""
    covariances = covariances.squeeze(-1) if is_spherical(covariance_type) else covariances
    return covariances.squeeze(0) if is_shared(covariance_type) else covariances


class Factors(NamedTuple):
    """Factors of covariances. Densities and moments use these factors, and EM computes them once per step.

    Attributes:
        lower: Cholesky factors L (..., K or 1, D, D) for dense types; standard deviations (..., K or 1, D or 1) for the others.
        whitener: L^-1, or reciprocals of the standard deviations, in the shape of `lower`.
        half_log_det: (..., K or 1), log |Sigma| / 2.
    """

    lower: jax.Array
    whitener: jax.Array
    half_log_det: jax.Array


def factorize(covariances: jax.Array, covariance_type: str, num_features: int) -> Factors:
    """Return the factors of covariances; the factors of a covariance that is not positive definite are NaN."""
    if is_dense(covariance_type):
        return complete(linalg.cholesky(covariances), covariance_type, num_features)
    return complete(jnp.sqrt(jnp.where(covariances > 0, covariances, jnp.nan)), covariance_type, num_features)


def is_positive_definite(covariances: jax.Array, covariance_type: str) -> jax.Array:
    """Return whether the Cholesky factor of each stored covariance can be computed in its float type, (..., K or 1)."""
    if is_dense(covariance_type):
        return jnp.isfinite(linalg.diagonal(linalg.cholesky(covariances))).all(-1)
    return (covariances > 0).all(-1)


def complete(lower: jax.Array, covariance_type: str, num_features: int) -> Factors:
    """Return the `Factors` of covariances, given their Cholesky factors or standard deviations."""
    if is_dense(covariance_type):
        return Factors(lower, linalg.invert_lower(lower), jnp.log(linalg.diagonal(lower)).sum(-1))
    repeats = num_features // lower.shape[-1]  # a spherical variance applies to all D features
    return Factors(lower, 1 / lower, repeats * jnp.log(lower).sum(-1))


def from_factor(factor: jax.Array, covariance_type: str) -> jax.Array:
    """Return the covariances F F' in storage form, given their square roots F."""
    if is_dense(covariance_type):
        return symmetric(linalg.multiply(factor, jnp.swapaxes(factor, -1, -2)))
    return factor**2


def symmetric(matrices: jax.Array) -> jax.Array:
    """Return exactly symmetric matrices (..., D, D), given matrices that are symmetric up to rounding."""
    return (matrices + jnp.swapaxes(matrices, -1, -2)) / 2


def precision(whitener: jax.Array, covariance_type: str) -> jax.Array:
    """Return the precisions W' W, as matrices (..., K or 1, D, D) or as reciprocal variances."""
    if is_dense(covariance_type):
        return linalg.multiply(jnp.swapaxes(whitener, -1, -2), whitener)
    return whitener**2


def whiten(whitener: jax.Array, x: jax.Array, covariance_type: str) -> jax.Array:
    """Return W_k x for whiteners W_k and data x that all components share: x (D, n) -> (K or 1, D, n)."""
    if is_dense(covariance_type):
        return einsum("kij,jn->kin", whitener, x)
    return whitener[:, :, None] * x[None]


def whiten_each(whitener: jax.Array, deviations: jax.Array, covariance_type: str) -> jax.Array:
    """Return W_k v_k for whiteners W_k and the deviations v_k of points from the mean of component k, (K, D, n)."""
    if is_dense(covariance_type):
        return einsum("kij,kjn->kin", jnp.broadcast_to(whitener, (len(deviations), *whitener.shape[1:])), deviations)
    return whitener[:, :, None] * deviations


def transform(factor: jax.Array, vectors: jax.Array, covariance_type: str) -> jax.Array:
    """Return F_k v_k for a factor or whitener F_k and a vector v_k of each component: (..., K, D) -> (..., K, D)."""
    if not is_dense(covariance_type):
        return factor * vectors
    if factor.shape[-1] <= linalg.WRITTEN_OUT and vectors.ndim < factor.ndim:  # one vector for each matrix
        return (factor * vectors[..., None, :]).sum(-1)
    return einsum("...ij,...j->...i", factor, vectors)


def transform_scatter(factor: jax.Array, scatter: jax.Array, covariance_type: str) -> jax.Array:
    """Return F_k S_k F_k' for a factor F_k and a scatter S_k of each component; scatters are dense or diagonal."""
    if is_dense(covariance_type):
        return symmetric(einsum("...ij,...jk,...lk->...il", factor, scatter, factor))
    return factor**2 * scatter


def compose(factor: jax.Array, other: jax.Array, covariance_type: str) -> jax.Array:
    """Return F_k G_k for two factors or whiteners of each component, in the shape of a factor."""
    return einsum("...ij,...jk->...ik", factor, other) if is_dense(covariance_type) else factor * other


def symmetric_outer(first: jax.Array, second: jax.Array, covariance_type: str) -> jax.Array:
    """Return u v' + v u' of vectors (..., D) as a scatter: dense (..., D, D), or its diagonal (..., D)."""
    if is_dense(covariance_type):
        product = first[..., :, None] * second[..., None, :]
        return product + jnp.swapaxes(product, -1, -2)
    return 2 * first * second


def outer(vectors: jax.Array, covariance_type: str) -> jax.Array:
    """Return the outer product v v' of vectors (..., D) as a scatter: dense (..., D, D), or its diagonal (..., D)."""
    if is_dense(covariance_type):
        return vectors[..., :, None] * vectors[..., None, :]
    return vectors**2


def weighted_scatter(responsibilities: jax.Array, whitened: jax.Array, covariance_type: str) -> jax.Array:
    """Return sum_n r_kn y_kn y_kn' in the scatter form of the covariance type.

    The shapes are r (K, n) and y (K, D, n); the result is (K, D, D) or (K, D).
    """
    if is_dense(covariance_type):
        return einsum("kin,kjn->kij", responsibilities[:, None, :] * whitened, whitened)
    return (responsibilities[:, None, :] * whitened * whitened).sum(-1)  # multiply by r first: y^2 may overflow where r is 0


def expand(values: jax.Array, covariance_type: str) -> jax.Array:
    """Add axes to an array (..., K) of one number per component, so that the array broadcasts against scatters."""
    return values[..., None, None] if is_dense(covariance_type) else values[..., None]


def pool(scatters: jax.Array, covariance_type: str) -> jax.Array:
    """Pool scatters into the storage form: sum them over components that share one covariance, and average over features.

    Only for spherical types, one variance applies to all features, and the scatters are averaged over the features.
    """
    if is_shared(covariance_type):
        scatters = scatters.sum(-3 if is_dense(covariance_type) else -2, keepdims=True)
    return scatters.mean(-1, keepdims=True) if is_spherical(covariance_type) else scatters


def pool_counts(counts: jax.Array, covariance_type: str) -> jax.Array:
    """Return the divisor that turns pooled scatters into covariances; `counts` has the shape (..., K).

    Unless the covariances are coupled, the quotients are the maximum likelihood estimates.
    """
    if is_shared(covariance_type):
        counts = counts.sum(-1, keepdims=True)
    return expand(counts, covariance_type)


def ridge(covariances: jax.Array, amount: jax.Array, covariance_type: str) -> jax.Array:
    """Return covariances with `amount` added to each diagonal; `amount` is one number, or one number per feature (..., D)."""
    if is_dense(covariance_type):
        return covariances + linalg.identity(covariances) * linalg.with_axes(amount[..., None], covariances.ndim)
    return covariances + linalg.with_axes(amount, covariances.ndim)


def relative_ridge(covariances: jax.Array, fraction: float | jax.Array, covariance_type: str) -> jax.Array:
    """Return dense covariances with diagonals multiplied by 1 + fraction; return other covariances unchanged."""
    if not is_dense(covariance_type):
        return covariances
    return covariances * (1 + fraction * linalg.identity(covariances))


def from_data_scatter(scatter: jax.Array, covariance_type: str) -> jax.Array:
    """Return the scatter of all data, (..., D, D) or (..., D), in the storage form, with a component axis of length 1."""
    scatter = jnp.expand_dims(scatter, -3 if is_dense(covariance_type) else -2)
    return scatter.mean(-1, keepdims=True) if is_spherical(covariance_type) else scatter


@overload
def variances(covariances: np.ndarray, covariance_type: str, num_features: int) -> np.ndarray: ...
@overload
def variances(covariances: jax.Array, covariance_type: str, num_features: int) -> jax.Array: ...
def variances(covariances: np.ndarray | jax.Array, covariance_type: str, num_features: int) -> np.ndarray | jax.Array:
    """Return the variances of the features, (..., K or 1, D); if `covariances` is a NumPy array, so is the result."""
    if is_dense(covariance_type):
        return covariances.diagonal(axis1=-2, axis2=-1)
    xp = np if isinstance(covariances, np.ndarray) else jnp
    return xp.broadcast_to(covariances, (*covariances.shape[:-1], num_features))


@overload
def to_dense(covariances: np.ndarray, covariance_type: str, num_components: int, num_features: int) -> np.ndarray: ...
@overload
def to_dense(covariances: jax.Array, covariance_type: str, num_components: int, num_features: int) -> jax.Array: ...
def to_dense(
    covariances: np.ndarray | jax.Array, covariance_type: str, num_components: int, num_features: int
) -> np.ndarray | jax.Array:
    """Return the covariance matrices of all components, (..., K, D, D); if `covariances` is a NumPy array, so is the result."""
    xp = np if isinstance(covariances, np.ndarray) else jnp
    if not is_dense(covariance_type):
        diagonal = variances(covariances, covariance_type, num_features)
        covariances = diagonal[..., None] * xp.eye(num_features, dtype=diagonal.dtype)
    return xp.broadcast_to(covariances, (*covariances.shape[:-3], num_components, num_features, num_features))


def from_dense(matrices: jax.Array, covariance_type: str, weights: jax.Array) -> jax.Array:
    """Convert matrices (..., K, D, D) to the storage form of the covariance type.

    If the type cannot hold the matrices, the result is their weighted average over components that share one covariance, and
    their average over features that share one variance.
    """
    if is_shared(covariance_type):
        total = weights.sum(-1)[..., None, None, None]
        matrices = (weights[..., None, None] * matrices).sum(-3, keepdims=True) / total
    if is_dense(covariance_type):
        return matrices
    diagonal = linalg.diagonal(matrices)
    return diagonal.mean(-1, keepdims=True) if is_spherical(covariance_type) else diagonal


def lower_diagonal(factors: Factors, covariance_type: str) -> jax.Array:
    """Return the standard deviation of each feature conditional on the features before it, (..., K or 1, D or 1)."""
    return linalg.diagonal(factors.lower) if is_dense(covariance_type) else factors.lower


def mahalanobis_trace(scale: jax.Array, factors: Factors, covariance_type: str, num_features: int) -> jax.Array:
    """Return tr(scale Sigma^-1) for each stored covariance, (..., K or 1); `scale` broadcasts against the covariances."""
    if is_dense(covariance_type):
        return (einsum("...ij,...jk->...ik", factors.whitener, scale) * factors.whitener).sum((-2, -1))
    repeats = num_features // factors.whitener.shape[-1]
    return repeats * (scale * factors.whitener**2).sum(-1)


def floor_fraction(floor: jax.Array, factors: Factors, covariance_type: str) -> jax.Array:
    """Return the fraction of each covariance Sigma that comes from `floor`, which regularisation adds, (..., K or 1).

    In a direction v, the fraction is v' floor v / v' Sigma v. The function returns the largest fraction over all directions v.
    For dense covariances, the largest fraction is a generalised eigenvalue. In this case, the function returns an upper bound
    of the eigenvalue, tr(floor Sigma^-1). The bound is close to the eigenvalue if Sigma has collapsed in one direction.
    """
    if is_dense(covariance_type):
        return mahalanobis_trace(floor, factors, covariance_type, factors.whitener.shape[-1])
    return (floor * factors.whitener**2).max(-1)


def permute(covariances: jax.Array, order: jax.Array, covariance_type: str) -> jax.Array:
    """Return the covariances with the components in the order `order` (..., K); a shared covariance does not change."""
    if is_shared(covariance_type):
        return covariances
    return jnp.take_along_axis(covariances, expand(order, covariance_type), axis=-3 if is_dense(covariance_type) else -2)


def select_components(mask: jax.Array, new: jax.Array, old: jax.Array, covariance_type: str) -> jax.Array:
    """Return `new` where the mask (..., K) is True, else `old`; a shared covariance is `new` if any entry is True."""
    if is_shared(covariance_type):
        mask = mask.any(-1, keepdims=True)
    return jnp.where(expand(mask, covariance_type), new, old)


def labels(covariance_type: str, num_components: int, num_features: int) -> list[tuple[int, ...]]:
    """Return the indices of the free entries of one mixture's covariances; in a matrix, the lower triangle is free."""
    shape = storage_shape(covariance_type, num_components, num_features)
    if is_dense(covariance_type):
        return [(k, i, j) for k in range(shape[0]) for i in range(shape[1]) for j in range(i + 1)]
    return [(k, i) for k in range(shape[0]) for i in range(shape[1])]
