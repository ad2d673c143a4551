"""The rows of a calibration: the comparison of the ranks of one quantity with their band, and the coverage of intervals."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np

from .bands import chi_square, most_extreme, rank_counts, simultaneous_band, simultaneous_p


class DrawShape(StrEnum):
    """What is wrong with the draws if the distribution of the ranks lies outside its band, for example "draws too narrow"."""

    NONE = ""
    TOO_LOW = "draws too low"
    TOO_HIGH = "draws too high"
    TOO_NARROW = "draws too narrow"
    TOO_WIDE = "draws too wide"


@dataclass(frozen=True)
class RankRow:
    """The ranks of one quantity, compared with their band.

    The ECDF is the empirical distribution function of the ranks. The extreme point is the point at which the ECDF has its
    smallest two-sided binomial p-value.

    Attributes:
        name: the quantity.
        label_invariant: whether the quantity does not depend on the order of the components.
        chi_square_p: p-value of the chi-square test that the ranks are uniform.
        ecdf_p: exact p-value of the whole ECDF, under the hypothesis that the ranks are uniform.
        deviation: the ECDF minus the uniform distribution function, at the extreme point.
        at: position of the extreme point, from 0 (below all possible ranks) to 1 (above all possible ranks).
        limit: the largest deviation, in the direction of `deviation`, that the band allows at the extreme point.
        inside: whether the ECDF lies inside its band everywhere.
        shape: what is wrong with the draws if the ECDF lies outside its band.
        not_ranked: number of data sets without a rank, because a value is not finite.
        ess_median: median, over the data sets, of the bulk effective sample size of the L draws.
        ess_low: 5 % quantile, over the data sets, of the same effective sample size.
    """

    name: str
    label_invariant: bool
    chi_square_p: float
    ecdf_p: float
    deviation: float
    at: float
    limit: float
    inside: bool
    shape: DrawShape
    not_ranked: int
    ess_median: float
    ess_low: float

    def to_dict(self) -> dict[str, Any]:
        """Return the fields by name, in plain types."""
        return {**dataclasses.asdict(self), "shape": self.shape.value}


@dataclass(frozen=True)
class CoverageRow:
    """The coverage of the intervals that one method gives for one parameter.

    Attributes:
        method: "em" for the EM estimate with intervals from the information matrix, else the name of the method that draws.
        name: name of the parameter.
        probability: probability of the intervals.
        coverage: fraction of the data sets whose interval contains the truth, among the data sets that have an interval.
        error: Monte Carlo standard error of the coverage.
        undefined: fraction of the data sets without an interval.
        coverage_with_misses: the coverage if data sets without an interval count as misses.
    """

    method: str
    name: str
    probability: float
    coverage: float
    error: float
    undefined: float
    coverage_with_misses: float


def rank_row(name: str, ranks: np.ndarray, ess: np.ndarray, *, label_invariant: bool, num_draws: int, alpha: float) -> RankRow:
    """Compare the ranks of one quantity with their band.

    Args:
        name: name of the quantity.
        ranks: (B,), numbers of draws below the truth; -1: no rank.
        ess: (B,), effective sample sizes of the draws.
        label_invariant: whether the quantity does not depend on the order of the components.
        num_draws: L, the number of ranked draws.
        alpha: probability that the ranks of a correct method leave the band.
    """
    ranked = ranks[ranks >= 0]
    known = ess[np.isfinite(ess)]
    low, median = np.quantile(known, [0.05, 0.5]) if len(known) else (np.nan, np.nan)
    more = {"not_ranked": len(ranks) - len(ranked), "ess_median": float(median), "ess_low": float(low)}
    if not len(ranked):
        return RankRow(name, label_invariant, np.nan, np.nan, np.nan, np.nan, np.nan, False, DrawShape.NONE, **more)
    z = np.arange(num_draws + 2) / (num_draws + 1)
    lower, upper = simultaneous_band(len(ranked), num_draws, alpha)
    difference = rank_counts(ranked, num_draws) / len(ranked) - z
    limit = np.where(difference < 0, z - lower / len(ranked), upper / len(ranked) - z)
    worst = most_extreme(ranked, num_draws)
    inside = bool((abs(difference) <= limit + 1e-12).all())
    return RankRow(
        name,
        label_invariant,
        chi_square_p=chi_square(ranked, num_draws)[0],
        ecdf_p=simultaneous_p(ranked, num_draws),
        deviation=float(difference[worst]),
        at=float(z[worst]),
        limit=float(limit[worst]),
        inside=inside,
        shape=DrawShape.NONE if inside else _draw_shape(ranked, num_draws),
        **more,
    )


def _draw_shape(ranks: np.ndarray, num_draws: int) -> DrawShape:
    """Return how the ranks deviate most from uniform ranks: in their location or in their spread.

    The two deviations are compared in units of their standard errors.
    """
    u = (ranks + 0.5) / (num_draws + 1) - 0.5
    location, width = u.mean() * np.sqrt(12 * len(u)), ((u**2).mean() - 1 / 12) * np.sqrt(180 * len(u))
    if abs(location) > abs(width):
        return DrawShape.TOO_LOW if location > 0 else DrawShape.TOO_HIGH
    return DrawShape.TOO_NARROW if width > 0 else DrawShape.TOO_WIDE


def coverage_row(method: str, name: str, probability: float, covers: np.ndarray, defined: np.ndarray) -> CoverageRow:
    """Return the coverage of the intervals of one parameter.

    Args:
        method: name of the method.
        name: name of the parameter.
        probability: probability of the intervals.
        covers: (B,) booleans, whether the interval of a data set contains the truth.
        defined: (B,) booleans, whether a data set has an interval.
    """
    count, hits = int(defined.sum()), int((covers & defined).sum())
    share = hits / count if count else np.nan
    return CoverageRow(
        method,
        name,
        probability,
        coverage=share,
        error=float(np.sqrt(share * (1 - share) / count)) if count else np.nan,
        undefined=1 - count / len(defined),
        coverage_with_misses=hits / len(defined),
    )
