"""Validate observations for `select`, and make the starts of its fits."""

from __future__ import annotations

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from ..em.initialization import StartOptions, start_of_incomplete_rows
from ..em.single_normal import incomplete_batch
from ..incomplete.checks import check_columns, check_match
from ..incomplete.observations import Observations
from ..mixture import Mixture
from ..row_sums import Weight, weight_array, weight_or_ones


def check_observations(
    rows: Observations, weight: jax.Array | None, counts: list[int], covariance_types: list[str], *, has_prior: bool
) -> None:
    """Raise ValueError if observations without weights do not suit one of the models, as in `fit`."""
    if not has_prior:
        check_columns(rows, weight)
    for name in covariance_types:
        for count in counts:
            check_match(rows, count, name)


@partial(jax.jit, static_argnums=(4, 5))
def starts_of_observations(
    key: jax.Array,
    rows: Observations,
    weights: Weight,
    counts: jax.Array | np.ndarray,
    options: StartOptions,
    num_restarts: int,
) -> Mixture:
    """Return the starts of all fits as one stack, each from a key that depends on its number of components and its fold.

    Args:
        key: a random key.
        rows: observations without weights.
        weights: the weights of F folds (F, N), or weights of N rows that all fits share.
        counts: the numbers of components.
        options: the options of `initialize`, with the largest number of components. Components that a smaller model does not
            have are absent (weight 0).
        num_restarts: the number of starts for each number of components and each fold.
    """
    values = weight_array(weights)
    single = incomplete_batch(rows, weights, options.covariance_type)[1]
    if not single.batch_shape:
        single = jax.tree.map(lambda leaf: leaf[None], single)
    ones = weight_or_ones(weights, rows.shape[:1], rows.dtype) if values is None else values
    of_folds = ones.reshape(-1, len(rows))  # (F, N)
    keys = jax.random.split(key, (options.num_components, len(of_folds), num_restarts))[jnp.asarray(counts) - 1]

    def one_start(cell: tuple[jax.Array, jax.Array, jax.Array]) -> Mixture:
        key, count, fold = cell
        own = jax.tree.map(lambda leaf: leaf[fold], single)
        return start_of_incomplete_rows(key, rows, of_folds[fold], own, options, count)

    shape = (len(counts), len(of_folds), num_restarts)
    index = jnp.meshgrid(jnp.asarray(counts), jnp.arange(len(of_folds)), jnp.arange(num_restarts), indexing="ij")
    return jax.lax.map(one_start, (keys.reshape(math.prod(shape)), index[0].ravel(), index[1].ravel()))
