"""The EM loop: `init` the state of a prepared problem, `step` while `is_running`, and `finalize` the result.

A fit begins at step -1. In this step the proposal of the M-step is ignored, and the start itself is evaluated. Thus the
compiled program contains only one E-step. A proposal with a non-finite evaluation is rejected: the last finite state is kept,
and the status says why. The log-likelihood and objective of a state are always those of its mixture. `fit` runs one such loop,
and `fit_many` runs a batch of them. `fit_batches` uses the two halves of a step, `propose` and `accept`, and reads the data
between them.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from .. import covariance
from ..covariance import types as covariance_types
from ..covariance.conjugate_terms import observed_degrees
from ..devices.host import Tree
from ..mixture import Mixture
from ..priors.interface import ComponentSums
from ..rounding import objective_error, position_errors, ridge_fraction
from ..row_sums import nonzero, vary_with
from .acceleration import Memory, extrapolate, init_memory, update_memory
from .incomplete_sums import IncompleteData, IncompleteRows, incomplete_component_sums
from .kernels import Rows, component_sums, quadratic_error
from .m_step import PSEUDO_COUNT, Regularisation, maximize, pseudo_count
from .problem import CenteredProblem
from .result import ComponentStatus, Fit, Status, holds_too_few

_RUNNING = -1
# a decrease of the objective is reported if it exceeds this multiple of the rounding error; decreases of up to 5 rounding
# errors were measured in float32 fits
_LARGEST_FALL = 8


class Options(NamedTuple):
    """The static options of a fit; if `history` is False, the objectives of the steps are not stored."""

    max_iter: int
    accelerate: bool
    chunk_size: int | None
    history: bool = True


class EMState(NamedTuple):
    """The state of a fit after `step` steps; `memory` is the memory of the acceleration, or None without acceleration."""

    step: jax.Array
    mixture: Mixture
    sums: ComponentSums
    log_likelihood: jax.Array
    objective: jax.Array
    status: jax.Array
    history: jax.Array | None
    memory: Memory | None


class Proposal(NamedTuple):
    """The mixture that a step evaluates, the memory of the acceleration, and whether the mixture is extrapolated."""

    mixture: Mixture
    memory: Memory | None
    extrapolated: jax.Array


class Evaluation(NamedTuple):
    """The result of the E-step at a mixture.

    `singular` is True if a finite covariance is not positive definite, or is narrower than the rounding error of the data.
    """

    sums: ComponentSums
    log_likelihood: jax.Array
    objective: jax.Array
    factors: covariance.Factors
    singular: jax.Array


def init(problem: CenteredProblem, options: Options) -> EMState:
    """Return the state at step -1, before the start is evaluated."""
    weights, means = problem.start.weights, problem.start.means
    blank = ComponentSums(weights, means, covariance.outer(means, problem.start.covariance_type))
    unknown = jnp.asarray(-jnp.inf, means.dtype)
    state = EMState(
        jnp.array(-1),
        problem.start,
        jax.tree.map(jnp.zeros_like, blank),
        unknown,
        unknown,
        jnp.array(_RUNNING),
        jnp.zeros(options.max_iter + 1, means.dtype) if options.history else None,
        init_memory(problem.start) if options.accelerate else None,
    )
    return vary_with(state, problem)


def is_running(state: EMState, options: Options) -> jax.Array:
    """Return whether the fit continues: it has not ended, and it has taken fewer than `max_iter` steps."""
    return (state.status == _RUNNING) & (state.step < options.max_iter)


def step(problem: CenteredProblem, state: EMState, options: Options) -> EMState:
    """Take one EM step: propose a mixture, evaluate it, and accept or reject it."""
    proposal = propose(problem, state)
    return accept(problem, state, proposal, evaluate(proposal.mixture, problem, options.chunk_size))


def propose(problem: CenteredProblem, state: EMState) -> Proposal:
    """Return the mixture to evaluate next. In step -1, this is the start."""
    stepped = centered_m_step(problem, state.mixture, state.sums)
    memory, extrapolated = state.memory, jnp.array(False)
    if memory is not None:
        stepped, memory, extrapolated = extrapolate(memory, state.mixture, stepped, problem.start, problem.member)
    return Proposal(_where(state.step < 0, problem.start, stepped), memory, extrapolated)


def accept(problem: CenteredProblem, state: EMState, proposed: Proposal, value: Evaluation) -> EMState:
    """Return the state after a proposal was evaluated: the proposal is accepted, or the mixture of the old state is kept."""
    is_first, (proposal, memory, extrapolated) = state.step < 0, proposed
    finite = jnp.isfinite(value.objective + problem.total)
    finite &= jnp.isfinite(value.sums.scatter.sum() + value.sums.mean.sum()) & ~value.singular
    status = _status_after(state, proposal, value, finite, problem)
    fell = value.objective < state.objective
    accepted = finite if problem.reg_covar is not None else finite & ~(fell & (status != _RUNNING))
    if memory is not None and state.memory is not None:
        # a fit can end only at a plain EM step, never at an extrapolated point
        accepted = accepted & ~(extrapolated & fell)
        memory = _where(is_first, state.memory, update_memory(memory, extrapolated, accepted, status == Status.CONVERGED))
        status = jnp.where(extrapolated, _RUNNING, status)
    status = jnp.where(problem.total == 0, Status.EMPTY_DATA, status)
    objective = jnp.where(accepted, value.objective, state.objective)
    stopped = ~accepted & (status != _RUNNING)
    history = state.history
    if history is not None:  # write in place, because a choice between old and new history would copy the history
        history = history.at[state.step + 1].set(objective)
    mixture, sums, log_likelihood = _where(
        accepted, (proposal, value.sums, value.log_likelihood), (state.mixture, state.sums, state.log_likelihood)
    )
    num_steps = jnp.where(stopped, state.step, state.step + 1)
    return EMState(num_steps, mixture, sums, log_likelihood, objective, status, history, memory)


def centered_m_step(problem: CenteredProblem, mixture: Mixture, sums: ComponentSums) -> Mixture:
    """Return the result of the M-step in centred coordinates.

    A prior counts all components that were present at the start, even if they have become empty since.
    """
    regularisation = Regularisation(problem.data_covariance, problem.prior, problem.reg_covar, problem.member)
    return maximize(mixture, sums, regularisation, problem.start.weights > 0)


def finalize(problem: CenteredProblem, state: EMState, start: Mixture) -> Fit:
    """Return the result in the user's coordinates; if no step was accepted, the mixture is bitwise equal to the start.

    All entries of the history after the last step equal the last objective. If the state has no history, the history of the
    result is empty.
    """
    history = jnp.zeros(0, state.objective.dtype) if state.history is None else state.history
    history = jnp.where(jnp.arange(len(history)) <= state.step, history, state.objective)
    means = jnp.where(state.step > 0, state.mixture.means + problem.center[None], start.means)
    return Fit(
        dataclasses.replace(state.mixture, means=means),
        state.log_likelihood,
        state.objective,
        history,
        jnp.maximum(state.step, 0),
        jnp.where(state.status == _RUNNING, Status.MAX_ITER, state.status),
        component_status(problem, state.mixture, state.sums.count),
    )


def evaluate(mixture: Mixture, problem: CenteredProblem, chunk_size: int | None) -> Evaluation:
    """Return the component sums, log-likelihood and objective at a mixture that is in centred coordinates."""
    covariance_type, d = mixture.covariance_type, mixture.num_features
    factors = covariance.factorize(mixture.covariances, covariance_type, d)
    if isinstance(problem.x, IncompleteData):
        assert problem.x.rows is not None  # only batches from disk come without rows
        incomplete = IncompleteRows(problem.x.rows, problem.weight, problem.center)
        sums, log_likelihood = incomplete_component_sums(mixture, factors, incomplete, chunk_size)
    else:
        rows = Rows(problem.x, problem.weight, problem.center)
        sums, log_likelihood = component_sums(mixture, factors, rows, _tol_per_weight(problem), chunk_size)
    return with_objective(mixture, problem, factors, sums, log_likelihood)


def with_objective(
    mixture: Mixture, problem: CenteredProblem, factors: covariance.Factors, sums: ComponentSums, log_likelihood: jax.Array
) -> Evaluation:
    """Return the evaluation of a mixture, given the factors of its covariances and the sums over all rows."""
    covariance_type, d = mixture.covariance_type, mixture.num_features
    objective, present = log_likelihood, problem.start.weights > 0
    if problem.prior is not None:
        objective += problem.prior.log_density(mixture, factors, present)
    elif problem.reg_covar is None:
        trace = covariance.mahalanobis_trace(problem.data_covariance, factors, covariance_type, d)
        penalty = trace + 2 * factors.half_log_det  # (K or 1,)
        counted = present if len(penalty) == len(present) else present.any(keepdims=True)
        amount = pseudo_count(present, penalty.dtype, problem.member)
        objective -= amount / 2 * jnp.where(counted, penalty, 0).sum()
    singular = ~jnp.isfinite(factors.half_log_det).all()
    if problem.reg_covar is not None:  # other regularisations keep covariances above the rounding error of the data
        singular |= (present & (position_errors(mixture, factors) > 1)).any()
    singular &= jnp.isfinite(mixture.covariances).all()
    return Evaluation(sums, log_likelihood, objective, factors, singular)


def _tol_per_weight(problem: CenteredProblem) -> jax.Array:
    """Return the tolerance of the fit in nats per unit of weight, ()."""
    return problem.tol / nonzero(problem.total)


def _where(condition: jax.Array, new: Tree, old: Tree) -> Tree:
    """Return the leaves of `new` if the condition is True, else those of `old`."""
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), new, old)


def _gain(old: Mixture, new: Mixture, value: Evaluation) -> jax.Array:
    """Estimate how much an M-step increases the expected complete-data log-likelihood.

    The estimate is correct to second order in the change of the parameters. It lies between half of the objective's increase
    (if EM is slow) and the whole increase (if EM is fast). It is a sum of squares, so rounding of large numbers does not hide
    it. A mean that moves by no more than `position_errors` is treated as unchanged.
    """
    covariance_type, d = new.covariance_type, new.num_features
    count, whitener = value.sums.count, value.factors.whitener
    mean_move = (covariance.transform(whitener, new.means - old.means, covariance_type) ** 2).sum(-1)
    mean_move = jnp.where(mean_move > position_errors(new, value.factors) ** 2, mean_move, 0)
    weight_term = (new.weights - old.weights) ** 2 / jnp.where(new.weights > 0, new.weights, 1)
    covariance_move = covariance.transform_scatter(whitener, new.covariances - old.covariances, covariance_type) ** 2
    degrees = observed_degrees(count, covariance_type, d)
    covariance_term = covariance_move.sum(tuple(range(1, covariance_move.ndim))) * degrees
    return (count.sum() * weight_term.sum() + count @ mean_move + covariance_term.sum() / 2) / 2


def _status_after(
    state: EMState, proposal: Mixture, value: Evaluation, finite: jax.Array, problem: CenteredProblem
) -> jax.Array:
    """Return the status after a proposal; if several statuses apply, return the one of highest precedence."""
    change = value.objective - state.objective
    is_first, tol = state.step < 0, problem.tol
    rounding, of_gain = objective_error(proposal, value.factors, value.sums.count, value.objective)
    # if rounding hides the change of the objective, the movement of the parameters shows whether EM has converged
    settled = _gain(state.mixture, proposal, value) <= jnp.maximum(tol, of_gain)
    small = (abs(change) <= jnp.maximum(tol, rounding)) & (settled | (rounding <= tol))
    pairs = zip(jax.tree.leaves(proposal), jax.tree.leaves(state.mixture), strict=True)
    unchanged = jnp.array([(a == b).all() for a, b in pairs]).all()
    if problem.reg_covar is None:
        # if the parameters hardly move, a fall of the objective is due to rounding; the fit ends with the previous, better
        # state
        small |= settled & (change < 0)
    status = jnp.where(~is_first & jnp.where(tol > 0, small, unchanged), Status.CONVERGED, _RUNNING)
    if problem.reg_covar is None:
        # `rounding` does not include the error of the quadratic kernel, and may also be too small at the end of a fit: if the
        # parameters hardly move, a fall by at most tol is due to rounding, too
        of_kernel = quadratic_error(proposal, value.factors, _tol_per_weight(problem)) * problem.total
        fell = (change < -_LARGEST_FALL * rounding - of_kernel) & ~(settled & (change >= -tol))
        status = jnp.where(~is_first & fell, Status.DECREASED, status)
    return jnp.where(finite, status, jnp.where(is_first & ~value.singular, Status.NONFINITE, Status.SINGULAR))


def component_status(problem: CenteredProblem, mixture: Mixture, count: jax.Array) -> jax.Array:
    """Return the ComponentStatus of each component, (K,), given the number of points that it holds."""
    covariance_type, d = mixture.covariance_type, mixture.num_features
    status = jnp.full(count.shape, ComponentStatus.OK)
    if problem.prior is None:
        status = jnp.where(holds_too_few(count, fewest_points(problem)), ComponentStatus.FEW_POINTS, status)
        if problem.reg_covar is None:
            holders = count
            if problem.member is not None:
                holders = jnp.where(problem.member.property_of_type(covariance_types.is_shared), count.sum(), count)
            floor = PSEUDO_COUNT * problem.data_covariance / (covariance.pool_counts(holders, covariance_type) + PSEUDO_COUNT)
        else:
            floor = covariance.ridge(jnp.zeros_like(mixture.covariances), jnp.full(1, problem.reg_covar), covariance_type)
        ridged = covariance.relative_ridge(mixture.covariances, ridge_fraction(d, count.dtype), covariance_type)
        floor += ridged - mixture.covariances
        factors = covariance.factorize(mixture.covariances, covariance_type, d)
        fraction = covariance.floor_fraction(floor, factors, covariance_type)  # (K or 1,)
        status = jnp.where(fraction >= 0.5, ComponentStatus.AT_FLOOR, status)
    smallest = count.sum() * jnp.finfo(count.dtype).tiny ** 0.5
    return jnp.where((mixture.weights == 0) | (count <= smallest), ComponentStatus.EMPTY, status)


def fewest_points(problem: CenteredProblem) -> jax.Array | int:
    """Return the smallest number of points that determine the covariance of one component."""
    start = problem.start
    if problem.member is not None:
        return problem.member.fewest_points(start.num_features)
    return covariance_types.fewest_points(start.covariance_type, start.num_features)
