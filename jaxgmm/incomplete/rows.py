"""Select, standardise and summarise the rows of observations."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from .observations import Data, Observations


def rows_at(x: Data | np.ndarray, index: np.ndarray) -> Any:
    """Return some rows of concrete data without weights, on the host. Functions inside jit accept them, as `method` is None."""
    if isinstance(x, Observations):
        return dataclasses.replace(x.with_own_noise(), method=None).map_rows(lambda leaf: np.asarray(leaf)[index])
    return np.asarray(x)[index]


def with_weights(x: Any, weight: Any) -> tuple[Any, Any]:
    """Return data and `sample_weight` as public functions take them: observations hold their weights themselves."""
    return (dataclasses.replace(x, weight=weight), None) if isinstance(x, Observations) else (x, weight)


def moments_of_columns(rows: Observations, weight: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return means and variances (D,) of the observed values of each column; rows of weight 0 are ignored."""
    kept = jnp.where(rows.mask() & (weight > 0)[:, None], weight[:, None], 0)
    counts = jnp.where(kept.sum(0) > 0, kept.sum(0), 1)
    mean = jnp.where(kept > 0, kept * rows.x, 0).sum(0) / counts
    return mean, jnp.where(kept > 0, kept * (rows.x - mean[None]) ** 2, 0).sum(0) / counts


def filled_rows(rows: Observations) -> jax.Array:
    """Return data (N, D) in which missing values are replaced by the largest observed value of their column.

    A column of the result is constant only if its observed values are.
    """
    if rows.observed is None:
        return rows.x
    largest = jnp.where(rows.observed, rows.x, -jnp.inf).max(0)
    return jnp.where(rows.observed, rows.x, jnp.where(jnp.isfinite(largest), largest, 0))


def values_on_host(x: ArrayLike | Observations) -> np.ndarray:
    """Return data (N, D) as a NumPy array. Missing values, and the values of ignored observations, are NaN."""
    if not isinstance(x, Observations):
        return np.asarray(x)
    shown = np.asarray(x.mask())
    if x.weight is not None:
        shown = shown & (np.asarray(x.weight) > 0)[:, None]
    return np.where(shown, np.asarray(x.x), np.nan)


def standardised(rows: Observations, shift: jax.Array, unit: jax.Array) -> Observations:
    """Return rows of the values (x - shift) / unit, for a shift (D,) and units (D,)."""
    x = jnp.where(rows.mask(), (rows.x - shift) / unit, 0)
    noise = rows.noise
    if noise is not None:
        noise = noise / unit**2 if noise.ndim == 2 else noise / unit[:, None] / unit
    return shifted_limits(dataclasses.replace(rows, x=x, noise=noise), shift, unit)


def shifted_limits(rows: Observations, shift: jax.Array, unit: jax.Array | float) -> Observations:
    """Return rows whose limits refer to (x - shift) / unit instead of x."""
    if rows.lower is None or rows.upper is None:
        return rows
    return dataclasses.replace(rows, lower=(rows.lower - shift) / unit, upper=(rows.upper - shift) / unit)


def is_allowed(allowed: jax.Array, num_components: int) -> jax.Array:
    """Return whether each component is allowed in each row, (K, n), given labels (n,) or booleans (n, K)."""
    if allowed.ndim == 2:
        return allowed.T
    return (allowed[None] < 0) | (allowed[None] == jnp.arange(num_components)[:, None])
