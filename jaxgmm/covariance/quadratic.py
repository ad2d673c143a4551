"""Express log-densities and scatters in the quadratic features of the data, so that matrix products compute both.

The features of a point x are the products of two entries, the entries themselves, and 1. A log-density is linear in them, and
the moments of a component are their weighted sums over the data.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from . import is_dense, precision, transform


def quadratic_features(x: jax.Array, covariance_type: str) -> jax.Array:
    """Return the F features [x_i x_j (i <= j), x, 1] (dense) or [x_i^2, x, 1] (diagonal) of each point: x (D, n) -> (F, n).

    Each feature is the product of two rows of [x, 1]. Therefore, two gather operations and one product compute all features.
    """
    d = len(x)
    i, j = np.triu_indices(d) if is_dense(covariance_type) else (np.arange(d), np.arange(d))
    extended = jnp.concatenate([x, jnp.ones_like(x[:1])])
    return extended[np.r_[i, : d + 1]] * extended[np.r_[j, [d] * (d + 1)]]


def quadratic_coefficients(whitener: jax.Array, means: jax.Array, constant: jax.Array, covariance_type: str) -> jax.Array:
    """Return coefficients (K, F) that express a quadratic function of each component in the F features of `quadratic_features`.

    The function of component k is constant_k - |W_k (x - mu_k)|^2 / 2, for the whitener W_k and the mean mu_k.
    """
    k, d = means.shape
    inverse = precision(whitener, covariance_type)
    linear = transform(inverse, means, covariance_type)
    if is_dense(covariance_type):
        i, j = np.triu_indices(d)
        squares = inverse[:, i, j] * np.where(i == j, -0.5, -1.0).astype(means.dtype)[None]
    else:
        squares = -0.5 * jnp.broadcast_to(inverse, means.shape)
    squares = jnp.broadcast_to(squares, (k, squares.shape[-1]))
    return jnp.concatenate([squares, linear, (constant - 0.5 * (linear * means).sum(-1))[:, None]], -1)


def split_quadratic(sums: jax.Array, covariance_type: str, num_features: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return the scatter about 0, the first moments (K, D) and the counts (K,), from sums (K, F) of `quadratic_features`."""
    d = num_features
    squares, first, count = sums[:, : -d - 1], sums[:, -d - 1 : -1], sums[:, -1]
    if is_dense(covariance_type):
        i, j = np.triu_indices(d)
        where = np.zeros((d, d), int)
        where[i, j] = where[j, i] = np.arange(len(i))
        squares = squares[:, where]
    return squares, first, count
