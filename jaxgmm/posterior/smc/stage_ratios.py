"""Ratios of normalising constants of the successive targets of sequential Monte Carlo, by bridge sampling.

Let w be the unnormalised density of one target divided by the unnormalised density of the target before it. The ratio r of
their normalising constants is the mean of w over particles that follow the earlier target. Bridge sampling (Meng & Wong 1996)
also uses the particles that follow the later target. It solves

    r = mean_before[w / (w + r)] / mean_after[1 / (w + r)].

If the moves between the two targets had no effect, this estimate of r would be the mean of w. The more the particles move, the
smaller the error of the estimate becomes. Suppose that the effective sample size is one half of the number of particles, and
that the moves make the particles independent: the variance of the estimate is then about one third of the variance of the mean
of w.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.nn import logsumexp, sigmoid

_STEPS = 6  # number of iterations; their convergence is faster than linear if both populations follow their targets


class Sample(NamedTuple):
    """Numbers (J, M) of M particles at up to J times. Only the first `number` () of the J times are valid."""

    values: jax.Array
    number: jax.Array

    def average(self, values: jax.Array) -> jax.Array:
        """Return the average over the valid times of values (J, M), for each particle, (M,)."""
        valid = jnp.arange(len(values))[:, None] < self.number
        return jnp.where(valid, values, 0).sum(0) / self.number


def one_sample(values: jax.Array) -> Sample:
    """Return numbers (M,) of M particles at one time."""
    return Sample(values[None], jnp.array(1))


class Constant(NamedTuple):
    """An estimate of log(normalising constant of a target / normalising constant of the first target), with its variance.

    log_value: (), the estimate, which is the sum of the log ratios so far.
    variance: (), the part of the variance that comes from all populations of particles before the current one. It is computed
    as for independent particles.
    influence: (M,), the derivatives of `log_value` by the shares of the particles of the current population.
    """

    log_value: jax.Array
    variance: jax.Array
    influence: jax.Array

    def total_variance(self) -> jax.Array:
        """Return the variance from all populations, ()."""
        return self.variance + (self.influence**2).mean(-1) / self.influence.shape[-1]


def first_constant(num_particles: int, dtype: jax.typing.DTypeLike) -> Constant:
    """Return the constant of the first target, which is 1."""
    zero = jnp.zeros((), dtype)
    return Constant(zero, zero, jnp.zeros(num_particles, dtype))


def times_ratio(constant: Constant, before: Sample, after: Sample) -> Constant:
    """Return the constant of the next target.

    constant: the constant of a target. before: log(w) of the particles that follow this target. after: log(w) of the particles
    that follow the next target. If no particle of `before` has a positive weight, the result is -inf or NaN.
    """
    valid = jnp.arange(len(before.values))[:, None] < before.number
    start = logsumexp(jnp.where(valid, before.values, -jnp.inf)) - jnp.log(before.number * before.values.shape[1])

    def terms(log_ratio: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Return w / (w + r) and r / (w + r), averaged over the times, (M,) each."""
        return before.average(sigmoid(before.values - log_ratio)), after.average(sigmoid(log_ratio - after.values))

    def step(_: int, log_ratio: jax.Array) -> jax.Array:
        shares = terms(log_ratio)
        new = log_ratio + jnp.log(shares[0].mean()) - jnp.log(shares[1].mean())
        return jnp.where(jnp.isfinite(new), new, log_ratio)

    log_ratio = jax.lax.fori_loop(0, _STEPS, step, start.astype(before.values.dtype))
    first, second = (share / share.mean() - 1 for share in terms(log_ratio))
    variance = constant.variance + ((constant.influence + first) ** 2).mean() / len(first)
    return Constant(constant.log_value + log_ratio, variance, -second)
