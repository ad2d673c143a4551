"""Compute what incomplete rows say about each component: log-densities, and the conditional law of the complete row.

A row observes y = m (x + e), where m is its mask of observed features and e ~ N(0, S) its noise. Let x = mu_k + L_k u with
u ~ N(0, I), Q = m L_k, T = m (Sigma_k + S) m + (1 - m), T = M M', f = M^-1 m (y - mu_k) and G = M^-1 Q. Then

    log N(y | k) = -|f|^2 / 2 - sum_i log M_ii - (number of observed features / 2) log 2 pi,
    E[u | y] = G' f,    Cov[u | y] = I - G' G.

The matrix T has ones on its diagonal for missing features, so that all rows have matrices of the same size. If Sigma_k and S
are diagonal, all matrices are diagonal. Sources: Ghahramani & Jordan (1994); Bovy, Hogg & Roweis (2011), eq. 16 to 20.
"""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from .. import covariance, linalg
from ..mixture import Mixture
from .censoring import LimitEffects, confined, lifted, limit_effects
from .checks import is_diagonal
from .observations import Observations
from .rows import shifted_limits


class Conditional(NamedTuple):
    """The law of u given the observed values of each row n, for each component.

    Attributes:
        log_normal: (K, n), log N(y_n | k).
        residual: (D, K, n), f.
        gain: (D, D, K or 1, n), G with its rows first, or its diagonal (D, K, n).
        simulated: (D, K, n), M^-1 m s for numbers s that the caller gave, or None.
        limits: what limits of censored values add to the law of u, or None.
    """

    log_normal: jax.Array
    residual: jax.Array
    gain: jax.Array
    simulated: jax.Array | None = None
    limits: LimitEffects | None = None


def conditional(
    means: jax.Array,
    factors: covariance.Factors,
    rows: Observations,
    covariance_type: str,
    *,
    with_gain: bool = True,
    simulated: jax.Array | None = None,
) -> Conditional:
    """Return log-densities and the conditional law of the whitened rows, given their observed values.

    Args:
        means: (K, D).
        factors: the factors of the covariances.
        rows: n rows without weights.
        covariance_type: the covariance type of the mixture.
        with_gain: whether the gain is needed; otherwise it has no columns, unless there are limits.
        simulated: (D, K, n), further rows without their means, or None.
    """
    mask = rows.mask().T.astype(means.dtype)  # (D, n)
    is_seen = mask[:, None] > 0
    right = [jnp.where(is_seen, rows.x.T[:, None] - means.T[:, :, None], 0)]  # (D, K, n)
    if simulated is not None:
        right.append(jnp.where(is_seen, simulated, 0))
    if is_diagonal(covariance_type, rows.noise):
        sd = jnp.broadcast_to(factors.lower, means.shape).T[:, :, None]
        root, gain = diagonal_factors(sd, mask, rows.noise)
        half_log_det, solved = jnp.log(root).sum(0), [side / root for side in right]
    else:
        matrix, root = masked_matrices(factors.lower, mask, rows.noise, covariance_type, means.shape[1])
        half_log_det, gain, *solved = eliminate(matrix, root if with_gain or rows.lower is not None else root[:, :0], *right)
    constant = mask.sum(0) * (math.log(2 * math.pi) / 2)
    log_normal = -0.5 * (solved[0] ** 2).sum(0) - half_log_det - constant[None]
    found = Conditional(log_normal, solved[0], gain, solved[1] if simulated is not None else None)
    if rows.lower is None:
        return found
    log_probability, limits = limit_effects((found.gain, found.residual), means, factors, rows, covariance_type)
    return found._replace(log_normal=log_normal + log_probability, limits=limits)


