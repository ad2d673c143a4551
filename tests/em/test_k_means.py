"""k-means++ and k-means: seeds follow the weights, steps lower the sum of squares, assignments are the nearest centres."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxgmm.em.k_means import (
    _draw,
    _squares_by_product,
    _squares_of_differences,
    cluster,
    lloyd,
    nearest_centers,
    plus_plus_seeds,
    subsample,
)

from helpers import random_data, random_weight

X = random_data(0, d=2)
POINTS = jnp.asarray(((X - X.mean(0)) / X.std(0)).T, jnp.float32)
draw = jax.jit(_draw)


def test_lloyd_lowers_the_sum_of_squares():
    """Each step of k-means improves on its seeds, for every key."""
    weight = jnp.ones(60)

    def inertia(centers):
        return ((POINTS.T[:, None] - centers) ** 2).sum(-1).min(1).sum()

    def path(uniform):
        seeds = plus_plus_seeds(uniform, POINTS, weight)
        return jnp.stack([inertia(lloyd(POINTS, weight, seeds, steps)) for steps in (0, 1, 3, 100)])

    paths = np.asarray(jax.jit(jax.vmap(path))(jax.random.uniform(jax.random.key(0), (5, 3, 3))))
    assert (np.diff(paths, axis=1) <= 1e-5 * paths[:, :1]).all()
    assert (paths[:, -1] < paths[:, 0]).any()


def test_clusters():
    """Members belong to the nearest centre; an empty cluster keeps its centre."""
    weight = jnp.asarray(random_weight(0), jnp.float32)
    centers = jnp.array([[0.0, 1.0], [-1.0, 0.0], [1.0, -1.0], [90.0, 90.0]])
    labels = ((POINTS.T[:, None] - centers) ** 2).sum(-1).argmin(1)
    np.testing.assert_array_equal(nearest_centers(POINTS, centers), labels)
    members, counts, means = cluster(POINTS, weight, centers)
    np.testing.assert_array_equal(members, (labels == jnp.arange(4)[:, None]) * weight)
    np.testing.assert_allclose(counts.sum(), weight.sum(), rtol=1e-6)
    for k in range(3):
        expected = np.average(np.asarray(POINTS.T), axis=0, weights=np.asarray(members[k]))
        np.testing.assert_allclose(means[k], expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(means[3], centers[3])


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=8).filter(any), st.integers(1, 50))
def test_draws_are_proportional_to_weight(weight, count):
    """Evenly spaced numbers draw each row in proportion to its weight, rows of weight 0 never; all examples have one shape."""
    size = count * sum(weight)
    weight = np.pad(np.float32(weight), (0, 8 - len(weight)))
    uniform = ((np.arange(2000) % size + 0.5) / size).astype(np.float32)
    drawn = np.bincount(np.asarray(draw(uniform, weight))[:size], minlength=8)
    np.testing.assert_array_equal(drawn[weight == 0], 0)
    assert (abs(drawn - count * weight) <= 1).all()


def test_seeds_are_distinct_points_of_positive_weight():
    """As long as there are enough distinct points, no seed repeats another one, and silenced points are no seeds."""
    weight = jnp.asarray(np.arange(60) % 4 == 0, jnp.float32)
    for key in jax.random.split(jax.random.key(1), 5):
        seeds = np.asarray(plus_plus_seeds(jax.random.uniform(key, (6, 3)), POINTS, weight))
        rows = [np.flatnonzero((np.asarray(POINTS.T) == seed).all(1))[0] for seed in seeds]
        assert len(set(rows)) == 6
        assert (np.asarray(weight)[rows] > 0).all()


def test_subsample():
    """Few rows are returned as they are; of many, a stratified sample keeps the total weight and the proportions."""
    x, weight = jnp.arange(1000.0)[:, None], jnp.asarray(np.arange(1000) % 2, jnp.float32)
    kept, same = subsample(jax.random.key(0), x, weight, 1000)
    assert kept is x
    assert same is weight
    rows, w = subsample(jax.random.key(0), x, weight, 100)
    assert rows.shape == (100, 1)
    np.testing.assert_allclose(w, 5.0)
    assert (np.asarray(rows) % 2 == 1).all()
    np.testing.assert_array_equal(np.histogram(np.asarray(rows), bins=100, range=(0, 1000))[0], 1)


def test_a_cap_keeps_seeds_off_outliers():
    """Without a cap a far point is nearly always one of two seeds; with a cap it is as likely as any other point.

    By chance, the second check fails for less than one key in 10^5: of 100 seeds, 5 are expected to be the outlier.
    """
    points, weight = POINTS.at[:, 7].set(1000.0), jnp.ones(60)
    uniforms = jax.random.uniform(jax.random.key(0), (100, 2, 2))

    def share_of_outliers(cap):
        seeds = jax.vmap(lambda uniform: plus_plus_seeds(uniform, points, weight, cap))(uniforms)
        return (seeds == 1000).all(-1).any(-1).mean()

    assert share_of_outliers(jnp.inf) > 0.95
    assert share_of_outliers(0.2) < 0.25


def test_squared_distances_by_a_matrix_product():
    """They equal those of differences up to rounding, and are exactly 0 for copies of a seed, also far from the origin."""
    points = jnp.concatenate([POINTS, POINTS + 30, POINTS[:, :5]], 1)
    candidates, sizes = points[:, [3, 70]], (points**2).sum(0)
    found = np.asarray(_squares_by_product(points, sizes, candidates))
    expected = np.asarray(_squares_of_differences(points, sizes, candidates))
    bound = 8 * np.sqrt(2) * np.finfo(np.float32).eps * (np.asarray(sizes)[[3, 70]][:, None] + np.asarray(sizes))
    assert (abs(found - expected) <= bound).all()
    assert (found[expected == 0] == 0).all()
    assert (expected == 0).sum() >= 3


def test_many_seeds_are_distinct_while_there_are_distinct_points():
    """With 64 seeds, of which copies of 60 points are the only choice, each point is a seed once before any is repeated."""
    points = jnp.concatenate([POINTS, POINTS], 1)
    seeds = np.asarray(jax.jit(plus_plus_seeds)(jax.random.uniform(jax.random.key(0), (64, 6)), points, jnp.ones(120)))
    assert len(np.unique(seeds[:60], axis=0)) == 60
