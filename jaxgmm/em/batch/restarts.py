"""`fit_restarts` fits one data set from several starts and returns the best fit. This module also ranks fits."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Unpack

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from ...calls import public_with
from ...component_order import ascending_order, permute_components
from ...incomplete.checks import check_columns, check_match
from ...incomplete.observations import Data, Observations
from ...incomplete.rows import filled_rows, is_allowed
from ...inputs import as_dtype
from ...memory import check_memory
from ...mixture import Mixture
from ...padding import pad_data
from ...priors.interface import MixturePrior
from ...row_sums import Weight, total_weight, weight_array
from ...validation import as_weighted_data, check_count, check_flag, is_traced, warn_of_small_weights
from ..assignments import weighted_data
from ..fit import check_options, fit, fit_observations
from ..fit_warnings import emit_warnings
from ..initialization import StartOptions, check_start_options, initialize, start_of_incomplete_rows
from ..loop import Options
from ..problem import EMProblem
from ..restart_starts import restart_starts
from ..result import Fit, unsoundness_of
from ..single_normal import incomplete_data
from .fit_many import EM_OPTIONS, EMOptions, fit_many


@public_with(*EM_OPTIONS)
def fit_restarts(
    key: jax.Array,
    x: ArrayLike | Observations,
    prior: MixturePrior | None = None,
    *,
    num_components: int,
    covariance_type: str = "full",
    num_restarts: int = 10,
    method: str = "k-means++",
    sample_weight: ArrayLike | None = None,
    **options: Unpack[EMOptions],
) -> Fit:
    """Fit one data set from several starts, as one batch, and return the best fit.

    If num_restarts is 1, EM begins at the start of `initialize`. Otherwise, there are seven candidates for each restart. Six of
    them assign each row to the nearest of K rows that are drawn by k-means++ or at random. These six differ in the distance,
    which is computed from standardised features, by Mahalanobis, or along a random direction, and in its upper limit, which
    makes outliers less likely to be drawn. In the seventh, the components overlap almost completely. All candidates take a few
    EM steps, on at most 512 rows (or eight rows for each parameter, if that is more), and the better ones take more. In
    between, variants of the better ones replace the others: in a variant, one component begins anew at a random row.
    Five candidates, or half of num_restarts if that is more, are fitted to the end: the best ones that differ from each other.
    If a component of a candidate degenerates in its first steps, the next best candidate takes its place.

    The best fit has the largest objective among the sound fits. A fit is sound if EM converged or ran out of steps, all numbers
    are finite, and no component is degenerate. A component is degenerate if it holds fewer than D + 1 points (2 points for diag
    and spherical), or if only the regularisation keeps its covariance from collapsing. With the covariance type tied, no
    component is degenerate. The likelihood of a fit with a degenerate component is meaningless. If no fit is sound, the best
    fit has the largest objective among the fits that are closest to being sound.

    The components are ordered by weight, the largest first. With a prior, a component only changes places with components that
    have the same weight concentration. `fit`, in contrast, keeps the order of its start.

    Args:
        key: a random key.
        x: (N, D). A JAX array stays on its device. With `observations`, every restart begins at a start of `initialize`, and
            components whose labels differ keep their places.
        prior: as in `fit`.
        num_components: K.
        covariance_type: "full", "tied", "diag", "spherical", or a code such as "VEE": see `Mixture`.
        num_restarts: the number of restarts, each with seven candidates for a start.
        method: as in `initialize`.
        sample_weight: (N,) >= 0, or None.
        **options: the other options of `fit_many`: tol, max_iter, reg_covar, accelerate, chunk_size, progress.

    Returns:
        A Fit. Under vmap over keys or data sets, there is one fit for each key or data set.

    Raises:
        ValueError, TypeError: as for `initialize` and `fit`.

    Example:
        >>> import jax, jaxgmm
        >>> x = jaxgmm.datasets.load("faithful")
        >>> best = jaxgmm.fit_restarts(jax.random.key(0), x, num_components=3, covariance_type="tied", num_restarts=5)
        >>> round(float(best.log_likelihood), 1)
        -1126.3
    """
    start_options = check_start_options(key, StartOptions(num_components, covariance_type, method))
    check_count(num_restarts, "num_restarts")
    rows, weight = weighted_data(x, sample_weight, num_components)
    check_restarts(num_restarts, num_components, rows)
    if isinstance(rows, Observations):
        return _fit_observations(key, EMProblem(rows, weight, prior, None), start_options, num_restarts, options)
    padded = pad_data(rows, weight, key, prior)
    starts = restart_starts(key, padded.x, padded.weight, start_options, num_restarts, prior=prior)
    fits = fit_many(starts, rows, prior, sample_weight=weight, **options)
    total, concentration = total_weight(weight, len(rows), rows.dtype), concentration_of(prior, num_components, rows.dtype)
    start, result = _take_best(starts, fits, total, concentration)
    if not is_traced(result):
        reg_covar: Any = options.get("reg_covar")
        _warn_of_fit(result, start, EMProblem(rows, weight, prior, reg_covar), options)
    return result


def fit_one_start(
    key: jax.Array,
    x: ArrayLike,
    prior: MixturePrior | None,
    start_options: StartOptions,
    sample_weight: ArrayLike | None,
    options: Mapping[str, Any],
) -> Fit:
    """Return the fit from the start of `initialize`, with its components ordered by weight.

    The result is that of `fit_restarts` with one restart, but the first call compiles in half the time. The options are those
    of `fit`.
    """
    start = initialize(key, x, sample_weight=sample_weight, **start_options._asdict())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # these warnings name components by their places in the start
        result = fit(start, x, prior, sample_weight=sample_weight, **options)
    result = _largest_first(result, concentration_of(prior, start.num_components, result.mixture.weights.dtype))
    problem = EMProblem(*as_weighted_data(x, sample_weight), prior, options.get("reg_covar"))
    _warn_of_fit(result, start, problem, options)
    return result


def _warn_of_fit(result: Fit, start: Mixture, problem: EMProblem, options: Mapping[str, Any]) -> None:
    """Issue the warnings of `fit` for a result whose components have been ordered."""
    warn_of_small_weights(weight_array(problem.weight))
    emit_warnings(result, start, problem, accelerate=options.get("accelerate", False))


def _fit_observations(
    key: jax.Array, problem: EMProblem, start_options: StartOptions, num_restarts: int, em_options: EMOptions
) -> Fit:
    """Return the best of the fits of observations from `num_restarts` starts of `initialize`; `problem` is not padded."""
    rows, (k, name, _) = problem.x, start_options
    tol, reg_covar, options = em_options.get("tol", 1e-8), em_options.get("reg_covar"), _options_of(em_options)
    static = {"max_iter": options.max_iter, "accelerate": options.accelerate, "chunk_size": options.chunk_size}
    check_options(problem.prior, (k, rows.shape[1], name), tol=tol, reg_covar=reg_covar, **static)
    check_columns(rows, weight_array(problem.weight))
    check_match(rows, k, name)
    single = incomplete_data(rows, problem.weight, name, 1, key)[2]
    starts = _starts(jax.random.split(key, num_restarts), *pad_data(rows, problem.weight, key), single, start_options)
    cast = partial(jax.tree.map, partial(as_dtype, dtype=rows.dtype))
    problem = problem._replace(prior=cast(problem.prior), reg_covar=cast(reg_covar))
    fits = fit_observations(starts, problem, tol, options)
    groups = identified(rows, concentration_of(problem.prior, k, rows.dtype))
    start, result = _take_best(starts, fits, total_weight(problem.weight, len(rows), rows.dtype), groups)
    if not is_traced(result):
        _warn_of_fit(result, start, problem._replace(x=filled_rows(rows)), em_options)
    return result


def _options_of(options: EMOptions) -> Options:
    """Return the static options of a fit, with the defaults of `fit_many`."""
    accelerate, history = options.get("accelerate", False), options.get("history", True)
    check_flag(accelerate, "accelerate")
    return Options(options.get("max_iter", 1000), bool(accelerate), options.get("chunk_size"), bool(history))


@partial(jax.jit, static_argnums=4)
def _starts(keys: jax.Array, rows: Observations, weight: Weight, single: Mixture, options: StartOptions) -> Mixture:
    """Return one start for each key, with a leading axis."""
    return jax.lax.map(lambda key: start_of_incomplete_rows(key, rows, weight, single, options), keys)


def identified(rows: Data, concentration: jax.Array | np.ndarray) -> jax.Array | np.ndarray:
    """Return numbers (K,) that are equal for components that labels and prior concentrations (K,) do not distinguish."""
    if not isinstance(rows, Observations) or rows.allowed is None:
        return concentration
    return _identified_by_labels(rows.allowed, concentration)


@jax.jit
def _identified_by_labels(allowed: jax.Array, concentration: jax.Array | np.ndarray) -> jax.Array:
    """Return the result of `identified`, given labels (N,) or booleans (N, K)."""
    concentration = jnp.asarray(concentration)
    same = concentration[:, None] == concentration[None]
    may = is_allowed(allowed, len(concentration)).astype(concentration.dtype)  # (K, N)
    same &= ((may[:, None] - may[None]) ** 2).sum(-1) == 0
    return same.argmax(-1).astype(concentration.dtype)


def check_restarts(num_restarts: int, num_components: int, x: jax.Array | Observations) -> None:
    """Raise ValueError if the memory cannot hold the means of `num_restarts` starts."""
    check_memory(float(num_restarts) * num_components * x.shape[1] * x.dtype.itemsize, f"num_restarts={num_restarts}")


@jax.jit  # without jit, each operation would be compiled separately, and the first call would take one second longer
def _take_best(
    starts: Mixture, fits: Fit, total: jax.Array | np.ndarray, concentration: jax.Array | np.ndarray
) -> tuple[Mixture, Fit]:
    """Return the best fit, with its components ordered by weight, and its start."""
    best = best_of(fits, total)
    start, result = jax.tree.map(lambda leaf: leaf[best], (starts, fits))
    return start, largest_first(result, concentration)


def concentration_of(prior: MixturePrior | None, num_components: int, dtype: Any) -> jax.Array | np.ndarray:
    """Return the weight concentrations (K,) of a prior. Without a prior, all are 1: the components are exchangeable."""
    return np.ones(num_components, dtype) if prior is None else prior.weight_concentration


def largest_first(fit: Fit, concentration: jax.Array | np.ndarray) -> Fit:
    """Return one fit with its components ordered by weight, the largest first.

    Only components with equal concentrations (K,) exchange places. Components with the same weight keep their order. Weights
    that are not finite count as 0.
    """
    weights = jnp.where(jnp.isfinite(fit.mixture.weights), fit.mixture.weights, 0)
    order = ascending_order(-weights, jnp.asarray(concentration))
    return replace(fit, mixture=permute_components(fit.mixture, order), component_status=fit.component_status[order])


_largest_first = jax.jit(largest_first)


def best_of(fits: Fit, total: jax.Array | np.ndarray, fewest: jax.Array | None = None) -> jax.Array:
    """Return the index of the best fit in a stack of fits (R,); the arguments are those of `has_degenerate_component`.

    The best fit has the largest objective among the sound fits. If no fit is sound, the best fit has the largest objective
    among the fits with the smallest `unsoundness`.
    """
    distance = unsoundness_of(fits, total, fewest)
    return jnp.where(distance == distance.min(), jnp.nan_to_num(fits.objective, nan=-jnp.inf), -jnp.inf).argmax()
