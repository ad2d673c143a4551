"""Posterior predictive densities, draws and responsibilities, averaged over the parameters.

    predictive density      p(x* | x)         = E[ p(x* | theta) ]                     Gelman et al. (2013), eq. 1.4
    responsibilities        P(z_n = k | x)    = E[ r_nk(theta) ]                       after relabelling only

Expectations are computed as averages over the draws. The draws are processed in batches, so that memory holds only one batch
and the result. The points can be the data or new observations.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from ..calls import public
from ..chunking import draws_per_batch
from ..density import as_points, log_prob, responsibilities
from ..incomplete.observations import Observations
from ..memory import check_memory
from ..mixture import Mixture
from ..padding import cut, pad_data
from ..row_sums import Total, vary_with
from ..sampling import sample_from_stack
from ..validation import check_count, check_key, is_traced
from .pooling import pool
from .result import Posterior, check_one_posterior


@public
def predictive_log_prob(posterior: Posterior, x: ArrayLike | Observations) -> jax.Array:
    """Return the log posterior predictive density of each point, log mean_s p(x_n | theta_s). Gelman et al. (2013), eq. 1.4.

    p(x_n | theta) is always the density of the drawn mixture. If the draws come from your own model, its likelihood plays no
    part. Where the density is low, the average depends on few draws. In an example with 12 points and 4 x 1000 draws by `nuts`,
    the Monte Carlo standard error was 6 % to 8 % at a density of 3e-4. To compute this error, apply
    `jaxgmm.posterior.diagnostics.mcse_mean` to the densities. The predictive density is label-invariant. Its log summed over
    held-out points is the log predictive score. Its log summed over the data is the log pointwise predictive density (lppd) of
    Vehtari, Gelman & Gabry (2017), eq. 2.

    Args:
        posterior: draws (C, S, ...).
        x: (N, D), in data units, or `observations`, of which only the observed values count.

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
    mixture, points, count = draws_and_points(posterior, x)
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
def predictive_responsibilities(posterior: Posterior, x: ArrayLike | Observations) -> jax.Array:
    """Return the probability that point n belongs to component k, averaged over the parameters: mean_s r_nk(theta_s).

    Component k must have the same meaning in all draws. The posterior must therefore come from `relabel`, with identified
    labels.

    Args:
        posterior: draws (C, S, ...) as `relabel` returns them.
        x: (N, D), in data units, or `observations`, of which only the observed values count.

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
    mixture, points, count = draws_and_points(posterior, x)
    return cut(mean_responsibilities(mixture, points, check_identified(posterior)), count)


def _all_draws(posterior: Posterior) -> Mixture:
    """Return the draws of one posterior as a stack (M, ...)."""
    check_one_posterior(posterior)
    return pool(posterior.mixture, posterior.stats)


def draws_and_points(posterior: Posterior, x: ArrayLike | Observations) -> tuple[Mixture, Any, int]:
    """Return the draws of one posterior as a stack (M, ...), valid points that may be padded, and the number of points."""
    draws, points = as_points(_all_draws(posterior), x)
    return draws, pad_data(points, None, posterior).x, len(points)


def check_identified(posterior: Posterior) -> jax.Array | np.ndarray:
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


def mean_over_draws(function: Callable, shape: tuple[int, ...], draws: Mixture, x: jax.Array) -> jax.Array:
    """Average a function of the responsibilities over the draws.

    The function takes responsibilities (B, N, K) and returns the sum of its values over the first axis.
    """

    def add(total: jax.Array, batch: Mixture, is_valid: jax.Array) -> jax.Array:
        return total + function(jnp.where(is_valid[:, None, None], responsibilities(batch, x), 0))

    return _over_draws(add, jnp.zeros(shape, x.dtype), draws, x) / len(draws.means)


@jax.jit
def mean_responsibilities(draws: Mixture, x: jax.Array, identified: jax.Array) -> jax.Array:
    """Return the mean responsibilities (N, K), or NaN if labels are not identified."""
    return jnp.where(identified, mean_over_draws(lambda r: r.sum(0), (len(x), draws.num_components), draws, x), jnp.nan)


@partial(jax.jit, static_argnums=2)
def _sample(key: jax.Array, draws: Mixture, num_samples: int) -> tuple[jax.Array, jax.Array]:
    key_draw, key_label, key_noise = jax.random.split(key, 3)
    drawn = jax.random.randint(key_draw, (num_samples,), 0, len(draws.means))
    return sample_from_stack((key_label, key_noise), draws, drawn)
