"""Find the orthogonal axes that several components share, as in EVE and VVE.

Let S_k be the scatter of component k divided by its count, and w_k its share of all counts. The axes are the columns of an
orthogonal matrix D. With q_k = diag(D' S_k D), the M-step minimises over D

    VVE   sum_k w_k sum_j log q_kj         (Flury's common principal components)
    EVE   sum_k w_k (prod_j q_kj)^(1 / D)

The axes are rotated, D <- D exp(X) with a skew-symmetric X. For a small X, the change of the first function is
2 sum_{i<j} G_ij X_ij, where G_ij = sum_k w_k (D' S_k D)_ij (1 / q_kj - 1 / q_ki). If the matrices D' S_k D were diagonal, the
second derivative in X_ij would be 2 H_ij with H_ij = sum_k w_k (q_ki - q_kj)^2 / (q_ki q_kj), and there would be no mixed
derivatives. Each pass takes the step X_ij = -G_ij / H_ij or a fraction of it, whichever gives the lowest value, so the value
never increases. Near the minimum, rounding hides changes of the value, and the step is taken if it makes G smaller. For EVE,
w_k is multiplied by (prod_j q_kj)^(1 / D).

Sources: Flury (1984), JASA 79, 892-898; Pham (2001), SIAM J. Matrix Anal. Appl. 22, 1136-1152, for the diagonal approximation.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from .. import covariance, linalg

_FRACTIONS = (1.0, 0.5, 0.2, 0.05, 0.005)  # fractions of the step that each pass tries
_LONGEST = 1.0  # largest rotation of two axes in a full step, in radians
_ROUNDING = 8  # rounding error of a value, in machine epsilons
_FLAT = 1e-10  # curvatures below this number are treated as 0: the axes are not determined by the data


@partial(jax.custom_jvp, nondiff_argnums=(3, 4))
def common_axes(covariances: jax.Array, weights: jax.Array, start: jax.Array, equal_volume: bool, num_passes: int) -> jax.Array:
    """Return the shared axes, the columns of an orthogonal matrix (D, D).

    The derivative is that of an exact minimum. It is zero with respect to the start.

    Args:
        covariances: S_k (K, D, D).
        weights: w_k (K,), which sum to 1.
        start: (D, D), axes with which the search starts.
        equal_volume: whether the components have equal volumes, as in EVE.
        num_passes: the number of passes.
    """

    def one_pass(_: int, axes: jax.Array) -> jax.Array:
        rotated = _rotate(axes, covariances)
        fractions = jnp.asarray(_FRACTIONS, axes.dtype)
        turns = _rotation(fractions[:, None, None] * _direction(rotated, weights, equal_volume))
        values = _values(turns, rotated, weights, equal_volume)
        now = _values(jnp.eye(len(axes), dtype=axes.dtype)[None], rotated, weights, equal_volume)[0]
        best = jnp.argmin(jnp.where(jnp.isnan(values), jnp.inf, values))
        slopes = [abs(_gradient(r, weights, equal_volume)).max() for r in (rotated, _rotate(turns[0], rotated))]
        is_settled = (values[0] <= now + _ROUNDING * jnp.finfo(now.dtype).eps * (1 + abs(now))) & (slopes[1] < slopes[0])
        best = jnp.where(is_settled, 0, best)
        return jnp.where(is_settled | (values[best] < now), linalg.multiply(axes, turns[best]), axes)

    return jax.lax.fori_loop(0, num_passes, one_pass, start)


@common_axes.defjvp
def _common_axes_jvp(equal_volume: bool, num_passes: int, primals: tuple, tangents: tuple) -> tuple[jax.Array, jax.Array]:
    """Return the axes and their derivative, by the implicit function theorem for the condition G = 0."""
    covariances, weights, start = primals
    axes = common_axes(covariances, weights, start, equal_volume, num_passes)
    rows, columns = np.triu_indices(len(axes), 1)

    def residual(turn: jax.Array, covariances: jax.Array, weights: jax.Array) -> jax.Array:
        rotated = _rotate(linalg.multiply(axes, jnp.eye(len(axes), dtype=axes.dtype) + skew(turn, len(axes))), covariances)
        return _gradient(rotated, weights, equal_volume)[rows, columns]

    origin = jnp.zeros(len(rows), axes.dtype)
    if not len(rows):
        return axes, jnp.zeros_like(axes)
    jacobian = jax.jacfwd(residual)(origin, covariances, weights)
    inverse = linalg.solve(jacobian + _FLAT * jnp.eye(len(rows), dtype=axes.dtype), jnp.eye(len(rows), dtype=axes.dtype))
    _, change = jax.jvp(partial(residual, origin), (covariances, weights), tangents[:2])
    turn = -covariance.einsum("ij,j->i", jax.lax.stop_gradient(inverse), change)
    return axes, linalg.multiply(axes, skew(turn, len(axes)))


def axes_of(covariances: jax.Array, weights: jax.Array) -> jax.Array:
    """Return the eigenvectors (D, D) of a weighted sum of covariances (K, D, D), each divided by its trace.

    If the covariances share their axes, the eigenvectors are these axes. The weights differ a little, so that the eigenvalues
    of the sum do not coincide if those of the covariances differ.
    """
    k = len(covariances)
    different = 1 + 0.25 * np.sqrt(np.arange(1, k + 1)) / np.sqrt(k)
    scaled = weights * different.astype(weights.dtype) / linalg.diagonal(covariances).sum(-1)
    return linalg.eigh(jax.lax.stop_gradient(covariance.symmetric(covariance.einsum("k,kij->ij", scaled, covariances))))[1]


def variances_along(axes: jax.Array, covariances: jax.Array) -> jax.Array:
    """Return the variances (K, D) along axes (D, D)."""
    return linalg.diagonal(_rotate(axes, covariances))


def _rotate(axes: jax.Array, covariances: jax.Array) -> jax.Array:
    """Return D' S_k D."""
    return covariance.einsum("ia,kij,jb->kab", axes, covariances, axes)


