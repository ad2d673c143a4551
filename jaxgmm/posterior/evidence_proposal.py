"""The first proposal for an evidence: a t distribution at each mode that Newton's method finds from the posterior's draws.

Further parts of the proposal have one or more empty components, which are drawn from their prior (`evidence_parts`). For these,
Newton's method finds the mode of the other components.
"""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ..density import log_prob
from ..em.m_step import m_step
from ..em.moments import e_step
from ..mixture import Mixture
from ..row_sums import nonzero
from .evidence_labellings import Labellings, log_rest
from .evidence_parts import Parts, make_parts, permute_point
from .importance import Proposal, make_proposal
from .newton import find_mode
from .result import Posterior
from .standardization import StandardizedProblem, to_standard
from .unconstrained_space import UnconstrainedSpace

_EM_STEPS = 30  # number of EM steps in which the other components adapt after one component has been emptied
_SMALLEST_WEIGHT = 1e-6  # Newton cannot start from a weight of 0, whose logit is infinite
_FEW_POINTS = 1.5  # number of points whose weight an almost empty component has
_LOG_EMPTY = -60.0  # log weight of an empty component during Newton's descent: it then has no influence on the others


class Seeds(NamedTuple):
    """The points from which searches for modes start, and a draw with its stored density.

    Attributes:
        mixtures: standardised mixtures (M, ...), at which searches for modes start. Components with weight 0 are empty.
        checked: one draw, in data units, whose log density is not infinite.
        log_density: (), the stored log density of this draw; NaN if no draw has a finite log density.
    """

    mixtures: Mixture
    checked: Mixture
    log_density: jax.Array


def choose_seeds(
    key: jax.Array, posterior: Posterior, modes: Mixture | None, problem: StandardizedProblem, num_modes: int
) -> Seeds:
    """Return the best draw, random other draws, the given modes, and copies of the best draw with emptied components.

    The best draw has the largest density in unconstrained space. The density in the space of the weights has no maximum if a
    concentration is below 1.
    """
    density = posterior.log_density.ravel()
    draws = jax.tree.map(lambda leaf: leaf.reshape(len(density), *leaf.shape[2:]), posterior.mixture)
    smallest = jnp.finfo(draws.weights.dtype).tiny
    finite = jnp.isfinite(density)
    log_weights = jnp.log(jnp.maximum(draws.weights, smallest)).sum(-1)
    best = jnp.where(finite, density + log_weights, -jnp.inf).argmax()
    # the density of a draw cannot be computed again if one of its weights was rounded to 0
    known = finite & (draws.weights >= smallest).all(-1)
    checked = jnp.where(known.any(), jnp.where(known, density, -jnp.inf).argmax(), best)
    chosen = jnp.concatenate([best[None], jax.random.randint(key, (num_modes - 1,), 0, len(density))])
    seeds = draws[chosen]
    if modes is not None:
        seeds = jax.tree.map(lambda a, b: jnp.concatenate([a, b.astype(a.dtype)]), seeds, modes)
    weights = jnp.maximum(seeds.weights, _SMALLEST_WEIGHT)
    seeds = Mixture(weights / weights.sum(-1, keepdims=True), seeds.means, seeds.covariances, seeds.covariance_type)
    seeds = jax.vmap(lambda mixture: to_standard(mixture, problem))(seeds)
    if seeds.num_components > 1:
        seeds = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), seeds, _emptied(seeds[0], problem))
    return Seeds(seeds, draws[checked], jnp.where(finite.any(), density[checked], jnp.nan))


