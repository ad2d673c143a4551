"""Standardised coordinates y = (x - shift) / scale, in which the samplers work.

Numbers in these coordinates are of about unit size, so float32 is accurate enough.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .. import covariance
from ..covariance.types import accepts_units, is_coupled, num_copies
from ..incomplete.observations import Data, Observations
from ..incomplete.rows import moments_of_columns, standardised
from ..mixture import Mixture
from ..priors.interface import MixturePrior
from ..row_sums import Weight, first_valid_row, has_weights, total_weight, weight_or_ones


class StandardizedProblem(NamedTuple):
    """One data set and one prior in standardised coordinates y, where x = shift + scale y.

    y: the rows, (N, D), or observations. weight: the weights of the rows. prior: the prior of the parameters in these
    coordinates. shift (D,) and scale (D,) are in data units. axes: (K, D, D), the axes about which the unconstrained space
    expresses rotations of covariances with free axes, or None for the axes of the data.
    """

    y: Any
    weight: Weight
    prior: MixturePrior
    shift: jax.Array
    scale: jax.Array
    axes: jax.Array | None = None


def standardise(x: Data, weight: Weight, prior: MixturePrior, covariance_type: str) -> StandardizedProblem:
    """Standardise data and prior, in JAX's default float type.

    Each standardised feature has mean 0 and variance 1, in observations over the observed values. If covariances of the type
    need features in one unit, as for spherical and VEV, all features have the same scale, and their average variance is 1. A
    constant column is scaled by its typical standard deviation under the prior instead.
    """
    dtype = jnp.result_type(float)
    w = weight_or_ones(weight, x.shape[:1], x.dtype)
    kept = (w > 0)[:, None]
    total = jnp.where(w.sum() > 0, w.sum(), 1)
    if isinstance(x, Observations):
        first, variance = moments_of_columns(x, w)
        mean, sd = jnp.zeros_like(first), jnp.sqrt(variance)
    else:
        first = first_valid_row(x, weight)
        centred = jnp.where(kept, x - first, 0)
        mean = w @ centred / total
        sd = jnp.sqrt(w @ jnp.where(kept, centred - mean, 0) ** 2 / total)
    variance = covariance.variances(scale_factor(sd, covariance_type), covariance_type, x.shape[1])[0]
    typical = prior.covariance_law.typical_variances(covariance_type, x.shape[1])
    if not accepts_units(covariance_type):
        variance, typical = (jnp.broadcast_to(values.mean(), values.shape) for values in (variance, typical))
    scale = jnp.sqrt(jnp.where(variance > 0, variance, typical)).astype(dtype)
    shift = (first + mean).astype(dtype)
    if isinstance(x, Observations):
        y = standardised(x.with_own_noise().astype(dtype), shift, scale)
        allowed = y.allowed
        y = y.map_rows(lambda leaf: jnp.where(kept.reshape(-1, *[1] * (leaf.ndim - 1)), leaf, jnp.zeros((), leaf.dtype)))
        y = dataclasses.replace(y, allowed=allowed)  # 0 would be a label
    else:
        y = jnp.where(kept, (x - first) - mean, 0).astype(dtype) / scale
    prior = jax.tree.map(lambda leaf: leaf.astype(dtype), prior)
    prior = prior.standardise(shift, scale, scale_factor(scale, covariance_type)[0])
    weight = jax.tree.map(lambda leaf: leaf.astype(dtype), weight) if has_weights(weight) else weight
    return StandardizedProblem(y, weight, prior, shift, scale)


def scale_factor(scale: jax.Array, covariance_type: str) -> jax.Array:
    """Return the factors that convert standardised covariances to data units.

    The factors have the shape in which the covariance of one component is stored.
    """
    return covariance.from_data_scatter(covariance.outer(scale, covariance_type), covariance_type)


def to_standard(mixture: Mixture, problem: StandardizedProblem) -> Mixture:
    """Convert a mixture from data units to standardised coordinates."""
    dtype = problem.y.dtype
    factor = scale_factor(problem.scale, mixture.covariance_type)
    return Mixture(
        mixture.weights.astype(dtype),
        (mixture.means.astype(dtype) - problem.shift) / problem.scale,
        mixture.covariances.astype(dtype) / factor,
        mixture.covariance_type,
    )


def from_standard(mixture: Mixture, problem: StandardizedProblem) -> Mixture:
    """Convert a mixture from standardised coordinates to data units."""
    factor = scale_factor(problem.scale, mixture.covariance_type)
    return Mixture(
        mixture.weights, mixture.means * problem.scale + problem.shift, mixture.covariances * factor, mixture.covariance_type
    )


def log_volume(problem: StandardizedProblem, covariance_type: str, num_components: int) -> jax.Array:
    """Return the log density in data units minus the log density in standardised coordinates, ().

    Both are joint densities of the data, the means and the covariances, at the same point.
    """
    d, log_scale = problem.y.shape[1], jnp.log(problem.scale).sum()
    stored = covariance.storage_shape(covariance_type, num_components, d)
    log_factor = jnp.broadcast_to(jnp.log(scale_factor(problem.scale, covariance_type)), stored)
    if is_coupled(covariance_type):  # only volumes have a unit
        of_covariances = num_copies(covariance_type, num_components)[0] * 2 / d * log_scale
    else:
        free = tuple(zip(*covariance.labels(covariance_type, num_components, d), strict=True))
        of_covariances = log_factor[tuple(map(jnp.array, free))].sum()
    return log_volume_of_data(problem) - num_components * log_scale - of_covariances


def log_volume_of_data(problem: StandardizedProblem) -> jax.Array:
    """Return the log density of the data in data units minus their log density in standardised coordinates, ()."""
    n, dtype = len(problem.y), problem.y.dtype
    if isinstance(problem.y, Observations):  # only observed values have a density
        each = jnp.where(problem.y.mask(), jnp.log(problem.scale), 0).sum(1)
        return -(weight_or_ones(problem.weight, (n,), dtype) @ each)
    return -jnp.asarray(total_weight(problem.weight, n, dtype)) * jnp.log(problem.scale).sum()


def log_volume_of_present(problem: StandardizedProblem, covariance_type: str, present: jax.Array) -> jax.Array:
    """Return `log_volume` for the present components.

    The number of present components may be traced, but `log_volume` needs a Python integer. `log_volume` is linear in the
    number of components, so the result is extrapolated from `log_volume` for 1 and for 2 components.
    """
    one, two = (log_volume(problem, covariance_type, k) for k in (1, 2))
    return one + (present.sum().astype(two.dtype) - 1) * (two - one)
