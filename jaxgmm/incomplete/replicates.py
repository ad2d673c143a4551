"""Draw new data with the missing values, the noise and the labels of given observations, for a parametric bootstrap."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..mixture import Mixture
from ..sampling import sample_from_stack
from ..validation import is_traced
from .conditional import noise_from
from .observations import Observations


def as_design(rows: Observations, weight: Any, name: str) -> Observations:
    """Return observations in which a row of weight w is repeated w times, and labels are numbers, with -1 for unknown ones.

    Raise ValueError or TypeError if no replicates of the rows can be drawn, with the function `name` in the message.
    """
    if rows.lower is not None:
        raise ValueError(
            f"{name} does not take limits, because the limits of new values are not known; use another kind of replicates."
        )
    if is_traced(rows, weight):
        raise TypeError(f"a value is traced, but {name} counts observations by their weights; call it outside jit and vmap.")
    allowed = rows.allowed
    if allowed is not None and allowed.ndim == 2:
        known = np.asarray(allowed)
        partly = (known.sum(1) > 1) & ~known.all(1)
        if partly.any():
            raise ValueError(
                f"labels allows several, but not all components in {partly.sum()} rows; {name} needs labels that name one "
                "component, or none."
            )
        allowed = jnp.asarray(np.where(known.all(1), -1, known.argmax(1)))
    rows = dataclasses.replace(rows.with_own_noise(), allowed=allowed)
    if weight is None:
        return rows
    repeats = np.asarray(weight)
    if (repeats != np.round(repeats)).any():
        raise ValueError(
            f"sample_weight holds {repeats[repeats != np.round(repeats)][0]:g}; whole numbers were expected, because {name} "
            "draws each observation with the missing values and the noise of its row: round the weights."
        )
    index = np.repeat(np.arange(len(rows)), repeats.astype(int))
    return rows.map_rows(lambda leaf: jnp.asarray(np.asarray(leaf)[index]))


def draw_like(key: jax.Array, mixture: Mixture, rows: Observations) -> Observations:
    """Return new data from a mixture, with the missing values and the noise of `rows`, the result of `as_design`.

    Where the label of a row is known, the label of the new row is the component that the new row was drawn from.
    """
    n = len(rows)
    key_component, key_point, key_noise = jax.random.split(key, 3)
    stack = jax.tree.map(lambda leaf: leaf[None], mixture)
    x, label = sample_from_stack((key_component, key_point), stack, jnp.zeros(n, int))
    x = x.astype(rows.dtype) + noise_from(rows, jax.random.normal(key_noise, rows.shape, rows.dtype))
    allowed = None if rows.allowed is None else jnp.where(rows.allowed >= 0, label, -1)
    return dataclasses.replace(rows, x=jnp.where(rows.mask(), x, 0), allowed=allowed)
