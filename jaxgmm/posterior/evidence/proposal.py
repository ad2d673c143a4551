"""The first proposal for the evidence: a t distribution at each mode that Newton's method finds.

Each search for a mode starts at a mixture, which is called a seed. The seeds are draws from the posterior, modes that the
caller knows, and mixtures in which one component has been emptied.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ... import linalg
from ...em.m_step import m_step
from ...em.moments import e_step_of_rows
from ...mixture import Mixture
from ..newton import find_mode
from ..result import Posterior
from ..standardization import StandardizedProblem, to_standard
from ..unconstrained_space import UnconstrainedSpace, log_sigmoid
from .coordinates import Coordinates
from .importance import Proposal, choose_coordinates, make_proposal
from .labellings import Labellings

_EM_STEPS = 30  # number of EM steps that fit the other components after one component has been emptied
_NO_WEIGHT = 1e-26  # weight of an empty component during Newton's descent: the component has no influence on the others
_SMALLEST_WEIGHT = 1e-6  # smallest weight in a start of Newton's method, which needs finite logits


class Seeds(NamedTuple):
    """The seeds, and one draw. The stored density of this draw is compared with its density at the data x.

    Attributes:
        mixtures: (M, ...), the seeds, in standardised coordinates. A component is empty if its weight is 0.
        checked: one draw, in data units. If possible, none of its weights was rounded to 0.
        log_density: (), the stored log density of this draw; NaN if all draws have failed.
    """

    mixtures: Mixture
    checked: Mixture
    log_density: jax.Array


def choose_seeds(
    key: jax.Array, posterior: Posterior, modes: Mixture | None, problem: StandardizedProblem, num_modes: int
) -> Seeds:
    """Choose as seeds: the best draw, random draws, the given modes, and copies of the best draw with one component emptied.

    The best draw has the largest density of the means, covariances and logarithms of the weights. The density of the weights
    themselves has no maximum if a concentration is below 1. It is infinite if a weight was rounded to 0.
    """
    density = posterior.log_density.ravel()
    draws = jax.tree.map(lambda leaf: leaf.reshape(len(density), *leaf.shape[2:]), posterior.mixture)
    smallest, finite = jnp.finfo(draws.weights.dtype).tiny, jnp.isfinite(density)
    log_weights = jnp.log(jnp.maximum(draws.weights, smallest)).sum(-1)
    best = jnp.where(finite, density + log_weights, -jnp.inf).argmax()
    known = finite & (draws.weights >= smallest).all(-1)
    checked = jnp.where(known.any(), jnp.where(known, density, -jnp.inf).argmax(), best)
    log_density = jnp.where((finite | (density == jnp.inf)).any(), density[checked], jnp.nan)
    chosen = jnp.concatenate([best[None], jax.random.randint(key, (num_modes - 1,), 0, len(density))])
    seeds = draws[chosen]
    if modes is not None:
        seeds = jax.tree.map(lambda a, b: jnp.concatenate([a, b.astype(a.dtype)]), seeds, modes)
    weights = jnp.maximum(seeds.weights, _SMALLEST_WEIGHT)
    seeds = Mixture(weights / weights.sum(-1, keepdims=True), seeds.means, seeds.covariances, seeds.covariance_type)
    seeds = jax.vmap(lambda mixture: to_standard(mixture, problem))(seeds)
    if _num_emptied(seeds):
        emptied = jax.vmap(lambda k: _without_component(seeds[0], k, problem))(jnp.arange(_num_emptied(seeds)))
        seeds = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), seeds, emptied)
    return Seeds(seeds, draws[checked], log_density)


def _num_emptied(seeds: Mixture) -> int:
    """Return the number of seeds in which a component has been emptied. These seeds come after all other seeds."""
    return seeds.num_components if seeds.num_components > 1 else 0


def _without_component(mixture: Mixture, k: jax.Array, problem: StandardizedProblem) -> Mixture:
    """Return a mixture in which component k has weight 0, and the other components are fitted to all data.

    Such a mixture is used as a seed, because the posterior may have a mode near this mixture, but few draws near this mode.
    """
    prior = problem.prior
    flat = dataclasses.replace(prior, weight_concentration=jnp.ones_like(prior.weight_concentration))
    flat = flat if prior.has_closed_forms else None

    def step(_: int, mixture: Mixture) -> Mixture:
        return m_step(mixture, e_step_of_rows(mixture, problem.y, problem.weight), flat)

    absent = jnp.arange(mixture.num_components) == k
    weights = jnp.where(absent, 0, mixture.weights)
    start = dataclasses.replace(mixture, weights=weights / weights.sum())
    fitted = jax.lax.fori_loop(0, _EM_STEPS, step, start)
    weights = jnp.where(absent, 0, jnp.maximum(fitted.weights, _SMALLEST_WEIGHT))
    return dataclasses.replace(fitted, weights=weights / weights.sum())


def first_proposal(
    space: UnconstrainedSpace, coordinates: Coordinates, labellings: Labellings, seeds: Mixture, problem: StandardizedProblem
) -> Proposal:
    """Return a mixture of t distributions. For each seed, one t distribution is placed at the mode found from this seed.

    The weight of each t distribution is proportional to the mass of the Gaussian approximation at the mode, apart from the
    fraction of the weight that `make_proposal` spreads evenly. Two seeds may lead to the same mode, which does no harm. If a
    seed leads to no mode with a finite density, its t distribution gets only its part of this fraction.
    """
    seeds = jax.lax.map(labellings.canonical, seeds)

    def look(seed: Mixture) -> tuple[jax.Array, jax.Array, jax.Array]:
        start, potential = _target(space, coordinates, seed)
        newton, root, _ = find_mode(space._replace(potential=potential), start, problem, seed)
        log_det = jnp.log(linalg.eigh(root)[0]).sum()
        return newton.z, root, jnp.where(jnp.isfinite(newton.value), log_det - newton.value, -jnp.inf)

    center, root, log_mass = jax.lax.map(look, seeds)
    usable = jnp.isfinite(log_mass) & jnp.isfinite(center.sum(-1)) & jnp.isfinite(root.sum((-2, -1)))
    center = jnp.where(usable[:, None], center, 0)
    root = jnp.where(usable[:, None, None], root, jnp.eye(space.size, dtype=root.dtype))
    log_weight = jax.nn.log_softmax(jnp.where(usable, log_mass, -1e30))
    empty = seeds.weights[len(center) - _num_emptied(seeds) :] == 0
    return make_proposal(log_weight, center, root @ jnp.swapaxes(root, -1, -2), empty, jax.vmap(coordinates.systems)(empty))


def _target(
    space: UnconstrainedSpace, coordinates: Coordinates, seed: Mixture
) -> tuple[jax.Array, Callable[[jax.Array], jax.Array]]:
    """Return the start (P,) of a search for a mode, and the potential that the search minimises.

    The search leads to the centre of one part of the proposal. The start and the potential are in the coordinates that this
    part uses. Components of weight 0 stay empty during the descent. The coordinates of the weights of these components follow a
    logistic law and do not influence the other coordinates.
    """
    empty = seed.weights == 0
    system = coordinates.systems(empty)
    held = coordinates.of_weights() & (system > 0)
    z = space.flatten(dataclasses.replace(seed, weights=jnp.where(empty, _NO_WEIGHT, seed.weights)))
    measured, _ = coordinates.place_means(z, jnp.zeros_like(empty))
    points = coordinates.describe(measured)
    start = choose_coordinates(points.z, system)
    constant = jnp.where(empty, points.log_slope - measured.log_slope, 0).sum()
    constant += jnp.where(held, _log_logistic(start), 0).sum()

    def potential(chosen: jax.Array) -> jax.Array:
        point, log_slope = coordinates.place_means(jnp.where(held, z, chosen), empty)
        return space.potential(point.z) + log_slope + constant - jnp.where(held, _log_logistic(chosen), 0).sum()

    return jnp.where(held, 0, start), potential


def _log_logistic(y: jax.Array) -> jax.Array:
    """Return the log density of the standard logistic distribution."""
    return log_sigmoid(y) + log_sigmoid(-y)
