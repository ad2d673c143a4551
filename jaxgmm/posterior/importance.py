"""A proposal distribution for importance sampling: an adaptive mixture of multivariate t distributions.

The method of adaptation is that of Cappe, Douc, Guillin, Marin & Robert (2008), Statistics and Computing 18, 447-459. The
target p is the same under all labellings. Let q' be the average of the proposal q over all labellings. The aim is to move q'
towards p. For this, one EM step on q is enough, if the draws are weighted by the importance ratios p / q'.
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

DEGREES_OF_FREEDOM = 5  # degrees of freedom of the t distributions; few, because heavy tails keep importance ratios bounded
_EVEN_FRACTION = 0.1  # fraction of the total weight that is spread evenly over the parts (the t distributions)
_SMALLEST_VARIANCE = 1e-6  # smallest eigenvalue of a scale matrix, as a fraction of its largest; keeps the matrix invertible


class Proposal(NamedTuple):
    """A mixture of M multivariate t distributions in P dimensions. The t distributions are called its parts.

    Attributes:
        log_weight: (M,), logarithms of the weights, which sum to one.
        center: (M, P), the centres.
        scale: (M, P, P), the scale matrices.
        root: (M, P, P), scale = root root'.
        inverse: (M, P, P), the inverses of the roots.
        log_det: (M,), the log determinants of the roots.
    """

    log_weight: jax.Array
    center: jax.Array
    scale: jax.Array
    root: jax.Array
    inverse: jax.Array
    log_det: jax.Array


def make_proposal(log_weight: jax.Array, center: jax.Array, scale: jax.Array) -> Proposal:
    """Make a proposal from log weights (M,), centres (M, P) and scale matrices (M, P, P).

    Very small eigenvalues of a scale matrix are raised, so that the matrix is not singular. A fraction of the total weight is
    spread evenly over the parts, so that every part keeps some weight.
    """
    values, vectors = linalg.eigh(scale)
    values = jnp.sqrt(jnp.maximum(values, _SMALLEST_VARIANCE * values.max(-1, keepdims=True)))[:, None, :]
    inverse = jnp.swapaxes(vectors / values, -1, -2)
    even = math.log(_EVEN_FRACTION / len(log_weight))
    log_weight = jnp.logaddexp(log_weight + math.log1p(-_EVEN_FRACTION), even)
    return Proposal(log_weight, center, scale, vectors * values, inverse, jnp.log(values[:, 0]).sum(-1))


def draw(key: jax.Array, proposal: Proposal, num_samples: int) -> jax.Array:
    """Draw points (S, P). The number of points from each part is chosen by systematic sampling.

    The variance of an average over these draws is about equal to, or smaller than, that of an average over independent draws.
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

    return jax.vmap(move)(part, steps)


def log_parts(proposal: Proposal, z: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return log(weight times density) at z (P,) and the squared Mahalanobis distance of z, for each part: (M,) each."""
    size, degrees = z.shape[-1], DEGREES_OF_FREEDOM
    distance = (jnp.einsum("mij,mj->mi", proposal.inverse, z - proposal.center) ** 2).sum(-1)
    normaliser = gammaln((degrees + size) / 2) - gammaln(degrees / 2) - size / 2 * math.log(degrees * math.pi)
    tail = -(degrees + size) / 2 * jnp.log1p(distance / degrees)
    return proposal.log_weight + normaliser - proposal.log_det + tail, distance


def adapt(proposal: Proposal, z: jax.Array, log_ratios: jax.Array) -> Proposal:
    """Return the proposal after one EM step on draws z (S, P), weighted by their importance ratios exp(log_ratios) (S,).

    The largest ratios are truncated (Ionides 2008). The new centre and scale of each part are shrunk towards the old centre and
    scale. The old values get the weight of 2 P draws. If no ratio is finite, the proposal does not change.
    """
    size, count = z.shape[-1], len(z)
    log_mean = logsumexp(log_ratios) - math.log(count)
    log_ratios = jnp.minimum(log_ratios, log_mean + 0.5 * math.log(count))
    parts, distance = jax.vmap(lambda point: log_parts(proposal, point))(z)
    responsibility = jnp.exp(log_ratios - logsumexp(log_ratios))[:, None] * jax.nn.softmax(parts)  # (S, M)
    mass = responsibility.sum(0)
    effective_size = mass**2 / jnp.maximum((responsibility**2).sum(0), jnp.finfo(z.dtype).tiny)
    shrinkage = 2 * size / (effective_size + 2 * size)
    robust_weight = responsibility * (DEGREES_OF_FREEDOM + size) / (DEGREES_OF_FREEDOM + distance)
    present = mass > 0
    mean = (robust_weight.T @ z) / jnp.where(present, robust_weight.sum(0), 1)[:, None]
    center = jnp.where(present[:, None], mean + shrinkage[:, None] * (proposal.center - mean), proposal.center)

    def scatter_about(center: jax.Array, robust_weight: jax.Array) -> jax.Array:
        steps = z - center
        return (robust_weight[:, None] * steps).T @ steps

    scatter = jax.vmap(scatter_about, in_axes=(0, 1))(center, robust_weight) / nonzero(mass)[:, None, None]
    scale = scatter + shrinkage[:, None, None] * (proposal.scale - scatter)
    scale = jnp.where(present[:, None, None], scale, proposal.scale)
    new = make_proposal(jnp.log(jnp.maximum(mass, jnp.finfo(z.dtype).tiny)), center, scale)
    return jax.tree.map(lambda a, b: jnp.where(jnp.isfinite(log_mean), a, b), new, proposal)