def diagonal_factors(sd: jax.Array, mask: jax.Array, noise: jax.Array | None) -> tuple[jax.Array, jax.Array]:
    """Return the diagonals of M and G, (D, K, n), for standard deviations (D, K, 1), masks (D, n) and noise."""
    variance = sd**2 if noise is None else sd**2 + noise.T[:, None]
    root = jnp.sqrt(jnp.where(mask[:, None] > 0, variance, 1))
    return root, mask[:, None] * sd / root


def masked_matrices(
    lower: jax.Array, mask: jax.Array, noise: jax.Array | None, covariance_type: str, num_features: int
) -> tuple[jax.Array, jax.Array]:
    """Return T and Q, (D, D, K or 1, n), for factors of covariances, masks (D, n) and the noise of the rows."""
    lower = _dense(lower, covariance_type, num_features)
    sigma = covariance.einsum("kia,kja->ijk", lower, lower)[..., None]
    if noise is not None and noise.ndim == 2:
        noise = noise[:, :, None] * jnp.eye(num_features, dtype=noise.dtype)
    total = sigma if noise is None else sigma + jnp.moveaxis(noise, 0, -1)[:, :, None]
    both = (mask[:, None] * mask[None])[:, :, None]
    missing = (1 - mask)[:, None, None] * jnp.eye(num_features, dtype=mask.dtype)[:, :, None, None]
    return jnp.where(both > 0, total, 0) + missing, mask[:, None, None] * jnp.moveaxis(lower, 0, -1)[..., None]


def eliminate(matrix: jax.Array, *right: jax.Array) -> tuple[jax.Array, ...]:
    """Return sum_i log M_ii, (...), and M^-1 B for each right side B (D, ..., K or 1, n), where T = M M' is (D, D, ..., n).

    The rows of the data are the last axis of all arrays, so that the operations of one Cholesky step work on all of them.
    """
    half_log_det, solved = jnp.zeros(matrix.shape[2:], matrix.dtype), [[] for _ in right]
    for _ in range(len(matrix)):
        root = jnp.sqrt(jnp.where(matrix[0, 0] > 0, matrix[0, 0], jnp.nan))
        half_log_det += jnp.log(root)
        column = matrix[1:, 0] / root
        rest = []
        for side, done in zip(right, solved, strict=True):
            done.append(side[0] / root)
            between = column if side.ndim == column.ndim else column[:, None]
            rest.append(side[1:] - between * done[-1][None])
        right, matrix = tuple(rest), matrix[1:, 1:] - column[:, None] * column[None]
    return half_log_det, *(jnp.stack(done) for done in solved)


def conditional_means(given: Conditional) -> jax.Array:
    """Return E[u | y_n, k], (K, D, n)."""
    mean = lifted(given.gain, given.residual)
    return mean if given.limits is None else mean + given.limits.shift


