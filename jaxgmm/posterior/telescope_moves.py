"""One sweep of the telescoping sampler, for mixtures whose number of components is unknown.

Fruehwirth-Schnatter, Malsiner-Walli & Gruen (2021), Bayesian Analysis 16:1279. The arrays of a state have M entries along the
axis of components, where M is the largest number of components. The K present components have positive weights, and the other
components are absent and have weight 0. A sweep

1. draws the label of each row given the parameters, as in `gibbs`; the labels divide the rows into K+ clusters, the occupied
   components, with counts N_1, ..., N_K+;
2. draws K given these clusters, from

       p(K | clusters) proportional to p(K) p(clusters | K),
       p(clusters | K) = K! / (K - K+)! Gamma(c K) / Gamma(c K + N) prod_k Gamma(c + N_k) / Gamma(c),

   where c, the concentration of each weight, may depend on K, and the product is over the occupied components;
3. if the scale of the covariances is unknown, draws it given the covariances of the occupied components;
4. draws the weights given K and the counts, the parameters of the occupied components given their rows, and the parameters of
   the K - K+ empty components from the prior.

The parameters of empty components are integrated out of step 2, so a change of K needs no proposal that could be rejected.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import betaln, gammaln

from .. import covariance
from ..incomplete.observations import Observations
from ..mixture import Mixture
from ..priors.interface import MixturePrior
from ..row_sums import weight_or_ones
from .conditionals import GibbsState, LabelledData, draw_state, gibbs_state, sum_by_labels
from .random_scale import draw_scale


class NumberPrior(NamedTuple):
    """The prior of the number K of components, and the concentration of each weight given K.

    Attributes:
        log_prob: (M,), log p(K) for K = 1, ..., M.
        concentration: (M,), the concentrations for K = 1, ..., M.
        scale_degrees: (), the degrees of freedom of an unknown scale of the covariances, as in `random_scale`; None: the scale
            is that of the prior.
    """

    log_prob: jax.Array
    concentration: jax.Array
    scale_degrees: jax.Array | None = None


class Sweep(NamedTuple):
    """The record of one sweep. It describes the state at the beginning of the sweep.

    Attributes:
        weights: (M,). Absent components have weight 0.
        means: (M, D).
        root: square roots of the covariances.
        log_likelihood: ().
        counts: (M,), the number of rows with each label, when labels are drawn given this state.
        prob: (M,), the probabilities p(K | clusters) of K = 1, ..., M, given these labels.
    """

    weights: jax.Array
    means: jax.Array
    root: jax.Array
    log_likelihood: jax.Array
    counts: jax.Array
    prob: jax.Array


def log_prob_given_clusters(counts: jax.Array, law: NumberPrior) -> jax.Array:
    """Return log p(K | clusters) for K = 1, ..., M, up to a constant, (M,).

    Args:
        counts: (M,), the number of rows in each cluster, in any order; 0 for components that are not occupied.
        law: the prior of K and of the weights.
    """
    occupied, k = counts > 0, jnp.arange(1, len(counts) + 1)
    num_occupied, total, c = occupied.sum(), counts.sum(), law.concentration
    arrangements = gammaln(k + 1.0) - gammaln(jnp.maximum(k - num_occupied, 0) + 1.0)
    # With beta functions, Gamma(c K) / Gamma(c K + N) = B(c K, N) / Gamma(N) and Gamma(c + N_k) / Gamma(c) = Gamma(N_k) /
    # B(c, N_k). Differences of large log gamma functions would be inaccurate in float32.
    of_total = jnp.where(total > 0, betaln(k * c, jnp.where(total > 0, total, 1)), 0)
    of_clusters = jnp.where(occupied, betaln(c[:, None], jnp.where(occupied, counts, 1)), 0).sum(1)
    return jnp.where(k >= num_occupied, law.log_prob + arrangements + of_total - of_clusters, -jnp.inf)


def choose_present(counts: jax.Array, num_components: jax.Array) -> jax.Array:
    """Return booleans (M,) that are True for the K components that are present.

    All occupied components are present. The first of the empty components fill the number up to K.
    """
    occupied = counts > 0
    return occupied | (jnp.cumsum(~occupied) <= num_components - occupied.sum())


def with_concentration(prior: MixturePrior, concentration: jax.Array) -> MixturePrior:
    """Return a prior in which each weight has the given concentration ()."""
    return dataclasses.replace(prior, weight_concentration=jnp.broadcast_to(concentration, prior.weight_concentration.shape))


def make_sweep(
    key: jax.Array, state: GibbsState, data: LabelledData, prior: MixturePrior, law: NumberPrior, static: tuple[str, int]
) -> tuple[GibbsState, Sweep]:
    """Make one sweep. Return the new state, and the record of the old state.

    static: the covariance type, and the number of rows that are processed at a time.
    """
    covariance_type, chunk_size = static
    key_labels, key_number, key_scale, *keys = jax.random.split(key, 5)
    sums, log_likelihood = sum_by_labels(key_labels, state, data, None, covariance_type, chunk_size)
    log_prob = log_prob_given_clusters(sums.count, law)
    number = jax.random.categorical(key_number, log_prob)
    present = choose_present(sums.count, number + 1)
    prior = with_concentration(prior, law.concentration[number])
    if law.scale_degrees is not None:
        prior = draw_scale(key_scale, state.factors, sums.count > 0, prior, law.scale_degrees, covariance_type)
    new = draw_state(jnp.stack(keys), state, sums, prior, present, covariance_type)
    weights = jnp.exp(state.log_weights)
    return new, Sweep(weights, state.means, state.factors.lower, log_likelihood, sums.count, jax.nn.softmax(log_prob))


def first_state(key: jax.Array, data: LabelledData, law: NumberPrior, share: jax.Array, covariance_type: str) -> GibbsState:
    """Return the first state of a chain: components of equal weight and equal size, around rows that are chosen at random.

    The number of these components is between 1 and the largest K that has a positive probability under the prior. `share` ()
    is 0 for the smallest of these numbers and 1 for the largest. Chains with different shares therefore start far apart.
    """
    (n, d), m, dtype = data.y.shape, len(law.log_prob), data.y.dtype
    rows = data.y.x if isinstance(data.y, Observations) else data.y  # missing values are 0, the mean of their feature
    largest = jnp.where(jnp.isfinite(law.log_prob), jnp.arange(1, m + 1), 1).max()
    number = 1 + jnp.round(share * (largest - 1))
    weight = weight_or_ones(data.weight, (n,), dtype)
    means = rows[jax.random.choice(key, n, (m,), p=weight / weight.sum())]
    unit = covariance.from_dense(jnp.broadcast_to(jnp.eye(d, dtype=dtype), (m, d, d)), covariance_type, jnp.ones(m, dtype))
    weights = jnp.where(jnp.arange(m) < number, 1 / number, 0).astype(dtype)
    return gibbs_state(Mixture(weights, means, (unit * number ** (-2 / d)).astype(dtype), covariance_type))
