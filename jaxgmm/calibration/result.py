"""The result of a calibration: the ranks of the truths, their comparison with bands, and the coverage of intervals."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ..status import StatusEnum
from ..studies.serialization import Exported, plain
from ..tables import paragraph
from .bands import Band, inside_probability, rank_counts, simultaneous_band
from .rows import CoverageRow, RankRow, rank_row
from .text_report import coverage_lines, header_lines, rank_lines, verdict


class CalibrationOutcome(StatusEnum):
    """The outcome of a calibration, which says whether the method is calibrated; `.sentence` explains it."""

    CALIBRATED = 0, "Verdict: calibrated. The ranks of all quantities lie inside their bands."
    NOT_CALIBRATED = (
        1,
        "Verdict: NOT calibrated. Either the method does not draw from the posterior under this prior, or its draws are too "
        "dependent. In the second case, raise thin.",
    )
    NOT_RANKED = (
        2,
        "No verdict: bootstrap does not draw from the posterior under this prior, so nothing is ranked; the table shows the "
        "coverage of its intervals.",
    )


@dataclass(frozen=True, eq=False)
class Calibration(Exported):
    """The result of `calibrate`. It can be printed, and its attributes hold the numbers.

    Attributes:
        method: name of the method.
        design: everything on which the numbers depend, in plain types: key, prior, counts, options, versions.
        quantities: names of the Q ranked quantities; empty for bootstrap, which does not draw from the posterior.
        label_invariant: (Q,) booleans, whether the quantity does not depend on the order of the components. For the other
            quantities, the components are first sorted by their means of feature 0.
        ranks: (B, Q) integers, the number of draws, out of L, that are below the truth; -1 if a value is not finite.
        num_draws: L, the number of ranked draws of each data set.
        ess: (B, Q), bulk effective sample size of the draws.
        coverage: one CoverageRow for each method, parameter and probability. The method "em" is the EM estimate with intervals
            from the information matrix.
        statuses: number of data sets for each status of the method's draws.
        fit_statuses: number of data sets for each status of the EM fits from which the draws start.
        alpha: probability that a correct method fails the check for at least one quantity.
    """

    method: str
    design: Mapping[str, Any]
    quantities: Sequence[str]
    label_invariant: np.ndarray
    ranks: np.ndarray
    num_draws: int
    ess: np.ndarray
    coverage: Sequence[CoverageRow]
    statuses: Mapping[str, int]
    fit_statuses: Mapping[str, int]
    alpha: float

    @property
    def outcome(self) -> CalibrationOutcome:
        """The outcome, which is CALIBRATED if every quantity has a rank in all data sets and its ECDF lies inside its band."""
        if not self.quantities:
            return CalibrationOutcome.NOT_RANKED
        is_calibrated = all(row.inside and not row.not_ranked for row in self.rows)
        return CalibrationOutcome.CALIBRATED if is_calibrated else CalibrationOutcome.NOT_CALIBRATED

    @property
    def passed(self) -> bool | None:
        """Whether `outcome` is CALIBRATED; None if nothing is ranked."""
        return None if self.outcome is CalibrationOutcome.NOT_RANKED else self.outcome is CalibrationOutcome.CALIBRATED

    @property
    def thresholds(self) -> dict[str, float]:
        """Upper limits for the probability that a correct method fails the check.

        `alpha` is the limit for all quantities together, and `alpha_each` = alpha / Q is the limit for each quantity
        (Bonferroni). `false_failure_rate` is the limit that is reached: it is slightly smaller than `alpha`, because ranks are
        counted in integers.
        """
        if not self.quantities:
            return {"alpha": self.alpha}
        exact = len(self.quantities) * (1 - inside_probability(self._count_band()))
        return {"alpha": self.alpha, "alpha_each": self._alpha_each, "false_failure_rate": exact}

    @cached_property
    def rows(self) -> list[RankRow]:
        """A list with one RankRow for each quantity."""
        return [
            rank_row(
                name,
                self.ranks[:, q],
                self.ess[:, q],
                label_invariant=bool(self.label_invariant[q]),
                num_draws=self.num_draws,
                alpha=self._alpha_each,
            )
            for q, name in enumerate(self.quantities)
        ]

    @property
    def _alpha_each(self) -> float:
        """Return the upper limit for the probability that a correct method fails the check of one quantity."""
        return self.alpha / max(1, len(self.quantities))

    def _count_band(self) -> Band:
        """Return the smallest and the largest number of ranks below j that the band of one quantity allows, for each j."""
        return simultaneous_band(len(self.ranks), self.num_draws, self._alpha_each)

    def band(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return points z from 0 to 1, and the lower and upper limits of the difference ECDF - z there, each (L + 2,).

        The ECDF is the empirical distribution function of the B ranks of a quantity. At z = j / (L + 1), it is the fraction of
        ranks below j. If the method is correct, the differences of all quantities lie within the limits with probability at
        least 1 - alpha.
        """
        z = np.arange(self.num_draws + 2) / (self.num_draws + 1)
        lower, upper = self._count_band()
        return z, lower / len(self.ranks) - z, upper / len(self.ranks) - z

    def ecdf(self, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return points z, the difference ECDF - z of one quantity, and the limits of this difference, as in `band`."""
        if name not in self.quantities:
            raise ValueError(f"name is {name!r}; one of {', '.join(map(repr, self.quantities))} was expected.")
        ranks = self.ranks[:, self.quantities.index(name)]
        ranks = ranks[ranks >= 0]
        z, lower, upper = self.band()
        return z, rank_counts(ranks, self.num_draws) / max(1, len(ranks)) - z, lower, upper

    def to_dict(self) -> dict[str, Any]:
        """Return every number, including the ranks, in plain Python types; numbers that are not finite become None."""
        found = {"method": self.method, "passed": self.passed, "design": self.design, "thresholds": self.thresholds}
        found |= {"statuses": self.statuses, "fit_statuses": self.fit_statuses}
        found |= {"quantities": [row.to_dict() for row in self.rows], "coverage": list(map(dataclasses.asdict, self.coverage))}
        return plain(found | {"num_draws": self.num_draws, "ranks": self.ranks})

    def _records(self) -> Iterator[Mapping[str, object]]:
        """Return `rows` and `coverage` as the rows of one table; the column "kind" is "rank" or "coverage"."""
        yield from ({"kind": "rank", "method": self.method, **row.to_dict()} for row in self.rows)
        yield from ({"kind": "coverage", **dataclasses.asdict(row)} for row in self.coverage)

    def _fields(self) -> list[str]:
        """Return the names of the columns of the table."""
        names = [field.name for row in (RankRow, CoverageRow) for field in dataclasses.fields(row)]
        return list(dict.fromkeys(["kind", "method", *names]))

    def __str__(self) -> str:
        """Return the printed page."""
        lines = header_lines(self.method, self.design, self.statuses, len(self.ranks), self.num_draws)
        rate = self.thresholds.get("false_failure_rate", self.alpha)
        lines += ["", *paragraph(verdict(self.outcome.sentence, self.rows, self.alpha, rate))]
        if self.quantities:
            lines += ["", *rank_lines(self.rows)]
        return "\n".join([*lines, "", *coverage_lines(self.coverage)])

    def __repr__(self) -> str:
        """Return the printed page."""
        return str(self)
