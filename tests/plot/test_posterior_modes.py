"""Figures of several modes hold the densities and ellipses of the modes, their masses, and the stages of particles."""

import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

import jaxgmm
from jaxgmm import plot


@pytest.fixture
def ax():
    return Figure().subplots()


def made_modes(num_features):
    """Return three modes of two components; the third has an absent component."""
    weights = np.array([[0.5, 0.5], [0.25, 0.75], [0.0, 1.0]], np.float32)
    means = np.arange(6.0, dtype=np.float32).reshape(3, 2, 1) * np.ones(num_features, np.float32)
    mixture = jaxgmm.Mixture(weights, means, np.ones((3, 2, num_features), np.float32), "diag")
    return jaxgmm.Modes(mixture, np.zeros(3), np.array([0.61, 0.23, 0.16]), np.full(3, 0.02), np.zeros(3, int))


def test_modes_of_one_feature_are_their_densities(ax):
    found, x = made_modes(1), np.linspace(-3, 9, 60, dtype=np.float32)[:, None]
    assert plot.modes(ax, found, x, feature_names=["velocity"], em=1, most=2) is ax
    assert len(ax.lines) == 2
    for m, line in enumerate(ax.lines):
        grid, density = line.get_data()
        expected = np.exp(jaxgmm.log_prob(found.mixture[m], grid[:, None]))
        assert density == pytest.approx(expected, rel=1e-5)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["mode 0: 61 %", "mode 1 (EM): 23 %"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("velocity", "density")


def test_modes_of_two_features_are_ellipses(ax):
    """The features are chosen; the radius of a component of variance 1 is that of 90 %, and an absent component is left out."""
    found = made_modes(3)
    plot.modes(ax, found, np.zeros((4, 3), np.float32), features=(2, 0), feature_names=["c", "a"])
    first, second, third = (c for c in ax.collections if isinstance(c, LineCollection))
    assert [len(c.get_segments()) for c in (first, second, third)] == [2, 2, 1]
    outline = second.get_segments()[1]
    assert np.linalg.norm(outline - 3, axis=1) == pytest.approx(np.sqrt(-2 * np.log(0.1)), rel=1e-5)
    narrow, wide = second.get_linewidths()
    assert narrow < wide
    assert len({tuple(c.get_colors()[0]) for c in (first, second, third)}) == 3
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("c", "a")
    with pytest.raises(ValueError, match="one or two features"):
        plot.modes(ax, found, np.zeros((4, 3)), features=(0, 1, 2))


def particles(stats, num_samples=200):
    """Return a posterior with two runs and given statistics."""
    shape = (2, num_samples)
    mixture = jaxgmm.Mixture(jnp.ones((*shape, 1)), jnp.zeros((*shape, 1, 1)), jnp.ones((*shape, 1, 1, 1)))
    return jaxgmm.Posterior(mixture, jnp.zeros(shape), None, jnp.array(0), stats, "smc")


def test_stages_are_shares_of_the_particles(ax):
    sizes = jnp.array([[120.0, 150.0, jnp.nan], [100.0, 180.0, 200.0]])
    posterior = particles({"effective_size": sizes, "parents": jnp.array([[90, 110, 200], [80, 120, 200]])})
    assert plot.stages(ax, posterior) is ax
    size, survived, *_, half = ax.lines
    assert size.get_xydata().tolist() == [[1, pytest.approx(0.6)], [2, pytest.approx(0.75)]]
    assert survived.get_ydata().tolist() == pytest.approx([0.45, 0.55])
    assert list(half.get_ydata()) == [0.5, 0.5]
    assert len(ax.lines) == 5
    with pytest.raises(ValueError, match=r"jaxgmm\.smc was expected"):
        plot.stages(ax, particles({}))
