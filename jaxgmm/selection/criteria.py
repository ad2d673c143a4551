"""Compute the information criteria BIC, AIC and ICL of a mixture for given data."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from ..calls import public
from ..covariance import types as covariance_types
from ..density import as_points, log_prob_of_rows, responsibilities_of_rows
from ..incomplete.checks import check_match
from ..incomplete.observations import Data, Observations
from ..inputs import as_rows
from ..mixture import Mixture, MixtureLike, as_mixture
from ..padding import pad_data
from ..row_sums import Weight, weight_or_ones
from ..validation import warn_of_small_weights

CRITERIA = ("bic", "aic", "icl")


@public
def bic(mixture: MixtureLike, x: ArrayLike | Observations, *, sample_weight: ArrayLike | None = None) -> jax.Array:
    """Compute the Bayesian information criterion, -2 log L + p log N (Schwarz 1978); lower is better.

    p is the number of free parameters of the components that are present (weight above 0). N is the total weight of the data.

    Args:
        mixture: a Mixture or a Fit, or a stack of either with leading axes (...).
        x: (N, D), or `observations`.
        sample_weight: (N,) >= 0, or None.

    Returns:
        An array with the leading axes of the mixture, on the scale of -2 log L, in nats.

    Raises:
        ValueError, TypeError: the shapes of mixture, x and sample_weight do not match, or x does not hold real numbers.

    Warns:
        RuntimeWarning: outside jit, if the sum of the weights is so small that the weights cannot be counts of observations.

    Example:
        >>> import jaxgmm, numpy as np
        >>> mixture = jaxgmm.make_mixture([1.0], [[0.0]], [[[1.0]]])
        >>> round(float(jaxgmm.bic(mixture, np.zeros((100, 1)))), 2)
        193.0
    """
    return information_criterion("bic", *_validate(mixture, x, sample_weight))


@public
def aic(mixture: MixtureLike, x: ArrayLike | Observations, *, sample_weight: ArrayLike | None = None) -> jax.Array:
    """Compute Akaike's information criterion, -2 log L + 2 p (Akaike 1974); lower is better.

    p is the number of free parameters of the components that are present (weight above 0).

    Args:
        mixture: a Mixture or a Fit, or a stack of either with leading axes (...).
        x: (N, D), or `observations`.
        sample_weight: (N,) >= 0, or None.

    Returns:
        An array with the leading axes of the mixture, on the scale of -2 log L, in nats.

    Raises:
        ValueError, TypeError: the shapes of mixture, x and sample_weight do not match, or x does not hold real numbers.

    Warns:
        RuntimeWarning: outside jit, if the sum of the weights is so small that the weights cannot be counts of observations.

    Example:
        >>> import jaxgmm, numpy as np
        >>> mixture = jaxgmm.make_mixture([1.0], [[0.0]], [[[1.0]]])
        >>> round(float(jaxgmm.aic(mixture, np.zeros((100, 1)))), 2)
        187.79
    """
    return information_criterion("aic", *_validate(mixture, x, sample_weight))


@public
def icl(mixture: MixtureLike, x: ArrayLike | Observations, *, sample_weight: ArrayLike | None = None) -> jax.Array:
    """Compute the integrated completed likelihood, BIC - 2 sum_n w_n log max_k r_nk; lower is better.

    w_n are the weights of the rows and r_nk the responsibilities. ICL prefers well-separated components, because it treats each
    point as a member of its most likely component. Source: Biernacki, Celeux & Govaert (2000).

    Args:
        mixture: a Mixture or a Fit, or a stack of either with leading axes (...).
        x: (N, D), or `observations`.
        sample_weight: (N,) >= 0, or None.

    Returns:
        An array with the leading axes of the mixture, on the scale of -2 log L, in nats.

    Raises:
        ValueError, TypeError: the shapes of mixture, x and sample_weight do not match, or x does not hold real numbers.

    Warns:
        RuntimeWarning: outside jit, if the sum of the weights is so small that the weights cannot be counts of observations.

    Example:
        >>> import jaxgmm, numpy as np
        >>> mixture = jaxgmm.make_mixture([1.0], [[0.0]], [[[1.0]]])
        >>> bool(jaxgmm.icl(mixture, np.zeros((9, 1))) == jaxgmm.bic(mixture, np.zeros((9, 1))))
        True
    """
    return information_criterion("icl", *_validate(mixture, x, sample_weight))


def information_criterion(
    name: str, mixture: Mixture, x: Data, weight: jax.Array | None, covariance_type: str | None = None
) -> jax.Array:
    """Return a criterion of each mixture for validated input.

    Args:
        name: one of CRITERIA.
        mixture: a mixture, or a stack of mixtures.
        x: the data.
        weight: (N,) or None.
        covariance_type: the type whose free parameters are counted, if the mixture stores its covariances as another type does.
    """
    numbers = _numbers_of_parameters(mixture, mixture.covariance_type if covariance_type is None else covariance_type)
    return _criterion(name, mixture, numbers, *pad_data(x, weight, mixture))


@partial(jax.jit, static_argnums=0)
def _criterion(name: str, mixture: Mixture, numbers: np.ndarray, x: Data, weight: Weight) -> jax.Array:
    """Return a criterion of each mixture for data that may be padded; a mixture of k components has `numbers[k]` parameters."""
    rows, weight = weight, weight_or_ones(weight, x.shape[:1], x.dtype)
    mixture, x = as_points(mixture, x)
    densities = log_prob_of_rows(mixture, x, rows)
    log_likelihood = jnp.where(weight > 0, weight * densities, 0).sum(-1)
    num_free = jnp.asarray(numbers)[(mixture.weights > 0).sum(-1)]
    if name == "aic":
        return -2 * log_likelihood + 2 * num_free
    value = -2 * log_likelihood + num_free * jnp.log(weight.sum())
    if name == "bic":
        return value
    log_largest = jnp.log(responsibilities_of_rows(mixture, x, rows).max(-1))  # (..., N)
    return value - 2 * jnp.where(weight > 0, weight * log_largest, 0).sum(-1)


def _validate(
    mixture: MixtureLike, x: ArrayLike | Observations, sample_weight: ArrayLike | None
) -> tuple[Mixture, Any, jax.Array | None]:
    """Return a mixture, data (N, D) or observations, and weights (N,) or None; warn if the weights cannot be counts."""
    mixture = as_mixture(mixture)
    rows, weight = as_rows(x, sample_weight, check_values=False, num_features=mixture.num_features)
    check_match(rows, mixture.num_components, mixture.covariance_type)
    warn_of_small_weights(weight)
    return mixture, rows, weight


def _numbers_of_parameters(mixture: Mixture, covariance_type: str) -> np.ndarray:
    """Return the number of free parameters (K + 1,) of 0, 1, ..., K components with the features of the mixture."""
    d = mixture.num_features
    totals = [k - 1 + k * d + covariance_types.num_free(covariance_type, k, d) for k in range(mixture.num_components + 1)]
    return np.array(totals, mixture.weights.dtype)
