"""Estimate rounding errors, and raise variances so that covariances stay positive definite in their own float type.

The rounding error of a second moment is a few eps times its size. A scatter about the mean is a difference of two such moments.
If the data hardly vary in some direction, the computed scatter may therefore be zero or negative in this direction. Such values
are raised to the size of their rounding error; larger values are not changed.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from . import covariance, linalg
from .covariance.types import is_coupled
from .mixture import Mixture
from .row_sums import nonzero

_LONGEST_SUM = 4096  # largest number of rows over which rounding errors add up; sums over chunks are compensated
# a covariance counts as far from singular if its squared relative change in one step is less than this number
_LARGEST_MOVE = 0.8


def ridge_fraction(num_features: int, dtype: DTypeLike) -> float:
    """Return the fraction by which the diagonal of a singular matrix must grow so that a Cholesky factor can be computed."""
    return 4 * num_features * float(jnp.finfo(dtype).eps)


def smallest_variance(squared_size: jax.Array) -> jax.Array:
    """Return the largest variance that rounding can hide in values, given their mean square; the result is never 0."""
    info = jnp.finfo(squared_size.dtype)
    return jnp.maximum((4 * info.eps) ** 2 * squared_size, 64 * info.tiny)


def scatter_about_mean(
    count: jax.Array,
    first: jax.Array,
    second: jax.Array,
    covariance_type: str,
    precision: jax.Array | None = None,
    *,
    check_pivots: bool = False,
) -> jax.Array:
    """Return the scatter about the mean, second - first first' / count, raised to at least the rounding error of `second`.

    Diagonal scatters are raised entry by entry. A ridge is added to a dense scatter, unless the new covariance is so close to
    the present covariance that it cannot be nearly singular. Near convergence of EM, no ridge is added.

    Args:
        count: (K,), the total weight of each component.
        first: (K, D), the first moments.
        second: (K, D, D) or (K, D), the second moments.
        covariance_type: the covariance type of the mixture.
        precision: the present precision matrices (K or 1, D, D) in the coordinates of the moments; None stands for identity
            matrices, as in whitened coordinates.
        check_pivots: whether to compute the Cholesky factor of each scatter, and to add no ridge if rounding can hide none of
            its pivots.
    """
    scatter = second - covariance.outer(first / jnp.sqrt(nonzero(count))[:, None], covariance_type)
    error = 8 * jnp.finfo(count.dtype).eps * jnp.sqrt(jnp.clip(count, 1, _LONGEST_SUM))[:, None]  # relative error of `second`
    if not covariance.is_dense(covariance_type):
        return jnp.maximum(scatter, error * second)
    d = first.shape[-1]
    implied = covariance.pool(scatter, covariance_type) / nonzero(covariance.pool_counts(count, covariance_type))
    if precision is not None:
        implied = linalg.multiply(precision, implied)
    move = implied - linalg.identity(implied)
    is_near = (move * jnp.swapaxes(move, -1, -2)).sum((-2, -1)) < _LARGEST_MOVE  # (K or 1,)
    hidden = d * error * linalg.diagonal(second)

    is_sound = is_near
    if check_pivots or is_coupled(covariance_type):  # the covariances of coupled types are not near their own scatters
        is_sound |= (linalg.diagonal(linalg.cholesky(scatter)) ** 2 > 2 * hidden).all(-1)
    amount = hidden - jnp.minimum(linalg.diagonal(scatter), 0)
    return covariance.ridge(scatter, jnp.where(is_sound[:, None], 0, amount), covariance_type)


def position_errors(mixture: Mixture, factors: covariance.Factors) -> jax.Array:
    """Return the rounding error (K,) of positions near each mean, in the component's standard deviations.

    Positions are relative to the origin of the means. Each coordinate and each product in the whitening is rounded. The
    products may cancel when they are summed, but their rounding errors remain. If the error is one, the component is narrower
    than the spacing of floating-point numbers.
    """
    size = covariance.transform(abs(factors.whitener), abs(mixture.means), mixture.covariance_type)
    return jnp.finfo(size.dtype).eps * jnp.sqrt((size**2).sum(-1))


def objective_error(
    mixture: Mixture, factors: covariance.Factors, count: jax.Array, objective: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Estimate how far rounding alone can move the objective, and how far it can move the estimated gain of an EM step.

    The error of the objective has three parts:

    1. The sums over rows are rounded, and their terms can cancel.
    2. In a flat component, the conditional variances inherit the rounding error of the features' variances. Relative to the
       conditional variances, this error is eps flatness^2. The flatness is the largest ratio of a standard deviation to the
       conditional standard deviation of the same feature. The error affects the objective only to second order, because
       first-order terms vanish at the maximum of the M-step. This part is also the error of the gain.
    3. Positions are rounded. The effect is large if a component lies many of its standard deviations from the centre. The
       independent errors of the rows also add a term of first order.

    Args:
        mixture: the mixture, in the coordinates in which the objective is computed.
        factors: the factors of the mixture's covariances.
        count: (K,), the weight of each component.
        objective: (), the objective at the mixture, nats.
    """
    covariance_type, eps, total = mixture.covariance_type, jnp.finfo(objective.dtype).eps, count.sum()
    flatness = jnp.ones((), objective.dtype)
    if covariance.is_dense(covariance_type):
        variances = covariance.variances(mixture.covariances, covariance_type, mixture.num_features)
        flatness = (jnp.sqrt(variances) / covariance.lower_diagonal(factors, covariance_type)).max()
    of_gain = total * jnp.minimum(4 * eps * flatness**2, 1) ** 2
    of_positions = count @ jnp.minimum(position_errors(mixture, factors), 1) ** 2
    terms = abs(objective) + total * mixture.num_features  # the log-density of a row is a sum of squares and logarithms
    return eps * flatness * terms + of_gain + of_positions + jnp.sqrt(of_positions), of_gain


