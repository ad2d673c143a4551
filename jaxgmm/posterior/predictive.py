"""What a posterior says of points: densities, draws, memberships, who belongs together; parameters are averaged over.

    predictive density      p(x* | x)         = E[ p(x* | theta) ]                     Gelman et al. (2013), eq. 1.4
    responsibilities        P(z_n = k | x)    = E[ r_nk(theta) ]                       after relabelling only
    co-clustering           P(z_i = z_j | x)  = E[ sum_k r_ik(theta) r_jk(theta) ]     in any order of the components

Expectations are averages over the draws, a batch of them at a time, so that memory is a batch's and the result's. Points may be
the data or new ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import entr

from .. import covariance
from ..chunking import draws_per_batch
from ..density import as_points, log_prob, responsibilities, sample_from_stack
from ..mixture import Mixture
from ..validation import check_choice, check_count, check_key, is_traced
from .result import Posterior, check_one_posterior

KINDS = ("total", "within", "pairs")


def predictive_log_prob(posterior: Posterior, x: Any) -> jax.Array:
    """Log posterior predictive density of each point, nats: log mean_s p(x_n | theta_s). Gelman et al. (2013), eq. 1.4.

    The order of the components does not matter. Over points that were held out its sum is the log predictive score; over the
    data themselves it is the lppd of Vehtari, Gelman & Gabry (2017), eq. 2.

    Args:
        posterior: draws (C, S, ...).
        x: (N, D), in data units.

    Returns:
        (N,). -inf where every draw's density underflows.

    Raises:
        ValueError, TypeError: not one posterior; x of another width or not finite.

    Example:
        >>> import jax, jax.numpy as jnp, jaxgmm
        >>> draws = jaxgmm.make_mixture([[[1.0], [1.0]]], [[[[0.0]], [[2.0]]]], [[[[[1.0]]], [[[1.0]]]]])  # (1, 2, ...)
        >>> posterior = jaxgmm.Posterior(draws, jnp.zeros((1, 2)), None, jnp.array(0), {})
        >>> round(float(jaxgmm.predictive_log_prob(posterior, [[1.0]])[0]), 4)
        -1.4189
    """
    mixture, x = _draws_and_points(posterior, x)
    return _log_mean(mixture, x)


def predictive_sample(key: jax.Array, posterior: Posterior, num_samples: int) -> tuple[jax.Array, jax.Array]:
    """New observations from the posterior predictive distribution, each from a mixture drawn anew.

    Args:
        key: a random key.
        posterior: draws (C, S, ...).
        num_samples: N.

    Returns:
        x (N, D) in data units, labels (N,): the component that each came from, which means something after `relabel` only.

    Raises:
        ValueError, TypeError: not one posterior, not a key, not a count.

    Example:
        >>> import jax, jax.numpy as jnp, jaxgmm
        >>> draws = jaxgmm.make_mixture([[[1.0], [1.0]]], [[[[0.0]], [[2.0]]]], [[[[[1.0]]], [[[1.0]]]]])  # (1, 2, ...)
        >>> posterior = jaxgmm.Posterior(draws, jnp.zeros((1, 2)), None, jnp.array(0), {})
        >>> jaxgmm.predictive_sample(jax.random.key(0), posterior, 5)[0].shape
        (5, 1)
    """
    check_key(key)
    check_count(num_samples, "num_samples", 0)
    return _sample(key, _all_draws(posterior), num_samples)


def predictive_responsibilities(posterior: Posterior, x: Any) -> jax.Array:
    """Probability that point n belongs to component k, parameters averaged over: mean_s r_nk(theta_s).

    Components need names that hold for all draws, so the posterior must come from `relabel`, and its labels be identified.

    Args:
        posterior: draws (C, S, ...) as `relabel` returns them.
        x: (N, D), in data units.

    Returns:
        (N, K), rows summing to one. Traced, NaN where labels are not identified.

    Raises:
        ValueError, TypeError: the posterior was not relabelled, or (eager) its labels are not identified; not one posterior; x of
            another width or not finite.

    Example:
        >>> import jax, jax.numpy as jnp, jaxgmm
        >>> mixture = jaxgmm.make_mixture([0.5, 0.5], [[0.0], [9.0]], [[[1.0]], [[1.0]]])
        >>> draws = jax.tree.map(lambda leaf: leaf[None, None], mixture)  # one chain, one draw
        >>> posterior = jaxgmm.Posterior(draws, jnp.zeros((1, 1)), None, jnp.array(0), {})
        >>> posterior = jaxgmm.relabel(posterior, mixture, [[0.0], [9.0]])
        >>> jaxgmm.predictive_responsibilities(posterior, [[4.5]]).tolist()
        [[0.5, 0.5]]
    """
    mixture, x = _draws_and_points(posterior, x)
    return _mean_responsibilities(mixture, x, _identified(posterior))


def coclustering(posterior: Posterior, x: Any) -> jax.Array:
    """Probability that two points belong to the same component: the co-clustering, or posterior similarity, matrix.

    The order of the components does not matter, so this holds where labels are not identified too. Binder (1978); Fritsch &
    Ickstadt (2009), section 3. It has N^2 entries: of very many points take some.

    Args:
        posterior: draws (C, S, ...).
        x: (N, D), in data units.

    Returns:
        (N, N), symmetric, 1 on the diagonal.

    Raises:
        ValueError, TypeError: not one posterior; x of another width or not finite.

    Example:
        >>> import jax, jax.numpy as jnp, jaxgmm
        >>> mixture = jaxgmm.make_mixture([0.5, 0.5], [[0.0], [9.0]], [[[1.0]], [[1.0]]])
        >>> draws = jax.tree.map(lambda leaf: leaf[None, None], mixture)  # one chain, one draw
        >>> posterior = jaxgmm.Posterior(draws, jnp.zeros((1, 1)), None, jnp.array(0), {})
        >>> jaxgmm.coclustering(posterior, [[0.0], [4.5]]).tolist()
        [[1.0, 0.5], [0.5, 1.0]]
    """
    mixture, x = _draws_and_points(posterior, x)
    return _coclustering(mixture, x)


def assignment_entropy(posterior: Posterior, x: Any, *, kind: str = "total") -> jax.Array:
    """How uncertain it is which component each point belongs to, nats: 0 where it is certain.

    "total": the entropy of the responsibilities averaged over the draws, at most log K, after `relabel` only. "within": the average
    over the draws of each draw's own entropy; what is left of the total is the mutual information of label and parameters,
    which more data would take away. "pairs": the entropy of "does point m belong with this one?", averaged over the other points m,
    at most log 2: uncertainty of both kinds. The last two do not depend on the order of the components.

    Args:
        posterior: draws (C, S, ...); for "total" as `relabel` returns them.
        x: (N, D), in data units.
        kind: "total", "within" or "pairs", which takes a matrix (N, N).

    Returns:
        (N,). "total", traced: NaN where labels are not identified.

    Raises:
        ValueError, TypeError: "total" of a posterior that was not relabelled, or (eager) whose labels are not identified; not one
            posterior; x of another width or not finite.

    Example:
        >>> import jax, jax.numpy as jnp, jaxgmm
        >>> mixture = jaxgmm.make_mixture([0.5, 0.5], [[0.0], [9.0]], [[[1.0]], [[1.0]]])
        >>> draws = jax.tree.map(lambda leaf: leaf[None, None], mixture)  # one chain, one draw
        >>> posterior = jaxgmm.Posterior(draws, jnp.zeros((1, 1)), None, jnp.array(0), {})
        >>> [round(float(h), 4) for h in jaxgmm.assignment_entropy(posterior, [[4.5], [9.0]], kind="within")]
        [0.6931, 0.0]
    """
    check_choice(kind, "kind", KINDS)
    mixture, x = _draws_and_points(posterior, x)
    if kind == "total":
        return _entropy_of_mean(mixture, x, _identified(posterior))
    return _mean_entropy(mixture, x) if kind == "within" else _entropy_of_pairs(mixture, x)


def _all_draws(posterior: Any) -> Mixture:
    """Return the draws of one posterior as a stack (M, ...)."""
    check_one_posterior(posterior)
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), posterior.mixture)


def _draws_and_points(posterior: Any, x: Any) -> tuple[Mixture, jax.Array]:
    """Return the draws of one posterior as a stack (M, ...), and valid points (N, D)."""
    draws = _all_draws(posterior)
    return draws, as_points(draws, x)


def _identified(posterior: Posterior) -> Any:
    """Whether components have names that hold for all draws."""
    if posterior.mixture.num_components == 1:
        return np.array(True)
    identified = posterior.stats.get("labels_identified")
    if identified is None:
        raise ValueError(
            "the posterior has not been relabelled, and its components may change places from draw to draw; give "
            "jaxgmm.relabel(posterior, fit.mixture, x)."
        )
    if not is_traced(identified) and not bool(identified):
        raise ValueError(
            "the posterior's labels are not identified (relabel_margin is small), so that an average over draws is of no one "
            "component; coclustering, and assignment_entropy of kind 'within' or 'pairs', do without labels."
        )
    return identified


def _over_draws(add: Callable, total: Any, draws: Mixture, num_points: int) -> Any:
    """total = add(total, batch of draws (B, ...), which of them count (B,)) over all draws (M, ...)."""
    m = len(draws.means)
    size = draws_per_batch(num_points * draws.num_components * draws.num_features, m)
    batches = -(-m // size)
    index = jnp.minimum(jnp.arange(batches * size), m - 1).reshape(batches, size)  # the last draw fills the last batch up
    counts = (jnp.arange(batches * size) < m).reshape(batches, size)

    def step(total: Any, one: tuple[jax.Array, jax.Array]) -> tuple[Any, None]:
        return add(total, draws[one[0]], one[1]), None

    return jax.lax.scan(step, total, (index, counts))[0]


@jax.jit
def _log_mean(draws: Mixture, x: jax.Array) -> jax.Array:
    def add(total: tuple[jax.Array, jax.Array], batch: Mixture, counts: jax.Array) -> tuple[jax.Array, jax.Array]:
        top, rest = total  # the sum is exp(top) * rest
        terms = jnp.where(counts[:, None], log_prob(batch, x), -jnp.inf)  # (B, N)
        new = jax.lax.stop_gradient(jnp.maximum(top, terms.max(0)))
        shift = jnp.where(jnp.isneginf(new), 0, new)
        return new, rest * jnp.exp(top - shift) + jnp.exp(terms - shift).sum(0)

    zero = jnp.zeros(len(x), x.dtype)
    top, rest = _over_draws(add, (zero - jnp.inf, zero), draws, len(x))
    nothing = rest == 0
    return jnp.where(nothing, -jnp.inf, top + jnp.log(jnp.where(nothing, 1, rest)) - math.log(len(draws.means)))


def _mean_of(function: Callable, shape: tuple[int, ...], draws: Mixture, x: jax.Array) -> jax.Array:
    """Average over the draws of function(responsibilities (B, N, K)), which sums over its first axis."""

    def add(total: jax.Array, batch: Mixture, counts: jax.Array) -> jax.Array:
        return total + function(jnp.where(counts[:, None, None], responsibilities(batch, x), 0))

    return _over_draws(add, jnp.zeros(shape, x.dtype), draws, len(x)) / len(draws.means)


@jax.jit
def _mean_responsibilities(draws: Mixture, x: jax.Array, identified: jax.Array) -> jax.Array:
    return jnp.where(identified, _mean_of(lambda r: r.sum(0), (len(x), draws.num_components), draws, x), jnp.nan)


@jax.jit
def _entropy_of_mean(draws: Mixture, x: jax.Array, identified: jax.Array) -> jax.Array:
    return entr(_mean_responsibilities(draws, x, identified)).sum(-1)


@jax.jit
def _mean_entropy(draws: Mixture, x: jax.Array) -> jax.Array:
    return _mean_of(lambda r: entr(r).sum((0, -1)), (len(x),), draws, x)


@jax.jit
def _coclustering(draws: Mixture, x: jax.Array) -> jax.Array:
    n = len(x)
    together = partial(covariance.einsum, "bik,bjk->ij")
    mean = _mean_of(lambda r: together(r, r), (n, n), draws, x)
    mean = jnp.minimum((mean + mean.T) / 2, 1)  # to the last bit
    return jnp.where(jnp.eye(n, dtype=bool), 1, mean)  # a point belongs with itself, whichever its component


@jax.jit
def _entropy_of_pairs(draws: Mixture, x: jax.Array) -> jax.Array:
    together = _coclustering(draws, x)
    return (entr(together) + entr(1 - together)).sum(-1) / max(len(x) - 1, 1)  # nothing from the diagonal


@partial(jax.jit, static_argnums=2)
def _sample(key: jax.Array, draws: Mixture, num_samples: int) -> tuple[jax.Array, jax.Array]:
    key_draw, key_label, key_noise = jax.random.split(key, 3)
    drawn = jax.random.randint(key_draw, (num_samples,), 0, len(draws.means))
    return sample_from_stack((key_label, key_noise), draws, drawn)
