"""Test what figures share: colours, markers, names of methods and features, ticks."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from jaxgmm import plot
from jaxgmm.plot.style import COLORS, DASHES, MARKERS, axis_names, color, integer_ticks, method_style
from jaxgmm.studies.method_names import POINT_METHODS, POSTERIOR_METHODS


@pytest.fixture
def ax():
    return Figure().subplots()


def test_methods_differ_in_colour_and_marker():
    styles = [method_style(method) for method in (*POSTERIOR_METHODS, *POINT_METHODS)]
    assert len({shade for shade, _, _ in styles}) == len({marker for _, marker, _ in styles}) == 7
    assert [name for _, _, name in styles][:3] == ["NUTS", "Gibbs", "Laplace"]
    assert method_style("mine")[0] not in {shade for shade, _, _ in styles}
    assert method_style("mine", 1) != method_style("mine", 0)


def test_there_is_a_marker_and_a_dash_for_each_colour():
    assert len(COLORS) == len(MARKERS) == len(DASHES)
    assert color(len(COLORS)) == color(0)


def test_names_of_axes():
    assert axis_names(None, 2) == ["feature 0", "feature 1"]
    assert axis_names(["US$", "b"], 2) == [r"US\$", "b"]


def test_ticks_at_integers(ax):
    ax.plot([0, 3], [0, 1])
    integer_ticks(ax)
    assert all(float(tick).is_integer() for tick in ax.get_xticks())


def test_names_with_dollars_stay_as_they_are(ax):
    x = np.array([[0.0, 1.0], [1.0, 2.0]])
    plot.scatter(ax, x, feature_names=["US$ per $", r"\frac$x$"])
    ax.figure.canvas.draw()  # matplotlib would refuse the second one as a formula
    plot.posterior_marginal(Figure().subplots(), x, title="$ and $")
