"""`fit`: EM in one `lax.while_loop`, with validation of its input, its derivative and its warnings."""

from __future__ import annotations

import dataclasses
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

_FIRST_ROWS = 64  # rows in which constant columns are sought first; most columns vary within them
_COARSE_SPACING = 0.05  # standard deviations between neighbouring floats from which on `fit` warns


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
    """Fit a mixture by EM from a start: maximum likelihood, or the posterior mode under a prior. Bishop (2006), section 9.2.2.

    The likelihood is unbounded; without a prior, a penalty worth 1e-6 of an observation keeps covariances from collapsing (see
    `m_step`). With a prior the mode is that of the density of (weights, means, covariances).

    The mixture, log_likelihood and objective of the result are differentiable with respect to x, sample_weight, prior and
    reg_covar, in forward and reverse mode, by the implicit function theorem. The derivative with respect to the start is zero.

    Args:
        mixture: the start, as from `initialize`. Components of weight exactly 0 are absent and stay at weight 0.
        x: (N, D).
        prior: a Prior or a conjugate IndependentPrior for MAP, or None.
        sample_weight: (N,) >= 0, or None. An integer weight counts as repetition; a weight of 0 ignores a row, whatever it
            holds.
        tol: EM has converged when the objective changes by at most this many nats per unit of weight in one step. With 0 it
            runs until max_iter or until a step changes nothing at all. Where rounding hides such a change, as in float32, the
            movement of the parameters tells whether EM has converged, and the objective may vary within its rounding.
        max_iter: the largest number of steps.
        reg_covar: scikit-learn's regularisation in place of the penalty: added to each variance after each step, data units
            squared; 0 is plain maximum likelihood. The objective may then fall.
        accelerate: whether to try Anderson steps, which are accepted only if the objective does not fall. They help where
            components overlap. max_iter and num_iter then count E-steps. Not allowed with reg_covar, whose steps may lower the
            objective.
        chunk_size: the number of rows worked through at a time; by default what fits the cache of a CPU, or 256 MiB of an
            accelerator's memory.

    Returns:
        A Fit, in x's float dtype.

    Raises:
        ValueError, TypeError: the data, the start or an option is invalid. The values of traced arguments are not checked; the
            status reports what is wrong with them.

    Warns:
        RuntimeWarning: outside jit, if the fit did not converge, a column is constant, D >= N, components hold too few points,
            all components of the start are equal, or the data lie too far from 0 for their float type.

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
    options = {"tol": tol, "max_iter": max_iter, "reg_covar": reg_covar, "accelerate": accelerate, "chunk_size": chunk_size}
    check_options(prior, shape, **options)
    cast = partial(jax.tree.map, partial(as_dtype, dtype=x.dtype))
    problem = EMProblem(x, weight, cast(prior), cast(reg_covar))
    result = _fit(mixture, problem, cast(tol), Options(max_iter, bool(accelerate), chunk_size))
    if not is_traced(result, mixture, x, weight):
        emit_warnings(result, mixture, x, weight)
    return result


def check_options(
    prior: MixturePrior | None,
    shape: tuple[int, int, str],
    *,
    tol: Any,
    max_iter: Any,
    reg_covar: Any,
    accelerate: Any,
    chunk_size: Any,
) -> None:
    """Raise ValueError or TypeError if an option of a fit is invalid; shape is K, D and the covariance type."""
    check_number(tol, "tol")
    check_count(max_iter, "max_iter", 0)
    check_regularisation(prior, reg_covar, *shape)
    check_flag(accelerate, "accelerate")
    if accelerate and reg_covar is not None:
        raise ValueError(
            "accelerate and reg_covar were both given; acceleration needs an objective that never falls: use the default "
            "regularisation or a prior."
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
        return centered_m_step(centered, theta, value.sums)

    def totals(theta: Mixture, problem: EMProblem) -> tuple[jax.Array, jax.Array]:
        value = evaluate_at(theta, problem)[1]
        return value.log_likelihood, value.objective

    theta = dataclasses.replace(fit.mixture, means=fit.mixture.means - prepare(start, problem, tol).center)
    defined = (fit.status != Status.SINGULAR) & (fit.status != Status.NONFINITE)
    tangent = tangent_of_fixed_point(em_step, theta, problem, tangents[1])
    tangent = jax.tree.map(lambda leaf: jnp.where(defined, leaf, jnp.nan), tangent)
    _, (log_likelihood, objective) = jax.jvp(totals, (theta, problem), (tangent, tangents[1]))
    integers = (fit.num_iter, fit.status, fit.component_status)
    num_iter, status, component_status = jax.tree.map(lambda leaf: np.zeros(leaf.shape, jax.dtypes.float0), integers)
    history = jnp.zeros_like(fit.history)
    return fit, Fit(tangent, log_likelihood, objective, history, num_iter, status, component_status)


_fit = jax.jit(_solve, static_argnums=3)


def emit_warnings(result: Fit, start: Mixture, x: jax.Array, weight: jax.Array | None) -> None:
    """Warn about data and starts that EM cannot help, and about how an eager fit ended.

    Checks that do not need the result run first, while the fit computes asynchronously.
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
    """Warn if columns are constant, or if there are no more rows than features."""
    rows = on_host(x)
    first = rows[:_FIRST_ROWS] if isinstance(rows, np.ndarray) else _first_rows(rows)
    kept = None if weight is None else np.flatnonzero(np.asarray(weight) > 0)
    n, d = (len(x) if kept is None else len(kept)), x.shape[1]
    constant = np.arange(d if n > 1 else 0)
    for some in (_FIRST_ROWS, n):  # the second pass looks only at columns that are constant in the first rows
        if constant.size:
            seen = rows[kept[:some]] if kept is not None else first if some == _FIRST_ROWS else rows
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
def _first_rows(x: jax.Array) -> jax.Array:
    """Return the first rows of an array in an accelerator's memory, so that the others are not copied to the host."""
    return x[:_FIRST_ROWS]


def _warn_of_offset(mixture: Mixture) -> None:
    """Warn if the data lie so far from the origin that their float type has few values per standard deviation.

    The mixture holds NumPy arrays. A column may be coarse as a whole, or a component in its flattest direction alone.
    """
    name, eps = mixture.means.dtype, float(np.finfo(mixture.means.dtype).eps)
    weights, means, covariances = (np.asarray(leaf, float) for leaf in jax.tree.leaves(mixture))
    within = covariance.variances(covariances, mixture.covariance_type, means.shape[1])
    remedy = (
        f"{name} holds few values: subtract an offset first, or enable float64 with jax.config.update('jax_enable_x64', True)."
    )
    center = weights @ means
    sd = np.sqrt(np.maximum(weights @ ((means - center) ** 2 + within), 0))
    far = np.flatnonzero(eps * abs(center) > _COARSE_SPACING * sd)
    if far.size and (sd[far] > 0).all():
        distance = (abs(center) / sd)[far].max()
        columns = ", ".join(map(str, far[:10]))
        warn_at_caller(f"Columns {columns} lie {distance:.0e} standard deviations from 0, where {remedy}")
        return
    distance = np.where(weights > 0, covariance.host_distances(means, covariances, mixture.covariance_type), 0)
    coarse = np.flatnonzero(eps * distance > _COARSE_SPACING)
    if coarse.size:
        warn_at_caller(
            f"Components {', '.join(map(str, coarse[:10]))} lie up to {distance[coarse].max():.0e} of their own standard "
            f"deviations from 0 in some direction, where {remedy} The log-likelihood is that before the means were rounded."
        )
