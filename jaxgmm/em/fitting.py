"""fit: EM in one `lax.while_loop`.

The loop holds one E-step: it is entered at step -1, where the M-step's proposal is set aside and the start itself is
evaluated. A proposal that is not finite is refused: the last finite state stays, and the status says why. Log-likelihood,
objective and parameters of a state always belong together.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .. import covariance
from ..checks import (
    as_data,
    as_sample_weight,
    caller_warns,
    check_count,
    check_flag,
    check_number,
    check_rows_finite,
    is_traced,
)
from ..mixture import Mixture, check_mixture
from ..prior import IndependentPrior, Prior, log_prior_factored
from .accelerate import Memory, after, extrapolate, start_memory
from .implicit import tangent_of_fixed_point
from .kernels import moment_sums
from .moments import PSEUDO_COUNT, Moments, Summary, check_regularisation, maximize, rounding_ridge, summarize
from .result import ComponentStatus, Fit, Status


class _State(NamedTuple):
    step: jax.Array
    mixture: Mixture
    summary: Summary
    log_likelihood: jax.Array
    objective: jax.Array
    status: jax.Array
    history: jax.Array
    memory: Memory | None


class _Problem(NamedTuple):
    """What the objective depends on besides the mixture; data in the user's coordinates, the prior's too."""

    x: jax.Array
    weight: jax.Array | None
    prior: Prior | IndependentPrior | None
    reg_covar: jax.Array | None


_RUNNING = -1


def fit(
    mixture: Mixture,
    x: Any,
    prior: Prior | None = None,
    *,
    sample_weight: Any = None,
    tol: Any = 1e-8,
    max_iter: int = 1000,
    reg_covar: Any = None,
    accelerate: bool = False,
    chunk_size: int | None = None,
) -> Fit:
    """EM from a start: maximum likelihood, or the posterior mode under a prior. Bishop (2006), section 9.2.2.

    Without a prior the likelihood, which is unbounded, is kept from collapse by a penalty worth 1e-6 of an observation (see
    `m_step`); with one the mode is that of the density of (weights, means, covariances).

    Differentiable with respect to x, sample_weight, prior and reg_covar, in forward and reverse mode, by the implicit function
    theorem (mixture, log_likelihood and objective; the start gets zero).

    Args:
        mixture: the start, as from `initialize`. Weights of exactly 0 stay 0: absent components.
        x: (N, D).
        prior: a Prior, or a conjugate IndependentPrior, for MAP.
        sample_weight: (N,) >= 0: an integer weight counts as repetition, 0 silences a row, whatever it holds.
        tol: change of the objective per unit of weight and step, nats, at which EM has converged. 0: run until max_iter
            or until a step changes nothing at all. Otherwise a change below the objective's rounding converges too.
        max_iter: steps at most.
        reg_covar: scikit-learn's regularisation instead: added to each variance after each step, data units squared; 0 is
            plain maximum likelihood. The objective may then fall.
        accelerate: Anderson steps, taken only where the objective does not fall; for overlapping components. max_iter and
            num_iter then count E-steps. Not with reg_covar, whose steps may lower their objective.
        chunk_size: rows worked through at a time; by default a number that fits the cache.

    Returns:
        A Fit, in x's float dtype.

    Raises:
        ValueError, TypeError: data, start or options that make no sense; traced values are not looked at, the status tells.

    Warns:
        RuntimeWarning: eager only: the fit did not converge, a column is constant, D >= N, components hold too few points,
            or the start cannot be told apart from fewer components.

    Example:
        >>> import jax, jaxgmm
        >>> x = jaxgmm.datasets.load("faithful")
        >>> start = jaxgmm.initialize(jax.random.key(0), x, num_components=2)
        >>> round(float(jaxgmm.fit(start, x).log_likelihood), 1)
        -1130.3
    """
    mixture, x, weight = _at_the_door(mixture, x, prior, sample_weight)
    check_number(tol, "tol")
    check_count(max_iter, "max_iter", 0)
    check_regularisation(prior, reg_covar, mixture)
    check_flag(accelerate, "accelerate")
    if accelerate and reg_covar is not None:
        raise ValueError(
            "accelerate and reg_covar were both given; acceleration needs an objective that no step lowers: use the "
            "default regularisation or a prior."
        )
    if chunk_size is not None:
        check_count(chunk_size, "chunk_size")
    cast = partial(jax.tree.map, lambda leaf: jnp.asarray(leaf, x.dtype))
    problem = _Problem(x, weight, cast(prior), cast(reg_covar))
    result = _fit(cast(mixture), problem, cast(tol), max_iter, bool(accelerate), chunk_size)
    if not is_traced(result, mixture, x, weight):
        warn_of(result, mixture, x, weight)
    return result


def _at_the_door(mixture: Mixture, x: Any, prior: Any, sample_weight: Any) -> tuple[Mixture, jax.Array, jax.Array | None]:
    check_mixture(mixture)
    if mixture.batch_shape:
        raise ValueError(f"mixture is a stack of shape {mixture.batch_shape}; one start was expected: use jax.vmap.")
    x = as_data(check_rows_finite(x, sample_weight), check_values=True, num_features=mixture.num_features)
    weight = as_sample_weight(sample_weight, len(x), x.dtype, check_values=True)
    if len(x) == 0:
        raise ValueError(f"x has shape {x.shape}: no rows; at least one a component was expected.")
    if not is_traced(mixture, x, weight):
        with jax.ensure_compile_time_eval():  # constants inside somebody's jit
            rows = len(x) if weight is None else int((weight > 0).sum())
            present = int((mixture.weights > 0).sum())
        if rows < present:
            raise ValueError(
                f"x has {rows} rows and the mixture {present} components; at least one row a component was "
                "expected: use fewer components."
            )
        if rows == 1 and prior is None:
            raise ValueError("x has one row, from which no covariance can be estimated; give more rows, or a prior.")
    return mixture, x, weight


@partial(jax.custom_jvp, nondiff_argnums=(3, 4, 5))
def _solve(start: Mixture, problem: _Problem, tol: jax.Array, max_iter: int, accelerate: bool, chunk_size: int | None) -> Fit:
    shift = _center(problem)
    present = start.weights > 0
    total = jnp.asarray(len(problem.x), problem.x.dtype) if problem.weight is None else problem.weight.sum()
    origin = dataclasses.replace(start, means=start.means - shift)
    problem = _shifted(problem, shift)

    def step(state: _State) -> _State:
        stepped = maximize(state.mixture, state.summary, problem.prior, problem.reg_covar)
        memory, ahead = state.memory, jnp.array(False)
        if accelerate:
            stepped, memory, ahead = extrapolate(memory, state.mixture, stepped, origin)
        proposal = jax.tree.map(lambda new, old: jnp.where(state.step < 0, old, new), stepped, state.mixture)
        summary, log_likelihood, objective, rounding = _evaluate(proposal, problem, shift, present, chunk_size)
        finite = jnp.isfinite(objective) & jnp.isfinite(summary.scatter.sum() + summary.mean.sum())
        status = _judge(state, proposal, objective, finite, tol * total, rounding, problem.reg_covar is None)
        fell = (objective < state.objective) & (tol > 0)
        keep = finite if problem.reg_covar is not None else finite & ~fell
        if accelerate:
            # an extrapolated point is only ever taken on the way: it neither fails nor converges a fit, plain EM's next one does
            keep = keep & ~(ahead & (objective < state.objective))
            memory = after(memory, ahead, keep, status == Status.CONVERGED)
            status = jnp.where(ahead, _RUNNING, status)
            memory = jax.tree.map(lambda new, old: jnp.where(state.step < 0, old, new), memory, state.memory)
        status = jnp.where(total > 0, status, Status.EMPTY_DATA)
        # written in place, outside the choice between old and new
        best = jnp.where(keep, objective, state.objective)
        stopped = ~keep & (status != _RUNNING)
        history = state.history.at[state.step + 1].set(jnp.where(stopped, jnp.nan, best))
        new = (proposal, summary, log_likelihood)
        old = (state.mixture, state.summary, state.log_likelihood)
        new = jax.tree.map(lambda a, b: jnp.where(keep, a, b), new, old)
        return _State(jnp.where(stopped, state.step, state.step + 1), *new, best, status, history, memory)

    def running(state: _State) -> jax.Array:
        return (state.status == _RUNNING) & (state.step < max_iter)

    nothing = jnp.asarray(-jnp.inf, problem.x.dtype)
    summary = jax.eval_shape(lambda: _evaluate(origin, problem, shift, present, chunk_size)[0])
    blank = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), summary)
    state = _State(
        jnp.array(-1),
        origin,
        blank,
        nothing,
        nothing,
        jnp.array(_RUNNING),
        jnp.full(max_iter + 1, jnp.nan, problem.x.dtype),
        start_memory(origin) if accelerate else None,
    )
    state = jax.lax.while_loop(running, step, state)
    # a start that was never left comes back to the last bit
    mixture = dataclasses.replace(state.mixture, means=jnp.where(state.step > 0, state.mixture.means + shift, start.means))
    return Fit(
        mixture,
        state.log_likelihood,
        state.objective,
        state.history,
        jnp.maximum(state.step, 0),
        jnp.where(state.status == _RUNNING, Status.MAX_ITER, state.status),
        _component_status(state, problem),
    )


@_solve.defjvp
def _solve_jvp(max_iter: int, accelerate: bool, chunk_size: int | None, primals: tuple, tangents: tuple) -> tuple[Fit, Fit]:
    start, problem, tol = primals
    fit = _solve(start, problem, tol, max_iter, accelerate, chunk_size)
    shift = jax.lax.stop_gradient(_center(problem))
    present = start.weights > 0

    def evaluate(theta: Mixture, problem: _Problem) -> tuple:
        return _evaluate(theta, _shifted(problem, shift), shift, present, chunk_size)

    def step(theta: Mixture, problem: _Problem) -> Mixture:
        return maximize(theta, evaluate(theta, problem)[0], _shifted(problem, shift).prior, problem.reg_covar)

    theta = dataclasses.replace(fit.mixture, means=fit.mixture.means - shift)
    sound = (fit.status != Status.SINGULAR) & (fit.status != Status.NONFINITE)
    tangent = tangent_of_fixed_point(step, theta, problem, tangents[1])
    tangent = jax.tree.map(lambda leaf: jnp.where(sound, leaf, jnp.nan), tangent)
    _, values = jax.jvp(lambda t, p: evaluate(t, p)[1:3], (theta, problem), (tangent, tangents[1]))
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, jax.dtypes.float0), (fit.num_iter, fit.status, fit.component_status))
    return fit, Fit(tangent, *values, jnp.zeros_like(fit.history), *zeros)


_fit = jax.jit(_solve, static_argnums=(3, 4, 5))


def _shifted(problem: _Problem, shift: jax.Array) -> _Problem:
    """The prior moved with the data, which the E-step shifts a chunk at a time."""
    prior = problem.prior
    return problem if prior is None else problem._replace(prior=dataclasses.replace(prior, mean=prior.mean - shift))


def _evaluate(
    mixture: Mixture, problem: _Problem, shift: jax.Array, present: jax.Array, chunk_size: int | None
) -> tuple[Summary, jax.Array, jax.Array, jax.Array]:
    """Summary, log-likelihood and objective at a mixture in shifted coordinates, and the objective's rounding error."""
    kind, d = mixture.covariance_type, mixture.num_features
    factors = covariance.factorize(mixture.covariances, kind, d)
    moments = Moments(*moment_sums(mixture, factors, problem.x, problem.weight, shift, chunk_size))
    summary = summarize(mixture, factors, moments, shift)
    objective = moments.log_likelihood
    if problem.prior is not None:
        objective += log_prior_factored(mixture, factors, problem.prior, present)
    elif problem.reg_covar is None:
        penalty = covariance.mahalanobis_trace(summary.spread, factors, kind, d) + 2 * factors.half_log_det  # (K | 1,)
        counts = present if len(penalty) == len(present) else present.any(keepdims=True)
        objective -= PSEUDO_COUNT / 2 * jnp.where(counts, penalty, 0).sum()
    return summary, moments.log_likelihood, objective, _rounding(mixture, factors, objective, summary.count.sum())


