"""Pictures by what their axes hold, not by pixels."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.figure import Figure

import jaxgmm
from jaxgmm import plot
from jaxgmm.comparison.compare import Comparison


@pytest.fixture
def ax():
    return Figure().subplots()


@pytest.fixture(scope="module")
def plane():
    covariances = np.array([[[1.0, 0.5], [0.5, 2.0]], [[0.5, 0.0], [0.0, 0.5]]])
    return jaxgmm.make_mixture([0.3, 0.7], [[0.0, 0.0], [5.0, 5.0]], covariances)


def stack(mixture, shape):
    """The same mixture many times, means moved a little each."""
    batch = np.random.default_rng(0).normal(0, 0.1, (*shape, *mixture.means.shape))

    def tile(leaf):
        return jnp.broadcast_to(leaf, (*shape, *leaf.shape))

    return jaxgmm.Mixture(tile(mixture.weights), mixture.means + batch, tile(mixture.covariances), mixture.covariance_type)


def points_of(ax, kind):
    return [c for c in ax.collections if isinstance(c, kind)]


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


def fabricate_comparison(mixture):
    """What comparison_figure needs of a Comparison."""
    from jaxgmm.posterior.result import Posterior
    from jaxgmm.studies.parameters import parameters, values

    draws = stack(mixture, (2, 50))
    posterior = Posterior(draws, jnp.zeros((2, 50)), None, jnp.array(0), {})
    names = [f"feature {i}" for i in range(mixture.num_features)]
    rows = []
    for entry, em in zip(parameters(mixture, names), values(mixture), strict=True):
        rows.append(
            {
                "method": "nuts",
                **dataclasses.asdict(entry),
                "em": float(em),
                "lower": em - 1,
                "upper": em + 1,
                "z": float(len(rows)),
                "sd": 1.0,
            }
        )
    return Comparison(0.95, {}, rows, [], {}, {"nuts": posterior})


@pytest.mark.parametrize(
    ("d", "k", "data_panels", "marginals"), [(1, 2, 1, 6), (2, 2, 1, 12), (2, 1, 1, 6), (3, 2, 2, 20), (4, 3, 3, 24)]
)
def test_comparison_figure_has_a_panel_for_each_thing(d, k, data_panels, marginals):
    mixture = jaxgmm.make_mixture(np.full(k, 1 / k), np.arange(k * d).reshape(k, d) / 1.0, np.stack([np.eye(d)] * k))
    x = np.random.default_rng(0).normal(size=(30, d))
    figure = plot.comparison_figure(fabricate_comparison(mixture), mixture, x, num_draws=10)
    shown = [ax for ax in figure.axes if ax.axison]
    assert len(shown) == data_panels + marginals
    titles = [ax.get_title(loc="left") for ax in shown[data_panels:]]
    assert len(set(titles)) == marginals
    figure.canvas.draw()  # lays out without complaint


def test_mean_and_covariance_panels_stand_under_their_component():
    mixture = jaxgmm.make_mixture([0.5, 0.5], [[0.0], [1.0]], [[[1.0]]], covariance_type="tied")
    figure = plot.comparison_figure(fabricate_comparison(mixture), mixture, np.zeros((4, 1)) + np.arange(4)[:, None])
    titles = [ax.get_title(loc="left") for ax in figure.axes if ax.axison][1:]
    assert titles == ["weight (0)", "weight (1)", "mean feature 0 (0)", "mean feature 0 (1)", "variance feature 0"]


def fabricate_several(mixture, *, identified=True, shifts=None):
    """A Comparison of several methods: intervals of one sd each side, moved by a method's shift."""
    base = fabricate_comparison(mixture)
    shifts = {"nuts": 0.0, "laplace": 0.5} if shifts is None else shifts
    rows = []
    for method, shift in shifts.items():
        for row in base.rows:
            moved = {"mean": row["em"] + shift, "lower": row["em"] + shift - 1, "upper": row["em"] + shift + 1}
            rows.append({**row, "method": method, **moved})
    free = [
        {**row, "kind": kind, "component": None, "features": []}
        for row, kind in zip(rows, ["largest weight", "log-likelihood (nats)"], strict=False)
    ]
    posterior = base.posteriors["nuts"]
    samplers = {method: {"identified": identified} for method in shifts}
    return Comparison(0.95, {}, rows, free, samplers, dict.fromkeys(shifts, posterior))


def widths(ax, color):
    """Horizontal segments of one colour."""
    return [
        line.get_xdata()
        for line in ax.lines
        if line.get_color() == color and len(line.get_xdata()) == 2 and np.ptp(line.get_ydata()) == 0
    ]


def test_forest_shows_each_method_in_sds(ax, plane):
    comparison = fabricate_several(plane, shifts={"nuts": 0.0, "gibbs": 0.5, "laplace": 40.0})
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


def test_forest_shows_the_prior_of_each_parameter(ax, plane):
    comparison = fabricate_several(plane)
    prior = jaxgmm.Prior(*(jnp.asarray(v, float) for v in ([1.0, 1.0], [0.0, 0.0], 1e4, 50.0, 50 * np.eye(2))))
    posterior = dataclasses.replace(comparison.posteriors["nuts"], prior=prior)
    plot.forest(ax, dataclasses.replace(comparison, posteriors={"nuts": posterior, "laplace": posterior}))
    lines = widths(ax, "0.55")
    weight, mean = lines[0], lines[1]  # of component 0: weight 0.3 and mean 0, sd 1 each
    assert len(lines) == 12
    assert weight == pytest.approx([0.025 - 0.3, 0.975 - 0.3], abs=0.02)
    assert mean == pytest.approx([-0.02, 0.02], abs=5e-3)  # sd of about 1 / sqrt(1e4)
    assert ax.get_legend().get_texts()[-1].get_text() == "prior, 95 %"


def test_forest_without_labels_shows_what_no_labelling_changes(ax, plane):
    plot.forest(ax, fabricate_several(plane, identified=False))
    assert [label.get_text() for label in ax.get_yticklabels()] == ["largest weight"]
    assert "component 0" not in [text.get_text() for text in ax.texts]


def test_pairs_are_draws_laplace_and_em(plane):
    comparison = fabricate_several(plane)
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
    assert em.get_xydata().tolist() == [[rows[0]["em"], rows[2]["em"]]]
    assert "correlation" in grid[0, 2].texts[0].get_text()
    assert not grid[0, 2].axison
    assert grid[2, 0].get_xlabel() == "mean feature 0\nof component 0"
    with pytest.raises(ValueError, match=r"\(3, 3\)"):
        plot.pairs(Figure().subplots(2, 2), comparison, rows=rows)
    four = plot.pairs(Figure(), comparison)
    assert len(four.axes) == 16
