"""Compute sums over the rows of data in chunks. No other module divides rows into chunks for a sum.

If the rows lie on several devices, each device works through the chunks of its own rows, and the totals are added.

EM, scores, standard errors and the likelihood of the samplers are sums over rows. The caller passes a function of rows and
their weights, which returns the sum over these rows. This module calls it for each chunk and adds the results. In float32 the
addition is compensated (Kahan 1965), so that its order does not affect the accuracy even with ten million rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from .devices.host import on_host
from .devices.processes import is_global, over_parts
from .devices.row_shards import ShardedRows, first_row_of_shards, sum_over_shards
from .validation import is_traced

Total = TypeVar("Total")


class FirstRows(NamedTuple):
    """Weights of padded data for which no weights were given: 1 for the first `num_rows` rows and 0 for the padding after them.

    The weights are computed inside each chunk, which costs less than an array of weights. Programs can rely on all weights
    being 0 or 1.

    Attributes:
        num_rows: (), the number of rows of the data. It is traced, so that data sets of different lengths share a program.
        limit: (), a number that is at least `num_rows`; None stands for `num_rows`. Chunks after the first `limit` rows are
            skipped. If `num_rows` differs between the members of a `vmap`, chunks can be skipped only if all members share
            `limit`.
    """

    num_rows: jax.Array | np.ndarray
    limit: jax.Array | None = None


# (N,), or the weights of padded data, or of rows on several devices, or None for weights of 1
Weight: TypeAlias = jax.Array | FirstRows | ShardedRows | None


def sum_over_rows(
    function: Callable[..., Total], rows: Any, weight: Weight, chunk: int, shared: tuple[object, ...] = ()
) -> Total:
    """Return the sum of function(rows, weights, *shared) over chunks of at most `chunk` rows.

    All chunks have the same size, so that one compiled program serves all of them. The last chunk can therefore overlap the
    chunk before it; its rows in the overlap get weight 0. The data are neither copied nor padded.

    Args:
        function: maps rows, their weights (n,) and `shared` to a pytree of arrays. It must be additive over rows and ignore
            rows of weight 0. It must take all arrays as arguments, because a program on several devices cannot use every array
            of an enclosing function.
        rows: a pytree of arrays (N, ...).
        weight: the weights of the rows. Chunks after the first `num_rows` rows of padded data are skipped.
        chunk: the largest number of rows per chunk, from the module `chunking`.
        shared: the other arguments of the function. They are pytrees of arrays, which are the same for all rows.
    """
    if isinstance(weight, ShardedRows):

        def of_shard(rows: Any, values: jax.Array | None, *shared: object) -> Total:
            return sum_over_rows(function, rows, values, chunk, shared)

        return sum_over_shards(of_shard, weight, (rows, weight.weight), shared)
    leaves = jax.tree.leaves(rows)
    n, dtype = len(leaves[0]), leaves[0].dtype
    if n <= chunk:
        return function(rows, jnp.ones(n, dtype) if weight is None else weight_or_ones(weight, (n,), dtype), *shared)
    values, num_chunks = weight_array(weight), -(-n // chunk)
    chunk = min(chunk, -(-n // num_chunks // 16) * 16)  # nearly equal chunks; multiples of 16 fill the vector registers

    def one_chunk(i: jax.Array) -> Total:
        start = jnp.minimum(i * chunk, n - chunk)
        part = jax.tree.map(lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, start, chunk), rows)
        index = start + jnp.arange(chunk)
        is_new = index >= i * chunk
        if isinstance(weight, FirstRows):
            is_new &= index < weight.num_rows
        if values is None:
            return function(part, is_new.astype(dtype), *shared)
        return function(part, jnp.where(is_new, jax.lax.dynamic_slice_in_dim(values, start, chunk), 0), *shared)

    def step(carry: tuple, i: jax.Array) -> tuple:
        if isinstance(weight, FirstRows):
            limit = weight.num_rows if weight.limit is None else weight.limit
            return jax.lax.cond(i * chunk < limit, add_chunk, lambda carry, _: carry, carry, i), None
        return add_chunk(carry, i), None

    def add_chunk(carry: tuple, i: jax.Array) -> tuple:
        total, error = carry
        return add_compensated(total, error, one_chunk(i))

    shapes = jax.eval_shape(one_chunk, jnp.array(0))
    zero = jax.tree.map(lambda leaf: vary_with(jnp.zeros(leaf.shape, leaf.dtype), leaf), shapes)
    (total, _), _ = jax.lax.scan(step, (zero, error_of(zero, dtype)), jnp.arange(num_chunks))
    return total


def error_of(zero: Total, dtype: DTypeLike) -> Total | None:
    """Return the error with which a compensated sum begins. It is None in float64, where sums are not compensated."""
    return None if dtype == jnp.float64 else zero


def add_compensated(total: Total, error: Total | None, value: Total) -> tuple[Total, Total | None]:
    """Return total + value and the rounding error of this sum, given the rounding error of `total` (Kahan 1965)."""
    if error is None:
        return jax.tree.map(jnp.add, total, value), None
    value = jax.tree.map(jnp.subtract, value, error)
    new = jax.tree.map(jnp.add, total, value)
    return new, jax.tree.map(lambda a, b, c: (a - b) - c, new, total, value)


def has_weights(weight: Weight) -> bool:
    """Return whether there is an array with a weight for each row; otherwise all weights are 1, or 0 for padding."""
    return weight_array(weight) is not None


def weight_array(weight: Weight) -> jax.Array | None:
    """Return the array with a weight for each row, or None if all weights are 1, or 0 for padding."""
    if isinstance(weight, ShardedRows):
        return weight.weight
    return None if isinstance(weight, FirstRows) else weight


def total_weight(weight: Weight, num_rows: int, dtype: DTypeLike) -> jax.Array | np.ndarray:
    """Return the total weight () of data whose arrays have `num_rows` rows; for concrete weights, compile nothing."""
    if isinstance(weight, FirstRows):
        return jnp.asarray(weight.num_rows, dtype)
    weight = weight_array(weight)
    if weight is None:
        return np.asarray(num_rows, dtype)
    if is_global(weight):
        return np.asarray(over_parts(lambda part: part.sum(dtype=float), weight), dtype)
    return weight.sum() if is_traced(weight) else np.asarray(on_host(weight).sum(), dtype)


def weight_or_ones(weight: Weight, shape: tuple[int, ...], dtype: jax.typing.DTypeLike) -> jax.Array:
    """Return the weights of rows as an array; if `weight` is None, return an array of ones with the given shape.

    An optimisation barrier hides from XLA that the ones are constant. Without the barrier, XLA would already evaluate some
    expressions when it compiles, because they depend only on the ones. An example is the index of the first row of positive
    weight. For a million rows, such an evaluation takes seconds to minutes.
    """
    if isinstance(weight, FirstRows):
        return jnp.broadcast_to(jnp.arange(shape[-1]) < weight.num_rows, shape).astype(dtype)
    if isinstance(weight, ShardedRows):
        weight = weight.with_weights(dtype, shape[-1]).weight
    if weight is not None:
        return weight
    ones = jnp.ones(shape, dtype)
    return jax.lax.optimization_barrier(ones) if is_traced(ones) else ones


def with_array(weight: Weight, rows: jax.Array) -> jax.Array | ShardedRows:
    """Return the weights of rows (N, ...) in a form that has an array of weights."""
    if isinstance(weight, ShardedRows):
        return weight.with_weights(rows.dtype, len(rows))
    return weight_or_ones(weight, rows.shape[:1], rows.dtype)


def vary_with(tree: Total, *others: object) -> Total:
    """Mark the arrays of `tree` as varying over each axis of `jax.shard_map` over which an array of `others` varies.

    JAX requires this mark for the initial values of loops. `others` are pytrees of arrays, or of the shapes that
    `jax.eval_shape` returns. Outside `shard_map`, the arrays are returned unchanged.
    """
    axes = frozenset().union(*map(_varying_axes, jax.tree.leaves(others)))

    def cast(leaf: jax.Array) -> jax.Array:
        missing = tuple(axes - _varying_axes(leaf))
        if not missing:
            return leaf
        if hasattr(jax.lax, "pcast"):
            return jax.lax.pcast(leaf, missing, to="varying")
        return getattr(jax.lax, "pvary")(leaf, missing)  # noqa: B009  older releases of JAX use this name

    return jax.tree.map(cast, tree) if axes else tree


def _varying_axes(leaf: jax.Array | jax.ShapeDtypeStruct) -> frozenset:
    """Return the axes of `shard_map` over which an array or a shape varies; releases of JAX store them differently."""
    typed = leaf if isinstance(leaf, jax.ShapeDtypeStruct) else jax.typeof(leaf)
    axes = getattr(typed, "vma", None) or getattr(getattr(typed, "manual_axis_type", None), "varying", None)
    return frozenset(axes or ())


def nonzero(total: jax.Array) -> jax.Array:
    """Return totals with 1 in place of 0, so that they can be divisors."""
    return jnp.where(total > 0, total, 1)


def zero_silenced(rows: jax.Array, weight: jax.Array) -> jax.Array:
    """Return rows (n, D) in which zeros replace each row of weight 0; such a row may contain any values, even NaN."""
    return jnp.where((weight > 0)[:, None], rows, 0)


def first_valid_row(rows: jax.Array, weight: Weight) -> jax.Array:
    """Return the first of the rows (N, D) that has a positive weight, (D,)."""
    if isinstance(weight, ShardedRows):
        return first_row_of_shards(rows, weight)
    values = weight_array(weight)
    return rows[0] if values is None else rows[jnp.argmax(values > 0)]


def repeat_valid_row(rows: jax.Array, weight: Weight) -> jax.Array:
    """Return rows (N, D) in which the first row of positive weight replaces each row of weight 0; all rows are then finite."""
    if weight is None or (isinstance(weight, ShardedRows) and weight.weight is None):
        return rows
    kept = weight_or_ones(weight, rows.shape[:1], rows.dtype) > 0
    return jnp.where(kept[:, None], rows, first_valid_row(rows, weight))
