"""A proposal for importance sampling in unconstrained space: a mixture of multivariate t's that learns, and labellings.

Adaptation: Cappe, Douc, Guillin, Marin & Robert (2008), Statistics and Computing 18, 447-459. With q the proposal, q' its average
over labellings and p symmetric, the maximum likelihood step of q' towards p is that of q with ratios p / q'.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jax.nn import log_sigmoid, logsumexp
from jax.scipy.special import gammaln

from .. import covariance, linalg
from ..chunking import labellings_per_batch
from ..mixture import Mixture
from .unconstrained_space import UnconstrainedSpace

DEGREES = 5  # of the t's: heavy tails keep ratios bounded
_FLOOR = 0.1  # share of the proposal that is spread evenly over its parts
_FLATTEST = 1e-6  # smallest variance of a part, as a share of its largest
_ENUMERATED = 6  # up to this K all K! labellings are averaged over; beyond, one is kept


class Proposal(NamedTuple):
    """M multivariate t's: log weights (M,), centers (M, P), scales (M, P, P), their roots, inverse roots and log-dets (M,)."""

    log_weight: jax.Array
    center: jax.Array
    scale: jax.Array
    root: jax.Array
    inverse: jax.Array
    log_det: jax.Array


def make_proposal(log_weight: jax.Array, center: jax.Array, scale: jax.Array) -> Proposal:
    """From weights, centers and positive definite scales, held off singularity."""
    values, vectors = linalg.eigh(scale)
    values = jnp.sqrt(jnp.maximum(values, _FLATTEST * values.max(-1, keepdims=True)))[:, None, :]
    inverse = jnp.swapaxes(vectors / values, -1, -2)
    log_weight = jnp.logaddexp(log_weight + math.log1p(-_FLOOR), math.log(_FLOOR / len(log_weight)))
    return Proposal(log_weight, center, scale, vectors * values, inverse, jnp.log(values[:, 0]).sum(-1))


def draw(key: jax.Array, proposal: Proposal, num_samples: int) -> jax.Array:
    """Draws (S, P), parts in their due shares: systematic sampling, whose variance is at most about that of independent draws."""
    key_part, key_normal = jax.random.split(key)
    size, dtype = proposal.center.shape[-1], proposal.center.dtype
    places = (jnp.arange(num_samples) + jax.random.uniform(key_part, dtype=dtype)) / num_samples
    part = jnp.searchsorted(jnp.cumsum(jnp.exp(proposal.log_weight))[:-1], places)
    normal = jax.random.normal(key_normal, (num_samples, size + DEGREES), dtype)
    # a chi-square from its definition: JAX's own takes a second to compile
    steps = normal[:, :size] * jnp.sqrt(DEGREES / (normal[:, size:] ** 2).sum(-1, keepdims=True))

    def move(part: jax.Array, step: jax.Array) -> jax.Array:
        return proposal.center[part] + proposal.root[part] @ step

    return jax.vmap(move)(part, steps)


def _log_parts(proposal: Proposal, z: jax.Array) -> tuple[jax.Array, jax.Array]:
    """log(weight times density) of each part at z (P,), and its squared Mahalanobis distance, (M,) each."""
    size = z.shape[-1]
    distance = (jnp.einsum("mij,mj->mi", proposal.inverse, z - proposal.center) ** 2).sum(-1)
    normaliser = gammaln((DEGREES + size) / 2) - gammaln(DEGREES / 2) - size / 2 * math.log(DEGREES * math.pi)
    tail = -(DEGREES + size) / 2 * jnp.log1p(distance / DEGREES)
    return proposal.log_weight + normaliser - proposal.log_det + tail, distance


def adapt(proposal: Proposal, z: jax.Array, log_ratios: jax.Array) -> Proposal:
    """One step of importance-weighted EM from draws (S, P) and their ratios (S,), the largest cut off; Ionides (2008).

    Each part keeps its old place as if that were worth 2 P draws.
    """
    size, count = z.shape[-1], len(z)
    usual = logsumexp(log_ratios) - math.log(count)
    log_ratios = jnp.minimum(log_ratios, usual + 0.5 * math.log(count))
    parts, distance = jax.vmap(lambda point: _log_parts(proposal, point))(z)
    share = jnp.exp(log_ratios - logsumexp(log_ratios))[:, None] * jax.nn.softmax(parts)  # (S, M)
    mass = share.sum(0)
    worth = mass**2 / jnp.maximum((share**2).sum(0), jnp.finfo(z.dtype).tiny)
    keep = 2 * size / (worth + 2 * size)
    pull = share * (DEGREES + size) / (DEGREES + distance)
    safe = jnp.where(mass > 0, mass, 1)
    found = (pull.T @ z) / jnp.where(mass > 0, pull.sum(0), 1)[:, None]
    center = jnp.where((mass > 0)[:, None], found + keep[:, None] * (proposal.center - found), proposal.center)

    def spread(center: jax.Array, pull: jax.Array) -> jax.Array:
        steps = z - center
        return (pull[:, None] * steps).T @ steps

    scatter = jax.vmap(spread, in_axes=(0, 1))(center, pull) / safe[:, None, None]
    scale = jnp.where((mass > 0)[:, None, None], scatter + keep[:, None, None] * (proposal.scale - scatter), proposal.scale)
    usable = jnp.isfinite(usual)
    new = make_proposal(jnp.log(jnp.maximum(mass, jnp.finfo(z.dtype).tiny)), center, scale)
    return jax.tree.map(lambda a, b: jnp.where(usable, a, b), new, proposal)


