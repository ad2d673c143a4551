"""The rows of a calibration: how the ranks of one quantity compare with their band, and how often intervals cover."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np

from .bands import chi_square, most_extreme, rank_counts, simultaneous_band, simultaneous_p


class DrawShape(StrEnum):
    """What ranks outside their band say about the draws."""

    NONE = ""
    TOO_LOW = "draws too low"
    TOO_HIGH = "draws too high"
    TOO_NARROW = "draws too narrow"
    TOO_WIDE = "draws too wide"


@dataclass(frozen=True)
class RankRow:
    """The ranks of one quantity, compared with their band.

    Attributes:
        name: the quantity.
        label_invariant: whether no order of the components changes it.
        chi_square_p: p-value of the chi-square test that the ranks are uniform.
        ecdf_p: exact simultaneous p-value of the ranks' distribution function (ECDF).
        deviation: of the ECDF from the uniform one, where it is least probable.
        at: the fraction of the possible ranks at which that is.
        limit: the largest deviation in that direction that the band allows there.
        inside: whether the ECDF lies inside its band everywhere.
        shape: what the ranks say about the draws if they are outside.
        not_ranked: number of data sets without a rank, because a value is not finite.
        ess_median: median over the data sets of the bulk effective sample size of the L draws.
        ess_low: the 5 % quantile of the same.
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
    """How often one method's intervals of one parameter contain the truth.

    Attributes:
        method: "em" for the estimate with its information, else the method that drew.
        name: the parameter.
        probability: of the intervals.
        coverage: fraction of the intervals that contain the truth, among data sets that have an interval.
        error: Monte Carlo standard error of the coverage.
        undefined: fraction of the data sets without an interval.
        coverage_with_misses: the coverage if those data sets count as misses.
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
        name: the quantity.
        ranks: (B,), numbers of draws below the truth; -1: no rank.
        ess: (B,), effective sample sizes of the draws.
        label_invariant: whether no order of the components changes the quantity.
        num_draws: L.
        alpha: probability that a correct method leaves this band.
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
    """Return whether location or width of the ranks is further from uniform, in standard errors, and in which direction."""
    u = (ranks + 0.5) / (num_draws + 1) - 0.5
    location, width = u.mean() * np.sqrt(12 * len(u)), ((u**2).mean() - 1 / 12) * np.sqrt(180 * len(u))
    if abs(location) > abs(width):
        return DrawShape.TOO_LOW if location > 0 else DrawShape.TOO_HIGH
    return DrawShape.TOO_NARROW if width > 0 else DrawShape.TOO_WIDE


def coverage_row(method: str, name: str, probability: float, covers: np.ndarray, defined: np.ndarray) -> CoverageRow:
    """Count the intervals that contain the truth.

    Args:
        method: the method.
        name: the parameter.
        probability: of the intervals.
        covers: (B,) booleans, whether the interval contains the truth.
        defined: (B,) booleans, whether there is an interval.
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
