"""Issue the warnings of a fit outside jit. The warnings concern unsuitable data or starts, and results that need attention.

Each warning names only remedies that apply to the call. For example, if the call has a prior, the warning does not suggest a
prior. If no simpler covariance type exists, the warning does not suggest one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from .. import covariance
from ..covariance import types as covariance_types
from ..devices.host import num_positive, on_host, to_host
from ..devices.processes import is_global, of_all_processes, own_parts
from ..devices.row_shards import row_axes
from ..mixture import Mixture
from ..row_sums import weight_array
from ..validation import small_weights_message, warn_at_caller
from .collinearity import collinear_columns
from .problem import EMProblem
from .result import ComponentStatus, Fit, Status

_FIRST_ROWS = 64  # number of rows that the first search for constant columns reads; most columns vary within these rows
_COARSE_SPACING = 0.05  # smallest distance between neighbouring floats, in standard deviations, at which `fit` warns
_MOST_NAMED = 10  # largest number of columns or components that one sentence lists


class _Call(NamedTuple):
    """The properties of a call of `fit` that determine which remedies apply."""

    covariance_type: str
    num_components: int
    has_prior: bool
    has_reg_covar: bool
    accelerate: bool
    is_float32: bool


_SIMPLER_TYPE = "use covariance_type 'diag' or 'spherical'"
_PRIOR = ("use a prior", lambda call: not call.has_prior)
_FEWER = ("use fewer components", lambda call: call.num_components > 1)
_SIMPLER = (_SIMPLER_TYPE, lambda call: covariance.is_dense(call.covariance_type))
_REG_COVAR = ("leave reg_covar at None or raise it", lambda call: call.has_reg_covar)
_REMEDIES: dict[Status | ComponentStatus, list[tuple[str, Callable[[_Call], bool]]]] = {
    Status.MAX_ITER: [
        ("raise max_iter or tol", lambda call: True),
        ("use accelerate=True", lambda call: not call.accelerate and not call.has_reg_covar),
        _FEWER,
    ],
    Status.SINGULAR: [_REG_COVAR, _PRIOR, _FEWER, _SIMPLER],
    Status.DECREASED: [("use float64", lambda call: call.is_float32), _PRIOR, _FEWER, ("raise tol", lambda call: True)],
    ComponentStatus.AT_FLOOR: [_PRIOR, _FEWER, _SIMPLER],
    ComponentStatus.FEW_POINTS: [_PRIOR, _FEWER, _SIMPLER],
}


def emit_warnings(
    result: Fit, start: Mixture, problem: EMProblem, *, accelerate: bool = False, constant: np.ndarray | None = None
) -> None:
    """Warn about unsuitable data or an unsuitable start, and about a fit that did not end well.

    The checks that do not need the result run first, while JAX still computes the fit in the background. If the data were read
    in batches, the problem does not contain them, and `constant` are the indices of the constant columns.
    """
    start = to_host(start)
    call = _Call(
        start.covariance_type,
        int((start.weights > 0).sum()),
        problem.prior is not None,
        problem.reg_covar is not None,
        accelerate,
        result.mixture.means.dtype == np.float32,
    )
    if constant is None:
        constant = _warn_of_data(problem, call, start.num_features)
    else:
        _warn_of_constant(constant)
    means = start.means[start.weights > 0]
    if len(means) > 1 and (means == means[0]).all() and (np.ptp(start.covariances, axis=0) == 0).all():
        warn_at_caller(
            "The start's components are all the same, which is a saddle point that EM cannot leave; start from "
            "jaxgmm.initialize."
        )
    status, states, mixture = to_host((result.status, result.component_status, result.mixture))
    if status != Status.CONVERGED:
        warn_at_caller(_advise(Status(int(status)), call))
    is_singular = bool(status == Status.SINGULAR)
    if states.any() or is_singular:
        _warn_of_components(np.asarray(states), mixture, problem, call, constant=constant, is_singular=is_singular)
    _warn_of_offset(mixture, constant)


def _advise(status: Status | ComponentStatus, call: _Call) -> str:
    """Return the warning text of a status, with only those remedies that apply to this call."""
    if status not in _REMEDIES:
        return status.sentence
    remedies = [words for words, applies in _REMEDIES[status] if applies(call)]
    if not remedies:
        return f"{status.cause}."
    verbs = ["", *(words.split()[0] + " " for words in remedies)]
    remedies = [words.removeprefix(before) if before else words for before, words in zip(verbs, remedies, strict=False)]
    comma = "," if len(remedies) > 2 else ""
    return f"{status.cause}; " + f"{comma} or ".join(filter(None, [", ".join(remedies[:-1]), remedies[-1]])) + "."


def _warn_of_components(
    states: np.ndarray, mixture: Mixture, problem: EMProblem, call: _Call, *, constant: np.ndarray, is_singular: bool
) -> None:
    """Warn about degenerate components.

    If constant or collinear columns make all components degenerate, a warning names these columns instead.
    """
    weight = weight_array(problem.weight)
    if small_weights_message(weight) is not None:
        return  # the counts of components have no meaning if the weights are not counts of observations
    at_floor = states == ComponentStatus.AT_FLOOR
    of_all = at_floor[mixture.weights > 0].all()
    explained = of_all and constant.size > 0
    if problem.x is not None and (of_all or is_singular) and covariance.is_dense(call.covariance_type):
        explained |= warn_of_collinear_columns(problem.x, weight)
    if at_floor.any() and not explained:
        _warn_of_state(ComponentStatus.AT_FLOOR, at_floor, call)
    few = states == ComponentStatus.FEW_POINTS
    if few.any():
        _warn_of_state(ComponentStatus.FEW_POINTS, few, call)


def _warn_of_state(state: ComponentStatus, where: np.ndarray, call: _Call) -> None:
    """Warn about the components where `where` is True, which all have the status `state`."""
    which = np.flatnonzero(where)
    more = ", ..." if len(which) > _MOST_NAMED else ""
    warn_at_caller(f"Components {', '.join(map(str, which[:_MOST_NAMED]))}{more}: {_advise(state, call)}")


def _warn_of_data(problem: EMProblem, call: _Call, num_features: int) -> np.ndarray:
    """Warn if columns are constant or if there are too few rows for a covariance; return the indices of constant columns."""
    x, weight = problem.x, problem.weight
    weights = weight_array(weight)
    n, d = (len(x) if weights is None else num_positive(weights)), num_features
    constant = np.arange(d if n > 1 else 0)
    for some in (_FIRST_ROWS, None):  # the second pass looks only at columns that are constant in the first rows
        if constant.size:
            low, high = _column_ranges(x, weights, some, constant)
            constant = constant[low == high]
    _warn_of_constant(constant)
    needed = covariance_types.fewest_rows(call.covariance_type, call.num_components, d)
    is_held = call.has_prior or (problem.reg_covar is not None and float(np.asarray(problem.reg_covar)) > 0)
    if 1 < n < needed and not is_held:
        warn_at_caller(
            f"x has {d} features and {n} rows, and {call.covariance_type!r} covariances of {call.num_components} components "
            f"need at least {needed} rows to be determined; {_SIMPLER_TYPE}, or a prior."
        )
    return constant


def _warn_of_constant(constant: np.ndarray) -> None:
    """Warn about constant columns, if there are any."""
    if constant.size:
        warn_at_caller(
            f"x is constant in column {', '.join(map(str, constant[:_MOST_NAMED]))}: its variance is held at the rounding of "
            "its values; leave the column out."
        )


def _column_ranges(x: jax.Array, weights: jax.Array | None, most: int | None, columns: np.ndarray) -> np.ndarray:
    """Return the smallest and the largest value of columns in the rows of positive weight, (2, number of columns).

    Only `most` rows are read, or all rows if it is None. Of a global array, each process reads so many of its own rows.
    """
    parts = [(x, weights)]
    if is_global(x):
        parts = own_parts(x) if weights is None else own_parts(x, weights)
    ranges = np.full((2, len(columns)), -np.inf)  # the largest values of -x and of x, by column
    for part, *weight in parts:
        kept = None if not weight or weight[0] is None else np.flatnonzero(np.asarray(weight[0]) > 0)
        seen = _read_rows(part, kept, most)[:, columns]
        if len(seen):
            ranges = np.maximum(ranges, [-seen.min(0), seen.max(0)])
    ranges = of_all_processes(ranges, x).max(0) if is_global(x) else ranges
    return ranges * [[-1], [1]]


def _read_rows(x: jax.Array, kept: np.ndarray | None, most: int | None) -> np.ndarray:
    """Return at most `most` rows of x on the host (None: all rows); `kept` are the indices of rows of positive weight, or None.

    If the rows lie on several devices, a limited number of rows is taken from one device.
    """
    if row_axes(x) and most is not None:
        shard = x.addressable_shards[0]
        first, size = shard.index[0].start or 0, len(shard.data)
        own = None if kept is None else kept[(kept >= first) & (kept < first + size)] - first
        return _read_rows(shard.data, own, most)
    rows = np.asarray(x) if row_axes(x) else on_host(x)
    if kept is not None:
        rows = rows[kept[:most]]
    elif most is not None:
        rows = rows[:most] if isinstance(rows, np.ndarray) else _first_rows(rows)
    return np.asarray(rows)


@jax.jit
def _first_rows(x: jax.Array) -> jax.Array:
    """Return the first rows of an array that is on an accelerator, so that only these rows are copied to the host."""
    return x[:_FIRST_ROWS]


def warn_of_collinear_columns(x: jax.Array, weight: jax.Array | None) -> bool:
    """Warn if some columns of the data are collinear, and name these columns; return whether there are any."""
    columns, is_sum = collinear_columns(x if is_global(x) else np.asarray(x), weight)
    if not columns.size:
        return False
    names = ", ".join(map(str, columns[:_MOST_NAMED])) + (", ..." if len(columns) > _MOST_NAMED else "")
    what = "sum to a constant" if is_sum else "are collinear: some of them determine the others"
    warn_at_caller(
        f"Columns {names} of x {what}, so no covariance matrix of them is positive definite; leave one of them out, "
        f"or {_SIMPLER_TYPE}."
    )
    return True


def _warn_of_offset(mixture: Mixture, constant: np.ndarray) -> None:
    """Warn if the data lie so far from the origin that their float type has few values per standard deviation.

    The spacing of floating-point numbers can be too large for a whole column, or only for the flattest direction of a
    component. Constant columns are left out, because another warning names them. The fields of the mixture are NumPy arrays.
    """
    name, eps = mixture.means.dtype, float(np.finfo(mixture.means.dtype).eps)
    if _is_near(mixture, _COARSE_SPACING / eps):
        return  # this check is cheap, and in most cases sufficient
    weights, means = np.asarray(mixture.weights, float), np.asarray(mixture.means, float)
    matrices = covariance.to_dense(np.asarray(mixture.covariances, float), mixture.covariance_type, *means.shape)
    varying = np.setdiff1d(np.arange(means.shape[1]), constant)
    means, matrices = means[:, varying], matrices[:, varying][..., varying]
    remedy = (
        f"{name} holds few values: subtract an offset first, or enable float64 with jax.config.update('jax_enable_x64', True)."
    )
    center = weights @ means
    variances = weights @ ((means - center) ** 2 + np.diagonal(matrices, axis1=-2, axis2=-1))
    distance = abs(center) / np.sqrt(np.where(variances > 0, variances, np.inf))
    far = np.flatnonzero(eps * distance > _COARSE_SPACING)
    if far.size:
        columns = ", ".join(map(str, varying[far[:_MOST_NAMED]]))
        warn_at_caller(f"Columns {columns} lie {distance[far].max():.0e} standard deviations from 0, where {remedy}")
        return
    coarse = np.flatnonzero(eps * _whitened_lengths(means, matrices) * (weights > 0) > _COARSE_SPACING)
    if coarse.size:
        warn_at_caller(
            f"Components {', '.join(map(str, coarse[:_MOST_NAMED]))} are so flat, in some direction, at their distance from 0 "
            f"that {remedy} The log-likelihood is that before the means were rounded to {name}."
        )


def _is_near(mixture: Mixture, distance: float) -> bool:
    """Return True only if no mean lies further from 0 than `distance` standard deviations of its component.

    The squared distance of a mean m from 0, |L^-1 m|^2, is at most |m|^2 times the trace of the precision. The function tests
    this upper bound, so the result may be False even if all means are near 0. If the result is True, no column lies far from
    0, because the standard deviation of a column is at least the standard deviation of some component.
    """
    with np.errstate(all="ignore"):
        if covariance.is_dense(mixture.covariance_type):
            try:
                precision = np.linalg.inv(mixture.covariances).reshape(len(mixture.covariances), -1)
            except np.linalg.LinAlgError:
                return False
            reciprocals = precision[:, :: mixture.means.shape[1] + 1].sum(1)
        else:
            reciprocals = (1 / mixture.covariances).max(1)
        squares = np.einsum("kd,kd->k", mixture.means, mixture.means)
        return bool((squares * reciprocals < distance**2).all() and (reciprocals > 0).all())


def _whitened_lengths(vectors: np.ndarray, matrices: np.ndarray) -> np.ndarray:
    """Return |L_k^-1 v_k| (K,) for the vectors v_k (K, D) and the Cholesky factors L_k of the matrices (K, D, D).

    If one of the matrices has no Cholesky factor, all results are 0.
    """
    try:
        lower = np.linalg.cholesky(matrices)
    except np.linalg.LinAlgError:
        return np.zeros(len(vectors))
    return np.sqrt((np.linalg.solve(lower, vectors[..., None]) ** 2).sum((-2, -1)))