class Labellings(NamedTuple):
    """How the labellings of K components are counted, of which the prior lets those of equal concentrations change places."""

    log_average: Callable  # proposal, z (S, P) -> (S,): log of the proposal's average over labellings
    canonical: Callable  # mixture -> the same in the labelling that is kept


def make_labellings(space: UnconstrainedSpace, start: Mixture, concentration: jax.Array) -> Labellings:
    """All of them up to K = 6; beyond, the one in which means are in order along the axis on which the start's differ most.

    There the average is the proposal over the number of labellings, and infinite out of order: such draws do not count.
    """
    k = start.num_components
    same = concentration[:, None] == concentration[None, :]
    if k <= _ENUMERATED:
        orders = jnp.array(list(itertools.permutations(range(k))))
        possible = same[jnp.arange(k), orders].all(-1)

        def average(proposal: Proposal, z: jax.Array) -> jax.Array:
            everywhere = jax.vmap(lambda order: logsumexp(_log_parts(proposal, reorder(space, z, order))[0]))(orders)
            return logsumexp(jnp.where(possible, everywhere, -jnp.inf)) - jnp.log(possible.sum())

        return Labellings(_in_batches(average, len(orders)), lambda mixture: mixture)
    axis = linalg.eigh(jnp.cov(start.means.T, aweights=start.weights).reshape(start.num_features, -1))[1][:, -1]
    earlier = jnp.tril(same, -1)
    log_count = jnp.log(1 + earlier.sum(-1)).sum()

    def kept(proposal: Proposal, z: jax.Array) -> jax.Array:
        place = space.unravel(z)["means"] @ axis
        out_of_order = (earlier & (place[:, None] < place[None, :])).any()
        return jnp.where(out_of_order, jnp.inf, logsumexp(_log_parts(proposal, z)[0]) - log_count)

    def canonical(mixture: Mixture) -> Mixture:
        group = same.argmax(-1)  # the first of equal concentration
        order = jnp.zeros(k, int).at[jnp.argsort(group)].set(jnp.lexsort((mixture.means @ axis, group)))
        covariances = covariance.permute(mixture.covariances, order, mixture.covariance_type)
        return Mixture(mixture.weights[order], mixture.means[order], covariances, mixture.covariance_type)

    return Labellings(_in_batches(kept, 1), canonical)


def _in_batches(function: Callable, count: int) -> Callable:
    def batched(proposal: Proposal, z: jax.Array) -> jax.Array:
        batch = labellings_per_batch(count * (len(proposal.center) + 1) * z.shape[-1], len(z))
        return jax.lax.map(lambda point: function(proposal, point), z, batch_size=batch)

    return batched


def reorder(space: UnconstrainedSpace, z: jax.Array, order: jax.Array) -> jax.Array:
    """z (P,) of the same mixture with component order[j] in place j, by logarithms all the way.

    The sticks' log-Jacobian is sum_k log w_k, which no order changes, as are those of the other sites: volumes are kept.
    """
    parts = space.unravel(z)
    k = len(order)
    moved = {name: part[order] if part.shape[0] == k else part for name, part in parts.items() if name != "weights"}
    moved["weights"] = _sticks(_log_weights(parts["weights"])[order])
    return ravel_pytree(moved)[0]


def _log_weights(sticks: jax.Array) -> jax.Array:
    """log w (K,) from NumPyro's stick-breaking coordinates (K - 1,)."""
    shifted = sticks - jnp.log(jnp.arange(len(sticks), 0, -1, dtype=sticks.dtype))
    before = jnp.concatenate([jnp.zeros(1, sticks.dtype), jnp.cumsum(log_sigmoid(-shifted))])
    return before + jnp.concatenate([log_sigmoid(shifted), jnp.zeros(1, sticks.dtype)])


def _sticks(log_weights: jax.Array) -> jax.Array:
    """The inverse of _log_weights."""
    after = jax.lax.cumlogsumexp(log_weights[::-1])[::-1][1:]
    return log_weights[:-1] - after + jnp.log(jnp.arange(len(after), 0, -1, dtype=log_weights.dtype))
