"""condition_on_occupied: select and relabel draws of the telescoping sampler.

The selected draws all have the same number of occupied components.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from ..calls import public
from ..chunking import draws_per_batch
from ..component_order import permute_components
from ..density import log_prob
from ..incomplete.observations import Data, Observations
from ..incomplete.rows import with_weights
from ..inputs import as_rows
from ..mixture import Mixture
from ..padding import pad_data
from ..priors.functions import log_prior
from ..row_sums import Weight, weight_or_ones
from ..validation import check_count, is_traced
from .conditionals import gibbs_state
from .mixing import judge_mixing, label_invariant_draws, measure_mixing
from .relabel import relabel
from .result import Posterior, PosteriorStatus, check_one_posterior, is_usable
from .smc.data_tempering import log_likelihoods
from .smc.moves import Problem

_SMALL_SHARE = 0.5  # chains with less than this multiple of the average number of draws are left out


@public
def condition_on_occupied(
    posterior: Posterior,
    x: ArrayLike | Observations,
    *,
    num_occupied: int | None = None,
    sample_weight: ArrayLike | None = None,
) -> Posterior:
    """Return the draws of `telescope` that have a given number of occupied components, cut to these components and relabelled.

    If the concentration is static, these are draws from the posterior of mixtures of k components, given that each component
    has at least one row. The weights of the occupied components are divided by their sum. The components are in the order
    that matches the draw with the highest log density: see `relabel`, whose statistics tell whether labels are identified.

    Each chain contributes the same number of draws, evenly spaced in time. A chain that has fewer than half of the average
    number of draws is left out; the status is then UNMIXED.

    Fruehwirth-Schnatter, Malsiner-Walli & Gruen (2021), Bayesian Analysis 16:1279, section 4.

    Args:
        posterior: the result of `telescope`, not traced.
        x: (N, D), the data, or `observations`.
        num_occupied: k; None: the most frequent number of occupied components.
        sample_weight: (N,) >= 0, or None, as given to `telescope`.

    Returns:
        A Posterior with mixture (C, S, ...) of k components, none of them empty, as from `gibbs`. log_density is log p(x,
        weights, means, covariances | K = k). If the posterior has no prior, it is the log-likelihood. stats: prob_occupied (),
        the probability of k occupied components; rhat () and ess (), as in `jaxgmm.posterior.mixing`; and the statistics of
        `relabel`.

    Raises:
        ValueError, TypeError: the posterior is not from `telescope`, is stacked, traced or not finite, no draw has this number
            of occupied components, or the data do not match the draws.

    Example:
        >>> import jax, jaxgmm
        >>> x = jaxgmm.datasets.load("galaxies")
        >>> prior = jaxgmm.default_prior(x, num_components=3)
        >>> posterior = jaxgmm.telescope(jax.random.key(0), x, prior, max_components=9)  # doctest: +SKIP
        >>> jaxgmm.condition_on_occupied(posterior, x, num_occupied=3).mixture.num_components  # doctest: +SKIP
        3
    """
    number = _check(posterior, num_occupied)
    rows, weight = as_rows(x, sample_weight, num_features=posterior.mixture.num_features)
    chosen, complete = _choose_draws(np.asarray(posterior.stats["num_occupied"]) == number)
    draws, counts = jax.tree.map(lambda leaf: leaf[chosen], (posterior.mixture, posterior.stats["counts"]))
    prior = posterior.prior
    if prior is not None:
        prior = dataclasses.replace(prior, weight_concentration=prior.weight_concentration[:number])
    found = _condition(draws, counts, *pad_data(rows, weight), prior, number)
    share = np.mean(np.asarray(posterior.stats["num_occupied"]) == number, dtype=found.log_density.dtype)
    status = found.status if complete else jnp.asarray(PosteriorStatus.UNMIXED)
    found = dataclasses.replace(found, status=status, stats=found.stats | {"prob_occupied": jnp.asarray(share)})
    best = np.unravel_index(np.asarray(found.log_density).argmax(), found.log_density.shape)
    reference = jax.tree.map(lambda leaf: leaf[best], found.mixture)
    data, weights = with_weights(rows, weight)
    return relabel(found, reference, data, sample_weight=weights)


def _check(posterior: Any, num_occupied: Any) -> int:
    """Return the number of occupied components, by default the most frequent one. Raise an error if an argument is invalid."""
    check_one_posterior(posterior)
    if "num_occupied" not in posterior.stats:
        raise ValueError(f"posterior is from {posterior.method}; a posterior from telescope was expected.")
    if is_traced(posterior):
        raise TypeError("posterior is traced, but the number of draws depends on its values; call it outside jit and vmap.")
    if not is_usable(np.asarray(posterior.status)):
        raise ValueError("posterior has draws that are not finite (status NONFINITE); finite draws were expected.")
    counts = np.bincount(np.asarray(posterior.stats["num_occupied"]).ravel())
    if num_occupied is None:
        return int(counts.argmax())
    check_count(num_occupied, "num_occupied")
    if num_occupied >= len(counts) or not counts[num_occupied]:
        seen = ", ".join(map(str, np.flatnonzero(counts)))
        raise ValueError(f"num_occupied is {num_occupied}, which no draw has; one of {seen} was expected.")
    return num_occupied


def _choose_draws(wanted: np.ndarray) -> tuple[tuple[np.ndarray, np.ndarray], bool]:
    """Return the indices (C, S) of the chains and of the draws that are kept, and whether all chains are kept.

    wanted: (C, S), the draws that may be kept.
    """
    counts = wanted.sum(1)
    chains = np.flatnonzero(counts >= _SMALL_SHARE * counts.mean())
    size = counts[chains].min()
    draws = [np.flatnonzero(wanted[c])[(np.arange(size) + 0.5).astype(int) * counts[c] // size] for c in chains]
    return (chains[:, None], np.stack(draws)), len(chains) == len(wanted)


@partial(jax.jit, static_argnames="number")
def _condition(draws: Mixture, counts: jax.Array, x: Data, weight: Weight, prior: Any, number: int) -> Posterior:
    """Return a posterior that keeps only the occupied components of draws (C, S, ...).

    counts: (C, S, M), the number of rows of each component. number: the number of occupied components of every draw.
    """
    order = jnp.argsort(counts == 0, axis=-1, stable=True)
    mixture = _first_components(permute_components(draws, order), number)
    flat = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), mixture)
    if isinstance(x, Observations):
        own = weight_or_ones(weight, x.shape[:1], x.dtype)
        size = draws_per_batch(len(x) * number * x.shape[1] ** 2, len(flat.means))
        log_density = jax.lax.map(lambda one: jnp.where(own > 0, own * log_prob(one, x), 0).sum(), flat, batch_size=size)
    else:
        problem = Problem(x, weight, prior, jnp.ones(number, bool))
        log_density = log_likelihoods(jax.vmap(gibbs_state)(flat), problem, mixture.covariance_type)
    log_density = log_density.reshape(mixture.batch_shape)
    if prior is not None:
        log_density += log_prior(mixture, prior)
    mixing = measure_mixing(label_invariant_draws(mixture, log_density))
    status = judge_mixing(mixing, *log_density.shape)
    return Posterior(mixture, log_density, prior, status, {"rhat": mixing.rhat, "ess": mixing.ess}, "telescope")


def _first_components(mixture: Mixture, number: int) -> Mixture:
    """Return mixtures (C, S, ...) of the first components, whose weights are divided by their sum."""
    weights, stored = mixture.weights[..., :number], mixture.covariances
    stored = stored if stored.shape[2] == 1 else stored[:, :, :number]  # a tied covariance belongs to all components
    return Mixture(weights / weights.sum(-1, keepdims=True), mixture.means[..., :number, :], stored, mixture.covariance_type)