def difference(matrices: jax.Array, explained: jax.Array, squared_size: jax.Array) -> jax.Array:
    """Return `matrices` - `explained`, with a ridge if the difference is so small that rounding can hide it.

    Args:
        matrices: (..., D, D), positive definite.
        explained: (..., D, D), the part of the matrices to subtract.
        squared_size: (..., D), variances whose size determines how large the rounding error of the difference is.
    """
    left = covariance.symmetric(matrices - explained)
    hidden = ridge_fraction(left.shape[-1], left.dtype) * squared_size
    pivots = linalg.diagonal(linalg.cholesky(left)) ** 2
    needs_ridge = ~(pivots > hidden).all(-1, keepdims=True)
    amount = jnp.where(needs_ridge, 2 * hidden - jnp.minimum(linalg.diagonal(left), 0), 0)
    return left + linalg.identity(left) * amount[..., None]


def is_singular(covariances: jax.Array, squared_size: jax.Array, covariance_type: str) -> jax.Array:
    """Return, for each covariance (K or 1,), whether it is singular up to rounding.

    Args:
        covariances: the covariances of one mixture.
        squared_size: (D,), the squared size of the values of each feature.
        covariance_type: the covariance type of the mixture.
    """
    d = len(squared_size)
    variances = covariance.variances(covariances, covariance_type, d)
    is_sound = (variances > smallest_variance(squared_size)[None]).all(-1)
    if covariance.is_dense(covariance_type):
        conditional = linalg.diagonal(linalg.cholesky(covariances)) ** 2
        is_sound &= (conditional > 2 * ridge_fraction(d, covariances.dtype) * variances).all(-1)
    return ~is_sound


def positive_factors(mixture: Mixture) -> covariance.Factors:
    """Return the factors of the covariances of a mixture, even if some covariances are not positive definite.

    The variances of a singular covariance are raised to the rounding error of the mixture's values. If a matrix has an
    eigenvalue that is more negative than rounding can explain, the density of its component becomes 0 everywhere. Values that
    are not finite give NaN.
    """
    covariance_type, d = mixture.covariance_type, mixture.num_features
    axes = (-2, -1) if covariance.is_dense(covariance_type) else (-1,)
    given = mixture.covariances
    is_positive = covariance.is_positive_definite(jax.lax.stop_gradient(given), covariance_type)  # (..., K or 1)
    repairable = ~is_positive & jnp.isfinite(given).all(axes)
    # choose before the factorisation, so that no derivative involves a matrix without a Cholesky factor
    chosen = jnp.where(jnp.expand_dims(repairable, axes), _raised_to_rounding(mixture), given)
    factors = covariance.factorize(chosen, covariance_type, d)
    has_no_density = repairable & ~jnp.isfinite(factors.half_log_det)
    lower, whitener = (jnp.where(jnp.expand_dims(has_no_density, axes), 0, leaf) for leaf in factors[:2])
    return covariance.Factors(lower, whitener, jnp.where(has_no_density, jnp.inf, factors.half_log_det))


def _raised_to_rounding(mixture: Mixture) -> jax.Array:
    """Return the covariances after their variances have been raised to the rounding error of the mixture's values."""
    covariance_type, d = mixture.covariance_type, mixture.num_features
    variances = covariance.variances(mixture.covariances, covariance_type, d)
    size = (mixture.means**2).max(-2) + jnp.maximum(variances, 0).max(-2)  # (..., D)
    largest = size.max(-1, keepdims=True)
    floor = smallest_variance(jnp.where(size > 0, size, jnp.where(largest > 0, largest, 1)))
    if not covariance.is_dense(covariance_type):
        floor = floor if mixture.covariances.shape[-1] == d else floor.max(-1, keepdims=True)
        floor = jnp.expand_dims(floor, -2)
        return jnp.where(abs(mixture.covariances) < floor, floor, mixture.covariances)
    ridged = covariance.relative_ridge(mixture.covariances, ridge_fraction(d, size.dtype), covariance_type)
    return covariance.ridge(ridged, jnp.expand_dims(floor, -2), covariance_type)
