"""Intervals for the parameters of a mixture, from the standard errors of a point estimate or from draws.

A Wald interval is computed on a scale on which the estimate is closer to normal, and is then transformed back. Therefore the
interval stays within the range of the parameter:

    weights      log(w / (1 - w)) +- z se / (w (1 - w))      the log-ratio of a component to all others
    means        mu +- z se
    variances    log v +- z se / v                           equivalent to an interval for the log standard deviation
    covariances  s +- z se                                   the entries off the diagonal

The standard errors on these scales come from the delta method. At a maximum they equal the standard errors that are computed
directly on the new scale. The reason is that the gradient is zero at a maximum, so the information on the new scale depends
only on the slope of the transformation, not on its curvature. For two components, the log-ratio to all others is the additive
log-ratio. For more components, the log-ratio to all others has an advantage: it does not depend on which component comes last.

Sources: Wald (1943), Trans. Amer. Math. Soc. 54, 426-482; Aitchison (1986), The Statistical Analysis of Compositional Data;
Meeker & Escobar (1995), Amer. Statist. 49, 48-53.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtri
from numpy.typing import ArrayLike

from ..em.standard_errors import standard_errors
from ..incomplete.observations import Observations
from ..mixture import Mixture
from ..priors.interface import MixturePrior
from .parameters import free_entries, parameters


class Intervals(NamedTuple):
    """Q central intervals for each of P free entries, in the order of `parameters`.

    Attributes:
        lower: (..., Q, P), the lower ends in the units of the entry; NaN for an undefined interval.
        upper: (..., Q, P), the upper ends in the units of the entry; NaN for an undefined interval.
        defined: (..., P), whether the intervals of the entry are defined.
    """

    lower: jax.Array
    upper: jax.Array
    defined: jax.Array


def wald_intervals(
    mixture: Mixture,
    x: ArrayLike | Observations,
    prior: MixturePrior | None = None,
    probabilities: Sequence[float] = (0.5, 0.9),
    *,
    kind: str = "observed",
    sample_weight: ArrayLike | None = None,
) -> Intervals:
    """Compute Wald intervals for the weights, means and free covariances of an estimate.

    The function can be traced, compiled and vmapped. If there is only one component, its weight is always 1, and the interval
    of the weight is the single point 1.

    Args:
        mixture: the estimate. It must be at a maximum, so use a small `tol` in the fit.
        x: (N, D), the data to which the mixture was fitted, or observations.
        prior: the prior used in the fit, or None for maximum likelihood.
        probabilities: Q numbers between 0 and 1.
        kind: "observed" or "sandwich", as in `standard_errors`.
        sample_weight: (N,) >= 0, or None.

    Returns:
        Intervals. An interval is undefined if its standard error does not exist, because the information is singular or the
        component is absent.

    Raises:
        ValueError, TypeError: as in `standard_errors`; or a probability is not between 0 and 1.

    Example:
        >>> import jaxgmm, numpy as np
        >>> x = np.array([[0.0], [2.0], [4.0], [6.0]])
        >>> one = jaxgmm.from_labels(x, [0, 0, 0, 0], num_components=1)
        >>> found = wald_intervals(one, x, probabilities=(0.95,))
        >>> [round(float(end[0, 1]), 2) for end in (found.lower, found.upper)]  # of the mean: 3 -+ 1.96 sd / sqrt(N)
        [0.81, 5.19]
    """
    check_probabilities(probabilities)
    errors = standard_errors(mixture, x, prior, kind=kind, sample_weight=sample_weight)
    as_mixture = dataclasses.replace(mixture, weights=errors.weights, means=errors.means, covariances=errors.covariances)
    return _from_errors(mixture, free_entries(as_mixture), probabilities)


def _from_errors(mixture: Mixture, errors: jax.Array, probabilities: Sequence[float]) -> Intervals:
    """Compute Wald intervals for one mixture from the standard errors (P,) of its free entries.

    The intervals of an entry whose standard error is NaN are undefined.
    """
    estimate = free_entries(mixture)
    kinds = np.array([parameter.kind for parameter in parameters(mixture)])
    z = ndtri((1 + jnp.asarray(probabilities, estimate.dtype)) / 2)[:, None] * jnp.array([[[-1.0]], [[1.0]]], estimate.dtype)
    plain = estimate + z * errors  # (2, Q, P)
    inside = (estimate > 0) & (estimate < 1)
    weight = jnp.where(inside, estimate, 0.5)
    log_ratio = jnp.log(weight) - jnp.log1p(-weight) + z * errors / (weight * (1 - weight))
    variance = jnp.where(estimate > 0, estimate, 1)
    ends = jnp.where(kinds == "weight", jnp.where(inside, jax.nn.sigmoid(log_ratio), plain), plain)
    ends = jnp.where(kinds == "variance", variance * jnp.exp(z * errors / variance), ends)
    defined = jnp.isfinite(errors) & jnp.isfinite(ends).all((0, 1)) & ~((kinds == "variance") & (estimate <= 0))
    lower, upper = jnp.where(defined, ends, jnp.nan)
    return Intervals(lower, upper, defined)


def draw_intervals(draws: jax.Array, probabilities: Sequence[float] = (0.5, 0.9)) -> Intervals:
    """Compute central intervals from draws. For the probability p, the ends are the quantiles (1 - p) / 2 and (1 + p) / 2.

    Args:
        draws: (..., S, P), draws of the P free entries, or of any other quantities.
        probabilities: Q numbers between 0 and 1.

    Returns:
        Intervals. The intervals of a quantity are undefined if one of its draws is not finite.

    Raises:
        ValueError: a probability is not between 0 and 1.

    Example:
        >>> import numpy as np
        >>> draw_intervals(np.arange(101.0)[:, None], probabilities=(0.5,)).upper.tolist()
        [[75.0]]
    """
    check_probabilities(probabilities)
    draws = jnp.asarray(draws)
    p = np.asarray(probabilities, float)
    defined = jnp.isfinite(draws).all(-2)
    tails = jnp.asarray(np.concatenate([(1 - p) / 2, (1 + p) / 2]), draws.dtype)
    ends = jnp.moveaxis(jnp.quantile(draws, tails, axis=-2), 0, -2)  # (..., 2 Q, P)
    ends = jnp.where(defined[..., None, :], ends, jnp.nan)
    return Intervals(ends[..., : len(p), :], ends[..., len(p) :, :], defined)


def check_probabilities(probabilities: Any) -> None:
    """Raise ValueError unless `probabilities` is a sequence of at least one number between 0 and 1."""
    is_sequence = isinstance(probabilities, Sequence | np.ndarray) and not isinstance(probabilities, str)
    numbers: list[object] = list(probabilities) if is_sequence else []
    if not numbers or not all(isinstance(p, int | float | np.number) and 0 < p < 1 for p in numbers):
        raise ValueError(
            f"probabilities is {probabilities!r}; a sequence of numbers between 0 and 1 was expected, such as (0.5, 0.9)."
        )
