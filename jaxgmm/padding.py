"""Pad data to a few lengths, so that calls with data of many lengths share compiled programs.

A program is compiled for each shape of its arguments. This takes seconds, and a process can hold only a few hundred programs.
Before public functions call a compiled function, they therefore pad concrete data to the next of a few lengths
(`chunking.padded_length`). If a result has one entry per row, they cut it to the length of the data afterwards. Rows of padding
have weight 0, so they do not change the results. The random number of a row depends only on the index of the row, so padding
does not change the random numbers of the data.

Padding happens on the host, because a device would compile a program for each length. Traced data, data on several devices and
long data sets are left as they are. If the rows are divided among devices, the weights say so: see `row_shards`.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np
from jax.core import Tracer

from . import chunking
from .devices.row_shards import row_axes, shard_weight
from .incomplete.observations import Observations
from .row_sums import FirstRows, Weight
from .validation import is_traced

Result = TypeVar("Result")


class Padded(NamedTuple):
    """Data x (N, D), or observations, after padding, with the weights of the rows."""

    x: Any
    weight: Weight


def pad_data(x: Any, weight: Any, *others: object) -> Padded:
    """Return data (N, D) or a stack (B, N, D), and weights (N,), (B, N) or None, padded to one of a few lengths.

    The data may also be observations without weights.

    `others` are the other arguments of the function that receives the padded data. If any argument is traced, the data are
    not padded. Data (N, D) whose rows are divided among devices are not padded either; their weights become `ShardedRows`.
    """
    num_rows = x.shape[-2]
    if isinstance(x, Observations):
        padded = pad_data(x.x, weight, x, *others)
        return Padded(x if padded.x is x.x else x.map_rows(pad_rows), padded.weight)
    if x.ndim == 2 and np.ndim(weight) < 2 and row_axes(x):
        return Padded(x, shard_weight(weight, x))
    if num_rows > chunking.LARGEST_PADDED or not can_pad(x, weight, *others):
        return Padded(x, weight)
    if weight is None:
        return Padded(pad_rows(x, -2), FirstRows(as_count(num_rows)))
    return Padded(pad_rows(x, -2), pad_rows(weight, -1, with_zeros=True))


def as_count(number: int) -> np.ndarray:
    """Return a number of rows as an argument of compiled functions, in the integer type of JAX's own indices."""
    return np.asarray(number, jax.dtypes.canonicalize_dtype(int))


def can_pad(*arrays: object) -> bool:
    """Return whether arrays are concrete and each is in the memory of one device, or of the host."""
    for leaf in jax.tree.leaves(arrays):
        if isinstance(leaf, Tracer):
            return False
        if isinstance(leaf, jax.Array) and not (len(leaf.sharding.device_set) == 1 and leaf.is_fully_addressable):
            return False
    return True


def pad_rows(array: jax.Array | np.ndarray, axis: int = 0, *, with_zeros: bool = False, length: int | None = None) -> Any:
    """Return a concrete array that is padded along the axis of rows, on the device of the array.

    It is padded to `length` rows. If this is None, it is padded to the next of a few lengths (`chunking.padded_length`).

    The padding repeats the last row. Arithmetic with the padding can therefore overflow only if arithmetic with the last row
    overflows, too. If there are no rows, or if `with_zeros` is True, the padding consists of zeros.
    """
    axis %= array.ndim
    num_rows = array.shape[axis]
    length = chunking.padded_length(num_rows) if length is None else length
    if length == num_rows:
        return array
    before, values = (slice(None),) * axis, np.asarray(array)
    padded = np.zeros((*array.shape[:axis], length, *array.shape[axis + 1 :]), array.dtype)
    padded[(*before, slice(num_rows))] = values
    if num_rows and not with_zeros:
        padded[(*before, slice(num_rows, None))] = values[(*before, slice(num_rows - 1, None))]
    if isinstance(array, jax.Array) and array.committed:
        return jax.device_put(padded, array.sharding)
    return padded


def cut(results: Result, num_rows: int, axis: int = 0) -> Result:
    """Return results without the entries of padding: only the first `num_rows` entries along the axis of rows."""

    def one(leaf: jax.Array) -> jax.Array:
        if leaf.shape[axis] == num_rows:
            return leaf
        index = (slice(None),) * (axis % leaf.ndim) + (slice(num_rows),)
        if is_traced(leaf):
            return leaf[index]
        return jax.device_put(np.ascontiguousarray(np.asarray(leaf)[index]), leaf.sharding if leaf.committed else None)

    return jax.tree.map(one, results)
