"""Iterate over batches of rows: check each batch, pad it to one shape, and read the next batch while this one is used."""

from __future__ import annotations

import inspect
import os
import zlib
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from functools import partial
from itertools import chain
from typing import Any, NamedTuple, TypeAlias, TypeVar

import jax
import numpy as np

from ...chunking import SMALLEST_BATCH, padded_length
from ...incomplete.checks import as_observed_data, check_match
from ...incomplete.forms import Form, form_of, in_form, joint_form, named_arrays
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
        x: (n, D), or observations without weights; padded.
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
    """What all batches share: the number of features, the dtype, whether they are observations, and the padded length.

    Args:
        num_features: D, or None if any number is accepted.
        components: K and the covariance type, with which labels and limits must agree; None if any are accepted.
    """

    def __init__(self, num_features: int | None, components: tuple[int, str] | None = None) -> None:
        """Begin without a dtype and a length: the first batch determines them."""
        self.num_features, self.components = num_features, components
        self.raw_dtype: np.dtype | None = None
        self.are_observed: bool | None = None
        self.length = 0
        self.form = Form()  # the form of all observations so far

    def batch(self, item: Any, index: int) -> Batch:
        """Return an item of the user's batches as a checked and padded batch; errors name the index of the batch."""
        try:
            return self._batch(item, index)
        except (ValueError, TypeError) as error:
            raise type(error)(f"batch {index}: {error}") from error

    def _batch(self, item: Any, index: int) -> Batch:
        """Return an item of the user's batches as a checked and padded batch."""
        raw, weight = _split(item)
        if not isinstance(raw, Observations | jax.Array):
            raw = as_numpy(raw, "x")
        if raw.ndim and len(raw) == 0:
            return Batch(index, None, None, 0, 0, 0)
        self._check(raw)
        if weight is not None and len(raw) == np.size(weight) and not np.any(np.asarray(weight)):
            return Batch(index, None, None, len(raw), 0, 0)
        if isinstance(raw, Observations):
            x, values = self._observed(raw), weight
        else:
            x, values = as_weighted_data(raw, weight, num_features=self.num_features)
        self.num_features, self.raw_dtype = x.shape[1], raw.dtype
        n, host = len(x), None if values is None else np.asarray(values)
        given = raw if isinstance(raw, Observations) else x  # the form of observations depends on the batches before
        mark = _fingerprint([*named_arrays(given).values(), *([] if host is None else [host])])
        self.length = max(self.length, padded_length(max(n, SMALLEST_BATCH)))
        padded = jax.tree.map(partial(pad_rows, length=self.length), x)
        if host is None:
            return Batch(index, padded, FirstRows(as_count(n)), n, n, mark)
        positive = int((host > 0).sum())
        return Batch(index, padded, pad_rows(host, with_zeros=True, length=self.length), n, positive, mark)

    def _check(self, raw: Any) -> None:
        """Raise ValueError if the rows of a batch are not of the kind, the dtype and the width of those before it."""
        is_observed = isinstance(raw, Observations)
        if self.are_observed not in (None, is_observed):
            kinds = ("an array", "Observations")
            raise ValueError(
                f"x is {kinds[is_observed]}, and the batches before it are {kinds[not is_observed]}; one kind was expected: "
                "give all batches as jaxgmm.observations."
            )
        self.are_observed = is_observed
        if self.raw_dtype not in (None, raw.dtype):
            raise ValueError(f"x has dtype {raw.dtype}, and the batches before it {self.raw_dtype}; one dtype was expected.")
        if raw.ndim == 2 and self.num_features not in (None, raw.shape[1]):
            raise ValueError(f"x has {raw.shape[1]} features; {self.num_features} were expected, as in the other batches.")

    def _observed(self, rows: Observations) -> Observations:
        """Return observations without weights in the form that all batches so far share."""
        if self.components is not None:
            check_match(rows, *self.components)
        self.form = joint_form(self.form, form_of(rows))
        return in_form(rows, self.form)


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
        # One thread reads in all passes. With a new thread for each pass, memory grew from pass to pass, because malloc gives
        # each thread an arena of its own, and keeps the memory that the thread has freed in this arena.
        self._reader = ThreadPoolExecutor(1)
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

    def kind(self) -> int:
        """Return 2 if the first batch with rows is Observations, 1 if it is anything else, and 0 if no batch has rows.

        The batches that this reads are not read again by the first pass.
        """
        iterator, seen, found = self._opened[0], [], 0
        for item in iterator:
            seen.append(item)
            if found := _kind(item):
                break
        self._opened[0] = chain(seen, iterator)
        return found

    def read(self) -> Generator[Batch, None, None]:
        """Yield all batches once, those without rows too; the next batch is read while the caller uses this one."""
        iterator = self._opened.pop(0) if self._opened else self._open()
        return _read_ahead((self.layout.batch(item, index) for index, item in enumerate(iterator)), self._reader)


def _split(item: Any) -> tuple[Any, Any]:
    """Return the rows of an item and their weights or None."""
    if isinstance(item, Observations):
        return item, item.weight
    if not isinstance(item, tuple):
        return item, None
    if len(item) != 2:
        raise ValueError(f"it is a tuple of {len(item)} entries; rows, or the pair (rows, weights), were expected.")
    if isinstance(item[0], Observations):
        return as_observed_data(*item, None)
    return item[0], item[1]


def _kind(item: Any) -> int:
    """Return 0 if an item of the user's batches has no rows, 2 if it is Observations, and 1 if it is anything else."""
    rows = item[0] if isinstance(item, tuple) and item else item
    num_rows = getattr(rows, "num_rows", None)  # tables of Arrow have this attribute
    if num_rows == 0 or (num_rows is None and hasattr(rows, "__len__") and len(rows) == 0):
        return 0
    return 2 if isinstance(rows, Observations) else 1


def _fingerprint(arrays: list[np.ndarray]) -> int:
    """Return a checksum of the shape of the first array, and of some rows of all arrays."""
    step, mark = -(-len(arrays[0]) // _SAMPLED_ROWS), zlib.crc32(repr(arrays[0].shape).encode())
    for array in arrays:
        mark = zlib.crc32(np.ascontiguousarray(array[::step]).tobytes(), mark)
    return mark


def _read_ahead(items: Iterator[Item], reader: ThreadPoolExecutor) -> Generator[Item, None, None]:
    """Yield the items of an iterator; the thread of `reader` computes the next item while the caller uses this one."""
    context = caller_context()

    def advance() -> Any:
        with context():
            return next(items, _END)

    ahead = reader.submit(advance)
    try:
        while (item := ahead.result()) is not _END:
            ahead = reader.submit(advance)
            yield item
    finally:  # if the caller reads no further, the iterator must not be in use any more
        wait([ahead])
