"""Posterior predictive densities, draws, responsibilities and co-clustering, averaged over the parameters.

    predictive density      p(x* | x)         = E[ p(x* | theta) ]                     Gelman et al. (2013), eq. 1.4
    responsibilities        P(z_n = k | x)    = E[ r_nk(theta) ]                       after relabelling only
    co-clustering           P(z_i = z_j | x)  = E[ sum_k r_ik(theta) r_jk(theta) ]     in any order of the components

Expectations are computed as averages over the draws. The draws are processed in batches, so that memory holds only one batch
and the result. The points can be the data or new observations.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import entr
from numpy.typing import ArrayLike

from .. import covariance
from ..calls import public
from ..chunking import draws_per_batch
from ..density import as_points, log_prob, responsibilities, sample_from_stack
from ..memory import check_memory
from ..mixture import Mixture
from ..padding import as_count, cut, pad_data
from ..row_sums import Total, vary_with
from ..validation import check_choice, check_count, check_key, is_traced
from .pooling import pool
from .result import Posterior, check_one_posterior

KINDS = ("total", "within", "pairs")


@public
def predictive_log_prob(posterior: Posterior, x: ArrayLike) -> jax.Array:
    """Return the log posterior predictive density of each point, log mean_s p(x_n | theta_s). Gelman et al. (2013), eq. 1.4.

    p(x_n | theta) is always the density of the drawn mixture. If the draws come from your own model, its likelihood plays no
    part. Where the density is low, the average depends on few draws. In an example with 12 points and 4 x 1000 draws by `nuts`,
    the Monte Carlo standard error was 6 % to 8 % at a density of 3e-4. To compute this error, apply
    `jaxgmm.posterior.diagnostics.mcse_mean` to the densities. The predictive density is label-invariant. Its log summed over
    held-out points is the log predictive score. Its log summed over the data is the log pointwise predictive density (lppd) of
    Vehtari, Gelman & Gabry (2017), eq. 2.

    Args:
        posterior: draws (C, S, ...).
        x: (N, D), in data units.

    Returns:
        (N,), nats; -inf where the density underflows under every draw.

    Raises:
        ValueError, TypeError: posterior is not a single Posterior; x has another number of features or is not finite.

    Example:
        >>> import jax, jax.numpy as jnp, jaxgmm
        >>> draws = jaxgmm.make_mixture([[[1.0], [1.0]]], [[[[0.0]], [[2.0]]]], [[[[[1.0]]], [[[1.0]]]]])  # (1, 2, ...)
        >>> posterior = jaxgmm.Posterior(draws, jnp.zeros((1, 2)), None, jnp.array(0), {})
        >>> round(float(jaxgmm.predictive_log_prob(posterior, [[1.0]])[0]), 4)
        -1.4189
    """
    mixture, points, count = _draws_and_points(posterior, x)
    return cut(_log_mean(mixture, points), count)


@public
def predictive_sample(key: jax.Array, posterior: Posterior, num_samples: int) -> tuple[jax.Array, jax.Array]:
    """Draw new observations from the posterior predictive distribution, each from a randomly chosen draw of the mixture.

    Args:
        key: a random key.
        posterior: draws (C, S, ...).
        num_samples: N.

    Returns:
        x (N, D) in data units, and labels (N,), the component that each observation came from. The labels are meaningful only
        after `relabel`.

    Raises:
        ValueError, TypeError: posterior is not a single Posterior, key is not a random key, or num_samples is not an integer
            >= 0.

    Example:
        >>> import jax, jax.numpy as jnp, jaxgmm
        >>> draws = jaxgmm.make_mixture([[[1.0], [1.0]]], [[[[0.0]], [[2.0]]]], [[[[[1.0]]], [[[1.0]]]]])  # (1, 2, ...)
        >>> posterior = jaxgmm.Posterior(draws, jnp.zeros((1, 2)), None, jnp.array(0), {})
        >>> jaxgmm.predictive_sample(jax.random.key(0), posterior, 5)[0].shape
        (5, 1)
    """
    check_key(key)
    check_count(num_samples, "num_samples", 0)
    draws = _all_draws(posterior)
    check_memory(float(num_samples) * (draws.num_components + draws.num_features) * 4, f"num_samples={num_samples}")
    return _sample(key, draws, num_samples)


@public
def predictive_responsibilities(posterior: Posterior, x: ArrayLike) -> jax.Array:
    """Return the probability that point n belongs to component k, averaged over the parameters: mean_s r_nk(theta_s).

    Component k must have the same meaning in all draws. The posterior must therefore come from `relabel`, with identified
    labels.

    Args:
        posterior: draws (C, S, ...) as `relabel` returns them.
        x: (N, D), in data units.

    Returns:
        (N, K); every row sums to one. Inside jit, all entries are NaN if labels are not identified.

    Raises:
        ValueError, TypeError: the posterior was not relabelled, its labels are not identified (outside jit), or it is not one
            posterior; x has another number of features or is not finite.

    Example:
        >>> import jax, jax.numpy as jnp, jaxgmm
        >>> mixture = jaxgmm.make_mixture([0.5, 0.5], [[0.0], [9.0]], [[[1.0]], [[1.0]]])
        >>> draws = jax.tree.map(lambda leaf: leaf[None, None], mixture)  # one chain, one draw
        >>> posterior = jaxgmm.Posterior(draws, jnp.zeros((1, 1)), None, jnp.array(0), {})
        >>> posterior = jaxgmm.relabel(posterior, mixture, [[0.0], [9.0]])
        >>> jaxgmm.predictive_responsibilities(posterior, [[4.5]]).tolist()
        [[0.5, 0.5]]
    """
    mixture, points, count = _draws_and_points(posterior, x)
    return cut(_mean_responsibilities(mixture, points, _identified(posterior)), count)


@public
def coclustering(posterior: Posterior, x: ArrayLike) -> jax.Array:
    """Return the co-clustering matrix: the probability, for each pair of points, that both belong to the same component.

    It is also called the posterior similarity matrix: Binder (1978); Fritsch & Ickstadt (2009), section 3. The matrix is
    label-invariant, so it can be used even if labels are not identified. It has N^2 entries: if N is very large, use a subset
    of the points.

    Args:
        posterior: draws (C, S, ...).
        x: (N, D), in data units.

    Returns:
        (N, N), symmetric, 1 on the diagonal.

    Raises:
        ValueError, TypeError: posterior is not a single Posterior; x has another number of features or is not finite.

    Example:
        >>> import jax, jax.numpy as jnp, jaxgmm
        >>> mixture = jaxgmm.make_mixture([0.5, 0.5], [[0.0], [9.0]], [[[1.0]], [[1.0]]])
        >>> draws = jax.tree.map(lambda leaf: leaf[None, None], mixture)  # one chain, one draw
        >>> posterior = jaxgmm.Posterior(draws, jnp.zeros((1, 1)), None, jnp.array(0), {})
        >>> jaxgmm.coclustering(posterior, [[0.0], [4.5]]).tolist()
        [[1.0, 0.5], [0.5, 1.0]]
    """
    mixture, points, count = _draws_and_points(posterior, x)
    return cut(cut(_coclustering(mixture, points), count), count, 1)


@public
def assignment_entropy(posterior: Posterior, x: ArrayLike, *, kind: str = "total") -> jax.Array:
    """Return the entropy of each point's component label, which is 0 if the component is certain.

    There are three kinds of entropy, in nats:

    - "total": the entropy of the responsibilities after averaging over the draws, at most log K. Use it only after `relabel`.
    - "within": the entropy of the responsibilities under each draw, averaged over the draws. It is label-invariant. The
      difference "total" minus "within" is the mutual information between label and parameters. More data would reduce it.
    - "pairs": for each other point m, the entropy of the answer to "does point m belong to the same component?". The result is
      the average over the points m, at most log 2. It contains the uncertainty of the labels under each draw as well as the
      uncertainty of the parameters, and it is label-invariant.

    Args:
        posterior: draws (C, S, ...); for "total", as `relabel` returns them.
        x: (N, D), in data units.
        kind: "total", "within" or "pairs"; "pairs" needs memory for a matrix (N, N).

    Returns:
        (N,); inside jit, "total" is NaN if labels are not identified.

    Raises:
        ValueError, TypeError: kind is unknown; kind is "total", but the posterior was not relabelled or (outside jit) its
            labels are not identified; posterior is not a single Posterior; x has another number of features or is not finite.

    Example:
        >>> import jax, jax.numpy as jnp, jaxgmm
        >>> mixture = jaxgmm.make_mixture([0.5, 0.5], [[0.0], [9.0]], [[[1.0]], [[1.0]]])
        >>> draws = jax.tree.map(lambda leaf: leaf[None, None], mixture)  # one chain, one draw
        >>> posterior = jaxgmm.Posterior(draws, jnp.zeros((1, 1)), None, jnp.array(0), {})
        >>> [round(float(h), 4) for h in jaxgmm.assignment_entropy(posterior, [[4.5], [9.0]], kind="within")]
        [0.6931, 0.0]
    """
    check_choice(kind, "kind", KINDS)
    mixture, points, count = _draws_and_points(posterior, x)
    if kind == "total":
        entropy = _entropy_of_mean(mixture, points, _identified(posterior))
    else:
        entropy = _mean_entropy(mixture, points) if kind == "within" else _entropy_of_pairs(mixture, points, as_count(count))
    return cut(entropy, count)


def _all_draws(posterior: Posterior) -> Mixture:
    """Return the draws of one posterior as a stack (M, ...)."""
    check_one_posterior(posterior)
    return pool(posterior.mixture, posterior.stats)


def _draws_and_points(posterior: Posterior, x: ArrayLike) -> tuple[Mixture, jax.Array, int]:
    """Return the draws of one posterior as a stack (M, ...), valid points that may be padded, and the number of points."""
    draws, points = as_points(_all_draws(posterior), x)
    return draws, pad_data(points, None, posterior).x, len(points)


def _identified(posterior: Posterior) -> jax.Array | np.ndarray:
    """Return whether labels are identified; raise ValueError if the draws were not relabelled or labels are not identified."""
    if posterior.mixture.num_components == 1:
        return np.array(True)
    identified = posterior.stats.get("labels_identified")
    if identified is None:
        raise ValueError(
            "the posterior has not been relabelled, so the order of its components may change from draw to draw; pass "
            "jaxgmm.relabel(posterior, fit.mixture, x) instead."
        )
    if not is_traced(identified) and not bool(identified):
        raise ValueError(
            "the posterior's labels are not identified (relabel_margin is small), so an average over draws does not describe "
            "a single component; use coclustering, or assignment_entropy of kind 'within' or 'pairs': they are label-invariant."
        )
    return identified


def _over_draws(add: Callable, total: Total, draws: Mixture, x: jax.Array) -> Total:
    """Add all draws (M, ...) to a total, in batches of B draws, and return the new total.

    For each batch, the new total is add(total, batch (B, ...), is_valid (B,)). `is_valid` is False for copies of the last draw
    that only fill the last batch.
    """
    m = len(draws.means)
    size = draws_per_batch(len(x) * draws.num_components * draws.num_features, m)
    batches = -(-m // size)
    index = jnp.minimum(jnp.arange(batches * size), m - 1).reshape(batches, size)  # copies of the last draw fill the last batch
    is_valid = (jnp.arange(batches * size) < m).reshape(batches, size)

    def step(total: Total, one: tuple[jax.Array, jax.Array]) -> tuple[Total, None]:
        return add(total, draws[one[0]], one[1]), None

    return jax.lax.scan(step, vary_with(total, draws, x), (index, is_valid))[0]


@jax.jit
def _log_mean(draws: Mixture, x: jax.Array) -> jax.Array:
    """Return the logarithm of the mean density over the draws, (N,)."""

    def add(total: tuple[jax.Array, jax.Array], batch: Mixture, is_valid: jax.Array) -> tuple[jax.Array, jax.Array]:
        top, rest = total  # the sum is exp(top) * rest
        terms = jnp.where(is_valid[:, None], log_prob(batch, x), -jnp.inf)  # (B, N)
        new = jax.lax.stop_gradient(jnp.maximum(top, terms.max(0)))
        shift = jnp.where(jnp.isneginf(new), 0, new)
        return new, rest * jnp.exp(top - shift) + jnp.exp(terms - shift).sum(0)

    zero = jnp.zeros(len(x), x.dtype)
    top, rest = _over_draws(add, (zero - jnp.inf, zero), draws, x)
    nothing = rest == 0
    return jnp.where(nothing, -jnp.inf, top + jnp.log(jnp.where(nothing, 1, rest)) - math.log(len(draws.means)))


def _mean_of(function: Callable, shape: tuple[int, ...], draws: Mixture, x: jax.Array) -> jax.Array:
    """Average a function of the responsibilities over the draws.

    The function takes responsibilities (B, N, K) and returns the sum of its values over the first axis.
    """

    def add(total: jax.Array, batch: Mixture, is_valid: jax.Array) -> jax.Array:
        return total + function(jnp.where(is_valid[:, None, None], responsibilities(batch, x), 0))

    return _over_draws(add, jnp.zeros(shape, x.dtype), draws, x) / len(draws.means)


@jax.jit
def _mean_responsibilities(draws: Mixture, x: jax.Array, identified: jax.Array) -> jax.Array:
    """Return the mean responsibilities (N, K), or NaN if labels are not identified."""
    return jnp.where(identified, _mean_of(lambda r: r.sum(0), (len(x), draws.num_components), draws, x), jnp.nan)


@jax.jit
def _entropy_of_mean(draws: Mixture, x: jax.Array, identified: jax.Array) -> jax.Array:
    """Return the entropy of the mean responsibilities, (N,)."""
    return entr(_mean_responsibilities(draws, x, identified)).sum(-1)


@jax.jit
def _mean_entropy(draws: Mixture, x: jax.Array) -> jax.Array:
    """Return the entropy of the responsibilities, averaged over the draws, (N,)."""
    return _mean_of(lambda r: entr(r).sum((0, -1)), (len(x),), draws, x)


@jax.jit
def _coclustering(draws: Mixture, x: jax.Array) -> jax.Array:
    """Return the co-clustering matrix (N, N)."""
    n = len(x)
    together = partial(covariance.einsum, "bik,bjk->ij")
    mean = _mean_of(lambda r: together(r, r), (n, n), draws, x)
    mean = jnp.minimum((mean + mean.T) / 2, 1)  # exactly symmetric
    return jnp.where(jnp.eye(n, dtype=bool), 1, mean)  # a point belongs to the same component as itself


@jax.jit
def _entropy_of_pairs(draws: Mixture, x: jax.Array, count: jax.Array) -> jax.Array:
    """Return a mean entropy in nats for each point, (N,).

    The entropy is that of the event that the point and a second point belong to the same component. The mean is over the second
    points, which are the first `count` points without the point itself.
    """
    together = _coclustering(draws, x)
    entropy = jnp.where(jnp.arange(len(x)) < count, entr(together) + entr(1 - together), 0)
    return entropy.sum(-1) / jnp.maximum(count - 1, 1)  # the diagonal contributes 0


@partial(jax.jit, static_argnums=2)
def _sample(key: jax.Array, draws: Mixture, num_samples: int) -> tuple[jax.Array, jax.Array]:
    key_draw, key_label, key_noise = jax.random.split(key, 3)
    drawn = jax.random.randint(key_draw, (num_samples,), 0, len(draws.means))
    return sample_from_stack((key_label, key_noise), draws, drawn)
