"""The likelihood that samplers take, labels summed out: NumPyro's MixtureSameFamily, equal in value and gradient, and leaner."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from .. import covariance
from ..chunking import GRADIENT_CHUNK, can_store_features
from ..density import log_joint, quadratic_coefficients, quadratic_log_joint
from ..mixture import Mixture
from ..row_sums import sum_over_rows
from .standardization import StandardizedProblem


def log_likelihoods(
    weights: jax.Array, means: jax.Array, factors: covariance.Factors, y: jax.Array, covariance_type: str
) -> jax.Array:
    """log p(y_n) by whitened matrix products, (N,): NumPyro's MixtureSameFamily, equal in value and gradient, and leaner.

    weights (K,), means (K, D), y (N, D).
    """
    joint, _ = log_joint(jnp.log(weights), means, factors, y.T, covariance_type)
    return jax.nn.logsumexp(joint, axis=0)


def log_likelihood(
    weights: jax.Array,
    means: jax.Array,
    factors: covariance.Factors,
    problem: StandardizedProblem,
    reference: jax.Array | None,
    covariance_type: str,
) -> jax.Array:
    """sum_n w_n (log p(y_n) - reference_n), (): the reference keeps sums near zero, where float32 is fine."""

    def piece(rows: tuple, w: jax.Array) -> jax.Array:
        y, origin = rows
        difference = log_likelihoods(weights, means, factors, y, covariance_type) - origin
        return jnp.where(w > 0, w * difference, 0).sum()

    origin = jnp.zeros(len(problem.y), problem.y.dtype) if reference is None else reference
    function = piece if len(problem.y) <= GRADIENT_CHUNK else jax.checkpoint(piece)
    return sum_over_rows(function, (problem.y, origin), problem.weight, GRADIENT_CHUNK)


def make_log_likelihood(problem: StandardizedProblem, start: Mixture) -> Callable:
    """(weights, means, factors) -> sum_n w_n (log p(y_n) - log p(y_n | start)), ().

    The data enter by features about the start's means, made once: a potential and its gradient are then two matrix products.
    A centre for each component keeps that good in float32 wherever a row could belong to it. Where the features would take too
    much memory, by whitened products.
    """
    kind, (k, d) = start.covariance_type, start.means.shape
    y, weight, home = problem.y, problem.weight, start.means
    reference = jax.lax.stop_gradient(
        log_likelihoods(start.weights, home, covariance.factorize(start.covariances, kind, d), y, kind)
    )
    if not can_store_features(k * (d + 1) * (d + 2) // 2 * len(y)):
        return lambda weights, means, factors: log_likelihood(weights, means, factors, problem, reference, kind)
    features = jax.vmap(lambda center: covariance.quadratic_features((y - center).T, kind))(home)  # (K, F, N)

    def of(weights: jax.Array, means: jax.Array, factors: covariance.Factors) -> jax.Array:
        coefficients = quadratic_coefficients(jnp.log(weights), means - home, factors, kind)
        difference = jax.nn.logsumexp(quadratic_log_joint(coefficients, features), axis=0) - reference
        return difference.sum() if weight is None else weight @ difference

    return of


def reference_total(problem: StandardizedProblem, start: Mixture) -> jax.Array:
    """The data's weighted log-likelihood at the start, (): what potentials leave out."""
    factors = covariance.factorize(start.covariances, start.covariance_type, start.num_features)
    return log_likelihood(start.weights, start.means, factors, problem, None, start.covariance_type)
