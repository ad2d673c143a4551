"""The importance ratios from which the evidence is estimated: the proposal adapts, and then samples and draws are weighted.

There are three kinds of rounds. In the pilot rounds, the proposal adapts to the importance ratios of its samples. In the next
rounds, the ratios of its samples are kept. In the last rounds, the points are draws from the posterior. All rounds have the
same number of points, so that one program serves them all.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.nn import logsumexp

from ...em.batch.restarts import identified
from ...mixture import Mixture
from ..standardization import StandardizedProblem
from ..unconstrained_space import UnconstrainedSpace, make_unconstrained_space, map_points
from .coordinates import Coordinates
from .importance import Proposal, adapt, draw
from .labellings import Labellings, make_labellings
from .proposal import first_proposal

PILOTS, ROUNDS = 6, 4  # number of rounds that adapt the proposal; number of rounds whose importance ratios are averaged


class Ratios(NamedTuple):
    """Log importance ratios log(p / q), up to a common constant, and the shares of some parts of the proposal.

    p is the density of the posterior, and q is the density of the proposal.

    The share of a part at a point is its responsibility for the point: its weight times its density, divided by q. It is -1 if
    the density of the point is not finite.

    Attributes:
        of_samples: (S,), the log ratios at samples from q.
        of_draws: (T,), the log ratios at draws from the posterior; T is 0 if there are none.
        shares_of_samples: (S, G), the shares of G parts at the samples.
        shares_of_draws: (T, G), the shares of G parts at the draws.
    """

    of_samples: jax.Array
    of_draws: jax.Array
    shares_of_samples: jax.Array
    shares_of_draws: jax.Array


class Points(NamedTuple):
    """The mixtures that the rounds need, all standardised.

    Attributes:
        seeds: (M, ...), the starts of the searches for modes; the proposal has a part for each of them.
        given: (G,), the indices of some seeds. The shares of the parts that were found from these seeds are returned.
        draws: (T, ...), draws from the posterior, or None.
    """

    seeds: Mixture
    given: np.ndarray
    draws: Mixture | None


def log_ratios(key: jax.Array, points: Points, problem: StandardizedProblem, num_samples: int) -> Ratios:
    """Adapt the proposal in the pilot rounds. Return the log importance ratios of all later rounds of num_samples points."""
    start, seeds = points.seeds[0], points.seeds
    space = make_unconstrained_space(problem, start)
    coordinates = Coordinates(space, problem)
    groups = jnp.asarray(identified(problem.y, problem.prior.weight_concentration))
    labellings = make_labellings(space, coordinates, start, groups)
    own, num_draws = _points_of_draws(points.draws, space, labellings, num_samples)

    def advance(proposal: Proposal, step: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[Proposal, tuple]:
        key, number, z = step
        chosen, empty = draw(key, proposal, num_samples)
        if num_draws:
            is_own = number >= PILOTS + ROUNDS
            chosen, empty = jnp.where(is_own, z, chosen), empty & ~is_own
        measured = jax.vmap(coordinates.place)(chosen, empty)
        potentials = map_points(space.potential, measured.z, problem, start)
        log_parts = labellings.log_parts(proposal, measured)
        log_density = logsumexp(log_parts, axis=-1)
        ratios = -jnp.where(jnp.isnan(potentials), jnp.inf, potentials) - log_density
        shares = jnp.where(jnp.isfinite(log_density)[:, None], jnp.exp(log_parts - log_density[:, None]), -1)
        adapted = adapt(proposal, jax.vmap(coordinates.describe)(measured), ratios)
        kept = jax.tree.map(lambda new, old: jnp.where(number < PILOTS, new, old), adapted, proposal)
        return kept, (ratios, shares[:, points.given])

    count = PILOTS + ROUNDS + len(own)
    none = jnp.zeros((PILOTS + ROUNDS, *own.shape[1:]), own.dtype)
    steps = jax.random.split(key, count), jnp.arange(count), jnp.concatenate([none, own])
    first = first_proposal(space, coordinates, labellings, seeds, problem)
    ratios, shares = jax.lax.scan(advance, first, steps)[1]
    of_samples, of_draws = slice(PILOTS, PILOTS + ROUNDS), slice(PILOTS + ROUNDS, None)
    return Ratios(
        ratios[of_samples].ravel(),
        ratios[of_draws].ravel()[:num_draws],
        shares[of_samples].reshape(ROUNDS * num_samples, len(points.given)),
        shares[of_draws].reshape(len(own) * num_samples, len(points.given))[:num_draws],
    )


def _points_of_draws(
    draws: Mixture | None, space: UnconstrainedSpace, labellings: Labellings, num_samples: int
) -> tuple[jax.Array, int]:
    """Return the draws as points in rounds (R, num_samples, P), and their number. The last draw is repeated as padding.

    Without draws, R is 0 and the points have no coordinates.
    """
    if draws is None:
        return jnp.zeros((0, num_samples, 0)), 0
    z = jax.vmap(lambda mixture: space.flatten(labellings.canonical(mixture)))(draws)
    rounds = -(-len(z) // num_samples)
    filled = z[np.minimum(np.arange(rounds * num_samples), len(z) - 1)]
    return filled.reshape(rounds, num_samples, -1), len(z)
