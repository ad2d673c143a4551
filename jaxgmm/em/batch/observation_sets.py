"""Give sets of observations the same fields and the same number of rows, so that they form one stack."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.typing import DTypeLike
from numpy.typing import ArrayLike

from ...devices.host import to_device
from ...incomplete.forms import form_of, in_form, joint_form
from ...incomplete.observations import Observations

_PADDING = {"x": 0, "weight": 0, "observed": True, "noise": 0, "allowed": True, "lower": -np.inf, "upper": np.inf}


def has_observations(xs: Any) -> bool:
    """Return whether data sets, in one of the forms that `fit_many` accepts, are observations."""
    return isinstance(xs, Observations) or (isinstance(xs, list | tuple) and any(isinstance(x, Observations) for x in xs))


def as_observation_sets(xs: Any, groups: ArrayLike | None) -> list[Observations]:
    """Return sets of observations on the host, with one entry of the noise for each row; raise if they do not match.

    Args:
        xs: a list of observations (N_b, D); one stack of observations (B, N, D); or observations (N, D) with `groups`.
        groups: (N,) labels of the rows, or None.
    """
    if isinstance(xs, Observations):
        given = jax.tree.map(np.asarray, xs)
        if groups is None:
            return [jax.tree.map(lambda leaf, b=b: leaf[b], given).with_own_noise() for b in range(len(given.x))]
        labels, given = np.asarray(groups), given.with_own_noise()
        if given.ndim != 2 or labels.shape != (len(given),):
            raise ValueError(
                f"groups has shape {labels.shape} and xs {given.shape}; one label per row was expected, for data (N, D)."
            )
        _, group = np.unique(labels, return_inverse=True)
        rows = [np.flatnonzero(group == b) for b in range(group.max(initial=-1) + 1)]
        return [jax.tree.map(lambda leaf, own=own: leaf[own], given) for own in rows]
    for b, one in enumerate(xs):
        if not isinstance(one, Observations) or one.ndim != 2:
            what = f"observations of shape {one.shape}" if isinstance(one, Observations) else type(one).__name__
            raise TypeError(f"xs[{b}] is {what}; each member was expected to be Observations (N, D), because others are.")
    return [jax.tree.map(np.asarray, one).with_own_noise() for one in xs]


def with_same_fields(sets: Sequence[Observations], num_components: int) -> list[Observations]:
    """Return sets of observations on the host that all have the same fields, except for labels.

    A field that only some sets have is added to the others, with values that change nothing. Labels become booleans (N, K). If
    one of the sets has noise covariances, the noise of all sets is stored as covariances.
    """
    shared = joint_form(*map(form_of, sets))

    def filled(one: Observations) -> Observations:
        form = shared._replace(allowed=0 if one.allowed is None else num_components + 1)
        weight = np.ones(len(one), one.dtype) if one.weight is None else one.weight
        return dataclasses.replace(in_form(one, form), weight=weight)

    return [filled(one) for one in sets]


def stack_observations(sets: Sequence[Observations], length: int, dtype: DTypeLike) -> tuple[Observations, jax.Array]:
    """Return sets of observations with the same fields as one stack (B, length, ...) without weights, and the weights.

    Rows of padding have weight 0.
    """

    def stacked(name: str) -> jax.Array | None:
        arrays = [np.asarray(leaf) for one in sets if (leaf := getattr(one, name)) is not None]
        if not arrays:
            return None
        of_type = arrays[0].dtype if arrays[0].dtype == bool else np.dtype(dtype)
        out = np.full((len(sets), length, *arrays[0].shape[1:]), _PADDING[name], of_type)
        with np.errstate(over="ignore"):
            for place, array in zip(out, arrays, strict=True):
                place[: len(array)] = array
        return to_device(out, of_type)

    fields: dict[str, Any] = {name: stacked(name) for name in _PADDING}
    weight = fields.pop("weight")
    return Observations(**fields), weight
