"""Anderson acceleration of EM, safeguarded: Anderson (1965); Henderson & Varadhan (2019), DAAREM.

The step F(theta) of EM is extrapolated through the last few differences of theta and of F(theta), in coordinates where every
vector is a mixture: log weights, means, and factors of the covariances with log diagonals. The caller takes an extrapolated
point only where the objective did not fall, else plain EM's; so the objective never falls and the limit is a fixed point of EM.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .. import covariance, linalg
from ..mixture import Mixture

DEPTH = 4  # differences remembered; 10 took more steps over random problems, and so did forgetting them at a refusal
_WARM_UP = 4  # plain steps before the first extrapolation
_SLOW = 0.7  # EM that shrinks its steps faster than this needs no help
_LONGEST_WAIT = 5  # plain steps after a refusal, at most: no more than one E-step in six is wasted
_RIDGE = 1e-10  # of the least-squares problem, relative


class Memory(NamedTuple):
    """The last differences: steps and residuals (DEPTH, P), the last point and residual (P,), and two counts.

    filled: differences that are valid. patience: plain steps still to take, after an extrapolation was refused.
    refusals: in a row.
    """

    points: jax.Array
    residuals: jax.Array
    last_point: jax.Array
    last_residual: jax.Array
    filled: jax.Array
    patience: jax.Array
    refusals: jax.Array


def init_memory(mixture: Mixture) -> Memory:
    """Nothing remembered."""
    flat = jax.eval_shape(lambda m: to_vector(m, m), mixture)
    rows, row = jnp.zeros((DEPTH, *flat.shape), flat.dtype), jnp.zeros(flat.shape, flat.dtype)
    return Memory(rows, rows, row, row, jnp.array(-1), jnp.array(_WARM_UP), jnp.array(0))


def to_vector(mixture: Mixture, scale: Mixture) -> jax.Array:
    """Unconstrained coordinates (P,); `scale` fixes the units: means and factors are divided by its standard deviations."""
    kind, d = mixture.covariance_type, mixture.num_features
    unit = _unit(scale)
    weights = jnp.where(mixture.weights > 0, jnp.log(jnp.where(mixture.weights > 0, mixture.weights, 1)), 0)
    lower = covariance.factorize(mixture.covariances, kind, d).lower
    if covariance.is_dense(kind):
        lower = lower / unit[:, None]
        diagonal = linalg.diagonal(lower)
        lower = jnp.tril(lower, -1) + jnp.log(diagonal)[..., None] * np.eye(d, dtype=lower.dtype)
    else:
        lower = jnp.log(lower)
    return jnp.concatenate([weights, (mixture.means / unit).ravel(), lower.ravel()])


def from_vector(vector: jax.Array, like: Mixture, scale: Mixture) -> Mixture:
    """The mixture at a vector of `to_vector`; weights that are 0 in `like` stay so."""
    kind, (k, d) = like.covariance_type, like.means.shape
    unit = _unit(scale)
    weights = jnp.where(like.weights > 0, jnp.exp(vector[:k]), 0)
    lower = vector[k + k * d :].reshape(like.covariances.shape)
    if covariance.is_dense(kind):
        diagonal = linalg.diagonal(lower)
        lower = unit[:, None] * (jnp.tril(lower, -1) + jnp.exp(diagonal)[..., None] * np.eye(d, dtype=lower.dtype))
        covariances = lower @ jnp.swapaxes(lower, -1, -2)
    else:
        covariances = jnp.exp(2 * lower)
    return dataclasses.replace(
        like, weights=weights / weights.sum(), means=vector[k : k + k * d].reshape(k, d) * unit, covariances=covariances
    )


def _unit(scale: Mixture) -> jax.Array:
    """A standard deviation a feature (D,), fixed for the whole fit by its start."""
    return jnp.sqrt(covariance.variances(scale.covariances, scale.covariance_type, scale.num_features).mean(0))


def extrapolate(memory: Memory, current: Mixture, stepped: Mixture, scale: Mixture) -> tuple[Mixture, Memory, jax.Array]:
    """The next point to try from theta and F(theta), the memory with this pair, and whether it was extrapolated."""
    point, image = to_vector(current, scale), to_vector(stepped, scale)
    residual = image - point
    known = memory.filled >= 0  # there is a last point
    slot = jnp.maximum(memory.filled, 0) % DEPTH
    fresh = jnp.isfinite(residual).all() & (abs(point - memory.last_point).max() > 0) & known
    points = jnp.where(fresh, memory.points.at[slot].set(point - memory.last_point), memory.points)
    residuals = jnp.where(fresh, memory.residuals.at[slot].set(residual - memory.last_residual), memory.residuals)
    filled = jnp.where(fresh | ~known, memory.filled + 1, memory.filled)
    gram = residuals @ residuals.T
    used = jnp.arange(DEPTH) < filled
    trace = jnp.where(jnp.trace(gram) > 0, jnp.trace(gram), 1)
    gram = jnp.where(used[:, None] & used, gram, 0) + jnp.diag(jnp.where(used, _ridge(gram.dtype) * trace, 1))
    mixing = jnp.where(used, linalg.solve(gram, jnp.where(used, residuals @ residual, 0)[:, None])[:, 0], 0)
    vector = image - mixing @ (points + residuals)
    slow = residual @ residual > _SLOW**2 * (memory.last_residual @ memory.last_residual)
    ready = (memory.patience <= 0) & (filled > 0) & slow & jnp.isfinite(vector).all()
    extrapolated = from_vector(jnp.where(ready, vector, image), stepped, scale)
    # a component that EM has just emptied keeps what plain EM gave it
    proposal = jax.tree.map(lambda a, b: jnp.where(ready, a, b), extrapolated, stepped)
    memory = Memory(points, residuals, point, residual, filled, memory.patience - 1, memory.refusals)
    return proposal, memory, ready


def update_memory(memory: Memory, extrapolated: jax.Array, accepted: jax.Array, settled: jax.Array) -> Memory:
    """The memory once the caller has judged a proposal: a refusal makes it wait longer each time.

    settled: the objective hardly changed, so the next step is to be a plain one, which can tell whether EM has converged.
    """
    refused = extrapolated & ~accepted
    refusals = jnp.where(refused, memory.refusals + 1, jnp.where(extrapolated, 0, memory.refusals))
    patience = jnp.where(refused, jnp.minimum(2 ** jnp.minimum(refusals, 5), _LONGEST_WAIT), memory.patience)
    patience = jnp.where(settled, jnp.maximum(patience, 1), patience)
    return memory._replace(patience=patience, refusals=refusals)


def _ridge(dtype: jax.typing.DTypeLike) -> float:
    return max(_RIDGE, 100 * float(jnp.finfo(dtype).eps))
