"""The first proposal for an evidence: a t distribution at each mode that Newton's method finds from the posterior's draws."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from .. import linalg
from ..em.m_step import m_step
from ..em.moments import e_step
from ..mixture import Mixture
from ..row_sums import total_weight, weight_or_ones
from .evidence_labellings import Labellings
from .importance import Proposal, make_proposal
from .newton import find_mode
from .result import Posterior
from .standardization import StandardizedProblem, to_standard
from .unconstrained_space import UnconstrainedSpace

_EM_STEPS = 30  # number of EM steps after a component has been emptied; the other components then adapt to its data
_SMALLEST_WEIGHT = 1e-6  # smallest weight in a seed; Newton's method cannot start from weight 0, whose logit is infinite


class Seeds(NamedTuple):
    """Standardised mixtures (M, ...) from which modes are searched, and the log density () of the first of these mixtures."""

    mixtures: Mixture
    best_log_density: jax.Array


def choose_seeds(
    key: jax.Array, posterior: Posterior, modes: Mixture | None, problem: StandardizedProblem, num_modes: int
) -> Seeds:
    """Choose the mixtures from which modes are searched.

    They are the best draw, other draws chosen at random, the given modes, and copies of the best draw in which one component
    has been emptied.
    """
    density = posterior.log_density.ravel()
    draws = jax.tree.map(lambda leaf: leaf.reshape(len(density), *leaf.shape[2:]), posterior.mixture)
    best = jnp.where(jnp.isnan(density), -jnp.inf, density).argmax()
    chosen = jnp.concatenate([best[None], jax.random.randint(key, (num_modes - 1,), 0, len(density))])
    seeds = draws[chosen]
    if modes is not None:
        seeds = jax.tree.map(lambda a, b: jnp.concatenate([a, b.astype(a.dtype)]), seeds, modes)
    weights = jnp.maximum(seeds.weights, _SMALLEST_WEIGHT)
    seeds = Mixture(weights / weights.sum(-1, keepdims=True), seeds.means, seeds.covariances, seeds.covariance_type)
    seeds = jax.vmap(lambda mixture: to_standard(mixture, problem))(seeds)
    if seeds.num_components > 1:
        emptied = jax.vmap(lambda k: _without_component(seeds[0], k, problem))(jnp.arange(seeds.num_components))
        seeds = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), seeds, emptied)
    return Seeds(seeds, density[best])


def _without_component(mixture: Mixture, k: jax.Array, problem: StandardizedProblem) -> Mixture:
    """Empty component k: return a mixture in which the other components hold all data.

    Component k keeps only the weight that the prior gives it. The posterior may have a mode near such a mixture, although few
    of its draws are there.
    """
    prior = problem.prior
    concentration = prior.weight_concentration
    total = total_weight(problem.weight, len(problem.y), problem.y.dtype)
    fraction = jnp.clip(concentration[k] / (total + concentration.sum()), _SMALLEST_WEIGHT, 0.5)
    absent = jnp.arange(mixture.num_components) == k
    flat = dataclasses.replace(prior, weight_concentration=jnp.ones_like(concentration)) if prior.has_closed_forms else None

    weight = None if problem.weight is None else weight_or_ones(problem.weight, problem.y.shape[:1], problem.y.dtype)

    def step(_: int, mixture: Mixture) -> Mixture:
        return m_step(mixture, e_step(mixture, problem.y, sample_weight=weight), flat)

    weights = jnp.where(absent, 0, mixture.weights)
    start = dataclasses.replace(mixture, weights=weights / weights.sum())
    fitted = jax.lax.fori_loop(0, _EM_STEPS, step, start)
    weights = jnp.maximum(fitted.weights, _SMALLEST_WEIGHT)
    weights = jnp.where(absent, fraction, (1 - fraction) * weights / jnp.where(absent, 0, weights).sum())
    return dataclasses.replace(fitted, weights=weights)


def first_proposal(space: UnconstrainedSpace, labellings: Labellings, seeds: Mixture, problem: StandardizedProblem) -> Proposal:
    """Return a mixture of t distributions, one at the mode found from each seed.

    The weight of each t distribution is proportional to the mass of the Gaussian approximation at the mode. Two seeds may lead
    to the same mode, which does no harm. If a seed leads to no mode with a finite density, its t distribution gets weight 0.
    """

    def look(seed: Mixture) -> tuple[jax.Array, jax.Array, jax.Array]:
        newton, root, _ = find_mode(space, space.flatten(labellings.canonical(seed)), problem, seed)
        log_det = jnp.log(linalg.eigh(root)[0]).sum()
        return newton.z, root, jnp.where(jnp.isfinite(newton.value), log_det - newton.value, -jnp.inf)

    center, root, log_mass = jax.lax.map(look, seeds)
    usable = jnp.isfinite(log_mass) & jnp.isfinite(center.sum(-1)) & jnp.isfinite(root.sum((-2, -1)))
    center = jnp.where(usable[:, None], center, 0)
    root = jnp.where(usable[:, None, None], root, jnp.eye(space.size, dtype=root.dtype))
    log_weight = jax.nn.log_softmax(jnp.where(usable, log_mass, -1e30))
    return make_proposal(log_weight, center, root @ jnp.swapaxes(root, -1, -2))
