"""Sequential Monte Carlo in which the rows of the data enter one after another: iterated batch importance sampling.

Chopin (2002), Biometrika 89:539. Each stage

1. moves each particle by Gibbs sweeps whose target is the posterior given the rows that have entered; in the first stage, this
   target is the prior, so the moves are draws from the prior;
2. lets rows enter, in a random order that spreads them over the data, as long as the effective sample size of the importance
   weights stays above one half of the number of particles;
3. resamples the particles in proportion to their weights.

The sweeps are those of `gibbs`, because the posterior given a subset of rows has the same closed-form conditionals. The
evidence is the product over stages of the mean importance weight. If a single row would take the effective sample size below
one half of the number of particles, its density enters as sum_k w_k N(x | mu_k, Sigma_k)^phi, with phi rising from 0 to 1.
Given its label, such a row counts as one row for the weights, and as phi rows for the mean and the covariance of its component.
The conditionals therefore keep their closed forms.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from .. import covariance
from ..chunking import particle_rows_per_chunk, tempering_rows
from ..mixture import Mixture
from ..progress import advance_by
from ..row_sums import sum_over_rows, vary_with, weight_array, weight_or_ones
from .conditionals import GibbsState, are_counts, gibbs_state
from .particle_moves import Problem, Target, joint_of_particles, move
from .particles import (
    Effort,
    Particles,
    Records,
    effective_size,
    empty_records,
    largest_exponent,
    log_mean_exp,
    number_of_parents,
    repeat_stages,
    systematic_parents,
)
from .standardization import StandardizedProblem

_GOLDEN_RATIO = 2654435769  # the fractional part of the golden ratio, times 2^32


class Run(NamedTuple):
    """The state of one run: particles (M, ...), the log evidence of the rows that have entered, counters and records.

    entered: number of rows that have entered completely.
    exponent: phi of the next row, below 1, as in the docstring of this module; 0 if no part of the next row has entered.
    """

    state: GibbsState
    entered: jax.Array
    exponent: jax.Array
    log_evidence: jax.Array
    stage: jax.Array
    finished: jax.Array
    records: Records


def run_data_tempering(
    keys: jax.Array,
    standard: StandardizedProblem,
    present: jax.Array,
    covariance_type: str,
    effort: Effort,
    bar: jax.Array | None = None,
) -> Particles:
    """Move independent populations of particles from the prior to the posterior, one population for each key (C,).

    present: (K,) booleans, True for the components that may have a positive weight.
    bar: the number that identifies a progress bar for the rows that have entered in all runs, or None.
    """
    problem = Problem(standard.y, standard.weight, standard.prior, present)
    ordered = jax.vmap(lambda key: _in_random_order(key, problem))(keys)

    def stage(stage_keys: jax.Array, runs: Run) -> Run:
        limit = runs.entered.max()
        one_stage = partial(_make_stage, limit=limit, covariance_type=covariance_type, effort=effort)
        new = jax.vmap(one_stage)(stage_keys, runs, ordered)
        advance_by(bar, (new.entered - runs.entered).sum())
        return new

    start = _start(problem, covariance_type, effort)
    runs = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (len(keys), *leaf.shape)), start)
    runs = repeat_stages(stage, keys, vary_with(runs, problem, keys))
    state = runs.state
    covariances = covariance.from_factor(state.factors.lower, covariance_type)
    mixture = Mixture(jnp.exp(state.log_weights), state.means, covariances, covariance_type)
    found = jax.vmap(lambda state: log_likelihoods(state, problem, covariance_type))(state)
    found = jnp.where(are_counts(problem.weight), found, jnp.nan)
    return Particles(mixture, found, runs.log_evidence, runs.stage, runs.entered >= _count_rows(problem), runs.records)


def _make_stage(key: jax.Array, run: Run, problem: Problem, *, limit: jax.Array, covariance_type: str, effort: Effort) -> Run:
    """Move the particles, let rows enter, and resample the particles. A run that has finished stays as it is.

    In the first stage, no row has entered, and the moves are draws from the prior. After the last moves, no rows are left.
    """
    key_moves, key_parents = jax.random.split(key)
    target = Target(problem, covariance_type, run.entered, run.exponent, limit)
    state, sweeps = move(key_moves, run.state, target, ~run.finished, effort)
    log_weights, entered, exponent = _let_rows_enter(run._replace(state=state), problem, covariance_type)
    # if no rows are left, all weights are equal, so each particle is its own parent
    parents = systematic_parents(key_parents, log_weights)
    found = Records(sweeps, jnp.ones_like(run.exponent), effective_size(log_weights), number_of_parents(parents))
    evidence = run.log_evidence + log_mean_exp(log_weights)
    count = run.stage + 1
    new = Run(
        jax.tree.map(lambda leaf: leaf[parents], state),
        entered,
        exponent,
        evidence,
        count,
        (run.entered >= _count_rows(problem)) | (count >= effort.max_stages) | ~jnp.isfinite(evidence),
        jax.tree.map(lambda values, value: values.at[run.stage].set(value), run.records, found),
    )
    return jax.tree.map(partial(jnp.where, run.finished), run, new)


def _in_random_order(key: jax.Array, problem: Problem) -> Problem:
    """Return a problem with its rows in random order. The rows of weight 0 come last and never enter.

    The rows are ordered by the fractional part of r g + u, where r is the rank of a row along a random direction, g is the
    golden ratio, and u is a random number. Successive rows are then spread evenly over the data, so that all clusters are
    present from the first stages on. For the data set `galaxies` and two components of equal variance, this order divides the
    standard deviation of the log evidence by four, compared with an order that is drawn uniformly. The evidence is unbiased for
    any order that does not depend on the particles. Padding does not change the order.
    """
    key_direction, key_start = jax.random.split(key)
    weight = weight_or_ones(problem.weight, problem.y.shape[:1], problem.y.dtype)
    along = problem.y @ jax.random.normal(key_direction, problem.y.shape[1:], problem.y.dtype)
    rank = jnp.argsort(jnp.argsort(jnp.where(weight > 0, along, jnp.inf))).astype(jnp.uint32)
    place = rank * jnp.uint32(_GOLDEN_RATIO) + jax.random.bits(key_start, (), jnp.uint32)  # modulo 2^32, by overflow
    order = jnp.lexsort((place, weight <= 0))
    weights = weight_array(problem.weight)
    return problem._replace(y=problem.y[order], weight=problem.weight if weights is None else weights[order])


def _count_rows(problem: Problem) -> jax.Array:
    """Return the number of rows of positive weight, ()."""
    return (weight_or_ones(problem.weight, problem.y.shape[:1], problem.y.dtype) > 0).sum()


def log_likelihoods(state: GibbsState, problem: Problem, covariance_type: str) -> jax.Array:
    """Return the log-likelihood of all rows for each particle, (M,)."""
    m, k, d = state.means.shape

    def of_chunk(y: jax.Array, weight: jax.Array, state: GibbsState) -> jax.Array:
        value = jax.nn.logsumexp(joint_of_particles(state, y.T, covariance_type), 1)
        return jnp.where(weight > 0, weight * value, 0).sum(1)

    return sum_over_rows(of_chunk, problem.y, problem.weight, particle_rows_per_chunk(k, d, m), (state,))


def _start(problem: Problem, covariance_type: str, effort: Effort) -> Run:
    """Return a run before its first stage. All its particles are equal, because the first moves do not depend on them."""
    k, d = len(problem.present), problem.y.shape[1]
    m, dtype = effort.num_particles, problem.y.dtype
    ones, zeros = jnp.ones(k, dtype), jnp.zeros((k, d), dtype)
    unit = covariance.from_dense(jnp.broadcast_to(jnp.eye(d, dtype=dtype), (k, d, d)), covariance_type, ones)
    one = gibbs_state(Mixture(jnp.where(problem.present, ones, 0), zeros, unit, covariance_type))
    state = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (m, *leaf.shape)), one)
    zero, none = jnp.zeros((), dtype), jnp.array(0)
    return Run(state, none, zero, zero, none, jnp.array(False), empty_records(effort.max_stages, dtype))


def _let_rows_enter(run: Run, problem: Problem, covariance_type: str) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Let as many rows enter as possible. Return log weights (M,), the number of rows that entered, and the next exponent."""
    n, least = len(problem.y), len(run.state.means) / 2
    block = min(n, tempering_rows())
    # A block of rows of weight 0 is appended, so that a block of rows can start at any row. These rows have no effect.
    y = jnp.concatenate([problem.y, jnp.zeros((block, problem.y.shape[1]), problem.y.dtype)])
    weight = weight_or_ones(problem.weight, (n,), problem.y.dtype)
    weight = jnp.concatenate([weight, jnp.zeros(block, problem.y.dtype)])
    first_joint = joint_of_particles(run.state, y[run.entered][:, None], covariance_type)[..., 0]  # (M, K)

    def of_first_row(exponent: jax.Array) -> jax.Array:
        """Return weight * log(sum_k w_k N(x | mu_k, Sigma_k)^exponent) for each particle, (M,).

        Here x and weight are those of the first row that has not entered completely.
        """
        power = run.state.log_weights + exponent * (first_joint - run.state.log_weights)
        present = jnp.where(jnp.isfinite(run.state.log_weights), power, -jnp.inf)
        return weight[run.entered] * jax.nn.logsumexp(present, -1)

    def enter(carry: tuple) -> tuple:
        log_weights, entered, _ = carry
        rows = jax.lax.dynamic_slice_in_dim(y, entered, block)
        joint = joint_of_particles(run.state, rows.T, covariance_type)  # (M, K, block)
        times = jax.lax.dynamic_slice_in_dim(weight, entered, block)
        change = jnp.where(times > 0, times * jax.nn.logsumexp(joint, 1), 0)
        change = change.at[:, 0].add(jnp.where(entered == run.entered, -of_first_row(run.exponent), 0))
        total = log_weights[:, None] + jnp.cumsum(change, 1)
        enough = jnp.cumprod(effective_size(total) >= least)
        count = jnp.minimum(enough.sum(), n - entered)
        new = jnp.where(count > 0, total[:, jnp.maximum(count - 1, 0)], log_weights)
        return new, entered + count, count == block

    start = (jnp.zeros_like(run.state.means[:, 0, 0]), run.entered, jnp.array(True))
    log_weights, entered, _ = jax.lax.while_loop(lambda carry: carry[2] & (carry[1] < n), enter, start)

    # If the first row alone takes the effective size below `least`, only its exponent increases, as far as possible.
    before = of_first_row(run.exponent)
    exponent = largest_exponent(lambda phi: of_first_row(phi) - before, run.exponent, least)
    none = entered == run.entered
    complete = none & (exponent >= 1)
    log_weights = jnp.where(none, of_first_row(exponent) - before, log_weights)
    entered = jnp.minimum(jnp.where(complete, entered + 1, entered), _count_rows(problem))
    return log_weights, entered, jnp.where(none & ~complete, exponent, 0)
