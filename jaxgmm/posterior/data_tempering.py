"""Sequential Monte Carlo in which the rows of the data enter one after another: iterated batch importance sampling.

Chopin (2002), Biometrika 89:539. Particles start as draws from the prior. Each stage

1. lets rows enter, in random order, as long as the effective sample size of the importance weights stays above one half of the
   number of particles;
2. resamples the particles in proportion to their weights;
3. moves each particle by Gibbs sweeps whose target is the posterior given the rows that have entered.

The kernel is that of `gibbs`, because the posterior given a subset of rows has the same closed-form conditionals. The evidence
is the product over stages of the mean weight. If a single row would take the effective sample size below one half, its density
enters as sum_k w_k N(x | mu_k, Sigma_k)^phi with phi from 0 to 1. Given its label, such a row counts as one row for the weights
and as phi rows for the mean and the covariance of its component, so the conditionals keep their closed forms.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from .. import covariance
from ..chunking import particle_rows_per_chunk, tempering_rows
from ..density import log_joint
from ..mixture import Mixture
from ..priors.interface import ComponentSums, MixturePrior
from ..progress import advance_by
from ..row_sums import FirstRows, Weight, has_weights, sum_over_rows, vary_with, weight_or_ones
from .conditionals import GibbsState, LabelledData, draw_state, gibbs_state, repeat_and_sum, sum_by_labels
from .mixing import label_invariant_draws
from .particles import effective_size, largest_exponent, log_mean_exp, number_of_parents, random_order, systematic_parents


class Problem(NamedTuple):
    """The standardised rows y (N, D) and their weights (N,), the prior, and which components are present (K,)."""

    y: jax.Array
    weight: Weight
    prior: MixturePrior
    present: jax.Array


class Effort(NamedTuple):
    """The size of a run.

    num_particles: M. max_stages: largest number of stages. max_sweeps: largest number of Gibbs sweeps in a stage. correlation:
    sweeps end when the correlation of the particles with their state before the first sweep is below this number.
    """

    num_particles: int
    max_stages: int
    max_sweeps: int
    correlation: float


class Records(NamedTuple):
    """Numbers about each stage, (T,): Gibbs sweeps, the effective size after rows entered, and the number of parents.

    The entries are 0 and NaN from the first stage that was not needed. In the last stage, no rows are left to enter.
    """

    sweeps: jax.Array
    size: jax.Array
    parents: jax.Array


class Run(NamedTuple):
    """The state of one run: particles (M, ...), the log evidence of the rows that have entered, and the progress.

    entered: number of rows that have entered completely. exponent: the exponent of the next row; 0 if that row has not entered.
    """

    state: GibbsState
    entered: jax.Array
    exponent: jax.Array
    log_evidence: jax.Array
    stage: jax.Array
    finished: jax.Array
    records: Records


def run_data_tempering(
    keys: jax.Array, problem: Problem, covariance_type: str, effort: Effort, bar: jax.Array | None = None
) -> Run:
    """Run independent populations of particles from the prior to the posterior; each key (C,) starts one.

    bar: the number of a progress bar that counts the rows that have entered in all runs, or None.
    """
    ordered = jax.vmap(lambda key: _in_random_order(key, problem))(keys)

    def stage(carry: tuple[jax.Array, Run]) -> tuple[jax.Array, Run]:
        count, runs = carry
        stage_keys = jax.vmap(jax.random.fold_in, (0, None))(keys, count)
        new = jax.vmap(partial(_make_stage, covariance_type=covariance_type, effort=effort))(stage_keys, runs, ordered)
        advance_by(bar, (new.entered - runs.entered).sum())
        return count + 1, new

    start = _start(problem, covariance_type, effort)
    runs = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (len(keys), *leaf.shape)), start)
    runs = vary_with(runs, problem, keys)
    return jax.lax.while_loop(lambda carry: ~carry[1].finished.all(), stage, (jnp.array(1), runs))[1]


def _make_stage(key: jax.Array, run: Run, problem: Problem, *, covariance_type: str, effort: Effort) -> Run:
    """Move the particles, let rows enter, and resample the particles. A run that has finished stays as it is.

    In the first stage, no row has entered, and the moves are draws from the prior. After the last moves, no rows are left.
    """
    key_moves, key_parents = jax.random.split(key)
    state, sweeps = _move(key_moves, run, problem, covariance_type, effort)
    log_weights, entered, exponent = _let_rows_enter(run._replace(state=state), problem, covariance_type)
    parents = systematic_parents(key_parents, log_weights)  # if no rows are left, each particle is its own parent
    found = Records(sweeps, effective_size(log_weights), number_of_parents(parents))
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
    """Return a problem with its rows in random order, with rows of weight 0 last; they never enter.

    The number that decides the place of a row does not depend on the rows after it, so padding does not change the order.
    """
    number = jax.random.uniform(key, problem.y.shape[:1], problem.y.dtype)
    weight = weight_or_ones(problem.weight, problem.y.shape[:1], problem.y.dtype)
    order = jnp.argsort(jnp.where(weight > 0, number, 2))
    weight = problem.weight[order] if has_weights(problem.weight) else problem.weight
    return problem._replace(y=problem.y[order], weight=weight)


def _count_rows(problem: Problem) -> jax.Array:
    """Return the number of rows of positive weight, ()."""
    return (weight_or_ones(problem.weight, problem.y.shape[:1], problem.y.dtype) > 0).sum()


def log_likelihoods(state: GibbsState, problem: Problem, covariance_type: str) -> jax.Array:
    """Return the log-likelihood of all rows for each particle, (M,)."""
    m, k, d = state.means.shape

    def of_chunk(y: jax.Array, weight: jax.Array) -> jax.Array:
        value = jax.nn.logsumexp(_joint(state, y.T, covariance_type), 1)
        return jnp.where(weight > 0, weight * value, 0).sum(1)

    return sum_over_rows(of_chunk, problem.y, problem.weight, particle_rows_per_chunk(k, d, m))


class _Target(NamedTuple):
    """The posterior given the first `entered` rows and the next row with an exponent."""

    problem: Problem
    covariance_type: str
    entered: jax.Array
    exponent: jax.Array


def _start(problem: Problem, covariance_type: str, effort: Effort) -> Run:
    """Return a run before its first stage. Its particles are all equal; the first moves do not depend on them."""
    k, d = len(problem.present), problem.y.shape[1]
    m, dtype = effort.num_particles, problem.y.dtype
    ones, zeros = jnp.ones(k, dtype), jnp.zeros((k, d), dtype)
    unit = covariance.from_dense(jnp.broadcast_to(jnp.eye(d, dtype=dtype), (k, d, d)), covariance_type, ones)
    one = gibbs_state(Mixture(jnp.where(problem.present, ones, 0), zeros, unit, covariance_type))
    state = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (m, *leaf.shape)), one)
    zero, none, counts = jnp.zeros((), dtype), jnp.array(0), jnp.zeros(effort.max_stages, int)
    records = Records(counts, jnp.full(effort.max_stages, jnp.nan, dtype), counts)
    return Run(state, none, zero, zero, none, jnp.array(False), records)


def _let_rows_enter(run: Run, problem: Problem, covariance_type: str) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return the log weights (M,) after as many rows have entered as possible, the number of rows, and the next exponent."""
    n, least = len(problem.y), len(run.state.means) / 2
    block = min(n, tempering_rows())
    # rows beyond the last block have weight 0, and so have no effect
    y = jnp.concatenate([problem.y, jnp.zeros((block, problem.y.shape[1]), problem.y.dtype)])
    weight = weight_or_ones(problem.weight, (n,), problem.y.dtype)
    weight = jnp.concatenate([weight, jnp.zeros(block, problem.y.dtype)])
    first_joint = _joint(run.state, y[run.entered][:, None], covariance_type)[..., 0]  # (M, K)

    def of_first_row(exponent: jax.Array) -> jax.Array:
        """Return the log of sum_k w_k N^exponent for the first row that has not entered, times its weight."""
        power = run.state.log_weights + exponent * (first_joint - run.state.log_weights)
        present = jnp.where(jnp.isfinite(run.state.log_weights), power, -jnp.inf)
        return weight[run.entered] * jax.nn.logsumexp(present, -1)

    def enter(carry: tuple) -> tuple:
        log_weights, entered, _ = carry
        rows = jax.lax.dynamic_slice_in_dim(y, entered, block)
        joint = _joint(run.state, rows.T, covariance_type)  # (M, K, block)
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

    # the first row alone takes the effective size below one half: its exponent increases as far as possible
    before = of_first_row(run.exponent)
    exponent = largest_exponent(lambda phi: of_first_row(phi) - before, run.exponent, least)
    none = entered == run.entered
    complete = none & (exponent >= 1)
    log_weights = jnp.where(none, of_first_row(exponent) - before, log_weights)
    entered = jnp.minimum(jnp.where(complete, entered + 1, entered), _count_rows(problem))
    return log_weights, entered, jnp.where(none & ~complete, exponent, 0)


