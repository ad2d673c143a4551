"""relabel: one order of components for all draws, that of a reference.

A mixture's density is the same in any order of its components, so draws may come in any. Each draw is reordered such that
its responsibilities agree best with the reference's (soft ECR: Papastamoulis & Iliopoulos 2010; Papastamoulis 2016),

    maximise over permutations sigma   sum_j A_j,sigma(j),   A_jk = sum_n w_n r_nj(reference) r_nk(draw)

which is an assignment problem. Stephens (2000) puts log q_nj in the place of r_nj(reference), q being the average of the
reordered responsibilities, and iterates: the Kullback-Leibler divergence from q to the draws is then smallest. Without the data,
for any N, the divergence between the mixtures with their labels, w the reference's weights and N_j its components,

    minimise over permutations sigma   sum_j w_j (log w_j / w_sigma(j)(draw) + KL(N_j, N_sigma(j)(draw)))
"""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import covariance, linalg
from ..chunking import draws_per_batch
from ..density import responsibilities
from ..mixture import Mixture
from ..validation import as_data, as_sample_weight, check_choice, is_traced, zero_ignored_rows
from .result import Posterior, check_posterior

METHODS = ("assignment", "stephens", "kl")
SMALL_MARGIN, SMALL_SHARE = 0.2, 0.05  # labels count as identified if at most this share of margins is this small
_ENUMERATED = 6  # up to this K all K! orders are tried at once, inside jit too
_FORBIDDEN = -1e30
_STEPHENS_STEPS = 20


def relabel(
    posterior: Posterior, reference: Mixture, x: Any, *, method: str = "assignment", sample_weight: Any = None
) -> Posterior:
    """The posterior with each draw's components in the order in which they resemble the reference's, point by point.

    The margin of a draw is what the best order gains over the second best, as a share of the weight of the components that
    would move: 1 where clusters are the same and far apart, 0 where the order is arbitrary. If more than 5 % of draws are
    under 0.2, labels are not identified: then no summary of a single component means anything, only those that no order
    changes. Where the prior's concentrations differ, only components of equal ones change places: others are told apart by it.

    "kl" does not look at the data: its cost does not grow with N. The share is then 1 - exp(-gain / 2) of what the best order
    gains a unit of weight that would move, in nats: for two equal components delta standard deviations apart 1 - exp(-delta^2 / 4).

    Args:
        posterior: draws (C, S, ...).
        reference: one mixture, as fit.mixture.
        x: (N, D), the data; with "kl" not looked at, None will do.
        method: "assignment"; "stephens" (2000), which starts there and iterates; "kl", between Gaussians, where N is huge.
        sample_weight: (N,) >= 0, or None.

    Returns:
        A Posterior with weights, means and covariances reordered, and in stats: permutation (C, S, K), entry j the place of
        component j in the sampler's own draw, also where the posterior was relabelled before; relabel_margin (C, S);
        switch_rate (), the share of draws whose permutation is not that of the draw before; labels_identified ().

    Raises:
        ValueError, TypeError: reference or data do not fit the draws; traced, with more than 6 components.

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
    k, allowed = mixture.num_components, _exchangeable(posterior.prior, mixture.num_components)
    if k > _ENUMERATED and is_traced(posterior, reference, x, sample_weight):
        raise ValueError(
            f"relabel inside jit tries all orders of at most {_ENUMERATED} components; this mixture has {k}: call "
            "it outside jit."
        )
    chains, samples = posterior.log_density.shape
    draws = jax.tree.map(lambda leaf: leaf.reshape(chains * samples, *leaf.shape[2:]), mixture)
    if method == "kl":
        order, gain = _solve(_divergences(draws, reference), reference.weights, allowed)
        return _reorder(posterior, order.reshape(chains, samples, k), -jnp.expm1(-gain / 2).reshape(chains, samples))
    x = as_data(zero_ignored_rows(x, sample_weight), check_values=True, num_features=mixture.num_features)
    x, weight = _silence(x, as_sample_weight(sample_weight, len(x), x.dtype, check_values=True))
    order, gain = _assign(draws, responsibilities(reference, x).astype(x.dtype), x, weight, allowed)
    if method == "stephens":
        order, gain = _stephens(draws, order, x, weight, allowed)
    return _reorder(posterior, order.reshape(chains, samples, k), jnp.minimum(gain, 1).reshape(chains, samples))


def _check(posterior: Any, reference: Any) -> Mixture:
    check_posterior(posterior)
    if hasattr(reference, "mixture"):
        raise TypeError(f"reference is a {type(reference).__name__}; a jaxgmm.Mixture was expected: give its .mixture.")
    if not isinstance(reference, Mixture):
        raise TypeError(f"reference is {type(reference).__name__}; a jaxgmm.Mixture was expected.")
    if reference.batch_shape or posterior.log_density.ndim != 2:
        raise ValueError(
            f"reference has leading axes {reference.batch_shape} and the posterior {posterior.log_density.shape}; "
            "() and (C, S) were expected: use jax.vmap."
        )
    drawn, given = (m.means.shape[-2:] for m in (posterior.mixture, reference))
    if drawn != given:
        raise ValueError(
            f"reference has K={given[0]} components in D={given[1]} features, the draws K={drawn[0]} and "
            f"D={drawn[1]}; give the mixture that the chains started from."
        )
    return posterior.mixture


def _silence(x: jax.Array, weight: jax.Array | None) -> tuple[jax.Array, jax.Array]:
    if weight is None:
        return x, jnp.ones(len(x), x.dtype)
    return jnp.where(weight[:, None] > 0, x, x[jnp.argmax(weight > 0)]), weight


def _exchangeable(prior: Any, num_components: int) -> jax.Array:
    """(K, K): which components the prior lets change places."""
    c = getattr(prior, "weight_concentration", None)
    if c is None:
        return jnp.ones((num_components, num_components), bool)
    return c[:, None] == c[None, :]


def _assign(
    draws: Mixture, table: jax.Array, x: jax.Array, weight: jax.Array, allowed: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Orders (M, K) of M draws that agree best with a table (N, K), and gains (M,)."""
    return _solve(_agreements(draws, table, x, weight), weight @ table, allowed)


