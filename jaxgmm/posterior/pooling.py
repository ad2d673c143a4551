"""Pool the draws of all chains, so that an average over the pooled draws is an average over the posterior.

The chains of most samplers have equal weights. The runs of `smc` have unequal weights, stats["chain_weight"], and each run
contributes draws in proportion to its weight. All functions that average over draws therefore use the pooled draws.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from ..validation import is_traced

Draws = TypeVar("Draws")


def pool(draws: Draws, stats: Mapping[str, jax.Array | np.ndarray]) -> Draws:
    """Return the draws of all chains along one axis.

    Args:
        draws: a tree of arrays (C, S, ...).
        stats: the statistics of the posterior. If they have chain_weight (C,), the number of pooled draws from a chain is in
            proportion to its weight, rounded up or down. Draws of a chain with a large weight are repeated, and some draws of a
            chain with a small weight are left out.

    Returns:
        A tree of arrays (C S, ...).

    Example:
        >>> pool(np.arange(4).reshape(2, 2), {}).tolist()
        [0, 1, 2, 3]
        >>> pool(np.arange(4).reshape(2, 2), {"chain_weight": np.array([0.75, 0.25])}).tolist()
        [0, 1, 0, 2]
    """
    flat = jax.tree.map(lambda leaf: leaf.reshape(leaf.shape[0] * leaf.shape[1], *leaf.shape[2:]), draws)
    weight = stats.get("chain_weight")
    if weight is None or weight.shape[0] == 1:
        return flat
    leaf = jax.tree.leaves(draws)[0]
    chosen = _choose(weight, leaf.shape[1])
    return jax.tree.map(lambda leaf: leaf[chosen], flat)


def _choose(weight: jax.Array | np.ndarray, num_draws: int) -> jax.Array | np.ndarray:
    """Return the indices (C S,) of the pooled draws. Each chain is chosen in proportion to its weight (C,)."""
    xp: ModuleType = jnp if is_traced(weight) else np
    weight = xp.asarray(weight)
    size = len(weight) * num_draws
    edges = xp.cumsum(weight)
    chain = xp.searchsorted(edges / edges[-1], (xp.arange(size) + 0.5) / size)
    chain = xp.minimum(chain, len(weight) - 1)
    place = xp.arange(size) - xp.searchsorted(chain, chain)  # number of earlier draws from the same chain
    return chain * num_draws + place % num_draws
