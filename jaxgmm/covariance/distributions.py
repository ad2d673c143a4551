"""Compute densities of covariances under the inverse Wishart, inverse gamma and half-normal LKJ laws, and draw covariances.

Covariances are stored in the form of their covariance type. Matrices (full and tied) have an inverse Wishart law,
Sigma ~ InverseWishart(nu, S). Variances (diag and spherical) have an inverse gamma law, InverseGamma(nu / 2, S / 2).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import gammaln, multigammaln

from .. import linalg
from ..linalg import Arrays
from . import Factors, expand, from_factor, is_dense, mahalanobis_trace, storage_shape, variances
from .conjugate_terms import prior_scale


def inverse_wishart_log_prob(
    factors: Factors, degrees_of_freedom: jax.Array, scale: jax.Array, covariance_type: str, num_features: int
) -> jax.Array:
    """Return the log-density of each stored covariance under an inverse Wishart or inverse gamma law, (..., K or 1).

    The density is normalised with respect to the free entries of the covariance. Source: Gelman et al. (2013), Bayesian Data
    Analysis, appendix A.
    """
    d, nu = num_features, jnp.asarray(degrees_of_freedom)[..., None]
    if is_dense(covariance_type):
        scale = prior_scale(scale, covariance_type)
        half_log_det_scale = jnp.log(linalg.diagonal(linalg.cholesky(scale))).sum(-1)
        trace = mahalanobis_trace(scale, factors, covariance_type, d)
        return (
            nu * half_log_det_scale
            - nu * d / 2 * jnp.log(2.0)
            - multigammaln(nu / 2, d)
            - (nu + d + 1) * factors.half_log_det
            - trace / 2
        )
    precision = factors.whitener**2
    rate = prior_scale(scale, covariance_type) / 2
    shape = expand(jnp.asarray(degrees_of_freedom)[..., None], covariance_type) / 2
    return (shape * jnp.log(rate) - gammaln(shape) + (shape + 1) * jnp.log(precision) - rate * precision).sum(-1)


def half_normal_lkj_log_prob(
    covariances: jax.Array, factors: Factors, sd: jax.Array, lkj: jax.Array, covariance_type: str, num_features: int
) -> jax.Array:
    """Return the log-density of stored covariances with half-normal standard deviations and LKJ correlations, (..., K or 1).

    The density refers to the free entries of Sigma. It is the density of the standard deviations tau and correlations R,
    divided by |d Sigma / d (tau, R)|. This determinant is 2^D prod tau^D for matrices, and 2 tau for each variance. Source of
    the LKJ constant: Lewandowski, Kurowicka & Joe (2009), eq. 16.
    """
    tau = jnp.sqrt(variances(covariances, covariance_type, num_features)) if is_dense(covariance_type) else factors.lower
    d = num_features if is_dense(covariance_type) else 1
    log_tau = jnp.log(tau)
    log_normal = 0.5 * jnp.log(2 / jnp.pi) - jnp.log(sd) - 0.5 * (tau / sd) ** 2
    density = (log_normal - jnp.log(2.0) - d * log_tau).sum(-1)
    if is_dense(covariance_type):
        log_det = 2 * (factors.half_log_det - log_tau.sum(-1))
        j = jnp.arange(1, d, dtype=covariances.dtype)  # j stands for d - k in eq. 16
        alpha = lkj + (j - 1) / 2
        log_beta = 2 * gammaln(alpha) - gammaln(2 * alpha)
        density += (lkj - 1) * log_det - (j * ((2 * lkj - 2 + j) * jnp.log(2.0) + log_beta)).sum()
    return density


def sample_inverse_wishart(
    key: jax.Array,
    degrees_of_freedom: jax.Array,
    scale: jax.Array,
    covariance_type: str,
    num_components: int,
    num_features: int,
) -> jax.Array:
    """Draw the covariances of one mixture: matrices by Bartlett's decomposition, variances as reciprocals of gamma variables.

    Either all components share `scale` and `degrees_of_freedom`, or both arguments have a leading component axis, as for
    posterior draws.
    """
    d, dtype = num_features, scale.dtype
    key_gamma, key_normal = jax.random.split(key)
    shapes = gamma_shapes(jnp.asarray(degrees_of_freedom, dtype), covariance_type, num_components, d)
    gammas = jax.random.gamma(key_gamma, shapes, dtype=dtype)
    scale = jnp.broadcast_to(scale, storage_shape(covariance_type, num_components, d))
    normals = jax.random.normal(key_normal, (len(shapes), d, d), dtype) if is_dense(covariance_type) else gammas
    return from_factor(inverse_wishart_factors(gammas, normals, scale, covariance_type, d).lower, covariance_type)


def gamma_shapes(degrees_of_freedom: Arrays, covariance_type: str, num_components: int, num_features: int) -> Arrays:
    """Return the shape parameters (K or 1, D or 1) of the gamma variables that `inverse_wishart_factors` needs.

    The argument `degrees_of_freedom` holds one number, or one number for each stored covariance. If it is a NumPy array, so is
    the result.
    """
    rows, columns = storage_shape(covariance_type, num_components, num_features)[:2]
    # Bartlett's decomposition uses chi-square variables with nu, nu - 1, ... degrees of freedom
    fewer = np.zeros((rows, columns), degrees_of_freedom.dtype)
    if is_dense(covariance_type):
        fewer += np.arange(columns)
    return (degrees_of_freedom.reshape(-1, 1) - fewer) / 2


def inverse_wishart_factors(
    gammas: jax.Array, normals: jax.Array, scale: jax.Array, covariance_type: str, num_features: int
) -> Factors:
    """Compute factors of random covariances from standard variables.

    Matrices Sigma follow the law InverseWishart(nu, S), and variances follow the law InverseGamma(nu / 2, S / 2).

    For matrices, `lower` is a square root of Sigma that is not triangular. Let S = C C', and let A A' ~ Wishart(nu, I) by
    Bartlett's decomposition. Then Sigma = (C A^-T) (C A^-T)', and `lower` is C A^-T.

    Args:
        gammas: standard gamma variables, with the shape parameters that `gamma_shapes` returns.
        normals: (K or 1, D, D) standard normal variables for full and tied; only those below the diagonal are used.
        scale: S in storage form.
        covariance_type: the covariance type of the result.
        num_features: D.
    """
    if not is_dense(covariance_type):
        root = jnp.sqrt(scale / (2 * gammas))
        return Factors(root, 1 / root, num_features // root.shape[-1] * jnp.log(root).sum(-1))
    diagonal = jnp.sqrt(2 * gammas)
    bartlett = jnp.tril(normals, -1) + diagonal[..., None] * np.eye(num_features, dtype=scale.dtype)
    lower = linalg.cholesky(scale)
    half_log_det = jnp.log(linalg.diagonal(lower) / diagonal).sum(-1)
    root = linalg.multiply(lower, jnp.swapaxes(linalg.invert_lower(bartlett), -1, -2))
    return Factors(root, linalg.multiply(jnp.swapaxes(bartlett, -1, -2), linalg.invert_lower(lower)), half_log_det)
