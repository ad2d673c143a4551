"""Compute log-densities, responsibilities and labels of points under a mixture.

Only this module computes log w_k N(x | mu_k, Sigma_k). The function `log_joint` is accurate. The function `quadratic_log_joint`
is faster, but its rounding error is larger.

Public functions broadcast over the leading axes of a mixture: log_prob(mixture (C, S, ...), x (N, D)) -> (C, S, N). They
subtract each mean before whitening. They process the rows in chunks, so that they need memory for one chunk instead of
N x K x D numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from numpy.typing import ArrayLike

from . import covariance
from .calls import public
from .chunking import density_rows_per_chunk
from .covariance.quadratic import quadratic_coefficients
from .devices.host import cast
from .devices.row_shards import ShardedRows, map_over_shards
from .incomplete.checks import as_observed_data, check_match
from .incomplete.conditional import conditional
from .incomplete.observations import Data, Observations
from .incomplete.rows import is_allowed
from .mixture import Mixture, MixtureLike, as_mixture
from .padding import cut, pad_data
from .rounding import positive_factors
from .row_sums import Weight
from .validation import as_data


@public
def log_prob(mixture: MixtureLike, x: ArrayLike | Observations) -> jax.Array:
    """Return the log-density of each point: log sum_k w_k N(x_n | mu_k, Sigma_k), in nats. Bishop (2006), eq. 9.12.

    Where the value is finite, its gradients with respect to all fields of the mixture are finite, too. This is true even at
    weights of exactly 0.

    The result is never NaN for finite input. A covariance is singular if, for example, its component lies on one point or on a
    line. The function raises the variances of such a covariance to the size of the rounding error of the mixture's values. The
    density is then large on the point or line, and 0 elsewhere. If a matrix has an eigenvalue that is more negative than
    rounding can explain, the matrix is not a covariance, and the density of its component is 0 everywhere.

    Args:
        mixture: a Mixture or a Fit, or a stack of either with leading axes (...).
        x: (N, D), in the units of the means, or `observations`: the densities are then those of the observed values. With
            labels, they are log sum_k w_k N(x_n | k) over the allowed components.

    Returns:
        (..., N). The value is -inf where the densities of all components underflow.

    Raises:
        ValueError, TypeError: `mixture` is neither a Mixture nor a Fit, or x is not numeric or does not have shape (N, D) with
            the mixture's D.

    Example:
        >>> import jaxgmm
        >>> mixture = jaxgmm.make_mixture([1.0], [[0.0]], [[[1.0]]])
        >>> round(float(jaxgmm.log_prob(mixture, [[0.0]])[0]), 4)
        -0.9189
    """
    return _for_each_point(log_prob_of_rows, *as_points(mixture, x))


@public
def responsibilities(mixture: MixtureLike, x: ArrayLike | Observations) -> jax.Array:
    """Return the probability that each point came from each component: w_k N(x_n | k) / p(x_n). Bishop (2006), eq. 9.13.

    If the densities of all components underflow at a point, the present component with the smallest Mahalanobis distance gets
    responsibility 1. Singular covariances are treated as in `log_prob`. The result is never NaN for finite input.

    Args:
        mixture: a Mixture or a Fit, or a stack of either with leading axes (...).
        x: (N, D), in the units of the means, or `observations`.

    Returns:
        (..., N, K), non-negative; each row sums to one.

    Raises:
        ValueError, TypeError: `mixture` is neither a Mixture nor a Fit, or x is not numeric or does not have shape (N, D) with
            the mixture's D.

    Example:
        >>> import jaxgmm
        >>> mixture = jaxgmm.make_mixture([0.5, 0.5], [[0.0], [4.0]], [[[1.0]], [[1.0]]])
        >>> jaxgmm.responsibilities(mixture, [[2.0]]).tolist()
        [[0.5, 0.5]]
    """
    return _for_each_point(responsibilities_of_rows, *as_points(mixture, x), axis=-2)


@public
def predict(mixture: MixtureLike, x: ArrayLike | Observations) -> jax.Array:
    """Return the component with the largest responsibility for each point.

    Args:
        mixture: a Mixture or a Fit, or a stack of either with leading axes (...).
        x: (N, D), in the units of the means, or `observations`.

    Returns:
        (..., N) integers from 0 to K - 1.

    Raises:
        ValueError, TypeError: `mixture` is neither a Mixture nor a Fit, or x is not numeric or does not have shape (N, D) with
            the mixture's D.

    Example:
        >>> import jaxgmm
        >>> mixture = jaxgmm.make_mixture([0.9, 0.1], [[0.0], [4.0]], [[[1.0]], [[1.0]]])
        >>> jaxgmm.predict(mixture, [[2.1], [4.0]]).tolist()
        [0, 1]
    """
    return _for_each_point(_predict, *as_points(mixture, x))


def safe_log(weights: jax.Array) -> jax.Array:
    """Return log w for weights w; at w = 0, the value is -inf and the derivatives are finite."""
    return jnp.where(weights > 0, jnp.log(jnp.where(weights > 0, weights, 1)), -jnp.inf)


def log_joint(
    log_weights: jax.Array,
    means: jax.Array,
    factors: covariance.Factors,
    x: jax.Array,
    covariance_type: str,
    *,
    subtract_means_first: bool = False,
) -> tuple[jax.Array, jax.Array]:
    """Return log w_k N(x_n | mu_k, Sigma_k), (K, n), and the whitened deviations z = L_k^-1 (x_n - mu_k), (K, D, n).

    By default, z is computed as L_k^-1 x - L_k^-1 mu_k. This takes one matrix product for all components, and at D = 32 it is
    1.4 times as fast as L_k^-1 (x - mu_k). The rounding error of this formula is the machine epsilon times the distance of x
    and mu_k from the origin, in standard deviations. Therefore, callers centre the data first. With subtract_means_first, the
    error is the machine epsilon times the distance of x from mu_k.

    Args:
        log_weights: (K,), -inf for absent components.
        means: (K, D).
        factors: the factors of the covariances.
        x: (D, n), with the features as the first axis.
        covariance_type: the covariance type of the mixture.
        subtract_means_first: whether to compute z as L_k^-1 (x - mu_k).
    """
    if subtract_means_first:
        z = covariance.whiten_each(factors.whitener, x[None] - means[:, :, None], covariance_type)
    else:
        whitened_means = covariance.transform(factors.whitener, means, covariance_type)
        z = covariance.whiten(factors.whitener, x, covariance_type) - whitened_means[:, :, None]
    return log_constants(log_weights, factors, means.shape[-1])[:, None] - 0.5 * (z**2).sum(1), z


def log_constants(log_weights: jax.Array, factors: covariance.Factors, num_features: int) -> jax.Array:
    """Return log w_k N(mu_k | mu_k, Sigma_k), the log weight of each component plus its log-density at its mean, (K,)."""
    return log_weights - factors.half_log_det - num_features / 2 * math.log(2 * math.pi)


def log_joint_coefficients(
    log_weights: jax.Array, means: jax.Array, factors: covariance.Factors, covariance_type: str
) -> jax.Array:
    """Return the coefficients (K, F) with which `quadratic_log_joint` evaluates log w_k N(x | mu_k, Sigma_k)."""
    constants = log_constants(log_weights, factors, means.shape[-1])
    return quadratic_coefficients(factors.whitener, means, constants, covariance_type)


def quadratic_log_joint(coefficients: jax.Array, features: jax.Array) -> jax.Array:
    """Return log w_k N(x_n | mu_k, Sigma_k), (K, n), computed fast from the `quadratic_features` of x.

    This function needs half the arithmetic of `log_joint`. Its error is eps d^2, where eps is the machine
    epsilon and d the distance from the centre in standard deviations.

    Args:
        coefficients: (K, F), from `log_joint_coefficients`.
        features: (F, n), relative to one centre, or (K, F, n), relative to a centre for each component.
    """
    return covariance.einsum("kf,fn->kn" if features.ndim == 2 else "kf,kfn->kn", coefficients, features)


@jax.jit
def log_prob_of_rows(mixture: Mixture, x: Data, weight: Weight = None) -> jax.Array:
    """Return the log-densities (..., N) of validated points. `weight` only tells on which devices the rows lie."""
    return for_rows(_log_sum, mixture, x, weight)


@jax.jit
def responsibilities_of_rows(mixture: Mixture, x: Data, weight: Weight = None) -> jax.Array:
    """Return the responsibilities (..., N, K) for validated points. `weight` only tells on which devices the rows lie."""
    return for_rows(_responsibilities, mixture, x, weight, row_axis=-2)


@jax.jit
def _predict(mixture: Mixture, x: Data, weight: Weight = None) -> jax.Array:
    """Return the labels (..., N) of validated points. `weight` only tells on which devices the rows lie."""
    return for_rows(lambda mixture, rows: _responsibilities(mixture, rows).argmax(-1), mixture, x, weight)


def as_points(mixture: MixtureLike, x: ArrayLike | Observations) -> tuple[Mixture, Any]:
    """Return a mixture and validated points; the points are in the wider of the dtypes of the points and of the mixture."""
    mixture = as_mixture(mixture)
    if isinstance(x, Observations):
        rows, _ = as_observed_data(x, None, mixture.num_features)
        check_match(rows, mixture.num_components, mixture.covariance_type)
        dtype = jnp.result_type(rows.dtype, mixture.means.dtype)
        return mixture, rows.astype(dtype).with_own_noise() if isinstance(rows, Observations) else cast(rows, dtype)
    x = as_data(x, num_features=mixture.num_features)
    return mixture, cast(x, jnp.result_type(x.dtype, mixture.means.dtype))


def _for_each_point(
    function: Callable[[Mixture, Data, Weight], jax.Array], mixture: Mixture, x: Data, axis: int = -1
) -> jax.Array:
    """Return the result of function(mixture, x, weights). In the result, `axis` is the axis of the points.

    Points that are not traced are padded to one of a few lengths before the call, so that few programs are compiled. If the
    points lie on several devices, the weights are `ShardedRows`. Otherwise, the weights are None.
    """
    padded, weight = pad_data(x, None, mixture)
    return cut(function(mixture, padded, weight if isinstance(weight, ShardedRows) else None), len(x), axis)


def _over_stack(function: Callable[..., jax.Array], mixture: Mixture, x: Any) -> jax.Array:
    """Return the results of function(mixture, x) for all members of a stack of mixtures."""
    for _ in mixture.batch_shape:
        function = jax.vmap(function, in_axes=(0, None))
    return function(mixture, x)


def allowed_only(joint: jax.Array, allowed: jax.Array | None) -> jax.Array:
    """Return log-densities (K, n) with -inf for the components that the labels of the rows do not allow."""
    return joint if allowed is None else jnp.where(is_allowed(allowed, len(joint)), joint, -jnp.inf)


def _log_sum(mixture: Mixture, x: Data) -> jax.Array:
    """Return log p(x_n), (n,). No log w_k is computed, so that gradients are exact at a weight of 0."""
    no_log_weights, factors = jnp.zeros_like(mixture.weights), positive_factors(mixture)
    if isinstance(x, Observations):
        given = conditional(mixture.means, factors, x, mixture.covariance_type, with_gain=False)
        log_normals = allowed_only(given.log_normal, x.allowed)
    else:
        log_normals, _ = log_joint(
            no_log_weights, mixture.means, factors, x.T, mixture.covariance_type, subtract_means_first=True
        )
    joint = log_normals + safe_log(mixture.weights)[:, None]  # (K, n)
    top = jax.lax.stop_gradient(joint.max(0))
    top = jnp.where(jnp.isneginf(top), 0, top)
    ceiling = 0.98 * math.log(float(jnp.finfo(top.dtype).max))  # only a component of weight 0 can reach this ceiling
    total = (mixture.weights[:, None] * jnp.exp(jnp.minimum(log_normals - top[None], ceiling))).sum(0)
    return jnp.where(total == 0, -jnp.inf, jnp.log(jnp.where(total == 0, 1, total)) + top)


def _responsibilities(mixture: Mixture, x: Data) -> jax.Array:
    """Return the responsibilities (n, K); if all densities underflow, the nearest present component has responsibility 1."""
    log_weights, factors, covariance_type = safe_log(mixture.weights), positive_factors(mixture), mixture.covariance_type
    has_density = ~jnp.isneginf(log_constants(log_weights, factors, x.shape[-1]))[:, None]
    if isinstance(x, Observations):
        given = conditional(mixture.means, factors, x, covariance_type, with_gain=False)
        joint = allowed_only(given.log_normal + log_weights[:, None], x.allowed)
        distance = jnp.minimum((given.residual**2).sum(0), jnp.finfo(joint.dtype).max)
        has_density &= ~jnp.isneginf(allowed_only(jnp.zeros_like(joint), x.allowed))
    else:
        joint, _ = log_joint(log_weights, mixture.means, factors, x.T, covariance_type, subtract_means_first=True)  # (K, n)
        distance = _log_distances(mixture, factors, x)
    top = joint.max(0)
    underflown = jnp.isneginf(top)
    unnormalised = jnp.exp(joint - jnp.where(underflown, 0, top)[None])
    total = unnormalised.sum(0)
    nearest = jnp.where(has_density, distance, jnp.inf).argmin(0)
    only_nearest = jax.nn.one_hot(nearest, len(joint), dtype=joint.dtype, axis=0)
    return jnp.where(underflown[None], only_nearest, unnormalised / jnp.where(underflown, 1, total)[None]).T


def _log_distances(mixture: Mixture, factors: covariance.Factors, x: jax.Array) -> jax.Array:
    """Return numbers (K, n) that increase with the Mahalanobis distance, for points of any size."""
    # where squares overflow for all components, compare distances divided by the size of the point
    # (the size is bounded, because the reciprocals of the largest numbers are rounded to zero)
    size = jnp.clip(abs(x).max(-1), 1, math.sqrt(float(jnp.finfo(x.dtype).max)))
    deviations = (x.T / size[None])[None] - mixture.means[:, :, None] / size[None, None]
    scaled = abs(covariance.whiten_each(factors.whitener, deviations, mixture.covariance_type))  # (K, D, n)
    longest = scaled.max(1, keepdims=True)
    return jnp.log(longest[:, 0]) + 0.5 * jnp.log(((scaled / longest) ** 2).sum(1))


def for_rows(
    function: Callable[[Mixture, Any], jax.Array], mixture: Mixture, x: Any, weight: Weight, row_axis: int = -1
) -> jax.Array:
    """Return the results of function(mixture, x) for all members of a stack of mixtures.

    The rows are an array (N, D), or a pytree of arrays (N, ...). The results are computed for one chunk of rows at a time, and
    joined along `row_axis`. If the weights tell that the rows lie on several devices, each device computes the results of its
    own rows.
    """

    def of_rows(x: Any, mixture: Mixture) -> jax.Array:
        return _in_chunks(partial(_over_stack, function, mixture), mixture, x, row_axis)

    if isinstance(weight, ShardedRows):
        return map_over_shards(of_rows, weight, x, row_axis, (mixture,))
    return of_rows(x, mixture)


def _in_chunks(function: Callable[[Any], jax.Array], mixture: Mixture, x: Any, row_axis: int) -> jax.Array:
    """Return function(x), computed for one chunk of rows at a time; the results are joined along `row_axis`."""
    per_row = max(1, math.prod(mixture.batch_shape)) * mixture.num_components * mixture.num_features
    if not isinstance(x, jax.Array):  # incomplete rows have a matrix for each row and component
        per_row *= mixture.num_features
    n, chunk = len(jax.tree.leaves(x)[0]), density_rows_per_chunk(per_row)
    if n <= chunk:
        return function(x)
    whole = n // chunk * chunk
    stacked = jax.tree.map(lambda leaf: leaf[:whole].reshape(-1, chunk, *leaf.shape[1:]), x)
    chunks = jax.lax.map(function, stacked)  # axes (chunks, ..., rows, ...)
    axis = chunks.ndim + row_axis
    joined = jnp.moveaxis(chunks, 0, axis - 1)
    joined = joined.reshape(*joined.shape[: axis - 1], whole, *joined.shape[axis + 1 :])
    if whole == n:
        return joined
    return jnp.concatenate([joined, function(jax.tree.map(lambda leaf: leaf[whole:], x))], row_axis)