@jax.jit
def _agreements(draws: Mixture, table: jax.Array, x: jax.Array, weight: jax.Array) -> jax.Array:
    """A (M, K, K): sum_n w_n t_nj r_nk of each draw."""
    weighted = (weight[:, None] * table).T
    batch = draws_per_batch(len(x) * draws.num_components * draws.num_features, len(draws.means))

    def one(draw: Mixture) -> jax.Array:
        return jnp.matmul(weighted, responsibilities(draw, x), precision=jax.lax.Precision.HIGHEST)

    return jax.lax.map(one, draws, batch_size=batch)


@jax.jit
def _divergences(draws: Mixture, reference: Mixture) -> jax.Array:
    """A (M, K, K): -w_j (log w_j / w_k(draw) + KL(N_j, N_k(draw))) of each draw; Gaussians as in Bishop (2006), eq. 2.314."""
    k, d = draws.num_components, draws.num_features
    tiny = jnp.finfo(draws.weights.dtype).tiny

    def roots(mixture: Mixture) -> jax.Array:
        return linalg.cholesky(covariance.to_dense(mixture.covariances, mixture.covariance_type, k, d))

    def log_weights(mixture: Mixture) -> jax.Array:
        return jnp.log(jnp.maximum(mixture.weights, tiny))

    def half_log_dets(lower: jax.Array) -> jax.Array:
        return jnp.log(linalg.diagonal(lower)).sum(-1)

    own = roots(reference)  # (K, D, D)

    def one(draw: Mixture) -> jax.Array:
        lower = roots(draw)
        whitener = linalg.invert_lower(lower)
        spread = covariance.einsum("kab,jbc->jkac", whitener, own)
        shift = covariance.einsum("kab,jkb->jka", whitener, reference.means[:, None] - draw.means)
        difference = half_log_dets(lower) - half_log_dets(own)[:, None]
        divergence = ((spread**2).sum((-2, -1)) + (shift**2).sum(-1) - d) / 2 + difference
        return -reference.weights[:, None] * (log_weights(reference)[:, None] - log_weights(draw) + divergence)

    return jax.lax.map(one, draws, batch_size=draws_per_batch((k * d) ** 2, len(draws.means)))


