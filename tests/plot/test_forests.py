"""The forest draws the intervals and estimates of a comparison."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.figure import Figure

import jaxgmm
from jaxgmm import plot
from jaxgmm.plot.forests import forest_rows

from fabricated_comparisons import fabricate_comparison, plane


@pytest.fixture
def ax():
    return Figure().subplots()


def widths(ax, color):
    """Return the ends of the horizontal segments of one colour."""
    return [
        line.get_xdata()
        for line in ax.lines
        if line.get_color() == color and len(line.get_xdata()) == 2 and np.ptp(line.get_ydata()) == 0
    ]


def test_forest_shows_each_method_in_sds(ax):
    comparison = fabricate_comparison(plane(), shifts={"nuts": 0.0, "gibbs": 0.5, "laplace": 40.0})
    plot.forest(ax, comparison)
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert len(names) == 12
    assert names[0] == "weight"
    assert "mean feature 1" in names
    headings = [text.get_text() for text in ax.texts]
    assert "component 0" in headings
    assert "component 1" in headings
    assert "EM" in headings
    nuts, gibbs = widths(ax, plot.COLORS[0]), widths(ax, plot.COLORS[1])
    assert len(nuts) == len(gibbs) == 12
    assert np.allclose(nuts, [-1, 1])
    assert np.allclose(gibbs, [-0.5, 1.5])
    assert ax.get_xlim() == (-8, 8)
    arrows = [line for line in ax.lines if line.get_marker() == ">" and line.get_color() == plot.COLORS[2]]
    assert len(arrows) == 12  # what lies beyond the axis
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [
        "EM",
        "NUTS, 95 %",
        "Gibbs, 95 %",
        "Laplace, 95 %",
    ]
    ax.figure.canvas.draw()


def test_forest_shows_the_prior_of_each_parameter(ax):
    comparison = fabricate_comparison(plane())
    prior = jaxgmm.Prior(*(jnp.asarray(v, float) for v in ([1.0, 1.0], [0.0, 0.0], 1e4, 50.0, 50 * np.eye(2))))
    posterior = dataclasses.replace(comparison.posteriors["nuts"], prior=prior)
    plot.forest(ax, dataclasses.replace(comparison, posteriors={"nuts": posterior, "laplace": posterior}))
    lines = widths(ax, "0.55")
    weight, mean = lines[0], lines[1]  # of component 0: weight 0.3 and mean 0, sd 1 each
    assert len(lines) == 12
    assert weight == pytest.approx([0.025 - 0.3, 0.975 - 0.3], abs=0.02)
    assert mean == pytest.approx([-0.02, 0.02], abs=5e-3)  # sd of about 1 / sqrt(1e4)
    assert ax.get_legend().get_texts()[-1].get_text() == "prior, 95 %"


def test_forest_without_labels_shows_what_no_labelling_changes(ax):
    plot.forest(ax, fabricate_comparison(plane(), identified=False))
    assert [label.get_text() for label in ax.get_yticklabels()] == ["largest weight"]
    assert "component 0" not in [text.get_text() for text in ax.texts]


def test_rows_of_a_forest_are_not_reordered(ax):
    """The caller's list keeps its order; the picture sorts by component."""
    rows = forest_rows(fabricate_comparison(plane()))[::-1]
    before = list(rows)
    plot.forest(ax, fabricate_comparison(plane()), rows=rows)
    assert rows == before
    assert [text.get_text() for text in ax.texts if "component" in text.get_text()] == ["component 0", "component 1"]
