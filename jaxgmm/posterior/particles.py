"""Populations of weighted particles: effective sample size, systematic resampling and random permutation of components."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

_BISECTIONS = 30  # number of bisections that find an exponent; the exponent is then as exact as float32 allows


def effective_size(log_weights: jax.Array) -> jax.Array:
    """Return the effective sample size (sum w)^2 / sum w^2 for log weights (M, ...). It is 0 if no weight is positive."""
    top = log_weights.max(0)
    w = jnp.exp(log_weights - jnp.where(jnp.isfinite(top), top, 0))
    squares = (w**2).sum(0)
    return jnp.where(squares > 0, w.sum(0) ** 2 / jnp.where(squares > 0, squares, 1), 0)


def log_mean_exp(log_weights: jax.Array) -> jax.Array:
    """Return the log of the mean weight, (), for log weights (M,)."""
    return jax.nn.logsumexp(log_weights) - jnp.log(jnp.asarray(len(log_weights), log_weights.dtype))


def systematic_parents(key: jax.Array, log_weights: jax.Array) -> jax.Array:
    """Draw the parents (M,) of M new particles of equal weight by systematic resampling. Kitagawa (1996).

    The number of children of a particle is M w, rounded down or up, where w is its normalised weight.
    """
    m = len(log_weights)
    edges = jnp.cumsum(jax.nn.softmax(log_weights))
    points = (jnp.arange(m) + jax.random.uniform(key, (), log_weights.dtype)) / m
    return jnp.clip(jnp.searchsorted(edges / edges[-1], points), 0, m - 1)


def number_of_parents(parents: jax.Array) -> jax.Array:
    """Return how many different particles have children, ()."""
    return jnp.zeros(len(parents), int).at[parents].set(1).sum()


def largest_exponent(log_increment: Callable[[jax.Array], jax.Array], lowest: jax.Array, least_size: float) -> jax.Array:
    """Return the largest exponent in (lowest, 1] at which the effective sample size is at least `least_size`, by bisection.

    log_increment: a function of an exponent (). It returns the log weights (M,) for a rise from `lowest` to this exponent.
    """

    def halve(_: int, bracket: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = bracket
        middle = 0.5 * (low + high)
        enough = effective_size(log_increment(middle)) >= least_size
        return jnp.where(enough, middle, low), jnp.where(enough, high, middle)

    one = jnp.ones_like(lowest)
    low, high = jax.lax.fori_loop(0, _BISECTIONS, halve, (lowest, one))
    # The exponent must increase. The smallest step is therefore made even if it takes the size below `least_size`.
    step = jnp.where(low > lowest, low, high)
    return jnp.where(effective_size(log_increment(one)) >= least_size, one, step)


def random_order(key: jax.Array, concentration: jax.Array, present: jax.Array) -> jax.Array:
    """Return a random permutation (K,) that exchanges only components with the same prior concentration.

    Absent components are exchanged only with other absent components.
    """
    group = jnp.where(present, concentration, -1)
    shuffled = jnp.lexsort((jax.random.uniform(key, group.shape), group))
    return jnp.zeros_like(shuffled).at[jnp.argsort(group, stable=True)].set(shuffled)