def draw_conditional(
    means: jax.Array, factors: covariance.Factors, rows: Observations, covariance_type: str, normal: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Return log N(y_n | k), (K, n), and draws of x_n - mu_k given y_n, the limits and the component k, (K, D, n).

    A complete row and its noise are drawn first. The draw is then corrected by the conditional mean of the difference between
    the observed values and those of the drawn row (Hoffman & Ribak 1991), which needs no further factorisation.

    Args:
        means: (K, D).
        factors: the factors of the covariances. Their square roots need not be triangular.
        rows: n rows without weights, each with its own noise.
        covariance_type: the covariance type of the mixture.
        normal: (n, 2 D), standard normal numbers.
    """
    k, d = means.shape
    u = jnp.broadcast_to(normal[:, :d].T, (k, d, len(normal)))
    drawn = covariance.whiten_each(factors.lower, u, covariance_type) + noise_from(rows, normal[:, d:]).T[None]
    given = conditional(means, factors, rows, covariance_type, simulated=jnp.moveaxis(drawn, 1, 0))
    assert given.simulated is not None
    u = u + lifted(given.gain, given.residual - given.simulated)
    if rows.lower is not None:
        u = confined((given.gain, given.residual), u, means, factors, rows, covariance_type)
    return given.log_normal, covariance.whiten_each(factors.lower, u, covariance_type)


def noise_from(rows: Observations, normal: jax.Array) -> jax.Array:
    """Return noise (n, D) of rows, each with its own noise, made of standard normal numbers (n, D)."""
    if rows.noise is None:
        return jnp.zeros_like(normal)
    if rows.noise.ndim == 2:
        return jnp.sqrt(rows.noise) * normal
    values, vectors = linalg.eigh(rows.noise)
    return covariance.einsum("nij,nj->ni", vectors, jnp.sqrt(jnp.maximum(values, 0)) * normal)


def explained(given: Conditional, weights: jax.Array, covariance_type: str) -> jax.Array:
    """Return sum_n w_kn (I - Cov[u | y_n, k]) for weights (K, n) as a scatter of the covariance type."""
    found = _explained_by_values(given, weights, covariance_type)
    if given.limits is None:
        return found
    q, change = given.limits.direction, weights[:, None] * given.limits.change
    if not covariance.is_dense(covariance_type):
        return found - (change * q**2).sum(-1)
    return found - covariance.einsum("kan,kbn->kab", change * q, q)


def _explained_by_values(given: Conditional, weights: jax.Array, covariance_type: str) -> jax.Array:
    """Return sum_n w_kn G_n' G_n for weights (K, n) as a scatter of the covariance type."""
    if given.gain.ndim == 3:
        return covariance.einsum("kn,akn->ka", weights, given.gain**2)
    if not covariance.is_dense(covariance_type):
        return covariance.einsum("kn,akn->ka", weights, (given.gain**2).sum(0))
    k, (d, _, _, n) = len(weights), given.gain.shape
    gain = jnp.broadcast_to(given.gain, (d, d, k, n))
    return covariance.einsum("iakn,ibkn->kab", gain * weights, gain)


def centered(rows: Observations, center: jax.Array) -> Observations:
    """Return rows with a centre (D,) subtracted from the observed values."""
    return shifted_limits(dataclasses.replace(rows, x=jnp.where(rows.mask(), rows.x - center[None], 0)), center, 1)


def whitened_to_data(mixture: Mixture, factors: covariance.Factors, u: jax.Array) -> jax.Array:
    """Return mu_k + L_k u_k for whitened points u (K, D, n)."""
    return mixture.means[:, :, None] + covariance.whiten_each(factors.lower, u, mixture.covariance_type)


def conditional_covariances(mixture: Mixture, factors: covariance.Factors, given: Conditional) -> jax.Array:
    """Return Cov[x | y_n, k] = L (I - G'G) L', (n, K, D, D)."""
    k, d = mixture.means.shape
    gain = given.gain
    if gain.ndim == 3:
        gain = gain[:, None] * jnp.eye(d, dtype=gain.dtype)[:, :, None, None]
    left = jnp.eye(d, dtype=gain.dtype)[:, :, None, None] - covariance.einsum("iakn,ibkn->abkn", gain, gain)
    left = jnp.broadcast_to(left, (d, d, k, left.shape[-1]))
    if given.limits is not None:
        q, change = given.limits.direction, given.limits.change
        if given.gain.ndim == 3:
            left += jnp.moveaxis(change, 1, 0)[:, None] * jnp.eye(d, dtype=gain.dtype)[:, :, None, None]
        else:
            left += covariance.einsum("kan,kbn->abkn", change * q, q)
    lower = jnp.broadcast_to(_dense(factors.lower, mixture.covariance_type, d), (k, d, d))
    return covariance.einsum("kia,abkn,kjb->nkij", lower, left, lower)


def _dense(lower: jax.Array, covariance_type: str, num_features: int) -> jax.Array:
    """Return factors of covariances as matrices (K or 1, D, D)."""
    if covariance.is_dense(covariance_type):
        return lower
    return jnp.broadcast_to(lower, (len(lower), num_features))[:, :, None] * jnp.eye(num_features, dtype=lower.dtype)
