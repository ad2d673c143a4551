"""Validate data sets in any form that `fit_many` accepts: a list, a stack, groups of the rows of one array, or one data set."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from ...calls import public
from ...chunking import padded_length
from ...devices.host import on_host
from ...incomplete.checks import check_match
from ...incomplete.observations import Observations
from ...padding import can_pad, pad_data
from ...real_numbers import as_numpy
from ...row_sums import weight_array
from ...validation import as_float_array
from ..incomplete_sums import as_blocks
from .data_sets import Array, Batch, DataSets, on_device
from .observation_sets import as_observation_sets, with_same_fields


@public
def pad(data_sets: Sequence[ArrayLike]) -> tuple[jax.Array, jax.Array]:
    """Pad data sets of different lengths so that they form one stack, with sample weights that exclude the padding.

    Args:
        data_sets: B arrays (N_b, D).

    Returns:
        x (B, N, D) and sample_weight (B, N). N is the largest length, and zeros follow the rows of each data set in x. The
        weights are 1 for rows of a data set and 0 for padding.

    Raises:
        ValueError: there are no data sets, a data set does not have shape (N, D), or data sets differ in D.
        TypeError: a data set does not hold real numbers.

    Example:
        >>> import jaxgmm, numpy as np
        >>> x, sample_weight = jaxgmm.pad([np.ones((3, 2)), np.ones((1, 2))])
        >>> x.shape, sample_weight.sum(1).tolist()
        ((2, 3, 2), [3.0, 1.0])
    """
    sets = as_data_sets(list(data_sets))
    assert isinstance(sets.x, list)
    longest = max(1, *(len(one) for one in sets.x))
    x, weight = sets.arrays(Batch(np.arange(sets.size), longest, sets.size, sets.size))
    weights = weight_array(weight)
    assert weights is not None  # data sets that come as a list always have weights
    assert not isinstance(x, Observations)
    return x, weights


def as_data_sets(
    xs: Any, groups: ArrayLike | None = None, sample_weight: Any = None, num_starts: int | None = None
) -> DataSets:
    """Return data sets, given in any form that `fit_many` accepts. Validate shapes, types and the signs of weights.

    Args:
        xs: a list of B arrays (N_b, D); one array (B, N, D); one array (N, D) with `groups`; or one data set (N, D).
        groups: (N,) labels of the rows, or None.
        sample_weight: weights in the same form as xs, or None; for one data set, (N,) or (B, N).
        num_starts: the number of fits, B. It is needed only if xs is one data set and sample_weight is not an array (B, N).
    """
    if isinstance(xs, list | tuple):
        if groups is not None:
            raise ValueError("groups belong to one long array (N, D), but xs is a list, which is grouped already: omit groups.")
        arrays = [_host_array(x, f"xs[{b}]", 2) for b, x in enumerate(xs)]
        weights = None if sample_weight is None else [_host_array(w, "sample_weight", 1) for w in sample_weight]
        return _data_sets(arrays, weights, len(arrays))
    x = _array(xs, "xs")
    if x.ndim not in (2, 3) or (groups is not None and x.ndim != 2):
        expected = "(N, D) to go with groups" if groups is not None else "(B, N, D), or a list of (N_b, D),"
        raise ValueError(f"xs has shape {x.shape}; {expected} was expected.")
    weight = None if sample_weight is None else _array(sample_weight, "sample_weight")
    if groups is not None:
        return _split(np.asarray(x), groups, None if weight is None else np.asarray(weight))
    if x.ndim == 3:
        return _data_sets(x, weight, len(x))
    if weight is not None and weight.ndim == 2:
        return _data_sets(x, weight, len(weight))
    if num_starts is None:
        raise ValueError(f"xs has shape {x.shape}: one data set; (B, N, D) or a list was expected, or see fit_restarts.")
    return _data_sets(x, weight, num_starts)


def sets_of_observations(
    xs: Any, groups: ArrayLike | None, sample_weight: ArrayLike | None, num_starts: int | None, shape: tuple[int, str]
) -> DataSets:
    """Return sets of observations, in any form that `fit_many` accepts, for mixtures with K components of a covariance type.

    Args:
        xs: a list of B observations (N_b, D); one stack (B, N, D); or one set (N, D), with `groups` or without.
        groups: (N,) labels of the rows, or None.
        sample_weight: weights of one set (N, D), which multiply its own weights: (N,) or (B, N); None for other forms.
        num_starts: the number of fits, B, or None if it is not known.
        shape: K and the covariance type.
    """
    if isinstance(xs, Observations) and xs.ndim == 2 and groups is None:
        check_match(xs, *shape)
        return _shared_observations(xs, sample_weight, num_starts, shape[0])
    if sample_weight is not None:
        raise ValueError("sample_weight was given with observations; give the weights to jaxgmm.observations.")
    if isinstance(xs, list | tuple) and groups is not None:
        raise ValueError("groups belong to one set of observations, but xs is a list, which is grouped already: omit groups.")
    sets = as_observation_sets(xs, groups)
    for one in sets:
        check_match(one, *shape)
    if all(one.is_plain for one in sets):
        weights = None if all(one.weight is None for one in sets) else [_weights(one) for one in sets]
        return _data_sets([np.asarray(one.x) for one in sets], weights, len(sets))
    arrays = _data_sets([np.asarray(one.x) for one in sets], [_weights(one) for one in sets], len(sets))
    return DataSets(with_same_fields(sets, shape[0]), None, len(sets), arrays.dtype)


def _weights(rows: Observations) -> np.ndarray:
    """Return the weights of observations on the host, (N,)."""
    return np.ones(len(rows), rows.dtype) if rows.weight is None else np.asarray(rows.weight)


def _shared_observations(
    rows: Observations, sample_weight: ArrayLike | None, num_starts: int | None, num_components: int
) -> DataSets:
    """Return one set of observations (N, D) that all fits share; `sample_weight` (N,) or (B, N) multiplies its weights."""
    weight = None if sample_weight is None else np.asarray(_array(sample_weight, "sample_weight"))
    if weight is not None and rows.weight is not None:
        weight = weight * np.asarray(rows.weight)
    weight = rows.weight if weight is None else weight
    size = len(weight) if weight is not None and weight.ndim == 2 else num_starts
    if size is None:
        raise ValueError(f"xs has shape {rows.shape}: one data set; several sets were expected, or see fit_restarts.")
    checked = _data_sets(rows.x, weight, size)  # also pads a set of observations without incomplete rows
    if rows.is_plain:
        return checked
    blocks = as_blocks(rows, weight, num_components)
    padded = pad_data(dataclasses.replace(rows.with_own_noise(), weight=None, method=None), weight)
    return DataSets(jax.tree.map(jnp.asarray, padded.x), padded.weight, size, checked.dtype, blocks)


def _array(value: ArrayLike, name: str) -> Array:
    """Return a JAX array as a float array on the same device, and any other value as a NumPy array."""
    return as_float_array(value, name) if isinstance(value, jax.Array) else as_numpy(value, name)


def _host_array(value: ArrayLike, name: str, ndim: int) -> np.ndarray:
    """Return a value as a NumPy array; raise ValueError unless it has `ndim` axes."""
    array = as_numpy(value, name)
    if array.ndim != ndim:
        raise ValueError(f"{name} has shape {array.shape}; {'(N, D)' if ndim == 2 else '(N,)'} was expected.")
    return array


def _split(x: np.ndarray, groups: ArrayLike | None, weight: np.ndarray | None) -> DataSets:
    """Return one data set for each label in `groups`, in the order of the sorted labels."""
    labels = np.asarray(groups)
    if labels.shape != (len(x),):
        raise ValueError(f"groups has shape {labels.shape}; one label per row was expected: ({len(x)},).")
    if weight is not None and weight.shape != (len(x),):
        raise ValueError(f"sample_weight has shape {weight.shape}; one weight per row was expected: ({len(x)},).")
    _, group = np.unique(labels, return_inverse=True)
    order = np.argsort(group, kind="stable")
    ends = np.cumsum(np.bincount(group))[:-1]
    arrays = np.split(x[order], ends)
    return _data_sets(arrays, None if weight is None else np.split(weight[order], ends), len(arrays))


def _data_sets(x: list[np.ndarray] | Array, weight: list[np.ndarray] | Array | None, size: int) -> DataSets:
    """Return the data sets; raise ValueError if shapes do not match or a weight is negative."""
    if size == 0:
        raise ValueError("xs holds no data set; at least one was expected.")
    arrays = x if isinstance(x, list) else [x]
    d = arrays[0].shape[-1]
    for b, one in enumerate(arrays):
        if one.shape[-1] != d or d == 0:
            raise ValueError(f"xs[{b}] has {one.shape[-1]} features, xs[0] {d}; the same D >= 1 was expected of all.")
    if weight is not None:
        _check_weights(weight, [len(one) for one in x] if isinstance(x, list) else [x.shape[-2]] * size, x)
    x, weight = _with_rows(x, weight)
    default = jnp.result_type(float)
    dtypes = {one.dtype for one in arrays}
    floats = [dtype if dtype.kind == "f" and dtype.itemsize >= 4 else default for dtype in dtypes]
    dtype = jax.dtypes.canonicalize_dtype(np.result_type(*floats))
    if not isinstance(x, list) and x.ndim == 2:  # data that all fits share are sent to the device only once
        padded = pad_data(x, weight)
        return DataSets(on_device(padded.x, dtype), padded.weight, size, dtype)
    if isinstance(x, jax.Array) and can_pad(x) and padded_length(x.shape[1]) > x.shape[1]:
        x = on_host(x)  # on the host, taking and padding the data sets of a batch compiles nothing
    return DataSets(x, weight, size, dtype)


def _with_rows(x: list[np.ndarray] | Array, weight: list[np.ndarray] | Array | None) -> tuple:
    """Return data and weights; a stack or shared data set without rows gets a row of weight 0, because programs need a row."""
    if isinstance(x, list) or x.shape[-2]:
        return x, weight
    shape = (*x.shape[:-2], 1) if weight is None or isinstance(weight, list) else (*weight.shape[:-1], 1)
    return np.zeros((*x.shape[:-2], 1, x.shape[-1]), x.dtype), np.zeros(shape)


def _check_weights(weight: list[np.ndarray] | Array, rows: list[int], x: list[np.ndarray] | Array) -> None:
    """Raise ValueError unless each data set has one weight >= 0 for each of its rows.

    Args:
        weight: the weights of the data sets. If all fits share x, they may also share one array (N,).
        rows: the number of rows of each data set.
        x: the data.
    """
    if isinstance(weight, list):
        shapes = [one.shape for one in weight]
    elif weight.ndim == 1 and not isinstance(x, list) and x.ndim == 2:
        shapes = [weight.shape] * len(rows)
    else:
        shapes = [weight.shape[1:]] * len(weight)
    if len(shapes) != len(rows):
        raise ValueError(f"sample_weight has {len(shapes)} members, xs {len(rows)}; one for each data set was expected.")
    for b, (shape, n) in enumerate(zip(shapes, rows, strict=True)):
        if shape != (n,):
            raise ValueError(f"sample_weight[{b}] has shape {shape}; ({n},) was expected.")
    smallest = min(map(_smallest, weight if isinstance(weight, list) else [weight]))
    if smallest < 0:
        raise ValueError(f"sample_weight has a negative value, {smallest:.4g}; weights >= 0 were expected.")


def _smallest(weight: Array) -> float:
    """Return the smallest weight, or 0 if no weight is negative; NaN is ignored."""
    values = on_host(weight) if isinstance(weight, jax.Array) else weight
    return float(np.nanmin(values, initial=0) if isinstance(values, np.ndarray) else jnp.nanmin(values, initial=0))
