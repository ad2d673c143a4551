"""Information criteria: BIC, AIC and ICL of a mixture on data."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from . import covariance
from .density import log_prob, responsibilities
from .mixture import Mixture, check_mixture
from .validation import as_weighted_data


def bic(mixture: Mixture, x: Any, *, sample_weight: Any = None) -> jax.Array:
    """Compute the Bayesian information criterion, -2 log L + p log N (Schwarz 1978); lower is better.

    p is the number of free parameters of the components present (weight above 0), N the total weight of the data.

    Args:
        mixture: one mixture, or a stack (...).
        x: (N, D).
        sample_weight: (N,) >= 0, or None.

    Returns:
        (...), twice nats.

    Raises:
        ValueError, TypeError: the shapes of mixture, x and sample_weight do not match, or x does not hold real numbers.

    Example:
        >>> import jaxgmm, numpy as np
        >>> mixture = jaxgmm.make_mixture([1.0], [[0.0]], [[[1.0]]])
        >>> round(float(jaxgmm.bic(mixture, np.zeros((100, 1)))), 2)
        193.0
    """
    log_likelihood, total = _log_likelihood(mixture, x, sample_weight)
    return -2 * log_likelihood + _num_free(mixture) * jnp.log(total)


def aic(mixture: Mixture, x: Any, *, sample_weight: Any = None) -> jax.Array:
    """Compute Akaike's information criterion, -2 log L + 2 p (Akaike 1974); lower is better.

    p is the number of free parameters of the components present (weight above 0).

    Args:
        mixture: one mixture, or a stack (...).
        x: (N, D).
        sample_weight: (N,) >= 0, or None.

    Returns:
        (...), twice nats.

    Raises:
        ValueError, TypeError: the shapes of mixture, x and sample_weight do not match, or x does not hold real numbers.

    Example:
        >>> import jaxgmm, numpy as np
        >>> mixture = jaxgmm.make_mixture([1.0], [[0.0]], [[[1.0]]])
        >>> round(float(jaxgmm.aic(mixture, np.zeros((100, 1)))), 2)
        187.79
    """
    return -2 * _log_likelihood(mixture, x, sample_weight)[0] + 2 * _num_free(mixture)


def icl(mixture: Mixture, x: Any, *, sample_weight: Any = None) -> jax.Array:
    """Compute the integrated completed likelihood, BIC - 2 sum_n w_n log max_k r_nk; lower is better.

    It prefers well separated components: each point counts as a member of its most likely component. Source: Biernacki, Celeux
    & Govaert (2000).

    Args:
        mixture: one mixture, or a stack (...).
        x: (N, D).
        sample_weight: (N,) >= 0, or None.

    Returns:
        (...), twice nats.

    Raises:
        ValueError, TypeError: the shapes of mixture, x and sample_weight do not match, or x does not hold real numbers.

    Example:
        >>> import jaxgmm, numpy as np
        >>> mixture = jaxgmm.make_mixture([1.0], [[0.0]], [[[1.0]]])
        >>> bool(jaxgmm.icl(mixture, np.zeros((9, 1))) == jaxgmm.bic(mixture, np.zeros((9, 1))))
        True
    """
    x, weight = _weighted_data(mixture, x, sample_weight)
    log_largest = jnp.log(responsibilities(mixture, x).max(-1))  # (..., N)
    return bic(mixture, x, sample_weight=sample_weight) - 2 * jnp.where(weight > 0, weight * log_largest, 0).sum(-1)


def _weighted_data(mixture: Mixture, x: Any, sample_weight: Any) -> tuple[jax.Array, jax.Array]:
    """Return validated data (N, D) and weights (N,)."""
    check_mixture(mixture)
    x, weight = as_weighted_data(x, sample_weight, check_values=False, num_features=mixture.num_features)
    return x, jnp.ones(len(x), x.dtype) if weight is None else weight


def _log_likelihood(mixture: Mixture, x: Any, sample_weight: Any) -> tuple[jax.Array, jax.Array]:
    """Return the weighted log-likelihoods (...), nats, and the total weight."""
    x, weight = _weighted_data(mixture, x, sample_weight)
    densities = log_prob(mixture, x)
    return jnp.where(weight > 0, weight * densities, 0).sum(-1), weight.sum()


def _num_free(mixture: Mixture) -> jax.Array:
    """Return the number of free parameters of the components present (...)."""
    d, name = mixture.num_features, mixture.covariance_type
    totals = [k - 1 + k * d + covariance.num_free(name, k, d) for k in range(mixture.num_components + 1)]
    return jnp.array(totals, mixture.weights.dtype)[(mixture.weights > 0).sum(-1)]
