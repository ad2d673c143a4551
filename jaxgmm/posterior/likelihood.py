"""The likelihood that samplers take, labels summed out: NumPyro's MixtureSameFamily, equal in value and gradient, and leaner."""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from .. import covariance
from ..em.kernels import sum_over_chunks
from ..mixture import Mixture
from .coordinates import Problem

_FEATURES = 1 << 22  # numbers that features of the data may take, made once
CHUNK = 8192  # rows in one piece where they take more: gradients are recomputed piece by piece


def log_likelihoods(
    weights: jax.Array, means: jax.Array, factors: covariance.Factors, y: jax.Array, covariance_type: str
) -> jax.Array:
    """log p(y_n) by whitened matrix products, (N,): NumPyro's MixtureSameFamily, equal in value and gradient, and leaner.

    weights (K,), means (K, D), y (N, D).
    """
    home = covariance.transform(factors.whitener, means, covariance_type)
    z = covariance.whiten(factors.whitener, y.T, covariance_type) - home[:, :, None]  # (K, D, N)
    return jax.nn.logsumexp(_constant(weights, factors, y.shape[1])[:, None] - 0.5 * (z**2).sum(1), axis=0)


def _constant(weights: jax.Array, factors: covariance.Factors, num_features: int) -> jax.Array:
    """log w_k N(mu_k | mu_k, Sigma_k), (K,)."""
    return jnp.log(weights) - factors.half_log_det - num_features / 2 * math.log(2 * math.pi)


def log_likelihood(
    weights: jax.Array,
    means: jax.Array,
    factors: covariance.Factors,
    problem: Problem,
    reference: jax.Array | None,
    covariance_type: str,
) -> jax.Array:
    """sum_n w_n (log p(y_n) - reference_n), (): the reference keeps sums near zero, where float32 is fine."""

    def piece(rows: tuple, w: jax.Array) -> jax.Array:
        y, origin = rows
        difference = log_likelihoods(weights, means, factors, y, covariance_type) - origin
        return jnp.where(w > 0, w * difference, 0).sum()

    origin = jnp.zeros(len(problem.y), problem.y.dtype) if reference is None else reference
    function = piece if len(problem.y) <= CHUNK else jax.checkpoint(piece)
    return sum_over_chunks(function, (problem.y, origin), problem.weight, CHUNK)


def make_log_likelihood(problem: Problem, start: Mixture) -> Callable:
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
    if k * (d + 1) * (d + 2) // 2 * len(y) > _FEATURES:
        return lambda weights, means, factors: log_likelihood(weights, means, factors, problem, reference, kind)
    features = jax.vmap(lambda center: covariance.quadratic_features((y - center).T, kind))(home)  # (K, F, N)

    def of(weights: jax.Array, means: jax.Array, factors: covariance.Factors) -> jax.Array:
        coefficients = covariance.quadratic_coefficients(factors.whitener, means - home, _constant(weights, factors, d), kind)
        joint = covariance.einsum("kf,kfn->kn", coefficients, features)
        difference = jax.nn.logsumexp(joint, axis=0) - reference
        return difference.sum() if weight is None else weight @ difference

    return of


def reference_total(problem: Problem, start: Mixture) -> jax.Array:
    """The data's weighted log-likelihood at the start, (): what potentials leave out."""
    factors = covariance.factorize(start.covariances, start.covariance_type, start.num_features)
    return log_likelihood(start.weights, start.means, factors, problem, None, start.covariance_type)
