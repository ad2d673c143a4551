"""Validate missing values, measurement noise and labels, the arguments of `observations`.

Values of traced arrays are not checked, as in the module `validation`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from numpy.typing import ArrayLike

from ..devices.host import to_device
from ..real_numbers import as_numpy
from ..validation import as_data, as_float_array, is_traced, warn_at_caller

_NEGATIVE = 1e-6  # a matrix counts as positive semidefinite if no eigenvalue is below minus this fraction of its trace
_MOST_NAMED = 5  # largest number of pairs of columns that one warning lists


class Values(NamedTuple):
    """Data x (N, D) with zeros in place of missing values, and whether each value is observed, (N, D)."""

    x: jax.Array
    observed: jax.Array | np.ndarray


def observed_values(x: ArrayLike, missing: ArrayLike | None, kept: np.ndarray | None) -> Values:
    """Return the values of data and where they are observed; raise ValueError or TypeError if x or `missing` is invalid.

    Args:
        x: (N, D); NaN marks a missing value.
        missing: (N, D), True for further values to be treated as missing, or None.
        kept: (N,), False for rows of weight 0, whose values are not checked, or None.
    """
    if is_traced(x, missing):
        x = as_data(x)
        observed = ~jnp.isnan(x) & ~as_mask(missing, x.shape)
        return Values(jnp.where(observed, x, 0), observed)
    array = as_numpy(x, "x")
    if array.ndim != 2:
        as_data(np.zeros(array.shape))  # this call raises the error that all functions raise for a wrong shape
    observed = ~np.isnan(array) & ~np.asarray(as_mask(missing, array.shape))
    if kept is not None and kept.shape == array.shape[:1]:
        observed &= kept[:, None]
    filled = np.where(observed, array, np.zeros((), array.dtype))
    source = to_device(filled, array.dtype) if isinstance(x, jax.Array) else filled
    return Values(as_data(source, check_values=True), observed)


def as_mask(missing: ArrayLike | None, shape: tuple[int, ...]) -> jax.Array | np.ndarray:
    """Return the mask of missing values as booleans of the shape of x; raise if it is invalid."""
    if missing is None:
        return np.zeros(shape, bool)
    mask = missing if isinstance(missing, jax.Array) else np.asarray(missing)
    if mask.dtype != bool:
        raise TypeError(f"missing has dtype {mask.dtype}; booleans were expected, True for each missing value.")
    if mask.shape != shape:
        raise ValueError(f"missing has shape {mask.shape}; the shape of x was expected: {shape}.")
    return mask


def as_noise(noise: ArrayLike | None, observed: jax.Array | np.ndarray, dtype: DTypeLike) -> jax.Array | None:
    """Return noise as variances (N or 1, D) or covariance matrices (N or 1, D, D); None if concrete noise is 0 everywhere.

    The noise of missing values becomes 0; it may have any value, even NaN.
    """
    if noise is None:
        return None
    n, d = observed.shape
    given: Any = noise if is_traced(noise) else as_numpy(noise, "noise")
    shape = np.shape(given)
    if shape == (d, d) and n == d and n > 1:
        raise ValueError(
            f"noise has shape {shape}, which could be one matrix or the variances of {n} rows; give it the shape "
            f"({n}, {d}, {d}), or ({d},) for one variance for each feature."
        )
    if shape in ((d,), (d, d)):
        given = given[None]
    if given.shape not in ((n, d), (1, d), (n, d, d), (1, d, d)):
        raise ValueError(
            f"noise has shape {shape}; variances of shape ({d},) or ({n}, {d}), or covariances of shape ({d}, {d}) or "
            f"({n}, {d}, {d}) were expected."
        )
    if is_traced(given, observed):
        values = as_float_array(given, "noise").astype(dtype)
        return jnp.where(_where_needed(observed, values.shape), values, 0)
    needed = np.asarray(_where_needed(np.asarray(observed), given.shape))
    values = np.asarray(as_float_array(np.where(needed, given, 0), "noise"), dtype)
    _check_noise(values)
    return to_device(values, dtype) if values.any() else None


def _where_needed(observed: jax.Array | np.ndarray, shape: tuple[int, ...]) -> jax.Array | np.ndarray:
    """Return where the noise, an array of the given shape, concerns observed values."""
    if shape[0] != len(observed):
        return observed[:1] | True if len(shape) == 2 else (observed[:1, :, None] | True) & (observed[:1, None, :] | True)
    return observed if len(shape) == 2 else observed[:, :, None] & observed[:, None, :]


def _check_noise(noise: np.ndarray) -> None:
    """Raise ValueError if a variance of the noise is negative, or a matrix is not symmetric and positive semidefinite."""
    if noise.ndim == 2:
        bad = (noise < 0).any(1)
        what = "a negative variance"
    else:
        trace = abs(np.trace(noise, axis1=1, axis2=2)) + np.finfo(float).tiny
        gap = abs(noise - np.swapaxes(noise, 1, 2)).max((1, 2), initial=0)
        smallest = np.linalg.eigvalsh((noise + np.swapaxes(noise, 1, 2)) / 2).min(1, initial=0)
        bad = (gap > 1e-4 * trace) | (smallest < -_NEGATIVE * trace)
        what = "a matrix that is not symmetric and positive semidefinite"
    if bad.any():
        where = f" in row {np.flatnonzero(bad)[0]}" if len(noise) > 1 else ""
        raise ValueError(f"noise has {what}{where}; variances >= 0 or covariance matrices were expected.")


def as_limits(
    limits: tuple[ArrayLike | None, ArrayLike | None] | None, observed: jax.Array | np.ndarray, dtype: DTypeLike
) -> tuple[jax.Array | None, jax.Array | None]:
    """Return the lower and upper limits (N, D) of missing values, -inf and inf where there are none; or None and None."""
    if limits is None:
        return None, None
    if not isinstance(limits, tuple | list) or len(limits) != 2:
        raise TypeError(f"limits is {type(limits).__name__}; a pair (lower, upper) was expected, each an array or None.")
    found = [_one_limit(limit, side, observed, dtype) for limit, side in zip(limits, (-np.inf, np.inf), strict=True)]
    if is_traced(found):
        return jnp.asarray(found[0]), jnp.asarray(found[1])
    lower, upper = found
    bad = (lower >= upper).any(1)
    if bad.any():
        raise ValueError(f"limits has a lower limit that is not below the upper limit in row {np.flatnonzero(bad)[0]}.")
    if not (np.isfinite(lower) | np.isfinite(upper)).any():
        return None, None
    return to_device(lower, dtype), to_device(upper, dtype)


def _one_limit(limit: ArrayLike | None, side: float, observed: Any, dtype: DTypeLike) -> Any:
    """Return one limit of each value (N, D), which is infinite for observed values and where no limit is given."""
    if limit is None:
        limit = side
    given: Any = limit if is_traced(limit) else np.asarray(limit, float)
    try:
        shape = np.broadcast_shapes(np.shape(given), observed.shape)
    except ValueError:
        shape = None
    if shape != observed.shape:
        raise ValueError(
            f"limits has an array of shape {np.shape(given)}; one that broadcasts to {observed.shape} was expected."
        )
    xp = jnp if is_traced(given, observed) else np
    return xp.where(observed | xp.isnan(given) | ~xp.isfinite(given), side, given).astype(dtype)


def as_labels(labels: ArrayLike | None, num_rows: int, kept: np.ndarray | None) -> jax.Array | None:
    """Return labels (N,) with -1 for unknown, or booleans (N, K) of what is allowed; None if no row is restricted.

    Rows where `kept` is False are ignored, whatever labels they have.
    """
    if labels is None:
        return None
    given = labels if isinstance(labels, jax.Array) else np.asarray(labels)
    is_allowed = given.ndim == 2 and given.dtype == bool
    if not is_allowed and not (given.ndim == 1 and np.issubdtype(given.dtype, np.integer)):
        raise TypeError(
            f"labels has dtype {given.dtype} and shape {given.shape}; integers (N,), with -1 for unknown labels, or booleans "
            "(N, K) of the components that are allowed were expected."
        )
    if len(given) != num_rows:
        raise ValueError(f"labels has {len(given)} rows; one label for each row of x was expected: {num_rows}.")
    if is_traced(given):
        return jnp.asarray(given)
    values = np.asarray(given)
    if kept is not None:
        values = np.where(kept[:, None], values, True) if is_allowed else np.where(kept, values, -1)
    if is_allowed and not values.any(1).all():
        raise ValueError(
            f"labels allows no component in row {np.flatnonzero(~values.any(1))[0]}; at least one True a row was expected."
        )
    if not is_allowed and values.min(initial=-1) < -1:
        raise ValueError(f"labels has the value {values.min()}; labels from 0 to K - 1, or -1 for unknown, were expected.")
    if values.all() if is_allowed else (values == -1).all():
        return None
    return jax.device_put(values if is_allowed else values.astype(np.int32))


def warn_of_unseen_pairs(observed: np.ndarray, names: Sequence[object]) -> None:
    """Warn if two columns that have values are never observed in the same row."""
    seen = observed.astype(float)
    together = seen.T @ seen
    has_values = together.diagonal() > 0
    pairs = np.argwhere(np.triu((together == 0) & has_values[:, None] & has_values[None], 1))
    if not len(pairs):
        return
    listed = ", ".join(f"{names[i]} and {names[j]}" for i, j in pairs[:_MOST_NAMED])
    more = ", ..." if len(pairs) > _MOST_NAMED else ""
    warn_at_caller(
        f"Columns {listed}{more} are never observed in the same row, so the data do not determine their covariance; use "
        "covariance_type 'diag' or 'spherical', or a prior."
    )
