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

from ... import linalg
from ...row_sums import nonzero

DEGREES_OF_FREEDOM = 5  # degrees of freedom of the t distributions; few, because heavy tails keep importance ratios bounded
_EVEN_FRACTION = 0.1  # fraction of the total weight that is spread evenly over the parts (the t distributions)
_SMALLEST_VARIANCE = 1e-6  # smallest eigenvalue of a scale matrix, as a fraction of its largest; keeps the matrix invertible


class Points(NamedTuple):
    """Points with P coordinates in each of V systems, numbered 0, ..., V - 1.

    Each part of a proposal uses one of the systems for each coordinate. The module `coordinates` defines the systems.

    Attributes:
        z: (..., V, P), the coordinates in each system.
        log_slope: (..., K). Its sum over the empty components of a part is the log-Jacobian log|d chosen / d first|. Here
            `first` are the coordinates in system 0, and `chosen` are the coordinates that the part uses.
    """

    z: jax.Array
    log_slope: jax.Array


class Proposal(NamedTuple):
    """A mixture of M multivariate t distributions in P dimensions. The t distributions are called its parts.

    The last E parts have empty components (see the module `coordinates`). All other parts use system 0 for all coordinates.

    Attributes:
        empty: (E, K), whether each component is empty, for each of the last E parts.
        system: (E, P), the index of the system that each of the last E parts uses for each coordinate.
        log_weight: (M,), logarithms of the weights, which sum to one.
        center: (M, P), the centres.
        scale: (M, P, P), the scale matrices.
        root: (M, P, P), scale = root root'.
        inverse: (M, P, P), the inverses of the roots.
        log_det: (M,), the log determinants of the roots.
    """

    empty: jax.Array
    system: jax.Array
    log_weight: jax.Array
    center: jax.Array
    scale: jax.Array
    root: jax.Array
    inverse: jax.Array
    log_det: jax.Array


def make_proposal(log_weight: jax.Array, center: jax.Array, scale: jax.Array, empty: jax.Array, system: jax.Array) -> Proposal:
    """Make a proposal with given weights (M,), centres (M, P) and scale matrices (M, P, P) of its parts.

    Each scale matrix is expressed in units in which its diagonal is 1. In these units, very small eigenvalues are raised, so
    that the matrix is not singular. A fraction of the total weight is spread evenly over the parts, so that every part keeps
    some weight.

    The arguments empty (E, K) and system (E, P) become the fields of the Proposal with these names.
    """
    sd = jnp.sqrt(nonzero(jnp.diagonal(scale, axis1=-2, axis2=-1)))
    values, vectors = linalg.eigh(scale / (sd[:, :, None] * sd[:, None, :]))
    values = jnp.sqrt(jnp.maximum(values, _SMALLEST_VARIANCE * values.max(-1, keepdims=True)))[:, None, :]
    root, inverse = sd[:, :, None] * vectors * values, jnp.swapaxes(vectors / values / sd[:, :, None], -1, -2)
    even = math.log(_EVEN_FRACTION / len(log_weight))
    log_weight = jnp.logaddexp(log_weight + math.log1p(-_EVEN_FRACTION), even)
    return Proposal(empty, system, log_weight, center, scale, root, inverse, (jnp.log(values[:, 0]) + jnp.log(sd)).sum(-1))


