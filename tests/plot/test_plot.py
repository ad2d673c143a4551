"""Pictures by what their axes hold, not by pixels."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.colors import to_rgb
from matplotlib.contour import ContourSet
from matplotlib.figure import Figure

import jaxgmm
from jaxgmm import plot
from jaxgmm.calibration.result import Calibration
from jaxgmm.comparison.compare import Comparison
from jaxgmm.coverage.design import Design
from jaxgmm.selection import Cell, Selection

from helpers import study_of


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


def test_scatter_colours_by_responsibility(ax):
    x = np.array([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]])
    r = np.array([[1.0, 0.0], [0.0, 1.0], [0.4, 0.6]])
    assert plot.scatter(ax, x, responsibilities=r, feature_names=["a", "b"]) is ax
    first, second = points_of(ax, PathCollection)
    assert first.get_offsets().tolist() == [[0, 0]]
    assert second.get_offsets().tolist() == [[1, 1], [2, 2]]
    assert first.get_facecolors()[0, :3] == pytest.approx(to_rgb(plot.color(0)))
    mixed = 0.4 * np.array(to_rgb(plot.color(0))) + 0.6 * np.array(to_rgb(plot.color(1)))
    assert second.get_facecolors()[1, :3] == pytest.approx(mixed)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("a", "b")


@pytest.mark.parametrize("kind", ["full", "tied", "diag", "spherical"])
def test_ellipses_hold_the_mass_they_say(ax, plane, kind):
    covariances = {
        "full": plane.covariances,
        "tied": plane.covariances[:1],
        "diag": np.array([[1.0, 2.0], [0.5, 0.5]]),
        "spherical": np.array([[1.0], [0.5]]),
    }[kind]
    mixture = jaxgmm.make_mixture(plane.weights, plane.means, covariances, covariance_type=kind)
    plot.ellipses(ax, mixture, mass=0.9)
    lines = points_of(ax, LineCollection)
    assert len(lines) == 2
    dense = jaxgmm.covariance.to_dense(mixture.covariances, kind, 2, 2)
    for k, line in enumerate(lines):
        (outline,) = line.get_segments()
        centred = outline - np.asarray(mixture.means[k])
        distance = np.einsum("ni,ij,nj->n", centred, np.linalg.inv(np.asarray(dense[k], float)), centred)
        assert distance == pytest.approx(-2 * np.log(0.1), rel=1e-5)  # the 90 % point of chi-square with two degrees
    assert [text.get_text() for text in ax.texts] == ["0", "1"]


def test_ellipses_of_draws_have_no_marks(ax, plane):
    plot.ellipses(ax, stack(plane, (2, 5)))
    assert [len(c.get_segments()) for c in points_of(ax, LineCollection)] == [10, 10]
    assert not ax.texts
    assert not ax.lines


def test_densities_are_the_density(ax):
    mixture = jaxgmm.make_mixture([0.25, 0.75], [[0.0], [6.0]], [[[1.0]], [[4.0]]])
    x = np.linspace(-2, 10, 50)[:, None]
    plot.densities(ax, mixture, x, feature_name="waiting", draws=stack(mixture, (1, 7)))
    first, second, total = (line.get_xydata() for line in ax.lines)
    assert total[:, 1] == pytest.approx(first[:, 1] + second[:, 1], abs=1e-6)
    area = np.trapezoid(total[:, 1], total[:, 0])
    assert area == pytest.approx(1, abs=0.03)
    assert first[first[:, 1].argmax(), 0] == pytest.approx(0, abs=0.05)
    assert len(points_of(ax, LineCollection)[0].get_segments()) == 7
    assert ax.get_xlabel() == "waiting"


def test_densities_of_constant_data(ax):
    plot.densities(ax, jaxgmm.make_mixture([1.0], [[3.0]], [[[1.0]]]), np.full((5, 1), 3.0))
    assert np.isfinite(ax.lines[0].get_ydata()).all()


def test_convergence_stops_at_the_last_step(ax):
    plot.convergence(ax, np.array([-5.0, -3.0, -2.5, np.nan, np.nan]))
    assert ax.lines[0].get_xydata().tolist() == [[0, -5], [1, -3], [2, -2.5]]
    assert "nats" in ax.get_ylabel()


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


def test_contours_hold_the_mass_they_say(ax, plane):
    plot.contours(ax, plane, masses=(0.5, 0.9))
    x, _ = jaxgmm.sample(jax.random.key(0), plane, 4000)
    density, (contours,) = np.exp(np.asarray(jaxgmm.log_prob(plane, x))), points_of(ax, ContourSet)
    outer, inner = contours.levels
    assert (density > inner).mean() == pytest.approx(0.5, abs=0.04)  # 5 sd of the share, and 0.5 % for the grid
    assert (density > outer).mean() == pytest.approx(0.9, abs=0.03)
    assert {text.get_text() for text in ax.texts} == {"50 %", "90 %"}
    with pytest.raises(ValueError, match="D=2 was expected"):
        plot.contours(ax, jaxgmm.make_mixture([1.0], [[0.0]], [[[1.0]]]))
    with pytest.raises(ValueError, match="masses"):
        plot.contours(ax, plane, masses=(0.5, 95))


def test_coclustering_is_put_in_order(ax):
    labels = np.array([2, 0, 2, 1, 0, 2])
    matrix = np.where(labels[:, None] == labels, 0.9, 0.05)
    np.fill_diagonal(matrix, 1)
    plot.coclustering(ax, matrix)
    drawn = ax.images[0].get_array()
    assert np.count_nonzero(np.diff(drawn[:, 0] > 0.5)) == 1  # blocks on the diagonal
    assert np.count_nonzero(np.diff(np.diag(drawn, 1) > 0.5)) >= 2
    other = Figure().subplots()
    plot.coclustering(other, matrix, labels=labels)
    assert other.images[0].get_array()[0].tolist() == [1.0, 0.9, 0.05, 0.05, 0.05, 0.05]
    assert sorted(line.get_ydata()[0] for line in other.lines if np.ptp(line.get_ydata()) == 0) == [1.5, 2.5]
    plot.coclustering(Figure().subplots(), np.eye(2))
    with pytest.raises(ValueError, match=r"\(N, N\)"):
        plot.coclustering(ax, matrix[:2])
    with pytest.raises(ValueError, match=r"\(6,\)"):
        plot.coclustering(ax, matrix, labels=labels[:2])


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


def calibration_of(ranks, num_draws):
    names = [f"quantity {q}" for q in range(ranks.shape[1])]
    return Calibration("gibbs", {}, names, np.ones(len(names), bool), ranks, num_draws, np.ones(ranks.shape), [], {}, {}, 0.01)


def test_rank_ecdfs_name_what_leaves_the_band(ax):
    uniform = np.repeat(np.arange(20), 5)
    missing = np.where(np.arange(100) < 4, -1, uniform[::-1])  # not ranked in four data sets
    plot.rank_ecdfs(ax, calibration_of(np.stack([uniform, uniform // 2, missing], 1), 19))
    curves = [line for line in ax.lines if len(line.get_xdata()) == 21]
    assert [line.get_label().startswith("_") for line in curves] == [True, False, True]
    assert curves[0].get_ydata() == pytest.approx(0, abs=1e-12)
    assert curves[1].get_ydata()[[0, 10, 20]] == pytest.approx([0, 0.5, 0])  # all ranks under the middle
    named = [text.get_text() for text in ax.get_legend().get_texts()]
    assert named == ["99 % band, all quantities at once", "quantity 1", "2 quantities inside"]
    with pytest.raises(ValueError, match="no ranks"):
        plot.rank_ecdfs(ax, calibration_of(np.zeros((5, 0), int), 19))


def test_selection_has_a_line_a_type_and_marks_the_best(ax):
    cells = {}
    for kind, values in {"full": [10.0, 5.0, 1.0], "diag": [9.0, 7.0, np.inf]}.items():
        for k, value in enumerate(values, 1):
            cells[kind, k] = Cell(kind, k, value, 0.0, jaxgmm.Status.CONVERGED, value == 1.0, None)
    plot.selection(ax, Selection("bic", cells, cells["full", 2]))
    full, diag, spikes, best = ax.lines
    assert full.get_xydata().tolist() == [[1, 10], [2, 5], [3, 1]]
    assert full.get_label() == "full"
    assert diag.get_xydata().tolist() == [[1, 9], [2, 7]]
    assert full.get_linestyle() != diag.get_linestyle()
    assert spikes.get_xydata().tolist() == [[3, 1]]
    assert best.get_xydata().tolist() == [[2, 5]]
    assert "BIC" in ax.get_ylabel()
    assert "best: full, K = 2" in best.get_label()


def test_coverage_has_a_point_for_each_cell_and_method(ax):
    design = Design(separations=(1.0, 3.0), num_observations=(50, 200), methods=("map", "laplace"), num_datasets=20)
    plot.coverage(ax, study_of(design), kind="mean")
    lines = [container.lines[0].get_xydata() for container in ax.containers]
    assert lines[0][:, 1] == pytest.approx(100)
    assert lines[1][:, 1] == pytest.approx([11, 31, 11, 31])
    assert (np.diff(lines[1][:, 0]) > 0).all()
    assert (lines[1][:, 0] > lines[0][:, 0]).all()
    bars = [container.lines[2][0].get_segments()[0] for container in ax.containers]
    assert np.ptp(bars[0][:, 1]) == pytest.approx(20)  # two standard errors of 5 % either side
    assert [text.get_text() for text in ax.texts] == ["N = 50", "N = 200"]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["EM, posterior mode", "Laplace"]
    other = Figure().subplots()
    plot.coverage(other, study_of(design), probability=0.5)
    assert other.containers[1].lines[0].get_ydata() == pytest.approx(50)
    for options in ({"probability": 0.8}, {"kind": "covariance"}, {"covariance_type": "tied"}):
        with pytest.raises(ValueError, match="it has 50 %, 90 % and full"):
            plot.coverage(ax, study_of(design), **options)


def test_names_with_dollars_stay_as_they_are(ax):
    x = np.array([[0.0, 1.0], [1.0, 2.0]])
    plot.scatter(ax, x, feature_names=["US$ per $", r"\frac$x$"])
    ax.figure.canvas.draw()  # as a formula the second one would be refused
    plot.posterior_marginal(Figure().subplots(), x, title="$ and $")
