"""Pictures of posteriors show draws, EM and intervals."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from jaxgmm import plot
from jaxgmm.plot.posteriors import farthest

from fabricated_comparisons import fabricate_comparison, plane, row


@pytest.fixture
def ax():
    return Figure().subplots()


def test_marginal_shows_em_outside_the_draws_too(ax):
    draws = np.random.default_rng(0).normal(size=(4, 100))
    plot.posterior_marginal(ax, draws, 9.0, (-2.0, 2.0), title="weight")
    interval, em = ax.lines
    assert list(interval.get_xdata()) == [-2, 2]
    assert list(em.get_xdata()) == [9, 9]
    low, high = ax.get_xlim()
    assert low < -2
    assert high > 9
    plot.posterior_marginal(Figure().subplots(), np.ones((4, 10)), 1.0)  # a constant is drawn too


def test_a_long_tail_is_cut_off(ax):
    rng = np.random.default_rng(0)
    draws = np.r_[rng.normal(size=980), 1e4 * rng.normal(size=20)]
    plot.posterior_marginal(ax, draws, 1e6)
    low, high = ax.get_xlim()
    assert -20 < low < -2
    assert 2 < high < 20
    assert [text.get_text() for text in ax.texts] == ["EM 1e+06 →"]
    exponential = rng.exponential(size=2000)
    plot.posterior_marginal(other := Figure().subplots(), exponential)
    assert other.get_xlim()[1] > np.quantile(exponential, 0.98)


def test_bars_of_the_number_of_components(ax):
    plot.component_numbers(ax, [0.1, 0.7, 0.2], [0.3, 0.7, 0.0])
    components, occupied = ax.containers
    assert [bar.get_height() for bar in components] == [0.1, 0.7, 0.2]
    assert [round(bar.get_x() + bar.get_width()) for bar in components] == [1, 2, 3]
    assert [bar.get_height() for bar in occupied] == [0.3, 0.7, 0.0]
    with pytest.raises(ValueError, match=r"one shape \(M,\)"):
        plot.component_numbers(ax, [0.1, 0.9], [1.0])


def test_pairs_are_draws_laplace_and_em():
    comparison = fabricate_comparison(plane())
    rows = [comparison.rows[i] for i in (2, 3, 4)]  # means: the others do not vary here
    figure = Figure()
    assert plot.pairs(figure, comparison, rows=rows) is figure
    grid = np.array(figure.axes).reshape(3, 3)
    dots, ellipse, em = grid[2, 0].lines
    assert set(dots.get_xdata()) <= set(comparison.draws(rows[0]).ravel())
    assert len(dots.get_xdata()) == 100
    draws = np.stack([comparison.draws(rows[i]).ravel() for i in (0, 2)])  # of the x and the y axis
    centred = np.stack(ellipse.get_data()) - draws.mean(1, keepdims=True)
    assert (centred * np.linalg.solve(np.cov(draws), centred)).sum(0) == pytest.approx(-2 * np.log(0.1))
    assert em.get_xydata().tolist() == [[rows[0].em, rows[2].em]]
    assert "correlation" in grid[0, 2].texts[0].get_text()
    assert not grid[0, 2].axison
    assert grid[2, 0].get_xlabel() == "mean feature 0\nof component 0"
    with pytest.raises(ValueError, match=r"\(3, 3\)"):
        plot.pairs(Figure().subplots(2, 2), comparison, rows=rows)
    four = plot.pairs(Figure(), comparison)
    assert len(four.axes) == 16


def test_the_rows_farthest_from_em():
    """Constant rows are left out, and the order of the others stays."""
    rows = [row(z=z, sd=sd) for z, sd in ((0.1, 1.0), (-2.0, 1.0), (9.0, 0.0), (1.0, 1.0))]
    assert [one.z for one in farthest(rows, 2)] == [-2.0, 1.0]
