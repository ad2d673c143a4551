"""Match the components of many mixtures to those of a reference mixture.

A mixture's density does not depend on the order of its components, so the order may differ from draw to draw. The components of
each draw are put in the order, or permutation sigma, that maximises a sum of scores,

    sum_j A_j,sigma(j),     A (K, K): A_jk is the score for placing component k of the draw at position j

This is a linear assignment problem. There are three choices for the score:

    "assignment"  A_jk = sum_n w_n r_nj(reference) r_nk(draw)           agreement of responsibilities (soft ECR)
    "stephens"    A_jk = sum_n w_n log q_nj r_nk(draw)                  q: the average of the reordered responsibilities
    "kl"          A_jk = -w_j (log(w_j / w_k(draw)) + KL(N_j, N_k(draw)))    w_j, N_j: the reference's components

Each draw has a margin between 0 and 1, which shows how much better the best order is than all other orders. The gain of the
best order over another order is the difference of their scores, divided by the weight of the components in which the two orders
differ. The margin is computed from the smallest of these gains. The docstring of `relabel` gives the formula.

Soft ECR: Papastamoulis & Iliopoulos (2010); Papastamoulis (2016). "stephens" is algorithm 2 of Stephens (2000): it starts from
the soft ECR solution and updates q and the permutations in turn. "kl" needs no data, so its cost does not depend on N. A draw
may be so different from the reference that no order matches. The scores of two bad orders may then differ by many nats,
although the choice between them is arbitrary. For this reason, the margin of "kl" has an upper limit: it is at most 1.25 times
the gain of "assignment", computed at points that represent the reference.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from .. import covariance, linalg
from ..chunking import draws_per_batch
from ..component_order import permute_components
from ..density import responsibilities
from ..mixture import Mixture
from ..row_sums import Weight, vary_with, weight_or_ones
from ..validation import check_choice, is_traced
from .assignment_problems import MAX_ENUMERATED, Optimum, best_orders

METHODS = ("assignment", "stephens", "kl")
_STEPHENS_STEPS = 20  # largest number of iterations of "stephens"
_POINTS = 64  # number of points that represent one component of the reference; a power of two, as a Sobol sequence requires
# Upper limit of the margin of "kl", as a multiple of the gain of "assignment" at the points that represent the reference. If a
# draw equals the reference, the margin without this limit is at most 1.15 times the gain.
_SLACK = 1.25


class Matching(NamedTuple):
    """The permutations that match M mixtures to a reference.

    Attributes:
        order: (M, K), entry j is the index of the mixture's component that matches component j of the reference.
        margin: (M,), between 0 and 1. The margin is 1 for well-separated components, and 0 if the choice between the best
            permutation and another is arbitrary. The docstring of `relabel` gives the definition.
    """

    order: jax.Array
    margin: jax.Array


def relabel_mixtures(
    draws: Mixture,
    reference: Mixture,
    x: jax.Array | None = None,
    *,
    method: str = "assignment",
    weight: Weight = None,
    exchangeable: jax.Array | None = None,
) -> tuple[Mixture, Matching]:
    """Reorder the components of M mixtures to match a reference mixture.

    Args:
        draws: mixtures (M, ...).
        reference: one mixture with the same K, D and covariance type as the draws.
        x: (N, D), data in the units of the mixtures; not used by "kl".
        method: "assignment", "stephens" or "kl", as defined at the top of this module.
        weight: the weights of the rows. Rows of weight 0 must be finite too.
        exchangeable: (K, K), True where component j and component k may exchange places. None allows every permutation.

    Returns:
        The reordered mixtures (M, ...), and the Matching.

    Raises:
        ValueError: the method is unknown or needs data that are not given, or traced mixtures have more than 6 components.

    Example:
        >>> import jax, jaxgmm
        >>> reference = jaxgmm.make_mixture([0.3, 0.7], [[0.0], [9.0]], [[[1.0]], [[1.0]]])
        >>> swapped = jaxgmm.make_mixture([[0.7, 0.3]], [[[9.0], [0.0]]], [[[[1.0]], [[1.0]]]])  # (1, ...)
        >>> relabel_mixtures(swapped, reference, method="kl")[0].means.tolist()
        [[[0.0], [9.0]]]
    """
    matching = match_labels(draws, reference, x, method=method, weight=weight, exchangeable=exchangeable)
    return permute_components(draws, matching.order), matching


def match_labels(
    draws: Mixture,
    reference: Mixture,
    x: jax.Array | None = None,
    *,
    method: str = "assignment",
    weight: Weight = None,
    exchangeable: jax.Array | None = None,
) -> Matching:
    """Find the permutations that match M mixtures to a reference, like `relabel_mixtures`, but do not reorder the mixtures."""
    check_choice(method, "method", METHODS)
    k = reference.num_components
    if k > MAX_ENUMERATED and is_traced(draws, reference, x, weight):
        raise ValueError(
            f"relabelling inside jit can try all permutations of at most {MAX_ENUMERATED} components, but this mixture has "
            f"{k}: call it outside jit."
        )
    if exchangeable is None:
        exchangeable = jnp.ones((k, k), bool)
    if method == "kl":
        scores = _divergence_scores(draws, reference)
        order, gain = best_orders(scores, reference.weights, exchangeable)
        agreement = _agreement_of(draws, reference, scores, exchangeable)
        return Matching(order, jnp.clip(-jnp.expm1(-gain / 2), 0, jnp.maximum(_SLACK * agreement, 0)))
    if x is None:
        raise ValueError(f"x is None; data were expected with method {method!r}: give x, or use method 'kl'.")
    match = _match_to_reference_in_one_program if k <= MAX_ENUMERATED else _match_to_reference
    order, gain = match(draws, reference, x, weight, exchangeable)
    if method == "stephens":
        order, gain = _stephens(draws, order, x, weight_or_ones(weight, x.shape[:1], x.dtype), exchangeable)
        gain = jnp.minimum(gain, 1)
    return Matching(order, gain)


def _match_to_reference(draws: Mixture, reference: Mixture, x: jax.Array, weight: Weight, exchangeable: jax.Array) -> Optimum:
    """Match the draws to the responsibilities under the reference. Return the orders and the margins, which are at most 1."""
    table = responsibilities(reference, x).astype(x.dtype)
    order, gain = _match_to_table(draws, table, x, weight_or_ones(weight, x.shape[:1], x.dtype), exchangeable)
    return Optimum(order, jnp.minimum(gain, 1))


# One program for all steps compiles faster than a program for each step. With many components, it cannot be used, because the
# host solves the assignment problems.
_match_to_reference_in_one_program = jax.jit(_match_to_reference)


def _match_to_table(draws: Mixture, table: jax.Array, x: jax.Array, weight: jax.Array, exchangeable: jax.Array) -> Optimum:
    """Return one permutation of the components for each of M draws.

    After the permutation, the responsibilities under the draw agree best with a table (N, K).
    """
    return best_orders(_agreement_scores(draws, table, x, weight), weight @ table, exchangeable)


@jax.jit
def _agreement_scores(draws: Mixture, table: jax.Array, x: jax.Array, weight: jax.Array) -> jax.Array:
    """Return sum_n w_n t_nj r_nk for each draw, (M, K, K), where t is the table and r are the draw's responsibilities."""
    weighted = (weight[:, None] * table).T
    batch = draws_per_batch(len(x) * draws.num_components * draws.num_features, len(draws.means))

    def scores(draw: Mixture) -> jax.Array:
        return jnp.matmul(weighted, responsibilities(draw, x), precision=jax.lax.Precision.HIGHEST)

    return jax.lax.map(scores, draws, batch_size=batch)


