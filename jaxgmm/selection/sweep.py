"""Fit all numbers of components of one covariance type as one batch, to all rows or to the folds of a cross-validation."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from ..chunking import padded_length
from ..covariance.estimates import Member
from ..covariance.types import fewest_points, type_of_marginals
from ..density import log_prob
from ..devices.host import to_host
from ..em.batch.fit_many import EMOptions, fit_many, fit_members
from ..em.batch.restarts import best_of, concentration_of, identified, largest_first
from ..em.initialization import StartOptions
from ..em.restart_starts import num_fitted, restart_starts
from ..em.result import Fit
from ..incomplete.observations import Data, Observations
from ..mixture import Mixture
from ..padding import pad_data
from ..priors.interface import MixturePrior
from ..row_sums import Weight, weight_or_ones
from .observation_starts import starts_of_observations

Array: TypeAlias = jax.Array | np.ndarray


class SweepOptions(EMOptions, total=False):
    """The options of `select` that are passed to `fit_many`."""

    prior: MixturePrior | None


class Sweep(NamedTuple):
    """The arguments of the fits of one covariance type: numbers of components, and options of starts, fits and folds.

    If several types are fitted by the same programs, `member` is the type.
    """

    counts: list[int]
    num_restarts: int
    num_folds: int
    method: str
    options: SweepOptions
    member: Member | None


def best_fits(key: jax.Array, x: Data, weights: Array | None, covariance_type: str, sweep: Sweep) -> Fit:
    """Return the best fit for each number of components and each row of the weights (F, N), as a stack (len(counts), F).

    If the weights are (N,) or None, all fits share them without copies, and F is 1. All starts have as many components as the
    largest model, so that all fits run as one batch. The components that a smaller model does not use are absent (weight 0).
    If the programs serve several covariance types, the covariances of the result are stored as those of full or diag.
    """
    folds = 1 if weights is None or weights.ndim == 1 else len(weights)
    num_starts = sweep.num_restarts if isinstance(x, Observations) else num_fitted(sweep.num_restarts)
    shape = (len(sweep.counts), folds, num_starts)
    weight = weights
    if weights is not None and weights.ndim == 2:
        weight = np.broadcast_to(weights[None, :, None], (*shape, len(x))).reshape(-1, len(x))
    member, fewest = sweep.member, np.asarray(fewest_points(covariance_type, x.shape[1]))
    start_type = covariance_type if member is None else type_of_marginals(member.wide_type)
    start_options = StartOptions(max(sweep.counts), start_type, sweep.method)
    counts, padded = np.array(sweep.counts), pad_data(x, weights)
    if isinstance(x, Observations):
        starts = starts_of_observations(key, *padded, counts, start_options, sweep.num_restarts)
    else:
        starts = _sweep_starts(key, *padded, counts, start_options, sweep.num_restarts, member)
    fit_options: SweepOptions = {"history": False, **sweep.options}
    if member is None:
        fits = fit_many(starts, x, sample_weight=weight, **fit_options)
    else:
        assert not isinstance(x, Observations)  # their programs serve one covariance type
        fits = fit_members(starts, x, member, weight, fit_options)
        fits = dataclasses.replace(fits, mixture=dataclasses.replace(fits.mixture, covariance_type=start_type))
    totals = np.asarray(len(x), x.dtype) if weights is None else np.asarray(weights).sum(-1)
    concentration = identified(x, concentration_of(sweep.options.get("prior"), max(sweep.counts), x.dtype))
    return _best(fits, totals.reshape(folds), concentration, fewest, shape)


@partial(jax.jit, static_argnums=(4, 5))
def _sweep_starts(
    key: jax.Array,
    x: jax.Array,
    weights: Weight,
    counts: Array,
    options: StartOptions,
    num_restarts: int,
    member: Member | None,
) -> Mixture:
    """Return the starts of all fits as one stack, each from a key that depends on its number of components and its fold.

    The weights are an array (F, N), or weights of N rows that all fits share.
    """
    rows_weights = weight_or_ones(weights, x.shape[:1], x.dtype).reshape(-1, len(x))  # (F, N)
    keys = jax.random.split(key, (options.num_components, len(rows_weights)))[jnp.asarray(counts) - 1]  # (len(counts), F)

    def one_cell(cell: tuple[jax.Array, jax.Array, jax.Array]) -> Mixture:
        key, count, fold = cell
        return restart_starts(key, x, rows_weights[fold], options, num_restarts, num_present=count, member=member)

    count, fold = jnp.meshgrid(counts, jnp.arange(len(rows_weights)), indexing="ij")
    starts = jax.lax.map(one_cell, (keys.reshape(-1), count.reshape(-1), fold.reshape(-1)))
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), starts)


@partial(jax.jit, static_argnums=4)
def _best(fits: Fit, totals: Array, concentration: Array, fewest: Array, shape: tuple[int, int, int]) -> Fit:
    """Return the best restarts (len(counts), F) of fits of the shape (len(counts), F, restarts); the total weights are (F,).

    The components of each fit are ordered by weight, so that absent components are last. The concentrations are (K,). `fewest`
    is the argument of `has_degenerate_component`.
    """

    def best(fits: Fit, total: Array) -> Fit:
        chosen = best_of(fits, total, jnp.asarray(fewest))
        return largest_first(jax.tree.map(lambda leaf: leaf[chosen], fits), concentration)

    fits = jax.tree.map(lambda leaf: leaf.reshape(*shape, *leaf.shape[1:]), fits)
    return jax.vmap(jax.vmap(best), in_axes=(0, None))(fits, totals)


def cross_validate(keys: Sequence[jax.Array], x: Data, weight: Array | None, covariance_type: str, sweep: Sweep) -> np.ndarray:
    """Return -2 times the log-likelihood of the held-out rows, for each number of components. `keys` holds two random keys."""
    key_folds, key_fits = keys
    weight = np.ones(len(x), x.dtype) if weight is None else np.asarray(weight)
    folds = _folds(key_folds, len(x), sweep.num_folds)
    held_out = np.where(folds == np.arange(sweep.num_folds)[:, None], weight, 0)  # (F, N): weights, 0 outside the fold
    trained = to_host(best_fits(key_fits, x, weight - held_out, covariance_type, sweep).mixture)  # (len(counts), F)
    densities = np.stack([log_prob(trained[:, f], x) for f in range(len(held_out))], 1)  # (len(counts), F, N)
    return -2 * (held_out * np.where(held_out > 0, densities, 0)).sum((-2, -1))


def _folds(key: jax.Array, num_rows: int, num_folds: int) -> np.ndarray:
    """Return the fold (N,) of each row; folds are random, and their sizes differ by at most one."""
    uniform = np.asarray(jax.random.uniform(key, (padded_length(num_rows),)))[:num_rows]
    return np.argsort(np.argsort(uniform)) % num_folds
