"""The rows of a coverage study, which contain bias, error, interval coverage and interval width over many data sets."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np

from ..studies.parameters import Parameter
from .design import StudyCell


@dataclass(frozen=True)
class IntervalCoverage:
    """The coverage and the width of the intervals of one parameter, for one probability.

    Attributes:
        coverage: fraction of the data sets whose interval contains the truth; an undefined interval counts as a miss.
        coverage_se: Monte Carlo standard error of `coverage`.
        coverage_defined: fraction of the defined intervals that contain the truth.
        coverage_defined_se: Monte Carlo standard error of `coverage_defined`.
        width: mean width of the defined intervals, in the units of the parameter.
        width_se: Monte Carlo standard error of `width`.
        width_median: median width of the defined intervals.
    """

    coverage: float
    coverage_se: float
    coverage_defined: float
    coverage_defined_se: float
    width: float
    width_se: float
    width_median: float

    def to_dict(self, probability: float) -> dict[str, float]:
        """Return the fields by name. Each name contains the probability in percent: `coverage_se` becomes coverage_90_se.

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
    """The results of one method for one parameter in one cell.

    Weights are fractions, means are in data units, variances and covariances in data units squared.

    Attributes:
        covariance_type: covariance type of the cell.
        num_observations: N, the number of observations of each data set.
        separation: separation of the cell, in standard deviations.
        method: name of the method.
        seconds_per_dataset: seconds for each data set, without compilation, measured in the run that computed the row.
        statuses: number of data sets for each status of the fit or of the draws.
        name: name of the parameter, such as "means[0,1]".
        kind: "weight", "mean", "variance" or "covariance".
        component: the component to which the parameter belongs; None if all components share the parameter.
        features: names of the features to which the parameter belongs.
        truth: true value of the parameter.
        num_datasets: number of data sets.
        num_estimates: number of finite estimates. Bias and RMSE are computed only from finite estimates.
        bias: mean error of the estimates.
        bias_se: Monte Carlo standard error of `bias`.
        rmse: root mean square error of the estimates.
        rmse_se: Monte Carlo standard error of `rmse`.
        intervals: a dict with the coverage and width of the intervals for each probability.
        share_undefined: fraction of the data sets without an interval.
        share_undefined_se: Monte Carlo standard error of `share_undefined`.
        share_failed: fraction of the data sets whose fit did not converge or has a degenerate component, or whose draws cannot
            be used.
        share_failed_se: Monte Carlo standard error of `share_failed`.
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
        """Return the fields by name. The intervals become entries such as coverage_90, coverage_90_se and width_90_median."""
        found: dict[str, object] = {}
        for entry in dataclasses.fields(self):
            if entry.name != "intervals":
                found[entry.name] = getattr(self, entry.name)
                continue
            for probability, interval in self.intervals.items():
                found |= interval.to_dict(probability)
        return found


@dataclass(frozen=True)
class MethodRun:
    """The results of one method in one cell.

    Attributes:
        cell: the cell.
        method: name of the method.
        statuses: number of data sets for each status.
        found: arrays over the B data sets, as `Batch.run` returns them.
    """

    cell: StudyCell
    method: str
    statuses: Mapping[str, int]
    found: Mapping[str, np.ndarray]

    def rows(self, described: Sequence[Parameter], truth: np.ndarray, probabilities: Sequence[float]) -> list[StudyRow]:
        """Return one row for each of the P parameters.

        `truth` (P,) contains the true values. For each parameter, there is one interval for each probability.
        """
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
        """Return the coverage and the width of interval q of parameter p."""
        defined = np.asarray(self.found["defined"][:, p], bool)
        lower, upper = (np.asarray(self.found[end][:, q, p], float) for end in ("lower", "upper"))
        inside = defined & (lower <= truth) & (truth <= upper)
        width = (upper - lower)[defined]
        median = float(np.median(width)) if len(width) else math.nan
        return IntervalCoverage(*_share(inside), *_share(inside[defined]), *_mean(width), median)


class _Errors(TypedDict):
    """The fields of a StudyRow that describe the errors of the estimates."""

    num_estimates: int
    bias: float
    bias_se: float
    rmse: float
    rmse_se: float


def _errors(error: np.ndarray) -> _Errors:
    """Return the number of finite errors among the errors (B,), their mean, and their root mean square."""
    error = error[np.isfinite(error)]
    bias, bias_se = _mean(error)
    square, square_se = _mean(error**2)
    rmse = math.sqrt(square) if square >= 0 else math.nan
    rmse_se = square_se / (2 * rmse) if rmse > 0 else square_se  # this follows from the delta method
    return {"num_estimates": len(error), "bias": bias, "bias_se": bias_se, "rmse": rmse, "rmse_se": rmse_se}


def _mean(numbers: np.ndarray) -> tuple[float, float]:
    """Return the mean of the numbers and its Monte Carlo standard error."""
    if not len(numbers):
        return math.nan, math.nan
    return float(numbers.mean()), float(numbers.std(ddof=1) / math.sqrt(len(numbers))) if len(numbers) > 1 else math.nan


def _share(hits: np.ndarray) -> tuple[float, float]:
    """Return the fraction of `hits` (B,) that are True, and its Monte Carlo standard error.

    The standard error is computed with the fraction (hits + 1) / (B + 2), so that it is positive even if all hits or none
    are True.
    """
    if not len(hits):
        return math.nan, math.nan
    p = (hits.sum() + 1) / (len(hits) + 2)
    return float(hits.mean()), math.sqrt(p * (1 - p) / len(hits))