def skew(entries: jax.Array, size: int) -> jax.Array:
    """Return the skew-symmetric matrix (D, D) with given entries above the diagonal."""
    rows, columns = np.triu_indices(size, 1)
    basis = np.zeros((len(rows), size, size), entries.dtype)
    basis[np.arange(len(rows)), rows, columns] = 1
    basis[np.arange(len(rows)), columns, rows] = -1
    return covariance.einsum("p,pij->ij", entries, basis)


def _rotation(skew: jax.Array) -> jax.Array:
    """Return the Cayley transforms (I - X / 2)^-1 (I + X / 2) of skew-symmetric matrices X (..., D, D)."""
    return cayley(skew / 2)[0]


def cayley(skew: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the Cayley transforms (I - Y)^-1 (I + Y) of skew-symmetric matrices Y (..., D, D), and log|I + Y| (...).

    They are computed as S^-1 (I + Y)^2 with the positive definite matrix S = (I + Y) (I - Y), because `linalg` inverts Cholesky
    factors without threads of BLAS.
    """
    root = skew + linalg.identity(skew)
    lower = linalg.cholesky(linalg.multiply(root, jnp.swapaxes(root, -1, -2)))
    whitener = linalg.invert_lower(lower)
    rotation = linalg.multiply(jnp.swapaxes(whitener, -1, -2), linalg.multiply(whitener, linalg.multiply(root, root)))
    return rotation, jnp.log(linalg.diagonal(lower)).sum(-1)


def _component_weights(variances: jax.Array, weights: jax.Array, equal_volume: bool) -> jax.Array:
    """Return w_k, or w_k times the geometric mean of the variances (K, D) if volumes are equal, with sum 1."""
    if not equal_volume:
        return weights
    logs = jnp.log(variances).mean(-1)
    raised = weights * jnp.exp(logs - jax.lax.stop_gradient(logs.max()))
    return raised / raised.sum()


def _gradient(rotated: jax.Array, weights: jax.Array, equal_volume: bool) -> jax.Array:
    """Return G (D, D), given the rotated covariances D' S_k D."""
    q = linalg.diagonal(rotated)
    w = _component_weights(q, weights, equal_volume)
    return covariance.einsum("k,kij,kij->ij", w, rotated, 1 / q[:, None, :] - 1 / q[:, :, None])


def _direction(rotated: jax.Array, weights: jax.Array, equal_volume: bool) -> jax.Array:
    """Return the skew-symmetric matrix (D, D) of the entries -G_ij / H_ij."""
    q = linalg.diagonal(rotated)
    w = _component_weights(q, weights, equal_volume)
    ratios = q[:, :, None] / q[:, None, :]
    curvature = covariance.einsum("k,kij->ij", w, ratios + jnp.swapaxes(ratios, -1, -2) - 2)
    gradient = _gradient(rotated, weights, equal_volume)
    turn = jnp.where(curvature > _FLAT, -gradient / jnp.where(curvature > _FLAT, curvature, 1), 0)
    return jnp.clip(turn, -_LONGEST, _LONGEST)


def _values(turns: jax.Array, rotated: jax.Array, weights: jax.Array, equal_volume: bool) -> jax.Array:
    """Return the function that the M-step minimises, up to a constant or in logarithms, after each of several turns."""
    half = covariance.einsum("kij,tjb->tkib", rotated, turns)
    logs = jnp.log((half * turns[:, None]).sum(-2))  # (turns, K, D)
    if not equal_volume:
        return covariance.einsum("tkj,k->t", logs, weights)
    return jax.nn.logsumexp(logs.mean(-1), axis=-1, b=weights)
