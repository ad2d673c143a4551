"""Work with rows that lie on several devices, so that each device uses only its own rows.

A `ShardedRows` takes the place of the weights of the data. It tells compiled programs how the rows are divided among devices.
Each function here runs a program on every device, with the rows of this device, and then adds small arrays over the devices.
No array with one entry for each row moves between devices.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from .processes import is_global

Total = TypeVar("Total")


@partial(jax.tree_util.register_dataclass, data_fields=["weight"], meta_fields=["mesh", "axes"])
@dataclass(frozen=True, eq=False)
class ShardedRows:
    """The weights of rows that are divided among devices, and the devices on which the rows lie.

    Attributes:
        weight: (N,), or None for weights of 1.
        mesh: the devices. None of its axes is Explicit.
        axes: the names of the axes of the mesh over which the rows are divided.
    """

    weight: jax.Array | None
    mesh: Mesh
    axes: tuple[str, ...]

    @property
    def sharding(self) -> NamedSharding:
        """The sharding of an array with one entry for each row."""
        return NamedSharding(self.mesh, PartitionSpec(self.axes))

    def with_weights(self, dtype: jax.typing.DTypeLike, num_rows: int) -> ShardedRows:
        """Return the same rows with an array of weights.

        The optimisation barrier has the same reason as that in `row_sums.weight_or_ones`.
        """
        if self.weight is not None:
            return self
        ones = jax.lax.with_sharding_constraint(jnp.ones(num_rows, dtype), self.sharding)
        return dataclasses.replace(self, weight=jax.lax.optimization_barrier(ones) if isinstance(ones, Tracer) else ones)


def row_axes(x: object) -> tuple[str, ...]:
    """Return the names of the axes over which the rows of a concrete array are divided; () if one device has all rows."""
    if not isinstance(x, jax.Array) or isinstance(x, Tracer) or not isinstance(x.sharding, NamedSharding):
        return ()
    return _names_of_axis(x.sharding, 0)


def feature_axes(x: jax.Array) -> tuple[str, ...]:
    """Return the names of the axes over which the columns of a concrete array (N, D) are divided."""
    return _names_of_axis(x.sharding, 1) if isinstance(x.sharding, NamedSharding) else ()


def _names_of_axis(sharding: NamedSharding, axis: int) -> tuple[str, ...]:
    """Return the names of the axes of the mesh that divide an axis of an array among several devices."""
    names = sharding.spec[axis] if len(sharding.spec) > axis else None
    names = names if isinstance(names, tuple) else () if names is None else (names,)
    return tuple(name for name in names if sharding.mesh.shape[name] > 1)


def shard_weight(weight: Any, x: jax.Array) -> ShardedRows:
    """Return the weights (N,), or None, of data whose rows lie on several devices; each device gets the weights of its rows."""
    assert isinstance(x.sharding, NamedSharding)
    assert isinstance(x.sharding.mesh, Mesh)
    rows = ShardedRows(None, x.sharding.mesh, row_axes(x))
    if weight is None:
        return rows
    return dataclasses.replace(rows, weight=weight if isinstance(weight, Tracer) else place_rows(weight, x))


def place_rows(array: jax.Array | np.ndarray, x: jax.Array) -> jax.Array:
    """Return a concrete array with one entry for each row of x, on the devices that hold the rows."""
    assert isinstance(x.sharding, NamedSharding)
    rows = NamedSharding(x.sharding.mesh, PartitionSpec(row_axes(x)))
    if x.is_fully_addressable or is_global(array):
        return jax.device_put(array, rows)
    whole = np.asarray(array)  # every process holds all entries and copies those of its own rows
    return jax.make_array_from_callback(whole.shape, rows, lambda index: whole[index])


def sum_over_shards(
    function: Callable[..., Total], rows: ShardedRows, by_row: tuple[Any, ...], shared: tuple[Any, ...] = ()
) -> Total:
    """Return the sum over devices of function(*by_row, *shared).

    Each device uses its part of the rows of the arrays `by_row`. The function must take all arrays as arguments.
    """

    def of_shard(*arguments: Any) -> Total:
        return jax.lax.psum(function(*arguments), rows.axes)

    specs = (PartitionSpec(rows.axes),) * len(by_row) + (PartitionSpec(),) * len(shared)
    mapped = jax.shard_map(of_shard, mesh=rows.mesh, in_specs=specs, out_specs=PartitionSpec())
    return mapped(*by_row, *shared)


def map_over_shards(
    function: Callable[..., jax.Array], rows: ShardedRows, x: jax.Array, row_axis: int, shared: tuple[Any, ...]
) -> jax.Array:
    """Return function(x, *shared). Each device computes the entries of its rows; `row_axis` is the axis of the rows."""
    names: list[Any] = [None] * len(jax.eval_shape(function, x, *shared).shape)
    names[row_axis] = rows.axes
    specs = (PartitionSpec(rows.axes),) + (PartitionSpec(),) * len(shared)
    return jax.shard_map(function, mesh=rows.mesh, in_specs=specs, out_specs=PartitionSpec(*names))(x, *shared)


def first_row_of_shards(x: jax.Array, rows: ShardedRows) -> jax.Array:
    """Return the first row (D,) of positive weight, or zeros if all weights are 0."""

    def of_shard(x: jax.Array, weight: jax.Array | None) -> jax.Array:
        shard, count = jax.lax.axis_index(rows.axes), _num_shards(rows)
        if weight is None:
            return jnp.where(shard == 0, x[0], 0)
        first = jax.lax.pmin(jnp.where((weight > 0).any(), shard, count), rows.axes)
        return jnp.where(shard == first, x[jnp.argmax(weight > 0)], 0)

    return sum_over_shards(of_shard, rows, (x, rows.weight))


def cumulative_sums(values: jax.Array, rows: ShardedRows | None) -> tuple[jax.Array, jax.Array]:
    """Return the cumulative sums (N,) of values >= 0 with one entry for each row, and the last of them, ()."""
    if rows is None:
        sums = jnp.cumsum(values)
        return sums, sums[-1]
    by_row, num_shards = PartitionSpec(rows.axes), _num_shards(rows)

    def of_shard(values: jax.Array) -> tuple[jax.Array, jax.Array]:
        own, shard = jnp.cumsum(values), jax.lax.axis_index(rows.axes)  # if the values are booleans, these sums are counts
        totals = jax.lax.psum(jnp.where(jnp.arange(num_shards) == shard, own[-1], 0), rows.axes)
        # the totals are added one after another, so that the sums do not fall where the rows of the next device begin
        before = jax.lax.scan(lambda sum_, total: (sum_ + total, sum_), jnp.zeros_like(totals[0]), totals)[1]
        sums = before[shard] + own
        return sums, jax.lax.pmax(sums[-1], rows.axes)

    specs = (by_row, PartitionSpec())
    return jax.shard_map(of_shard, mesh=rows.mesh, in_specs=by_row, out_specs=specs)(values)


def search_sums(sums: jax.Array, values: jax.Array, rows: ShardedRows | None, side: str = "left") -> jax.Array:
    """Return `jnp.searchsorted` of values (M,) in ascending sums (N,) with one entry for each row."""
    if rows is None:
        return jnp.searchsorted(sums, values, side=side)
    copies = jnp.broadcast_to(values, (_num_shards(rows), *values.shape))  # each device has its own copy
    return sum_over_shards(lambda part, copy: jnp.searchsorted(part, copy[0], side=side), rows, (sums, copies))


def take_rows(array: jax.Array, index: jax.Array, rows: ShardedRows | None) -> jax.Array:
    """Return the entries `index` (M,) of an array (N, ...) with one entry for each row."""
    if rows is None:
        return array[index]

    def of_shard(part: jax.Array, index: jax.Array) -> jax.Array:
        place = index - len(part) * jax.lax.axis_index(rows.axes)
        is_own = (place >= 0) & (place < len(part))
        taken = part[jnp.where(is_own, place, 0)]
        return jnp.where(is_own.reshape(-1, *[1] * (taken.ndim - 1)), taken, 0)

    return sum_over_shards(of_shard, rows, (array,), (index,))


def _num_shards(rows: ShardedRows) -> int:
    """Return the number of parts into which the rows are divided."""
    return math.prod(rows.mesh.shape[name] for name in rows.axes)
