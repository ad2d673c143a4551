"""A proposal distribution for importance sampling: an adaptive mixture of multivariate t distributions.

The adaptation is that of Cappe, Douc, Guillin, Marin & Robert (2008), Statistics and Computing 18, 447-459. Let q' be the
average of the proposal q over all labellings, and let the target p be the same under all labellings. A maximum likelihood step
that moves q' towards p can then be made on q itself, with the importance ratios p / q'.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.nn import logsumexp
from jax.scipy.special import gammaln

from .. import linalg
from ..row_sums import nonzero

DEGREES_OF_FREEDOM = 5  # degrees of freedom of the t distributions; a small number, because heavy tails keep the ratios bounded
_EVEN_FRACTION = 0.1  # fraction of the total weight that is spread evenly over the parts
_SMALLEST_VARIANCE = 1e-6  # smallest eigenvalue of a part's scale matrix, as a fraction of the largest


class Proposal(NamedTuple):
    """A mixture of M multivariate t distributions in P dimensions. The t distributions are called its parts.

    A part may be the distribution of some coordinates only, its active ones.

    Attributes:
        log_weight: (M,), logarithms of the weights, which sum to one.
        center: (M, P), the centres, 0 in coordinates that are not active.
        scale: (M, P, P), the scale matrices, diagonal in coordinates that are not active.
        root: (M, P, P), scale = root root'.
        inverse: (M, P, P), the inverses of the roots.
        log_det: (M,), the log determinants of the roots of the active coordinates' scale matrices.
        active: (M, P), whether each coordinate is active.
    """

    log_weight: jax.Array
    center: jax.Array
    scale: jax.Array
    root: jax.Array
    inverse: jax.Array
    log_det: jax.Array
    active: jax.Array


def make_proposal(log_weight: jax.Array, center: jax.Array, scale: jax.Array, active: jax.Array | None = None) -> Proposal:
    """Make a proposal from log weights (M,), centres (M, P), scale matrices (M, P, P) and active coordinates (M, P).

    By default all coordinates are active. Very small eigenvalues of a scale matrix are raised, so that the matrix is not
    singular. A fraction of the total weight is spread evenly over the parts, so that every part keeps some weight.
    """
    active = jnp.ones(center.shape, bool) if active is None else active
    both = active[:, :, None] & active[:, None, :]
    # a number of the size of the active variances on the rest of the diagonal does not change which eigenvalues are small
    size = jnp.where(active, jnp.diagonal(scale, axis1=-2, axis2=-1), 0).max(-1)
    size = jnp.where(size > 0, size, 1)[:, None]
    identity = jnp.eye(center.shape[-1], dtype=scale.dtype)
    scale = jnp.where(both, scale, jnp.where(active, 0, size)[:, :, None] * identity)
    values, vectors = linalg.eigh(scale)
    values = jnp.sqrt(jnp.maximum(values, _SMALLEST_VARIANCE * values.max(-1, keepdims=True)))[:, None, :]
    inverse = jnp.swapaxes(vectors / values, -1, -2)
    even = math.log(_EVEN_FRACTION / len(log_weight))
    log_weight = jnp.logaddexp(log_weight + math.log1p(-_EVEN_FRACTION), even)
    log_det = jnp.log(values[:, 0]).sum(-1) - jnp.where(active, 0, jnp.log(size) / 2).sum(-1)
    return Proposal(log_weight, jnp.where(active, center, 0), scale, vectors * values, inverse, log_det, active)


def draw(key: jax.Array, proposal: Proposal, num_samples: int) -> tuple[jax.Array, jax.Array]:
    """Draw points (S, P), and return also the part (S,) of each; systematic sampling decides how many come from each part.

    An average over these draws has at most about the variance of an average over independent draws. Coordinates that are not
    active hold numbers without a meaning.
    """
    key_part, key_normal = jax.random.split(key)
    size, dtype = proposal.center.shape[-1], proposal.center.dtype
    places = (jnp.arange(num_samples) + jax.random.uniform(key_part, dtype=dtype)) / num_samples
    part = jnp.searchsorted(jnp.cumsum(jnp.exp(proposal.log_weight))[:-1], places)
    normal = jax.random.normal(key_normal, (num_samples, size + DEGREES_OF_FREEDOM), dtype)
    # the chi-square variables are sums of squared normals, because jax.random.chisquare takes a second to compile
    steps = normal[:, :size] * jnp.sqrt(DEGREES_OF_FREEDOM / (normal[:, size:] ** 2).sum(-1, keepdims=True))

    def move(part: jax.Array, step: jax.Array) -> jax.Array:
        return proposal.center[part] + proposal.root[part] @ step

    return jax.vmap(move)(part, steps), part


def log_parts(proposal: Proposal, z: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return, for each part, log(weight times density) at z and the squared Mahalanobis distance of z, (M,) each.

    z: a point (P,), or one point for each part, (M, P).
    """
    degrees = DEGREES_OF_FREEDOM
    size = proposal.active.sum(-1)
    step = jnp.where(proposal.active, z - proposal.center, 0)
    distance = (jnp.einsum("mij,mj->mi", proposal.inverse, step) ** 2).sum(-1)
    normaliser = gammaln((degrees + size) / 2) - gammaln(degrees / 2) - size / 2 * math.log(degrees * math.pi)
    tail = -(degrees + size) / 2 * jnp.log1p(distance / degrees)
    return proposal.log_weight + normaliser - proposal.log_det + tail, distance


