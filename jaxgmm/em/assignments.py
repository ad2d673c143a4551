"""Compute mixtures from given assignments of the rows to components. Assignments are labels or responsibilities."""

from __future__ import annotations

from functools import partial
from typing import Any, overload

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from .. import covariance
from ..calls import public
from ..chunking import MANY_COMPONENTS, rows_per_chunk
from ..covariance.estimates import FEW_STEPS, MANY_STEPS, estimate
from ..covariance.quadratic import quadratic_features, split_quadratic
from ..covariance.types import as_covariance_type, is_coupled
from ..devices.host import extremes, num_positive
from ..incomplete.checks import check_labels
from ..incomplete.observations import Observations
from ..inputs import as_rows
from ..mixture import Mixture
from ..padding import pad_data, pad_rows
from ..priors.interface import ComponentSums
from ..rounding import is_singular, ridge_fraction
from ..row_sums import Weight, first_valid_row, sum_over_rows
from ..validation import (
    as_float_array,
    check_count,
    is_traced,
)
from .m_step import PSEUDO_COUNT, data_covariance


@public
def from_labels(
    x: ArrayLike,
    labels: ArrayLike,
    *,
    num_components: int,
    covariance_type: str = "full",
    sample_weight: ArrayLike | None = None,
) -> Mixture:
    """Return the mixture for a given clustering: the weights, means and covariances (with divisor n) of the clusters.

    This is the M-step for hard assignments, without regularisation.

    Args:
        x: (N, D).
        labels: (N,) integers from 0 to num_components - 1.
        num_components: K. A component whose label does not occur gets weight 0, and the mean and covariance of all data.
        covariance_type: "full", "tied", "diag", "spherical", or a code such as "VEE": see `Mixture`.
        sample_weight: (N,) >= 0, or None.

    Returns:
        A Mixture with positive definite covariances. The covariance of a cluster is singular if its points are equal or
        collinear. Such a covariance gets the default regularisation of `m_step`.

    Raises:
        ValueError: a label is out of range or is not an integer, or shapes do not match.
        TypeError: an argument has the wrong type.

    Example:
        >>> import jaxgmm, numpy as np
        >>> jaxgmm.from_labels(np.array([[0.0], [2.0], [9.0]]), [0, 0, 1], num_components=2).means.tolist()
        [[1.0], [9.0]]
    """
    check_count(num_components, "num_components")
    covariance_type = as_covariance_type(covariance_type)
    x, weight = weighted_data(x, sample_weight, 1)
    if is_traced(labels):
        labels = jnp.asarray(labels).astype(int)
    else:
        with jax.ensure_compile_time_eval():
            numbers = np.asarray(as_float_array(labels, "labels", check_values=True))
        if (numbers != numbers.round()).any() or (numbers.size and not 0 <= numbers.min() <= numbers.max() < num_components):
            raise ValueError(
                f"labels go from {numbers.min():g} to {numbers.max():g}; integers from 0 to "
                f"num_components - 1 = {num_components - 1} were expected."
            )
        labels = numbers.astype(jax.dtypes.canonicalize_dtype(int))
    if labels.shape != (len(x),):
        raise ValueError(f"labels has shape {labels.shape}; one label per row was expected: ({len(x)},).")
    return _mixture_of_all(x, weight, labels, num_components, covariance_type)


