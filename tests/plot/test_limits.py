"""Test which ranges, components and features a figure shows."""

import numpy as np
import pytest

import jaxgmm
from jaxgmm.plot.limits import axis_limits, component_ends, emptied, num_beyond, separated_pairs


def test_ranges_hold_the_data_and_not_what_is_far_away():
    x = np.linspace(0, 10, 2000)
    low, high = axis_limits(x)
    assert low < 0 < 10 < high < 11
    assert axis_limits(x, [-1e9, 1e9]) == pytest.approx((-3.5 - 0.85, 13.5 + 0.85))
    assert axis_limits(np.r_[x, 1e9])[1] < 35
    assert axis_limits(np.r_[x, np.nan, np.inf]) == axis_limits(x)
    few = axis_limits([0.0, 1.0, 50.0])  # three points cannot be told from outliers
    assert few[0] < 0
    assert few[1] > 50
    for same in ([3.0, 3.0], [0.0], [], [np.nan], [1e9]):
        low, high = axis_limits(same)
        assert low < high


def test_points_beyond_the_axes_are_counted():
    assert num_beyond([[0.0, 0.0], [2.0, 0.5], [0.5, -3.0]], [(-1, 1), (-1, 1)]) == 2


def test_ends_of_components_without_the_empty_ones():
    mixture = jaxgmm.make_mixture([0.6, 0.3995, 0.0005], [[0.0], [10.0], [99.0]], [[1.0], [4.0], [1.0]], covariance_type="diag")
    assert emptied(mixture, 1000) == [2]
    reach = np.sqrt(-2 * np.log(0.1))
    expected = [-reach, 10 - 2 * reach, reach, 10 + 2 * reach]
    assert component_ends(mixture, 0, 0.9, [2]) == pytest.approx(expected)


@pytest.mark.parametrize("covariance_type", ["full", "tied", "diag", "spherical"])
def test_pairs_show_the_components_apart(covariance_type):
    """Features 1 and 4 separate the components; all others do not. The units of a feature do not matter."""
    means = np.zeros((2, 6))
    means[1, [1, 4]] = 4.0, 3.0
    shape = {"full": (2, 6, 6), "tied": (1, 6, 6), "diag": (2, 6), "spherical": (2, 1)}[covariance_type]
    covariances = np.broadcast_to(np.eye(6) if len(shape) == 3 else 1.0, shape)
    mixture = jaxgmm.make_mixture([0.5, 0.5], means, covariances, covariance_type=covariance_type)
    pairs = separated_pairs(mixture, 3)
    assert pairs[0] == (1, 4)
    assert len({feature for pair in pairs for feature in pair}) >= 4
    assert all(i < j for i, j in pairs)


def test_pairs_without_a_choice():
    one = jaxgmm.make_mixture([1.0], np.zeros((1, 4)), np.eye(4)[None])
    assert separated_pairs(one, 3) == [(0, 1), (1, 2), (2, 3)]
    same = jaxgmm.make_mixture([0.5, 0.5], np.zeros((2, 4)), np.ones((2, 1)), covariance_type="spherical")
    assert separated_pairs(same, 2) == [(0, 1), (1, 2)]
    assert separated_pairs(jaxgmm.make_mixture([0.5, 0.5], np.zeros((2, 2)), np.stack([np.eye(2)] * 2)), 3) == [(0, 1)]
