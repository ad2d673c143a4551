"""Compute starts of EM by k-means++ and k-means. The code also works inside jit.

Each feature is divided by its standard deviation before distances are computed, so that a start does not depend on units. The
start determines which local optimum EM finds. Therefore several candidate clusterings are made, and the most likely one is
used. If x has more than about two thousand rows, the candidates are made from a subsample.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from numpy.typing import ArrayLike

from .. import covariance
from ..calls import public
from ..chunking import can_compare_starts, start_rows
from ..covariance import types as covariance_types
from ..covariance.types import as_covariance_type
from ..density import log_joint, safe_log
from ..devices.row_shards import ShardedRows
from ..incomplete.checks import check_columns, check_match
from ..incomplete.imputation import means_of_rows
from ..incomplete.observations import Observations
from ..incomplete.rows import is_allowed
from ..mixture import Mixture
from ..padding import pad_data
from ..row_sums import Weight, first_valid_row, nonzero, repeat_valid_row, weight_array, weight_or_ones, with_array
from ..validation import check_choice, check_count, check_key
from .assignments import mixture_of_groups, weighted_data
from .incomplete_start import labelled_clusters, mixture_of_clusters
from .k_means import MAX_LLOYD_STEPS, cluster, lloyd, nearest_centers, num_trials, plus_plus_seeds, subsample
from .result import holds_too_few
from .single_normal import incomplete_data

METHODS = tuple(MAX_LLOYD_STEPS)
_CANDIDATES = 8
_TIE = 1e-4  # nats per row; candidates count as equal if their log-likelihoods differ by less than this number
# weight of the covariance of all data in the covariance of each cluster, as a fraction of the average weight of a cluster; it
# keeps the covariances of starts positive definite
START_PSEUDO_COUNT = 1e-2


class StartOptions(NamedTuple):
    """The static options of `initialize`."""

    num_components: int
    covariance_type: str
    method: str


@public
def initialize(
    key: jax.Array,
    x: ArrayLike | Observations,
    *,
    num_components: int,
    covariance_type: str = "full",
    method: str = "k-means++",
    sample_weight: ArrayLike | None = None,
) -> Mixture:
    """Make a start for EM by greedy k-means++ (Arthur & Vassilvitskii 2007) and k-means.

    A candidate start consists of the moments of the clusters. The function makes eight candidates and returns the candidate
    with the largest likelihood. A candidate with a cluster of fewer than D + 1 points (2 for diag and spherical) is returned
    only if all candidates have such a cluster. The centres are computed from at most max(2048, 64 K) rows. If x has more rows,
    a subsample of this size is drawn in proportion to the weights. If K is at least 64, and K times D times the number of these
    rows exceeds 2^24 on a CPU, only one candidate is made, because the likelihoods would take too long. The moments are always
    computed from all rows. The same key gives the same start for the same rows in the same order.

    Covariances are shrunk a little towards the covariance of all data. They are therefore always positive definite, even if
    columns are constant or collinear, or a cluster has one point. If x has fewer than K distinct points, some components get
    weight 0.

    Args:
        key: a random key.
        x: (N, D), N >= num_components; or `observations`, whose missing values are replaced by conditional means under one
            normal distribution before the rows are clustered. Rows with a known label are assigned to its component.
        num_components: K.
        covariance_type: "full", "tied", "diag", "spherical", or a code such as "VEE": see `Mixture`.
        method: how far k-means improves the centres that k-means++ draws. "k-means++" takes at most ten of Lloyd's steps;
            "k-means" takes Lloyd's steps until the centres no longer move (at most 100).
        sample_weight: (N,) >= 0, or None. A row of integer weight w counts as w copies of the row. A row of weight 0 is
            ignored, whatever values it holds.

    Returns:
        A Mixture in the float dtype of x. If x is traced and holds NaN or infinity, the parameters are NaN.

    Raises:
        ValueError: x has fewer rows than components, a value or shape is invalid, or an option is unknown.
        TypeError: an argument has the wrong type.

    Example:
        >>> import jax, jaxgmm
        >>> jaxgmm.initialize(jax.random.key(0), jaxgmm.datasets.load("iris"), num_components=3).means.shape
        (3, 4)
    """
    options = check_start_options(key, StartOptions(num_components, covariance_type, method))
    x, weight = weighted_data(x, sample_weight, num_components)
    if isinstance(x, Observations):
        check_columns(x, weight)
        check_match(x, num_components, covariance_type)
        single = incomplete_data(x, weight, covariance_type, 1, key)[2]
        return start_of_incomplete_rows(key, *pad_data(x, weight, key), single, options)
    return initialize_validated(key, *pad_data(x, weight, key), options=options)


@partial(jax.jit, static_argnums=3)
def initialize_batch(
    keys: jax.Array,
    x: jax.Array,
    weight: Weight,
    options: StartOptions,
    *,
    num_present: jax.Array | None = None,
) -> Mixture:
    """Make one start for each key (B,); the data are not validated.

    Args:
        keys: (B,) random keys.
        x: (B, N, D), or one data set (N, D) that all starts share.
        weight: (B, N), or weights of rows that all data sets share.
        options: the options of `initialize`.
        num_present: (B,), the number of components of each start; all other components are absent (weight 0). If it is
            None, all components are present.
    """
    ones = weight_or_ones(weight, x.shape[:-1], x.dtype)
    axes = (0, 0 if x.ndim == 3 else None, 0 if ones.ndim == 2 else None)
    axes += (None if num_present is None else 0,)
    return jax.vmap(partial(initialize_validated, options=options), in_axes=axes)(keys, x, ones, num_present)


@partial(jax.jit, static_argnums=4)
def initialize_incomplete_batch(
    keys: jax.Array, rows: Observations, weight: Weight, single: Mixture, options: StartOptions
) -> Mixture:
    """Make one start for each key (B,) from observations without weights.

    Args:
        keys: (B,) random keys.
        rows: observations (B, N, D), or (N, D) if all starts share them.
        weight: (B, N), or weights of rows that all data sets share.
        single: the fits of one component, (B, ...), or one fit that all starts share.
        options: the options of `initialize`.
    """
    values = weight_array(weight)
    axes = (0 if rows.ndim == 3 else None, 0 if values is not None and values.ndim == 2 else None)
    start = partial(start_of_incomplete_rows, options=options)
    return jax.vmap(start, in_axes=(0, *axes, 0 if single.batch_shape else None))(keys, rows, weight, single)


def check_start_options(key: object, options: StartOptions) -> StartOptions:
    """Return the options with the canonical covariance type; raise an error if no start can be made with them and this key."""
    check_key(key)
    check_count(options.num_components, "num_components")
    covariance_type = as_covariance_type(options.covariance_type)
    check_choice(options.method, "method", METHODS)
    return options._replace(covariance_type=covariance_type)


@partial(jax.jit, static_argnames="options")
def initialize_validated(
    key: jax.Array,
    x: jax.Array,
    weight: Weight,
    num_present: jax.Array | None = None,
    *,
    options: StartOptions,
) -> Mixture:
    """Make one start from validated data; `num_present` has the same meaning as in `initialize_batch`."""
    k = options.num_components
    weight = with_array(weight, x)
    x = repeat_valid_row(x, weight)
    return mixture_of_groups(
        x,
        weight,
        _clusters(key, x, weight, num_present, options),
        num_components=k,
        covariance_type=options.covariance_type,
        pseudo_count=START_PSEUDO_COUNT / k,
    )


def _clusters(
    key: jax.Array, x: jax.Array, weight: jax.Array | ShardedRows, num_present: jax.Array | None, options: StartOptions
) -> jax.Array:
    """Return the cluster (N,) of each row of finite data (N, D)."""
    center, unit, points = standardise_features(x, weight)
    key_rows, key_seeds = jax.random.split(key)
    rows, row_weight = subsample(key_rows, x, weight, start_rows(options.num_components))
    centers = _search_centers(key_seeds, ((rows - center) / unit).T, row_weight, num_present, options)
    return nearest_centers(points, centers)


@partial(jax.jit, static_argnames="options")
def start_of_incomplete_rows(
    key: jax.Array,
    rows: Observations,
    weight: Weight,
    single: Mixture,
    options: StartOptions,
    num_present: jax.Array | None = None,
) -> Mixture:
    """Make one start from validated observations without weights, given the fit `single` of one component.

    `num_present` has the same meaning as in `initialize_batch`.
    """
    k, weight = options.num_components, with_array(weight, rows.x)
    x = repeat_valid_row(means_of_rows(single, dataclasses.replace(rows, allowed=None)), weight)
    if rows.allowed is None:
        labels = _clusters(key, x, weight, num_present, options)
    else:
        uniform = jax.random.uniform(key, (k, num_trials(k)), x.dtype)
        values = weight_or_ones(weight, x.shape[:1], x.dtype)
        may = is_allowed(rows.allowed, k)
        may = may if num_present is None else may & (jnp.arange(k)[:, None] < num_present)
        labels = labelled_clusters(uniform, standardise_features(x, weight)[2], values, may)
    return mixture_of_clusters(single, rows, weight, labels, (k, options.covariance_type), START_PSEUDO_COUNT / k)


def standardise_features(x: jax.Array, rows: jax.Array | ShardedRows) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return mean and sd (D,) of finite data (N, D), and the data in these units, (D, N); the sd of a constant is 1."""
    first = first_valid_row(x, rows) if isinstance(rows, ShardedRows) else x[0]
    weight = weight_or_ones(rows, x.shape[:1], x.dtype)
    total = nonzero(weight.sum())
    center = first + weight @ (x - first) / total
    sd = jnp.sqrt(weight @ (x - center) ** 2 / total)
    unit = jnp.where(sd > 0, sd, 1)
    return center, unit, ((x - center) / unit).T


