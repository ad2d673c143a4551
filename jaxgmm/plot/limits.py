"""Choose what a figure shows: the ranges of its axes, the pairs of features, and which components count as empty.

The ranges come from the data and from EM. Posterior draws and components that hold no data do not widen the ranges, because
one draw far away would leave too little space for the data.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike

from .. import covariance
from ..marginals import marginal
from ..mixture import Mixture

_TAIL = 0.005  # share of the points at each end that may lie beyond the axis, if they are far away
_REACH = 2.0  # a point is far away if its distance from the other points is more than this number times their range
_WIDER = 0.35  # EM may widen the range of the data by this fraction at each end
_MARGIN = 0.05  # empty space at each end, as a fraction of the range
_MOST_FEATURES = 12  # pairs are chosen among at most this many features


def axis_limits(values: ArrayLike, ends: ArrayLike = ()) -> tuple[float, float]:
    """Return the range of an axis for data. The ends of EM's components widen the range, up to a limit.

    Args:
        values: (N,), the data. Values that are not finite are ignored.
        ends: numbers that should be inside the range, such as the ends of ellipses.

    Example:
        >>> low, high = axis_limits([0.0, 1.0, 2.0, 10.0], ends=[-1e9, 11.0])
        >>> round(low, 1), round(high, 1)
        (-4.2, 11.7)
    """
    low, high = _range(np.asarray(values, float).ravel())
    widening = _WIDER * (high - low)
    known = np.asarray(ends, float)
    known = np.clip(known[np.isfinite(known)], low - widening, high + widening)
    low, high = min([low, *known.tolist()]), max([high, *known.tolist()])
    margin = _MARGIN * (high - low)
    return low - margin, high + margin


def _range(values: np.ndarray) -> tuple[float, float]:
    """Return the range of data without the few points that are far away from all others. The range is never empty."""
    values = values[np.isfinite(values)]
    if not values.size:
        return 0.0, 1.0
    first, last = np.quantile(values, [_TAIL, 1 - _TAIL]).tolist()
    reach = _REACH * (last - first)
    near = values[(values >= first - reach) & (values <= last + reach)] if reach > 0 else values
    low, high = float(near.min()), float(near.max())
    if high <= low:
        half = 0.5 * abs(low) or 0.5
        return low - half, high + half
    return low, high


def num_beyond(x: ArrayLike, limits: Sequence[tuple[float, float]]) -> int:
    """Return the number of rows of x (N, D) that lie outside the range of at least one of the D axes."""
    low, high = np.array(limits).T
    return int(((np.asarray(x) < low) | (np.asarray(x) > high)).any(1).sum())


def emptied(mixture: Mixture, num_points: int) -> list[int]:
    """Return the components of one mixture whose weight times the number of points is below one.

    Example:
        >>> import jaxgmm
        >>> emptied(jaxgmm.make_mixture([0.999, 0.001], [[0.0], [9.0]], [[[1.0]], [[1.0]]]), 100)
        [1]
    """
    return np.flatnonzero(np.asarray(mixture.weights, float) * num_points < 1).tolist()


def component_ends(mixture: Mixture, feature: int, mass: float, empty: Sequence[int] = ()) -> np.ndarray:
    """Return the ends (2 K',) of the K' components that are not empty, in one feature.

    The ends of a component are those of an ellipse in two features. The ellipse contains the probability `mass`.
    """
    kept = [k for k in range(mixture.num_components) if k not in empty]
    mean = np.asarray(mixture.means, float)[kept, feature]
    reach = math.sqrt(-2 * math.log1p(-mass)) * _sds(mixture)[kept, feature]
    return np.concatenate([mean - reach, mean + reach])


def _sds(mixture: Mixture) -> np.ndarray:
    """Return the standard deviations (K, D) of the features in each component."""
    stored = np.asarray(mixture.covariances, float)
    variances = np.asarray(covariance.variances(stored, mixture.covariance_type, mixture.num_features))
    return np.sqrt(np.broadcast_to(np.maximum(variances, 0), np.shape(mixture.means)))


def separated_pairs(mixture: Mixture, most: int, empty: Sequence[int] = ()) -> list[tuple[int, int]]:
    """Return pairs of features in which the components overlap least. Each pair has a feature that no earlier pair has.

    The overlap of two components is the Bhattacharyya coefficient in the two features, times the square roots of the weights of
    the components. If pairs have equal overlap, pairs of neighbouring features come first.

    Args:
        mixture: one mixture.
        most: largest number of pairs.
        empty: components that are ignored.
    """
    d = mixture.num_features
    kept = [k for k in range(mixture.num_components) if k not in empty]
    if d == 2 or len(kept) < 2:
        return [(i, i + 1) for i in range(d - 1)][:most]
    weights, means, variances = np.asarray(mixture.weights, float), np.asarray(mixture.means, float), _sds(mixture) ** 2
    single = [_overlap(weights[kept], means[kept][:, [i]], variances[kept][:, [i], None]) for i in range(d)]
    best = np.sort(np.argsort(single, kind="stable")[:_MOST_FEATURES])
    part = marginal(mixture, best.tolist())
    dense = covariance.to_dense(np.asarray(part.covariances, float), part.covariance_type, len(weights), len(best))[kept]

    def order(pair: tuple[int, int]) -> tuple[float, int, tuple[int, int]]:
        """Return the sort key of a pair of positions in `best`."""
        chosen = list(pair)
        overlap = _overlap(weights[kept], means[kept][:, best[chosen]], dense[:, chosen][:, :, chosen])
        return round(overlap, 4), pair[1] - pair[0], pair

    chosen: list[tuple[int, int]] = []
    for pair in sorted(combinations(range(len(best)), 2), key=order):
        if len(chosen) < most and not set(pair) <= {place for earlier in chosen for place in earlier}:
            chosen.append(pair)
    return [(int(best[i]), int(best[j])) for i, j in chosen]


def _overlap(weights: np.ndarray, means: np.ndarray, dense: np.ndarray) -> float:
    """Return the overlap of components, from weights (K,), means (K, F) and covariances (K, F, F); 0 if they are disjoint."""
    # the features are divided by their scale, so that the result does not depend on their units
    scale = np.sqrt(np.maximum(np.einsum("kii->ki", dense).max(0), np.finfo(float).tiny))
    means, dense = means / scale, dense / np.outer(scale, scale) + 1e-9 * np.eye(len(scale))
    half_logs = np.linalg.slogdet(dense)[1] / 2
    total = 0.0
    for a, b in combinations(range(len(weights)), 2):
        middle, step = (dense[a] + dense[b]) / 2, means[a] - means[b]
        distance = step @ np.linalg.solve(middle, step) / 8 + (np.linalg.slogdet(middle)[1] - half_logs[a] - half_logs[b]) / 2
        total += math.sqrt(weights[a] * weights[b]) * math.exp(-distance)
    return total
