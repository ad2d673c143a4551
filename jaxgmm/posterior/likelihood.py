"""The likelihood of a mixture, with the labels summed out, for the gradient-based samplers.

The value and the gradient equal those of NumPyro's MixtureSameFamily. The computation needs fewer matrix products, which are
larger and therefore faster.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from .. import covariance
from ..chunking import GRADIENT_CHUNK, can_store_features
from ..covariance.quadratic import quadratic_features
from ..density import allowed_only, log_joint, log_joint_coefficients, quadratic_log_joint, safe_log
from ..incomplete.conditional import conditional
from ..incomplete.observations import Data, Observations
from ..mixture import Mixture
from ..row_sums import sum_over_rows, weight_or_ones
from .standardization import StandardizedProblem

# The type of a function that returns a log-likelihood () from log weights (K,), means (K, D) and factors of covariances.
LogLikelihood = Callable[[jax.Array, jax.Array, covariance.Factors], jax.Array]


def make_log_likelihood(problem: StandardizedProblem, start: Mixture) -> LogLikelihood:
    """Return a function (log weights, means, factors) -> sum_n w_n (log p(y_n) - log p(y_n | start)), ().

    Quadratic features of the data are computed once, with the start's means as centres. A value with its gradient then takes
    two matrix products. Because each component has its own centre, its features are accurate in float32 at every row that could
    belong to the component. If the features would take too much memory, the data are whitened at each evaluation instead.
    """
    covariance_type, (k, d) = start.covariance_type, start.means.shape
    y, centers = problem.y, start.means
    weight = None if problem.weight is None else weight_or_ones(problem.weight, y.shape[:1], y.dtype)
    factors = covariance.factorize(start.covariances, covariance_type, d)
    reference = jax.lax.stop_gradient(log_likelihoods(safe_log(start.weights), centers, factors, y, covariance_type))
    if isinstance(y, Observations) or not can_store_features(k * (d + 1) * (d + 2) // 2 * len(y)):
        return lambda logs, means, factors: log_likelihood(logs, means, factors, problem, reference, covariance_type)
    features = jax.vmap(lambda center: quadratic_features((y - center).T, covariance_type))(centers)  # (K, F, N)

    def from_features(log_weights: jax.Array, means: jax.Array, factors: covariance.Factors) -> jax.Array:
        coefficients = log_joint_coefficients(log_weights, means - centers, factors, covariance_type)
        difference = jax.nn.logsumexp(quadratic_log_joint(coefficients, features), axis=0) - reference
        return difference.sum() if weight is None else weight @ difference

    return from_features


def reference_total(problem: StandardizedProblem, start: Mixture) -> jax.Array:
    """Return the weighted log-likelihood of the data at the start, (). Potentials are computed without this constant."""
    factors = covariance.factorize(start.covariances, start.covariance_type, start.num_features)
    return log_likelihood(safe_log(start.weights), start.means, factors, problem, None, start.covariance_type)


def log_likelihood(
    log_weights: jax.Array,
    means: jax.Array,
    factors: covariance.Factors,
    problem: StandardizedProblem,
    reference: jax.Array | None,
    covariance_type: str,
) -> jax.Array:
    """Return sum_n w_n (log p(y_n) - reference_n), ().

    The reference (N,) is subtracted to keep the sum near zero, where float32 is accurate.
    """

    def chunk_total(
        rows: tuple[Data, jax.Array],
        w: jax.Array,
        log_weights: jax.Array,
        means: jax.Array,
        factors: covariance.Factors,
    ) -> jax.Array:
        y, origin = rows
        difference = log_likelihoods(log_weights, means, factors, y, covariance_type) - origin
        return jnp.where(w > 0, w * difference, 0).sum()

    origin = jnp.zeros(len(problem.y), problem.y.dtype) if reference is None else reference
    function = chunk_total if len(problem.y) <= GRADIENT_CHUNK else jax.checkpoint(chunk_total)
    shared = (log_weights, means, factors)
    return sum_over_rows(function, (problem.y, origin), problem.weight, GRADIENT_CHUNK, shared)


def log_likelihoods(
    log_weights: jax.Array, means: jax.Array, factors: covariance.Factors, y: Data, covariance_type: str
) -> jax.Array:
    """Return log p(y_n), (N,), for log weights (K,), means (K, D) and rows y (N, D) or observations."""
    if isinstance(y, Observations):
        given = conditional(means, factors, y, covariance_type, with_gain=False)
        joint = allowed_only(given.log_normal + log_weights[:, None], y.allowed)
    else:
        joint, _ = log_joint(log_weights, means, factors, y.T, covariance_type)
    return jax.nn.logsumexp(joint, axis=0)
