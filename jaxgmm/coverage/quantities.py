"""What a coverage study estimates: the quantities of a mixture, their true values, and how their intervals are formed.

All modules of a study read the quantities from here. They are the free entries of the mixture; to study another quantity, for
instance the distance between two means, extend the three functions together:

    describe             one Parameter for each quantity: its name, and its kind, which is its heading on the page
    values               its value for any mixture, in the same order; that of the truth is the true value
    estimate_intervals   its Wald interval from a point estimate; intervals from draws are quantiles of `values`
"""

from __future__ import annotations

from collections.abc import Sequence

import jax

from ..mixture import Mixture
from ..priors.interface import MixturePrior
from ..studies.intervals import Intervals, draw_intervals, wald_intervals
from ..studies.parameters import Parameter, free_entries, parameters

# headings of the kinds of quantities on the printed page, in the order of its columns
HEADINGS = {"weight": "weights", "mean": "means", "variance": "variances", "covariance": "covariances"}


def describe(truth: Mixture) -> list[Parameter]:
    """Return name, kind, component and features of the P quantities.

    Example:
        >>> import jaxgmm
        >>> [parameter.name for parameter in describe(jaxgmm.make_mixture([1.0], [[0.0]], [[[1.0]]]))]
        ['weights[0]', 'means[0,0]', 'covariances[0,0,0]']
    """
    return parameters(truth)


def values(mixture: Mixture) -> jax.Array:
    """Return the quantities (..., P) of mixtures (...)."""
    return free_entries(mixture)


def estimate_intervals(
    mixture: Mixture, x: jax.Array, prior: MixturePrior | None, probabilities: Sequence[float], kind: str
) -> Intervals:
    """Compute intervals of a point estimate; `kind` is the estimator of its standard errors, as in `standard_errors`."""
    return wald_intervals(mixture, x, prior, probabilities, kind=kind)


def posterior_intervals(draws: Mixture, probabilities: Sequence[float]) -> tuple[jax.Array, Intervals]:
    """Compute the mean of the quantities over all draws (C, S, ...), (P,), and their central intervals."""
    drawn = values(draws)
    drawn = drawn.reshape(-1, drawn.shape[-1])
    return drawn.mean(0), draw_intervals(drawn, probabilities)
