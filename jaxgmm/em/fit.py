"""fit: EM in one `lax.while_loop`, what it refuses at the door, its derivative, and what it warns of."""

from __future__ import annotations

import dataclasses
import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import covariance
from ..host import on_host, to_host
from ..inputs import as_dtype, validate_inputs
from ..mixture import Mixture
from ..priors.interface import MixturePrior
from ..validation import check_count, check_flag, check_number, is_traced, warn_at_caller
from .implicit import tangent_of_fixed_point
from .loop import (
    CenteredProblem,
    EMProblem,
    Evaluation,
    Options,
    centered_m_step,
    evaluate,
    finalize,
    init,
    is_running,
    prepare,
    step,
)
from .m_step import check_regularisation
from .result import ComponentStatus, Fit, Status

_HEAD = 64  # rows that are looked at first for what holds in few data
_COARSE = 0.05  # of a standard deviation: the spacing of floats that is warned of


def fit(
    mixture: Mixture,
    x: Any,
    prior: MixturePrior | None = None,
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
            or until a step changes nothing at all. Where rounding hides such a change, as in float32, the move of the
            parameters tells whether EM has converged, and the objective may waver by its rounding on the way.
        max_iter: steps at most.
        reg_covar: scikit-learn's regularisation instead: added to each variance after each step, data units squared; 0 is
            plain maximum likelihood. The objective may then fall.
        accelerate: Anderson steps, taken only where the objective does not fall; for overlapping components. max_iter and
            num_iter then count E-steps. Not with reg_covar, whose steps may lower their objective.
        chunk_size: rows worked through at a time; by default what fits a CPU's cache, or 256 MiB of an accelerator's memory.

    Returns:
        A Fit, in x's float dtype.

    Raises:
        ValueError, TypeError: data, start or options that make no sense; traced values are not looked at, the status tells.

    Warns:
        RuntimeWarning: eager only: the fit did not converge, a column is constant, D >= N, components hold too few points,
            the start cannot be told apart from fewer components, or the data lie too far from 0 for their float type.

    Example:
        >>> import jax, jaxgmm
        >>> x = jaxgmm.datasets.load("faithful")
        >>> start = jaxgmm.initialize(jax.random.key(0), x, num_components=2)
        >>> round(float(jaxgmm.fit(start, x).log_likelihood), 1)
        -1130.3
    """
    mixture, x, weight, _ = validate_inputs(mixture, x, None, sample_weight)
    _check_rows(mixture, x, weight, prior is not None or reg_covar is not None)
    shape = (mixture.num_components, mixture.num_features, mixture.covariance_type)
    check_options(prior, shape, tol, max_iter, reg_covar, accelerate, chunk_size)
    cast = partial(jax.tree.map, partial(as_dtype, dtype=x.dtype))
    problem = EMProblem(x, weight, cast(prior), cast(reg_covar))
    result = _fit(mixture, problem, cast(tol), Options(max_iter, bool(accelerate), chunk_size))
    if not is_traced(result, mixture, x, weight):
        emit_warnings(result, mixture, x, weight)
    return result


def check_options(
    prior: Any, shape: tuple[int, int, str], tol: Any, max_iter: Any, reg_covar: Any, accelerate: Any, chunk_size: Any
) -> None:
    """Refuses options of a fit that make no sense. shape: K, D and covariance type."""
    check_number(tol, "tol")
    check_count(max_iter, "max_iter", 0)
    check_regularisation(prior, reg_covar, *shape)
    check_flag(accelerate, "accelerate")
    if accelerate and reg_covar is not None:
        raise ValueError(
            "accelerate and reg_covar were both given; acceleration needs an objective that no step lowers: use the "
            "default regularisation or a prior."
        )
    if chunk_size is not None:
        check_count(chunk_size, "chunk_size")


def _check_rows(mixture: Mixture, x: jax.Array, weight: jax.Array | None, is_regularised: bool) -> None:
    """Raise ValueError if concrete data have too few rows of positive weight for the components of the start."""
    if is_traced(mixture, x, weight):
        return
    rows = len(x) if weight is None else int((np.asarray(weight) > 0).sum())
    present = int((np.asarray(mixture.weights) > 0).sum())
    if rows < present:
        raise ValueError(
            f"x has {rows} rows and the mixture {present} components; at least one row per component was expected: use fewer "
            "components."
        )
    if rows == 1 and not is_regularised:
        raise ValueError("x has one row, from which no covariance can be estimated; give more rows, a prior, or reg_covar.")


@partial(jax.custom_jvp, nondiff_argnums=(3,))
def _solve(start: Mixture, problem: EMProblem, tol: jax.Array, options: Options) -> Fit:
    """Run EM from a start until it converges, fails or reaches max_iter."""
    centered = prepare(start, problem, tol)
    state = jax.lax.while_loop(
        partial(is_running, options=options), partial(step, centered, options=options), init(centered, options)
    )
    return finalize(centered, state, start)


@_solve.defjvp
def _solve_jvp(options: Options, primals: tuple, tangents: tuple) -> tuple[Fit, Fit]:
    """Differentiate a fit with respect to its problem, by the implicit function theorem; the start gets zero."""
    start, problem, tol = primals
    fit = _solve(start, problem, tol, options)

    def evaluate_at(theta: Mixture, problem: EMProblem) -> tuple[CenteredProblem, Evaluation]:
        centered = prepare(start, problem, tol)
        return centered, evaluate(theta, centered, options.chunk_size)

    def em_step(theta: Mixture, problem: EMProblem) -> Mixture:
        centered, value = evaluate_at(theta, problem)
        return centered_m_step(centered, theta, value.summary)

    def totals(theta: Mixture, problem: EMProblem) -> tuple[jax.Array, jax.Array]:
        value = evaluate_at(theta, problem)[1]
        return value.log_likelihood, value.objective

    theta = dataclasses.replace(fit.mixture, means=fit.mixture.means - prepare(start, problem, tol).center)
    defined = (fit.status != Status.SINGULAR) & (fit.status != Status.NONFINITE)
    tangent = tangent_of_fixed_point(em_step, theta, problem, tangents[1])
    tangent = jax.tree.map(lambda leaf: jnp.where(defined, leaf, jnp.nan), tangent)
    _, values = jax.jvp(totals, (theta, problem), (tangent, tangents[1]))
    integers = (fit.num_iter, fit.status, fit.component_status)
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, jax.dtypes.float0), integers)
    return fit, Fit(tangent, *values, jnp.zeros_like(fit.history), *zeros)


_fit = jax.jit(_solve, static_argnums=3)


def emit_warnings(result: Fit, start: Mixture, x: jax.Array, weight: jax.Array | None) -> None:
    """Warns of what an eager fit has to say: data and start that it cannot help, and what became of it.

    What does not hang on the result comes first, while that is still being computed.
    """
    _warn_of_data(x, weight)
    start = to_host(start)
    means = start.means[start.weights > 0]
    if len(means) > 1 and (means == means[0]).all() and (np.ptp(start.covariances, axis=0) == 0).all():
        warn_at_caller("The start's components are all the same, a saddle that EM cannot leave; start from jaxgmm.initialize.")
    status, states, mixture = to_host((result.status, result.component_status, result.mixture))
    if status != Status.CONVERGED:
        warn_at_caller(Status(int(status)).sentence)
    for state in (ComponentStatus.AT_FLOOR, ComponentStatus.FEW_POINTS) if states.any() else ():
        which = np.flatnonzero(states == state)
        if which.size:
            warn_at_caller(f"Components {', '.join(map(str, which))}: {state.sentence}")
    _warn_of_offset(mixture)


def _warn_of_data(x: jax.Array, weight: jax.Array | None) -> None:
    """Constant columns, and fewer rows than features."""
    rows = on_host(x)
    head = rows[:_HEAD] if isinstance(rows, np.ndarray) else _head(rows)  # of an accelerator's memory by a program of its own
    kept = None if weight is None else np.flatnonzero(np.asarray(weight) > 0)
    n, d = (len(x) if kept is None else len(kept)), x.shape[1]
    constant = np.arange(d if n > 1 else 0)
    for some in (_HEAD, n):  # few columns are constant so far
        if constant.size:
            seen = rows[kept[:some]] if kept is not None else head if some == _HEAD else rows
            seen = np.asarray(seen)[:, constant]
            constant = constant[(seen == seen[:1]).all(0)]
    if constant.size:
        warn_at_caller(
            f"x is constant in column {', '.join(map(str, constant[:10]))}: its variance is held at the rounding of its "
            "values; leave the column out."
        )
    if d >= n > 1:
        warn_at_caller(
            f"x has {d} features and {n} rows: covariances are not determined; use 'diag' or 'spherical', or a prior."
        )


@jax.jit
def _head(x: jax.Array) -> jax.Array:
    return x[:_HEAD]


def _warn_of_offset(mixture: Mixture) -> None:
    """Data so far from the origin that their own float type holds few values a standard deviation. mixture: of NumPy arrays."""
    inside = covariance.variances(mixture.covariances, mixture.covariance_type, mixture.num_features)
    if np.finfo(mixture.means.dtype).eps * abs(mixture.means).max() <= _COARSE * math.sqrt(max(inside.min(), 0)):
        return  # most often, and soon seen
    weights, means, inside = (value.astype(float) for value in (mixture.weights, mixture.means, inside))
    center = weights @ means
    sd = np.sqrt(weights @ ((means - center) ** 2 + inside))
    far = np.flatnonzero(np.finfo(mixture.means.dtype).eps * abs(center) > _COARSE * sd)
    if far.size and (sd[far] > 0).all():
        warn_at_caller(
            f"Columns {', '.join(map(str, far[:10]))} lie {(abs(center) / sd)[far].max():.0e} standard deviations from 0, where "
            f"{mixture.means.dtype} holds few values: subtract an offset first, or enable float64 with "
            "jax.config.update('jax_enable_x64', True)."
        )
