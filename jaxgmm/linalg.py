"""Factorise, solve and multiply stacks of small matrices (..., D, D).

On the CPU, the matrices of a stack are factorised one after another. If one call factorised the whole stack, a thread of XLA's
thread pool would split the stack into tasks for the same pool, and would wait for these tasks. Two such calls at the same time,
in one program or in two, can wait for each other forever (jaxlib 0.10, two threads). A call with a single matrix does not wait,
and for small matrices the separate calls are about as fast. On other devices, one call factorises the whole stack.
"""

# When this module was written, no public report of this deadlock was found. Such a report could read:
#
#   Title: CPU: batched LAPACK calls deadlock when two of them run at the same time (ParallelBatchMap waits inside its own pool)
#   jaxlib 0.10.2, Linux x86-64, a machine with two cores and hence a pool of two threads. Consider a jitted program with two
#   batched triangular solves that do not depend on each other, for example jax.jit(jax.vmap(f)) over 125 problems, where f
#   needs the Cholesky factors of two stacks. Such a program sometimes never returns. gdb shows both threads of the pool in the
#   FFI handler of the solve (lapack_strsm_ffi), in ParallelBatchMap, where they wait on a BlockingCounter. The handler runs on
#   a thread of the intra-op pool, splits its batch into tasks for the same pool, and blocks until they are done. As soon as
#   every thread of the pool blocks in this way, no thread is left to run the tasks. The deadlock depends on timing, and it
#   requires as many calls at the same time as the pool has threads. Expected behaviour: the handler runs its tasks itself if no
#   other thread takes them, or it never waits.

from __future__ import annotations

from collections.abc import Callable
from functools import partial, wraps
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

# largest D for which factors and products are written as elementwise operations, which are efficient under vmap
WRITTEN_OUT = 4
# Largest D for which JAX's routine inverts a triangular matrix. For D >= 32, SciPy's BLAS splits the work over threads that
# wait for each other, which took up to 8 ms for each matrix on two busy cores, instead of 5 microseconds.
_LARGEST_SOLVED = 16
Arrays = TypeVar("Arrays", jax.Array, np.ndarray)
_matmul = partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)


def _one_by_one(function: Callable) -> Callable:
    """Return a version of `function` for stacks of any leading shape; on the CPU, it processes one matrix after another."""
    alone = jax.custom_batching.sequential_vmap(function)

    def in_turn(*stacks: jax.Array) -> jax.Array | tuple:
        shape = stacks[0].shape[:-2]
        flat = [stack.reshape(-1, *stack.shape[len(shape) :]) for stack in stacks]
        return jax.tree.map(lambda leaf: leaf.reshape(*shape, *leaf.shape[1:]), jax.vmap(alone)(*flat))

    @wraps(function)
    def call(*stacks: jax.Array) -> jax.Array | tuple:
        return jax.lax.platform_dependent(*stacks, cpu=in_turn if stacks[0].ndim > 2 else alone, default=function)

    return call