def _search_centers(
    key: jax.Array,
    points: jax.Array,
    weight: jax.Array,
    num_present: jax.Array | None,
    options: StartOptions,
) -> jax.Array:
    """Return the centres (K, D) of the most likely of several clusterings."""
    k, covariance_type, method = options
    steps = MAX_LLOYD_STEPS[method]

    def seeds_of(uniform: jax.Array) -> jax.Array:
        seeds = plus_plus_seeds(uniform, points, weight)
        if num_present is None:
            return seeds
        # move the centres of absent components far away from all points
        return jnp.where(jnp.arange(k)[:, None] < num_present, seeds, 10 * (1 + abs(points).max()))

    def candidate(uniform: jax.Array) -> tuple[jax.Array, jax.Array]:
        centers = lloyd(points, weight, seeds_of(uniform), steps)
        return centers, _cluster_log_likelihood(
            points, weight, centers, k if num_present is None else num_present, covariance_type
        )

    trials = num_trials(k)
    if not can_compare_starts(k, k * points.size):
        uniform = jax.random.uniform(key, (k, trials), points.dtype)
        return lloyd(points, weight, seeds_of(uniform), steps)
    centers, log_likelihood = jax.lax.map(candidate, jax.random.uniform(key, (_CANDIDATES, k, trials), points.dtype))
    # candidates may be equal except for the order of their components; the first one is taken, so that the choice does not
    # depend on rounding
    chosen = jnp.argmax(log_likelihood >= log_likelihood.max() - _TIE)
    return centers[chosen]