def _rounding(mixture: Mixture, factors: covariance.Factors, objective: jax.Array, total: jax.Array) -> jax.Array:
    """How far the objective may move by rounding alone.

    A flat component carries the rounding of a feature's variance into its conditional variance: relatively eps flatness^2, to
    second order in the objective (first-order terms vanish at the M-step's maximum).
    """
    kind, eps = mixture.covariance_type, jnp.finfo(objective.dtype).eps
    flatness = 1.0
    if covariance.is_dense(kind):
        spread = covariance.variances(mixture.covariances, kind, mixture.num_features)
        flatness = (jnp.sqrt(spread) / covariance.lower_diagonal(factors, kind)).max()
    return eps * flatness * (abs(objective) + total) + total * jnp.minimum(4 * eps * flatness**2, 1) ** 2


def _center(problem: _Problem) -> jax.Array:
    """A point amid the data (D,): near enough to the mean that products about it lose nothing."""
    x, weight = problem.x, problem.weight
    if weight is None:
        center = x[0] + (x - x[0]).mean(0)
    else:
        first, total = x[jnp.argmax(weight > 0)], weight.sum()
        center = first + covariance.einsum("nd,n->d", jnp.where(weight[:, None] > 0, x - first, 0), weight) / jnp.where(
            total > 0, total, 1
        )
    return jnp.where(jnp.isfinite(center), center, 0)


