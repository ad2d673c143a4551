"""Combine counts and scatters of the data with an inverse Wishart or inverse gamma prior of the covariances."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from . import expand, is_dense, is_shared, is_spherical, pool_counts


def mode_denominator(
    counts: jax.Array,
    present: jax.Array,
    degrees_of_freedom: jax.Array,
    covariance_type: str,
    num_features: int,
    means_share_covariance: bool,
) -> jax.Array:
    """Return the divisor in the mode of a covariance under an inverse Wishart or inverse gamma prior.

    The mode is (scale + scatter) / divisor. The divisor is minus twice the exponent of |Sigma| in the joint density of
    parameters and data. For spherical covariances, the trace of the scatter takes the place of the scatter. This trace is D
    times the number that the function `pool` returns.

    Args:
        counts: (..., K), the total weight of the data in each component.
        present: (..., K), True for components that enter the density of the prior.
        degrees_of_freedom: the degrees of freedom of the prior.
        covariance_type: the covariance type of the mixture.
        num_features: D.
        means_share_covariance: whether the prior of the means is N(m, Sigma / kappa), which acts like one more observation in
            each component.
    """
    d = num_features
    base = degrees_of_freedom + (d + 1 if is_dense(covariance_type) else 2)
    num_points = counts + present.astype(counts.dtype) if means_share_covariance else counts
    if is_spherical(covariance_type):
        num_points = d * num_points
    return expand(jnp.asarray(base)[..., None], covariance_type) + pool_counts(num_points, covariance_type)


def prior_scale(scale: jax.Array, covariance_type: str) -> jax.Array:
    """Add a component axis to the scale of a prior.

    The scale has the shape (..., D, D) for dense types, (...) for spherical types, and (..., D) for the others.
    """
    if is_spherical(covariance_type):
        return scale[..., None, None]
    return jnp.expand_dims(scale, -3 if is_dense(covariance_type) else -2)


def scatter_total(pooled: jax.Array, covariance_type: str, num_features: int) -> jax.Array:
    """Return the pooled scatters to be added to the scale of a prior; for spherical types, turn averages into sums."""
    return pooled * num_features if is_spherical(covariance_type) else pooled


def observed_degrees(counts: jax.Array, covariance_type: str, num_features: int) -> jax.Array:
    """Return the degrees of freedom that the data add to an inverse Wishart or inverse gamma distribution, (..., K or 1).

    A point adds one degree of freedom, or D if the covariance is spherical.
    """
    if is_shared(covariance_type):
        counts = counts.sum(-1, keepdims=True)
    return num_features * counts if is_spherical(covariance_type) else counts
