"""Fit one normal distribution to incomplete rows. A fit of several components takes V and its origin from it."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from .. import covariance
from ..incomplete.observations import Observations
from ..incomplete.rows import moments_of_columns
from ..mixture import Mixture
from ..padding import pad_data
from ..priors.interface import ComponentSums
from ..row_sums import Weight, weight_array, weight_or_ones
from .incomplete_sums import Blocks, IncompleteData, as_blocks, total_weight_of
from .loop import Options, finalize, init, is_running, step
from .m_step import data_covariance
from .problem import EMProblem, prepare

STEPS = 10  # largest number of EM steps; V only needs the right size
TOL = 1e-4  # nats per row


def incomplete_data(
    rows: Observations, weight: Any, covariance_type: str, num_components: int, *others: object
) -> tuple[IncompleteData, Weight, Mixture]:
    """Return rows in the form in which a fit works through them, their weights, and the fit of one component.

    Args:
        rows: observations without weights.
        weight: (N,), or None.
        covariance_type: the covariance type of the fit.
        num_components: K of the fit, on which the best form depends.
        *others: the other arguments of the fit; if one of them is traced, rows are neither grouped nor padded.
    """
    padded = pad_data(rows, weight, *others)
    blocks = as_blocks(rows, weight, num_components)
    form, left = (padded.x, padded.weight) if blocks is None else (blocks, None)
    observed, mass = jax.lax.stop_gradient((padded.x, padded.weight))
    return _summarise(form, left, observed, mass, covariance_type)


@partial(jax.jit, static_argnums=4)
def _summarise(form: Any, left: Weight, rows: Observations, weight: Weight, covariance_type: str) -> tuple:
    """Return the result of `incomplete_data`, given the rows in the form of the fit and one by one."""
    total = jax.lax.stop_gradient(total_weight_of(rows, weight))
    moments = moments_of_columns(rows, weight_or_ones(weight, (len(rows),), rows.dtype))
    center, start = start_of_columns(total, *moments, covariance_type)
    unlabelled = form._replace(allowed=None) if isinstance(form, Blocks) else dataclasses.replace(form, allowed=None)
    data = jax.lax.stop_gradient(IncompleteData(unlabelled, total, center, start.covariances))
    problem = prepare(start, EMProblem(data, left, None, None), jnp.asarray(TOL, rows.dtype))
    options = Options(STEPS, False, None, history=False)
    go_on, take_step = partial(is_running, options=options), partial(step, problem, options=options)
    found = finalize(problem, jax.lax.while_loop(go_on, take_step, init(problem, options)), start).mixture
    return IncompleteData(form, total, center, covariance_of_data(found, total, center)), left, found


def start_of_columns(
    total: jax.Array, mean: jax.Array, variances: jax.Array, covariance_type: str
) -> tuple[jax.Array, Mixture]:
    """Return the centre (D,) and the start of the fit of one component, given the moments (D,) of the observed values."""
    center = jnp.where(jnp.isfinite(mean), mean, 0)
    scatter = total * (jnp.diag(variances) if covariance.is_dense(covariance_type) else variances)[None]
    first = data_covariance(ComponentSums(total[None], jnp.zeros_like(mean)[None], scatter), center, covariance_type)
    return center, Mixture(jnp.ones(1, mean.dtype), mean[None], first, covariance_type)


def covariance_of_data(single: Mixture, total: jax.Array, center: jax.Array) -> jax.Array:
    """Return V of the penalty, given the fit of one component to rows of a total weight ()."""
    name, d = single.covariance_type, single.num_features
    of_one = single.covariances if covariance.is_dense(name) else covariance.variances(single.covariances, name, d)
    sums = ComponentSums(total[None], single.means - center, total * of_one)
    return jax.lax.stop_gradient(data_covariance(sums, center, name))


@partial(jax.jit, static_argnums=2)
def incomplete_batch(rows: Observations, weight: Weight, covariance_type: str) -> tuple[IncompleteData, Mixture]:
    """Return the results of `incomplete_data` for many data sets, which are neither grouped nor padded.

    Args:
        rows: observations without weights, (B, N, D), or (N, D) if all fits share them.
        weight: (B, N), or weights of rows that all data sets share.
        covariance_type: the covariance type of the fits.

    Returns:
        The data and the fits of one component. Only if the rows and the weights are shared, the second result and the fields of
        the first have no leading axis.
    """

    def one(rows: Observations, weight: Weight) -> tuple[IncompleteData, Mixture]:
        data, _, found = _summarise(rows, weight, rows, weight, covariance_type)
        return data._replace(rows=None), found

    values = weight_array(weight)
    axes = (0 if rows.ndim == 3 else None, 0 if values is not None and values.ndim == 2 else None)
    data, single = one(rows, weight) if axes == (None, None) else jax.vmap(one, in_axes=axes)(rows, weight)
    return data._replace(rows=rows), single
