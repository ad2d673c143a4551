"""Safeguarded Anderson acceleration of EM: Anderson (1965); Henderson & Varadhan (2019), DAAREM.

A point theta is a vector of the parameters, and F(theta) is the point after one EM step. The next point is extrapolated from
the last few differences between successive points theta, and between successive values F(theta). The coordinates are the log
weights, the means, and the Cholesky factors of the covariances with logarithms on their diagonals. Every vector of such
coordinates is a valid mixture; if the covariances of a type share parameters, those of the type that are nearest to the
extrapolated covariances are taken. The caller accepts an extrapolated point only if the objective does not fall. Otherwise, the
caller takes the plain EM step. The objective therefore never falls, and the limit is a fixed point of EM.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from .. import covariance, linalg
from ..covariance.estimates import Member, nearest
from ..density import safe_log
from ..mixture import Mixture

# number of stored differences. On random problems, EM needed more steps with 10 differences. It also needed more steps if each
# rejection cleared the memory.
DEPTH = 4
_WARM_UP = 4  # number of plain steps before the first extrapolation
_SLOW = 0.7  # extrapolate only if a step is longer than this fraction of the previous step; otherwise plain EM is fast enough
_LONGEST_WAIT = 5  # largest number of plain steps after a rejection; thus at most one E-step in six is wasted
_RIDGE = 1e-10  # ridge added to the least-squares problem, as a fraction of its trace


class Memory(NamedTuple):
    """The memory of the acceleration.

    The memory consists of a ring buffer of DEPTH differences for the extrapolation, and of counters that decide when to
    extrapolate.

    Attributes:
        points: (DEPTH, P), differences between successive points theta.
        residuals: (DEPTH, P), differences between successive residuals F(theta) - theta.
        last_point: (P,), the last theta.
        last_residual: (P,), the last F(theta) - theta.
        filled: (), the number of differences stored so far; -1 before the first point.
        patience: (), the number of plain steps still to take before the next extrapolation.
        rejections: (), the number of extrapolations rejected in a row.
    """

    points: jax.Array
    residuals: jax.Array
    last_point: jax.Array
    last_residual: jax.Array
    filled: jax.Array
    patience: jax.Array
    rejections: jax.Array


def init_memory(mixture: Mixture) -> Memory:
    """Return an empty memory for mixtures with the shape of `mixture`."""
    flat = jax.eval_shape(lambda m: to_vector(m, m), mixture)
    rows, row = jnp.zeros((DEPTH, *flat.shape), flat.dtype), jnp.zeros(flat.shape, flat.dtype)
    return Memory(rows, rows, row, row, jnp.array(-1), jnp.array(_WARM_UP), jnp.array(0))


def to_vector(mixture: Mixture, scale: Mixture) -> jax.Array:
    """Return the unconstrained coordinates (P,) of a mixture. The standard deviations of `scale` are their units of length."""
    covariance_type, d = mixture.covariance_type, mixture.num_features
    unit = _standard_deviations(scale)
    weights = jnp.where(mixture.weights > 0, safe_log(mixture.weights), 0)
    lower = covariance.factorize(mixture.covariances, covariance_type, d).lower
    if covariance.is_dense(covariance_type):
        lower = lower / unit[None, :, None]
        diagonal = linalg.diagonal(lower)
        lower = jnp.tril(lower, -1) + jnp.log(diagonal)[..., None] * linalg.identity(lower)
    else:
        lower = jnp.log(lower)
    return jnp.concatenate([weights, (mixture.means / unit[None]).ravel(), lower.ravel()])


def from_vector(vector: jax.Array, like: Mixture, scale: Mixture, member: Member | None = None) -> Mixture:
    """Return the mixture with the given coordinates. This function inverts `to_vector`; weights that are 0 in `like` stay 0.

    If the program serves several covariance types, `member` is the type.
    """
    covariance_type, (k, d) = like.covariance_type, like.means.shape
    unit = _standard_deviations(scale)
    weights = jnp.where(like.weights > 0, jnp.exp(vector[:k]), 0)
    lower = vector[k + k * d :].reshape(like.covariances.shape)
    if covariance.is_dense(covariance_type):
        diagonal = linalg.diagonal(lower)
        lower = unit[None, :, None] * (jnp.tril(lower, -1) + jnp.exp(diagonal)[..., None] * linalg.identity(lower))
        covariances = covariance.from_factor(lower, covariance_type)
    else:
        covariances = jnp.exp(2 * lower)
    means = vector[k : k + k * d].reshape(k, d) * unit[None]
    weights = weights / weights.sum()
    covariances = nearest(covariances, weights, covariance_type, like.covariances, member)
    return dataclasses.replace(like, weights=weights, means=means, covariances=covariances)


def _standard_deviations(scale: Mixture) -> jax.Array:
    """Return the units (D,) of the coordinates: for each feature, the root of its average variance in `scale`."""
    return jnp.sqrt(covariance.variances(scale.covariances, scale.covariance_type, scale.num_features).mean(0))


def extrapolate(
    memory: Memory, current: Mixture, stepped: Mixture, scale: Mixture, member: Member | None = None
) -> tuple[Mixture, Memory, jax.Array]:
    """Return the next point to try, the memory with this step added, and whether the point is extrapolated.

    Args:
        memory: the memory of the earlier steps.
        current: theta.
        stepped: F(theta), which is the next point if this step is not extrapolated.
        scale: the start of the fit, which determines the units of the coordinates.
        member: the covariance type, if the program serves several types.
    """
    point, image = to_vector(current, scale), to_vector(stepped, scale)
    residual = image - point
    points, residuals, filled = _with_differences(memory, point, residual)
    mixing = _solve_least_squares(residuals, residual, jnp.arange(DEPTH) < filled)
    vector = image - mixing @ (points + residuals)
    slow = residual @ residual > _SLOW**2 * (memory.last_residual @ memory.last_residual)
    ready = (memory.patience <= 0) & (filled > 0) & slow & jnp.isfinite(vector).all()
    extrapolated = from_vector(jnp.where(ready, vector, image), stepped, scale, member)
    # return a plain step unchanged: conversion to a vector and back would change components that have just become empty
    proposal = jax.tree.map(lambda a, b: jnp.where(ready, a, b), extrapolated, stepped)
    memory = Memory(points, residuals, point, residual, filled, memory.patience - 1, memory.rejections)
    return proposal, memory, ready


def _with_differences(memory: Memory, point: jax.Array, residual: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Add the newest differences to the memory if they are finite and not zero; return `points`, `residuals` and `filled`."""
    has_last = memory.filled >= 0
    slot = jnp.maximum(memory.filled, 0) % DEPTH
    usable = jnp.isfinite(residual).all() & (abs(point - memory.last_point).max() > 0) & has_last
    points = jnp.where(usable, memory.points.at[slot].set(point - memory.last_point), memory.points)
    residuals = jnp.where(usable, memory.residuals.at[slot].set(residual - memory.last_residual), memory.residuals)
    return points, residuals, jnp.where(usable | ~has_last, memory.filled + 1, memory.filled)