@jax.custom_jvp
@_one_by_one
def eigh(matrices: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the eigenvalues (..., D), in increasing order, and eigenvectors (..., D, D) of symmetric matrices.

    The derivative of an eigenvector in the direction of another is 0 if the two eigenvalues are equal up to rounding.
    """
    values, vectors = jnp.linalg.eigh(matrices)
    return values, vectors


@eigh.defjvp
def _eigh_jvp(primals: tuple, tangents: tuple) -> tuple:
    """Return the eigenvalues w and eigenvectors U of A, and their derivatives.

    With E = U' dA U, the derivatives are diag(E) and U F, where F_ij = E_ij / (w_j - w_i).
    """
    values, vectors = eigh(*primals)
    symmetric = (tangents[0] + jnp.swapaxes(tangents[0], -1, -2)) / 2
    inner = _matmul(_matmul(jnp.swapaxes(vectors, -1, -2), symmetric), vectors)
    gaps = values[..., None, :] - values[..., :, None]
    is_gap = abs(gaps) > 8 * jnp.finfo(values.dtype).eps * abs(values).max(-1)[..., None, None]
    factors = jnp.where(is_gap, 1 / jnp.where(is_gap, gaps, 1), 0)
    return (values, vectors), (diagonal(inner), _matmul(vectors, factors * inner))


@_one_by_one
def solve(matrices: jax.Array, right: jax.Array) -> jax.Array:
    """Return A^-1 B for matrices A (..., D, D) and B (..., D, M)."""
    return jnp.linalg.solve(matrices, right)


def cholesky(matrices: jax.Array) -> jax.Array:
    """Return lower Cholesky factors (..., D, D), which contain NaN if a matrix is not positive definite."""
    d = matrices.shape[-1]
    if d > WRITTEN_OUT:
        return _cholesky(matrices)
    rows: list[list[jax.Array]] = []
    for i in range(d):
        row: list[jax.Array] = []
        for j in range(i):
            row.append((matrices[..., i, j] - sum(row[m] * rows[j][m] for m in range(j))) / rows[j][j])
        pivot = matrices[..., i, i] - sum(entry**2 for entry in row)
        rows.append([*row, jnp.sqrt(jnp.where(pivot > 0, pivot, jnp.nan))])
    return _assemble_lower(rows)


def invert_lower(lower: jax.Array) -> jax.Array:
    """Return the inverses of lower triangular matrices (..., D, D)."""
    d = lower.shape[-1]
    if d > WRITTEN_OUT:
        return _invert_lower(lower)
    rows: list[list[jax.Array]] = []
    for i in range(d):
        reciprocal = 1 / lower[..., i, i]
        row = [-sum(lower[..., i, m] * rows[m][j] for m in range(j, i)) * reciprocal for j in range(i)]
        rows.append([*row, reciprocal])
    return _assemble_lower(rows)


def _assemble_lower(rows: list[list[jax.Array]]) -> jax.Array:
    """Return lower triangular matrices (..., D, D), given the entries (...) of their lower triangles row by row."""
    d, zero = len(rows), jnp.zeros_like(rows[0][0])
    entries = [entry for row in rows for entry in [*row, *[zero] * (d - len(row))]]
    return jnp.stack(entries, -1).reshape(*zero.shape, d, d)  # one call of `stack` takes the place of D + 1 calls


def diagonal(matrices: Arrays) -> Arrays:
    """Return the diagonals (..., D) of matrices (..., D, D) by slicing; for a NumPy array, the result is a NumPy array."""
    d = matrices.shape[-1]
    return matrices.reshape(*matrices.shape[:-2], d * d)[..., :: d + 1]


def identity(matrices: jax.Array) -> np.ndarray:
    """Return an identity matrix with the dtype, the size D and the number of axes of `matrices` (..., D, D)."""
    d = matrices.shape[-1]
    return np.eye(d, dtype=matrices.dtype).reshape(*[1] * (matrices.ndim - 2), d, d)


def with_axes(array: jax.Array, num_axes: int) -> jax.Array:
    """Add leading axes of length 1 to an array, so that the result has `num_axes` axes."""
    return array.reshape(*[1] * (num_axes - array.ndim), *array.shape)


def multiply(a: jax.Array, b: jax.Array) -> jax.Array:
    """Return products of small matrices (..., D, D).

    For small D the products are written as elementwise operations, because matmul on the CPU makes one call for each matrix.
    """
    if a.shape[-1] <= WRITTEN_OUT:
        return (a[..., :, None, :] * jnp.swapaxes(b, -1, -2)[..., None, :, :]).sum(-1)
    return _matmul(a, b)


@jax.custom_jvp
@_one_by_one
def _cholesky(matrices: jax.Array) -> jax.Array:
    """Return lower Cholesky factors, computed by JAX's routine."""
    return jnp.linalg.cholesky(matrices)


@_cholesky.defjvp
def _cholesky_jvp(primals: tuple, tangents: tuple) -> tuple:
    """Return L and dL = L phi(L^-1 dA L^-T), where phi keeps the lower triangle and halves the diagonal.

    Source: Murray (2016), arXiv:1602.07527, eq. 8.
    """
    (tangent,) = tangents
    lower = _cholesky(*primals)
    whitener = _invert_lower(lower)
    symmetric = (tangent + jnp.swapaxes(tangent, -1, -2)) / 2
    inner = _matmul(_matmul(whitener, symmetric), jnp.swapaxes(whitener, -1, -2))
    return lower, _matmul(lower, jnp.tril(inner) - np.eye(lower.shape[-1], dtype=lower.dtype) * inner / 2)


@jax.custom_jvp
def _invert_lower(lower: jax.Array) -> jax.Array:
    """Return the inverses of lower triangular matrices (..., D, D).

    JAX's routine inverts blocks on the diagonal. Pairs of neighbouring blocks are then combined until one block is left:
    the inverse of [[A, 0], [B, C]] is [[A^-1, 0], [-C^-1 B A^-1, C^-1]]. Source: Higham (2002), section 14.2.
    """
    d, batch = lower.shape[-1], lower.shape[:-2]
    count = 1
    while -(-d // count) > _LARGEST_SOLVED:
        count *= 2
    size = -(-d // count)
    padded = jnp.broadcast_to(np.eye(size * count, dtype=lower.dtype), (*batch, size * count, size * count))
    padded = padded.at[..., :d, :d].set(lower)
    inverse = _solve_lower(_blocks(padded, size, np.arange(count), np.arange(count)))
    while count > 1:
        below = _blocks(padded, size, np.arange(1, count, 2), np.arange(0, count, 2))
        first, last = inverse[..., 0::2, :, :], inverse[..., 1::2, :, :]
        left = jnp.concatenate([first, -_matmul(last, _matmul(below, first))], -2)
        inverse = jnp.concatenate([left, jnp.concatenate([jnp.zeros_like(last), last], -2)], -1)
        size, count = 2 * size, count // 2
    return inverse[..., 0, :d, :d]


def _blocks(matrices: jax.Array, size: int, rows: np.ndarray, columns: np.ndarray) -> jax.Array:
    """Return the blocks (..., M, size, size) of matrices, at M places that are given by indices of blocks."""
    *batch, d, _ = matrices.shape
    parts = matrices.reshape(*batch, d // size, size, d // size, size)
    return jnp.moveaxis(parts, -2, -3)[..., rows, columns, :, :]


@_one_by_one
def _solve_lower(lower: jax.Array) -> jax.Array:
    """Return the inverses of lower triangular matrices, computed by JAX's routine."""
    identity = jnp.broadcast_to(np.eye(lower.shape[-1], dtype=lower.dtype), lower.shape)
    return jax.scipy.linalg.solve_triangular(lower, identity, lower=True)


@_invert_lower.defjvp
def _invert_lower_jvp(primals: tuple, tangents: tuple) -> tuple:
    """Return X = L^-1 and dX = -X dL X."""
    inverse = _invert_lower(*primals)
    return inverse, -_matmul(_matmul(inverse, jnp.tril(tangents[0])), inverse)


def is_positive_definite(matrices: ArrayLike) -> bool:
    """Return whether NumPy finds a Cholesky factor of each concrete matrix (..., D, D) in the float type of the matrices."""
    try:
        return bool(np.isfinite(np.linalg.cholesky(np.asarray(matrices))).all())
    except np.linalg.LinAlgError:
        return False
