"""Many data sets at the door: lists, stacks and groups of rows, and the blocks of equal shape that programs take."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ...chunking import bucket_lengths
from ...validation import as_numpy


@dataclass(frozen=True, eq=False)
class DataSets:
    """B data sets on the host, not looked into.

    x: B arrays (N_b, D), or (B, N, D), or the one (N, D) that all share. weight: B arrays (N_b,), or (B, N), or None.
    """

    x: Sequence[np.ndarray] | np.ndarray
    weight: Sequence[np.ndarray] | np.ndarray | None
    size: int
    dtype: Any

    @property
    def shared(self) -> bool:
        """One x for all, with weights of each."""
        return isinstance(self.x, np.ndarray) and self.x.ndim == 2

    @property
    def num_features(self) -> int:
        """D."""
        return self.x[0].shape[-1]

    def buckets(self) -> Iterator[tuple[int, np.ndarray]]:
        """Lengths N to pad to, and whose data sets: those of (B, N, D) as they are, others to powers of two."""
        if isinstance(self.x, np.ndarray):
            yield self.x.shape[-2], np.arange(self.size)
            return
        lengths = np.array([len(one) for one in self.x])
        padded = np.full(self.size, lengths.max()) if (lengths == lengths[0]).all() else bucket_lengths(lengths)
        for length in np.unique(padded):
            yield int(length), np.flatnonzero(padded == length)

    def block(self, whose: np.ndarray, length: int, size: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Data (size, length, D), or the shared (N, D), and weights (size, length) or None; what is padding has weight 0."""
        whole = len(whose) == size and isinstance(self.x, np.ndarray)
        weight = None
        if self.weight is not None or not isinstance(self.x, np.ndarray):
            weight = np.zeros((size, length), self.dtype)
            for i, b in enumerate(whose):
                weight[i, : len(self.x[b]) if not self.shared else length] = 1 if self.weight is None else self.weight[b]
        if self.shared:
            return _cast(self.x, self.dtype), weight
        if whole:
            return _cast(self.x[whose[0] : whose[-1] + 1], self.dtype), weight
        x = np.zeros((size, length, self.num_features), self.dtype)
        with np.errstate(over="ignore"):
            for i, b in enumerate(whose):
                x[i, : len(self.x[b])] = self.x[b]
        return x, weight


def as_data_sets(xs: Any, groups: Any, sample_weight: Any, num_starts: int | None) -> DataSets:
    """Data sets in any of the forms that `fit_many` takes. num_starts: how many share one (N, D), if there are starts."""
    if isinstance(xs, list | tuple):
        if groups is not None:
            raise ValueError("groups go with one long array (N, D); xs is a list, which has its groups already.")
        arrays = [_numbers(x, f"xs[{b}]", 2) for b, x in enumerate(xs)]
        weights = None if sample_weight is None else [_numbers(w, "sample_weight", 1) for w in sample_weight]
        return _check(arrays, weights, len(arrays))
    x = _numbers(xs, "xs", None)
    if x.ndim not in (2, 3) or (groups is not None and x.ndim != 2):
        expected = "(N, D) to go with groups" if groups is not None else "(B, N, D), or a list of (N_b, D),"
        raise ValueError(f"xs has shape {x.shape}; {expected} was expected.")
    weight = None if sample_weight is None else _numbers(sample_weight, "sample_weight", None)
    if groups is not None:
        return _split(x, groups, weight)
    if x.ndim == 3:
        return _check(x, weight, len(x))
    if weight is not None and weight.ndim == 2:
        return _check(x, weight, len(weight))
    if num_starts is None:
        raise ValueError(f"xs has shape {x.shape}: one data set; (B, N, D) or a list was expected, or see fit_restarts.")
    weight = None if weight is None else np.broadcast_to(weight, (num_starts, *weight.shape))
    return _check(x, weight, num_starts)


def _numbers(value: Any, name: str, ndim: int | None) -> np.ndarray:
    array = as_numpy(value, name)
    if ndim is not None and array.ndim != ndim:
        raise ValueError(f"{name} has shape {array.shape}; {'(N, D)' if ndim == 2 else '(N,)'} was expected.")
    return array


def _split(x: np.ndarray, groups: Any, weight: np.ndarray | None) -> DataSets:
    labels = np.asarray(groups)
    if labels.shape != (len(x),):
        raise ValueError(f"groups has shape {labels.shape}; one label a row was expected: ({len(x)},).")
    if weight is not None and weight.shape != (len(x),):
        raise ValueError(f"sample_weight has shape {weight.shape}; one weight a row was expected: ({len(x)},).")
    _, whose = np.unique(labels, return_inverse=True)
    order = np.argsort(whose, kind="stable")
    ends = np.cumsum(np.bincount(whose))[:-1]
    weights = None if weight is None else np.split(weight[order], ends)
    arrays = np.split(x[order], ends)
    return _check(arrays, weights, len(arrays))


def _check(x: Any, weight: Any, size: int) -> DataSets:
    if size == 0:
        raise ValueError("xs holds no data set; at least one was expected.")
    for b, one in enumerate(x if not isinstance(x, np.ndarray) else x[:1]):
        d = x[0].shape[-1]
        if one.shape[-1] != d or d == 0:
            raise ValueError(f"xs[{b}] has {one.shape[-1]} features, xs[0] {d}; the same D >= 1 was expected of all.")
    if weight is not None:
        if len(weight) != size:
            raise ValueError(f"sample_weight has {len(weight)} members, xs {size}; one for each data set was expected.")
        rows = [x.shape[-2]] if isinstance(x, np.ndarray) else [len(one) for one in x]
        for b in range(size):
            if weight[b].shape != (rows[b % len(rows)],):
                raise ValueError(f"sample_weight[{b}] has shape {weight[b].shape}; ({rows[b % len(rows)]},) was expected.")
            if not isinstance(weight, np.ndarray) or b == 0:
                low = np.nanmin(weight if isinstance(weight, np.ndarray) else weight[b], initial=0)
                if low < 0:
                    raise ValueError(f"sample_weight has a negative value, {low:.4g}; weights >= 0 were expected.")
    kinds = {x.dtype} if isinstance(x, np.ndarray) else {one.dtype for one in x}
    default = jnp.result_type(float)
    floats = [kind if kind.kind == "f" and kind.itemsize >= 4 else default for kind in kinds]
    return DataSets(x, weight, size, jax.dtypes.canonicalize_dtype(np.result_type(*floats)))


def _cast(array: np.ndarray, dtype: Any) -> np.ndarray:
    with np.errstate(over="ignore"):
        return np.asarray(array, dtype)
