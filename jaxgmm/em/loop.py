"""EM as a state machine: `frame` what stays, `begin`, `step` while `is_running`, `finish`.

One program holds one E-step: a fit begins at step -1, where the M-step's proposal is set aside and the start itself is
evaluated. A proposal that is not finite is refused: the last finite state stays, and the status says why. Log-likelihood,
objective and parameters of a state always belong together. `fit` runs one such machine, `fit_many` lanes of them.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from .. import covariance
from ..chunking import rows_per_chunk
from ..mixture import Mixture
from ..priors.interface import MixturePrior
from ..row_sums import nonzero, sum_over_rows
from .acceleration import Memory, after, extrapolate, start_memory
from .kernels import Summary, summary_sums
from .m_step import PSEUDO_COUNT, data_spread, maximize, rounding_ridge
from .result import ComponentStatus, Fit, Status

_RUNNING = -1


class Problem(NamedTuple):
    """What the objective depends on besides the mixture, in the user's coordinates."""

    x: jax.Array
    weight: jax.Array | None
    prior: MixturePrior | None
    reg_covar: jax.Array | None


class Options(NamedTuple):
    """The static ones. history: False keeps none, for many lanes."""

    max_iter: int
    accelerate: bool
    chunk_size: int | None
    history: bool = True


class Frame(NamedTuple):
    """What stays over a fit: the problem in coordinates about the data's centre, which the E-step subtracts a chunk at a time.

    shift (D,): the centre. start, prior: about it. spread: V, the data's covariance in the type's storage. total: weight of the
    data. tol: of the whole objective, nats.
    """

    x: jax.Array
    weight: jax.Array | None
    prior: MixturePrior | None
    reg_covar: jax.Array | None
    start: Mixture
    shift: jax.Array
    spread: jax.Array
    total: jax.Array
    tol: jax.Array


class State(NamedTuple):
    """Where a fit stands. memory: of the acceleration, else None."""

    step: jax.Array
    mixture: Mixture
    summary: Summary
    log_likelihood: jax.Array
    objective: jax.Array
    status: jax.Array
    history: jax.Array | None
    memory: Memory | None


class Value(NamedTuple):
    """A mixture, evaluated. singular: finite covariances that do not factorise."""

    summary: Summary
    log_likelihood: jax.Array
    objective: jax.Array
    factors: covariance.Factors
    singular: jax.Array


def frame(start: Mixture, problem: Problem, tol: jax.Array) -> Frame:
    """The frame of a fit, from one pass over the data."""
    x, weight, prior, reg_covar = problem
    first = x[0] if weight is None else x[jnp.argmax(weight > 0)]
    kind = start.covariance_type

    def sums(rows: jax.Array, w: jax.Array) -> tuple:
        y = jnp.where((w > 0)[:, None], rows - first, 0).T  # (D, n)
        return w.sum(), covariance.einsum("dn,n->d", y, w), covariance.weighted_scatter(w[None], y[None], kind)[0]

    total, moment, scatter = sum_over_rows(sums, x, weight, rows_per_chunk(1, x.shape[1], x.dtype))
    if weight is not None:  # nothing can be weighed by less than nothing
        total = jnp.where((weight >= 0).all(), total, jnp.nan)
    safe = nonzero(total)
    center = first + moment / safe
    shift = jax.lax.stop_gradient(jnp.where(jnp.isfinite(center), center, 0))
    about = (scatter - covariance.outer(moment / jnp.sqrt(safe), kind))[None]
    spread = data_spread(total[None], (center - shift)[None], about, shift, kind)
    if prior is not None:
        prior = prior.translate(shift)
    start = dataclasses.replace(start, means=start.means - shift)
    return Frame(x, weight, prior, reg_covar, start, shift, spread, total, tol * total)


def begin(fixed: Frame, options: Options) -> State:
    """The state before anything was evaluated, at step -1."""
    weights, means = fixed.start.weights, fixed.start.means
    blank = Summary(weights, means, covariance.outer(means, fixed.start.covariance_type))
    nothing = jnp.asarray(-jnp.inf, means.dtype)
    return State(
        jnp.array(-1),
        fixed.start,
        jax.tree.map(jnp.zeros_like, blank),
        nothing,
        nothing,
        jnp.array(_RUNNING),
        jnp.full(options.max_iter + 1, jnp.nan, means.dtype) if options.history else None,
        start_memory(fixed.start) if options.accelerate else None,
    )


