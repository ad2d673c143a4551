"""Test the result of a calibration: its outcome, its numbers for programs, its band, and the printed page."""

import csv
import dataclasses
import io
import json

import numpy as np
import pytest

import jaxgmm
from jaxgmm.calibration.result import CalibrationOutcome
from jaxgmm.calibration.rows import CoverageRow, RankRow

UNIFORM = np.repeat(np.arange(20), 10)
DESIGN = {
    "num_components": 2,
    "num_features": 1,
    "num_observations": 9,
    "covariance_type": "full",
    "dtype": "float32",
    "thin": 3,
}
DESIGN |= {"prior": {"mean": [0.0], "mean_precision": 0.1}, "options": {"num_chains": 1, "num_samples": 57}}


def calibration_of(*columns, coverage=None, method="gibbs", names=("log-likelihood", "means[0,0]")):
    """Return a Calibration of the given ranks, by default with a single row of coverage."""
    ranks = np.stack(columns, 1) if columns else np.zeros((4, 0), int)
    names = list(names[: len(columns)])
    coverage = [CoverageRow(method, "means[0,0]", 0.9, 0.875, 0.02, 0.0, 0.875)] if coverage is None else coverage
    invariant = np.array([name == "log-likelihood" for name in names], bool)
    ess = np.full(ranks.shape, 15.0)
    return jaxgmm.Calibration(method, DESIGN, names, invariant, ranks, 19, ess, coverage, {"OK": len(ranks)}, {}, 0.01)


def test_outcomes():
    good, bad = calibration_of(UNIFORM, UNIFORM[::-1]), calibration_of(UNIFORM, UNIFORM // 2)
    lost = calibration_of(UNIFORM, np.where(np.arange(200) == 3, -1, UNIFORM))
    nothing = calibration_of()
    assert [one.outcome for one in (good, bad, lost, nothing)] == [
        CalibrationOutcome.CALIBRATED,
        CalibrationOutcome.NOT_CALIBRATED,
        CalibrationOutcome.NOT_CALIBRATED,
        CalibrationOutcome.NOT_RANKED,
    ]
    assert [one.passed for one in (good, bad, lost, nothing)] == [True, False, False, None]
    assert all(one.outcome.sentence in str(one).replace("\n", " ") for one in (good, bad, lost, nothing))


def test_rows_are_those_of_the_ranks():
    rows = calibration_of(UNIFORM, UNIFORM // 2).rows
    assert [type(row) for row in rows] == [RankRow, RankRow]
    assert [(row.name, row.label_invariant, row.inside) for row in rows] == [
        ("log-likelihood", True, True),
        ("means[0,0]", False, False),
    ]
    assert all(row.ess_median == 15 for row in rows)


def test_thresholds_are_shared_by_the_quantities():
    found = calibration_of(UNIFORM, UNIFORM).thresholds
    assert found["alpha"] == 0.01
    assert found["alpha_each"] == 0.005
    assert 0.008 < found["false_failure_rate"] <= 0.01
    assert calibration_of().thresholds == {"alpha": 0.01}


def test_band_and_ecdf():
    calibration = calibration_of(UNIFORM, UNIFORM // 2)
    z, difference, lower, upper = calibration.ecdf("means[0,0]")
    assert z.shape == difference.shape == lower.shape == upper.shape == (21,)
    assert difference[[0, 10, 20]] == pytest.approx([0, 0.5, 0])
    np.testing.assert_array_equal(calibration.band()[1], lower)
    assert (lower <= 0).all()
    assert (upper >= 0).all()
    with pytest.raises(ValueError, match="'log-likelihood'"):
        calibration.ecdf("weights")


def test_exports_have_the_same_numbers(tmp_path):
    calibration = calibration_of(UNIFORM, UNIFORM // 2)
    found = json.loads(calibration.to_json(tmp_path / "c.json"))
    assert found == json.loads((tmp_path / "c.json").read_text()) == calibration.to_dict()
    assert found["passed"] is False
    assert found["design"]["prior"]["mean_precision"] == 0.1
    assert found["quantities"][1]["shape"] == "draws too high"
    assert found["ranks"] == calibration.ranks.tolist()
    lines = list(csv.DictReader(io.StringIO(calibration.to_csv())))
    assert [line["kind"] for line in lines] == ["rank", "rank", "coverage"]
    assert float(lines[1]["deviation"]) == calibration.rows[1].deviation
    assert lines[2]["coverage"] == "0.875"
    frame = calibration.to_dataframe()
    assert list(frame.columns) == list(lines[0])
    assert frame["deviation"].tolist()[:2] == [row.deviation for row in calibration.rows]
    assert frame["coverage"].isna().tolist() == [True, True, False]


def test_the_columns_of_the_table():
    """Programs that read the file rely on these names."""
    header = calibration_of(UNIFORM).to_csv().splitlines()[0]
    names = (
        "kind,method,name,label_invariant,chi_square_p,ecdf_p,deviation,at,limit,inside,shape,not_ranked,ess_median,ess_low,"
    )
    assert header == names + "probability,coverage,error,undefined,coverage_with_misses"


def test_rows_cannot_be_changed():
    calibration = calibration_of(UNIFORM)
    with pytest.raises(dataclasses.FrozenInstanceError):
        calibration.rows[0].inside = False
    with pytest.raises(dataclasses.FrozenInstanceError):
        calibration.alpha = 0.5
