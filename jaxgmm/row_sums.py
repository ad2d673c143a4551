"""Sums over the rows of data: the one place where rows are cut into chunks.

Whatever touches rows (EM, scores, standard errors, the samplers' likelihood) is a function of a chunk of rows and their
weights whose results add. Sums in float32 are compensated (Kahan 1965), so that ten million rows lose nothing to the order
of summation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def sum_over_rows(function: Callable, rows: Any, weight: jax.Array | None, chunk: int) -> Any:
    """Return the sum of function(rows of a chunk, their weights) over chunks of at most `chunk` rows.

    Chunks have one size, so that one program serves all: the last one overlaps the one before it, and rows in the overlap get
    weight 0. Nothing is copied or padded.

    Args:
        function: (rows, weight (n,)) -> a pytree of arrays, which must be additive over rows and ignore rows of weight 0.
        rows: a pytree of arrays (N, ...).
        weight: (N,), or None for all ones.
        chunk: rows per chunk, as from `chunking`.
    """
    leaves = jax.tree.leaves(rows)
    n, dtype = len(leaves[0]), leaves[0].dtype
    if n <= chunk:
        return function(rows, jnp.ones(n, dtype) if weight is None else weight)
    num_chunks = -(-n // chunk)
    chunk = min(chunk, -(-n // num_chunks // 16) * 16)  # chunks of nearly equal size, in whole vector registers

    def one_chunk(i: jax.Array) -> Any:
        start = jnp.minimum(i * chunk, n - chunk)
        part = jax.tree.map(lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, start, chunk), rows)
        is_new = start + jnp.arange(chunk) >= i * chunk
        if weight is None:
            return function(part, is_new.astype(dtype))
        return function(part, jnp.where(is_new, jax.lax.dynamic_slice_in_dim(weight, start, chunk), 0))

    def step(carry: tuple, i: jax.Array) -> tuple:
        total, error = carry
        if dtype == jnp.float64:
            return (jax.tree.map(jnp.add, total, one_chunk(i)), error), None
        value = jax.tree.map(jnp.subtract, one_chunk(i), error)
        new = jax.tree.map(jnp.add, total, value)
        return (new, jax.tree.map(lambda a, b, c: (a - b) - c, new, total, value)), None

    zero = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(one_chunk, jnp.array(0)))
    (total, _), _ = jax.lax.scan(step, (zero, None if dtype == jnp.float64 else zero), jnp.arange(num_chunks))
    return total


def nonzero(total: jax.Array) -> jax.Array:
    """Return totals that can be divided by: 1 where a total is 0."""
    return jnp.where(total > 0, total, 1)


def zero_silenced(rows: jax.Array, weight: jax.Array) -> jax.Array:
    """Return rows (n, D) with those of weight 0 replaced by zeros: they may hold anything, NaN included."""
    return jnp.where((weight > 0)[:, None], rows, 0)


def repeat_valid_row(rows: jax.Array, weight: jax.Array | None) -> jax.Array:
    """Return rows (N, D) with those of weight 0 replaced by the first row of positive weight, so that they are finite."""
    return rows if weight is None else jnp.where((weight > 0)[:, None], rows, rows[jnp.argmax(weight > 0)])
