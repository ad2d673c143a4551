"""Simultaneous bands for the distribution of ranks: Sailynoja, Burkner & Vehtari (2022), Statistics and Computing 32:32.

Of B ranks, each uniform on 0, ..., L, the number under j is binomial at every j = 0, ..., L + 1. A band holds at each j the counts
whose two-sided binomial p-value is over one level, the same for all j, chosen so that the whole path of counts stays inside with
probability 1 - alpha. That probability is exact here, no simulation: increments of the path are Poisson numbers given their sum.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from scipy.stats import binom, chi2, poisson

_LEVELS = 60  # halvings of the interval of levels: more than a float can tell
_FEWEST = 5  # ranks expected in a bin of the chi-square test
_BINS = 16


def rank_counts(ranks: Any, num_draws: int) -> np.ndarray:
    """How many ranks are under j, for j = 0, ..., L + 1: (L + 2,).

    Example:
        >>> rank_counts([0, 2, 2], 2).tolist()
        [0, 1, 1, 3]
    """
    return np.concatenate([[0], np.cumsum(np.bincount(np.asarray(ranks, int), minlength=num_draws + 1))])


def simultaneous_band(num_ranks: int, num_draws: int, alpha: float) -> tuple[np.ndarray, np.ndarray]:
    """Least and largest counts (L + 2,) of a band that uniform ranks leave with probability alpha at most.

    The level is the largest for which that holds; counts are whole numbers, so the probability is a little under alpha: 1 less
    `inside_probability`.

    Args:
        num_ranks: B.
        num_draws: L; ranks go from 0 to L.
        alpha: of one rank variable; for a family of Q of them alpha / Q (Bonferroni), right whatever their dependence.

    Returns:
        lower, upper: (L + 2,), integers; at j = 0 both are 0, at j = L + 1 both B.

    Example:
        >>> lower, upper = simultaneous_band(100, 9, 0.05)
        >>> int(lower[5]), int(upper[5])  # of 100 ranks from 0 to 9, how many are under 5
        (37, 63)
    """
    return _band(int(num_ranks), int(num_draws), float(alpha))


@lru_cache(maxsize=64)
def _band(num_ranks: int, num_draws: int, alpha: float) -> tuple[np.ndarray, np.ndarray]:
    low, high = 0.0, alpha  # a level of alpha is too much: more than one count could leave
    for _ in range(_LEVELS):
        level = (low + high) / 2
        if _inside(_band_at(num_ranks, num_draws, level), num_ranks, None) >= 1 - alpha:
            low = level
        else:
            high = level
        if high - low < 1e-6 * high:
            break
    return _band_at(num_ranks, num_draws, low)


def inside_probability(band: tuple[np.ndarray, np.ndarray], shares: Any = None) -> float:
    """The probability that the path of counts stays in a band: 1 - false failures, or 1 - power.

    Args:
        band: lower and upper (L + 2,), as from `simultaneous_band`.
        shares: (L + 1,), the probability of each rank; None is uniform.

    Example:
        >>> round(1 - inside_probability(simultaneous_band(100, 9, 0.05)), 3)
        0.048
    """
    return _inside(band, int(band[1][-1]), shares)


def _inside(band: tuple[np.ndarray, np.ndarray], num_ranks: int, shares: Any) -> float:
    """Forward through the path: paths of Poisson numbers that end at B, over all that end there."""
    lower, upper = band
    steps = len(lower) - 1
    shares = np.full(steps, 1 / steps) if shares is None else np.asarray(shares, float)
    log_last = poisson.logpmf(num_ranks, num_ranks)
    weight, start = np.ones(1), 0  # of counts from `start` on
    for j in range(steps):
        width = int(upper[j + 1]) - start + 1
        if width <= 0:
            return 0.0
        kernel = poisson.pmf(np.arange(width), num_ranks * shares[j])
        reached = np.convolve(weight, kernel)[:width]
        skipped = max(0, int(lower[j + 1]) - start)
        weight, start = reached[skipped:], start + skipped
        if not weight.size:
            return 0.0
    return float(min(weight[-1] * np.exp(-log_last), 1.0))


def _two_sided(counts: np.ndarray, num_ranks: int, num_draws: int) -> np.ndarray:
    """Two-sided binomial p-values of counts (..., L + 2)."""
    z = np.arange(num_draws + 2) / (num_draws + 1)
    below, above = binom.cdf(counts, num_ranks, z), binom.sf(counts - 1, num_ranks, z)
    return np.minimum(1.0, 2 * np.minimum(below, above))


@lru_cache(maxsize=16)
def _p_values(num_ranks: int, num_draws: int) -> np.ndarray:
    """Of all counts at all places: (B + 1, L + 2)."""
    return _two_sided(np.arange(num_ranks + 1)[:, None], num_ranks, num_draws)


def _band_at(num_ranks: int, num_draws: int, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Counts whose p-value is over a level."""
    kept = _p_values(num_ranks, num_draws) > level
    return kept.argmax(0), num_ranks - kept[::-1].argmax(0)


