"""The labellings of a mixture's components, and how an evidence takes all of them into account.

Components with equal weight concentrations are exchangeable under the prior. Every mode of the posterior therefore has copies,
one for each labelling. A proposal that covers one of the copies is averaged over all labellings.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.nn import logsumexp

from .. import linalg
from ..chunking import labellings_per_batch
from ..mixture import Mixture
from .evidence_parts import Parts, log_density_of_empty, permute_point, views
from .importance import Proposal, log_parts
from .label_assignment import permute_components
from .standardization import StandardizedProblem
from .unconstrained_space import UnconstrainedSpace, from_sticks

_ENUMERATED = 6  # for K up to this number the proposal is averaged over all K! labellings; for larger K one labelling is kept


class Labellings(NamedTuple):
    """How the labellings of K components are taken into account.

    Attributes:
        log_average: proposal, its parts, z (S, P) -> (S,). The density of the proposal at z is averaged over the labellings,
            and its logarithm is returned.
        canonical: a mixture -> the same mixture in the labelling that is kept. If all labellings are enumerated, the mixture is
            returned unchanged.
    """

    log_average: Callable[[Proposal, Parts, jax.Array], jax.Array]
    canonical: Callable[[Mixture], Mixture]


def make_labellings(space: UnconstrainedSpace, start: Mixture, problem: StandardizedProblem) -> Labellings:
    """Return the functions that account for the labellings that the problem's prior does not distinguish.

    With up to 6 components, all labellings are enumerated. With more components, only one labelling is kept: the one in which
    the means of exchangeable components are in ascending order along the axis on which the start's means vary most. The
    mixtures have the shape and covariance type of the start.
    """
    concentration = problem.prior.weight_concentration
    exchangeable = concentration[:, None] == concentration[None, :]
    if start.num_components <= _ENUMERATED:
        return Labellings(_average_over_all(space, problem, exchangeable), lambda mixture: mixture)
    axis = linalg.eigh(jnp.cov(start.means.T, aweights=start.weights).reshape(start.num_features, -1))[1][:, -1]

    def canonical(mixture: Mixture) -> Mixture:
        group = exchangeable.argmax(-1)  # for each component: index of the first component with the same concentration
        order = jnp.zeros(len(group), int).at[jnp.argsort(group)].set(jnp.lexsort((mixture.means @ axis, group)))
        return permute_components(mixture, order)

    return Labellings(_kept_labelling(space, problem, exchangeable, axis), canonical)


def log_rest(space: UnconstrainedSpace, problem: StandardizedProblem, parts: Parts, z: jax.Array) -> jax.Array:
    """Return, for each part, the log density (M,) at z (P,) of what the part does not draw from its t distribution."""
    assert space.log_priors is not None
    return log_density_of_empty(parts, from_sticks(space.unravel(z)["weights"]), space.log_priors(z), problem)


def _average_over_all(
    space: UnconstrainedSpace, problem: StandardizedProblem, exchangeable: jax.Array
) -> Callable[[Proposal, Parts, jax.Array], jax.Array]:
    """Return a function that averages a proposal's density over all labellings that the prior does not distinguish."""
    k = len(exchangeable)
    orders = jnp.array(list(itertools.permutations(range(k))))
    possible = exchangeable[jnp.arange(k), orders].all(-1)

    def log_average(proposal: Proposal, parts: Parts, z: jax.Array) -> jax.Array:
        assert space.log_priors is not None
        log_weights, log_priors = from_sticks(space.unravel(z)["weights"]), space.log_priors(z)

        def log_density(order: jax.Array) -> jax.Array:
            versions = views(space, parts, permute_point(space, z, order))
            rest = log_density_of_empty(parts, log_weights[order], log_priors[order], problem)
            return logsumexp(log_parts(proposal, versions)[0] + rest)

        return logsumexp(jnp.where(possible, jax.vmap(log_density)(orders), -jnp.inf)) - jnp.log(possible.sum())

    return _in_batches(log_average, len(orders))


def _kept_labelling(
    space: UnconstrainedSpace, problem: StandardizedProblem, exchangeable: jax.Array, axis: jax.Array
) -> Callable[[Proposal, Parts, jax.Array], jax.Array]:
    """Return the function `log_average` of Labellings for the case that only one labelling is kept.

    In the labelling that is kept, the average is the density divided by the number of labellings. In all other labellings the
    average is set to infinity, so that draws there have importance ratio 0.
    """
    earlier = jnp.tril(exchangeable, -1)
    log_count = jnp.log(1 + earlier.sum(-1)).sum()

    def log_average(proposal: Proposal, parts: Parts, z: jax.Array) -> jax.Array:
        place = space.unravel(z)["means"] @ axis
        out_of_order = (earlier & (place[:, None] < place[None, :])).any()
        log_density = log_parts(proposal, views(space, parts, z))[0] + log_rest(space, problem, parts, z)
        return jnp.where(out_of_order, jnp.inf, logsumexp(log_density) - log_count)

    return _in_batches(log_average, 1)


def _in_batches(
    function: Callable[[Proposal, Parts, jax.Array], jax.Array], num_labellings: int
) -> Callable[[Proposal, Parts, jax.Array], jax.Array]:
    """Return a function that applies a function of one point (P,) to points (S, P), in batches."""

    def batched(proposal: Proposal, parts: Parts, z: jax.Array) -> jax.Array:
        numbers_per_point = num_labellings * (len(proposal.center) + 1) * z.shape[-1]
        batch = labellings_per_batch(numbers_per_point, len(z))
        return jax.lax.map(lambda point: function(proposal, parts, point), z, batch_size=batch)

    return batched
