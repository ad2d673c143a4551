"""fit: EM in one `lax.while_loop`, with its own diagnosis.

The loop holds one E-step: it is entered at step -1, where the M-step's proposal is set aside and the start itself is
evaluated. A proposal that is not finite is refused: the last finite state stays, and the status says why. Log-likelihood,
objective and parameters of a state always belong together.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from enum import IntEnum
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .. import covariance
from ..checks import as_data, as_sample_weight, caller_warns, check_count, check_number, check_rows_finite, is_traced
from ..mixture import Mixture, describe
from ..prior import Prior, log_prior
from .moments import PSEUDO_COUNT, Summary, accumulate_moments, check_regularisation, maximize, rounding_ridge, summarize


class Status(IntEnum):
    """How a fit ended. `Status(int(fit.status)).sentence` says it in words."""

    CONVERGED = 0
    MAX_ITER = 1
    SINGULAR = 2
    NONFINITE = 3
    EMPTY_DATA = 4
    DECREASED = 5

    @property
    def sentence(self) -> str:
        """What happened, likely causes, what to try."""
        return _STATUS_SENTENCES[self]


_STATUS_SENTENCES = {
    Status.CONVERGED: "EM converged: the objective changed by no more than tol per unit of weight.",
    Status.MAX_ITER: "EM stopped at max_iter before the objective settled to tol. Components may overlap, or there may be more "
                     "of them than the data show; raise max_iter or tol, use accelerate=True, or fewer components.",
    Status.SINGULAR: "A covariance became singular and the last finite state was kept. A component sits on too few or collinear "
                     "points; leave reg_covar at None, raise it, use a prior, fewer components or a simpler covariance_type.",
    Status.NONFINITE: "The start has no finite objective. The data hold NaN or infinity or squares that overflow, or the start "
                      "or the prior does; clean or rescale them, or give such rows sample_weight 0.",
    Status.EMPTY_DATA: "There are no data: every sample_weight is 0. The start was returned as it came.",
    Status.DECREASED: "The objective fell by more than rounding and the best state was kept. The precision is exhausted, as by "
                      "nearly singular components in float32; use float64, a prior, or fewer components.",
}


class ComponentStatus(IntEnum):
    """What is to be said of one component. `.sentence` says it in words."""

    OK = 0
    EMPTY = 1
    AT_FLOOR = 2
    FEW_POINTS = 3

    @property
    def sentence(self) -> str:
        """What it means, and what to try."""
        return _COMPONENT_SENTENCES[self]


_COMPONENT_SENTENCES = {
    ComponentStatus.OK: "The component is sound.",
    ComponentStatus.EMPTY: "The component holds no data (weight 0, or only its prior); use fewer components or another start.",
    ComponentStatus.AT_FLOOR: "The component's covariance is held up by the regularisation in some direction: a spike or a flat "
                              "cluster; use a prior, fewer components or a simpler covariance_type.",
    ComponentStatus.FEW_POINTS: "The component holds fewer than D + 1 observations, too few for a covariance; use a prior, fewer "
                                "components or a simpler covariance_type.",
}


@partial(jax.tree_util.register_dataclass, meta_fields=[],
         data_fields=["mixture", "log_likelihood", "objective", "history", "num_iter", "status", "component_status"])
@dataclass(frozen=True, eq=False)
class Fit:
    """A point estimate with its diagnosis; vmapped, all fields gain a leading (B,).

    Attributes:
        mixture: the estimate, in data units.
        log_likelihood: (), weighted total at `mixture`, nats.
        objective: (), what was maximised: the log-likelihood plus log-prior or minus penalty, nats.
        history: (max_iter + 1,), the objective at the start and after each step, NaN after num_iter.
        num_iter: (), EM steps taken.
        status: (), a Status.
        component_status: (K,), a ComponentStatus each.
    """

    mixture: Mixture
    log_likelihood: jax.Array
    objective: jax.Array
    history: jax.Array
    num_iter: jax.Array
    status: jax.Array
    component_status: jax.Array

    @property
    def converged(self) -> jax.Array:
        """(), boolean: status is CONVERGED, and nothing else."""
        return self.status == Status.CONVERGED

    def __repr__(self) -> str:
        if is_traced(self) or not isinstance(self.status, jax.Array | np.ndarray):
            return "Fit(traced)"
        if self.status.ndim:
            done = int((np.asarray(self.status) == Status.CONVERGED).sum())
            return f"Fit stacked {self.status.shape}: {done} of {self.status.size} converged\n{describe(self.mixture)}"
        words = [f"Fit {Status(int(self.status)).name} after {int(self.num_iter)} steps: log-likelihood "
                 f"{float(self.log_likelihood):.4f}, objective {float(self.objective):.4f} (nats)", describe(self.mixture)]
        words += [f"  component {k}: {ComponentStatus(int(s)).name}" for k, s in enumerate(self.component_status) if s]
        return "\n".join(words)


class _State(NamedTuple):
    step: jax.Array
    mixture: Mixture
    summary: Summary
    log_likelihood: jax.Array
    objective: jax.Array
    status: jax.Array
    history: jax.Array


_RUNNING = -1


def fit(mixture: Mixture, x: Any, prior: Prior | None = None, *, sample_weight: Any = None, tol: Any = 1e-8, max_iter: int = 1000,
        reg_covar: Any = None, chunk_size: int | None = None) -> Fit:
    """EM from a start: maximum likelihood, or the posterior mode under a prior. Bishop (2006), section 9.2.2.

    Without a prior the likelihood, which is unbounded, is kept from collapse by a penalty worth 1e-6 of an observation (see
    `m_step`); with one the mode is that of the density of (weights, means, covariances).

    Args:
        mixture: the start, as from `initialize`. Weights of exactly 0 stay 0: absent components.
        x: (N, D).
        prior: a Prior, for MAP.
        sample_weight: (N,) >= 0: an integer weight counts as repetition, 0 silences a row, whatever it holds.
        tol: change of the objective per unit of weight and step, nats, at which EM has converged. 0: run until max_iter
            or until a step changes nothing at all. Otherwise a change below the objective's rounding converges too.
        max_iter: steps at most.
        reg_covar: scikit-learn's regularisation instead: added to each variance after each step, data units squared; 0 is
            plain maximum likelihood. The objective may then fall.
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
    if chunk_size is not None:
        check_count(chunk_size, "chunk_size")
    cast = partial(jax.tree.map, lambda leaf: jnp.asarray(leaf, x.dtype))
    result = _fit(cast(mixture), x, weight, cast(prior), cast(tol), cast(reg_covar), max_iter=max_iter, chunk_size=chunk_size)
    if not is_traced(result):
        _warn(result, mixture, x, weight)
    return result


