"""Pictures by what their axes hold, not by pixels."""

import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

import jaxgmm
from jaxgmm import plot
from jaxgmm.experiment.compare import Comparison


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
    assert first.get_offsets().tolist() == [[0, 0]] and second.get_offsets().tolist() == [[1, 1], [2, 2]]
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
    assert not ax.texts and not ax.lines


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
    assert list(interval.get_xdata()) == [-2, 2] and list(em.get_xdata()) == [9, 9]
    low, high = ax.get_xlim()
    assert low < -2 and high > 9
    plot.posterior_marginal(Figure().subplots(), np.ones((4, 10)), 1.0)  # a constant is drawn too


def fabricate_comparison(mixture):
    """What comparison_figure needs of a Comparison."""
    from jaxgmm.experiment.rows import entries, values
    from jaxgmm.posterior.draws import Posterior

    draws = stack(mixture, (2, 50))
    posterior = Posterior(draws, jnp.zeros((2, 50)), None, jnp.array(0), {})
    names = [f"feature {i}" for i in range(mixture.num_features)]
    rows = []
    for entry, em in zip(entries(mixture, names), values(mixture), strict=True):
        rows.append(
            {"method": "nuts", **entry, "em": float(em), "lower": em - 1, "upper": em + 1, "z": float(len(rows)), "sd": 1.0}
        )
    return Comparison(0.95, {}, rows, [], {}, {"nuts": posterior})


@pytest.mark.parametrize(
    "d, k, data_panels, marginals", [(1, 2, 1, 6), (2, 2, 1, 12), (2, 1, 1, 6), (3, 2, 2, 20), (4, 3, 3, 24)]
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