def _joint(state: GibbsState, rows: jax.Array, covariance_type: str) -> jax.Array:
    """Return log w_k N(y_n | k) of each particle for rows (D, n), (M, K, n)."""

    def of_one(state: GibbsState) -> jax.Array:
        return log_joint(state.log_weights, state.means, state.factors, rows, covariance_type, subtract_means_first=True)[0]

    return jax.vmap(of_one)(state)


def _move(key: jax.Array, run: Run, problem: Problem, covariance_type: str, effort: Effort) -> tuple[GibbsState, jax.Array]:
    """Move particles by Gibbs sweeps until they have moved enough; return them and the number of sweeps.

    After each sweep, label-invariant quantities of all particles are compared with their values before the first sweep: the
    log-likelihood, and the weights, means and variances of the components in order of size. The sweeps end when the largest
    correlation is below `effort.correlation`.
    """
    target = _Target(problem, covariance_type, run.entered, run.exponent)

    def quantities(state: GibbsState, log_likelihood: jax.Array) -> jax.Array:
        covariances = covariance.from_factor(state.factors.lower, covariance_type)
        mixture = Mixture(jnp.exp(state.log_weights), state.means, covariances, covariance_type)
        one_run = jax.tree.map(lambda leaf: leaf[None], (mixture, log_likelihood))
        return label_invariant_draws(*one_run)[:, 0]

    def sweep(carry: tuple) -> tuple:
        key, state, first, _, count = carry
        key, part = jax.random.split(key)
        new, log_likelihood = _sweep(part, state, target)
        now = quantities(state, log_likelihood)
        first = jnp.where(count == 0, now, first)
        return key, new, first, _correlations(first, now).max(), count + 1

    def unfinished(carry: tuple) -> jax.Array:
        *_, correlation, count = carry
        return ~run.finished & ((count < 2) | ((correlation >= effort.correlation) & (count < effort.max_sweeps)))

    shape = jax.eval_shape(quantities, run.state, run.state.means[:, 0, 0])
    start = (key, run.state, jnp.zeros(shape.shape, shape.dtype), jnp.ones((), shape.dtype), jnp.array(0))
    _, state, _, _, count = jax.lax.while_loop(unfinished, sweep, vary_with(start, run, key))
    return state, count


