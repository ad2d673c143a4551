"""Populations of weighted particles: their type, effective sample size, systematic resampling, and the rule that ends moves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, TypeVar

import jax
import jax.numpy as jnp

from ...mixture import Mixture
from ...row_sums import vary_with


class HasFinished(Protocol):
    """The states of C runs, with a property that says which runs have finished."""

    @property
    def finished(self) -> jax.Array:
        """Whether each run has finished, (C,)."""
        ...


Runs = TypeVar("Runs", bound=HasFinished)

_BISECTIONS = 30  # number of bisections that find an exponent; the exponent is then as exact as float32 allows


class Effort(NamedTuple):
    """The number of particles of a run, and the limits of its stages and sweeps.

    num_particles: M. max_stages: largest number of stages. max_sweeps: largest number of sweeps in a stage; a
    sweep moves every particle once.
    correlation: see `Moves.suffice`.
    """

    num_particles: int
    max_stages: int
    max_sweeps: int
    correlation: float


class Records(NamedTuple):
    """Four numbers for each of T stages, each of shape (T,).

    sweeps: the number of moves of all particles. accept_prob: the mean acceptance probability of these moves. size: the
    effective sample size before the resampling. parents: the number of particles that survive the resampling. In the last
    stage, all data have entered, so all particles survive. For stages that were not needed, `sweeps` and `parents` are 0, and
    the other numbers are NaN.
    """

    sweeps: jax.Array
    accept_prob: jax.Array
    size: jax.Array
    parents: jax.Array


class Particles(NamedTuple):
    """The result of C independent runs of M particles each.

    Attributes:
        mixture: the particles (C, M, ...), in standardised coordinates.
        log_likelihood: (C, M), the log-likelihood of all rows.
        log_evidence: (C,), the estimates of the log evidence, in standardised coordinates.
        variance: (C,), the variances that these estimates would have if all particles of a run were independent.
        num_stages: (C,), the number of stages of each run.
        complete: (C,), whether all data have entered.
        records: the records (C, T) of the stages.
    """

    mixture: Mixture
    log_likelihood: jax.Array
    log_evidence: jax.Array
    variance: jax.Array
    num_stages: jax.Array
    complete: jax.Array
    records: Records


def empty_records(max_stages: int, dtype: Any) -> Records:
    """Return the records of a run before its first stage."""
    counts, numbers = jnp.zeros(max_stages, int), jnp.full(max_stages, jnp.nan, dtype)
    return Records(counts, numbers, numbers, counts)


class Moves(NamedTuple):
    """The numbers that decide whether the moves of a stage end.

    first: (Q, M), quantities of the particles before the first move. number: (), the number of moves.
    """

    first: jax.Array
    number: jax.Array

    def suffice(self, now: jax.Array, effort: Effort) -> jax.Array:
        """Return whether the particles have moved enough, (). `now` (Q, M) are the quantities after the moves.

        They have moved enough if the correlation, over the particles, of each quantity with its value before the first move is
        below `effort.correlation`, or if `effort.max_sweeps` moves have been made.
        """
        correlated = _correlations(self.first, now).max() >= effort.correlation
        return ~correlated | (self.number >= effort.max_sweeps)


def repeat_stages(
    move: Callable[[jax.Array, Runs], tuple[Runs, jax.Array]],
    advance: Callable[[jax.Array, Runs], Runs],
    keys: jax.Array,
    runs: Runs,
    report: Callable[[Runs, Runs], None],
    turn: Callable[[Runs], jax.Array] | None = None,
) -> Runs:
    """Move the particles of all runs until every run has finished.

    A run advances to its next stage as soon as its own particles have moved enough. If all runs advanced together, each stage
    would take as many moves as the slowest run needs. The random keys of a run depend only on its own key and on the number of
    its moves so far, so that its draws do not depend on the other runs.

    Args:
        move: a function of keys (C,) and runs. It moves the particles once, and returns the runs and booleans (C,), True for
            the runs whose particles have moved enough.
        advance: a function of keys (C,) and runs that takes all runs to their next stage.
        keys: (C,), random keys.
        runs: the runs before their first stage.
        report: a function that is called with the runs before and after each move.
        turn: a function of the runs that returns booleans (C,), True for the runs that move next, among them at least one that
            has not finished; None: all runs move.
    """

    def step(carry: tuple[jax.Array, Runs]) -> tuple[jax.Array, Runs]:
        counts, runs = carry
        active = ~runs.finished if turn is None else turn(runs) & ~runs.finished
        pairs = jax.vmap(lambda key, count: jax.random.split(jax.random.fold_in(key, count)))(keys, counts)
        moved, suffice = move(pairs[:, 0], runs)
        some = (suffice & active).any()
        advanced = jax.lax.cond(some, lambda: advance(pairs[:, 1], moved), lambda: moved)
        new = _choose(active, _choose(suffice, advanced, moved), runs)
        report(runs, new)
        return counts + active, new

    counts = jnp.ones_like(runs.finished, int)
    return jax.lax.while_loop(lambda carry: ~carry[1].finished.all(), step, (counts, runs))[1]


def _choose(condition: jax.Array, yes: Runs, no: Runs) -> Runs:
    """Return the runs of `yes` where the condition (C,) is True, and the runs of `no` elsewhere."""
    return jax.tree.map(lambda one, other: jnp.where(condition.reshape(-1, *[1] * (one.ndim - 1)), one, other), yes, no)


def _correlations(first: jax.Array, now: jax.Array) -> jax.Array:
    """Return, for each quantity, the correlation over the particles between its values `first` and `now`; 0 for a constant."""
    a, b = first - first.mean(-1, keepdims=True), now - now.mean(-1, keepdims=True)
    scale = jnp.sqrt((a**2).sum(-1) * (b**2).sum(-1))
    return jnp.where(scale > 0, (a * b).sum(-1) / jnp.where(scale > 0, scale, 1), 0)


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
    """Return the number of particles that have at least one child, (), given the parents (M,) of the new particles."""
    return jnp.zeros(len(parents), int).at[parents].set(1).sum()


def largest_exponent(log_increment: Callable[[jax.Array], jax.Array], lowest: jax.Array, least_size: float) -> jax.Array:
    """Return the largest exponent in (lowest, 1] at which the effective sample size is at least `least_size`, by bisection.

    log_increment: a function of an exponent (). It returns the log weights (M,) for a rise from `lowest` to this exponent.
    """
    one = jnp.ones_like(lowest)
    suffices = effective_size(log_increment(one)) >= least_size

    def halve(carry: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        count, low, high = carry
        middle = 0.5 * (low + high)
        enough = effective_size(log_increment(middle)) >= least_size
        return count + 1, jnp.where(enough, middle, low), jnp.where(enough, high, middle)

    start = vary_with((jnp.array(0), lowest, one), suffices)
    _, low, high = jax.lax.while_loop(lambda carry: ~suffices & (carry[0] < _BISECTIONS), halve, start)
    # The exponent must increase. The smallest step is therefore made even if it takes the size below `least_size`.
    return jnp.where(suffices, one, jnp.where(low > lowest, low, high))


def random_order(key: jax.Array, concentration: jax.Array, present: jax.Array) -> jax.Array:
    """Return a random permutation (K,) that exchanges only components with the same prior concentration.

    Absent components are exchanged only with other absent components.
    """
    group = jnp.where(present, concentration, -1)
    shuffled = jnp.lexsort((jax.random.uniform(key, group.shape), group))
    return jnp.zeros_like(shuffled).at[jnp.argsort(group, stable=True)].set(shuffled)
