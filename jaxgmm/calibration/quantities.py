"""What is ranked in simulation-based calibration: functions of a mixture, and some of the data, that can be traced.

Label-invariant quantities come first: no order of the components changes them. Single parameters are taken after ONE rule has
put the components in order, applied to the truth and to every draw alike: by their means of feature 0, from the smallest. A rule
that looks at all draws at once (as relabelling by their clusters) would not do: the truth would not be exchangeable with them.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from .. import covariance, linalg
from ..density import log_prob
from ..mixture import Mixture
from ..priors.functions import log_prior
from ..priors.interface import MixturePrior
from ..studies.parameters import free_entries, parameter_names
from ..studies.serialization import ordinal

RULE = "components in the order of their means of feature 0"


class Quantities(NamedTuple):
    """Names (Q,), in the order of `quantities`; label_invariant (Q,): whether no order of components matters."""

    names: list[str]
    label_invariant: list[bool]


def quantity_names(num_components: int, num_features: int, covariance_type: str) -> Quantities:
    """What `quantities` gives, by name.

    Example:
        >>> quantity_names(2, 1, "tied").names[3:]
        ['log density at a', 'log density at b', 'log density at c', 'log det covariance', \
'weights[0]', 'means[0,0]', 'means[1,0]', 'covariances[0,0,0]']
    """
    k, d = num_components, num_features
    free = ["log-likelihood", "log joint density"]
    free += ["largest weight" if i == 1 else f"{ordinal(i)} largest weight" for i in range(1, k)]
    free += [f"log density at {point}" for point in "abc"] + ["log det covariance"]
    single = parameter_names(k, d, covariance_type)
    del single[k - 1]
    return Quantities(free + single, [True] * len(free) + [False] * len(single))


def quantities(mixture: Mixture, x: jax.Array, prior: MixturePrior) -> jax.Array:
    """Values (..., Q) of all quantities of mixtures (...) at data x.

    log-likelihood and log joint density of x and parameters, nats; all weights but the smallest, by size; log density at the
    three `fixed_points`, nats; log-determinant of the whole mixture's covariance; then `parameters` in order.

    Args:
        mixture: with leading axes (...).
        x: (N, D).
        prior: that of the parameters; it fixes the points.

    Example:
        >>> import jax, jaxgmm
        >>> prior = jaxgmm.Prior(*map(jax.numpy.asarray, ([3.0, 3.0], [0.0], 0.1, 5.0, [[3.0]])))
        >>> mixture = jaxgmm.make_mixture([0.5, 0.5], [[0.0], [1.0]], [[[1.0]], [[1.0]]])
        >>> jax.eval_shape(quantities, mixture, jax.numpy.zeros((4, 1)), prior).shape, len(quantity_names(2, 1, "full").names)
        ((12,), 12)
    """
    log_likelihood = log_prob(mixture, x).sum(-1)
    sizes = jnp.sort(mixture.weights, -1)[..., :0:-1]
    columns = [
        jnp.stack([log_likelihood, log_likelihood + log_prior(mixture, prior)], -1),
        sizes,
        log_prob(mixture, fixed_points(prior, mixture.covariance_type)),
        _log_det_covariance(mixture)[..., None],
        parameters(in_order(mixture)),
    ]
    return jnp.concatenate(columns, -1)


def in_order(mixture: Mixture) -> Mixture:
    """Components by their means of feature 0, from the smallest; what they share stays.

    Example:
        >>> import jaxgmm
        >>> in_order(jaxgmm.make_mixture([0.3, 0.7], [[2.0], [1.0]], [[[1.0]]], covariance_type="tied")).weights.tolist()
        [0.699999988079071, 0.30000001192092896]
    """
    order = jnp.argsort(mixture.means[..., 0], -1)
    weights = jnp.take_along_axis(mixture.weights, order, -1)
    means = jnp.take_along_axis(mixture.means, order[..., None], -2)
    covariances = covariance.permute(mixture.covariances, order, mixture.covariance_type)
    return Mixture(weights, means, covariances, mixture.covariance_type)


def parameters(mixture: Mixture) -> jax.Array:
    """Free entries (..., P) of mixtures as they stand: weights but the last, means, free entries of the covariances."""
    k, values = mixture.num_components, free_entries(mixture)
    return jnp.concatenate([values[..., : k - 1], values[..., k:]], -1)


def fixed_points(prior: MixturePrior, covariance_type: str) -> jax.Array:
    """Three points (3, D), at the prior mean and a prior sd of the means on either side of it, whatever the data.

    Example:
        >>> import jax, jaxgmm
        >>> fixed_points(jaxgmm.Prior(*map(jax.numpy.asarray, ([3.0], [0.0], 0.25, 3.0, [[3.0]]))), "full").ravel().tolist()
        [-2.0, 0.0, 2.0]
    """
    spread = prior.standard_deviations_of_means(covariance_type)
    return prior.mean + jnp.array([[-1.0], [0.0], [1.0]], prior.mean.dtype) * spread


def _log_det_covariance(mixture: Mixture) -> jax.Array:
    """Log-determinant (...) of the covariance of the whole mixture, within and between components."""
    within = covariance.to_dense(mixture.covariances, mixture.covariance_type, *mixture.means.shape[-2:])
    deviation = mixture.means - (mixture.weights[..., None] * mixture.means).sum(-2, keepdims=True)
    whole = within + deviation[..., :, None] * deviation[..., None, :]
    whole = (mixture.weights[..., None, None] * whole).sum(-3)
    return 2 * jnp.log(linalg.diagonal(linalg.cholesky(whole))).sum(-1)
