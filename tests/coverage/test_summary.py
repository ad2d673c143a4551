"""Test the rows of a study: each number against its definition, and their keys in files."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxgmm.coverage.design import StudyCell
from jaxgmm.coverage.summary import IntervalCoverage, MethodRun
from jaxgmm.studies.parameters import Parameter

CELL = StudyCell("full", 60, 2.0)
PARAMETERS = [Parameter("means[0,0]", "mean", 0, ("0",)), Parameter("means[1,0]", "mean", 1, ("0",))]
TRUTH = np.array([1.0, 0.0])


def made_up_results():
    """Return results of 50 data sets: one estimate is NaN, five intervals are undefined, ten data sets failed."""
    estimate = np.random.default_rng(0).normal(size=(50, 2)) + TRUTH
    estimate[3, 0] = np.nan
    defined = np.ones((50, 2), bool)
    defined[:5, 1] = False
    ends = np.where(defined[:, None], estimate[:, None], np.nan)
    found = {"estimate": estimate, "lower": ends - 1, "upper": ends + 1, "defined": defined, "failed": np.arange(50) < 10}
    return found | {"seconds": np.full(50, 0.25)}


def rows_of(found):
    return MethodRun(CELL, "em", {"CONVERGED": 50}, found).rows(PARAMETERS, TRUTH, (0.9,))


def test_rows_from_arrays():
    """NaN estimates are left out of bias and RMSE; undefined intervals count as misses, or are left out."""
    found = made_up_results()
    first, second = rows_of(found)
    error = np.delete(found["estimate"][:, 0] - 1, 3)
    assert (first.name, first.truth, first.separation, first.seconds_per_dataset) == ("means[0,0]", 1.0, 2.0, 0.25)
    assert first.num_estimates == 49
    assert first.num_datasets == 50
    assert first.bias == pytest.approx(error.mean())
    assert first.bias_se == pytest.approx(error.std(ddof=1) / 7)
    assert first.rmse == pytest.approx(np.sqrt((error**2).mean()))
    assert first.share_failed == 0.2
    hits = int((abs(found["estimate"][5:, 1]) <= 1).sum())
    interval = second.intervals[0.9]
    assert interval.coverage == hits / 50
    assert interval.coverage_defined == hits / 45
    assert second.share_undefined == 0.1
    assert interval.width == pytest.approx(2)
    assert interval.width_median == pytest.approx(2)


def test_nothing_defined_is_nan():
    found = made_up_results()
    nothing = np.full((50, 1, 2), np.nan)
    found |= {"lower": nothing, "upper": nothing, "defined": np.zeros((50, 2), bool), "estimate": np.full((50, 2), np.nan)}
    row = rows_of(found)[0]
    interval = row.intervals[0.9]
    assert np.isnan([row.bias, row.rmse, interval.coverage_defined, interval.width, interval.width_median]).all()
    assert interval.coverage == 0
    assert interval.coverage_se > 0
    assert row.num_estimates == 0


@given(st.permutations(range(50)))
def test_the_order_of_the_data_sets_does_not_matter(order):
    found = made_up_results()
    shuffled = {name: array[np.array(order)] for name, array in found.items()}
    for one, other in zip(rows_of(found), rows_of(shuffled), strict=True):
        assert one.bias == pytest.approx(other.bias)
        assert one.rmse == pytest.approx(other.rmse)
        assert one.share_undefined == other.share_undefined
        assert one.intervals[0.9].coverage == other.intervals[0.9].coverage
        assert one.intervals[0.9].width == pytest.approx(other.intervals[0.9].width, nan_ok=True)


def test_keys_of_a_row():
    """Programs that read the files rely on these names and their order."""
    interval = IntervalCoverage(*np.arange(7.0))
    keys = ["coverage_97.5", "coverage_97.5_se", "coverage_97.5_defined", "coverage_97.5_defined_se"]
    keys += ["width_97.5", "width_97.5_se", "width_97.5_median"]
    assert interval.to_dict(0.975) == dict(zip(keys, np.arange(7.0), strict=True))
    found = list(rows_of(made_up_results())[0].to_dict())
    assert found[:7] == [*vars(CELL), "method", "seconds_per_dataset", "statuses", "name"]
    assert found[7:12] == ["kind", "component", "features", "truth", "num_datasets"]
    assert found[12:18] == ["num_estimates", "bias", "bias_se", "rmse", "rmse_se", "coverage_90"]
    assert found[-5:] == ["width_90_median", "share_undefined", "share_undefined_se", "share_failed", "share_failed_se"]
