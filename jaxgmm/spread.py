"""Compute means, standard deviations and quantiles of draws on the host. Some draws may be infinite or NaN.

Draws under a very vague prior can overflow. NumPy's functions then subtract infinities from each other, which gives NaN and
warnings. Here, an infinite draw counts as a number beyond all finite draws. A NaN stands for an overflow of unknown sign. For
quantiles, NaNs count alternately as minus and plus infinity.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType

import numpy as np
from numpy.typing import ArrayLike

from .linalg import Arrays

_ROUNDING_STEPS = 8  # draws of a constant quantity differ by at most about this many spacings of floating-point numbers


def is_constant(draws: Arrays, axis: int | tuple[int, ...], xp: ModuleType = np) -> Arrays:
    """Return whether draws are equal up to rounding, along the given axes; `xp` is numpy, or jax.numpy inside jit.

    The range of the draws is compared with their magnitude. If each float64 draw equals a float32 number, the draws were
    computed in float32, so float32's rounding error applies.

    Example:
        >>> is_constant(np.array([[0.1, 0.1 + 2e-17], [0.1, 0.2]]), axis=1).tolist()
        [True, False]
    """
    low, high = draws.min(axis), draws.max(axis)
    size = xp.maximum(abs(low), abs(high))
    eps = float(xp.finfo(draws.dtype).eps)
    if draws.dtype == np.float64:
        with np.errstate(over="ignore", invalid="ignore"):
            rounded = (draws == draws.astype(np.float32)).all(axis)
        eps = xp.where(rounded, float(np.finfo(np.float32).eps), eps)
    return high - low <= _ROUNDING_STEPS * eps * size


def mean_and_sd(draws: ArrayLike, *, ddof: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Return the means (...) and the standard deviations (...) of draws (M, ...).

    The divisor of the variance is M - `ddof`. If all draws are equal up to rounding, the standard deviation is exactly 0. If a
    draw is not finite, the standard deviation is NaN. The mean is then NaN if a draw is NaN or if infinite draws have both
    signs; otherwise it is infinite.

    Example:
        >>> [value.tolist() for value in mean_and_sd([[1.0, 1.0], [3.0, np.inf]])]
        [[2.0, inf], [1.4142135623730951, nan]]
    """
    draws = np.asarray(draws, float)
    finite = np.isfinite(draws).all(0)
    kept = np.where(finite, draws, 0.0)
    above, below = (draws == np.inf).any(0), (draws == -np.inf).any(0)
    unknown = np.isnan(draws).any(0) | (above & below)
    infinite = np.where(unknown, np.nan, np.where(above, np.inf, -np.inf))
    sd = np.where(is_constant(kept, 0), 0.0, kept.std(0, ddof=ddof)) if len(draws) > ddof else np.zeros(draws.shape[1:])
    return np.where(finite, kept.mean(0), infinite), np.where(finite, sd, np.nan)


def quantiles(draws: ArrayLike, probabilities: Sequence[float]) -> np.ndarray:
    """Return the quantiles (Q, ...) of draws (M, ...).

    If all draws of a quantity are finite, its quantiles are interpolated as by NumPy. Otherwise, they are order statistics,
    because interpolation between infinite draws is not possible.

    Example:
        >>> quantiles([0.0, 1.0, np.inf, np.inf], [0.25, 0.9]).tolist()
        [0.0, inf]
    """
    draws = np.asarray(draws, float)
    finite = np.isfinite(draws).all(0)
    found = np.quantile(np.where(finite, draws, 0.0), probabilities, axis=0)
    if finite.all():
        return found
    signs = np.where(np.arange(len(draws)) % 2, np.inf, -np.inf).reshape(-1, *[1] * (draws.ndim - 1))
    ordered = np.sort(np.where(np.isnan(draws), signs, draws), axis=0)
    places = np.maximum(np.ceil(np.asarray(probabilities) * len(draws)).astype(int) - 1, 0)
    return np.where(finite, found, ordered[places])


def length(low: ArrayLike, high: ArrayLike) -> np.ndarray:
    """Return the lengths of intervals; a length is infinite if an end of its interval is infinite.

    Example:
        >>> length([0.0, np.inf], [2.0, np.inf]).tolist()
        [2.0, inf]
    """
    low, high = np.asarray(low, float), np.asarray(high, float)
    return np.subtract(high, low, out=np.full(np.shape(low), np.inf), where=np.isfinite(low) & np.isfinite(high))
