"""The results of select: marks in the table, and which cell is the best."""

import math

import pytest

from jaxgmm.em.result import Status
from jaxgmm.posterior.result import PosteriorStatus
from jaxgmm.selection.evidence import ModelEvidence
from jaxgmm.selection.result import Cell, Selection, best_cell, evidence_table


def made_selection(*cells):
    """Return a selection of cells with K from 1 on, given by criterion, status and whether there is a spike."""
    made = [Cell("diag", k, value, -1.0, status, spike, None) for k, (value, status, spike) in enumerate(cells, 1)]
    return Selection("bic", {("diag", cell.num_components): cell for cell in made}, best_cell(made))


@pytest.mark.parametrize("status", [s for s in Status if s not in (Status.CONVERGED, Status.MAX_ITER)])
def test_a_failed_fit_is_never_chosen(status):
    """The lowest criterion does not win if its fit failed or has a spike; a failed fit has its mark in the table."""
    selection = made_selection((9.0, Status.CONVERGED, False), (1.0, status, False), (2.0, Status.CONVERGED, True))
    assert selection.best.num_components == 1
    assert [cell.sound for cell in selection.cells.values()] == [True, False, False]
    text = repr(selection)
    assert [line.split()[1] for line in text.splitlines()[2:5]] == ["9.00*", "1.00x", "2.00s"]
    assert "x a failed fit: not chosen" in text


def test_the_best_shows_what_is_wrong_with_it():
    """A winner that did not converge has its mark beside the star and a note; so has one that is not sound."""
    text = repr(made_selection((1.0, Status.MAX_ITER, False), (9.0, Status.CONVERGED, False)))
    assert [line.split()[1] for line in text.splitlines()[2:4]] == ["1.00*!", "9.00"]
    assert "The best fit did not converge." in text
    assert "raise max_iter or tol" in " ".join(text.split())
    text = repr(made_selection((9.0, Status.CONVERGED, True), (1.0, Status.SINGULAR, False)))
    assert [line.split()[1] for line in text.splitlines()[2:4]] == ["9.00*s", "1.00x"]
    assert "No model has a sound fit" in text
    text = repr(made_selection((math.inf, Status.CONVERGED, False), (8.0, Status.DECREASED, False)))
    assert [line.split()[1] for line in text.splitlines()[2:4]] == ["infx", "8.00*x"]


def made_cell(name, k, probability, status=PosteriorStatus.OK):
    evidence = ModelEvidence(-10.0, 0.1, probability, 0.01, status)
    return Cell(name, k, 20.0, -1.0, Status.SINGULAR, True, None, evidence)


def test_marks_of_evidence():
    """Runs that disagree are marked if the model matters. The fit does not decide which model is chosen."""
    cells = [made_cell("full", 1, 0.7), made_cell("diag", 1, 0.3, PosteriorStatus.UNMIXED), made_cell("diag", 2, 1e-4)]
    assert all(cell.sound for cell in cells)
    lines = evidence_table(cells, cells[0]).text().splitlines()
    assert "p(type, K | x)" in lines[1]
    assert [line.split()[-1] for line in lines[2:5]] == ["*", "?", "%"]
    assert "raise num_samples" in " ".join(" ".join(lines).split())
    unimportant = made_cell("diag", 1, 1e-4, PosteriorStatus.DEGENERATE)
    assert unimportant.evidence.reliable
