"""`fit` validates the input and runs EM in one `lax.while_loop`. The module also defines the derivative of the result."""

from __future__ import annotations

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from ..calls import public
from ..devices.host import num_positive
from ..incomplete.checks import check_columns
from ..incomplete.observations import Data, Observations
from ..incomplete.rows import filled_rows
from ..inputs import as_dtype, validate_inputs
from ..memory import check_memory
from ..mixture import Mixture, MixtureLike
from ..padding import pad_data
from ..priors.interface import MixturePrior
from ..row_sums import Weight, weight_array
from ..validation import check_count, check_flag, check_number, is_traced
from .fit_warnings import emit_warnings
from .implicit import tangent_of_fixed_point
from .loop import Evaluation, Options, centered_m_step, evaluate, finalize, init, is_running, step
from .m_step import check_regularisation
from .problem import CenteredProblem, EMProblem, prepare
from .result import Fit, Status
from .single_normal import incomplete_data


@public
def fit(
    mixture: MixtureLike,
    x: ArrayLike | Observations,
    prior: MixturePrior | None = None,
    *,
    sample_weight: ArrayLike | None = None,
    tol: float | jax.Array = 1e-8,
    max_iter: int = 1000,
    reg_covar: ArrayLike | None = None,
    accelerate: bool = False,
    chunk_size: int | None = None,
) -> Fit:
    """Fit a mixture by EM from a start: maximum likelihood, or the posterior mode under a prior. Bishop (2006), section 9.2.2.

    The likelihood is unbounded. Without a prior, a penalty with the weight of 1e-6 observations keeps covariances from
    collapsing (see `m_step`). With a prior, the result is the mode of the density of (weights, means, covariances).

    The mixture, log_likelihood and objective of the result are differentiable with respect to x, sample_weight, prior and
    reg_covar. The derivatives are computed by the implicit function theorem, in forward or reverse mode. The derivative with
    respect to the start is zero.

    Args:
        mixture: the start: a Mixture, as from `initialize`, or a Fit. Components of weight exactly 0 are absent and stay at
            weight 0.
        x: (N, D), or `observations` for missing values, measurement noise or labels. With observations, V in the penalty is
            the covariance of a fit of one component, and derivatives treat V as a constant.
        prior: a Prior, or an IndependentPrior whose scale is InverseWishart or InverseGamma, for the posterior mode; None for
            maximum likelihood.
        sample_weight: (N,) >= 0, or None. A row of integer weight w counts as w copies of the row. A row of weight 0 is
            ignored, whatever values it holds.
        tol: EM has converged when one step changes the objective by at most this many nats per unit of weight. With tol=0, EM
            runs until a step changes nothing or until max_iter. In float32, the change that `tol` allows can be smaller than
            the rounding error of the objective. EM has then converged when the parameters hardly move, and the objective may
            vary within its rounding error.
        max_iter: the largest number of steps.
        reg_covar: a number in data units squared that is added to each variance after each step, as in scikit-learn. It
            replaces the penalty. 0 gives plain maximum likelihood. With reg_covar, the objective may fall. If a component
            becomes narrower than the rounding error of the data, the fit ends with the status SINGULAR. The types VEI, EVI,
            VEE, EVE, VEV and EVV accept only 0, because a positive number would change their form.
        accelerate: whether to try Anderson steps, which are accepted only if the objective does not fall. They help where
            components overlap. With acceleration, max_iter and num_iter count E-steps. Acceleration is not allowed with
            reg_covar, because the objective may fall with reg_covar.
        chunk_size: the number of rows that are processed at a time; by default as many as fit into the cache of a CPU, or into
            256 MiB of an accelerator's memory.

    Returns:
        A Fit, in the float dtype of x.

    Raises:
        ValueError, TypeError: the data, the start or an option is invalid. The values of traced arguments are not checked; if
            they are invalid, the status says so.

    Warns:
        RuntimeWarning: outside jit, in each of these cases. The fit did not converge. A column is constant, or columns are
            collinear. There are too few rows for the covariance type. A component holds too few points. The weights cannot be
            counts of observations. All components of the start are equal. The data lie too far from 0 for their float type.

    Example:
        >>> import jax, jaxgmm
        >>> x = jaxgmm.datasets.load("faithful")
        >>> start = jaxgmm.initialize(jax.random.key(0), x, num_components=2)
        >>> round(float(jaxgmm.fit(start, x).log_likelihood), 1)
        -1130.3
    """
    mixture, rows, weight, _ = validate_inputs(mixture, x, None, sample_weight)
    _check_rows(mixture, rows, weight, prior is not None or reg_covar is not None)
    shape = (mixture.num_components, mixture.num_features, mixture.covariance_type)
    options = {"tol": tol, "max_iter": max_iter, "reg_covar": reg_covar, "accelerate": accelerate, "chunk_size": chunk_size}
    check_options(prior, shape, **options)
    cast = partial(jax.tree.map, partial(as_dtype, dtype=rows.dtype))
    problem = EMProblem(rows, weight, cast(prior), cast(reg_covar))
    if isinstance(rows, Observations):
        padded, problem = _of_observations(mixture, problem, tol), problem._replace(x=filled_rows(rows))
    else:
        padded = problem._replace(**pad_data(rows, weight, mixture, problem, tol)._asdict())
    result = _fit(mixture, padded, cast(tol), Options(max_iter, bool(accelerate), chunk_size))
    if not is_traced(result, mixture, problem):
        emit_warnings(result, mixture, problem, accelerate=bool(accelerate))
    return result


