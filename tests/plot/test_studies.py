"""Test figures of studies by what their axes hold."""

import numpy as np
import pytest
from matplotlib.figure import Figure

import jaxgmm
from jaxgmm import plot
from jaxgmm.calibration.result import Calibration
from jaxgmm.coverage.design import Design
from jaxgmm.selection.select import Cell, Selection

from helpers import study_of


@pytest.fixture
def ax():
    return Figure().subplots()


def calibration_of(ranks, num_draws):
    names = [f"quantity {q}" for q in range(ranks.shape[1])]
    return Calibration("gibbs", {}, names, np.ones(len(names), bool), ranks, num_draws, np.ones(ranks.shape), [], {}, {}, 0.01)


def test_rank_ecdfs_name_what_leaves_the_band(ax):
    uniform = np.repeat(np.arange(20), 5)
    missing = np.where(np.arange(100) < 4, -1, uniform[::-1])  # no rank in four data sets
    plot.rank_ecdfs(ax, calibration_of(np.stack([uniform, uniform // 2, missing], 1), 19))
    curves = [line for line in ax.lines if len(line.get_xdata()) == 21]
    assert [line.get_label().startswith("_") for line in curves] == [True, False, True]
    assert curves[0].get_ydata() == pytest.approx(0, abs=1e-12)
    assert curves[1].get_ydata()[[0, 10, 20]] == pytest.approx([0, 0.5, 0])  # all ranks are below the middle
    named = [text.get_text() for text in ax.get_legend().get_texts()]
    assert named == ["99 % band, all quantities at once", "quantity 1", "2 quantities inside"]
    with pytest.raises(ValueError, match="no ranks"):
        plot.rank_ecdfs(ax, calibration_of(np.zeros((5, 0), int), 19))


def test_selection_has_a_line_per_type_and_marks_the_best(ax):
    cells = {}
    for covariance_type, values in {"full": [10.0, 5.0, 1.0], "diag": [9.0, 7.0, np.inf]}.items():
        for k, value in enumerate(values, 1):
            cells[covariance_type, k] = Cell(covariance_type, k, value, 0.0, jaxgmm.Status.CONVERGED, value == 1.0, None)
    plot.selection(ax, Selection("bic", cells, cells["full", 2]))
    full, diag, spikes, best = ax.lines
    assert full.get_xydata().tolist() == [[1, 10], [2, 5], [3, 1]]
    assert full.get_label() == "full"
    assert diag.get_xydata().tolist() == [[1, 9], [2, 7]]
    assert full.get_linestyle() != diag.get_linestyle()
    assert spikes.get_xydata().tolist() == [[3, 1]]
    assert best.get_xydata().tolist() == [[2, 5]]
    assert "BIC" in ax.get_ylabel()
    assert "best: full, K = 2" in best.get_label()


def test_coverage_has_a_point_per_cell_and_method(ax):
    design = Design(separations=(1.0, 3.0), num_observations=(50, 200), methods=("map", "laplace"), num_datasets=20)
    plot.coverage(ax, study_of(design), kind="mean")
    lines = [container.lines[0].get_xydata() for container in ax.containers]
    assert lines[0][:, 1] == pytest.approx(100)
    assert lines[1][:, 1] == pytest.approx([11, 31, 11, 31])
    assert (np.diff(lines[1][:, 0]) > 0).all()
    assert (lines[1][:, 0] > lines[0][:, 0]).all()
    bars = [container.lines[2][0].get_segments()[0] for container in ax.containers]
    assert np.ptp(bars[0][:, 1]) == pytest.approx(20)  # two standard errors of 5 % to either side
    assert [text.get_text() for text in ax.texts] == ["N = 50", "N = 200"]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["EM, posterior mode", "Laplace"]
    other = Figure().subplots()
    plot.coverage(other, study_of(design), probability=0.5)
    assert other.containers[1].lines[0].get_ydata() == pytest.approx(50)
    for options in ({"probability": 0.8}, {"kind": "covariance"}, {"covariance_type": "tied"}):
        with pytest.raises(ValueError, match="it has 50 %, 90 % and full"):
            plot.coverage(ax, study_of(design), **options)