def is_running(state: State, options: Options) -> jax.Array:
    """Whether there is a step to take."""
    return (state.status == _RUNNING) & (state.step < options.max_iter)


def step(fixed: Frame, state: State, options: Options) -> State:
    """One EM step: the proposal, its value, and what becomes of it."""
    starts = state.step < 0
    stepped = m_step_of(fixed, state.mixture, state.summary)
    memory, ahead = state.memory, jnp.array(False)
    if options.accelerate:
        stepped, memory, ahead = extrapolate(memory, state.mixture, stepped, fixed.start)
    proposal = _choose(starts, fixed.start, stepped)
    value = evaluate(proposal, fixed, options.chunk_size)
    finite = jnp.isfinite(value.objective + fixed.total) & jnp.isfinite(value.summary.scatter.sum() + value.summary.mean.sum())
    status = _judge(state, proposal, value, finite, fixed)
    fell = value.objective < state.objective
    keep = finite if fixed.reg_covar is not None else finite & ~(fell & (status != _RUNNING))
    if options.accelerate:
        # an extrapolated point is only ever taken on the way: it neither fails nor converges a fit, plain EM's next one does
        keep = keep & ~(ahead & fell)
        memory = _choose(starts, state.memory, after(memory, ahead, keep, status == Status.CONVERGED))
        status = jnp.where(ahead, _RUNNING, status)
    status = jnp.where(fixed.total == 0, Status.EMPTY_DATA, status)
    best = jnp.where(keep, value.objective, state.objective)
    stopped = ~keep & (status != _RUNNING)
    history = state.history
    if history is not None:  # written in place, outside the choice between old and new
        history = history.at[state.step + 1].set(jnp.where(stopped, jnp.nan, best))
    mixture, summary, log_likelihood = _choose(
        keep, (proposal, value.summary, value.log_likelihood), (state.mixture, state.summary, state.log_likelihood)
    )
    count = jnp.where(stopped, state.step, state.step + 1)
    return State(count, mixture, summary, log_likelihood, best, status, history, memory)


def m_step_of(fixed: Frame, mixture: Mixture, summary: Summary) -> Mixture:
    """The M-step in the frame: a component that has emptied on the way is still the prior's."""
    return maximize(mixture, summary, fixed.spread, fixed.prior, fixed.reg_covar, fixed.start.weights > 0)


def finish(fixed: Frame, state: State, start: Mixture) -> Fit:
    """The result in the user's coordinates; a start that was never left comes back to the last bit."""
    means = jnp.where(state.step > 0, state.mixture.means + fixed.shift, start.means)
    return Fit(
        dataclasses.replace(state.mixture, means=means),
        state.log_likelihood,
        state.objective,
        state.history,
        jnp.maximum(state.step, 0),
        jnp.where(state.status == _RUNNING, Status.MAX_ITER, state.status),
        _component_status(fixed, state),
    )


def evaluate(mixture: Mixture, fixed: Frame, chunk_size: int | None) -> Value:
    """Summary, log-likelihood and objective at a mixture in the frame's coordinates."""
    kind, d = mixture.covariance_type, mixture.num_features
    factors = covariance.factorize(mixture.covariances, kind, d)
    summary, log_likelihood = summary_sums(mixture, factors, fixed.x, fixed.weight, fixed.shift, chunk_size)
    objective, present = log_likelihood, fixed.start.weights > 0
    if fixed.prior is not None:
        objective += fixed.prior.log_density(mixture, factors, present)
    elif fixed.reg_covar is None:
        penalty = covariance.mahalanobis_trace(fixed.spread, factors, kind, d) + 2 * factors.half_log_det  # (K | 1,)
        counts = present if len(penalty) == len(present) else present.any(keepdims=True)
        objective -= PSEUDO_COUNT / 2 * jnp.where(counts, penalty, 0).sum()
    singular = jnp.isfinite(mixture.covariances).all() & ~jnp.isfinite(factors.half_log_det).all()
    return Value(summary, log_likelihood, objective, factors, singular)


def _choose(condition: jax.Array, new: NamedTuple | Mixture, old: NamedTuple | Mixture) -> NamedTuple | Mixture:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), new, old)


