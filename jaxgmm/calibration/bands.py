"""Simultaneous bands for the distribution of ranks: Sailynoja, Burkner & Vehtari (2022), Statistics and Computing 32:32.

Suppose that each of B ranks is uniform on 0, ..., L. For every j = 0, ..., L + 1, the number of ranks below j then has a
binomial distribution. These numbers form a path of counts. At each j, a band contains the counts whose two-sided binomial
p-value exceeds a level. The level is the same for all j, and it is chosen such that the whole path of counts stays inside the
band with probability 1 - alpha. This probability can be computed exactly, without simulation, because the increments of the
path are distributed as independent Poisson numbers conditioned on their sum.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
from scipy.stats import binom, chi2, poisson

_BISECTIONS = 60  # largest number of bisection steps; more steps would not change the level in floating-point arithmetic
_FEWEST_PER_BIN = 5  # smallest allowed value of the expected number of ranks in a bin of the chi-square test
_MOST_BINS = 16  # largest number of bins of the chi-square test
_SHARE_INTERVALS = 4000  # number of intervals in the numerical integral of `rank_shares`

Ranks = Sequence[int] | np.ndarray
Band = tuple[np.ndarray, np.ndarray]


def rank_counts(ranks: Ranks, num_draws: int) -> np.ndarray:
    """Return the number of ranks below j for each j = 0, ..., L + 1, as an array (L + 2,).

    Example:
        >>> rank_counts([0, 2, 2], 2).tolist()
        [0, 1, 1, 3]
    """
    return np.concatenate([[0], np.cumsum(np.bincount(np.asarray(ranks, int), minlength=num_draws + 1))])


def simultaneous_band(num_ranks: int, num_draws: int, alpha: float) -> Band:
    """Return the smallest and largest counts (L + 2,) of a band that uniform ranks leave with probability at most alpha.

    A count is the number of ranks below j, for one of j = 0, ..., L + 1. The band contains the counts whose two-sided binomial
    p-value exceeds a level, which is as large as alpha permits. Because counts are integers, the exact probability is slightly
    less than alpha; it is 1 minus `inside_probability`.

    Args:
        num_ranks: B, the number of ranks.
        num_draws: L; ranks go from 0 to L.
        alpha: the probability for one ranked quantity. For Q quantities use alpha / Q (Bonferroni), which is valid for any
            dependence between the quantities.

    Returns:
        lower, upper: integers (L + 2,). At j = 0 both are 0, and at j = L + 1 both are B.

    Example:
        >>> lower, upper = simultaneous_band(100, 9, 0.05)
        >>> int(lower[5]), int(upper[5])  # of 100 ranks from 0 to 9, the number below 5
        (37, 63)
    """
    return _band(int(num_ranks), int(num_draws), float(alpha))


@lru_cache(maxsize=64)
def _band(num_ranks: int, num_draws: int, alpha: float) -> Band:
    """Return the band that `simultaneous_band` describes. Bisection finds the level of its binomial p-values."""
    low, high = 0.0, alpha  # the band at level alpha is too narrow, because the path can leave it at any j
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
    """Return the probability that the path of counts (the numbers of ranks below j = 0, ..., L + 1) stays inside a band.

    For uniform ranks, the result is 1 minus the probability that a correct method fails the check. For other ranks, the result
    is 1 minus the power of the check.

    Args:
        band: lower and upper (L + 2,), the result of `simultaneous_band`.
        shares: (L + 1,), the probability of each rank; None: all ranks are equally probable.

    Example:
        >>> round(1 - inside_probability(simultaneous_band(100, 9, 0.05)), 3)
        0.048
    """
    return _inside(band, int(band[1][-1]), shares)


def _inside(band: Band, num_ranks: int, shares: Sequence[float] | np.ndarray | None) -> float:
    """Return the probability that the path of counts stays inside a band, by a forward recursion over Poisson paths.

    The probability that a Poisson path stays inside and ends at `num_ranks` is divided by the probability that it ends there.
    """
    lower, upper = band
    steps = len(lower) - 1
    shares = np.full(steps, 1 / steps) if shares is None else np.asarray(shares, float)
    log_last = poisson.logpmf(num_ranks, num_ranks)
    weight, start = np.ones(1), 0  # weight[i] is the probability of the count start + i
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
    """Return the two-sided binomial p-value of each entry of `counts` (..., L + 2); entry j is a number of ranks below j."""
    z = np.arange(num_draws + 2) / (num_draws + 1)
    below, above = binom.cdf(counts, num_ranks, z), binom.sf(counts - 1, num_ranks, z)
    return np.minimum(1.0, 2 * np.minimum(below, above))


@lru_cache(maxsize=16)
def _p_values(num_ranks: int, num_draws: int) -> np.ndarray:
    """Return the two-sided p-values (B + 1, L + 2) of all counts 0, ..., B of ranks below j, for j = 0, ..., L + 1."""
    return _two_sided(np.arange(num_ranks + 1)[:, None], num_ranks, num_draws)


def _band_at(num_ranks: int, num_draws: int, level: float) -> Band:
    """Return, for each j, the smallest and the largest number of ranks below j whose two-sided p-value exceeds `level`."""
    kept = _p_values(num_ranks, num_draws) > level
    return kept.argmax(0), num_ranks - kept[::-1].argmax(0)


def simultaneous_p(ranks: Ranks, num_draws: int) -> float:
    """Return one exact p-value for the numbers of ranks below j, for all j = 0, ..., L + 1 together.

    First, the two-sided binomial p-value at each j is computed, and the smallest of them is kept. The exact p-value is the
    probability that uniform ranks have an equal or smaller two-sided p-value at some j. If the numbers leave the band that
    `simultaneous_band` returns for some alpha, the exact p-value is below this alpha.

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
    """Return the j, from 0 to L + 1, at which the number of ranks below j has the smallest two-sided binomial p-value.

    If the numbers of ranks leave the band of `simultaneous_band`, they are outside the band at this j, and perhaps at other j.

    Example:
        >>> most_extreme([0, 0, 0, 0, 1, 2], 3)
        1
    """
    return int(_two_sided(rank_counts(ranks, num_draws), len(ranks), num_draws).argmin())


def chi_square(ranks: Ranks, num_draws: int) -> tuple[float, int]:
    """Apply a chi-square test of the hypothesis that the ranks are uniform. Return the p-value and the number of bins.

    There are at most 16 bins. With few ranks there are fewer bins, so that at least 5 ranks are expected in each bin.

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
    """Return the probability (L + 1,) of each possible rank of a truth among L independent draws.

    Args:
        num_draws: L.
        cdf: the distribution function of u, where u is the probability that a draw is below the truth. If the method is
            correct, u is uniform.

    Example:
        >>> rank_shares(3, lambda u: u).round(3).tolist()
        [0.25, 0.25, 0.25, 0.25]
    """
    # The grid points of u are squared sines of regularly spaced angles. This makes the grid dense near 0 and 1, where u often
    # lies if the posteriors are too narrow.
    angles = np.linspace(0, np.pi / 2, _SHARE_INTERVALS + 1)
    mass = np.diff(np.clip(cdf(np.sin(angles) ** 2), 0, 1))
    midpoints = np.sin(angles[:-1] + np.pi / (4 * _SHARE_INTERVALS)) ** 2
    return mass @ binom.pmf(np.arange(num_draws + 1), num_draws, midpoints[:, None])
