"""The figure of a whole comparison has the panels that it should."""

import numpy as np
import pytest
from matplotlib.collections import PathCollection

import jaxgmm
from jaxgmm import plot
from jaxgmm.plot.style import LIGHT_INK

from fabricated_comparisons import fabricate_comparison


@pytest.mark.parametrize(
    ("d", "k", "data_panels", "marginals"), [(1, 2, 1, 6), (2, 2, 1, 12), (2, 1, 1, 6), (3, 2, 2, 20), (4, 3, 3, 24)]
)
def test_comparison_figure_has_a_panel_for_each_thing(d, k, data_panels, marginals):
    mixture = jaxgmm.make_mixture(np.full(k, 1 / k), np.arange(k * d).reshape(k, d) / 1.0, np.stack([np.eye(d)] * k))
    x = np.random.default_rng(0).normal(size=(30, d))
    figure = plot.comparison_figure(fabricate_comparison(mixture, {"nuts": 0.0}), mixture, x, num_draws=10)
    shown = [ax for ax in figure.axes if ax.axison]
    assert len(shown) == data_panels + marginals
    titles = [ax.get_title(loc="left") for ax in shown[data_panels:]]
    assert len(set(titles)) == marginals
    figure.canvas.draw()  # lays out without complaint


def test_mean_and_covariance_panels_stand_under_their_component():
    mixture = jaxgmm.make_mixture([0.5, 0.5], [[0.0], [1.0]], [[[1.0]]], covariance_type="tied")
    figure = plot.comparison_figure(
        fabricate_comparison(mixture, {"nuts": 0.0}), mixture, np.zeros((4, 1)) + np.arange(4)[:, None]
    )
    titles = [ax.get_title(loc="left") for ax in figure.axes if ax.axison][1:]
    assert titles == ["weight (0)", "weight (1)", "mean feature 0 (0)", "mean feature 0 (1)", "variance feature 0"]


@pytest.mark.parametrize(("d", "panels"), [(1, 1), (2, 1), (5, 3)])
def test_a_mixture_with_its_data(d, panels):
    mixture = jaxgmm.make_mixture([0.5, 0.5], [[0.0] * d, [5.0] * d], np.ones((2, 1)), covariance_type="spherical")
    names = [f"name {i}" for i in range(d)]  # no feature separates the components better than another
    figure = plot.mixture_figure(mixture, np.random.default_rng(0).normal(size=(30, d)), feature_names=names)
    assert len(figure.axes) == panels
    assert figure.axes[-1].get_xlabel() == f"name {panels - 1}"
    figure.canvas.draw()


def test_a_panel_shows_the_rows_that_it_can_place():
    """A row of which one value is missing, or of weight 0, is in no panel."""
    mixture = jaxgmm.make_mixture([0.5, 0.5], [[0.0, 0.0], [5.0, 5.0]], np.ones((2, 1)), covariance_type="spherical")
    x = jaxgmm.observations([[0.0, np.nan], [1.0, 1.0], [5.0, 5.0], [4.0, 4.0]], sample_weight=[1.0, 1.0, 1.0, 0.0])
    figure = plot.mixture_figure(mixture, x)
    markers = [part for part in figure.axes[0].collections if isinstance(part, PathCollection)]
    points = np.concatenate([np.ma.filled(part.get_offsets(), np.nan) for part in markers])
    assert sorted(points[np.isfinite(points).all(1), 0]) == [1.0, 5.0]


def test_an_emptied_component_does_not_stretch_the_axes():
    """Draws and a component without points are far away from the data, which fill the axes all the same."""
    mixture = jaxgmm.make_mixture([0.5, 0.499, 0.001], [[0.0, 0.0], [5.0, 5.0], [90.0, 90.0]], np.stack([np.eye(2)] * 3))
    x = np.random.default_rng(0).normal(size=(40, 2)) + 5.0 * (np.arange(40) % 2)[:, None]
    for figure in (
        plot.comparison_figure(fabricate_comparison(mixture, {"nuts": 0.0}), mixture, x, num_draws=10),
        plot.mixture_figure(mixture, x),
    ):
        for low, high in (figure.axes[0].get_xlim(), figure.axes[0].get_ylim()):
            assert -6 < low < 0
            assert 6 < high < 12
        titles = [part.get_suptitle() for part in (figure, *getattr(figure, "subfigs", []))]
        assert any("Component 2 (thin grey dashes) holds no data" in title for title in titles)


def test_a_dark_style_has_light_marks():
    import matplotlib

    mixture = jaxgmm.make_mixture([0.5, 0.5], [[0.0], [1.0]], [[[1.0]], [[1.0]]])
    with matplotlib.rc_context({"axes.facecolor": "black", "figure.facecolor": "black"}):
        figure = plot.mixture_figure(mixture, np.arange(5.0)[:, None])
    assert figure.axes[0].lines[-1].get_color() == LIGHT_INK
