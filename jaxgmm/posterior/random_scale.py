"""An unknown scale of the covariances, which has its own prior: the hierarchical prior of Richardson & Green (1997).

The covariances have the law InverseWishart(nu, S), or each variance has the law InverseGamma(nu / 2, S_j / 2). The scale S is
unknown:

    S ~ Wishart(f, S_0 / f)                                     for full and tied; its mean is S_0
    S_j ~ Gamma(f / 2, rate f / (2 S_0j))                       for diag and spherical; its mean is S_0j

S_0 is the scale of the prior, and f is the degrees of freedom of the law of S. Given the covariances of m components,

    S ~ Wishart(f + m nu, W^-1),    S_j ~ Gamma((f + m nu) / 2, rate W_j / 2),    W = f S_0^-1 + sum_k Sigma_k^-1.

Under both laws of this line, S^-1 has an inverse Wishart or inverse gamma law with f + m nu degrees of freedom and the scale W.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from .. import covariance
from ..covariance import types as covariance_types
from ..covariance.conjugate_terms import prior_scale
from ..covariance.distributions import gamma_shapes, inverse_wishart_factors, inverse_wishart_log_prob
from ..mixture import Mixture
from ..priors.interface import MixturePrior


def draw_scale(
    key: jax.Array,
    factors: covariance.Factors,
    components: jax.Array,
    prior: MixturePrior,
    degrees: jax.Array,
    covariance_type: str,
) -> MixturePrior:
    """Draw the scale given the covariances of some components, and return the prior with this scale.

    Args:
        key: a random key.
        factors: the factors of the covariances.
        components: (K,), True for the components that are used.
        prior: the prior, whose scale is S_0.
        degrees: f, ().
        covariance_type: covariance type of the covariances.
    """
    d = prior.mean.shape[-1]
    key_gamma, key_normal = jax.random.split(key)
    total, pooled = _given_covariances(factors, components, prior, degrees, covariance_type)
    shapes = gamma_shapes(total, covariance_type, 1, d)
    gammas = jnp.exp(jax.random.loggamma(key_gamma, shapes, dtype=pooled.dtype))
    normals = jax.random.normal(key_normal, (1, d, d), pooled.dtype)
    inverse = inverse_wishart_factors(gammas, normals, pooled, covariance_type, d)
    scale = covariance.precision(inverse.whitener, covariance_type)
    return prior.with_scale(scale.reshape(covariance_types.prior_scale_shape(covariance_type, d)))


def log_prior_ratio(mixture: Mixture, prior: MixturePrior, degrees: jax.Array) -> jax.Array:
    """Return log p(covariances), in which S is integrated out, minus log p(covariances | S = S_0), for one mixture, ().

    By Bayes' theorem, p(covariances) = p(covariances | S) p(S) / p(S | covariances) for every S. Here S is S_0.
    """
    covariance_type, d = mixture.covariance_type, mixture.num_features
    factors = covariance.factorize(mixture.covariances, covariance_type, d)
    inverse = covariance.factorize(_inverse_scale(prior, covariance_type), covariance_type, d)

    def log_prob(total: jax.Array, pooled: jax.Array) -> jax.Array:
        scale = pooled.reshape(covariance_types.prior_scale_shape(covariance_type, d))
        return inverse_wishart_log_prob(inverse, total, scale, covariance_type, d).sum()

    total, pooled = _given_covariances(factors, mixture.weights > 0, prior, degrees, covariance_type)
    return log_prob(degrees, degrees * _inverse_scale(prior, covariance_type)) - log_prob(total, pooled)


def _given_covariances(
    factors: covariance.Factors, components: jax.Array, prior: MixturePrior, degrees: jax.Array, covariance_type: str
) -> tuple[jax.Array, jax.Array]:
    """Return f + m nu, (), and W in storage form with one component, given the covariances of some components."""
    precisions = covariance.precision(factors.whitener, covariance_type)
    # the one covariance of a tied mixture always counts
    used = components if len(precisions) == len(components) else jnp.ones(1, bool)
    degrees_of_freedom, _ = prior.covariance_law.inverse_wishart_parameters()
    of_components = jnp.where(used.reshape(-1, *[1] * (precisions.ndim - 1)), precisions, 0).sum(0, keepdims=True)
    return degrees + used.sum() * degrees_of_freedom, degrees * _inverse_scale(prior, covariance_type) + of_components


def _inverse_scale(prior: MixturePrior, covariance_type: str) -> jax.Array:
    """Return S_0^-1 in storage form with one component."""
    _, scale = prior.covariance_law.inverse_wishart_parameters()
    factors = covariance.factorize(prior_scale(scale, covariance_type), covariance_type, prior.mean.shape[-1])
    return covariance.precision(factors.whitener, covariance_type)
