"""Combine draws from several modes of a posterior in proportion to the masses of the modes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from ..mixture import Mixture, MixtureLike, as_mixture
from ..validation import is_traced
from .result import Posterior, PosteriorStatus

# For each of these statistics, the result keeps the smallest value over the modes. For all other statistics, it keeps the
# largest value.
_SMALLEST = ("ess", "min_eigenvalue")
_LEFT_OUT = ("energy",)  # the differences between the energies of consecutive draws have no meaning after the combination
_SEVERITY = (
    PosteriorStatus.OK,
    PosteriorStatus.FULL_WARMUP,
    PosteriorStatus.FEW_DRAWS,
    PosteriorStatus.POOR_METRIC,
    PosteriorStatus.DIVERGENCES,
    PosteriorStatus.UNMIXED,
    PosteriorStatus.ALL_DIVERGENT,
    PosteriorStatus.NONFINITE,
)


def sample_modes(
    key: jax.Array, sample: Callable[[jax.Array, Mixture], Posterior], start: MixtureLike, mass: ArrayLike, num_draws: int
) -> Posterior:
    """Sample around each mode of a stack of starts (M,), and combine the draws in proportion to the masses (M,).

    Args:
        key: a random key.
        sample: a function of a key and a start that returns a Posterior.
        start: a stack of starts (M,), one for each mode.
        mass: (M,), masses that need not sum to 1. Modes that would contribute less than half a draw are left out.
        num_draws: number of draws of the result.

    Raises:
        ValueError: start is not a stack, or the masses are invalid. Traced masses are only checked for their shape.
    """
    start = as_mixture(start, "start")
    if len(start.batch_shape) != 1:
        raise ValueError(
            f"start has leading axes {start.batch_shape}, but start_mass was given; a stack (M,) of starts was expected, such "
            "as the mixture of jaxgmm.modes."
        )
    count = start.batch_shape[0]
    mass = _check_mass(mass, count)
    kept = list(range(count))
    if not is_traced(mass):
        mass = np.asarray(mass)
        kept = np.flatnonzero(mass >= 0.5 / num_draws * mass.sum()).tolist()
    key_order, *keys = jax.random.split(key, count + 1)
    return combine(key_order, [sample(keys[m], start[m]) for m in kept], jnp.asarray(mass)[jnp.asarray(kept)])


def _check_mass(mass: ArrayLike, count: int) -> Any:
    """Return masses as an array (M,), or raise ValueError if they are invalid."""
    found: Any = mass if is_traced(mass) else np.asarray(mass, float)
    if found.shape != (count,):
        raise ValueError(f"start_mass has shape {found.shape}; one mass for each of {count} starts was expected: ({count},).")
    if not is_traced(found) and not (np.isfinite(found).all() and found.min() >= 0 and found.sum() > 0):
        raise ValueError(
            f"start_mass is {found}; numbers >= 0 with a positive sum were expected, such as the mass of jaxgmm.modes."
        )
    return found


def combine(key: jax.Array, posteriors: Sequence[Posterior], mass: jax.Array) -> Posterior:
    """Combine posteriors (C, S, ...), one around each mode, into one posterior (C, S, ...).

    Chain c of the result consists of draws from chain c of each posterior, in proportion to the masses (M,). The draws from one
    posterior are evenly spaced in its chain and keep their order. Draws from different posteriors alternate at random.
    """
    shape = posteriors[0].log_density.shape
    mode, place = _choose_draws(key, mass, *shape)

    def gather(*leaves: jax.Array) -> jax.Array:
        return jnp.stack(leaves)[mode, jnp.arange(shape[0])[:, None], place]

    def pick(name: str) -> Any:
        """Return one statistic of the combined posterior."""
        values = [posterior.stats[name] for posterior in posteriors]
        if isinstance(values[0], dict) or values[0].shape[:2] == shape:
            return jax.tree.map(gather, *values)
        stack = jnp.stack(values)
        if stack.ndim > 1:
            return stack
        return stack.min() if name in _SMALLEST else stack.max()

    stats = {name: pick(name) for name in posteriors[0].stats if name not in _LEFT_OUT}
    mixture, log_density = jax.tree.map(gather, *[(posterior.mixture, posterior.log_density) for posterior in posteriors])
    status = _gravest(jnp.stack([posterior.status for posterior in posteriors]))
    return Posterior(mixture, log_density, posteriors[0].prior, status, stats | {"mode": mode}, posteriors[0].method)


def _choose_draws(key: jax.Array, mass: jax.Array, num_chains: int, num_samples: int) -> tuple[jax.Array, jax.Array]:
    """Return two arrays (C, S): the mode from which each draw is taken, and the draw's index in the chain at this mode."""
    edges = jnp.cumsum(mass)
    # The offsets differ between the chains, so that the rounding of the numbers of draws also differs between the chains.
    offsets = (jnp.arange(num_chains)[:, None] + 0.5) / num_chains
    places = (jnp.arange(num_samples) + offsets) / num_samples
    mode = jnp.minimum(jnp.searchsorted(edges / edges[-1], places), len(mass) - 1)
    mode = jax.random.permutation(key, mode, axis=1, independent=True)
    belongs = mode[..., None] == jnp.arange(len(mass))  # (C, S, M)
    earlier = jnp.take_along_axis(jnp.cumsum(belongs, 1), mode[..., None], 2)[..., 0] - 1
    share = jnp.take_along_axis(belongs.mean(1), mode, 1)
    place = jnp.floor((earlier + 0.5) / share).astype(int)
    return mode, jnp.clip(place, 0, num_samples - 1)


def _gravest(statuses: jax.Array) -> jax.Array:
    """Return the most severe of several statuses (M,)."""
    severity = np.zeros(1 + max(PosteriorStatus), int)
    severity[list(_SEVERITY)] = np.arange(len(_SEVERITY))
    return statuses[jnp.asarray(severity)[statuses].argmax()]
