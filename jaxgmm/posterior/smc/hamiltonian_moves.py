"""Move many particles by Hamiltonian Monte Carlo. The metric and the step size are adapted to the particles.

Sources: Neal (2011), MCMC using Hamiltonian dynamics; for the adaptation of such moves within sequential Monte Carlo, Buchholz,
Chopin & Jacob (2021), Bayesian Analysis 16:745.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ...row_sums import vary_with

# Largest length of a trajectory, in units in which the scale of the target is about 1. For each particle, the step size and
# therefore also the length are multiplied by a random number (see `_SHORTEST`).
_PATH = 2.0
_MOST_STEPS = 24  # largest number of leapfrog steps in a trajectory
_SHORTEST = 0.5  # each particle's step size is multiplied by a random number between this number and 1
_ACCEPT_PROB = 0.75  # the step size is adapted to this mean acceptance probability


class Movers(NamedTuple):
    """Particles that are being moved.

    z: (M, P), the points. log_step_size: (), the logarithm of the step size. accept_prob: (), the sum of the mean acceptance
    probabilities of all moves.
    """

    z: jax.Array
    log_step_size: jax.Array
    accept_prob: jax.Array


def scales_of_particles(z: jax.Array, gradients: jax.Array) -> jax.Array:
    """Return a scale (P,) for each coordinate, from points (M, P) and the gradients (M, P) of the log density at them.

    Each scale is the square root of sd(z) / sd(gradient), where sd(gradient) is the root mean square of the gradient. For a
    normal density, both sd(z) and 1 / sd(gradient) are the standard deviation. The density can have several modes, for example
    one for each order of the components. Then sd(z) measures the distance between the modes, and 1 / sd(gradient) measures the
    width of each mode.
    """
    size = jnp.sqrt((gradients**2).mean(0))
    ratio = z.std(0) / jnp.where(size > 0, size, 1)
    return jnp.where((size > 0) & (ratio > 0), jnp.sqrt(ratio), 1)


def move_by_trajectories(
    key: jax.Array, movers: Movers, log_density: Callable[[jax.Array], jax.Array], scale: jax.Array
) -> Movers:
    """Move each particle along one Hamiltonian trajectory, and adapt the step size.

    log_density: a function of points (M, P) that returns the log density of each point, (M,).
    scale: (P,), the scale of each coordinate.
    """
    z = movers.z
    key_momentum, key_step, key_accept = jax.random.split(key, 3)
    momentum = jax.random.normal(key_momentum, z.shape, z.dtype)
    size = jnp.exp(movers.log_step_size)
    step = size * jax.random.uniform(key_step, (len(z), 1), z.dtype, _SHORTEST, 1.0)
    num_steps = jnp.clip(jnp.ceil(_PATH / size), 1, _MOST_STEPS).astype(int)

    def evaluate(z: jax.Array) -> tuple[jax.Array, jax.Array]:
        values, pull_back = jax.vjp(log_density, z)
        return values, pull_back(jnp.ones_like(values))[0] * scale

    def leap(i: jax.Array, carry: tuple) -> tuple:
        z, momentum, before, _ = carry
        value, gradient = evaluate(z)
        momentum = momentum + jnp.where((i == 0) | (i == num_steps), 0.5, 1.0) * step * gradient
        z = jnp.where(i < num_steps, z + step * scale * momentum, z)
        return z, momentum, jnp.where(i == 0, value, before), value

    # The loop evaluates the gradient in one place only, because each place takes seconds to compile.
    zero = vary_with(jnp.zeros_like(z[:, 0]), z)
    new, end, before, after = jax.lax.fori_loop(0, num_steps + 1, leap, (z, momentum, zero, zero))
    change = after - before - 0.5 * ((end**2).sum(1) - (momentum**2).sum(1))
    accept_prob = jnp.where(jnp.isfinite(change), jnp.exp(jnp.minimum(change, 0)), 0)
    accepted = jax.random.uniform(key_accept, change.shape, z.dtype) < accept_prob
    mean = accept_prob.mean()
    return Movers(jnp.where(accepted[:, None], new, z), movers.log_step_size + mean - _ACCEPT_PROB, movers.accept_prob + mean)
