"""The labellings of a mixture's components, and the functions with which an estimate of the evidence includes all of them.

Components with equal weight concentrations are exchangeable under the prior, unless labels of rows distinguish them. Every mode
of the posterior therefore has copies, one for each labelling. A proposal that covers one of the copies is averaged over all
labellings.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jax.nn import logsumexp

from ... import linalg
from ...chunking import labellings_per_batch
from ...component_order import ascending_order, permute_components
from ...mixture import Mixture
from ..unconstrained_space import UnconstrainedSpace, from_sticks, to_sticks
from .coordinates import Coordinates, Measured
from .importance import Proposal, log_parts

LogParts = Callable[[Proposal, Measured], jax.Array]
_ENUMERATED = 6  # for K up to this number the proposal is averaged over all K! labellings; for larger K one labelling is kept


class Labellings(NamedTuple):
    """The functions that take all labellings of K components into account.

    Attributes:
        log_parts: a function of a proposal with M parts, and of S points. For each part and point, it computes the weight times
            the density of the part at the point, averages it over the labellings, and returns the logarithms, (S, M).
        canonical: a function of a mixture. It returns the same mixture in the one labelling that `make_labellings` describes.
            If all labellings are enumerated, it returns the mixture unchanged.
    """

    log_parts: LogParts
    canonical: Callable[[Mixture], Mixture]


def make_labellings(space: UnconstrainedSpace, coordinates: Coordinates, start: Mixture, groups: jax.Array) -> Labellings:
    """Return the functions that account for the labellings, given numbers (K,) that are equal for exchangeable components.

    With up to 6 components, all labellings are enumerated. With more components, only one labelling is kept. In this labelling,
    the means of exchangeable components are in ascending order along one axis. It is the axis along which the means of the
    start vary most. The mixtures have the shape and covariance type of the start.
    """
    exchangeable = groups[:, None] == groups[None, :]
    if start.num_components <= _ENUMERATED:
        return Labellings(_average_over_all(space, coordinates, exchangeable), lambda mixture: mixture)
    axis = linalg.eigh(jnp.cov(start.means.T, aweights=start.weights).reshape(start.num_features, -1))[1][:, -1]

    def canonical(mixture: Mixture) -> Mixture:
        return permute_components(mixture, ascending_order(mixture.means @ axis, groups))

    return Labellings(_kept_labelling(space, coordinates, exchangeable, axis), canonical)


def _average_over_all(space: UnconstrainedSpace, coordinates: Coordinates, exchangeable: jax.Array) -> LogParts:
    """Return a function that averages the density of each part over all labellings of exchangeable components."""
    k = len(exchangeable)
    orders = jnp.array(list(itertools.permutations(range(k))))
    possible = exchangeable[jnp.arange(k), orders].all(-1)

    def average(proposal: Proposal, point: Measured) -> jax.Array:
        def log_density(order: jax.Array) -> jax.Array:
            permuted = Measured(permute_point(space, point.z, order), point.noise[order], point.log_slope[order])
            return log_parts(proposal, coordinates.describe(permuted))[0]

        log_densities = jnp.where(possible[:, None], jax.vmap(log_density)(orders), -jnp.inf)
        return logsumexp(log_densities, axis=0) - jnp.log(possible.sum())

    return _in_batches(average, len(orders))


def _kept_labelling(space: UnconstrainedSpace, coordinates: Coordinates, exchangeable: jax.Array, axis: jax.Array) -> LogParts:
    """Return the function `log_parts` of Labellings for the case that only one labelling is kept.

    If a point z has the labelling that is kept, the average is the density at z divided by the number of labellings. If z has
    another labelling, the average is set to infinity, so that a draw at z has importance ratio 0.
    """
    earlier = jnp.tril(exchangeable, -1)
    log_count = jnp.log(1 + earlier.sum(-1)).sum()

    def average(proposal: Proposal, point: Measured) -> jax.Array:
        place = space.unravel(point.z)["means"] @ axis
        out_of_order = (earlier & (place[:, None] < place[None, :])).any()
        return jnp.where(out_of_order, jnp.inf, log_parts(proposal, coordinates.describe(point))[0] - log_count)

    return _in_batches(average, 1)


def _in_batches(function: LogParts, num_labellings: int) -> LogParts:
    """Return a function that applies a function of one point (P,) to points (S, P), in batches."""

    def batched(proposal: Proposal, points: Measured) -> jax.Array:
        count, size = points.z.shape
        batch = labellings_per_batch(num_labellings * (len(proposal.center) + 1) * size, count)
        return jax.lax.map(lambda point: function(proposal, point), points, batch_size=batch)

    return batched


def permute_point(space: UnconstrainedSpace, z: jax.Array, order: jax.Array) -> jax.Array:
    """Return the point (P,) of the same mixture after the component with index `order[j]` has moved to position j.

    Weights are computed as logarithms throughout. The map does not change volumes, because no log-Jacobian depends on the order
    of the components. For example, the log-Jacobian of the stick-breaking transform is sum_k log w_k.
    """
    parts = space.unravel(z)
    k = len(order)
    moved = {name: part[order] if part.shape[0] == k else part for name, part in parts.items() if name != "weights"}
    moved["weights"] = to_sticks(from_sticks(parts["weights"])[order])
    return ravel_pytree(moved)[0]
