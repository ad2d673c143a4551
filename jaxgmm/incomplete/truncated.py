"""The law of a standard normal variable that is known to lie between two limits.

    Z = Phi(b) - Phi(a),    mean = (phi(a) - phi(b)) / Z,    variance = 1 + (a phi(a) - b phi(b)) / Z - mean^2

All probabilities are computed as logarithms, and the variable is mirrored so that at least one limit lies below 0. The result
is then also accurate if both limits lie far in one tail.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import log_ndtr

_TAIL = -5.0  # below this value, log Phi is computed by a continued fraction
_STEPS = 8  # number of steps of Newton's method for the inverse of log Phi; six give full accuracy in float64
_TERMS = 40  # number of terms of the continued fraction; they give full accuracy in float64


class Truncated(NamedTuple):
    """The logarithm of Z, and the mean and the variance given the limits."""

    log_probability: jax.Array
    mean: jax.Array
    variance: jax.Array


def truncated_normal(low: jax.Array, high: jax.Array) -> Truncated:
    """Return the law of a standard normal variable between limits low < high, which may be infinite."""
    is_upper = high > -low
    a, b = jnp.where(is_upper, -high, low), jnp.where(is_upper, -low, high)
    has_a, has_b = jnp.isfinite(a), jnp.isfinite(b)
    a, b = jnp.where(has_a, a, -1), jnp.where(has_b, b, 1)  # no derivative involves an infinite limit
    log_b = jnp.where(has_b, _log_cdf(b), 0)
    share = jnp.where(has_a, _log_cdf(a) - log_b, -1)  # log(Phi(a) / Phi(b))
    log_z = log_b + jnp.where(has_a, jnp.log(-jnp.expm1(jnp.minimum(share, -jnp.finfo(share.dtype).tiny))), 0)
    at_a = jnp.where(has_a, jnp.exp(_log_density(a) - log_z), 0)
    at_b = jnp.where(has_b, jnp.exp(_log_density(b) - log_z), 0)
    mean = at_a - at_b
    variance = jnp.clip(1 + a * at_a - b * at_b - mean**2, 0, 1)
    return Truncated(log_z, jnp.where(is_upper, -mean, mean), variance)


def confine(normal: jax.Array, low: jax.Array, high: jax.Array) -> jax.Array:
    """Return draws of a standard normal variable between limits low < high, given draws without limits.

    The draw z becomes the value t with (Phi(t) - Phi(low)) / (Phi(high) - Phi(low)) = Phi(z), which increases with z. Without
    limits, z itself is returned.
    """
    to_high, to_low = _log_cdf(normal), _log_cdf(-normal)  # the logarithms of Phi(z) and of 1 - Phi(z)
    below = jnp.logaddexp(_log_cdf(low) + to_low, _log_cdf(high) + to_high)  # log Phi(t)
    above = jnp.logaddexp(_log_cdf(-low) + to_low, _log_cdf(-high) + to_high)  # log(1 - Phi(t))
    t = _inverse_log_cdf(jnp.minimum(below, above))
    drawn = jnp.clip(jnp.where(below < above, t, -t), low, high)
    return jnp.where(jnp.isfinite(low) | jnp.isfinite(high), drawn, normal)


def _inverse_log_cdf(target: jax.Array) -> jax.Array:
    """Return t <= 0 with log Phi(t) = target, for targets up to log(1 / 2), by Newton's method.

    The function log Phi increases and is concave. The steps therefore never pass the solution if they start below it.
    """

    def step(_: int, t: jax.Array) -> jax.Array:
        value = _log_cdf(t)
        return jnp.minimum(t - (value - target) * jnp.exp(value - _log_density(t)), 0)

    return jax.lax.fori_loop(0, _STEPS, step, -jnp.sqrt(-2 * jnp.minimum(target, math.log(0.5))))


def _log_cdf(values: jax.Array) -> jax.Array:
    """Return log Phi. In the tail, Phi(-t) = phi(t) / (t + 1 / (t + 2 / (t + 3 / ...))); Laplace (1805).

    For values below -20, JAX's function is only accurate to 4e-9, which the variance multiplies by the fourth power of t.
    """
    is_far = values < _TAIL
    t = jnp.where(is_far, -values, -_TAIL)
    below = t
    for k in range(_TERMS, 0, -1):
        below = t + k / below
    return jnp.where(is_far, _log_density(t) - jnp.log(below), log_ndtr(jnp.where(is_far, 0, values)))


def _log_density(values: jax.Array) -> jax.Array:
    """Return the log-density of the standard normal distribution."""
    return -0.5 * values**2 - 0.5 * math.log(2 * math.pi)