@public
def from_responsibilities(
    x: ArrayLike, responsibilities: ArrayLike, *, covariance_type: str = "full", sample_weight: ArrayLike | None = None
) -> Mixture:
    """Return the mixture for given responsibilities: the M-step without regularisation. Bishop (2006), eq. 9.24 to 9.26.

    Args:
        x: (N, D).
        responsibilities: (N, K) >= 0. Each row should sum to one. The function does not normalise the rows.
        covariance_type: "full", "tied", "diag", "spherical", or a code such as "VEE": see `Mixture`.
        sample_weight: (N,) >= 0, or None.

    Returns:
        A Mixture with positive definite covariances. The covariance of a component is singular if its points are equal or
        collinear. Such a covariance gets the default regularisation of `m_step`.

    Raises:
        ValueError: shapes do not match, or a responsibility is negative or not finite.
        TypeError: an argument has the wrong type.

    Example:
        >>> import jaxgmm, numpy as np
        >>> jaxgmm.from_responsibilities(np.array([[0.0], [2.0]]), np.array([[1.0, 0.0], [0.5, 0.5]])).weights.tolist()
        [0.75, 0.25]
    """
    covariance_type = as_covariance_type(covariance_type)
    x, weight = weighted_data(x, sample_weight, 1)
    r = as_float_array(responsibilities, "responsibilities", check_values=True).astype(x.dtype)
    if r.ndim != 2 or len(r) != len(x) or r.shape[1] == 0:
        raise ValueError(f"responsibilities has shape {r.shape}; (N, K) with N={len(x)} and K >= 1 was expected.")
    if not is_traced(r) and r.size and extremes(r)[0] < 0:
        raise ValueError(f"responsibilities has a negative value, {extremes(r)[0]:.4g}; values >= 0 were expected.")
    return _mixture_of_all(x, weight, r, r.shape[1], covariance_type)


def _mixture_of_all(
    x: jax.Array, weight: jax.Array | None, groups: jax.Array | np.ndarray, num_components: int, covariance_type: str
) -> Mixture:
    """Return the mixture of given groups. The arrays are first padded to one of a few lengths, as by `pad_data`."""
    padded = pad_data(x, weight, groups)
    if len(padded.x) > len(x):
        groups = pad_rows(groups)
    return mixture_of_groups(*padded, groups, num_components=num_components, covariance_type=covariance_type, pseudo_count=0.0)


@overload
def weighted_data(x: ArrayLike, sample_weight: ArrayLike | None, num_components: int) -> tuple[jax.Array, jax.Array | None]: ...
@overload
def weighted_data(
    x: ArrayLike | Observations, sample_weight: ArrayLike | None, num_components: int
) -> tuple[Any, jax.Array | None]: ...
def weighted_data(
    x: ArrayLike | Observations, sample_weight: ArrayLike | None, num_components: int
) -> tuple[Any, jax.Array | None]:
    """Return validated data (N, D), or observations without weights, and weights (N,) or None.

    Raises:
        ValueError: there are fewer rows than components.
    """
    data, weight = as_rows(x, sample_weight)
    check_labels(data, num_components)
    rows = len(data) if weight is None or is_traced(weight) else num_positive(weight)
    if rows < max(num_components, 1):
        raise ValueError(
            f"x has {rows} rows; at least {max(num_components, 1)} were expected, one per component: use fewer components."
        )
    return data, weight


