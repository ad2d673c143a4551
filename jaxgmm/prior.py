"""The prior that MAP-EM, Gibbs, Laplace and NUTS share.

    weights ~ Dirichlet(c),   Sigma_k ~ InverseWishart(nu, S),   mu_k | Sigma_k ~ N(m, Sigma_k / kappa)

diag and spherical: variances ~ InverseGamma(nu / 2, S / 2), a feature or one for all; tied: one Sigma.
Densities here are in (weights, means, covariances), normalised: weights with respect to K - 1 of them, covariances with
respect to their free entries.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.scipy.special import gammaln

from . import covariance
from .checks import as_data, as_float_array, as_sample_weight, check_count, check_covariance_type, check_key, check_rows_finite, is_traced
from .mixture import Mixture


@partial(jax.tree_util.register_dataclass, meta_fields=[],
         data_fields=["weight_concentration", "mean", "mean_precision", "degrees_of_freedom", "scale"])
@dataclass(frozen=True, eq=False)
class Prior:
    """The conjugate prior of a mixture; every hyperparameter is an array, so priors vmap.

    Attributes:
        weight_concentration: c (K,) > 0; 1 is flat. MAP-EM needs c >= 1.
        mean: m (D,), in data units.
        mean_precision: kappa () > 0: how many observations the prior of each mean is worth.
        degrees_of_freedom: nu () > D - 1 (full, tied), > 0 (diag, spherical).
        scale: S, data units squared: (D, D) for full and tied, (D,) for diag, () for spherical.
    """

    weight_concentration: jax.Array
    mean: jax.Array
    mean_precision: jax.Array
    degrees_of_freedom: jax.Array
    scale: jax.Array


def default_prior(x: Any, *, num_components: int, covariance_type: str = "full", sample_weight: Any = None) -> Prior:
    """The weakly informative, data-scaled prior of Fraley & Raftery (2007), section 3, with each feature on its own scale.

    c = 1, m = column means, kappa = 0.01, nu = D + 2 and S = V / K^(2 / D), V the data's covariance in the type's form
    (full and tied the matrix, diag the variances, spherical their average). Singular data (a constant or collinear
    column, one row) get a small multiple of their own scale on the diagonal, so that the prior is always proper.

    It looks at the data, which are thus used twice: right for estimation, wrong for simulation-based calibration and for
    comparing evidence across transformations of the data.

    Args:
        x: (N, D).
        num_components: K.
        covariance_type: "full", "tied", "diag" or "spherical".
        sample_weight: (N,) >= 0, or None.

    Returns:
        A Prior in x's float dtype.

    Raises:
        ValueError, TypeError: x is empty, not finite or not (N, D); an option is out of range.

    Example:
        >>> import jaxgmm, numpy as np
        >>> jaxgmm.default_prior(np.array([[0.0], [2.0]]), num_components=2).mean.tolist()
        [1.0]
    """
    check_count(num_components, "num_components")
    check_covariance_type(covariance_type)
    x = as_data(check_rows_finite(x, sample_weight), check_values=True)
    if len(x) == 0:
        raise ValueError(f"x has shape {x.shape}: no rows; at least one was expected.")
    weight = as_sample_weight(sample_weight, len(x), x.dtype, check_values=True)
    center, scatter = _moments_of_data(x, weight, covariance_type)
    d = x.shape[1]
    # the dtype floor: one part in sqrt(eps) of a feature's variance, or of its magnitude squared if it is constant
    eps = float(jnp.finfo(x.dtype).eps)
    diagonal = jnp.diagonal(scatter) if covariance.is_dense(covariance_type) else scatter
    size = jnp.where(abs(center) > 0, center**2, 1)
    floor = jnp.where(diagonal > 64 * eps**2 * size, math.sqrt(eps) * diagonal, math.sqrt(eps) * size)
    scatter = covariance.ridge(scatter, floor, covariance_type)
    if covariance.prior_scale_shape(covariance_type, d) == ():
        scatter = scatter.mean()
    array = partial(jnp.asarray, dtype=x.dtype)
    return Prior(jnp.ones(num_components, x.dtype), center, array(0.01), array(d + 2.0), scatter / num_components ** (2 / d))


def log_prior(mixture: Mixture, prior: Prior, *, present: jax.Array | None = None) -> jax.Array:
    """Log prior density of (weights, means, covariances), nats, normalised.

    Components of weight exactly 0 are absent and do not count, nor does their share of the Dirichlet: a mixture with
    masked components has the density of the smaller mixture.

    Args:
        mixture: with leading axes (...).
        prior: fit for it: (K,) concentrations, (D,) mean, scale by covariance type.
        present: (..., K) booleans: which components count; by default those of positive weight.

    Returns:
        (...).

    Raises:
        ValueError: the prior's shapes do not go with the mixture.

    Example:
        >>> import jaxgmm, numpy as np
        >>> x = np.array([[0.0], [1.0], [2.0]])
        >>> prior = jaxgmm.default_prior(x, num_components=1)
        >>> jaxgmm.log_prior(jaxgmm.make_mixture([1.0], [[1.0]], [[[1.0]]]), prior).shape
        ()
    """
    check_prior_shapes(prior, mixture)
    present = mixture.weights > 0 if present is None else present
    factors = covariance.factorize(mixture.covariances, mixture.covariance_type, mixture.num_features)
    total = log_dirichlet(mixture.weights, prior.weight_concentration, present)
    total += _log_covariances(mixture, factors, prior, present)
    return total + _log_means(mixture, factors, prior, present)


def sample_prior(key: jax.Array, prior: Prior, *, num_components: int, covariance_type: str = "full",
                 num_samples: int) -> Mixture:
    """Independent draws of mixtures from a prior.

    Args:
        key: a random key.
        prior: with concentrations (K,).
        num_components: K.
        covariance_type: "full", "tied", "diag" or "spherical".
        num_samples: S.

    Returns:
        A Mixture with leading (S,).

    Raises:
        ValueError, TypeError: the prior does not fit, an option is out of range.

    Example:
        >>> import jax, jaxgmm, numpy as np
        >>> prior = jaxgmm.default_prior(np.array([[0.0], [1.0]]), num_components=2)
        >>> jaxgmm.sample_prior(jax.random.key(0), prior, num_components=2, num_samples=3).means.shape
        (3, 2, 1)
    """
    check_key(key)
    check_count(num_components, "num_components")
    check_count(num_samples, "num_samples")
    check_covariance_type(covariance_type)
    check_prior(prior, num_components, prior.mean.shape[-1], covariance_type)
    d, dtype = prior.mean.shape[-1], prior.mean.dtype

    def one(key: jax.Array) -> Mixture:
        key_weights, key_covariances, key_means = jax.random.split(key, 3)
        weights = jax.random.dirichlet(key_weights, prior.weight_concentration)
        covariances = covariance.sample_inverse_wishart(key_covariances, prior.degrees_of_freedom, prior.scale,
                                                        covariance_type, num_components, d)
        lower = covariance.factorize(covariances, covariance_type, d).lower
        noise = jax.random.normal(key_means, (num_components, d), dtype)
        means = prior.mean + covariance.transform(lower, noise, covariance_type) / jnp.sqrt(prior.mean_precision)
        return Mixture(weights, means, covariances, covariance_type)

    return jax.vmap(one)(jax.random.split(key, num_samples))


def log_dirichlet(weights: jax.Array, concentration: jax.Array, present: jax.Array) -> jax.Array:
    """Log density (...) of the present weights under a Dirichlet of their own concentrations."""
    c = jnp.where(present, concentration, 0)
    # c = 1 is flat at a weight of 0 too
    kernel = jnp.where(present & (concentration != 1), (concentration - 1) * jnp.log(jnp.where(weights > 0, weights, 1)), 0)
    edge = jnp.where(present & (weights == 0) & (concentration != 1), jnp.where(concentration > 1, -jnp.inf, jnp.inf), 0)
    normaliser = gammaln(c.sum(-1)) - jnp.where(present, gammaln(concentration), 0).sum(-1)
    return normaliser + (kernel + edge).sum(-1)


def _log_covariances(mixture: Mixture, factors: covariance.Factors, prior: Prior, present: jax.Array) -> jax.Array:
    density = covariance.inverse_wishart_log_prob(factors, prior.degrees_of_freedom, prior.scale, mixture.covariance_type,
                                                  mixture.num_features)  # (..., K | 1)
    counts = present if density.shape[-1] == mixture.num_components else present.any(-1, keepdims=True)
    return jnp.where(counts, density, 0).sum(-1)


def _log_means(mixture: Mixture, factors: covariance.Factors, prior: Prior, present: jax.Array) -> jax.Array:
    d, kappa = mixture.num_features, prior.mean_precision
    z = covariance.transform(factors.whitener, mixture.means - prior.mean, mixture.covariance_type)  # (..., K, D)
    density = d / 2 * jnp.log(kappa / (2 * math.pi)) - factors.half_log_det - kappa / 2 * (z**2).sum(-1)
    return jnp.where(present, density, 0).sum(-1)


def _moments_of_data(x: jax.Array, weight: jax.Array | None, covariance_type: str) -> tuple[jax.Array, jax.Array]:
    """Mean (D,) and scatter over the total weight, (D, D) or (D,); rows of weight 0 may hold anything."""
    weight = jnp.ones(len(x), x.dtype) if weight is None else weight
    x = jnp.where(weight[:, None] > 0, x, 0)
    total = weight.sum()
    rough = weight @ x / total
    centred = jnp.where(weight[:, None] > 0, x - rough, 0)
    correction = weight @ centred / total  # a second pass: the rounding of the first sum is gone
    centred = centred - correction
    if covariance.is_dense(covariance_type):
        scatter = jnp.matmul((weight[:, None] * centred).T, centred, precision=jax.lax.Precision.HIGHEST)
    else:
        scatter = weight @ centred**2
    return rough + correction, scatter / total


def check_prior_shapes(prior: Prior, mixture: Mixture) -> None:
    """Refuses a prior whose type or shapes do not go with a mixture."""
    if not isinstance(prior, Prior):
        raise TypeError(f"prior is {type(prior).__name__}; a jaxgmm.Prior was expected, as from jaxgmm.default_prior.")
    k, d = mixture.num_components, mixture.num_features
    expected = {"weight_concentration": (k,), "mean": (d,), "mean_precision": (), "degrees_of_freedom": (),
                "scale": covariance.prior_scale_shape(mixture.covariance_type, d)}
    for name, shape in expected.items():
        got = jnp.shape(getattr(prior, name))
        if got != shape:
            raise ValueError(f"prior.{name} has shape {got}; {shape} was expected for K={k}, D={d} and covariance_type="
                             f"{mixture.covariance_type!r}.")


def check_prior(prior: Prior, num_components: int, num_features: int, covariance_type: str, *, mode: bool = False) -> None:
    """Refuses a prior of the wrong shape or, where values are concrete, an improper one.

    mode: for MAP-EM, which also needs concentrations >= 1 (the density of the weights is unbounded below that).
    """
    shape = jax.ShapeDtypeStruct((num_components, num_features), jnp.float32)
    check_prior_shapes(prior, Mixture(shape, shape, shape, covariance_type))
    if is_traced(prior):
        return
    values = {name: as_float_array(getattr(prior, name), f"prior.{name}", check_values=True)
              for name in ("weight_concentration", "mean", "mean_precision", "degrees_of_freedom", "scale")}
    lowest = float(values["weight_concentration"].min())
    if lowest <= 0:
        raise ValueError(f"prior.weight_concentration has {lowest:.4g}; values > 0 were expected.")
    if mode and lowest < 1:
        raise ValueError(f"prior.weight_concentration has {lowest:.4g}; MAP needs values >= 1, below which the density is "
                         "unbounded at a weight of 0: raise it, or sample (nuts, gibbs).")
    if float(values["mean_precision"]) <= 0:
        raise ValueError(f"prior.mean_precision is {float(values['mean_precision']):.4g}; a value > 0 was expected.")
    limit = num_features - 1 if covariance.is_dense(covariance_type) else 0
    if float(values["degrees_of_freedom"]) <= limit:
        raise ValueError(f"prior.degrees_of_freedom is {float(values['degrees_of_freedom']):.4g}; a value > {limit} was "
                         f"expected for covariance_type={covariance_type!r} and D={num_features}: below it is improper.")
    scale = values["scale"]
    lower = covariance.cholesky(scale) if scale.ndim == 2 else jnp.sqrt(jnp.where(scale > 0, scale, jnp.nan))
    if not bool(jnp.isfinite(lower).all()):
        raise ValueError("prior.scale is not positive definite; a covariance (or variances > 0) in data units squared was "
                         "expected.")
