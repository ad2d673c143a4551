"""The rows of a coverage study: bias, error, and coverage and width of intervals, from the results of many data sets."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..studies.parameters import Parameter
from .design import StudyCell


@dataclass(frozen=True)
class IntervalCoverage:
    """How often the intervals of one probability contain the truth, and how wide they are.

    Attributes:
        coverage: fraction of the data sets whose interval contains the truth; an undefined interval counts as a miss.
        coverage_se: its Monte Carlo standard error.
        coverage_defined: the same fraction of the intervals that are defined.
        coverage_defined_se: its Monte Carlo standard error.
        width: mean width of the intervals that are defined, in the units of the parameter.
        width_se: its Monte Carlo standard error.
        width_median: median of those widths.
    """

    coverage: float
    coverage_se: float
    coverage_defined: float
    coverage_defined_se: float
    width: float
    width_se: float
    width_median: float

    def to_dict(self, probability: float) -> dict[str, float]:
        """Return the fields by name, with the probability in percent after the first word, as coverage_90_se.

        Example:
            >>> list(IntervalCoverage(0.5, 0.1, 0.5, 0.1, 2.0, 0.1, 2.0).to_dict(0.9))[:3]
            ['coverage_90', 'coverage_90_se', 'coverage_90_defined']
        """
        words = {name: name.split("_") for name in dataclasses.asdict(self)}
        return {
            "_".join([first, f"{100 * probability:g}", *rest]): getattr(self, name) for name, (first, *rest) in words.items()
        }


@dataclass(frozen=True)
class StudyRow:
    """One parameter in one cell, as one method estimates it.

    Weights are fractions, means are in data units, variances and covariances in data units squared.

    Attributes:
        covariance_type: of the cell.
        num_observations: N of the cell.
        separation: of the cell, in standard deviations.
        method: the method.
        seconds_per_dataset: without compilation; measured in the run that computed the row.
        statuses: number of data sets by the status of the fit or of the draws.
        name: the parameter, as "means[0,1]".
        kind: "weight", "mean", "variance" or "covariance".
        component: the component that it belongs to; None if all share it.
        features: the features that it belongs to.
        truth: the true value.
        num_datasets: number of data sets.
        num_estimates: number of finite estimates, which enter bias and RMSE.
        bias: mean error of the estimates.
        bias_se: its Monte Carlo standard error.
        rmse: root mean square error of the estimates.
        rmse_se: its Monte Carlo standard error.
        intervals: coverage and width of the intervals, by their probability.
        share_undefined: fraction of the data sets without an interval.
        share_undefined_se: its Monte Carlo standard error.
        share_failed: fraction of the data sets whose fit did not converge or has a degenerate component, or whose draws cannot
            be used.
        share_failed_se: its Monte Carlo standard error.
    """

    covariance_type: str
    num_observations: int
    separation: float
    method: str
    seconds_per_dataset: float
    statuses: Mapping[str, int]
    name: str
    kind: str
    component: int | None
    features: tuple[str, ...]
    truth: float
    num_datasets: int
    num_estimates: int
    bias: float
    bias_se: float
    rmse: float
    rmse_se: float
    intervals: Mapping[float, IntervalCoverage]
    share_undefined: float
    share_undefined_se: float
    share_failed: float
    share_failed_se: float

    def to_dict(self) -> dict[str, Any]:
        """Return the fields by name, the intervals as entries such as coverage_90, coverage_90_se and width_90_median."""
        found: dict[str, Any] = {}
        for entry in dataclasses.fields(self):
            if entry.name != "intervals":
                found[entry.name] = getattr(self, entry.name)
                continue
            for probability, interval in self.intervals.items():
                found |= interval.to_dict(probability)
        return found


@dataclass(frozen=True)
class MethodRun:
    """What one method found in one cell.

    Attributes:
        cell: the cell.
        method: the method.
        statuses: number of data sets by status.
        found: arrays over the B data sets, as `Batch.run` returns them.
    """

    cell: StudyCell
    method: str
    statuses: Mapping[str, int]
    found: Mapping[str, np.ndarray]

    def rows(self, described: Sequence[Parameter], truth: np.ndarray, probabilities: Sequence[float]) -> list[StudyRow]:
        """Return one row for each of P parameters with true values (P,) and Q intervals each."""
        seconds = float(self.found["seconds"].mean())
        failed, failed_se = _share(np.asarray(self.found["failed"], bool))
        rows = []
        for p, parameter in enumerate(described):
            defined = np.asarray(self.found["defined"][:, p], bool)
            undefined, undefined_se = _share(~defined)
            row = StudyRow(
                **vars(self.cell),
                method=self.method,
                seconds_per_dataset=seconds,
                statuses=self.statuses,
                **vars(parameter),
                truth=float(truth[p]),
                num_datasets=len(defined),
                **_errors(np.asarray(self.found["estimate"][:, p], float) - float(truth[p])),
                intervals={probability: self._interval(p, q, truth[p]) for q, probability in enumerate(probabilities)},
                share_undefined=undefined,
                share_undefined_se=undefined_se,
                share_failed=failed,
                share_failed_se=failed_se,
            )
            rows.append(row)
        return rows

    def _interval(self, p: int, q: int, truth: float) -> IntervalCoverage:
        """Count how often interval q of parameter p contains the truth, and measure its width."""
        defined = np.asarray(self.found["defined"][:, p], bool)
        lower, upper = (np.asarray(self.found[end][:, q, p], float) for end in ("lower", "upper"))
        inside = defined & (lower <= truth) & (truth <= upper)
        width = (upper - lower)[defined]
        median = float(np.median(width)) if len(width) else math.nan
        return IntervalCoverage(*_share(inside), *_share(inside[defined]), *_mean(width), median)


def _errors(error: np.ndarray) -> dict[str, Any]:
    """Return bias and root mean square of the finite errors among (B,), and how many are finite."""
    error = error[np.isfinite(error)]
    bias, bias_se = _mean(error)
    square, square_se = _mean(error**2)
    rmse = math.sqrt(square) if square >= 0 else math.nan
    rmse_se = square_se / (2 * rmse) if rmse > 0 else square_se  # by the delta method
    return {"num_estimates": len(error), "bias": bias, "bias_se": bias_se, "rmse": rmse, "rmse_se": rmse_se}


def _mean(numbers: np.ndarray) -> tuple[float, float]:
    """Return the mean and its Monte Carlo standard error."""
    if not len(numbers):
        return math.nan, math.nan
    return float(numbers.mean()), float(numbers.std(ddof=1) / math.sqrt(len(numbers))) if len(numbers) > 1 else math.nan


def _share(hits: np.ndarray) -> tuple[float, float]:
    """Return the fraction of hits and its Monte Carlo standard error.

    The standard error is taken at (hits + 1) / (B + 2), so that fractions of 0 and 1 have a positive one too.
    """
    if not len(hits):
        return math.nan, math.nan
    p = (hits.sum() + 1) / (len(hits) + 2)
    return float(hits.mean()), math.sqrt(p * (1 - p) / len(hits))