def check_options(
    prior: MixturePrior | None,
    shape: tuple[int, int, str],
    *,
    tol: ArrayLike,
    max_iter: int,
    reg_covar: ArrayLike | None,
    accelerate: bool,
    chunk_size: int | None,
) -> None:
    """Raise ValueError or TypeError if an option of a fit is invalid; `shape` holds K, D and the covariance type."""
    check_number(tol, "tol")
    check_count(max_iter, "max_iter", 0)
    check_memory(4.0 * max_iter, f"max_iter={max_iter}")  # the history has one number for each step
    check_regularisation(prior, reg_covar, *shape)
    check_flag(accelerate, "accelerate")
    if accelerate and reg_covar is not None:
        raise ValueError(
            "accelerate and reg_covar were both given; acceleration needs an objective that never falls: use the default "
            "regularisation or a prior."
        )
    if chunk_size is not None:
        check_count(chunk_size, "chunk_size")


def _of_observations(mixture: Mixture, problem: EMProblem, tol: ArrayLike) -> EMProblem:
    """Return a problem whose data are observations without weights in the form in which EM works through them."""
    rows = problem.x
    if problem.prior is None:
        check_columns(rows, weight_array(problem.weight))
    others = (mixture, problem, tol)
    data, weight, _ = incomplete_data(rows, problem.weight, mixture.covariance_type, mixture.num_components, *others)
    return problem._replace(x=data, weight=weight)


def fit_observations(starts: Mixture, problem: EMProblem, tol: ArrayLike, options: Options) -> Fit:
    """Return the fits of observations without weights from each of several validated starts, one after another."""
    one = jax.tree.map(lambda leaf: leaf[0], starts)
    return _fit_each(starts, _of_observations(one, problem, tol), jnp.asarray(tol, problem.x.dtype), options)


@partial(jax.jit, static_argnums=3)
def _fit_each(starts: Mixture, problem: EMProblem, tol: jax.Array, options: Options) -> Fit:
    """Return the fits from each of several starts, with a leading axis."""
    return jax.lax.map(lambda start: _solve(start, problem, tol, options), starts)


def _check_rows(mixture: Mixture, x: Data, weight: Weight, is_regularised: bool) -> None:
    """Raise ValueError if concrete data have too few rows of positive weight for the components of the start."""
    if is_traced(mixture, x, weight):
        return
    values = weight_array(weight)
    rows = len(x) if values is None else num_positive(values)
    check_num_rows(rows, mixture, is_regularised)


def check_num_rows(rows: int, mixture: Mixture, is_regularised: bool) -> None:
    """Raise ValueError if there are too few rows of positive weight for the components of a concrete start."""
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
    """Return the result of EM from a start; EM ends when it converges, fails or reaches max_iter."""
    centered = prepare(start, problem, tol)
    state = jax.lax.while_loop(
        partial(is_running, options=options), partial(step, centered, options=options), init(centered, options)
    )
    return finalize(centered, state, start)


@_solve.defjvp
def _solve_jvp(options: Options, primals: tuple, tangents: tuple) -> tuple[Fit, Fit]:
    """Return a fit and its derivative by the implicit function theorem. The derivative with respect to the start is zero."""
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
