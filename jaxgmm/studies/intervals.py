"""Intervals of a mixture's parameters: of a point estimate from its standard errors, and of draws.

Wald intervals are taken where the estimate is nearer to normal, and mapped back, so that they stay in the parameters' range:

    weights      log(w / (1 - w)) +- z se / (w (1 - w))      the log-ratio of a component to the rest
    means        mu +- z se
    variances    log v +- z se / v                           the interval of log sd is half as wide, and the same one
    covariances  off the diagonal as they are: s +- z se

By the delta method, which at a maximum is exact: there the information of a function of the parameters needs its slope only.
The log-ratio to the rest is the additive log-ratio of two components; with more it does not depend on which comes last.
Sources: Wald (1943), Trans. Amer. Math. Soc. 54, 426-482; Aitchison (1986), The Statistical Analysis of Compositional Data;
Meeker & Escobar (1995), Amer. Statist. 49, 48-53.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtri

from ..em.standard_errors import standard_errors
from ..mixture import Mixture
from ..priors.interface import MixturePrior
from .parameters import free_entries, parameters


class Intervals(NamedTuple):
    """Q central intervals of P free entries, as `rows.entries` names them.

    lower, upper: (..., Q, P), in the entries' own units. NaN where there is none.
    defined: (..., P), whether there is one.
    """

    lower: jax.Array
    upper: jax.Array
    defined: jax.Array


def wald_intervals(
    mixture: Mixture,
    x: Any,
    prior: MixturePrior | None = None,
    probabilities: Sequence[float] = (0.5, 0.9),
    *,
    kind: str = "observed",
    sample_weight: Any = None,
) -> Intervals:
    """Wald intervals of an estimate's weights, means and free covariances; traceable, a lane at a time under vmap.

    A weight of 1, of one component, is known: its interval is a point.

    Args:
        mixture: the estimate, at a maximum: converge it well.
        x: (N, D), the data it was fitted to.
        prior: the prior it was fitted with, or None for maximum likelihood.
        probabilities: Q numbers between 0 and 1.
        kind: "observed" or "sandwich", as in `standard_errors`.
        sample_weight: (N,) >= 0, or None.

    Returns:
        Intervals; undefined where there is no standard error: the information is singular, or the component absent.

    Raises:
        ValueError, TypeError: as `standard_errors`; a probability that is none.

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
    shaped = dataclasses.replace(mixture, weights=errors.weights, means=errors.means, covariances=errors.covariances)
    return from_errors(mixture, free_entries(shaped), probabilities)


def from_errors(mixture: Mixture, errors: jax.Array, probabilities: Sequence[float]) -> Intervals:
    """Wald intervals of one mixture from standard errors (P,) of its free entries; NaN among them: none."""
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
    """Central intervals of draws, with equal tails: quantiles (1 - p) / 2 and (1 + p) / 2.

    Args:
        draws: (..., S, P), of the P entries, or of any quantities.
        probabilities: Q numbers between 0 and 1.

    Returns:
        Intervals; undefined where a draw is not finite.

    Raises:
        ValueError: a probability that is none.

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
    """Refuses what are no probabilities of intervals."""
    sound = isinstance(probabilities, Sequence | np.ndarray) and not isinstance(probabilities, str) and len(probabilities)
    numbers = list(probabilities) if sound else []
    if not numbers or not all(isinstance(p, int | float | np.number) and math.isfinite(p) and 0 < p < 1 for p in numbers):
        raise ValueError(f"probabilities is {probabilities!r}; numbers between 0 and 1 were expected, as (0.5, 0.9).")
