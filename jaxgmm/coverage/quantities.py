"""The quantities that a coverage study estimates: their descriptions, their values, and their intervals.

All modules of a coverage study use the quantities of this module. They are the free entries of the mixture. To study another
quantity, for instance the distance between two means, extend three functions together:

    describe             return one Parameter for each quantity: its name, and its kind, which selects its heading on the page
    values               return the values of the quantities for any mixture, in the same order; the truth gives the true values
    estimate_intervals   return their Wald intervals from a point estimate; intervals from draws are quantiles of `values`
"""

from __future__ import annotations

from collections.abc import Sequence

import jax

from ..incomplete.observations import Data
from ..mixture import Mixture
from ..posterior.pooling import pool
from ..posterior.result import Posterior
from ..priors.interface import MixturePrior
from ..studies.intervals import Intervals, draw_intervals, wald_intervals
from ..studies.parameters import Parameter, free_entries, parameters

# The printed page has one heading for each kind of quantity. The order of the entries is the order of the columns.
HEADINGS = {"weight": "weights", "mean": "means", "variance": "variances", "covariance": "covariances"}


def describe(truth: Mixture) -> list[Parameter]:
    """Return one Parameter for each of the P quantities: its name, kind, component and features.

    Example:
        >>> import jaxgmm
        >>> [parameter.name for parameter in describe(jaxgmm.make_mixture([1.0], [[0.0]], [[[1.0]]]))]
        ['weights[0]', 'means[0,0]', 'covariances[0,0,0]']
    """
    return parameters(truth)


def values(mixture: Mixture) -> jax.Array:
    """Return the values (..., P) of the quantities for mixtures (...)."""
    return free_entries(mixture)


def estimate_intervals(
    mixture: Mixture, x: Data, prior: MixturePrior | None, probabilities: Sequence[float], kind: str
) -> Intervals:
    """Compute Wald intervals from a point estimate. `kind` selects the standard errors, as in `standard_errors`."""
    return wald_intervals(mixture, x, prior, probabilities, kind=kind)


def posterior_intervals(posterior: Posterior, probabilities: Sequence[float]) -> tuple[jax.Array, Intervals]:
    """Compute the means (P,) of the quantities over all draws (C, S, ...), and their central intervals."""
    drawn = pool(values(posterior.mixture), posterior.stats)
    return drawn.mean(0), draw_intervals(drawn, probabilities)