def simultaneous_p(ranks: Any, num_draws: int) -> float:
    """The exact p-value of the path of counts: under alpha where it leaves the band of that alpha.

    The probability that uniform ranks have somewhere a two-sided p-value as small as the smallest of these.

    Example:
        >>> round(simultaneous_p(list(range(10)) * 5, 9), 2), simultaneous_p([0] * 10, 9) < 1e-6
        (1.0, True)
    """
    ranks = np.asarray(ranks, int)
    smallest = _two_sided(rank_counts(ranks, num_draws), len(ranks), num_draws).min()
    if smallest >= 1:
        return 1.0
    return 1 - _inside(_band_at(len(ranks), num_draws, smallest), len(ranks), None)


def most_extreme(ranks: Any, num_draws: int) -> int:
    """The j at which the number of ranks under j is least probable: outside a band, if anywhere.

    Example:
        >>> most_extreme([0, 0, 0, 0, 1, 2], 3)
        1
    """
    return int(_two_sided(rank_counts(ranks, num_draws), len(ranks), num_draws).argmin())


def chi_square(ranks: Any, num_draws: int) -> tuple[float, int]:
    """p-value of the chi-square test that ranks are uniform, and how many bins it used: 16, or as many as hold 5 ranks each.

    Example:
        >>> chi_square(list(range(128)) * 2, 127)
        (1.0, 16)
    """
    ranks = np.asarray(ranks, int)
    bins = max(2, min(_BINS, len(ranks) // _FEWEST, num_draws + 1))
    place = np.arange(num_draws + 1) * bins // (num_draws + 1)
    expected = len(ranks) * np.bincount(place, minlength=bins) / (num_draws + 1)
    found = np.bincount(place[ranks], minlength=bins)
    return float(chi2.sf(((found - expected) ** 2 / expected).sum(), bins - 1)), bins


def rank_shares(num_draws: int, cdf: Any) -> np.ndarray:
    """Probabilities (L + 1,) of ranks among L independent draws, of a truth whose place in their distribution has a cdf.

    Args:
        num_draws: L.
        cdf: of u, the share of the draws' distribution under the truth; u is uniform where the method is right.

    Example:
        >>> rank_shares(3, lambda u: u).round(3).tolist()
        [0.25, 0.25, 0.25, 0.25]
    """
    # midpoints in an angle whose square sine is u: fine at both ends, where a narrow posterior piles truths up
    edges = np.sin(np.linspace(0, np.pi / 2, 4001)) ** 2
    mass = np.diff(np.clip(cdf(edges), 0, 1))
    u = np.sin(np.linspace(0, np.pi / 2, 4001)[:-1] + np.pi / 16000) ** 2
    return mass @ binom.pmf(np.arange(num_draws + 1), num_draws, u[:, None])
