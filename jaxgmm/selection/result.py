"""The results of `select`: one `Cell` for each model, and a `Selection` of all cells."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..covariance.types import code_of, is_classic
from ..em.result import Fit, Status, unsoundness
from ..studies.serialization import Exported, plain
from ..tables import WIDTH, Layout, Printed, Table

if TYPE_CHECKING:  # imported on first use, because only the criterion "evidence" needs it
    from .evidence import ModelEvidence

_NUM_TOP = 3  # the number of models that the table names below its rows if it shows codes, as mclust does
_FIELDS = ("covariance_type", "num_components", "criterion", "log_likelihood", "status", "spike")  # fields of a Cell's record
_MARKS = {
    "*": "best",
    "s": "a degenerate component: not chosen",
    "x": "a failed fit: not chosen",
    "!": "not converged",
}


@dataclass(frozen=True, eq=False)
class Cell:
    """One of the models that `select` compares, with a number of components and a covariance type.

    A fit is sound if EM converged or ran out of steps, all numbers are finite, and no component is degenerate. If at least one
    model has a sound fit, only models with sound fits can be chosen. The criterion "evidence" does not depend on the fit: every
    model with a finite evidence can be chosen.

    Attributes:
        covariance_type: the covariance type.
        num_components: K.
        criterion: the value of the criterion, on the scale of -2 log L in nats. Lower is better. If the fit failed, the value
            is inf.
        log_likelihood: the weighted log-likelihood of all data, nats.
        status: how the fit ended.
        spike: whether the fit has a degenerate component. Such a component holds too few points, or only the regularisation
            keeps its covariance from collapsing.
        fit: the best of the restarts.
        evidence: the evidence of the model and its posterior probability, only for the criterion "evidence"; otherwise None.
    """

    covariance_type: str
    num_components: int
    criterion: float
    log_likelihood: float
    status: Status
    spike: bool
    fit: Fit
    evidence: ModelEvidence | None = None

    @property
    def unsoundness(self) -> int:
        """A number that says how far the fit is from being sound: 0 for a sound fit, larger numbers for worse fits."""
        if self.evidence is not None:
            return int(not math.isfinite(self.criterion))
        return int(unsoundness(int(self.status), self.spike, math.isfinite(self.criterion)))

    @property
    def sound(self) -> bool:
        """Whether the fit is sound, so that the model may be chosen."""
        return self.unsoundness == 0

    def to_dict(self) -> dict[str, Any]:
        """Return all fields except `fit`, in plain Python types; numbers that are not finite become None."""
        return plain(self._record())

    def _record(self) -> Mapping[str, object]:
        """Return all fields except `fit`; the status is replaced by its name."""
        record = {name: getattr(self, name) for name in _FIELDS} | {"status": self.status.name}
        return record if self.evidence is None else {**record, **self.evidence.record()}


@dataclass(frozen=True, eq=False, repr=False)
class Selection(Printed, Exported):
    """The results of `select` for all numbers of components and covariance types. They are printed as a table.

    Attributes:
        criterion: "bic", "aic", "icl", "cv" or "evidence".
        cells: one Cell for each (covariance_type, num_components).
        best: the cell with the lowest criterion among the cells with sound fits. If no fit is sound, it is the cell with the
            lowest criterion among the cells whose fits have the smallest `unsoundness`.
        feature_names: the names of the columns of the data if they were a data frame, otherwise None.

    If a covariance type has no name, such as VEE, tables and plots show the codes of all types, and the table names the best
    models. The keys of `cells` do not change: "full", "tied", "diag" and "spherical" are the keys of VVV, EEE, VVI and VII.

    Example:
        >>> import jax, jaxgmm
        >>> x = jaxgmm.datasets.load("acidity")
        >>> swept = jaxgmm.select(jax.random.key(0), x, num_components=[1, 2], covariance_types=["tied"], num_restarts=2)
        >>> swept.best.num_components, sorted(swept.cells), swept.best.fit.mixture.means.shape
        (2, [('tied', 1), ('tied', 2)], (2, 1))
    """

    criterion: str
    cells: dict[tuple[str, int], Cell]
    best: Cell
    feature_names: list[str] | None = None

    @property
    def ranked(self) -> list[Cell]:
        """All cells, the best first: sound fits in the order of the criterion, then the others."""
        return sorted(self.cells.values(), key=_rank)

    def type_labels(self) -> dict[str, str]:
        """Return the label of each covariance type in tables and plots: its code if any type has no name, else its name."""
        types = dict.fromkeys(covariance_type for covariance_type, _ in self.cells)
        return {name: name if all(map(is_classic, types)) else code_of(name) for name in types}

    def to_dict(self) -> dict[str, Any]:
        """Return the criterion, a record of each cell, and the key of the best cell, in plain Python types."""
        best = {"covariance_type": self.best.covariance_type, "num_components": self.best.num_components}
        return {"criterion": self.criterion, "cells": [cell.to_dict() for cell in self.cells.values()], "best": best}

    def _records(self) -> Iterable[Mapping[str, object]]:
        return [cell._record() for cell in self.cells.values()]

    def _fields(self) -> Sequence[str]:
        return list(self.best._record())

    def _tables(self) -> list[Table]:
        if self.best.evidence is not None:
            return [evidence_table(list(self.cells.values()), self.best)]
        labels = self.type_labels()
        types = list(labels)
        counts = list(dict.fromkeys(k for _, k in self.cells))
        cells = [[self.cells[name, k] for name in types] for k in counts]
        width = max(len(self._marks(cell)) for row in cells for cell in row)
        rows = [
            [str(k), *(f"{cell.criterion:.2f}{self._marks(cell):<{width}}" for cell in row)]
            for k, row in zip(counts, cells, strict=True)
        ]
        marks = {mark for row in cells for cell in row for mark in self._marks(cell)}
        notes = [", ".join(f"{mark} {meaning}" for mark, meaning in _MARKS.items() if mark in marks)]
        if not self.best.sound:
            notes.append("No model has a sound fit: the one nearest to it is marked; look at its fit before you use it.")
        elif self.best.status != Status.CONVERGED:
            notes.append(f"The best fit did not converge. {self.best.status.sentence}")
        if not all(map(is_classic, types)):
            top = [
                f"{labels[cell.covariance_type]},{cell.num_components} {cell.criterion:.2f}" for cell in self.ranked[:_NUM_TOP]
            ]
            notes.append(f"best first: {'; '.join(top)}")
        columns = ("K", *(label + " " * width for label in labels.values()))
        return [Table(f"{self.criterion.upper()}, lower is better", columns, rows, notes, layout=Layout(max_width=WIDTH))]

    def _marks(self, cell: Cell) -> str:
        """Return the marks of a cell: whether it is the best, and what is wrong with its fit."""
        best = "*" if cell is self.best else ""
        if cell.spike:
            return best + "s"
        if not cell.sound:
            return best + "x"
        return best + ("" if cell.status == Status.CONVERGED else "!")


def best_cell(cells: Iterable[Cell]) -> Cell:
    """Return the cell with the lowest criterion among the cells with sound fits.

    If no fit is sound, return the cell with the lowest criterion among the cells whose fits have the smallest `unsoundness`.
    """
    return min(cells, key=_rank)


def _rank(cell: Cell) -> tuple[int, float]:
    """Return the numbers by which cells are ranked, the smallest first."""
    return cell.unsoundness, cell.criterion


def evidence_table(cells: Sequence[Cell], best: Cell) -> Table:
    """Return a table with one line for each model."""
    rows = []
    for cell in cells:
        found = cell.evidence
        assert found is not None
        values = [f"{found.log_evidence:.2f}", f"{found.log_evidence_error:.2f}"]
        values += [f"{100 * found.probability:.1f} %", f"{100 * found.probability_error:.1f} %"]
        mark = ("*" if cell is best else "") + ("" if found.reliable else "?")
        rows.append([cell.covariance_type, str(cell.num_components), *values, mark])
    notes = ["* best; before the data are seen, all models have the same probability. One prior is used for all K."]
    if any(row[-1].endswith("?") for row in rows):
        notes.append("? the runs of smc disagree, so neither the evidence nor its error can be trusted: raise num_samples")
    header = ("covariance type", "K", "log p(x)", "+-", "p(K | x)", "+-", "")
    if len({cell.covariance_type for cell in cells}) > 1:
        return Table("Evidence", (*header[:4], "p(type, K | x)", *header[5:]), rows, notes)
    return Table(f"Evidence, covariance type {best.covariance_type}", header[1:], [row[1:] for row in rows], notes)
