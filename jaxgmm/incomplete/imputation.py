"""Impute missing values, and estimate the true values of rows with measurement noise, under a mixture."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp

from .. import covariance
from ..calls import public
from ..density import as_points, for_rows, responsibilities_of_rows, safe_log
from ..memory import check_memory
from ..mixture import Mixture, MixtureLike
from ..padding import cut, pad_data
from ..rounding import positive_factors
from ..validation import check_count, check_key
from .conditional import conditional, conditional_covariances, conditional_means, draw_conditional, whitened_to_data
from .observations import Observations


@public
def impute(
    mixture: MixtureLike, x: Observations, *, key: jax.Array | None = None, num_imputations: int | None = None
) -> jax.Array:
    """Fill the missing values of data by their conditional means, or by draws from their conditional distribution.

    The conditional distribution of a row is the mixture given its observed values, its limits and its label. Observed values do
    not change. For estimates with valid standard errors, analyse several imputations and pool the results (Rubin 1987). To take
    the uncertainty of the mixture into account, draw one imputation under each of several draws from a posterior.

    Args:
        mixture: a Mixture or a Fit, or a stack of either with leading axes (...), such as a Posterior.
        x: `observations` with missing values.
        key: a random key, for draws.
        num_imputations: the number M of draws of each missing value, or None for conditional means.

    Returns:
        (..., N, D) conditional means, or (..., M, N, D) draws.

    Raises:
        ValueError, TypeError: only one of `key` and `num_imputations` is given, or arguments do not match.

    Example:
        >>> import jaxgmm, numpy as np
        >>> one = jaxgmm.make_mixture([1.0], [[0.0, 0.0]], [[[1.0, 0.5], [0.5, 1.0]]])
        >>> jaxgmm.impute(one, jaxgmm.observations(np.array([[2.0, np.nan]]))).tolist()
        [[2.0, 1.0]]
    """
    if (key is None) != (num_imputations is None):
        raise TypeError("key and num_imputations must be given together: both for draws, neither for conditional means.")
    mixture, rows = _as_rows(mixture, x)
    if num_imputations is None:
        padded = pad_data(rows, None, mixture).x
        return cut(_impute(mixture, padded, None, None), len(rows), -2)
    check_key(key)
    check_count(num_imputations, "num_imputations")
    bytes_ = float(num_imputations) * mixture.weights[..., 0].size * rows.x.size * rows.dtype.itemsize
    check_memory(bytes_, f"num_imputations={num_imputations}")
    padded = pad_data(rows, None, mixture, key).x
    return cut(_impute(mixture, padded, key, num_imputations), len(rows), -2)


@public
def denoise(mixture: MixtureLike, x: Observations) -> tuple[jax.Array, jax.Array]:
    """Estimate the true values of rows: the means and covariances of complete rows without noise, given what was observed.

    Given the component, x | y ~ N(mu + Sigma R' T^-1 (y - R mu), Sigma - Sigma R' T^-1 R Sigma) with T = R Sigma R' + S. The
    result averages over the components. Source: Bovy, Hogg & Roweis (2011), eq. 16 to 20.

    Args:
        mixture: a Mixture or a Fit, or a stack of either with leading axes (...).
        x: `observations` with measurement noise; values may be missing, too.

    Returns:
        The means (..., N, D), in data units, and the covariances (..., N, D, D).

    Raises:
        ValueError, TypeError: the arguments do not match.

    Example:
        >>> import jaxgmm, numpy as np
        >>> one = jaxgmm.make_mixture([1.0], [[0.0]], [[[3.0]]])
        >>> mean, covariance = jaxgmm.denoise(one, jaxgmm.observations(np.array([[4.0]]), noise=[1.0]))
        >>> round(float(mean[0, 0]), 6), round(float(covariance[0, 0, 0]), 6)
        (3.0, 0.75)
    """
    mixture, rows = _as_rows(mixture, x)
    padded = pad_data(rows, None, mixture).x
    mean, second = _denoise(mixture, padded)
    return cut(mean, len(rows), -2), cut(second, len(rows), -3)


def _as_rows(mixture: MixtureLike, x: Observations) -> tuple[Mixture, Observations]:
    """Return a mixture and rows without weights; raise TypeError if x holds no observations."""
    if not isinstance(x, Observations):
        raise TypeError(f"x is {type(x).__name__}; observations were expected, as from jaxgmm.observations(x).")
    mixture, rows = as_points(mixture, x)
    return mixture, rows if isinstance(rows, Observations) else Observations(rows)


@partial(jax.jit, static_argnums=3)
def _impute(mixture: Mixture, rows: Observations, key: jax.Array | None, num_imputations: int | None) -> jax.Array:
    """Return conditional means (..., N, D), or draws (..., M, N, D), of the missing values, beside the observed values."""
    if key is None or num_imputations is None:
        filled = for_rows(means_of_rows, mixture, rows, None, row_axis=-2)
    else:
        draw = jax.vmap(lambda key: for_rows(_draws, mixture, (rows, *_numbers(key, rows, mixture)), None, row_axis=-2))
        filled = jnp.moveaxis(draw(jax.random.split(key, num_imputations)), 0, -3)
    return jnp.where(rows.mask(), rows.x, filled)


def means_of_rows(mixture: Mixture, rows: Observations) -> jax.Array:
    """Return E[x_n | y_n], (n, D)."""
    factors = positive_factors(mixture)
    given = conditional(mixture.means, factors, rows, mixture.covariance_type)
    by_component = whitened_to_data(mixture, factors, conditional_means(given))
    return covariance.einsum("nk,kdn->nd", responsibilities_of_rows(mixture, rows), by_component)


def _numbers(key: jax.Array, rows: Observations, mixture: Mixture) -> tuple[jax.Array, jax.Array]:
    """Return normal numbers (N, 2 D) for points and noise, and Gumbel numbers (N, K) for components, for one set of draws."""
    key_normal, key_gumbel = jax.random.split(key)
    normal = jax.random.normal(key_normal, (len(rows), 2 * mixture.num_features), rows.dtype)
    return normal, jax.random.gumbel(key_gumbel, (len(rows), mixture.num_components), rows.dtype)


def _draws(mixture: Mixture, drawn: tuple[Observations, jax.Array, jax.Array]) -> jax.Array:
    """Return draws of x_n given y_n, (n, D)."""
    rows, normal, gumbel = drawn
    deviations = draw_conditional(mixture.means, positive_factors(mixture), rows, mixture.covariance_type, normal)[1]
    by_component = mixture.means[:, :, None] + deviations
    labels = (safe_log(responsibilities_of_rows(mixture, rows)) + gumbel).argmax(-1)
    return jnp.take_along_axis(by_component, labels[None, None], 0)[0].T


@jax.jit
def _denoise(mixture: Mixture, rows: Observations) -> tuple[jax.Array, jax.Array]:
    """Return the conditional means (..., N, D) and covariances (..., N, D, D) of complete rows."""
    mean = for_rows(means_of_rows, mixture, rows, None, row_axis=-2)
    return mean, for_rows(_covariances, mixture, rows, None, row_axis=-3)


def _covariances(mixture: Mixture, rows: Observations) -> jax.Array:
    """Return Cov[x_n | y_n], (n, D, D): the average covariance of the components plus the covariance of their means."""
    factors = positive_factors(mixture)
    given = conditional(mixture.means, factors, rows, mixture.covariance_type)
    r = responsibilities_of_rows(mixture, rows)
    means = whitened_to_data(mixture, factors, conditional_means(given))  # (K, D, n)
    deviations = means - covariance.einsum("nk,kdn->dn", r, means)[None]
    within = covariance.einsum("nk,nkij->nij", r, conditional_covariances(mixture, factors, given))
    return covariance.symmetric(within + covariance.einsum("nk,kin,kjn->nij", r, deviations, deviations))