def _at_the_door(mixture: Mixture, x: Any, prior: Any, sample_weight: Any) -> tuple[Mixture, jax.Array, jax.Array | None]:
    if not isinstance(mixture, Mixture):
        raise TypeError(f"mixture is {type(mixture).__name__}; a jaxgmm.Mixture to start from was expected, as from "
                        "jaxgmm.initialize(key, x, num_components=K).")
    if mixture.batch_shape:
        raise ValueError(f"mixture is a stack of shape {mixture.batch_shape}; one start was expected: use jax.vmap.")
    x = as_data(check_rows_finite(x, sample_weight), check_values=True, num_features=mixture.num_features)
    weight = as_sample_weight(sample_weight, len(x), x.dtype, check_values=True)
    if len(x) == 0:
        raise ValueError(f"x has shape {x.shape}: no rows; at least one a component was expected.")
    if not is_traced(mixture, x, weight):
        rows = len(x) if weight is None else int((weight > 0).sum())
        present = int((mixture.weights > 0).sum())
        if rows < present:
            raise ValueError(f"x has {rows} rows and the mixture {present} components; at least one row a component was "
                             "expected: use fewer components.")
        if rows == 1 and prior is None:
            raise ValueError("x has one row, from which no covariance can be estimated; give more rows, or a prior.")
    return mixture, x, weight


