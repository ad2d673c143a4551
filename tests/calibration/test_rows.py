"""Test the rows of a calibration: ranks against their band, what they say about the draws, counted intervals."""

import numpy as np
import pytest

from jaxgmm.calibration.bands import simultaneous_band
from jaxgmm.calibration.rows import DrawShape, coverage_row, rank_row

UNIFORM = np.repeat(np.arange(20), 10)
MADE_UP = {
    DrawShape.TOO_LOW: 10 + UNIFORM // 2,
    DrawShape.TOO_HIGH: UNIFORM // 2,
    DrawShape.TOO_NARROW: np.where(UNIFORM < 10, UNIFORM // 4, 19 - (19 - UNIFORM) // 4),
    DrawShape.TOO_WIDE: 5 + UNIFORM // 2,
}


def row_of(ranks, ess=None):
    ess = np.full(len(ranks), 30.0) if ess is None else ess
    return rank_row("a", ranks, ess, label_invariant=True, num_draws=19, alpha=0.01)


def test_uniform_ranks_lie_inside():
    row = row_of(UNIFORM)
    assert row.inside
    assert row.shape is DrawShape.NONE
    assert row.deviation == pytest.approx(0, abs=1e-12)
    assert row.chi_square_p == 1


@pytest.mark.parametrize("shape", MADE_UP)
def test_ranks_outside_describe_the_draws(shape):
    row = row_of(MADE_UP[shape])
    assert not row.inside
    assert row.shape is shape
    assert row.ecdf_p < 0.01
    assert abs(row.deviation) > row.limit


def test_deviation_and_limit_are_those_of_the_band():
    ranks = UNIFORM // 2
    row, (_, upper) = row_of(ranks), simultaneous_band(200, 19, 0.01)
    place = round(20 * row.at)
    assert row.deviation == pytest.approx((ranks < place).mean() - row.at)
    assert row.limit == pytest.approx(upper[place] / 200 - row.at)


def test_values_without_a_rank_are_counted():
    ess = np.where(np.arange(203) < 3, np.nan, np.arange(203))
    row = row_of(np.concatenate([[-1, -1, -1], UNIFORM]), ess)
    assert row.not_ranked == 3
    assert row.deviation == row_of(UNIFORM).deviation
    assert row.ess_median == np.median(ess[3:])
    assert row.ess_low == pytest.approx(np.quantile(ess[3:], 0.05))
    nothing = row_of(np.full(4, -1), np.full(4, np.nan))
    assert not nothing.inside
    assert np.isnan([nothing.ecdf_p, nothing.limit, nothing.ess_median]).all()
    assert nothing.to_dict()["shape"] == ""


def test_undefined_intervals_count_as_misses():
    row = coverage_row("em", "a", 0.9, np.array([True, True, False, True]), np.array([True, False, True, True]))
    assert row.coverage == pytest.approx(2 / 3)
    assert row.error == pytest.approx(np.sqrt(2 / 9 / 3))
    assert row.coverage_with_misses == 0.5
    assert row.undefined == 0.25
    nothing = coverage_row("em", "a", 0.9, np.zeros(4, bool), np.zeros(4, bool))
    assert np.isnan([nothing.coverage, nothing.error]).all()
    assert nothing.coverage_with_misses == 0
