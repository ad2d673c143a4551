"""Simultaneous bands for the distribution of ranks: Sailynoja, Burkner & Vehtari (2022), Statistics and Computing 32:32.

Of B ranks, each uniform on 0, ..., L, the number below j has a binomial distribution for every j = 0, ..., L + 1. A band
contains, at each j, the counts whose two-sided binomial p-value exceeds a level, which is the same for all j and chosen such
that the whole path of counts stays inside with probability 1 - alpha. That probability is computed exactly, without simulation:
the increments of the path are independent Poisson numbers conditioned on their sum.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
from scipy.stats import binom, chi2, poisson

_BISECTIONS = 60  # more than the precision of a float can use
_FEWEST_PER_BIN = 5  # expected ranks in a bin of the chi-square test
_MOST_BINS = 16
_SHARE_INTERVALS = 4000  # of the integral in `rank_shares`

Ranks = Sequence[int] | np.ndarray
Band = tuple[np.ndarray, np.ndarray]


def rank_counts(ranks: Ranks, num_draws: int) -> np.ndarray:
    """Count the ranks below j, for j = 0, ..., L + 1: (L + 2,).

    Example:
        >>> rank_counts([0, 2, 2], 2).tolist()
        [0, 1, 1, 3]
    """
    return np.concatenate([[0], np.cumsum(np.bincount(np.asarray(ranks, int), minlength=num_draws + 1))])


def simultaneous_band(num_ranks: int, num_draws: int, alpha: float) -> Band:
    """Compute the smallest and largest counts (L + 2,) of a band that uniform ranks leave with probability at most alpha.

    The level of the band is the largest for which this holds. Because counts are integers, the probability is slightly less
    than alpha; it is 1 minus `inside_probability`.

    Args:
        num_ranks: B.
        num_draws: L; ranks go from 0 to L.
        alpha: for one rank variable; for Q of them use alpha / Q (Bonferroni), which holds whatever their dependence.

    Returns:
        lower, upper: (L + 2,), integers; at j = 0 both are 0, at j = L + 1 both are B.

    Example:
        >>> lower, upper = simultaneous_band(100, 9, 0.05)
        >>> int(lower[5]), int(upper[5])  # of 100 ranks from 0 to 9, the number below 5
        (37, 63)
    """
    return _band(int(num_ranks), int(num_draws), float(alpha))


@lru_cache(maxsize=64)
def _band(num_ranks: int, num_draws: int, alpha: float) -> Band:
    """Find by bisection the largest level whose band is left with probability at most alpha, and return that band."""
    low, high = 0.0, alpha  # at level alpha the band is too narrow: more than one count could leave it
    for _ in range(_BISECTIONS):
        level = (low + high) / 2
        if _inside(_band_at(num_ranks, num_draws, level), num_ranks, None) >= 1 - alpha:
            low = level
        else:
            high = level
        if high - low < 1e-6 * high:
            break
    return _band_at(num_ranks, num_draws, low)


def inside_probability(band: Band, shares: Sequence[float] | np.ndarray | None = None) -> float:
    """Compute the probability that the path of counts stays in a band: 1 - false-failure rate, or 1 - power.

    Args:
        band: lower and upper (L + 2,), as from `simultaneous_band`.
        shares: (L + 1,), the probability of each rank; None: uniform.

    Example:
        >>> round(1 - inside_probability(simultaneous_band(100, 9, 0.05)), 3)
        0.048
    """
    return _inside(band, int(band[1][-1]), shares)


def _inside(band: Band, num_ranks: int, shares: Sequence[float] | np.ndarray | None) -> float:
    """Compute the probability by a forward recursion over Poisson paths that end at B, divided by that of ending there."""
    lower, upper = band
    steps = len(lower) - 1
    shares = np.full(steps, 1 / steps) if shares is None else np.asarray(shares, float)
    log_last = poisson.logpmf(num_ranks, num_ranks)
    weight, start = np.ones(1), 0  # the probabilities of the counts from `start` on
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
    """Compute the two-sided binomial p-values of counts (..., L + 2)."""
    z = np.arange(num_draws + 2) / (num_draws + 1)
    below, above = binom.cdf(counts, num_ranks, z), binom.sf(counts - 1, num_ranks, z)
    return np.minimum(1.0, 2 * np.minimum(below, above))


@lru_cache(maxsize=16)
def _p_values(num_ranks: int, num_draws: int) -> np.ndarray:
    """Compute the two-sided p-values of all possible counts at every j: (B + 1, L + 2)."""
    return _two_sided(np.arange(num_ranks + 1)[:, None], num_ranks, num_draws)


def _band_at(num_ranks: int, num_draws: int, level: float) -> Band:
    """Return the band of the counts whose p-value exceeds a level."""
    kept = _p_values(num_ranks, num_draws) > level
    return kept.argmax(0), num_ranks - kept[::-1].argmax(0)


def simultaneous_p(ranks: Ranks, num_draws: int) -> float:
    """Compute the exact p-value of the path of counts, which is below alpha where the path leaves the band of that alpha.

    It is the probability that uniform ranks have, at some j, a two-sided p-value as small as the smallest one here.

    Example:
        >>> round(simultaneous_p(list(range(10)) * 5, 9), 2), simultaneous_p([0] * 10, 9) < 1e-6
        (1.0, True)
    """
    ranks = np.asarray(ranks, int)
    smallest = _two_sided(rank_counts(ranks, num_draws), len(ranks), num_draws).min()
    if smallest >= 1:
        return 1.0
    return 1 - _inside(_band_at(len(ranks), num_draws, smallest), len(ranks), None)


def most_extreme(ranks: Ranks, num_draws: int) -> int:
    """Return the j at which the number of ranks below j is least probable; if the path leaves a band, it does so there.

    Example:
        >>> most_extreme([0, 0, 0, 0, 1, 2], 3)
        1
    """
    return int(_two_sided(rank_counts(ranks, num_draws), len(ranks), num_draws).argmin())


def chi_square(ranks: Ranks, num_draws: int) -> tuple[float, int]:
    """Test by chi-square whether ranks are uniform; return the p-value and the number of bins.

    There are 16 bins, or fewer, so that each is expected to hold 5 ranks.

    Example:
        >>> chi_square(list(range(128)) * 2, 127)
        (1.0, 16)
    """
    ranks = np.asarray(ranks, int)
    bins = max(2, min(_MOST_BINS, len(ranks) // _FEWEST_PER_BIN, num_draws + 1))
    bin_of_rank = np.arange(num_draws + 1) * bins // (num_draws + 1)
    expected = len(ranks) * np.bincount(bin_of_rank, minlength=bins) / (num_draws + 1)
    counts = np.bincount(bin_of_rank[ranks], minlength=bins)
    return float(chi2.sf(((counts - expected) ** 2 / expected).sum(), bins - 1)), bins


def rank_shares(num_draws: int, cdf: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Compute the probability (L + 1,) of each rank of a truth among L independent draws.

    Args:
        num_draws: L.
        cdf: the distribution function of u, the probability that a draw is below the truth. u is uniform if the method is
            correct.

    Example:
        >>> rank_shares(3, lambda u: u).round(3).tolist()
        [0.25, 0.25, 0.25, 0.25]
    """
    # u is the squared sine of an angle on a regular grid, which is fine near 0 and 1, where a posterior that is too narrow
    # concentrates the truths
    angles = np.linspace(0, np.pi / 2, _SHARE_INTERVALS + 1)
    mass = np.diff(np.clip(cdf(np.sin(angles) ** 2), 0, 1))
    midpoints = np.sin(angles[:-1] + np.pi / (4 * _SHARE_INTERVALS)) ** 2
    return mass @ binom.pmf(np.arange(num_draws + 1), num_draws, midpoints[:, None])