@partial(jax.jit, static_argnames=("max_iter", "chunk_size"))
def _fit(mixture: Mixture, x: jax.Array, weight: jax.Array | None, prior: Prior | None, tol: jax.Array, reg_covar: jax.Array | None,
         *, max_iter: int, chunk_size: int | None) -> Fit:
    shift = _center(x, weight)
    present = mixture.weights > 0
    total = jnp.asarray(len(x), x.dtype) if weight is None else weight.sum()
    start = dataclasses.replace(mixture, means=mixture.means - shift)
    if prior is not None:
        prior = dataclasses.replace(prior, mean=prior.mean - shift)

    def evaluate(mixture: Mixture) -> tuple[Summary, jax.Array, jax.Array]:
        factors = covariance.factorize(mixture.covariances, mixture.covariance_type, mixture.num_features)
        moments = accumulate_moments(mixture, factors, x, weight, shift, chunk_size)
        summary = summarize(mixture, factors, moments, shift)
        log_likelihood = moments.log_likelihood
        return summary, log_likelihood, _objective(mixture, factors, summary, log_likelihood, prior, reg_covar, present)

    def step(state: _State) -> _State:
        proposal = maximize(state.mixture, state.summary, prior, reg_covar)
        proposal = jax.tree.map(lambda new, old: jnp.where(state.step < 0, old, new), proposal, state.mixture)
        summary, log_likelihood, objective = evaluate(proposal)
        finite = jnp.isfinite(objective) & jnp.isfinite(summary.scatter.sum() + summary.mean.sum())
        moved = jnp.array([(a != b).any() for a, b in zip(jax.tree.leaves(proposal), jax.tree.leaves(state.mixture))]).any()
        status = _judge(state, objective, finite, moved, tol, total, reg_covar is None)
        accept = finite & (status != Status.DECREASED)
        # the history is written in place, outside the choice between old and new
        history = state.history.at[state.step + 1].set(jnp.where(accept, objective, jnp.nan))
        new = _State(state.step + 1, proposal, summary, log_likelihood, objective, status, None)
        old = state._replace(status=status, history=None)
        return jax.tree.map(lambda a, b: jnp.where(accept, a, b), new, old)._replace(history=history)

    def running(state: _State) -> jax.Array:
        return (state.status == _RUNNING) & (state.step < max_iter)

    nothing = jnp.asarray(-jnp.inf, x.dtype)
    blank = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(evaluate, start)[0])
    state = _State(jnp.array(-1), start, blank, nothing, nothing, jnp.array(_RUNNING), jnp.full(max_iter + 1, jnp.nan, x.dtype))
    state = jax.lax.while_loop(running, step, state)
    status = jnp.where(state.status == _RUNNING, Status.MAX_ITER, state.status)
    status = jnp.where(total > 0, status, Status.EMPTY_DATA)
    mixture = dataclasses.replace(state.mixture, means=state.mixture.means + shift)
    return Fit(mixture, state.log_likelihood, state.objective, state.history, jnp.maximum(state.step, 0), status,
               _component_status(state, prior, reg_covar))


def _center(x: jax.Array, weight: jax.Array | None) -> jax.Array:
    """A point amid the data (D,): near enough to the mean that products about it lose nothing."""
    if weight is None:
        return x[0] + (x - x[0]).mean(0)
    first = x[jnp.argmax(weight > 0)]
    total = weight.sum()
    return first + jnp.where(weight[:, None] > 0, x - first, 0).T @ (weight / jnp.where(total > 0, total, 1))


def _objective(mixture: Mixture, factors: covariance.Factors, summary: Summary, log_likelihood: jax.Array, prior: Prior | None,
               reg_covar: jax.Array | None, present: jax.Array) -> jax.Array:
    if prior is not None:
        return log_likelihood + log_prior(mixture, prior, present=present)
    if reg_covar is not None:
        return log_likelihood
    trace = covariance.mahalanobis_trace(summary.spread, factors, mixture.covariance_type, mixture.num_features)
    penalty = trace + 2 * factors.half_log_det  # (K | 1,)
    counts = present if len(penalty) == len(present) else present.any(keepdims=True)
    return log_likelihood - PSEUDO_COUNT / 2 * jnp.where(counts, penalty, 0).sum()