@jax.jit
def _divergence_scores(draws: Mixture, reference: Mixture) -> jax.Array:
    """Return the matrix of scores A (K, K) of the method "kl" for each draw, as one array (M, K, K).

    Bishop (2006), exercise 2.13, gives the Kullback-Leibler divergence between normal distributions.
    """
    k, d = draws.num_components, draws.num_features
    tiny = jnp.finfo(draws.weights.dtype).tiny

    def cholesky_factors(mixture: Mixture) -> jax.Array:
        return linalg.cholesky(covariance.to_dense(mixture.covariances, mixture.covariance_type, k, d))

    def log_weights(mixture: Mixture) -> jax.Array:
        return jnp.log(jnp.maximum(mixture.weights, tiny))

    def half_log_dets(lower: jax.Array) -> jax.Array:
        return jnp.log(linalg.diagonal(lower)).sum(-1)

    reference_lower = cholesky_factors(reference)  # (K, D, D)

    def scores(draw: Mixture) -> jax.Array:
        lower = cholesky_factors(draw)
        whitener = linalg.invert_lower(lower)
        whitened_lower = covariance.einsum("kab,jbc->jkac", whitener, reference_lower)
        shift = covariance.einsum("kab,jkb->jka", whitener, reference.means[:, None] - draw.means)
        difference = half_log_dets(lower) - half_log_dets(reference_lower)[:, None]
        divergence = ((whitened_lower**2).sum((-2, -1)) + (shift**2).sum(-1) - d) / 2 + difference
        return -reference.weights[:, None] * (log_weights(reference)[:, None] - log_weights(draw) + divergence)

    return jax.lax.map(scores, draws, batch_size=draws_per_batch((k * d) ** 2, len(draws.means)))


