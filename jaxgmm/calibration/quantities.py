"""The quantities that simulation-based calibration ranks.

The quantities are functions of a mixture. Some of them also depend on the data. JAX can trace all of them. Label-invariant
quantities, which do not depend on the order of the components, come first. Single parameters follow. Before the parameters are
ranked, the components of the truth and of each draw are sorted by their means of feature 0, from the smallest to the largest.
A rule that depends on all draws together, such as relabelling, is not allowed, because then the truth would not be exchangeable
with the draws.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from .. import covariance, linalg
from ..component_order import permute_components
from ..density import log_prob
from ..incomplete.observations import Data
from ..mixture import Mixture
from ..priors.functions import log_prior
from ..priors.interface import MixturePrior
from ..studies.parameters import free_entries, parameter_names
from ..studies.serialization import ordinal

ORDER = "components in the order of their means of feature 0"


class QuantityNames(NamedTuple):
    """The names of the quantities that `quantities` returns.

    Attributes:
        names: Q names.
        label_invariant: Q booleans, whether the quantity does not depend on the order of the components.
    """

    names: list[str]
    label_invariant: list[bool]


def quantity_names(num_components: int, num_features: int, covariance_type: str) -> QuantityNames:
    """Return the names of the quantities, in the order of `quantities`.

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
    return QuantityNames(free + single, [True] * len(free) + [False] * len(single))


def quantities(mixture: Mixture, x: Data, prior: MixturePrior) -> jax.Array:
    """Return all quantities (..., Q) of mixtures (...) and data x.

    They are, in this order: the log-likelihood and the log joint density of x and the parameters, in nats; the sorted weights
    without the smallest; the log density at three `fixed_points`, in nats; the log-determinant of the covariance of the whole
    mixture; and the parameters, after the components have been sorted.

    Args:
        mixture: mixtures with leading axes (...).
        x: (N, D), the data, or observations.
        prior: the prior of the parameters, which also determines the fixed points.

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
        independent_parameters(in_order(mixture)),
    ]
    return jnp.concatenate(columns, -1)


def in_order(mixture: Mixture) -> Mixture:
    """Sort the components by their means of feature 0, from the smallest. A shared covariance is not changed.

    Example:
        >>> import jaxgmm
        >>> in_order(jaxgmm.make_mixture([0.3, 0.7], [[2.0], [1.0]], [[[1.0]]], covariance_type="tied")).weights.tolist()
        [0.699999988079071, 0.30000001192092896]
    """
    return permute_components(mixture, jnp.argsort(mixture.means[..., 0], -1))


def independent_parameters(mixture: Mixture) -> jax.Array:
    """Return the free entries of mixtures, without the last weight, which the other weights determine."""
    k, values = mixture.num_components, free_entries(mixture)
    return jnp.concatenate([values[..., : k - 1], values[..., k:]], -1)


def fixed_points(prior: MixturePrior, covariance_type: str) -> jax.Array:
    """Return three points (3, D) that do not depend on the data.

    They are the prior mean minus one sd, the prior mean, and the prior mean plus one sd, where sd is the prior standard
    deviation of the means.

    Example:
        >>> import jax, jaxgmm
        >>> fixed_points(jaxgmm.Prior(*map(jax.numpy.asarray, ([3.0], [0.0], 0.25, 3.0, [[3.0]]))), "full").ravel().tolist()
        [-2.0, 0.0, 2.0]
    """
    sd = prior.standard_deviations_of_means(covariance_type)
    return prior.mean + jnp.array([[-1.0], [0.0], [1.0]], prior.mean.dtype) * sd


def _log_det_covariance(mixture: Mixture) -> jax.Array:
    """Return the log-determinant (...) of the covariance of the whole mixture.

    This covariance is the sum of the covariance within components and the covariance between components.
    """
    within = covariance.to_dense(mixture.covariances, mixture.covariance_type, *mixture.means.shape[-2:])
    deviation = mixture.means - (mixture.weights[..., None] * mixture.means).sum(-2, keepdims=True)
    whole = within + deviation[..., :, None] * deviation[..., None, :]
    whole = (mixture.weights[..., None, None] * whole).sum(-3)
    return 2 * jnp.log(linalg.diagonal(linalg.cholesky(whole))).sum(-1)
