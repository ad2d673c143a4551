"""Compute the start of a fit of incomplete rows from a hard clustering of the rows.

The rows are clustered after their missing values were replaced by conditional means under one normal distribution. The moments
of the clusters contain the conditional covariances under this distribution, so the variances of the start are not too small.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from .. import covariance
from ..covariance.estimates import nearest
from ..incomplete.observations import Observations
from ..mixture import Mixture
from ..rounding import ridge_fraction
from ..row_sums import Weight, nonzero
from .incomplete_sums import IncompleteRows, incomplete_sums
from .k_means import nearest_centers, plus_plus_seeds
from .kernels import unwhiten

_STEPS = 10  # number of k-means steps if some rows have labels


def labelled_clusters(uniform: jax.Array, points: jax.Array, weight: jax.Array, may: jax.Array) -> jax.Array:
    """Return the cluster (N,) of each point (D, N). A point belongs to the nearest of the clusters that it may be in.

    A cluster begins at the mean of the rows that may be in no other cluster. If there are no such rows, it begins at a seed of
    k-means++ (Arthur & Vassilvitskii 2007), which lies far from the other clusters.

    Args:
        uniform: (K, trials), numbers in [0, 1).
        points: (D, N), in units of the standard deviations.
        weight: (N,).
        may: (K, N), whether each cluster is allowed for each point.
    """
    known = jnp.where(may & (may.sum(0) == 1), weight, 0)
    means = covariance.einsum("kn,dn->kd", known, points) / nonzero(known.sum(1))[:, None]
    seeds = plus_plus_seeds(uniform, points, weight, given=(means, known.sum(1) > 0))

    def nearest(centers: jax.Array) -> jax.Array:
        return nearest_centers(points, centers, may)

    def move(_: int, centers: jax.Array) -> jax.Array:
        members = jnp.where(nearest(centers)[None] == jnp.arange(len(centers))[:, None], weight, 0)
        counts = members.sum(1)
        moved = covariance.einsum("kn,dn->kd", members, points) / nonzero(counts)[:, None]
        return jnp.where(counts[:, None] > 0, moved, centers)

    return nearest(jax.lax.fori_loop(0, _STEPS, move, seeds))


def mixture_of_clusters(
    single: Mixture,
    rows: Observations,
    weight: Weight,
    labels: jax.Array,
    shape: tuple[int, str],
    pseudo_count: float,
) -> Mixture:
    """Return the mixture whose components have the conditional moments of the clusters of incomplete rows.

    Args:
        single: the fit of one component, under which the moments are conditional.
        rows: observations without weights.
        weight: the weights of the rows.
        labels: (N,), the cluster of each row.
        shape: K and the covariance type.
        pseudo_count: the weight of the covariance of `single` in each covariance, as a fraction of the total weight.
    """
    k, covariance_type = shape
    d, center = single.num_features, single.means[0]
    shared = "tied" if covariance.is_dense(covariance_type) else covariance_type
    covariances = single.covariances
    if not covariance.is_dense(covariance_type):
        covariances = jnp.broadcast_to(covariances, (k, covariances.shape[-1]))
    copies = Mixture(jnp.full(k, 1 / k, center.dtype), jnp.zeros((k, d), center.dtype), covariances, shared)
    factors = covariance.factorize(covariances, shared, d)
    of_clusters = dataclasses.replace(rows, allowed=labels)
    count, first, second, _ = incomplete_sums(copies, factors, IncompleteRows(of_clusters, weight, center), None)
    sums = unwhiten(copies, factors, count, first, second)
    total = nonzero(count.sum())
    extra = pseudo_count * total
    pooled = covariance.pool(sums.scatter, covariance_type) + extra * single.covariances
    stored = pooled / (covariance.pool_counts(count, covariance_type) + extra)
    stored = nearest(stored, count / total, covariance_type, stored)
    stored = covariance.relative_ridge(stored, ridge_fraction(d, stored.dtype), covariance_type)
    return Mixture(count / total, sums.mean + center[None], stored, covariance_type)
