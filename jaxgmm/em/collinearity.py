"""Find collinear columns of data, which make covariance matrices singular."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from ..devices.processes import over_parts
from ..rounding import ridge_fraction

_COLLINEAR = 1e-10  # standardised data are treated as constant in a direction if their variance in it is less than this number
_SHARE_OF_COLLINEAR = 1e-3  # a column is collinear if its coefficients in the constant directions have a norm above this


def collinear_columns(x: np.ndarray | jax.Array, weight: np.ndarray | jax.Array | None) -> tuple[np.ndarray, bool]:
    """Return the indices of the collinear columns of data (N, D), and whether the sum of these columns is constant.

    Columns are collinear if a weighted sum of them is constant up to rounding. Columns that are constant themselves are left
    out.
    """
    weights = np.broadcast_to(np.ones(1), len(x)) if weight is None else weight

    def total(function: Callable[[np.ndarray, np.ndarray], Any], combine: np.ufunc = np.add) -> np.ndarray:
        def of_kept(rows: np.ndarray, w: np.ndarray) -> Any:
            return function(rows[w > 0].astype(float), w[w > 0].astype(float))

        return over_parts(of_kept, x, weights, combine=combine)

    def ranges(rows: np.ndarray, w: np.ndarray) -> np.ndarray:
        return np.array([-rows.min(0, initial=np.inf), rows.max(0, initial=-np.inf)])

    low, high = total(ranges, np.maximum) * [[-1], [1]]
    varying = np.flatnonzero(high > low)
    count, weight_sum = total(lambda rows, w: np.array([len(rows), w.sum()]))
    if len(varying) < 2 or count <= len(varying):  # with so few rows, all columns are collinear
        return np.zeros(0, int), False
    low = low[varying]
    mean = total(lambda rows, w: w @ (rows[:, varying] - low)) / weight_sum
    sd = np.sqrt(total(lambda rows, w: w @ (rows[:, varying] - low - mean) ** 2) / weight_sum)

    def products(rows: np.ndarray, w: np.ndarray) -> np.ndarray:
        standard = (rows[:, varying] - low - mean) / sd
        return (w[:, None] * standard).T @ standard

    values, vectors = np.linalg.eigh(total(products) / weight_sum)
    smallest = max(_COLLINEAR, 4 * ridge_fraction(len(varying), x.dtype))
    directions = vectors[:, values <= smallest]
    taking_part = (directions**2).sum(1) > _SHARE_OF_COLLINEAR**2
    loadings = (directions / sd[:, None])[taking_part]
    is_sum = directions.shape[1] == 1 and np.ptp(loadings) <= 0.01 * abs(loadings).max()
    return varying[taking_part], bool(is_sum)