def _rounding(mixture: Mixture, value: Value, total: jax.Array) -> tuple[jax.Array, jax.Array]:
    """How far rounding alone may move the objective, and the gain of a step.

    A flat component carries the rounding of a feature's variance into its conditional variance: relatively eps flatness^2, to
    second order in the objective (first-order terms vanish at the M-step's maximum).
    """
    kind, eps = mixture.covariance_type, jnp.finfo(total.dtype).eps
    flatness = 1.0
    if covariance.is_dense(kind):
        spread = covariance.variances(mixture.covariances, kind, mixture.num_features)
        flatness = (jnp.sqrt(spread) / covariance.lower_diagonal(value.factors, kind)).max()
    of_gain = total * jnp.minimum(4 * eps * flatness**2, 1) ** 2
    return eps * flatness * (abs(value.objective) + total) + of_gain, of_gain


def _gain(old: Mixture, new: Mixture, value: Value) -> jax.Array:
    """What an M-step gains in its expected complete-data log-likelihood, to second order in its move; half of the objective's
    gain, or all of it, as EM's rate goes from slow to fast. A sum of squares: no rounding of large numbers hides it.
    """
    kind, d = new.covariance_type, new.num_features
    count, whitener = value.summary.count, value.factors.whitener
    moved = covariance.transform(whitener, new.means - old.means, kind)
    shares = (new.weights - old.weights) ** 2 / jnp.where(new.weights > 0, new.weights, 1)
    turned = covariance.transform_scatter(whitener, new.covariances - old.covariances, kind) ** 2
    turned = turned.sum(tuple(range(1, turned.ndim))) * covariance.observed_degrees(count, kind, d)
    return (count.sum() * shares.sum() + count @ (moved**2).sum(-1) + turned.sum() / 2) / 2


def _judge(state: State, proposal: Mixture, value: Value, finite: jax.Array, fixed: Frame) -> jax.Array:
    """The status after a proposal, in order of precedence."""
    change = value.objective - state.objective
    first, tol = state.step < 0, fixed.tol
    rounding, of_gain = _rounding(proposal, value, fixed.total)
    # where the objective's own rounding hides a change, the move tells whether there is further to go
    settled = _gain(state.mixture, proposal, value) <= jnp.maximum(tol, of_gain)
    small = (abs(change) <= jnp.maximum(tol, rounding)) & (settled | (rounding <= tol))
    same = jnp.array(
        [(a == b).all() for a, b in zip(jax.tree.leaves(proposal), jax.tree.leaves(state.mixture), strict=True)]
    ).all()
    if fixed.reg_covar is None:
        # a settled step that EM takes downhill within rounding: the better state before it stays
        small |= settled & (change < 0)
    status = jnp.where(~first & jnp.where(tol > 0, small, same), Status.CONVERGED, _RUNNING)
    if fixed.reg_covar is None:
        status = jnp.where(~first & (tol > 0) & (change < -64 * rounding), Status.DECREASED, status)
    return jnp.where(finite, status, jnp.where(first & ~value.singular, Status.NONFINITE, Status.SINGULAR))


def _component_status(fixed: Frame, state: State) -> jax.Array:
    mixture, count = state.mixture, state.summary.count
    kind, d = mixture.covariance_type, mixture.num_features
    status = jnp.where(count < d + 1, ComponentStatus.FEW_POINTS, ComponentStatus.OK)
    if fixed.prior is None:
        if fixed.reg_covar is None:
            floor = PSEUDO_COUNT * fixed.spread / (covariance.pool_counts(count, kind) + PSEUDO_COUNT)
        else:
            floor = covariance.ridge(jnp.zeros_like(mixture.covariances), jnp.full(1, fixed.reg_covar), kind)
        floor += covariance.relative_ridge(mixture.covariances, rounding_ridge(d, count.dtype), kind) - mixture.covariances
        share = covariance.floor_share(floor, covariance.factorize(mixture.covariances, kind, d), kind)  # (K | 1,)
        status = jnp.where(share >= 0.5, ComponentStatus.AT_FLOOR, status)
    smallest = count.sum() * jnp.finfo(count.dtype).tiny ** 0.5
    return jnp.where((mixture.weights == 0) | (count <= smallest), ComponentStatus.EMPTY, status)