@partial(jax.jit, static_argnames=("num_components", "covariance_type", "pseudo_count"))
def mixture_of_groups(
    x: jax.Array, weight: Weight, groups: jax.Array, *, num_components: int, covariance_type: str, pseudo_count: float
) -> Mixture:
    """Return the mixture whose components have the moments of the groups of rows.

    The argument `groups` holds labels (N,) or responsibilities (N, K).

    Each covariance is a weighted average of the covariance of its group and the covariance of all data. The
    covariance of all data has the weight `pseudo_count` times the total weight of the data.
    """
    shift = first_valid_row(x, weight)
    k, d = num_components, x.shape[1]

    def shifted(rows: tuple[jax.Array, jax.Array], w: jax.Array, shift: jax.Array) -> tuple[jax.Array, jax.Array]:
        points, group = rows
        centred = jnp.where(w[:, None] > 0, points - shift[None], 0).T  # (D, n)
        return centred, jnp.where(group[None] == jnp.arange(k)[:, None], w[None], 0) if group.ndim == 1 else group.T * w[None]

    def sums(rows: tuple[jax.Array, jax.Array], w: jax.Array, shift: jax.Array) -> tuple:
        centred, r = shifted(rows, w, shift)
        return r.sum(1), jnp.matmul(r, centred.T, precision=jax.lax.Precision.HIGHEST)

    chunk = rows_per_chunk(k, d, x.dtype)
    count, first = sum_over_rows(sums, (x, groups), weight, chunk, (shift,))
    total = jnp.where(count.sum() > 0, count.sum(), 1)
    mean = jnp.where(count[:, None] > 0, first / jnp.where(count > 0, count, 1)[:, None], first.sum(0)[None] / total)

    def scatters(rows: tuple[jax.Array, jax.Array], w: jax.Array, shift: jax.Array, mean: jax.Array) -> jax.Array:
        centred, r = shifted(rows, w, shift)
        if groups.ndim == 1 and k >= MANY_COMPONENTS:  # each row belongs to one group, so that a matrix product gives all sums
            features = quadratic_features(centred - mean[rows[1]].T, covariance_type)
            return split_quadratic(covariance.einsum("kn,fn->kf", r, features), covariance_type, d)[0]
        return covariance.weighted_scatter(r, centred - mean[:, :, None], covariance_type)

    scatter = sum_over_rows(scatters, (x, groups), weight, chunk, (shift, mean))
    overall = data_covariance(ComponentSums(count, mean, scatter), shift, covariance_type)
    size = (shift + first.sum(0) / total) ** 2 + covariance.variances(overall, covariance_type, d)[0]
    make = _coupled_covariances if is_coupled(covariance_type) else _pooled_covariances
    covariances = make(count, scatter, overall, size, covariance_type, pseudo_count)
    covariances = covariance.select_components(count > 0, covariances, overall, covariance_type)
    return Mixture(count / total, mean + shift[None], covariances, covariance_type)


def _pooled_covariances(
    count: jax.Array, scatter: jax.Array, overall: jax.Array, size: jax.Array, covariance_type: str, pseudo_count: float
) -> jax.Array:
    """Return the covariances of groups, which are not singular; `size` (D,) is the squared size of the values of a feature.

    The other arguments are those of `mixture_of_groups`, the counts and scatters of the groups, and the covariance of all data.
    """
    extra = pseudo_count * _nonzero_total(count)
    divisor = covariance.pool_counts(count, covariance_type) + extra
    covariances = (covariance.pool(scatter, covariance_type) + extra * overall) / jnp.where(divisor > 0, divisor, 1)
    # the covariances of a start (pseudo_count > 0) always get a ridge, so that they have Cholesky factors; otherwise, only
    # singular covariances are changed
    if pseudo_count:
        singular = jnp.ones(len(covariances), bool)
    else:
        singular = is_singular(covariances, size, covariance_type)
        regularised = (divisor * covariances + PSEUDO_COUNT * overall) / (divisor + PSEUDO_COUNT)
        covariances = jnp.where(covariance.expand(singular, covariance_type), regularised, covariances)
    ridged = covariance.relative_ridge(covariances, ridge_fraction(len(size), count.dtype), covariance_type)
    return jnp.where(covariance.expand(singular, covariance_type), ridged, covariances)


def _coupled_covariances(
    count: jax.Array, scatter: jax.Array, overall: jax.Array, size: jax.Array, covariance_type: str, pseudo_count: float
) -> jax.Array:
    """Return the same as `_pooled_covariances` for coupled types. Groups without rows do not influence the others."""

    def make(extra: jax.Array | float) -> jax.Array:
        counts = jnp.where(count > 0, count + extra, 0)
        steps = FEW_STEPS if pseudo_count else MANY_STEPS
        return estimate(scatter + extra * overall, counts, covariance_type, num_steps=steps)

    def ridged(covariances: jax.Array) -> jax.Array:
        return covariance.relative_ridge(covariances, ridge_fraction(len(size), count.dtype), covariance_type)

    covariances = make(pseudo_count * _nonzero_total(count))
    if pseudo_count:
        return ridged(covariances)
    singular = (is_singular(covariances, size, covariance_type) & (count > 0)).any()
    return jax.lax.cond(singular, lambda: ridged(make(PSEUDO_COUNT)), lambda: covariances)


def _nonzero_total(count: jax.Array) -> jax.Array:
    """Return the sum of the counts, or 1 if all of them are 0."""
    return jnp.where(count.sum() > 0, count.sum(), 1)