def _correlations(first: jax.Array, now: jax.Array) -> jax.Array:
    """Return the correlation over particles of each quantity with its first value; 0 for a constant quantity."""
    a, b = first - first.mean(-1, keepdims=True), now - now.mean(-1, keepdims=True)
    scale = jnp.sqrt((a**2).sum(-1) * (b**2).sum(-1))
    return jnp.where(scale > 0, (a * b).sum(-1) / jnp.where(scale > 0, scale, 1), 0)


def _sweep(key: jax.Array, states: GibbsState, target: _Target) -> tuple[GibbsState, jax.Array]:
    """Make one Gibbs sweep with all particles; return the new particles and the log-likelihood (M,) of the old ones."""
    problem, covariance_type, entered, exponent = target
    m, k, d = states.means.shape
    rows = FirstRows(entered)
    if has_weights(problem.weight):
        rows = jnp.where(jnp.arange(len(problem.y)) < entered, problem.weight, 0)
    data = LabelledData(problem.y, rows)
    chunk = particle_rows_per_chunk(k, d, m)
    next_row = jnp.minimum(entered, len(problem.y) - 1)

    def one(keys: jax.Array, state: GibbsState) -> tuple[GibbsState, jax.Array]:
        sums, log_likelihood = sum_by_labels(keys[0], state, data, state.means, covariance_type, chunk)
        counts = _labels_of_next_row(keys[1], state, problem, next_row, exponent, covariance_type)
        part = _with_point(sums, exponent * counts, problem.y[next_row], covariance_type)
        new = draw_state(
            keys[2:4], state, part, problem.prior, problem.present, covariance_type, label_counts=sums.count + counts
        )
        order = random_order(keys[4], problem.prior.weight_concentration, problem.present)
        return _permute(new, order, covariance_type), log_likelihood

    return jax.vmap(one)(jax.random.split(key, (m, 5)), states)


def _labels_of_next_row(
    key: jax.Array, state: GibbsState, problem: Problem, row: jax.Array, exponent: jax.Array, covariance_type: str
) -> jax.Array:
    """Draw labels for the row that enters with an exponent, one for each unit of its weight; return their counts (K,)."""
    one = jax.tree.map(lambda leaf: leaf[None], state)
    joint = _joint(one, problem.y[row][:, None], covariance_type)[0, :, 0]
    power = jnp.where(jnp.isfinite(state.log_weights), state.log_weights + exponent * (joint - state.log_weights), -jnp.inf)

    def draw(i: jax.Array) -> jax.Array:
        label = jax.random.categorical(jax.random.fold_in(key, i), power)
        return jax.nn.one_hot(label, len(power), dtype=power.dtype)

    weight = problem.weight[row] if has_weights(problem.weight) else jnp.ones_like(exponent)
    return repeat_and_sum(draw, jnp.where(exponent > 0, weight, 0))


def _with_point(sums: ComponentSums, weight: jax.Array, point: jax.Array, covariance_type: str) -> ComponentSums:
    """Add a point (D,) with weights (K,) to the sums of the components."""
    count = sums.count + weight
    share = weight / jnp.where(count > 0, count, 1)
    difference = point - sums.mean
    outer = covariance.outer(difference, covariance_type)
    factor = (sums.count * share).reshape(-1, *[1] * (outer.ndim - 1))
    return ComponentSums(count, sums.mean + share[:, None] * difference, sums.scatter + factor * outer)


def _permute(state: GibbsState, order: jax.Array, covariance_type: str) -> GibbsState:
    """Return a state with its components in another order."""
    factors = state.factors
    if len(factors.half_log_det) == len(order):  # otherwise, one covariance is tied
        factors = jax.tree.map(lambda leaf: leaf[order], factors)
    return GibbsState(state.log_weights[order], state.means[order], factors)
