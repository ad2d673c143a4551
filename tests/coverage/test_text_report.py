"""Test the printed page of a study: its width, the averages in its tables, and gaps where a number is not defined."""

import dataclasses
import math

import jaxgmm
from jaxgmm.coverage.text_report import render

from helpers import study_of

DESIGN = jaxgmm.Design(separations=(1.0, 3.0), num_observations=(50, 200), methods=("map", "laplace"), num_datasets=20)


def lines_of(study):
    return "\n".join(render(study.rows, study.design, "float32")).splitlines()


def test_each_method_has_a_line_in_each_cell():
    lines = lines_of(study_of(DESIGN))
    assert max(map(len, lines)) <= 100
    assert sum(line.strip().startswith("N = ") for line in lines) == 2 * DESIGN.num_cells
    assert sum(line.split()[:1] == ["laplace"] for line in lines) == 2 * DESIGN.num_cells
    first = next(line for line in lines if line.split()[:1] == ["laplace"])
    assert first.split()[1:] == ["50.0", "10.0", "50.0", "11.0", "0.0", "0.0", "1"]  # 50 % and 90 %, weights, then means
    assert "EM starts from k-means++" in " ".join(lines)
    assert "at most 11.2 percentage points" in " ".join(lines)


def test_columns_move_below_where_they_are_too_wide():
    study = study_of(DESIGN)
    rows = [
        dataclasses.replace(row, kind=kind, name=f"{kind}s[0]")
        for row in study.rows
        for kind in ("weight", "mean", "variance", "covariance")
    ]
    lines = lines_of(dataclasses.replace(study, rows=rows))
    assert max(map(len, lines)) <= 100
    assert {"weights", "means", "variances", "covariances"} <= set(" ".join(lines).split())


def test_numbers_that_are_not_defined_are_dashes():
    study = study_of(DESIGN)
    rows = [dataclasses.replace(row, bias=math.nan, rmse=math.nan) for row in study.rows]
    errors = [line.split() for line in lines_of(dataclasses.replace(study, rows=rows)) if line.split()[:1] == ["map"]][-1]
    assert errors == ["map", "-", "-", "1", "-", "-", "1"]


def test_a_single_weight_is_left_out():
    design = jaxgmm.Design(num_components=1, separations=(0.0,), num_observations=(50,), methods=("map",), num_datasets=20)
    assert "weights" not in " ".join(lines_of(study_of(design))).split()
