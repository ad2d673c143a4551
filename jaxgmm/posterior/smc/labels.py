"""Draw labels for the rows with many particles at once, and sum the rows of each label.

This is `conditionals.sum_by_labels` for particles and unweighted rows. The particles are the last axis of the arrays. The rows
are processed one after another, so that the cost is proportional to the number of rows that have entered. Each row enters the
sums as a deviation from the means of the components.
"""

from __future__ import annotations

import itertools
import math

import jax
import jax.numpy as jnp

from ... import covariance
from ...covariance.quadratic import split_quadratic
from ...priors.interface import ComponentSums
from ...rounding import scatter_about_mean
from ...row_sums import FirstRows, nonzero, vary_with
from ..conditionals import GibbsState, draw_labels

_MOST_FEATURES = 4  # with more features, the expressions that are written out for each pair of features compile slowly


def are_written_out(num_features: int) -> bool:
    """Return whether there are so few features that the expressions for all pairs of features are written out.

    `sum_labels_of_particles` is used only in this case.
    """
    return num_features <= _MOST_FEATURES


def sum_labels_of_particles(
    key: jax.Array, states: GibbsState, y: jax.Array, rows: FirstRows, covariance_type: str
) -> ComponentSums:
    """Draw a label for each row with each particle, and sum the rows by label.

    Args:
        key: a random key.
        states: the particles (M, ...).
        y: (N, D), the rows.
        rows: the first `rows.num_rows` rows get labels. Rows after the first `rows.limit` rows are not visited.
        covariance_type: covariance type of the particles.

    Returns:
        The sums (M, K, ...).
    """
    m, k, d = states.means.shape
    means, whitener = jnp.moveaxis(states.means, 0, -1), jnp.moveaxis(states.factors.whitener, 0, -1)
    constant = (states.log_weights - states.factors.half_log_det).T - 0.5 * d * math.log(2 * math.pi)
    pairs = pairs_of_features(d, covariance_type)

    def add_row(i: jax.Array, sums: tuple) -> tuple:
        deviation = [y[i, j] - means[:, j] for j in range(d)]  # (K, M) each
        joint = constant - 0.5 * sum(z**2 for z in whitened_deviations(whitener, deviation, covariance_type))
        uniform = jax.random.uniform(jax.random.fold_in(key, i), (m,), y.dtype)
        label = jnp.where(i < rows.num_rows, draw_labels(uniform, joint), k)
        # Without the barrier, XLA would compute the label again for each of the sums.
        label = jax.lax.optimization_barrier(label)
        chosen = (label == jnp.arange(k)[:, None]).astype(y.dtype)
        first = [chosen * one for one in deviation]
        return tuple(map(jnp.add, sums, (*(first[a] * deviation[b] for a, b in pairs), *first, chosen)))

    zero = vary_with(tuple(jnp.zeros((k, m), y.dtype) for _ in range(len(pairs) + d + 1)), y, states, key)
    end = rows.num_rows if rows.limit is None else rows.limit
    sums = jnp.stack(jax.lax.fori_loop(0, end, add_row, zero), -1)  # (K, M, F)
    return jax.vmap(lambda one, state: _finish(one, state, covariance_type), (1, 0))(sums, states)


def pairs_of_features(num_features: int, covariance_type: str) -> list[tuple[int, int]]:
    """Return the pairs of features whose products `quadratic_features` computes, in the same order."""
    d = num_features
    dense = covariance.is_dense(covariance_type)
    return list(itertools.combinations_with_replacement(range(d), 2)) if dense else [(j, j) for j in range(d)]


def whitened_deviations(whitener: jax.Array, deviation: list[jax.Array], covariance_type: str) -> list[jax.Array]:
    """Return the whitened deviations (K, M), one array for each feature. The particles are the last axis of the whiteners."""
    features = range(len(deviation))
    if not covariance.is_dense(covariance_type):
        wide = jnp.broadcast_to(whitener, (len(whitener), len(deviation), whitener.shape[-1]))
        return [wide[:, j] * deviation[j] for j in features]
    return [sum((whitener[:, i, j] * deviation[j] for j in features[1:]), whitener[:, i, 0] * deviation[0]) for i in features]


def _finish(sums: jax.Array, state: GibbsState, covariance_type: str) -> ComponentSums:
    """Return the ComponentSums of one particle, from the sums (K, F) of quadratic features of deviations from its means."""
    second, first, count = split_quadratic(sums, covariance_type, state.means.shape[-1])
    precision = covariance.precision(state.factors.whitener, covariance_type)
    scatter = scatter_about_mean(count, first, second, covariance_type, precision)
    return ComponentSums(count, state.means + first / nonzero(count)[:, None], scatter)
