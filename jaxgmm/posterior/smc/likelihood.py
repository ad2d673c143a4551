"""The log-likelihood of many particles at once, with a gradient that needs no second pass over the rows.

The gradient of sum_n w_n log p(y_n) is sum_n w_n sum_k r_nk d log(w_k N(y_n | k)), where r_nk are the responsibilities at the
current parameters (Fisher's identity). Because log(w_k N(y | k)) is linear in the quadratic features of y, the pass over the
rows needs to return only the sums of these features, weighted by responsibilities. The features are computed from
deviations from the current means, so that no digits are lost to cancellation.
"""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp

from ... import covariance
from ...chunking import particle_rows_per_chunk
from ...covariance.quadratic import quadratic_features
from ...density import log_joint_coefficients
from ...incomplete.conditional import conditional
from ...incomplete.observations import Data, Observations
from ...row_sums import FirstRows, Weight, sum_over_rows, vary_with, weight_array, weight_or_ones
from ..conditionals import GibbsState
from ..likelihood import log_likelihoods
from .labels import are_written_out, pairs_of_features, whitened_deviations
from .moves import joint_of_particles

_AT_ONCE = 64  # number of particles whose likelihoods of incomplete rows are computed at the same time


def log_likelihood_of_particles(states: GibbsState, y: Data, weight: Weight, covariance_type: str) -> jax.Array:
    """Return sum_n w_n (log p(y_n | theta_m) - log N(y_n | 0, I)) for each particle m, (M,).

    For standardised rows, the difference is near zero, where float32 is accurate. The function can be differentiated once with
    respect to the particles. `log_likelihood_under_normal` returns the number that was subtracted.
    """
    if isinstance(y, Observations):
        return _of_observations(states, y, weight, covariance_type)
    fixed = jax.lax.stop_gradient(states)
    value, sums = _value_and_sums(fixed, y, weight, covariance_type)

    def coefficients(state: GibbsState, center: jax.Array) -> jax.Array:
        log_weights = jnp.where(jnp.isfinite(state.log_weights), state.log_weights, 0)  # for an absent component, `sums` are 0
        return log_joint_coefficients(log_weights, state.means - center, state.factors, covariance_type)

    # The value of `linear` has no meaning, but its gradient is that of the log-likelihood.
    linear = (jax.vmap(coefficients)(states, fixed.means) * sums).sum((1, 2))
    return value + linear - jax.lax.stop_gradient(linear)


def log_likelihood_under_normal(y: Data, weight: Weight) -> jax.Array:
    """Return the log-likelihood of the rows y (N, D), or of observations, under the normal distribution N(0, I), ()."""
    log_normal = _log_normal_of_observed(y) if isinstance(y, Observations) else _log_normal(y)
    return (weight_or_ones(weight, y.shape[:1], y.dtype) * log_normal).sum()


def _of_observations(states: GibbsState, y: Observations, weight: Weight, covariance_type: str) -> jax.Array:
    """Return the result of `log_likelihood_of_particles` for observations. The gradient takes a second pass over the rows."""
    m, k, d = states.means.shape

    def of_chunk(rows: tuple[Observations, jax.Array], w: jax.Array, state: GibbsState) -> jax.Array:
        part, origin = rows
        difference = log_likelihoods(state.log_weights, state.means, state.factors, part, covariance_type) - origin
        return jnp.where(w > 0, w * difference, 0).sum()

    chunk, origin = particle_rows_per_chunk(k * d * (d + 2), d, _AT_ONCE), _log_normal_of_observed(y)

    def of_one(state: GibbsState) -> jax.Array:
        return sum_over_rows(of_chunk, (y, origin), weight, chunk, (state,))

    # with `jax.checkpoint`, the gradient does not need the matrices of all rows and particles at the same time
    return jax.lax.map(jax.checkpoint(of_one), states, batch_size=min(_AT_ONCE, m))


