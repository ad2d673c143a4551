"""Factors and solutions for stacks of small matrices (..., D, D), on the CPU one matrix after another.

XLA's CPU client splits a stack among the threads of a pool from within that pool, and waits. Two such calls at a time, in one
program or in two, can wait for each other forever (jaxlib 0.10, two threads). One matrix at a time never waits, and at these
sizes it is about as fast. Elsewhere stacks stay whole.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, wraps

import jax
import jax.numpy as jnp
import numpy as np

_SMALL = 4  # up to this D factors are written out: elementwise, so that they batch well under vmap
_matmul = partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)


def _one_by_one(function: Callable) -> Callable:
    """The same for stacks with one leading shape, under vmap too."""
    alone = jax.custom_batching.sequential_vmap(function)

    def in_turn(*stacks: jax.Array) -> jax.Array | tuple:
        shape = stacks[0].shape[:-2]
        flat = [stack.reshape(-1, *stack.shape[len(shape) :]) for stack in stacks]
        return jax.tree.map(lambda leaf: leaf.reshape(*shape, *leaf.shape[1:]), jax.vmap(alone)(*flat))

    @wraps(function)
    def call(*stacks: jax.Array) -> jax.Array | tuple:
        return jax.lax.platform_dependent(*stacks, cpu=in_turn if stacks[0].ndim > 2 else alone, default=function)

    return call


@_one_by_one
def eigh(matrices: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Eigenvalues (..., D), rising, and eigenvectors (..., D, D) of symmetric matrices."""
    return tuple(jnp.linalg.eigh(matrices))


@_one_by_one
def solve(matrices: jax.Array, right: jax.Array) -> jax.Array:
    """A^-1 B for matrices A (..., D, D) and B (..., D, M)."""
    return jnp.linalg.solve(matrices, right)


def cholesky(matrices: jax.Array) -> jax.Array:
    """Lower Cholesky factors (..., D, D); NaN where a matrix is not positive definite."""
    d = matrices.shape[-1]
    if d > _SMALL:
        return _cholesky(matrices)
    rows = [[None] * d for _ in range(d)]
    for j in range(d):
        pivot = matrices[..., j, j] - sum(rows[j][i] ** 2 for i in range(j))
        rows[j][j] = jnp.sqrt(jnp.where(pivot > 0, pivot, jnp.nan))
        for i in range(j + 1, d):
            rows[i][j] = (matrices[..., i, j] - sum(rows[i][m] * rows[j][m] for m in range(j))) / rows[j][j]
    return _assemble_lower(rows)


def invert_lower(lower: jax.Array) -> jax.Array:
    """Inverses of lower triangular matrices (..., D, D)."""
    d = lower.shape[-1]
    if d > _SMALL:
        return _invert_lower(lower)
    rows = [[None] * d for _ in range(d)]
    for j in range(d):
        rows[j][j] = 1 / lower[..., j, j]
        for i in range(j + 1, d):
            rows[i][j] = -sum(lower[..., i, m] * rows[m][j] for m in range(j, i)) * (1 / lower[..., i, i])
    return _assemble_lower(rows)


def _assemble_lower(rows: list) -> jax.Array:
    zero = jnp.zeros_like(rows[0][0])
    flat = jnp.stack([v if v is not None else zero for row in rows for v in row], -1)  # one operation, not D + 1
    return flat.reshape(*zero.shape, len(rows), len(rows))


def diagonal(matrices: jax.Array) -> jax.Array:
    """Diagonals (..., D) of matrices (..., D, D), as a slice; NumPy in, NumPy out."""
    d = matrices.shape[-1]
    return matrices.reshape(*matrices.shape[:-2], d * d)[..., :: d + 1]


@jax.custom_jvp
@_one_by_one
def _cholesky(matrices: jax.Array) -> jax.Array:
    return jnp.linalg.cholesky(matrices)


@_cholesky.defjvp
def _cholesky_jvp(primals: tuple, tangents: tuple) -> tuple:
    """dL = L phi(L^-1 dA L^-T), phi the lower triangle with half of the diagonal: Murray (2016), arXiv:1602.07527, eq. 8."""
    (move,) = tangents
    lower = _cholesky(*primals)
    whitener = _invert_lower(lower)
    inner = _matmul(_matmul(whitener, (move + jnp.swapaxes(move, -1, -2)) / 2), jnp.swapaxes(whitener, -1, -2))
    return lower, _matmul(lower, jnp.tril(inner) - np.eye(lower.shape[-1], dtype=lower.dtype) * inner / 2)


@jax.custom_jvp
@_one_by_one
def _invert_lower(lower: jax.Array) -> jax.Array:
    identity = jnp.broadcast_to(np.eye(lower.shape[-1], dtype=lower.dtype), lower.shape)
    return jax.scipy.linalg.solve_triangular(lower, identity, lower=True)


@_invert_lower.defjvp
def _invert_lower_jvp(primals: tuple, tangents: tuple) -> tuple:
    """dX = -X dL X."""
    inverse = _invert_lower(*primals)
    return inverse, -_matmul(_matmul(inverse, jnp.tril(tangents[0])), inverse)
