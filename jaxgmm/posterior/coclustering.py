"""Describe the assignment of points to components, averaged over the draws of a posterior.

    co-clustering    P(z_i = z_j | x) = E[ sum_k r_ik(theta) r_jk(theta) ]     in any order of the components

The entropies say how certain the assignment of each point is.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jax.scipy.special import entr
from numpy.typing import ArrayLike

from .. import covariance
from ..calls import public
from ..incomplete.observations import Observations
from ..mixture import Mixture
from ..padding import as_count, cut
from ..validation import check_choice
from .predictive import check_identified, draws_and_points, mean_over_draws, mean_responsibilities
from .result import Posterior

KINDS = ("total", "within", "pairs")


@public
def coclustering(posterior: Posterior, x: ArrayLike | Observations) -> jax.Array:
    """Return the co-clustering matrix: the probability, for each pair of points, that both belong to the same component.

    It is also called the posterior similarity matrix: Binder (1978); Fritsch & Ickstadt (2009), section 3. The matrix is
    label-invariant, so it can be used even if labels are not identified. It has N^2 entries: if N is very large, use a subset
    of the points.

    Args:
        posterior: draws (C, S, ...).
        x: (N, D), in data units, or `observations`, whose labels restrict the components.

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
    mixture, points, count = draws_and_points(posterior, x)
    return cut(cut(_coclustering(mixture, points), count), count, 1)


@public
def assignment_entropy(posterior: Posterior, x: ArrayLike | Observations, *, kind: str = "total") -> jax.Array:
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
        x: (N, D), in data units, or `observations`, whose labels restrict the components.
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
    mixture, points, count = draws_and_points(posterior, x)
    if kind == "total":
        entropy = _entropy_of_mean(mixture, points, check_identified(posterior))
    else:
        entropy = _mean_entropy(mixture, points) if kind == "within" else _entropy_of_pairs(mixture, points, as_count(count))
    return cut(entropy, count)


@jax.jit
def _entropy_of_mean(draws: Mixture, x: jax.Array, identified: jax.Array) -> jax.Array:
    """Return the entropy of the mean responsibilities, (N,)."""
    return entr(mean_responsibilities(draws, x, identified)).sum(-1)


@jax.jit
def _mean_entropy(draws: Mixture, x: jax.Array) -> jax.Array:
    """Return the entropy of the responsibilities, averaged over the draws, (N,)."""
    return mean_over_draws(lambda r: entr(r).sum((0, -1)), (len(x),), draws, x)


@jax.jit
def _coclustering(draws: Mixture, x: jax.Array) -> jax.Array:
    """Return the co-clustering matrix (N, N)."""
    n = len(x)
    together = partial(covariance.einsum, "bik,bjk->ij")
    mean = mean_over_draws(lambda r: together(r, r), (n, n), draws, x)
    mean = jnp.minimum((mean + mean.T) / 2, 1)  # rounding must not make the matrix asymmetric
    return jnp.where(jnp.eye(n, dtype=bool), 1, mean)  # a point belongs to the same component as itself


@jax.jit
def _entropy_of_pairs(draws: Mixture, x: jax.Array, count: jax.Array) -> jax.Array:
    """Return the mean entropy (N,) of the pairs that contain each point, in nats.

    The entropy of a pair of points describes how uncertain it is whether both points belong to the same component. The mean for
    a point is over its pairs with the first `count` points, without the pair of the point with itself.
    """
    together = _coclustering(draws, x)
    entropy = jnp.where(jnp.arange(len(x)) < count, entr(together) + entr(1 - together), 0)
    return entropy.sum(-1) / jnp.maximum(count - 1, 1)  # the diagonal contributes 0