def _emptied(mixture: Mixture, problem: StandardizedProblem) -> Mixture:
    """Return 2 K - 2 mixtures: each of the K components emptied, then two, three, ... up to K - 1 components emptied.

    The components to be emptied are chosen one by one: each time, the one without which the likelihood is largest.
    """
    k = mixture.num_components

    def empty_one_more(mixture: Mixture, _: None) -> tuple[Mixture, tuple[Mixture, Mixture]]:
        candidates = jax.vmap(lambda j: _without_component(mixture, j, problem))(jnp.arange(k))
        value = log_prob(candidates, problem.y)  # (K, N)
        value = value.sum(-1) if problem.weight is None else jnp.where(problem.weight > 0, value, 0) @ problem.weight
        value = jnp.where((mixture.weights > 0) & ~jnp.isnan(value), value, -jnp.inf)
        chosen = candidates[value.argmax()]
        return chosen, (candidates, chosen)

    _, (candidates, chosen) = jax.lax.scan(empty_one_more, mixture, None, length=k - 1)
    return jax.tree.map(lambda a, b: jnp.concatenate([a[0], b[1:]]), candidates, chosen)


def _without_component(mixture: Mixture, k: jax.Array, problem: StandardizedProblem) -> Mixture:
    """Empty component k: return a mixture in which the other components hold all data. Empty components have weight 0."""
    prior = problem.prior
    concentration = prior.weight_concentration
    flat = dataclasses.replace(prior, weight_concentration=jnp.ones_like(concentration)) if prior.has_closed_forms else None

    def step(_: int, mixture: Mixture) -> Mixture:
        return m_step(mixture, e_step(mixture, problem.y, sample_weight=problem.weight), flat)

    weights = jnp.where(jnp.arange(mixture.num_components) == k, 0, mixture.weights)
    start = dataclasses.replace(mixture, weights=weights / nonzero(weights.sum()))
    return jax.lax.fori_loop(0, _EM_STEPS, step, start)


def first_proposal(
    space: UnconstrainedSpace, labellings: Labellings, seeds: Mixture, problem: StandardizedProblem
) -> tuple[Proposal, Parts]:
    """Return a proposal with one part at the mode found from each seed, and which components are empty in which part.

    The weight of each part is the mass of the Gaussian approximation at its mode. The same mode may be found from two seeds;
    this does no harm. If no mode with a finite density is found from a seed, its part gets almost no weight.
    """
    k = seeds.num_components
    num_full = len(seeds.weights) - (2 * k - 2)
    seeds = jax.lax.map(labellings.canonical, seeds)
    parts = make_parts(space, seeds.weights == 0)

    def look(seed_and_part: tuple[Mixture, Parts]) -> tuple[jax.Array, jax.Array, jax.Array]:
        seed, part = seed_and_part
        order, active = part.order, part.active
        weights = jnp.where(seed.weights > 0, seed.weights, math.exp(_LOG_EMPTY))
        start = permute_point(space, space.flatten(dataclasses.replace(seed, weights=weights)), order)
        back = jnp.argsort(order)
        # z holds the coordinates in the order of the part
        bound = space._replace(potential=lambda z: space.potential(permute_point(space, jnp.where(active, z, start), back)))
        newton, root, _ = find_mode(bound, start, problem, seed)
        mode = jnp.where(active, newton.z, start)
        one = jax.tree.map(lambda leaf: leaf[None], part)
        rest = log_rest(space, problem, one, permute_point(space, mode, back))[0]
        return mode, root @ root.T, -newton.value - rest + active.sum() * 0.5 * math.log(2 * math.pi)

    center, scale, log_height = jax.lax.map(look, (seeds, parts))
    # parts with empty components are there twice: an empty component has the weight of no point or of a few points
    twice = jnp.r_[: len(center), num_full : len(center)]
    center, scale, log_height, parts = jax.tree.map(lambda leaf: leaf[twice], (center, scale, log_height, parts))
    parts = parts._replace(points=jnp.where(jnp.arange(len(twice)) < len(seeds.weights), 0.0, _FEW_POINTS))
    usable = jnp.isfinite(log_height) & jnp.isfinite(center.sum(-1)) & jnp.isfinite(scale.sum((-2, -1)))
    center = jnp.where(usable[:, None], center, 0)
    scale = jnp.where(usable[:, None, None], scale, jnp.eye(space.size, dtype=scale.dtype))
    log_det = make_proposal(jnp.zeros(len(center)), center, scale, parts.active).log_det
    log_weight = jax.nn.log_softmax(jnp.where(usable, log_height + log_det, -1e30))
    return make_proposal(log_weight, center, scale, parts.active), parts
