"""Estimate the covariances v_k C of components that share the matrix C, but have their own volumes v_k.

The covariances of VEE are of this form. So are the variances of VEI, and the eigenvalues of VEV, with vectors in the place of
the matrices. Let S_k be the scatter of component k divided by its count, and w_k its share of all counts. The estimates
minimise sum_k w_k (log|v_k C| + tr(S_k C^-1) / v_k). Let l_k be numbers such that v_k is proportional to exp(l_k). For given l,
the best C is proportional to M = sum_k w_k exp(-l_k) S_k. What remains is a function of K numbers,

    f(l) = sum_k w_k l_k + log|M| / D

The determinant of M is a polynomial in the numbers exp(-l_k) whose coefficients are not negative. Its logarithm is therefore
convex in l, and f has one minimum. Newton's method finds it. With p_k = tr(M^-1 w_k exp(-l_k) S_k) and the matrix P_km =
tr(M^-1 w_k exp(-l_k) S_k M^-1 w_m exp(-l_m) S_m), the gradient of D f is D w - p, and its Hessian is diag(p) - P. If a Newton
step does not decrease f, the step to l_k + log(p_k / (D w_k)) takes its place. This step minimises in turn over C and over the
volumes, so it never increases f. For vectors, such steps alone are Sinkhorn's algorithm.

Sources: Celeux & Govaert (1995), Pattern Recognition 28, 781-793; for the convexity, Gurvits (2004), STOC, 417-426.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from .. import covariance, linalg

_RIDGE = 16  # the Hessian, scaled to a unit diagonal, gets a ridge of this many machine epsilons per component


class _Profile(NamedTuple):
    """The profile f at a point l, with what Newton's method needs.

    Attributes:
        value: (), f.
        whitener: W with W M W' = I: a matrix (D, D), or a vector (D,) if M is diagonal.
        pooled: M, as a matrix or as a vector.
        shares: (K,), the numbers p_k, which sum to D.
        whitened: (K, ...), the matrices or vectors W w_k exp(-l_k) S_k W'.
    """

    value: jax.Array
    whitener: jax.Array
    pooled: jax.Array
    shares: jax.Array
    whitened: jax.Array


def with_own_volumes(covariances: jax.Array, weights: jax.Array, log_volumes: jax.Array, num_steps: int) -> jax.Array:
    """Return the estimates v_k C, in the shape of `covariances`.

    The derivative of the result is that of the exact minimum. It is computed from the last Newton step.

    Args:
        covariances: S_k, matrices (K, D, D) or vectors (K, D).
        weights: (K,), the numbers w_k, which sum to 1. A component of weight 0 does not influence C.
        log_volumes: (K,), a first guess of l.
        num_steps: the number of Newton steps.
    """
    fixed = jax.lax.stop_gradient((covariances, weights))
    start = jax.lax.stop_gradient(jnp.where(jnp.isfinite(log_volumes), log_volumes, _logs_of_traces(covariances)))
    found = jax.lax.fori_loop(0, num_steps - 1, lambda _, point: _step(point, *fixed), start)
    point = _step(jax.lax.stop_gradient(found), covariances, weights)
    profile = _profile(point, covariances, weights)
    traces = _trace(_whiten(profile.whitener, covariances))
    return traces.reshape(-1, *[1] * profile.pooled.ndim) / covariances.shape[-1] * profile.pooled


def _logs_of_traces(covariances: jax.Array) -> jax.Array:
    """Return the logarithms (K,) of the average variances."""
    return jnp.log(_trace(covariances) / covariances.shape[-1])


def _trace(covariances: jax.Array) -> jax.Array:
    """Return the traces (K,) of matrices (K, D, D), or the sums of vectors (K, D)."""
    return (covariances if covariances.ndim == 2 else linalg.diagonal(covariances)).sum(-1)


def _whiten(whitener: jax.Array, covariances: jax.Array) -> jax.Array:
    """Return W S_k W' for matrices, or W^2 S_k for vectors."""
    if whitener.ndim == 1:
        return whitener**2 * covariances
    return covariance.einsum("ij,kjl,ml->kim", whitener, covariances, whitener)


def _profile(log_volumes: jax.Array, covariances: jax.Array, weights: jax.Array) -> _Profile:
    """Return f at a point, with what Newton's method needs."""
    scales = weights * jnp.exp(-log_volumes)
    scaled = scales.reshape(-1, *[1] * (covariances.ndim - 1)) * covariances
    pooled = scaled.sum(0)
    if pooled.ndim == 1:
        root = jnp.sqrt(jnp.where(pooled > 0, pooled, jnp.nan))
        whitener, half_log_det = 1 / root, jnp.log(root).sum()
    else:
        lower = linalg.cholesky(pooled)
        whitener, half_log_det = linalg.invert_lower(lower), jnp.log(linalg.diagonal(lower)).sum()
    whitened = _whiten(whitener, scaled)
    value = weights @ log_volumes + 2 * half_log_det / covariances.shape[-1]
    return _Profile(value, whitener, pooled, _trace(whitened), whitened)


def _step(log_volumes: jax.Array, covariances: jax.Array, weights: jax.Array) -> jax.Array:
    """Return the point after a Newton step, or, if f rises, after a step that minimises over C and then over the volumes."""
    d, used = covariances.shape[-1], weights > 0
    here = _profile(log_volumes, covariances, weights)
    shares = jnp.where(used, here.shares, 1)
    root = jnp.sqrt(shares)
    flat = here.whitened.reshape(len(weights), -1) / root[:, None]
    # The scaled Hessian is diag(p)^-1/2 (diag(p) - P) diag(p)^-1/2. It is singular, because f does not change if all l_k change
    # equally. The projection on this direction is therefore added to it.
    null = jnp.where(used, root, 0) / jnp.sqrt(jnp.asarray(d, root.dtype))
    ridge = _RIDGE * len(weights) * jnp.finfo(root.dtype).eps
    products = covariance.einsum("ki,mi->km", flat, flat)
    hessian = (1 + ridge) * jnp.eye(len(weights), dtype=root.dtype) - products + null[:, None] * null
    whitener = linalg.invert_lower(linalg.cholesky(hessian))
    residual = jnp.where(used, here.shares - d * weights, 0) / root
    newton = log_volumes + covariance.einsum("ki,kj,j->i", whitener, whitener, residual) / root
    sweep = jax.lax.stop_gradient(log_volumes + jnp.where(used, jnp.log(shares / jnp.where(used, d * weights, 1)), 0))
    is_lower = jax.lax.stop_gradient(_profile(newton, covariances, weights).value <= here.value + _rounding(here.value))
    return jnp.where(is_lower, newton, sweep)


def _rounding(value: jax.Array) -> jax.Array:
    """Return the rounding error of a value of f."""
    return 8 * jnp.finfo(value.dtype).eps * (1 + abs(value))