def _solve(agreement: jax.Array, share: jax.Array, allowed: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Best orders (M, K) for agreements (M, K, K), and gains (M,): over the second best, a unit of the share that would move."""
    if len(share) <= _ENUMERATED:
        return _enumerate(agreement, share, allowed)
    scores = np.where(np.asarray(allowed), np.nan_to_num(np.asarray(agreement, float)), _FORBIDDEN)
    found = [_assign_one(a, np.asarray(share, float)) for a in scores]
    return jnp.array([order for order, _ in found]), jnp.array([gain for _, gain in found], share.dtype)


@jax.jit
def _enumerate(agreement: jax.Array, share: jax.Array, allowed: jax.Array) -> tuple[jax.Array, jax.Array]:
    k = len(share)
    orders = jnp.array(list(itertools.permutations(range(k))))  # (K!, K)
    possible = allowed[jnp.arange(k), orders].all(-1)

    def one(agreement: jax.Array) -> tuple[jax.Array, jax.Array]:
        scores = jnp.where(possible, agreement[jnp.arange(k), orders].sum(-1), _FORBIDDEN)
        best = scores.argmax()
        rest = jnp.where(jnp.arange(len(orders)) == best, -jnp.inf, scores)
        second = rest.argmax()
        moved = jnp.where(orders[best] != orders[second], share, 0).sum()
        # no second order, or none that is possible: nothing is in doubt
        sure = (moved <= 0) | (rest[second] <= _FORBIDDEN)
        return orders[best], jnp.where(sure, jnp.inf, (scores[best] - rest[second]) / jnp.where(moved > 0, moved, 1))

    return jax.lax.map(one, agreement, batch_size=draws_per_batch(len(orders) * k, len(agreement)))


def _assign_one(agreement: np.ndarray, share: np.ndarray) -> tuple[np.ndarray, float]:
    """Best order on the host, and the second best: the best of those that lack one of its pairs."""
    from scipy.optimize import linear_sum_assignment

    rows = np.arange(len(agreement))
    best = linear_sum_assignment(agreement, maximize=True)[1]
    score = agreement[rows, best].sum()
    loss, moved = np.inf, 1.0
    for j in rows:
        without = agreement.copy()
        without[j, best[j]] = 10 * _FORBIDDEN
        other = linear_sum_assignment(without, maximize=True)[1]
        total = agreement[rows, other].sum()
        if total > _FORBIDDEN and score - total < loss:
            loss, moved = score - total, share[other != best].sum()
    return best, float(loss / moved) if moved > 0 else np.inf


def _stephens(
    draws: Mixture, order: jax.Array, x: jax.Array, weight: jax.Array, allowed: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Stephens (2000), algorithm 2; a traced one makes all its steps."""
    for _ in range(_STEPHENS_STEPS):
        average = _average(draws, order, x)
        tiny = jnp.finfo(average.dtype).tiny
        new, _ = _assign(draws, jnp.log(jnp.maximum(average, tiny)), x, weight, allowed)
        settled = not is_traced(new, order) and bool((new == order).all())
        order = new
        if settled:
            break
    return order, _assign(draws, average, x, weight, allowed)[1]


@jax.jit
def _average(draws: Mixture, order: jax.Array, x: jax.Array) -> jax.Array:
    """Average of the reordered responsibilities, (N, K)."""

    def add(total: jax.Array, one: tuple[Mixture, jax.Array]) -> tuple[jax.Array, None]:
        draw, order = one
        return total + responsibilities(draw, x)[:, order], None

    zero = jnp.zeros((len(x), draws.num_components), jnp.result_type(x.dtype, draws.means.dtype))
    return jax.lax.scan(add, zero, (draws, order))[0] / len(order)


@jax.jit
def _reorder(posterior: Posterior, order: jax.Array, margin: jax.Array) -> Posterior:
    mixture = posterior.mixture
    weights = jnp.take_along_axis(mixture.weights, order, -1)
    means = jnp.take_along_axis(mixture.means, order[..., None], -2)
    covariances = covariance.permute(mixture.covariances, order, mixture.covariance_type)
    before = posterior.stats.get("permutation")  # of an earlier relabelling
    total = order if before is None else jnp.take_along_axis(before, order, -1)
    switched = (total[:, 1:] != total[:, :-1]).any(-1)
    stats = posterior.stats | {
        "permutation": total,
        "relabel_margin": margin,
        "switch_rate": switched.mean() if switched.size else jnp.zeros((), margin.dtype),
        "labels_identified": (~(margin >= SMALL_MARGIN)).mean() <= SMALL_SHARE,
    }
    return dataclasses.replace(posterior, mixture=Mixture(weights, means, covariances, mixture.covariance_type), stats=stats)
