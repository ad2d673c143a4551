"""Compute how limits of censored values change the law of a row, with the notation of the module `conditional`.

With diagonal matrices, the values of a row are independent, and any number of them may be censored. Otherwise, at most one
value of a row may be censored. Given the observed values, this value is normal with variance v, and q is the covariance of u
with it. The limits then change the mean of u along q, and its covariance by a multiple of q q'.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

from .. import covariance
from .observations import Observations
from .truncated import confine, truncated_normal

# G (D, D, K or 1, n) with its rows first, or its diagonal (D, K, n); and f (D, K, n)
Solved: TypeAlias = "tuple[jax.Array, jax.Array]"


class LimitEffects(NamedTuple):
    """The changes of E[u] and Cov[u] in rows with a value between limits: Cov[u] = I - G'G + change q q'.

    Attributes:
        shift: (K, D, n), the change of E[u].
        direction: (K, D, n), q; with diagonal matrices, every feature is a direction of its own, and q is 1.
        change: (K, 1 or D, n).
    """

    shift: jax.Array
    direction: jax.Array
    change: jax.Array


def limit_effects(
    solved: Solved, means: jax.Array, factors: covariance.Factors, rows: Observations, covariance_type: str
) -> tuple[jax.Array, LimitEffects]:
    """Return the log probabilities (K, n) that the censored values lie between their limits, and the effects on u.

    Args:
        solved: G and f of the rows.
        means: (K, D).
        factors: the factors of the covariances.
        rows: n rows with limits, without weights.
        covariance_type: the covariance type of the mixture.
    """
    if solved[0].ndim == 3:
        law = truncated_normal(*_diagonal_limits(means, factors, rows))  # (D, K, n)
        shift, change = (jnp.moveaxis(leaf, 0, 1) for leaf in (law.mean, law.variance - 1))
        return law.log_probability.sum(0), LimitEffects(shift, jnp.ones_like(shift), change)
    value = _censored_value(solved, means, factors, rows, covariance_type)
    law = truncated_normal(value.low, value.high)
    change = (law.variance - 1) / value.sd**2
    return law.log_probability, LimitEffects(value.q * (law.mean / value.sd)[:, None], value.q, change[:, None])


def confined(
    solved: Solved, u: jax.Array, means: jax.Array, factors: covariance.Factors, rows: Observations, covariance_type: str
) -> jax.Array:
    """Return draws of u (K, D, n) given the observed values and the limits, from draws given only the observed values.

    The censored value that a draw of u implies is moved into its interval. The draw of u changes along q, the covariance of u
    with the censored value.
    """
    if solved[0].ndim == 3:
        low, high = _diagonal_limits(means, factors, rows)
        return confine(u, jnp.moveaxis(low, 0, 1), jnp.moveaxis(high, 0, 1))
    value = _censored_value(solved, means, factors, rows, covariance_type)
    drawn = ((value.row * u).sum(1) - value.mean) / value.sd
    return u + value.q * ((confine(drawn, value.low, value.high) - drawn) / value.sd)[:, None]


class _CensoredValue(NamedTuple):
    """The law of the censored value mu + row . u of each row, given the observed values but not the limits.

    Attributes:
        row: (K, D, n).
        q: (K, D, n), the covariance of u with the value.
        mean: (K, n), the mean of row . u.
        sd: (K, n), its standard deviation; 1 in rows without a censored value.
        low, high: (K, n), the limits of (row . u - mean) / sd.
    """

    row: jax.Array
    q: jax.Array
    mean: jax.Array
    sd: jax.Array
    low: jax.Array
    high: jax.Array


def _censored_value(
    solved: Solved, means: jax.Array, factors: covariance.Factors, rows: Observations, covariance_type: str
) -> _CensoredValue:
    """Return the law of the censored value of each row under matrices that are not diagonal."""
    (gain, residual), (lower, upper) = solved, _valid_limits(rows)
    is_censored = (jnp.isfinite(lower) | jnp.isfinite(upper)).astype(means.dtype)  # (D, n), at most one in each row
    roots = covariance.to_dense(factors.lower, covariance_type, *means.shape)
    row = covariance.einsum("in,kia->kan", is_censored, roots)
    q = row - lifted(gain, (gain * jnp.moveaxis(row, 1, 0)[None]).sum(1))
    v = (row * q).sum(1)
    sd = jnp.sqrt(jnp.where(v > 0, v, 1))
    mean = (row * lifted(gain, residual)).sum(1)
    center = covariance.einsum("in,ki->kn", is_censored, means) + mean
    low, high = (_in_units(limit[None], center, sd) for limit in (lower.max(0), upper.min(0)))
    return _CensoredValue(row, q, mean, sd, low, high)


def _diagonal_limits(means: jax.Array, factors: covariance.Factors, rows: Observations) -> tuple[jax.Array, jax.Array]:
    """Return the limits of u, (D, K, n), under diagonal matrices."""
    sd = jnp.broadcast_to(factors.lower, means.shape).T[:, :, None]
    low, high = (_in_units(limit[:, None], means.T[:, :, None], sd) for limit in _valid_limits(rows))
    return low, high


def _in_units(limit: jax.Array, center: jax.Array, sd: jax.Array) -> jax.Array:
    """Return (limit - center) / sd; no derivative involves an infinite limit, because it would be NaN."""
    is_finite = jnp.isfinite(limit)
    return jnp.where(is_finite, (jnp.where(is_finite, limit, 0) - center) / sd, limit)


def _valid_limits(rows: Observations) -> tuple[jax.Array, jax.Array]:
    """Return lower and upper limits (D, n). Limits that exclude all values, as rows of weight 0 may have, become infinite."""
    assert rows.lower is not None
    assert rows.upper is not None
    valid = (rows.lower < rows.upper).T
    return jnp.where(valid, rows.lower.T, -jnp.inf), jnp.where(valid, rows.upper.T, jnp.inf)


def lifted(gain: jax.Array, f: jax.Array) -> jax.Array:
    """Return G' f, (K, D, n)."""
    return jnp.moveaxis(gain * f if gain.ndim == 3 else (gain * f[:, None]).sum(0), 0, 1)
