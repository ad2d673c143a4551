"""Iterate over batches of rows: check each batch, pad it to one shape, and read the next batch while this one is used."""

from __future__ import annotations

import inspect
import os
import zlib
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeAlias, TypeVar

import jax
import numpy as np

from ...chunking import SMALLEST_BATCH, padded_length
from ...devices.host import on_host
from ...incomplete.checks import as_observed_data
from ...incomplete.observations import Observations
from ...padding import as_count, pad_rows
from ...real_numbers import as_numpy
from ...row_sums import FirstRows
from ...validation import as_weighted_data
from ..batch.threads import caller_context

Batches: TypeAlias = "Iterable[Any] | Callable[[], Iterable[Any]]"
Item = TypeVar("Item")
_END = object()
_SAMPLED_ROWS = 64  # number of rows of a batch that enter its fingerprint
_REREAD = "give a list, a function that returns a new iterator, or jaxgmm.read_batches"


class Batch(NamedTuple):
    """One batch of rows, checked and padded.

    Attributes:
        place: the index of the batch among all batches, from 0. Empty batches are counted too.
        x: (n, D), padded.
        weight: the weights of the rows, which are 0 for padding.
        num_rows: the number of rows without the padding.
        num_positive: the number of rows of positive weight. If it is 0, x and weight are None.
        fingerprint: a checksum of some rows, by which batches of other data are recognised.
    """

    place: int
    x: Any
    weight: jax.Array | FirstRows | None
    num_rows: int
    num_positive: int
    fingerprint: int


class Layout:
    """The number of features and the dtype that all batches share, and the length to which batches are padded."""

    def __init__(self, num_features: int | None) -> None:
        """Begin without a dtype and a length: the first batch determines them."""
        self.num_features = num_features
        self.raw_dtype: np.dtype | None = None
        self.dtype: np.dtype | None = None
        self.length = 0

    def batch(self, item: Any, index: int) -> Batch:
        """Return an item of the user's batches as a checked and padded batch; errors name the index of the batch."""
        try:
            return self._batch(item, index)
        except (ValueError, TypeError) as error:
            raise type(error)(f"batch {index}: {error}") from error

    def _batch(self, item: Any, index: int) -> Batch:
        """Return an item of the user's batches as a checked and padded batch."""
        raw, weight = _split(item)
        raw = raw if isinstance(raw, jax.Array) else as_numpy(raw, "x")
        if raw.ndim and len(raw) == 0:
            return Batch(index, None, None, 0, 0, 0)
        if self.raw_dtype not in (None, raw.dtype):
            raise ValueError(f"x has dtype {raw.dtype}, and the batches before it {self.raw_dtype}; one dtype was expected.")
        if raw.ndim == 2 and self.num_features not in (None, raw.shape[1]):
            raise ValueError(f"x has {raw.shape[1]} features; {self.num_features} were expected, as in the other batches.")
        if weight is not None and len(raw) == np.size(weight) and not np.any(np.asarray(weight)):
            return Batch(index, None, None, len(raw), 0, 0)
        x, values = as_weighted_data(raw, weight, num_features=self.num_features)
        self.num_features, self.raw_dtype, self.dtype = x.shape[1], raw.dtype, x.dtype
        n, host = len(x), None if values is None else np.asarray(values)
        mark = _fingerprint(np.asarray(on_host(x)), host)
        self.length = max(self.length, padded_length(max(n, SMALLEST_BATCH)))
        padded = pad_rows(x, length=self.length)
        if host is None:
            return Batch(index, padded, FirstRows(as_count(n)), n, n, mark)
        positive = int((host > 0).sum())
        return Batch(index, padded, pad_rows(host, with_zeros=True, length=self.length), n, positive, mark)


class Source:
    """The user's batches, which are iterated over once for each pass over the data.

    Args:
        batches: a list, another object that can be iterated again, or a function that returns an iterator.
        layout: the shape and the dtype of the batches.
        num_passes: the smallest number of passes that will be made.

    Raises:
        TypeError: the batches can be iterated over only once, or are not batches.
    """

    def __init__(self, batches: Batches, layout: Layout, num_passes: int = 1) -> None:
        """Check the batches, but read none of them."""
        if isinstance(batches, str | os.PathLike):
            raise TypeError("batches is the name of a file; give jaxgmm.read_batches(name, rows).")
        if hasattr(batches, "shape") or hasattr(batches, "columns") or isinstance(batches, Observations):
            kind = type(batches).__name__
            raise TypeError(f"batches is one {kind}; a list of batches was expected, or jaxgmm.read_batches(array, rows).")
        if not callable(batches) and not isinstance(batches, Iterable):
            raise TypeError(f"batches is {type(batches).__name__}; batches that can be iterated over were expected: {_REREAD}.")
        self.layout = layout
        self._batches = batches
        self._opened: list[Iterator[Any]] = []
        self._last: object = None
        first = self._open()
        if first is batches and num_passes > 1:
            what = "a generator" if inspect.isgenerator(batches) else f"{type(batches).__name__}, an iterator"
            raise TypeError(f"batches is {what}, which can be read only once; EM reads the data several times: {_REREAD}.")
        # a function may return the same iterator at each call; this is found before the first pass begins
        self._opened = [first, self._open()] if callable(batches) and num_passes > 1 else [first]

    def _open(self) -> Iterator[Any]:
        """Return a new iterator over the batches; raise TypeError if it is the same one as before."""
        opened = self._batches() if callable(self._batches) else self._batches
        if not isinstance(opened, Iterable):
            raise TypeError(f"batches() is {type(opened).__name__}; an iterator over batches was expected.")
        iterator = iter(opened)
        if iterator is self._last:
            raise TypeError(f"batches gives the same iterator twice, but the data are read several times: {_REREAD}.")
        self._last = iterator
        return iterator

    def read(self) -> Generator[Batch, None, None]:
        """Yield all batches once, those without rows too; the next batch is read while the caller uses this one."""
        iterator = self._opened.pop(0) if self._opened else self._open()
        return _read_ahead(self.layout.batch(item, index) for index, item in enumerate(iterator))


def _split(item: Any) -> tuple[Any, Any]:
    """Return the rows of an item and their weights or None."""
    if isinstance(item, Observations):
        rows, weight = as_observed_data(item, None, None)
        if isinstance(rows, Observations):
            raise TypeError(
                "it has missing values, noise or labels, which batches cannot have; give complete rows, or use jaxgmm.fit."
            )
        return rows, weight
    if not isinstance(item, tuple):
        return item, None
    if len(item) != 2:
        raise ValueError(f"it is a tuple of {len(item)} entries; rows, or the pair (rows, weights), were expected.")
    return item[0], item[1]


def _fingerprint(x: np.ndarray, weight: np.ndarray | None) -> int:
    """Return a checksum of the shape and of some rows of a batch, and of their weights."""
    step = -(-len(x) // _SAMPLED_ROWS)
    mark = zlib.crc32(np.ascontiguousarray(x[::step]).tobytes(), zlib.crc32(repr(x.shape).encode()))
    return mark if weight is None else zlib.crc32(np.ascontiguousarray(weight[::step]).tobytes(), mark)


def _read_ahead(items: Iterator[Item]) -> Generator[Item, None, None]:
    """Yield the items of an iterator; a thread computes the next item while the caller uses this one."""
    context = caller_context()

    def advance() -> Any:
        with context():
            return next(items, _END)

    with ThreadPoolExecutor(1) as pool:
        ahead = pool.submit(advance)
        while (item := ahead.result()) is not _END:
            ahead = pool.submit(advance)
            yield item
