"""Means, standard deviations, quantiles and lengths of draws on the host, some of which may be infinite or NaN.

Draws under a very vague prior overflow. NumPy's own functions then subtract infinities from each other, which gives NaN and
warnings. Here an infinite draw is a number beyond all others. A NaN, which stands for an overflow of unknown sign, counts as
plus or minus infinity in turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike


def mean_and_sd(draws: ArrayLike, *, ddof: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Return the means and the standard deviations of draws (M, ...), each (...).

    The standard deviation is exactly 0 if all draws are equal, and NaN if one of them is not finite. The mean is then NaN, or
    infinite if all infinite draws have one sign. The divisor of the variance is M - `ddof`.

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
    varies = kept.max(0) > kept.min(0)
    sd = np.where(varies, kept.std(0, ddof=ddof), 0.0) if len(draws) > ddof else np.zeros(draws.shape[1:])
    return np.where(finite, kept.mean(0), infinite), np.where(finite, sd, np.nan)


def quantiles(draws: ArrayLike, probabilities: Sequence[float]) -> np.ndarray:
    """Return the quantiles (Q, ...) of draws (M, ...), interpolated as by NumPy where all draws are finite.

    Where a draw is not finite, they are order statistics, because nothing lies between two infinities.

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


def length(low: Any, high: Any) -> np.ndarray:
    """Return the lengths of intervals; infinite if an end is infinite.

    Example:
        >>> length([0.0, np.inf], [2.0, np.inf]).tolist()
        [2.0, inf]
    """
    low, high = np.asarray(low, float), np.asarray(high, float)
    return np.subtract(high, low, out=np.full(np.shape(low), np.inf), where=np.isfinite(low) & np.isfinite(high))
