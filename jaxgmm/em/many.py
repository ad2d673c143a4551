"""Many fits at once: restarts of one data set as one batch."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from .. import covariance
from ..checks import (
    as_data,
    as_sample_weight,
    check_choice,
    check_count,
    check_covariance_type,
    check_key,
    check_rows_finite,
    is_traced,
)
from ..mixture import Mixture
from ..prior import IndependentPrior, Prior
from .fitting import fit, warn_of
from .result import ComponentStatus, Fit, Status
from .starts import METHODS, initialize


def fit_restarts(
    key: jax.Array,
    x: Any,
    prior: Prior | IndependentPrior | None = None,
    *,
    num_components: int,
    covariance_type: str = "full",
    num_restarts: int = 10,
    method: str = "k-means++",
    sample_weight: Any = None,
    **options: Any,
) -> Fit:
    """The best of several fits from different starts, run as one batch.

    Best is the largest objective among finite fits. A fit with a spike (a component on fewer than D + 1 points, 2 for diag and
    spherical, or at the regularisation's floor; tied has none) ranks below every fit without one: its likelihood means nothing.

    Args:
        key: a random key.
        x: (N, D).
        prior: for MAP, as in `fit`.
        num_components: K.
        covariance_type: "full", "tied", "diag" or "spherical".
        num_restarts: how many starts.
        method: of `initialize`.
        sample_weight: (N,) >= 0, or None.
        **options: `fit`'s other options: tol, max_iter, reg_covar, accelerate, chunk_size.

    Returns:
        A Fit. Under vmap over keys or data one for each.

    Raises:
        ValueError, TypeError: as `initialize` and `fit`.

    Example:
        >>> import jax, jaxgmm
        >>> x = jaxgmm.datasets.load("faithful")
        >>> best = jaxgmm.fit_restarts(jax.random.key(0), x, num_components=3, covariance_type="tied", num_restarts=5)
        >>> round(float(best.log_likelihood), 1)
        -1126.3
    """
    check_key(key)
    check_count(num_components, "num_components")
    check_count(num_restarts, "num_restarts")
    check_covariance_type(covariance_type)
    check_choice(method, "method", METHODS)
    x = as_data(check_rows_finite(x, sample_weight), check_values=True)
    weight = as_sample_weight(sample_weight, len(x), x.dtype, check_values=True)

    def one(key: jax.Array) -> tuple[Mixture, Fit]:
        start = initialize(
            key, x, num_components=num_components, covariance_type=covariance_type, method=method, sample_weight=weight
        )
        return start, fit(start, x, prior, sample_weight=weight, **options)

    starts, fits = jax.vmap(one)(jax.random.split(key, num_restarts))
    chosen = best_of(fits, jnp.asarray(len(x), x.dtype) if weight is None else weight.sum())
    start, result = jax.tree.map(lambda leaf: leaf[chosen], (starts, fits))
    if not is_traced(result):
        warn_of(result, start, x, weight)
    return result


def best_of(fits: Fit, total: jax.Array) -> jax.Array:
    """Index of the best of a stack of fits (R,) to data of the same total weight."""
    finite = jnp.isfinite(fits.objective) & (fits.status != Status.NONFINITE) & (fits.status != Status.EMPTY_DATA)
    sound = finite & ~has_spike(fits, total)
    rank = jnp.where(sound.any(), sound, finite)
    return jnp.where(rank, fits.objective, -jnp.inf).argmax()


def has_spike(fits: Fit, total: jax.Array) -> jax.Array:
    """Whether a fit (...) has a component on too few points, or at the floor; never for tied."""
    mixture = fits.mixture
    fewest = covariance.fewest_points(mixture.covariance_type, mixture.num_features)
    if not fewest:
        return jnp.zeros(mixture.batch_shape, bool)
    few = (mixture.weights > 0) & (mixture.weights * total[..., None] < fewest)
    return (few | (fits.component_status == ComponentStatus.AT_FLOOR)).any(-1)
