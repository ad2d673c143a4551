"""Test figures of mixtures by what their axes hold."""

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

from helpers import COVARIANCE_TYPES


@pytest.fixture
def ax():
    return Figure().subplots()


@pytest.fixture(scope="module")
def plane():
    covariances = np.array([[[1.0, 0.5], [0.5, 2.0]], [[0.5, 0.0], [0.0, 0.5]]])
    return jaxgmm.make_mixture([0.3, 0.7], [[0.0, 0.0], [5.0, 5.0]], covariances)


def stack(mixture, shape):
    """Return copies of a mixture whose means are moved a little."""
    batch = np.random.default_rng(0).normal(0, 0.1, (*shape, *mixture.means.shape))

    def tile(leaf):
        return jnp.broadcast_to(leaf, (*shape, *leaf.shape))

    return jaxgmm.Mixture(tile(mixture.weights), mixture.means + batch, tile(mixture.covariances), mixture.covariance_type)


def collections_of(ax, kind):
    return [c for c in ax.collections if isinstance(c, kind)]


def test_scatter_colours_by_responsibility(ax):
    x = np.array([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]])
    r = np.array([[1.0, 0.0], [0.0, 1.0], [0.4, 0.6]])
    assert plot.scatter(ax, x, responsibilities=r, feature_names=["a", "b"]) is ax
    first, second = collections_of(ax, PathCollection)
    assert first.get_offsets().tolist() == [[0, 0]]
    assert second.get_offsets().tolist() == [[1, 1], [2, 2]]
    assert first.get_facecolors()[0, :3] == pytest.approx(to_rgb(plot.color(0)))
    mixed = 0.4 * np.array(to_rgb(plot.color(0))) + 0.6 * np.array(to_rgb(plot.color(1)))
    assert second.get_facecolors()[1, :3] == pytest.approx(mixed)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("a", "b")


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_ellipses_contain_their_mass(ax, plane, covariance_type):
    covariances = {
        "full": plane.covariances,
        "tied": plane.covariances[:1],
        "diag": np.array([[1.0, 2.0], [0.5, 0.5]]),
        "spherical": np.array([[1.0], [0.5]]),
    }[covariance_type]
    mixture = jaxgmm.make_mixture(plane.weights, plane.means, covariances, covariance_type=covariance_type)
    plot.ellipses(ax, mixture, mass=0.9)
    lines = collections_of(ax, LineCollection)
    assert len(lines) == 2
    dense = jaxgmm.covariance.to_dense(mixture.covariances, covariance_type, 2, 2)
    for k, line in enumerate(lines):
        (outline,) = line.get_segments()
        centred = outline - np.asarray(mixture.means[k])
        distance = np.einsum("ni,ij,nj->n", centred, np.linalg.inv(np.asarray(dense[k], float)), centred)
        assert distance == pytest.approx(
            -2 * np.log(0.1), rel=1e-5
        )  # the 90 % quantile of chi-square with two degrees of freedom
    assert [text.get_text() for text in ax.texts] == ["0", "1"]


def test_ellipses_of_draws_have_no_numbers(ax, plane):
    plot.ellipses(ax, stack(plane, (2, 5)))
    assert [len(c.get_segments()) for c in collections_of(ax, LineCollection)] == [10, 10]
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
    assert len(collections_of(ax, LineCollection)[0].get_segments()) == 7
    assert ax.get_xlabel() == "waiting"


def test_a_fit_is_drawn_as_its_mixture(ax, plane):
    """Ellipses, contours and densities take a fit, or anything else with a mixture; no function takes an array."""
    fit = jaxgmm.Fit(plane, *jnp.zeros((3, 1)), *jnp.zeros((2, 1), int), jnp.zeros(2, int))
    assert plot.ellipses(ax, fit) is plot.contours(ax, fit) is ax
    line = jaxgmm.Fit(jaxgmm.marginal(plane, 0), *jnp.zeros((3, 1)), *jnp.zeros((2, 1), int), jnp.zeros(2, int))
    assert plot.densities(ax, line, [[0.0], [1.0]]) is ax
    for draw in (plot.ellipses, plot.contours):
        with pytest.raises(TypeError, match="a Fit was expected"):
            draw(ax, np.zeros((2, 2)))


def test_densities_of_constant_data(ax):
    plot.densities(ax, jaxgmm.make_mixture([1.0], [[3.0]], [[[1.0]]]), np.full((5, 1), 3.0))
    assert np.isfinite(ax.lines[0].get_ydata()).all()


def test_convergence_stops_at_the_last_step(ax):
    plot.convergence(ax, np.array([-5.0, -3.0, -2.5, np.nan, np.nan]))
    assert ax.lines[0].get_xydata().tolist() == [[0, -5], [1, -3], [2, -2.5]]
    assert "nats" in ax.get_ylabel()


def test_contours_contain_their_mass(ax, plane):
    plot.contours(ax, plane, masses=(0.5, 0.9))
    x, _ = jaxgmm.sample(jax.random.key(0), plane, 4000)
    density, (contours,) = np.exp(np.asarray(jaxgmm.log_prob(plane, x))), collections_of(ax, ContourSet)
    outer, inner = contours.levels
    assert (density > inner).mean() == pytest.approx(0.5, abs=0.04)  # 5 sd of the fraction, and 0.5 % for the grid
    assert (density > outer).mean() == pytest.approx(0.9, abs=0.03)
    assert {text.get_text() for text in ax.texts} == {"50 %", "90 %"}
    with pytest.raises(ValueError, match="D=2 was expected"):
        plot.contours(ax, jaxgmm.make_mixture([1.0], [[0.0]], [[[1.0]]]))
    with pytest.raises(ValueError, match="masses"):
        plot.contours(ax, plane, masses=(0.5, 95))


def test_coclustering_is_ordered_by_clusters(ax):
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


def test_the_peak_of_a_narrow_component_is_cut_off(ax):
    """Six in ten points are spread out, so the bars stay visible beside a component that is as narrow as a line."""
    mixture = jaxgmm.make_mixture([0.5, 0.4999, 0.0001], [[0.0], [6.0], [99.0]], [[[1.0]], [[1e-6]], [[1.0]]])
    x = np.r_[np.linspace(-2, 2, 30), np.full(20, 6.0)][:, None]
    plot.densities(ax, mixture, x, draws=stack(mixture, (1, 3)), empty=[2])
    bars = max(bar.get_height() for bar in ax.patches)
    assert bars < ax.get_ylim()[1] < 4 * bars
    assert ax.get_xlim()[1] < 12
    texts = [text.get_text() for text in ax.texts]
    assert "1 ↑" in texts
    assert "component 2 holds no data" in texts


def test_empty_components_and_draws_do_not_widen_the_axes(ax, plane):
    plot.scatter(ax, np.array([[0.0, 0.0], [5.0, 5.0]]))
    far = jaxgmm.make_mixture([0.5, 0.5], [[2.0, 2.0], [900.0, 900.0]], np.stack([np.eye(2)] * 2))
    plot.ellipses(ax, stack(far, (3,)))
    plot.ellipses(ax, far, empty=[1])
    assert ax.get_xlim()[1] < 10
    assert [text.get_text() for text in ax.texts] == ["0"]