def _cluster_log_likelihood(
    points: jax.Array, weight: jax.Array, centers: jax.Array, num_present: jax.Array | int, covariance_type: str
) -> jax.Array:
    """Return the mean log-likelihood of points (D, N) under a mixture that is computed from a clustering of the points.

    Each point belongs to the cluster of its nearest centre, and each cluster gives one component. The log-likelihood is -inf if
    one of the first `num_present` clusters holds too few points for its own covariance.
    """
    d, kind = len(points), covariance_type
    member, count, means = cluster(points, weight, centers)
    total = jnp.where(count.sum() > 0, count.sum(), 1)
    # each covariance is averaged with an identity matrix of this weight, so that its factorisation never fails
    extra = total * START_PSEUDO_COUNT / len(centers)
    scatter = covariance.weighted_scatter(member, points - means[:, :, None], kind)
    pooled = covariance.ridge(covariance.pool(scatter, kind), jnp.full(1, extra), kind)
    factors = covariance.factorize(pooled / (covariance.pool_counts(count, kind) + extra), kind, d)
    joint, _ = log_joint(safe_log(count / total), means, factors, points, kind)  # (K, N)
    top = joint.max(0)
    likelihood = weight @ (top + jnp.log(jnp.exp(joint - top).sum(0))) / total
    few = (holds_too_few(count, covariance_types.fewest_points(kind, d)) & (jnp.arange(len(centers)) < num_present)).any()
    return jnp.where(few | jnp.isnan(likelihood), -jnp.inf, likelihood)
