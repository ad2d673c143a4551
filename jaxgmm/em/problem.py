"""The problem that EM solves: the data, the regularisation and the start, in coordinates relative to the centre of the data."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .. import covariance
from ..chunking import rows_per_chunk
from ..covariance.estimates import Member
from ..mixture import Mixture
from ..priors.interface import ComponentSums, MixturePrior
from ..rounding import scatter_about_mean
from ..row_sums import Weight, first_valid_row, nonzero, sum_over_rows, weight_array, zero_silenced
from .incomplete_sums import IncompleteData
from .m_step import data_covariance


class EMProblem(NamedTuple):
    """The data and the regularisation of a fit, in the user's coordinates. They determine the objective at every mixture."""

    x: Any  # an array (N, D), or incomplete data
    weight: Weight
    prior: MixturePrior | None
    reg_covar: jax.Array | None
    member: Member | None = None  # the covariance type, if the program serves several types


class CenteredProblem(NamedTuple):
    """The problem in coordinates whose origin is the centre of the data. No field changes during a fit.

    The data in memory stay in the user's coordinates: the E-step subtracts the centre from one chunk of rows at a time.

    Attributes:
        x: (N, D), the data in the user's coordinates, or incomplete data.
        weight: the weights of the rows.
        prior: the prior, with a location relative to the centre, or None.
        reg_covar: as in `fit`.
        start: the start, with means relative to the centre.
        center: (D,), the weighted mean of the data.
        data_covariance: V, the covariance of the data, in storage form; the default regularisation uses it.
        total: (), the total weight of the data.
        tol: (), the largest change of the objective at which EM has converged, nats.
        member: the covariance type, if the program serves several types.
    """

    x: Any  # an array (N, D), or incomplete data
    weight: Weight
    prior: MixturePrior | None
    reg_covar: jax.Array | None
    start: Mixture
    center: jax.Array
    data_covariance: jax.Array
    total: jax.Array
    tol: jax.Array
    member: Member | None = None


class DataSums(NamedTuple):
    """The total weight () of rows, the weighted sum (D,) of their deviations from a point, and the scatter about this point."""

    total: jax.Array
    moment: jax.Array
    scatter: jax.Array


def prepare(start: Mixture, problem: EMProblem, tol: jax.Array) -> CenteredProblem:
    """Return the problem in centred coordinates. The function reads the data once."""
    x, weight, prior, reg_covar, _ = problem
    if isinstance(x, IncompleteData):
        prior = None if prior is None else prior.translate(x.center)
        start = dataclasses.replace(start, means=start.means - x.center[None])
        total = jnp.asarray(x.total)
        return CenteredProblem(x, weight, prior, reg_covar, start, x.center, x.data_covariance, total, tol * total)
    first = first_valid_row(x, weight)
    sums = sums_about(first, x, weight, start.covariance_type)
    values = weight_array(weight)
    if values is not None:  # if a weight is negative, the total becomes NaN, and therefore the status becomes NONFINITE
        sums = sums._replace(total=jnp.where((values >= 0).all(), sums.total, jnp.nan))
    return from_sums(start, problem, tol, first, sums)


def sums_about(first: jax.Array, x: jax.Array, weight: Weight, covariance_type: str) -> DataSums:
    """Return the sums, over rows x (N, D), of deviations from the row `first` (D,), from which `from_sums` makes a problem."""

    def chunk_sums(rows: jax.Array, w: jax.Array, first: jax.Array) -> DataSums:
        y = zero_silenced(rows - first[None], w).T  # (D, n)
        scatter = covariance.weighted_scatter(w[None], y[None], covariance_type)[0]
        return DataSums(w.sum(), covariance.einsum("dn,n->d", y, w), scatter)

    chunk = rows_per_chunk(1, x.shape[1], x.dtype)
    return sum_over_rows(chunk_sums, x, weight, chunk, (first,))


def from_sums(start: Mixture, problem: EMProblem, tol: jax.Array, first: jax.Array, sums: DataSums) -> CenteredProblem:
    """Return the problem in coordinates whose origin is the mean, given the result of `sums_about` for all rows."""
    (x, weight, prior, reg_covar, member), covariance_type = problem, start.covariance_type
    total, moment, scatter = sums
    mean = first + moment / nonzero(total)
    center = jax.lax.stop_gradient(jnp.where(jnp.isfinite(mean), mean, 0))
    about_mean = scatter_about_mean(total[None], moment[None], scatter[None], covariance_type)
    component = ComponentSums(total[None], (mean - center)[None], about_mean)
    if prior is not None:
        prior = prior.translate(center)
    start = dataclasses.replace(start, means=start.means - center[None])
    v = data_covariance(component, center, covariance_type)
    return CenteredProblem(x, weight, prior, reg_covar, start, center, v, total, tol * total, member)