def _log_normal_of_observed(y: Observations) -> jax.Array:
    """Return the log density (N,) of the observed values under N(0, I) and the noise; limits and labels are left out."""
    d, dtype = y.shape[1], y.dtype
    rows = dataclasses.replace(y, lower=None, upper=None, allowed=None)
    factors = covariance.factorize(jnp.eye(d, dtype=dtype)[None], "full", d)
    return conditional(jnp.zeros((1, d), dtype), factors, rows, "full", with_gain=False).log_normal[0]


def _log_normal(y: jax.Array) -> jax.Array:
    """Return log N(y | 0, I) for points y (..., D)."""
    return -0.5 * (y**2).sum(-1) - 0.5 * y.shape[-1] * math.log(2 * math.pi)


def _value_and_sums(states: GibbsState, y: jax.Array, weight: Weight, covariance_type: str) -> tuple[jax.Array, jax.Array]:
    """Return two arrays with one entry for each of M particles.

    The first array (M,) holds the log-likelihood of the rows minus their log-likelihood under N(0, I). The second array
    (M, K, F) holds sums over the rows. Each row contributes the quadratic features of its deviation from the mean of component
    k, multiplied by its weight and by its responsibility for this component.
    """
    m, k, d = states.means.shape
    if are_written_out(d):
        return _written_out(states, y, weight, covariance_type)

    def of_chunk(rows: jax.Array, w: jax.Array, states: GibbsState) -> tuple[jax.Array, jax.Array]:
        joint = joint_of_particles(states, rows.T, covariance_type)
        value = jax.nn.logsumexp(joint, 1)
        shares = jnp.where(w > 0, w * jnp.exp(joint - value[:, None]), 0)
        each = jax.vmap(jax.vmap(lambda mean: quadratic_features((rows - mean).T, covariance_type)))
        sums = jnp.einsum("mkn,mkfn->mkf", shares, each(states.means), precision=jax.lax.Precision.HIGHEST)
        return jnp.where(w > 0, w * (value - _log_normal(rows)), 0).sum(1), sums

    return sum_over_rows(of_chunk, y, weight, particle_rows_per_chunk(k * (d + 2) // 2, d, m), (states,))


def _written_out(states: GibbsState, y: jax.Array, weight: Weight, covariance_type: str) -> tuple[jax.Array, jax.Array]:
    """Compute the result of `_value_and_sums` row by row, with arrays whose last axis is the particles."""
    m, k, d = states.means.shape
    means, whitener = jnp.moveaxis(states.means, 0, -1), jnp.moveaxis(states.factors.whitener, 0, -1)
    constant = (states.log_weights - states.factors.half_log_det).T - 0.5 * d * math.log(2 * math.pi)
    weights = weight_array(weight)
    weights = jnp.ones(len(y), y.dtype) if weights is None else weights
    pairs = pairs_of_features(d, covariance_type)

    def add_row(i: jax.Array, carry: tuple) -> tuple:
        value, sums = carry
        deviation = [y[i, j] - means[:, j] for j in range(d)]  # (K, M) each
        joint = constant - 0.5 * sum(z**2 for z in whitened_deviations(whitener, deviation, covariance_type))
        top = joint.max(0)
        terms = jnp.exp(joint - top)
        total = terms.sum(0)
        # without the barrier, XLA would compute the share again for each sum
        share = jax.lax.optimization_barrier(weights[i] * terms / total)
        first = [share * one for one in deviation]
        sums = tuple(map(jnp.add, sums, (*(first[a] * deviation[b] for a, b in pairs), *first, share)))
        return value + weights[i] * (jnp.log(total) + top - _log_normal(y[i])), sums

    zero = (jnp.zeros(m, y.dtype), tuple(jnp.zeros((k, m), y.dtype) for _ in range(len(pairs) + d + 1)))
    zero = vary_with(zero, y, states, weights)
    end = weight.num_rows if isinstance(weight, FirstRows) else len(y)
    value, sums = jax.lax.fori_loop(0, end, add_row, zero)
    return value, jnp.moveaxis(jnp.stack(sums, -1), 1, 0)
