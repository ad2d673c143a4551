"""Divide data sets into batches for compiled programs, and pad the data sets of a batch to the same number of rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import jax
import numpy as np
from jax.typing import DTypeLike

from ...chunking import batch_of_fits, bucket_lengths, padded_length
from ...devices.host import on_host, to_device
from ...incomplete.observations import Observations
from ...padding import pad_data
from ...row_sums import Weight
from ...validation import is_traced
from ..incomplete_sums import Blocks
from .observation_sets import stack_observations

Array = np.ndarray | jax.Array


class Batch(NamedTuple):
    """Data sets that one call of a compiled program fits.

    Attributes:
        members: (n,), the indices of the data sets in ascending order.
        length: the number of rows that each data set is padded to.
        size: the number of data sets that the program is compiled for, at least n. Copies of the last member fill the batch;
            their results are discarded.
        width: the number of data sets that the program advances at the same time.
    """

    members: np.ndarray
    length: int
    size: int
    width: int

    @property
    def slots(self) -> np.ndarray:
        """The indices (size,) of the data sets in the batch; copies of the last member come at the end."""
        return np.concatenate([self.members, np.full(self.size - len(self.members), self.members[-1])])

    def take(self, stack: Array) -> Array:
        """Return the entries (size, ...) of this batch from a stack (B, ...); the entries are copied only if necessary."""
        first, last = self.members[0], self.members[-1]
        if len(self.members) == self.size == len(stack):
            return stack
        if isinstance(stack, np.ndarray) and len(self.members) == self.size == last - first + 1:
            return stack[first : last + 1]
        if isinstance(stack, jax.Array) and not is_traced(stack) and not stack.committed:
            stack = on_host(stack)  # NumPy needs no compilation
        return stack[self.slots]


@dataclass(frozen=True, eq=False)
class DataSets:
    """B data sets with valid shapes. Their values are not validated, because the status of a fit reports invalid values.

    Attributes:
        x: the data: B arrays (N_b, D) on the host, one array (B, N, D), or one array (N, D) that all fits share; or B sets of
            observations on the host, with weights and with the same fields, or observations (N, D) that all fits share.
        weight: the weights: B arrays (N_b,) on the host, one array (B, N), weights that all fits share, or None.
        size: B, the number of data sets. If all fits share one data set, B is the number of fits.
        dtype: the float dtype of the fits.
        blocks: observations (N, D) that all fits share, grouped by their missing values, with the weights of all fits; None if
            each row is treated alone.
    """

    x: list[np.ndarray] | list[Observations] | Array | Observations
    weight: list[np.ndarray] | np.ndarray | Weight
    size: int
    dtype: DTypeLike
    blocks: Blocks | None = None

    @property
    def num_features(self) -> int:
        """The number of features D."""
        return (self.x[0] if isinstance(self.x, list) else self.x).shape[-1]

    def batches(self) -> Iterator[Batch]:
        """Yield the batches of data sets; batches with the shortest padded length come first.

        If the data sets come as a list and differ in length, the number of rows of each data set is padded to one of a few
        powers of two (`chunking.bucket_lengths`).
        """
        for length, members in self._buckets():
            size, width = batch_of_fits(len(members), length)
            for start in range(0, len(members), size):
                yield Batch(members[start : start + size], length, size, width)

    def _buckets(self) -> Iterator[tuple[int, np.ndarray]]:
        """Yield the padded length of each bucket, and the indices of the data sets in this bucket."""
        if not isinstance(self.x, list):
            yield padded_length(self.x.shape[-2]), np.arange(self.size)
            return
        lengths = np.array([max(len(one), 1) for one in self.x])  # a data set without rows becomes one row of padding
        padded = np.full(self.size, padded_length(lengths.max())) if (lengths == lengths[0]).all() else bucket_lengths(lengths)
        # data sets with labels are in buckets of their own, because their starts are computed in another way
        has_labels = np.array([isinstance(one, Observations) and one.allowed is not None for one in self.x])
        for length, labelled in np.unique(np.stack([padded, has_labels], 1), axis=0):
            yield int(length), np.flatnonzero((padded == length) & (has_labels == labelled))

    def arrays(self, batch: Batch) -> tuple[jax.Array | Observations, Weight]:
        """Return the data (size, N, D) and weights (size, N) of a batch; arrays that all fits share have no leading axis.

        Rows that pad a shorter data set have weight 0. If the data have no weights, the second result may be None or
        `FirstRows`.
        """
        if isinstance(self.x, Observations):
            weight = batch.take(self.weight) if isinstance(self.weight, Array) and self.weight.ndim == 2 else self.weight
            assert not isinstance(weight, list)
            return self.x, on_device(weight, self.dtype) if isinstance(weight, Array) else weight
        if isinstance(self.x, list) and isinstance(self.x[0], Observations):
            members = [one for b in batch.slots if isinstance(one := self.x[b], Observations)]
            return stack_observations(members, batch.length, self.dtype)
        if isinstance(self.x, list):
            x, weight = self._padded([np.asarray(x) for x in self.x], batch)
        else:
            assert not isinstance(self.weight, list)
            x = batch.take(self.x) if self.x.ndim == 3 else self.x
            weight = self.weight
            if isinstance(weight, Array) and weight.ndim == 2:
                weight = batch.take(weight)
            if x.ndim == 3:
                x, weight = pad_data(x, weight)
        return on_device(x, self.dtype), on_device(weight, self.dtype) if isinstance(weight, Array) else weight

    def blocks_of(self, batch: Batch) -> Blocks | None:
        """Return the blocks with the weights of the fits in a batch, or None if there are no blocks."""
        if self.blocks is None or self.blocks.weight.ndim == 2:
            return self.blocks
        return self.blocks._replace(weight=batch.take(self.blocks.weight))

    def _padded(self, x: list[np.ndarray], batch: Batch) -> tuple[np.ndarray, np.ndarray]:
        """Return the zero-padded data (size, N, D) and the weights (size, N) of a batch of data sets that came as a list."""
        padded = np.zeros((batch.size, batch.length, self.num_features), self.dtype)
        weight = np.zeros((batch.size, batch.length), self.dtype)
        with np.errstate(over="ignore"):
            for slot, b in enumerate(batch.slots):
                padded[slot, : len(x[b])] = x[b]
                weight[slot, : len(x[b])] = self.weight[b] if isinstance(self.weight, list) else 1
        return padded, weight


def on_device(array: Array, dtype: DTypeLike) -> jax.Array:
    """Return an array on the device in the given dtype; values that are too large for the dtype become infinite."""
    if isinstance(array, jax.Array):
        return array.astype(dtype)
    with np.errstate(over="ignore"):
        return to_device(array, dtype)
