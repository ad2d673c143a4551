"""relabel: put the components of all posterior draws in the order of a reference mixture.

The module `label_assignment` matches the components; its docstring gives the equations and their sources.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from ..calls import public
from ..component_order import permute_components
from ..em.batch.restarts import identified
from ..incomplete.checks import check_match
from ..incomplete.observations import Observations
from ..inputs import as_rows
from ..mixture import Mixture, MixtureLike, as_mixture
from ..padding import pad_data
from ..priors.interface import MixturePrior
from ..row_sums import repeat_valid_row
from ..validation import check_choice, is_traced
from .label_assignment import METHODS, Matching, match_labels
from .mixing import status_of_parameters
from .result import INDEPENDENT, Posterior, check_one_posterior

# Labels count as identified if the fraction of margins that are smaller than SMALL_MARGIN is at most SMALL_SHARE.
SMALL_MARGIN, SMALL_SHARE = 0.2, 0.05


@public
def relabel(
    posterior: Posterior,
    reference: MixtureLike,
    x: ArrayLike | Observations | None,
    *,
    method: str = "assignment",
    sample_weight: ArrayLike | None = None,
) -> Posterior:
    """Reorder the components of each draw so that they match the components of a reference mixture.

    The methods "assignment" and "stephens" match the components by their responsibilities at the data points. The method "kl"
    matches them by the Kullback-Leibler divergences between components; it needs no data, and its cost does not grow with N.

    Each draw gets a margin. It is 1 if components are well separated and 0 if the order is arbitrary. If more than 5 % of the
    margins are below 0.2, the labels are not identified: summaries of single components are then meaningless, and only
    label-invariant quantities can be used.

    The margin is computed from the gain of the best order over another order. The gain is the difference between the scores of
    the two orders, divided by the weight of the components in which they differ. Of the gains over all other orders, the
    smallest is used. With "assignment" and "stephens" the margin is the gain, at most 1. With "kl", where the gain is in nats,
    the margin is 1 - exp(-gain / 2). For two equal components whose means are delta standard deviations apart, this is
    1 - exp(-delta^2 / 4). Some draws do not resemble the reference in any order. Because of such draws, the margin of "kl" has
    an upper limit: 1.25 times the gain of "assignment", computed at points that represent the reference.

    If the prior's weight concentrations differ, only components with equal concentrations are exchanged, because the prior
    identifies the others. In the same way, the labels of observations identify components.

    Args:
        posterior: draws (C, S, ...).
        reference: one Mixture, or one Fit.
        x: (N, D), the data in their own units, or `observations`. "kl" accepts None, and only uses labels of observations.
        method: "assignment" (soft ECR, Papastamoulis 2016); "stephens" (Stephens 2000), which starts from the result of
            "assignment" and iterates; or "kl", which is suited to very large N.
        sample_weight: (N,) >= 0, or None.

    Returns:
        A Posterior with reordered weights, means and covariances. Its stats have these new entries:

        | entry | shape | meaning |
        | --- | --- | --- |
        | permutation | (C, S, K) | entry j: the index that component j had in the sampler's original draw |
        | relabel_margin | (C, S) | how clear the best order is, between 0 and 1, as defined above |
        | switch_rate | () | fraction of draws whose permutation differs from that of the previous draw |
        | labels_identified | () | whether labels are identified, as defined above |

        If labels are identified, the status also depends on the mixing of the single parameters. It becomes UNMIXED if the
        parameters have not mixed, or FEW_DRAWS if there are too few draws to decide.

    Raises:
        ValueError, TypeError: the reference or the data do not match the draws, the method is unknown, or the values are traced
            and the mixture has more than 6 components.

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
    mixture, reference = _check(posterior, reference)
    draws = _flatten(mixture)
    rows = weight = None
    exchangeable = _exchangeable(posterior.prior)
    if method != "kl" or isinstance(x, Observations):
        rows, weight = as_rows(cast(ArrayLike, x), sample_weight, num_features=mixture.num_features)
        check_match(rows, mixture.num_components, mixture.covariance_type)
        if isinstance(rows, Observations):
            exchangeable = _also_unlabelled(exchangeable, rows, mixture.num_components)
        elif is_traced(rows, weight):
            rows = repeat_valid_row(rows, weight)
        rows, weight = pad_data(rows, weight, posterior, reference)
    matching = match_labels(draws, reference, rows, method=method, weight=weight, exchangeable=exchangeable)
    mixture, status, stats = _reorder(mixture, posterior.status, matching, posterior.stats.get("permutation"), posterior.method)
    return dataclasses.replace(posterior, mixture=mixture, status=status, stats=posterior.stats | stats)


@jax.jit  # compiled as one program, because an eager call compiles a program for each array
def _flatten(mixture: Mixture) -> Mixture:
    """Return mixtures (C, S, ...) with one leading axis (C S, ...)."""
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), mixture)


def _check(posterior: Posterior, reference: MixtureLike) -> tuple[Mixture, Mixture]:
    """Return the draws and the reference, or raise an error if the posterior or the reference is not as `relabel` expects."""
    check_one_posterior(posterior)
    reference = as_mixture(reference, "reference", single=True)
    drawn, given = (m.means.shape[-2:] for m in (posterior.mixture, reference))
    if drawn != given:
        raise ValueError(
            f"reference has K={given[0]} components in D={given[1]} features, but the draws have K={drawn[0]} and "
            f"D={drawn[1]}; give the mixture that the chains started from."
        )
    return posterior.mixture, reference


def _exchangeable(prior: MixturePrior | None) -> jax.Array | None:
    """Return, for each pair of components, whether they may exchange places under the prior, (K, K). None means all pairs."""
    concentration = getattr(prior, "weight_concentration", None)
    if concentration is None:
        return None
    if is_traced(concentration):
        return concentration[:, None] == concentration[None, :]
    concentration = np.asarray(concentration)  # NumPy needs no compilation
    return jax.device_put(concentration[:, None] == concentration[None, :])


def _also_unlabelled(exchangeable: jax.Array | None, rows: Observations, num_components: int) -> jax.Array:
    """Return which pairs of components may exchange places, (K, K), if labels of rows identify components, too."""
    groups = identified(rows, np.ones(num_components))
    same = groups[:, None] == groups[None, :]
    return same if exchangeable is None else same & exchangeable


@partial(jax.jit, static_argnames="method")
def _reorder(
    mixture: Mixture, status: jax.Array, matching: Matching, before: jax.Array | None, method: str
) -> tuple[Mixture, jax.Array, dict[str, jax.Array]]:
    """Return mixtures (C, S, ...) reordered by a matching (C S, ...), with the new status and the statistics of `relabel`.

    `before` is the permutation (C, S, K) of an earlier relabelling, or None. `method` is the method of the posterior.
    """
    matching = jax.tree.map(lambda leaf: leaf.reshape(*mixture.batch_shape, *leaf.shape[1:]), matching)
    mixture = permute_components(mixture, matching.order)
    total = matching.order if before is None else jnp.take_along_axis(before, matching.order, -1)
    switched = (total[:, 1:] != total[:, :-1]).any(-1)
    stats = {
        "permutation": total,
        "relabel_margin": matching.margin,
        "switch_rate": switched.mean() if switched.size else jnp.zeros((), matching.margin.dtype),
        "labels_identified": (~(matching.margin >= SMALL_MARGIN)).mean() <= SMALL_SHARE,
    }
    if method not in INDEPENDENT:
        status = status_of_parameters(status, mixture, stats["labels_identified"])
    return mixture, status, stats