def _judge(state: _State, objective: jax.Array, finite: jax.Array, moved: jax.Array, tol: jax.Array, total: jax.Array,
           monotone: bool) -> jax.Array:
    """The status after a proposal, in order of precedence."""
    eps = jnp.finfo(objective.dtype).eps
    change = objective - state.objective
    first = state.step < 0
    small = abs(change) <= jnp.maximum(tol * total, 2 * eps * abs(objective))
    converged = ~first & jnp.where(tol > 0, small, ~moved)
    status = jnp.where(converged, Status.CONVERGED, _RUNNING)
    if monotone:
        fell = ~first & (change < -64 * eps * (abs(objective) + total))
        status = jnp.where(fell & (tol > 0), Status.DECREASED, status)
    broken = jnp.where(first & jnp.isfinite(state.mixture.covariances.sum()) & ~_factorizes(state.mixture), Status.SINGULAR,
                       jnp.where(first, Status.NONFINITE, Status.SINGULAR))
    return jnp.where(finite, status, broken)


def _factorizes(mixture: Mixture) -> jax.Array:
    factors = covariance.factorize(mixture.covariances, mixture.covariance_type, mixture.num_features)
    return jnp.isfinite(factors.half_log_det).all()


def _component_status(state: _State, prior: Prior | None, reg_covar: jax.Array | None) -> jax.Array:
    mixture, count = state.mixture, state.summary.count
    kind, d = mixture.covariance_type, mixture.num_features
    status = jnp.where(count < d + 1, ComponentStatus.FEW_POINTS, ComponentStatus.OK)
    if prior is None:
        # pivots of a sum are at least the sum of pivots: at the floor, the data give less than the regularisation
        if reg_covar is None:
            own = covariance.pool_counts(count, kind)
            floor = PSEUDO_COUNT * state.summary.spread / (own + PSEUDO_COUNT)
            floor = covariance.ridge(floor, rounding_ridge(d, count.dtype) * covariance.variances(mixture.covariances, kind, d), kind) \
                if covariance.is_dense(kind) else floor
        else:
            floor = covariance.ridge(jnp.zeros_like(mixture.covariances), jnp.full(1, reg_covar), kind)
        pivots, floors = (covariance.pivots(c, kind, d) for c in (mixture.covariances, floor))  # (K | 1, D)
        status = jnp.where((pivots <= 2 * floors).any(-1), ComponentStatus.AT_FLOOR, status)
    smallest = count.sum() * jnp.finfo(count.dtype).tiny ** 0.5
    return jnp.where((mixture.weights == 0) | (count <= smallest), ComponentStatus.EMPTY, status)


def _warn(result: Fit, start: Mixture, x: jax.Array, weight: jax.Array | None) -> None:
    if int(result.status) != Status.CONVERGED:
        caller_warns(Status(int(result.status)).sentence)
    kept = np.asarray(x if weight is None else x[weight > 0])
    constant = np.flatnonzero((kept == kept[:1]).all(0)) if len(kept) > 1 else np.array([], int)
    if constant.size:
        caller_warns(f"x is constant in column {', '.join(map(str, constant[:10]))}: its variance is held at the rounding of its "
                     "values; leave the column out.")
    n, d = kept.shape
    if d >= n > 1:
        caller_warns(f"x has {d} features and {n} rows: covariances are not determined; use 'diag' or 'spherical', or a prior.")
    few = np.asarray(result.component_status) == ComponentStatus.FEW_POINTS
    if few.any():
        caller_warns(f"Components {', '.join(map(str, np.flatnonzero(few)))}: {ComponentStatus.FEW_POINTS.sentence}")
    means = np.asarray(start.means)[np.asarray(start.weights) > 0]
    if len(means) > 1 and (means == means[0]).all() and (np.ptp(np.asarray(start.covariances), axis=0) == 0).all():
        caller_warns("The start's components are all the same, a saddle that EM cannot leave; start from jaxgmm.initialize.")
