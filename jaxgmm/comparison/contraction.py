"""Contraction: how much narrower the posterior of each parameter is than its prior.

    contraction = 1 - (posterior width / prior width)^2

A width is the length of the central 90 % interval. Schad, Betancourt & Vasishth (2021), Psychol. Methods 26, 103-126, use
variances instead. A vague prior may have infinite variances, but its widths between quantiles are finite. Components with
equal concentrations have the same marginal prior, so their draws from the prior are pooled.
"""

from __future__ import annotations

import numpy as np

from ..mixture import Mixture
from ..priors.functions import sample_prior_on_host
from ..priors.interface import MixturePrior
from ..spread import length, quantiles
from ..studies.parameters import parameters, values

MASS = 0.9  # probability of the central intervals whose widths are compared
_DRAWS = 4000  # number of draws from the prior


def contractions(mixture: Mixture, prior: MixturePrior, draws: np.ndarray, seed: int) -> np.ndarray:
    """Return the contraction (P,) of each free entry, in the order of `studies.parameters.values`.

    Args:
        mixture: one mixture; only its shapes are used.
        prior: the prior of the posterior.
        draws: values (..., P) of the entries in the posterior draws.
        seed: seed of the draws from the prior.

    Returns:
        (P,): near 1 if the data determine the entry, 0 if the posterior is as wide as the prior, negative if the posterior is
        wider. It is 1 if the prior is so vague that its width overflows, and NaN if the entry is constant under the prior.

    Example:
        >>> import jaxgmm
        >>> mixture = jaxgmm.make_mixture([1.0], [[0.0]], [[[1.0]]])
        >>> prior = jaxgmm.Prior(*(np.asarray(v, np.float32) for v in ([1.0], [0.0], 1.0, 50.0, [[50.0]])))
        >>> draws = np.random.default_rng(0).normal(size=(4000, 3)) * 0.1
        >>> round(float(contractions(mixture, prior, draws, 0)[1]), 2)
        0.99
    """
    flat = np.asarray(draws, float).reshape(-1, draws.shape[-1])
    width = length(*quantiles(flat, [(1 - MASS) / 2, (1 + MASS) / 2]))
    prior_width = widths(mixture, prior, seed)
    known = (prior_width > 0) & np.isfinite(width)
    return np.where(known, 1 - (np.where(known, width, 0) / np.where(known, prior_width, 1)) ** 2, np.nan)


def widths(mixture: Mixture, prior: MixturePrior, seed: int) -> np.ndarray:
    """Return the width (P,) of the central 90 % interval of each free entry under the prior."""
    return length(*prior_intervals(mixture, prior, seed, MASS))


def prior_intervals(mixture: Mixture, prior: MixturePrior, seed: int, mass: float) -> np.ndarray:
    """Return the ends (2, P) of the central interval of each free entry under the prior.

    The interval has the probability `mass`. Both ends are equal if the entry is constant under the prior, and infinite if the
    prior is so vague that its draws overflow.
    """
    drawn = np.asarray(values(sample_prior_on_host(seed, prior, mixture, _DRAWS)), float)
    is_variance = np.array([parameter.kind == "variance" for parameter in parameters(mixture)])
    drawn = np.where(np.isnan(drawn) & is_variance, np.inf, drawn)
    concentration = np.asarray(prior.weight_concentration)
    groups: dict[tuple[str | float, ...], list[int]] = {}
    for p, parameter in enumerate(parameters(mixture)):
        field, (component, *rest) = parameter.place
        own = "shared" if parameter.component is None else float(concentration[component])
        groups.setdefault((field, own, *rest), []).append(p)
    found = np.zeros((2, drawn.shape[-1]))
    for members in groups.values():
        found[:, members] = quantiles(drawn[:, members].ravel(), [(1 - mass) / 2, (1 + mass) / 2])[:, None]
    constant = (drawn == drawn[0]).all(0) & np.isfinite(drawn[0])
    return np.where(constant, drawn[0], found)