def _judge(
    state: _State,
    proposal: Mixture,
    objective: jax.Array,
    finite: jax.Array,
    tol: jax.Array,
    rounding: jax.Array,
    monotone: bool,
) -> jax.Array:
    """The status after a proposal, in order of precedence."""
    change = objective - state.objective
    first = state.step < 0
    small = abs(change) <= jnp.maximum(tol, rounding)
    same = jnp.array(
        [(a == b).all() for a, b in zip(jax.tree.leaves(proposal), jax.tree.leaves(state.mixture), strict=True)]
    ).all()
    status = jnp.where(~first & jnp.where(tol > 0, small, same), Status.CONVERGED, _RUNNING)
    if monotone:
        # a step that EM takes downhill within rounding says that there is no further to go: the better state before it stays
        downhill = jnp.where(change < -64 * rounding, Status.DECREASED, Status.CONVERGED)
        status = jnp.where(~first & (tol > 0) & (change < 0), downhill, status)
    return jnp.where(finite, status, jnp.where(first & ~_is_singular(proposal), Status.NONFINITE, Status.SINGULAR))


def _is_singular(mixture: Mixture) -> jax.Array:
    """Finite covariances that do not factorise."""
    factors = covariance.factorize(mixture.covariances, mixture.covariance_type, mixture.num_features)
    return jnp.isfinite(mixture.covariances).all() & ~jnp.isfinite(factors.half_log_det).all()