def draw(key: jax.Array, proposal: Proposal, num_samples: int) -> tuple[jax.Array, jax.Array]:
    """Draw points (S, P) from the proposal, and return also booleans (S, K) that mark empty components.

    Each point is drawn from one part of the proposal. Each part has its own coordinate system, which gives the point's
    coordinates. The booleans of the point are True for the components that are empty in this part.

    Systematic sampling decides how many points come from each part. An average over these draws has about the same variance as
    an average over independent draws, or a smaller one.
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

    return jax.vmap(move)(part, steps), _for_all_parts(proposal.empty, proposal)[part]


def choose_coordinates(values: jax.Array, system: jax.Array) -> jax.Array:
    """Choose, for each of P coordinates, the value in one system. `values` (..., V, P) holds the values in all V systems.

    `system` (P,) holds the index of the system for each coordinate; the result is (..., P). For one point, with values (V, P),
    the argument `system` may also be (M, P); the result is then (M, P).
    """
    chosen = values[..., 0, :]
    for number in range(1, values.shape[-2]):
        chosen = jnp.where(system == number, values[..., number, :], chosen)
    return chosen


def _for_all_parts(values: jax.Array, proposal: Proposal) -> jax.Array:
    """Extend values (E, ...) of the last E parts to all parts, (M, ...). All other parts get 0."""
    return jnp.pad(values, ((len(proposal.center) - len(values), 0), *[(0, 0)] * (values.ndim - 1)))


def log_parts(proposal: Proposal, point: Points) -> tuple[jax.Array, jax.Array]:
    """Return, for each part, log(weight times density) at a point, and the squared Mahalanobis distance of the point.

    Both are (M,). The density is with respect to the coordinates of the point in system 0.
    """
    size, degrees = point.z.shape[-1], DEGREES_OF_FREEDOM
    plain = len(proposal.center) - len(proposal.empty)
    chosen = choose_coordinates(point.z, proposal.system) - proposal.center[plain:]
    steps = jnp.concatenate([point.z[0] - proposal.center[:plain], chosen])
    distance = (jnp.einsum("mij,mj->mi", proposal.inverse, steps) ** 2).sum(-1)
    slope = _for_all_parts(jnp.where(proposal.empty, point.log_slope, 0).sum(-1), proposal)
    normaliser = gammaln((degrees + size) / 2) - gammaln(degrees / 2) - size / 2 * math.log(degrees * math.pi)
    tail = -(degrees + size) / 2 * jnp.log1p(distance / degrees)
    return proposal.log_weight + normaliser - proposal.log_det + tail + slope, distance


def adapt(proposal: Proposal, points: Points, log_ratios: jax.Array) -> Proposal:
    """Return the proposal after one EM step on draws (S, P), weighted by their importance ratios exp(log_ratios) (S,).

    The largest ratios are truncated (Ionides 2008). The new centre and scale of each part are shrunk towards the old centre and
    scale. The old values get the weight of 2 P draws. If no ratio is finite, the proposal does not change.
    """
    count, _, size = points.z.shape
    log_mean = logsumexp(log_ratios) - math.log(count)
    log_ratios = jnp.minimum(log_ratios, log_mean + 0.5 * math.log(count))
    parts, distance = jax.vmap(lambda point: log_parts(proposal, point))(points)
    responsibility = jnp.exp(log_ratios - logsumexp(log_ratios))[:, None] * jax.nn.softmax(parts)  # (S, M)
    mass = responsibility.sum(0)
    effective_size = mass**2 / jnp.maximum((responsibility**2).sum(0), jnp.finfo(mass.dtype).tiny)
    shrinkage = 2 * size / (effective_size + 2 * size)
    robust_weight = responsibility * (DEGREES_OF_FREEDOM + size) / (DEGREES_OF_FREEDOM + distance)
    present = mass > 0

    def moments(system: jax.Array, old: jax.Array, weight: jax.Array, shrinkage: jax.Array) -> tuple[jax.Array, jax.Array]:
        z = choose_coordinates(points.z, system)
        mean = weight @ z / nonzero(weight.sum())
        center = mean + shrinkage * (old - mean)
        return center, (weight[:, None] * (z - center)).T @ (z - center)

    center, scatter = jax.vmap(moments)(_for_all_parts(proposal.system, proposal), proposal.center, robust_weight.T, shrinkage)
    center = jnp.where(present[:, None], center, proposal.center)
    scatter = scatter / nonzero(mass)[:, None, None]
    scale = scatter + shrinkage[:, None, None] * (proposal.scale - scatter)
    scale = jnp.where(present[:, None, None], scale, proposal.scale)
    log_mass = jnp.log(jnp.maximum(mass, jnp.finfo(mass.dtype).tiny))
    new = make_proposal(log_mass, center, scale, proposal.empty, proposal.system)
    return jax.tree.map(lambda a, b: jnp.where(jnp.isfinite(log_mean), a, b), new, proposal)
