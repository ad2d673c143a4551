"""Fit K and K + 1 components to each of several data sets, as pairs for a likelihood ratio."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .. import covariance
from ..devices.host import Tree
from ..em.batch.fit_many import EMOptions, fit_many
from ..em.batch.restarts import best_of, largest_first
from ..em.initialization import StartOptions
from ..em.restart_starts import restart_starts
from ..em.result import Fit, unsoundness_of
from ..incomplete.observations import Observations
from ..incomplete.rows import with_weights
from ..linalg import eigh
from ..mixture import Mixture
from ..padding import pad_data
from ..row_sums import Weight, total_weight
from .observation_starts import starts_of_observations

_SPLIT = 0.8  # distance of the halves of a split component from its mean, in standard deviations along its longest axis


class Search(NamedTuple):
    """The options of the search for the best fits with K and K + 1 components, for the data and for every replicate.

    num_starts: the number of fits to one data set with each number of components, apart from those that begin at a split.
    """

    num_components: int
    start_options: StartOptions
    num_restarts: int
    num_starts: int
    options: EMOptions

    @property
    def starts(self) -> tuple[StartOptions, int]:
        """The options of the starts and the number of restarts, as `restart_starts` expects them."""
        return self.start_options, self.num_restarts

    @property
    def num_fits(self) -> int:
        """The number of fits to one data set."""
        return 2 * self.num_starts + self.num_components


class Pairs(NamedTuple):
    """The best fits (B,) with K and with K + 1 components, and the statistic (B,), NaN where a fit is not sound."""

    null: Fit
    alternative: Fit
    statistic: np.ndarray


def best_pairs(keys: jax.Array, x: Any, weight: jax.Array | None, search: Search) -> Pairs:
    """Return the best fits to each of B data sets (B, N, D), arrays or observations, with common weights (N,) or None."""
    size, fitted, k = len(keys), search.num_starts, search.num_components
    data_sets = jax.tree.map(lambda leaf: np.repeat(np.asarray(leaf), 2 * fitted, 0), x)
    fits = _stacked(_fit_each(_starts(keys, x, weight, search), data_sets, weight, search), (size, 2, fitted))
    total = total_weight(weight, x.shape[1], x.dtype)
    null = _best(jax.tree.map(lambda leaf: leaf[:, 0], fits), total)
    split = _split(null.mixture, k)  # (B, K)
    data_sets = jax.tree.map(lambda leaf: np.repeat(np.asarray(leaf), k, 0), x)
    refits = _fit_each(_stacked(split, (size * k,), 2), data_sets, weight, search)
    both = jax.tree.map(lambda a, b: np.concatenate([a[:, 1], b], 1), fits, _stacked(refits, (size, k)))
    alternative = _best(both, total)
    sound = np.asarray((unsoundness_of(null, total) == 0) & (unsoundness_of(alternative, total) == 0))
    statistic = 2 * (np.asarray(alternative.log_likelihood, float) - np.asarray(null.log_likelihood, float))
    return Pairs(null, alternative, np.where(sound, statistic, np.nan))


def _starts(keys: jax.Array, x: Any, weight: jax.Array | None, search: Search) -> Mixture:
    """Return the starts of all fits to B data sets as one stack, F for each data set and number of components, (2 B F,)."""
    counts = np.array([search.num_components, search.num_components + 1])
    if isinstance(x, Observations):
        members = [pad_data(jax.tree.map(lambda leaf, b=b: leaf[b], x), weight) for b in range(len(keys))]
        each = [starts_of_observations(key, *one, counts, *search.starts) for key, one in zip(keys, members, strict=True)]
    else:
        padded, shape = pad_data(x, weight), (2 * search.num_starts,)
        # The program that makes the starts of one data set is called for the data and for each replicate. It compiles in half
        # of the time of a program for all data sets together.
        members = zip(keys, padded.x, strict=True)
        each = [_stacked(_start_one(key, one, padded.weight, counts, *search.starts), shape, 2) for key, one in members]
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *each)


@partial(jax.jit, static_argnums=(4, 5))
def _start_one(
    key: jax.Array, x: jax.Array, weight: Weight, present: np.ndarray, options: StartOptions, num_restarts: int
) -> Mixture:
    """Return starts (2, F) for one data set (N, D): F starts for each of the two numbers of components in `present`."""

    def one(arguments: tuple[jax.Array, jax.Array]) -> Mixture:
        return restart_starts(arguments[0], x, weight, options, num_restarts, num_present=arguments[1])

    return jax.lax.map(one, (jax.random.split(key), jnp.asarray(present)))


def _fit_each(starts: Mixture, data_sets: Any, weight: jax.Array | None, search: Search) -> Fit:
    """Fit each data set (M, N, D) from its own start, and return the fits on the host."""
    weights = None if weight is None else np.broadcast_to(np.asarray(weight), data_sets.shape[:2])
    fits = fit_many(starts, *with_weights(data_sets, weights), **search.options)
    return jax.tree.map(np.asarray, fits)


def _stacked(tree: Tree, shape: tuple[int, ...], axes: int = 1) -> Tree:
    """Return a tree in which `shape` replaces the first `axes` leading axes of each leaf."""
    return jax.tree.map(lambda leaf: np.asarray(leaf).reshape(*shape, *leaf.shape[axes:]), tree)


@jax.jit
def _best(fits: Fit, total: jax.Array) -> Fit:
    """Return the best fit along the second axis of fits (B, R), with its components ordered by weight.

    An absent component stays the last one.
    """
    equal = jnp.ones(fits.mixture.num_components)

    def best(fits: Fit) -> Fit:
        chosen = best_of(fits, total)
        return largest_first(jax.tree.map(lambda leaf: leaf[chosen], fits), equal)

    return jax.vmap(best)(fits)


@partial(jax.jit, static_argnums=1)
def _split(mixtures: Mixture, num_components: int) -> Mixture:
    """Return starts (B, K), in each of which one of K components is split in two along its longest axis.

    The mixtures (B,) have K + 1 components, of which the last one is absent and becomes the second half.
    """
    return jax.vmap(lambda mixture: jax.vmap(lambda k: _split_one(mixture, k))(jnp.arange(num_components)))(mixtures)


def _split_one(mixture: Mixture, k: jax.Array) -> Mixture:
    """Return a start in which component k is split in two, and its second half replaces the last component."""
    count, d = mixture.num_components, mixture.num_features
    dense = covariance.to_dense(mixture.covariances, mixture.covariance_type, count, d)
    values, vectors = eigh(dense[k])
    step = _SPLIT * jnp.sqrt(jnp.maximum(values[-1], 0)) * vectors[:, -1]
    weights = mixture.weights.at[k].multiply(0.5).at[-1].set(mixture.weights[k] / 2)
    means = mixture.means.at[k].add(step).at[-1].set(mixture.means[k] - step)
    own = mixture.covariances  # if all components share one covariance, there is nothing to copy
    covariances = own.at[-1].set(own[k]) if len(own) == count else own
    return dataclasses.replace(mixture, weights=weights, means=means, covariances=covariances)