def _component_status(state: _State, problem: _Problem) -> jax.Array:
    mixture, count, reg_covar = state.mixture, state.summary.count, problem.reg_covar
    kind, d = mixture.covariance_type, mixture.num_features
    status = jnp.where(count < d + 1, ComponentStatus.FEW_POINTS, ComponentStatus.OK)
    if problem.prior is None:
        if reg_covar is None:
            floor = PSEUDO_COUNT * state.summary.spread / (covariance.pool_counts(count, kind) + PSEUDO_COUNT)
        else:
            floor = covariance.ridge(jnp.zeros_like(mixture.covariances), jnp.full(1, reg_covar), kind)
        floor += covariance.relative_ridge(mixture.covariances, rounding_ridge(d, count.dtype), kind) - mixture.covariances
        share = covariance.floor_share(floor, covariance.factorize(mixture.covariances, kind, d), kind)  # (K | 1,)
        status = jnp.where(share >= 0.5, ComponentStatus.AT_FLOOR, status)
    smallest = count.sum() * jnp.finfo(count.dtype).tiny ** 0.5
    return jnp.where((mixture.weights == 0) | (count <= smallest), ComponentStatus.EMPTY, status)


def warn_of(result: Fit, start: Mixture, x: jax.Array, weight: jax.Array | None) -> None:
    """Warns of what an eager fit has to say: its status, and data and components that it cannot help."""
    if int(result.status) != Status.CONVERGED:
        caller_warns(Status(int(result.status)).sentence)
    kept = np.asarray(x if weight is None else x[weight > 0])
    constant = np.flatnonzero((kept == kept[:1]).all(0)) if len(kept) > 1 else np.array([], int)
    if constant.size:
        caller_warns(
            f"x is constant in column {', '.join(map(str, constant[:10]))}: its variance is held at the rounding of its "
            "values; leave the column out."
        )
    n, d = kept.shape
    if d >= n > 1:
        caller_warns(f"x has {d} features and {n} rows: covariances are not determined; use 'diag' or 'spherical', or a prior.")
    for state in (ComponentStatus.AT_FLOOR, ComponentStatus.FEW_POINTS):
        which = np.flatnonzero(np.asarray(result.component_status) == state)
        if which.size:
            caller_warns(f"Components {', '.join(map(str, which))}: {state.sentence}")
    means = np.asarray(start.means)[np.asarray(start.weights) > 0]
    if len(means) > 1 and (means == means[0]).all() and (np.ptp(np.asarray(start.covariances), axis=0) == 0).all():
        caller_warns("The start's components are all the same, a saddle that EM cannot leave; start from jaxgmm.initialize.")