def _solve_least_squares(differences: jax.Array, residual: jax.Array, used: jax.Array) -> jax.Array:
    """Approximate the residual by a combination of the differences where `used` is True.

    The result contains the coefficients (DEPTH,) of the combination. They are 0 where `used` is False.
    """
    gram = differences @ differences.T
    trace = jnp.where(jnp.trace(gram) > 0, jnp.trace(gram), 1)
    ridge = max(_RIDGE, 100 * float(jnp.finfo(gram.dtype).eps))
    gram = jnp.where(used[:, None] & used[None], gram, 0) + jnp.diag(jnp.where(used, ridge * trace, 1))
    return jnp.where(used, linalg.solve(gram, jnp.where(used, differences @ residual, 0)[:, None])[:, 0], 0)


def update_memory(memory: Memory, extrapolated: jax.Array, accepted: jax.Array, settled: jax.Array) -> Memory:
    """Return the memory after a proposal was accepted or rejected.

    The more extrapolations are rejected in a row, the more plain steps follow before the next extrapolation.

    Args:
        memory: the memory from `extrapolate`.
        extrapolated: whether the proposal was extrapolated.
        accepted: whether the caller accepted the proposal.
        settled: whether the objective hardly changed. The next step is then a plain step, because a fit can converge only at a
            plain step.
    """
    rejected = extrapolated & ~accepted
    rejections = jnp.where(rejected, memory.rejections + 1, jnp.where(extrapolated, 0, memory.rejections))
    patience = jnp.where(rejected, jnp.minimum(2 ** jnp.minimum(rejections, 5), _LONGEST_WAIT), memory.patience)
    patience = jnp.where(settled, jnp.maximum(patience, 1), patience)
    return memory._replace(patience=patience, rejections=rejections)
