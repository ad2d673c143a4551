"""Safeguarded Anderson acceleration of EM: Anderson (1965); Henderson & Varadhan (2019), DAAREM.

The EM map F(theta) is extrapolated through the last few differences of theta and of F(theta), in coordinates where every vector
is a mixture: log weights, means, and factors of the covariances with logarithms on their diagonals. The caller accepts an
extrapolated point only if the objective did not fall, and otherwise takes the plain EM step. The objective therefore never
falls, and the limit is a fixed point of EM.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from .. import covariance, linalg
from ..density import safe_log
from ..mixture import Mixture

DEPTH = 4  # remembered differences; 10 took more steps over random problems, and so did forgetting them after a rejection
_WARM_UP = 4  # plain steps before the first extrapolation
_SLOW = 0.7  # EM that shrinks its steps by a smaller factor than this is fast enough without extrapolation
_LONGEST_WAIT = 5  # plain steps after a rejection, at most, so that no more than one E-step in six is wasted
_RIDGE = 1e-10  # of the least-squares problem, relative to its trace


class Memory(NamedTuple):
    """The differences that an extrapolation uses, in a ring of DEPTH slots, and when to extrapolate.

    Attributes:
        points: (DEPTH, P), differences of successive points theta.
        residuals: (DEPTH, P), differences of successive residuals F(theta) - theta.
        last_point: (P,).
        last_residual: (P,).
        filled: (), the number of valid differences; -1 before the first point.
        patience: (), plain steps still to take before the next extrapolation.
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
    """Return an empty memory for mixtures of this shape."""
    flat = jax.eval_shape(lambda m: to_vector(m, m), mixture)
    rows, row = jnp.zeros((DEPTH, *flat.shape), flat.dtype), jnp.zeros(flat.shape, flat.dtype)
    return Memory(rows, rows, row, row, jnp.array(-1), jnp.array(_WARM_UP), jnp.array(0))


def to_vector(mixture: Mixture, scale: Mixture) -> jax.Array:
    """Return unconstrained coordinates (P,); means and factors are divided by the standard deviations of `scale`."""
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


def from_vector(vector: jax.Array, like: Mixture, scale: Mixture) -> Mixture:
    """Return the mixture with the coordinates of `to_vector`; weights that are 0 in `like` stay 0."""
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
    return dataclasses.replace(like, weights=weights / weights.sum(), means=means, covariances=covariances)


def _standard_deviations(scale: Mixture) -> jax.Array:
    """Return one standard deviation for each feature (D,): the units of the coordinates, which stay fixed during a fit."""
    return jnp.sqrt(covariance.variances(scale.covariances, scale.covariance_type, scale.num_features).mean(0))


def extrapolate(memory: Memory, current: Mixture, stepped: Mixture, scale: Mixture) -> tuple[Mixture, Memory, jax.Array]:
    """Return the next point to try, the memory with this step added, and whether the point is extrapolated.

    Args:
        memory: of the steps before.
        current: theta.
        stepped: F(theta), which is the next point if it is not yet time to extrapolate.
        scale: the start, which fixes the units of the coordinates.
    """
    point, image = to_vector(current, scale), to_vector(stepped, scale)
    residual = image - point
    points, residuals, filled = _with_differences(memory, point, residual)
    mixing = _solve_least_squares(residuals, residual, jnp.arange(DEPTH) < filled)
    vector = image - mixing @ (points + residuals)
    slow = residual @ residual > _SLOW**2 * (memory.last_residual @ memory.last_residual)
    ready = (memory.patience <= 0) & (filled > 0) & slow & jnp.isfinite(vector).all()
    extrapolated = from_vector(jnp.where(ready, vector, image), stepped, scale)
    # the plain step is returned as it is, because `from_vector` would change components that EM has just emptied
    proposal = jax.tree.map(lambda a, b: jnp.where(ready, a, b), extrapolated, stepped)
    memory = Memory(points, residuals, point, residual, filled, memory.patience - 1, memory.rejections)
    return proposal, memory, ready


def _with_differences(memory: Memory, point: jax.Array, residual: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return points, residuals and filled of a memory with the differences to the last point added, if they are usable."""
    has_last = memory.filled >= 0
    slot = jnp.maximum(memory.filled, 0) % DEPTH
    usable = jnp.isfinite(residual).all() & (abs(point - memory.last_point).max() > 0) & has_last
    points = jnp.where(usable, memory.points.at[slot].set(point - memory.last_point), memory.points)
    residuals = jnp.where(usable, memory.residuals.at[slot].set(residual - memory.last_residual), memory.residuals)
    return points, residuals, jnp.where(usable | ~has_last, memory.filled + 1, memory.filled)


def _solve_least_squares(differences: jax.Array, residual: jax.Array, used: jax.Array) -> jax.Array:
    """Return the coefficients (DEPTH,) of the used differences that best represent the residual; the others are 0."""
    gram = differences @ differences.T
    trace = jnp.where(jnp.trace(gram) > 0, jnp.trace(gram), 1)
    ridge = max(_RIDGE, 100 * float(jnp.finfo(gram.dtype).eps))
    gram = jnp.where(used[:, None] & used[None], gram, 0) + jnp.diag(jnp.where(used, ridge * trace, 1))
    return jnp.where(used, linalg.solve(gram, jnp.where(used, differences @ residual, 0)[:, None])[:, 0], 0)


def update_memory(memory: Memory, extrapolated: jax.Array, accepted: jax.Array, settled: jax.Array) -> Memory:
    """Return the memory after a proposal was judged: each rejection in a row makes it wait longer.

    Args:
        memory: from `extrapolate`.
        extrapolated: whether the proposal was extrapolated.
        accepted: whether the caller accepted it.
        settled: whether the objective hardly changed. The next step is then a plain one, because only that can converge a fit.
    """
    rejected = extrapolated & ~accepted
    rejections = jnp.where(rejected, memory.rejections + 1, jnp.where(extrapolated, 0, memory.rejections))
    patience = jnp.where(rejected, jnp.minimum(2 ** jnp.minimum(rejections, 5), _LONGEST_WAIT), memory.patience)
    patience = jnp.where(settled, jnp.maximum(patience, 1), patience)
    return memory._replace(patience=patience, rejections=rejections)