def adapt(proposal: Proposal, z: jax.Array, log_ratios: jax.Array, log_rest: jax.Array | None = None) -> Proposal:
    """Return the proposal after one EM step on draws, weighted by their importance ratios exp(log_ratios) (S,).

    The largest ratios are truncated (Ionides 2008). The new centre and scale of each part are shrunk towards the old centre and
    scale. The old values get the weight of 2 P draws. If no ratio is finite, the proposal does not change.

    Args:
        proposal: the proposal.
        z: (S, P), the draws, or (S, M, P), one version of each draw for each part.
        log_ratios: (S,), log target minus log proposal.
        log_rest: (S, M), log density of what a part does not draw from its t distribution, or None.
    """
    size, count = z.shape[-1], len(z)
    log_mean = logsumexp(log_ratios) - math.log(count)
    log_ratios = jnp.minimum(log_ratios, log_mean + 0.5 * math.log(count))
    parts, distance = jax.vmap(lambda point: log_parts(proposal, point))(z)
    parts = parts if log_rest is None else parts + log_rest
    responsibility = jnp.exp(log_ratios - logsumexp(log_ratios))[:, None] * jax.nn.softmax(parts)  # (S, M)
    mass = responsibility.sum(0)
    effective_size = mass**2 / jnp.maximum((responsibility**2).sum(0), jnp.finfo(z.dtype).tiny)
    shrinkage = 2 * size / (effective_size + 2 * size)
    robust_weight = responsibility * (DEGREES_OF_FREEDOM + proposal.active.sum(-1)) / (DEGREES_OF_FREEDOM + distance)
    present = mass > 0

    def moments(
        points: jax.Array, weight: jax.Array, shrinkage: jax.Array, center: jax.Array, active: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        points = jnp.where(active, points, 0)
        mean = weight @ points / nonzero(weight.sum())
        center = mean + shrinkage * (center - mean)
        steps = points - center
        return center, (weight[:, None] * steps).T @ steps

    axis = 1 if z.ndim == 3 else None
    center, scatter = jax.vmap(moments, (axis, 1, 0, 0, 0))(z, robust_weight, shrinkage, proposal.center, proposal.active)
    scatter = scatter / nonzero(mass)[:, None, None]
    center = jnp.where(present[:, None], center, proposal.center)
    scale = scatter + shrinkage[:, None, None] * (proposal.scale - scatter)
    scale = jnp.where(present[:, None, None], scale, proposal.scale)
    log_weight = jnp.log(jnp.maximum(mass, jnp.finfo(z.dtype).tiny))
    new = make_proposal(log_weight, center, scale, proposal.active)
    return jax.tree.map(lambda a, b: jnp.where(jnp.isfinite(log_mean), a, b), new, proposal)
