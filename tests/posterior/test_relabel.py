"""relabel recovers planted permutations, moves every field, and reports margins that show whether labels are identified."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from jaxgmm.component_order import permute_components
from jaxgmm.posterior.result import Posterior

from helpers import random_data, random_mixture, random_prior, slow_unless


def planted(mixture, orders, prior=None):
    """Return a posterior of slightly jittered copies of a mixture in given orders (C, S, K), and the copies as they were."""
    rng = np.random.default_rng(0)
    shape = orders.shape[:2]
    jitter = lambda leaf: leaf * (1 + 0.01 * rng.random((*shape, *[1] * leaf.ndim))).astype(leaf.dtype)  # noqa: E731
    draws = jax.tree.map(lambda leaf: jitter(np.asarray(leaf)), mixture)
    mixed = jax.jit(permute_components)(draws, np.asarray(orders))
    return Posterior(mixed, jnp.zeros(shape), prior, jnp.array(0), {"khat": jnp.array(0.1)}, "nuts"), draws


def random_orders(k, shape=(2, 15)):
    rng = np.random.default_rng(1)
    return np.array([[rng.permutation(k) for _ in range(shape[1])] for _ in range(shape[0])])


@pytest.mark.parametrize(
    ("covariance_type", "k", "method"),
    slow_unless(
        [
            ("full", 3, "assignment"),
            ("spherical", 3, "assignment"),
            ("full", 7, "assignment"),
            ("full", 1, "assignment"),
            ("tied", 3, "stephens"),
            ("diag", 7, "stephens"),
            ("tied", 3, "kl"),
            ("spherical", 7, "kl"),
        ],
        [("full", 7, "assignment"), ("tied", 3, "stephens"), ("spherical", 7, "kl")],
    ),
)
def test_planted_permutations_come_back(covariance_type, k, method):
    """Every field is restored, for up to six components by enumeration and for more by assignment on the host."""
    mixture, x = random_mixture(0, covariance_type, k, 2, spread=8), random_data(0, 40, 2, k, spread=8)
    near = np.repeat(np.asarray(mixture.means), 20, 0) + 0.1 * np.random.default_rng(2).normal(size=(20 * k, 2))
    x = np.concatenate([x, near])
    orders = random_orders(k)
    posterior, draws = planted(mixture, orders)
    found = jaxgmm.relabel(posterior, mixture, x, method=method)
    for left, right in zip(jax.tree.leaves(found.mixture), jax.tree.leaves(draws), strict=True):
        np.testing.assert_array_equal(left, right)
    np.testing.assert_array_equal(found.stats["permutation"], np.argsort(orders, -1))
    assert bool(found.stats["labels_identified"])
    assert "khat" in found.stats
    expected = (orders[:, 1:] != orders[:, :-1]).any(-1).mean()
    np.testing.assert_allclose(found.stats["switch_rate"], expected, rtol=1e-6)


def test_margins():
    """Margins are 1 for well-separated components and near 0 for two equal ones, whose labels are not identified."""
    x = np.concatenate([np.full((10, 1), -20.0), np.full((20, 1), 20.0), np.full((10, 1), 60.0)])
    ones = np.ones((3, 1, 1))
    apart = jaxgmm.make_mixture([0.25, 0.5, 0.25], [[-20.0], [20.0], [60.0]], ones)
    posterior, _ = planted(apart, random_orders(3))
    np.testing.assert_allclose(jaxgmm.relabel(posterior, apart, x).stats["relabel_margin"], 1, rtol=1e-5)
    twins = jaxgmm.make_mixture([0.25, 0.5, 0.25], [[0.0], [0.0], [60.0]], ones)
    posterior, _ = planted(twins, random_orders(3))
    stats = jaxgmm.relabel(posterior, twins, x).stats
    assert stats["relabel_margin"].max() < 0.2
    assert not bool(stats["labels_identified"])


@pytest.mark.parametrize(
    ("method", "extra"),  # with more than six components, the orders are not enumerated
    slow_unless(itertools.product(("assignment", "stephens", "kl"), (0, 6)), [("assignment", 0), ("stephens", 6), ("kl", 0)]),
)
def test_draws_that_resemble_the_reference_in_no_order(method, extra):
    """Two components lie side by side where the reference has a narrow inside a wide one: no method identifies the labels.

    The divergences of the two orders differ by half a nat per unit of weight, although responsibilities agree equally badly.
    """
    far = np.arange(extra)[:, None] * 100.0 + 100
    weights = np.r_[[0.4, 0.4], np.full(extra, 0.2 / max(extra, 1))] / (1 if extra else 0.8)

    def mixture(means, variances):
        sizes = np.r_[variances, np.ones(extra)][:, None, None]
        return jaxgmm.make_mixture(weights, np.r_[np.reshape(means, (2, 1)), far], sizes)

    reference, other = mixture([0.0, 0.0], [1.0, 36.0]), mixture([-1.0, 1.0], [6.25, 10.0])
    draws = jax.tree.map(lambda leaf: jnp.stack([leaf] * 4)[None], other)
    posterior = Posterior(draws, jnp.zeros((1, 4)), None, jnp.array(0), {})
    x = np.asarray(jaxgmm.sample(jax.random.key(0), reference, 500)[0])
    stats = jaxgmm.relabel(posterior, reference, x, method=method).stats
    assert stats["relabel_margin"].max() < 0.2
    assert not bool(stats["labels_identified"])


def test_kl_needs_no_data():
    """With kl, x may be None, and two equal components delta apart have margin 1 - exp(-delta^2 / 4), inside jit too."""
    for delta in (0.5, 2.0):
        pair = jaxgmm.make_mixture([0.5, 0.5], [[0.0], [delta]], np.ones((2, 1, 1)))
        draws = jax.tree.map(lambda leaf: jnp.stack([leaf[::-1], leaf, leaf])[None], pair)
        posterior = Posterior(draws, jnp.zeros((1, 3)), None, jnp.array(0), {})
        relabel = lambda p, pair=pair: jaxgmm.relabel(p, pair, None, method="kl")  # noqa: E731
        for found in (relabel(posterior), jax.jit(relabel)(posterior)):
            np.testing.assert_array_equal(found.mixture.means[..., 0], [[[0, delta]] * 3])
            np.testing.assert_allclose(found.stats["relabel_margin"], 1 - np.exp(-(delta**2) / 4), rtol=1e-5)
            np.testing.assert_allclose(found.stats["switch_rate"], 0.5)
            assert bool(found.stats["labels_identified"]) == (delta > 1)


def test_relabelling_twice_equals_relabelling_once():
    """A second relabelling keeps the permutation and switch rate of the sampler's own draws; labels of NaN draws are not
    identified."""
    mixture, x = random_mixture(0, "full", 3, 2, spread=8), random_data(0, 40, 2, 3, spread=8)
    once = jaxgmm.relabel(planted(mixture, random_orders(3))[0], mixture, x)
    twice = jaxgmm.relabel(once, mixture, x, method="kl")
    for name in ("permutation", "switch_rate"):
        np.testing.assert_array_equal(once.stats[name], twice.stats[name])
    nan = dataclasses.replace(once, mixture=jax.tree.map(lambda leaf: leaf * jnp.nan, once.mixture))
    assert not bool(jaxgmm.relabel(nan, mixture, x).stats["labels_identified"])


def test_components_that_the_prior_identifies_stay():
    """Only components with equal prior concentrations are exchanged."""
    mixture, x = random_mixture(0, "diag", 3, 2, spread=8), random_data(0, 40, 2, 3, spread=8)
    prior = random_prior(0, "diag", 3, 2)
    posterior, _ = planted(mixture, np.broadcast_to([1, 0, 2], (1, 4, 3)), prior)
    found = jaxgmm.relabel(posterior, mixture, x).stats["permutation"]
    np.testing.assert_array_equal(found, np.broadcast_to([0, 1, 2], (1, 4, 3)))


def test_weights_silence_rows_and_jit_changes_nothing():
    """Rows of weight 0 may hold NaN, and jit with vmap returns what the eager call returns."""
    mixture, x = random_mixture(0, "full", 3, 2, spread=8), random_data(0, 40, 2, 3, spread=8)
    posterior, _ = planted(mixture, random_orders(3))
    weight = np.ones(40)
    weight[7] = 0
    x[7] = np.nan
    eager = jaxgmm.relabel(posterior, mixture, x, sample_weight=weight)
    stack = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), posterior)
    traced = jax.jit(jax.vmap(lambda p: jaxgmm.relabel(p, mixture, jnp.asarray(x), sample_weight=jnp.asarray(weight))))(stack)
    for left, right in zip(jax.tree.leaves(eager), jax.tree.leaves(traced), strict=True):
        np.testing.assert_allclose(right, np.stack([left, left]), rtol=1e-5)


def test_refused():
    """Invalid arguments raise errors that name them."""
    mixture, x = random_mixture(0, "full", 3, 2), random_data(0, 40, 2)
    posterior, _ = planted(mixture, random_orders(3))
    for arguments, error, sentence in (
        ((mixture, mixture, x), TypeError, "posterior is Mixture"),
        ((posterior, random_mixture(0, "full", 2, 2), x), ValueError, "reference has K=2"),
        ((posterior, posterior.mixture, x), ValueError, "reference is a stack"),
        ((posterior, mixture, x * np.nan), ValueError, "x contains NaN"),
    ):
        with pytest.raises(error, match=sentence):
            jaxgmm.relabel(*arguments)
    with pytest.raises(ValueError, match="method is 'ecr'"):
        jaxgmm.relabel(posterior, mixture, x, method="ecr")
    wide, _ = planted(random_mixture(0, "full", 7, 2), random_orders(7))
    with pytest.raises(ValueError, match="at most 6 components"):
        jax.jit(lambda p: jaxgmm.relabel(p, random_mixture(0, "full", 7, 2), x))(wide)