def _agreement_of(draws: Mixture, reference: Mixture, scores: jax.Array, exchangeable: jax.Array) -> jax.Array:
    """Return the smallest gain of "assignment" (M,), for the orders that are best by other scores (M, K, K).

    The gain is computed at points that represent the reference: for each component, the same number of points of a Sobol
    sequence are mapped to the component. The gain is negative if the responsibilities agree better in another order.
    """
    from scipy.special import ndtri
    from scipy.stats import qmc

    k, d = reference.num_components, reference.num_features
    normal = ndtri(qmc.Sobol(d, scramble=False).random(_POINTS) + 0.5 / _POINTS)
    lower = linalg.cholesky(covariance.to_dense(reference.covariances, reference.covariance_type, k, d))
    points = reference.means[:, None] + covariance.einsum("kij,nj->kni", lower, jnp.asarray(normal, lower.dtype))
    x, weight = points.reshape(k * _POINTS, d), jnp.repeat(reference.weights / _POINTS, _POINTS)
    table = responsibilities(reference, x)
    likeness = _agreement_scores(draws, table, x, weight)
    return best_orders(scores, weight @ table, exchangeable, likeness).gain


def _stephens(draws: Mixture, order: jax.Array, x: jax.Array, weight: jax.Array, exchangeable: jax.Array) -> Optimum:
    """Iterate algorithm 2 of Stephens (2000) until no permutation changes. If values are traced, run all iterations."""
    average = _average_responsibilities(draws, order, x)
    tiny = jnp.finfo(average.dtype).tiny
    for steps_left in reversed(range(_STEPHENS_STEPS)):
        new, _ = _match_to_table(draws, jnp.log(jnp.maximum(average, tiny)), x, weight, exchangeable)
        settled = not is_traced(new, order) and bool((new == order).all())
        order = new
        if settled or not steps_left:
            break
        average = _average_responsibilities(draws, order, x)
    return Optimum(order, _match_to_table(draws, average, x, weight, exchangeable).gain)


@jax.jit
def _average_responsibilities(draws: Mixture, order: jax.Array, x: jax.Array) -> jax.Array:
    """Return the average of the reordered responsibilities over the draws, (N, K)."""

    def add(total: jax.Array, one: tuple[Mixture, jax.Array]) -> tuple[jax.Array, None]:
        draw, order = one
        return total + responsibilities(draw, x)[:, order], None

    zero = jnp.zeros((len(x), draws.num_components), jnp.result_type(x.dtype, draws.means.dtype))
    return jax.lax.scan(add, vary_with(zero, x, draws, order), (draws, order))[0] / len(order)
