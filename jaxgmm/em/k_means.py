"""Compute k-means++ seeds and run Lloyd's k-means for weighted points. The code also works inside jit.

Points are arrays (D, N), with the features as the first axis. Each feature is in units of its standard deviation. Points are
drawn by inversion of the cumulative weight. A point of integer weight w therefore acts like w copies of the point.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from .. import covariance
from ..chunking import MANY_COMPONENTS
from ..devices.row_shards import ShardedRows, cumulative_sums, search_sums, take_rows
from ..row_sums import vary_with, weight_or_ones

MAX_LLOYD_STEPS = {"k-means++": 10, "k-means": 100}  # largest number of steps, for each `method` of `initialize`
_SETTLED = 1e-4  # k-means ends if no centre moves by more than this number of standard deviations


class Clusters(NamedTuple):
    """Hard clusters of points.

    Attributes:
        members: (K, N), the weight of each point in its own cluster, and 0 in the other clusters.
        counts: (K,), the total weight of each cluster.
        means: (K, D), the mean of each cluster; for an empty cluster, the centre from which the cluster was formed.
    """

    members: jax.Array
    counts: jax.Array
    means: jax.Array


def subsample(key: jax.Array, x: jax.Array, weight: jax.Array | ShardedRows, num_rows: int) -> tuple[jax.Array, jax.Array]:
    """Return at most `num_rows` rows that represent all rows of x (N, D), and their weights.

    The sample is stratified: the total weight is divided into `num_rows` equal parts, and one row is drawn from each part. If
    no more than `num_rows` rows have a positive weight, the sample consists of these rows with their weights.
    """
    rows = weight if isinstance(weight, ShardedRows) else None
    weight = weight_or_ones(weight, x.shape[:1], x.dtype)
    if rows is None and len(x) <= num_rows:
        return x, weight
    number = jnp.arange(num_rows)
    drawn = _draw((number + jax.random.uniform(key, (num_rows,), x.dtype)) / num_rows, weight, rows)
    seen, num_seen = cumulative_sums(weight > 0, rows)
    is_small = num_seen <= num_rows
    index = jnp.where(is_small, jnp.minimum(search_sums(seen, number + 1, rows), len(x) - 1), drawn)
    own_weight = jnp.where(number < num_seen, take_rows(weight, index, rows), 0)
    return take_rows(x, index, rows), jnp.where(is_small, own_weight, weight.sum() / num_rows)


def _draw(uniform: jax.Array, weight: jax.Array, rows: ShardedRows | None = None) -> jax.Array:
    """Return one index for each uniform number in [0, 1), drawn with probability proportional to weight (N,)."""
    cumulative, total = cumulative_sums(weight, rows)
    last = search_sums(cumulative, total, rows)  # a uniform number close to 1 must not lead to a row of weight 0
    return jnp.minimum(search_sums(cumulative, uniform * total, rows, side="right"), last)


def num_trials(num_components: int) -> int:
    """Return how many points are tried for each seed of greedy k-means++."""
    return 2 + int(math.log(num_components))


def plus_plus_seeds(
    uniform: jax.Array,
    points: jax.Array,
    weight: jax.Array,
    cap: jax.Array | float = math.inf,
    given: tuple[jax.Array, jax.Array] | None = None,
) -> jax.Array:
    """Return the seeds (K, D) of greedy k-means++ (Arthur & Vassilvitskii 2007), from uniform numbers (K, trials) in [0, 1).

    Each seed is the best of `trials` candidate points. A point is drawn with probability proportional to its weight times its
    squared distance from the nearest seed so far. All squared distances above `cap` count as `cap`, so that a small cap keeps
    outliers from attracting the seeds. With `MANY_COMPONENTS` seeds or more, the squared distances are computed by a matrix
    product, and those that its rounding error can hide count as 0. If `given` holds centres (K, D) and which of them are known,
    (K,), the known centres are kept, and only the other ones are drawn.
    """
    sizes = (points**2).sum(0)
    squared_distances = _squares_by_product if len(uniform) >= MANY_COMPONENTS else _squares_of_differences

    def add_seed(distance: jax.Array, drawn: tuple) -> tuple[jax.Array, jax.Array]:
        uniform, known = drawn
        potential = weight * distance
        candidates = points[:, _draw(uniform, jnp.where(potential.sum() > 0, potential, weight))]  # (D, trials)
        squares = squared_distances(points, sizes, candidates)
        closer = jnp.minimum(jnp.minimum(squares, cap), distance)
        best = (closer @ weight).argmin()
        if known is None:
            return closer[best], candidates[:, best]
        return jnp.where(known[1], distance, closer[best]), jnp.where(known[1], known[0], candidates[:, best])

    # before the first seed, every point gets the same distance, which exceeds the distance between any two points
    unseeded = jnp.full(len(weight), jnp.minimum(1 + 4 * sizes.max(), cap))
    if given is not None:
        squares = ((points[None] - given[0][:, :, None]) ** 2).sum(1)  # (K, N)
        unseeded = jnp.minimum(unseeded, jnp.where(given[1][:, None], squares, jnp.inf).min(0))
    return jax.lax.scan(add_seed, vary_with(unseeded, points, weight, uniform), (uniform, given))[1]


def _squares_of_differences(points: jax.Array, sizes: jax.Array, candidates: jax.Array) -> jax.Array:
    """Return the squared distances (trials, N) of points (D, N) from candidates (D, trials)."""
    return ((points[:, None, :] - candidates[:, :, None]) ** 2).sum(0)


def _squares_by_product(points: jax.Array, sizes: jax.Array, candidates: jax.Array) -> jax.Array:
    """Return the same, computed by a matrix product; `sizes` (N,) are the squared lengths of the points.

    Each term is rounded by about eps times its size. Results that are not larger than this error become 0, so that copies of a
    seed are never drawn.
    """
    both = sizes[None] + (candidates**2).sum(0)[:, None]
    squares = both - 2 * covariance.einsum("dt,dn->tn", candidates, points)
    return jnp.where(squares > 8 * math.sqrt(len(points)) * jnp.finfo(points.dtype).eps * both, squares, 0)


def nearest_centers(points: jax.Array, centers: jax.Array, allowed: jax.Array | None = None) -> jax.Array:
    """Return the index (N,) of the centre nearest to each point, for centres (K, D).

    If `allowed` (K, N) is not None, only the centres that it allows are compared. The nearest centre c minimises |c|^2 / 2 -
    c'x, which one matrix product computes for all centres and points.
    """
    distance = (centers**2).sum(1)[:, None] / 2 - covariance.einsum("kd,dn->kn", centers, points)
    return (distance if allowed is None else jnp.where(allowed, distance, jnp.inf)).argmin(0)


def cluster(points: jax.Array, weight: jax.Array, centers: jax.Array) -> Clusters:
    """Assign each point to the nearest of the centres (K, D)."""
    is_member = nearest_centers(points, centers)[None] == jnp.arange(len(centers))[:, None]
    members = jnp.where(is_member, weight[None], 0)
    counts = members.sum(1)
    means = jnp.matmul(members, points.T, precision=jax.lax.Precision.HIGHEST) / jnp.where(counts > 0, counts, 1)[:, None]
    return Clusters(members, counts, jnp.where(counts[:, None] > 0, means, centers))


def lloyd(points: jax.Array, weight: jax.Array, seeds: jax.Array, max_steps: jax.Array | int) -> jax.Array:
    """Run k-means from the seeds (K, D) until no centre moves, or for `max_steps` steps, and return the centres (K, D)."""

    def update(state: tuple) -> tuple:
        step, centers, _ = state
        means = cluster(points, weight, centers).means
        return step + 1, means, (abs(means - centers) > _SETTLED).any()

    begin = vary_with((jnp.array(0), seeds, jnp.array(True)), points, weight, seeds)
    return jax.lax.while_loop(lambda state: state[2] & (state[0] < max_steps), update, begin)[1]
