"""relabel: put the components of all posterior draws in the order of a reference mixture.

The matching of components is done by `label_assignment`, where its equations and sources are given.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from ..inputs import check_one_mixture
from ..mixture import Mixture
from ..row_sums import repeat_valid_row
from ..validation import as_weighted_data, check_choice
from .label_assignment import METHODS, Matching, match_labels, permute_components
from .result import Posterior, check_one_posterior

# labels count as identified if at most this fraction of the margins is smaller than SMALL_MARGIN
SMALL_MARGIN, SMALL_SHARE = 0.2, 0.05


def relabel(
    posterior: Posterior, reference: Mixture, x: Any, *, method: str = "assignment", sample_weight: Any = None
) -> Posterior:
    """Reorder the components of each draw so that they match the components of a reference mixture.

    The draws are matched by their responsibilities at the data points, or by "kl" through the Kullback-Leibler divergences
    between components, which needs no data and whose cost does not grow with N.

    Each draw gets a margin: what the best order gains over the second best, as a fraction of the weight of the components that
    would move. It is 1 where components are well separated and 0 where the order is arbitrary. With "kl" the margin is
    1 - exp(-gain / 2), with the gain in nats per unit of weight that would move: 1 - exp(-delta^2 / 4) for two equal
    components whose means are delta standard deviations apart. If more than 5 % of the margins are below 0.2, the labels are
    not identified: summaries of single components are then meaningless, and only label-invariant quantities can be used.

    Where the prior's weight concentrations differ, only components with equal concentrations are exchanged, because the others
    are identified by the prior.

    Args:
        posterior: draws (C, S, ...).
        reference: one mixture, such as `fit.mixture`.
        x: (N, D), the data in their own units; ignored by "kl", which accepts None.
        method: "assignment" (soft ECR, Papastamoulis 2016), "stephens" (Stephens 2000), which starts from it and iterates, or
            "kl", which suits very large N.
        sample_weight: (N,) >= 0, or None.

    Returns:
        A Posterior with weights, means and covariances reordered. New in stats: permutation (C, S, K), whose entry j is the
        index that component j had in the sampler's own draw, also if the posterior had been relabelled before; relabel_margin
        (C, S); switch_rate (), the fraction of draws whose permutation differs from that of the previous draw;
        labels_identified ().

    Raises:
        ValueError, TypeError: the reference or the data do not fit the draws, the method is unknown, or the call is traced and
            the mixture has more than 6 components.

    Example:
        >>> import jax, jax.numpy as jnp, jaxgmm
        >>> one = jaxgmm.make_mixture([0.25, 0.75], [[0.0], [9.0]], [[[1.0]], [[1.0]]])
        >>> other = jaxgmm.make_mixture([0.75, 0.25], [[9.0], [0.0]], [[[1.0]], [[1.0]]])
        >>> draws = jax.tree.map(lambda *leaves: jnp.stack(leaves)[None], one, other)  # one chain, two draws
        >>> posterior = jaxgmm.Posterior(draws, jnp.zeros((1, 2)), None, jnp.array(0), {})
        >>> jaxgmm.relabel(posterior, one, [[0.0], [9.0], [9.0]]).mixture.weights.tolist()
        [[[0.25, 0.75], [0.25, 0.75]]]
    """
    check_choice(method, "method", METHODS)
    mixture = _check(posterior, reference)
    chains, samples = posterior.log_density.shape
    draws = jax.tree.map(lambda leaf: leaf.reshape(chains * samples, *leaf.shape[2:]), mixture)
    weight = None
    if method != "kl":
        x, weight = as_weighted_data(x, sample_weight, num_features=mixture.num_features)
        x = repeat_valid_row(x, weight)
    exchangeable = _exchangeable(posterior.prior)
    matching = match_labels(draws, reference, x, method=method, weight=weight, exchangeable=exchangeable)
    return _reorder(posterior, jax.tree.map(lambda leaf: leaf.reshape(chains, samples, *leaf.shape[1:]), matching))


def _check(posterior: Any, reference: Any) -> Mixture:
    """Return the draws, or raise if posterior and reference are not what `relabel` expects."""
    check_one_posterior(posterior)
    check_one_mixture(reference, "reference")
    drawn, given = (m.means.shape[-2:] for m in (posterior.mixture, reference))
    if drawn != given:
        raise ValueError(
            f"reference has K={given[0]} components in D={given[1]} features, the draws K={drawn[0]} and "
            f"D={drawn[1]}; give the mixture that the chains started from."
        )
    return posterior.mixture


def _exchangeable(prior: Any) -> jax.Array | None:
    """Return which components the prior allows to exchange places (K, K), or None if it allows all."""
    concentration = getattr(prior, "weight_concentration", None)
    return None if concentration is None else concentration[:, None] == concentration[None, :]


@jax.jit
def _reorder(posterior: Posterior, matching: Matching) -> Posterior:
    """Return the posterior with its components in the orders of a matching (C, S, ...), and the statistics of `relabel`."""
    mixture = permute_components(posterior.mixture, matching.order)
    before = posterior.stats.get("permutation")  # of an earlier relabelling
    total = matching.order if before is None else jnp.take_along_axis(before, matching.order, -1)
    switched = (total[:, 1:] != total[:, :-1]).any(-1)
    stats = posterior.stats | {
        "permutation": total,
        "relabel_margin": matching.margin,
        "switch_rate": switched.mean() if switched.size else jnp.zeros((), matching.margin.dtype),
        "labels_identified": (~(matching.margin >= SMALL_MARGIN)).mean() <= SMALL_SHARE,
    }
    return dataclasses.replace(posterior, mixture=mixture, stats=stats)
