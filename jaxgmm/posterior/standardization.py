"""Coordinates: data and prior in standard ones, y = (x - shift) / scale, so that float32 is safe and unit steps are sane."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from .. import covariance
from ..mixture import Mixture
from ..priors.families import HalfNormal, IndependentPrior, InverseGamma, Prior, covariance_prior


class StandardizedProblem(NamedTuple):
    """One data set under one prior in standardised coordinates: x = shift + scale y. y (N, D), weight (N,) or None."""

    y: jax.Array
    weight: jax.Array | None
    prior: Prior | IndependentPrior
    shift: jax.Array
    scale: jax.Array


def standardise(
    x: jax.Array, weight: jax.Array | None, prior: Prior | IndependentPrior, covariance_type: str
) -> StandardizedProblem:
    """Data with mean 0 and variance 1 a feature (spherical: on average), in JAX's default float, and the prior to match."""
    dtype = jnp.result_type(float)
    w = jnp.ones(len(x), x.dtype) if weight is None else weight
    kept = (w > 0)[:, None]
    total = jnp.where(w.sum() > 0, w.sum(), 1)
    first = x[jnp.argmax(w > 0)]
    centred = jnp.where(kept, x - first, 0)
    mean = w @ centred / total
    variance = covariance.from_data_scatter(
        covariance.outer(jnp.sqrt(w @ jnp.where(kept, centred - mean, 0) ** 2 / total), covariance_type), covariance_type
    )
    variance = covariance.variances(variance, covariance_type, x.shape[1])[0]
    # a column without spread: the prior knows its size
    scale = jnp.sqrt(jnp.where(variance > 0, variance, _prior_size(prior, covariance_type, x.shape[1]))).astype(dtype)
    shift = (first + mean).astype(dtype)
    y = jnp.where(kept, (x - first) - mean, 0).astype(dtype) / scale
    prior = _standardise_prior(jax.tree.map(lambda leaf: leaf.astype(dtype), prior), shift, scale, covariance_type)
    return StandardizedProblem(y, None if weight is None else weight.astype(dtype), prior, shift, scale)


def _prior_size(prior: Prior | IndependentPrior, covariance_type: str, num_features: int) -> jax.Array:
    """The size of variances that a prior has in mind, (D,)."""
    scale = prior if isinstance(prior, Prior) else prior.scale
    if isinstance(scale, HalfNormal):
        return jnp.broadcast_to(scale.sd**2, (num_features,))
    _, scale = covariance_prior(prior)
    return covariance.variances(covariance.prior_scale(scale, covariance_type), covariance_type, num_features)[0]


def _standardise_prior(
    prior: Prior | IndependentPrior, shift: jax.Array, scale: jax.Array, covariance_type: str
) -> Prior | IndependentPrior:
    factor = scale_factor(scale, covariance_type)[0]
    prior = dataclasses.replace(prior, mean=(prior.mean - shift) / scale)
    if isinstance(prior, Prior):
        return dataclasses.replace(prior, scale=prior.scale / factor.reshape(prior.scale.shape))
    inner = prior.scale
    if isinstance(inner, HalfNormal):
        inner = dataclasses.replace(inner, sd=inner.sd / (scale if inner.sd.ndim else scale[0]))
    elif isinstance(inner, InverseGamma):
        inner = dataclasses.replace(inner, rate=inner.rate / factor.reshape(inner.rate.shape))
    else:
        inner = dataclasses.replace(inner, scale=inner.scale / factor.reshape(inner.scale.shape))
    return dataclasses.replace(prior, mean_covariance=prior.mean_covariance / (scale[:, None] * scale), scale=inner)


def scale_factor(scale: jax.Array, covariance_type: str) -> jax.Array:
    """What covariances of standardised data are multiplied by, entry by entry, in storage form with one component."""
    return covariance.from_data_scatter(covariance.outer(scale, covariance_type), covariance_type)


def to_standard(mixture: Mixture, problem: StandardizedProblem) -> Mixture:
    """A mixture in data units, in standardised ones."""
    dtype = problem.y.dtype
    factor = scale_factor(problem.scale, mixture.covariance_type)
    return Mixture(
        mixture.weights.astype(dtype),
        (mixture.means.astype(dtype) - problem.shift) / problem.scale,
        mixture.covariances.astype(dtype) / factor,
        mixture.covariance_type,
    )


def from_standard(mixture: Mixture, problem: StandardizedProblem) -> Mixture:
    """A mixture in standardised coordinates, in data units."""
    factor = scale_factor(problem.scale, mixture.covariance_type)
    return Mixture(
        mixture.weights, mixture.means * problem.scale + problem.shift, mixture.covariances * factor, mixture.covariance_type
    )


def log_volume(problem: StandardizedProblem, covariance_type: str, num_components: int) -> jax.Array:
    """log density in data units minus log density in standardised ones, of (x, means, covariances)."""
    d = problem.y.shape[1]
    log_scale = jnp.log(problem.scale).sum()
    total = len(problem.y) if problem.weight is None else problem.weight.sum()
    stored = covariance.storage_shape(covariance_type, num_components, d)
    log_factor = jnp.broadcast_to(jnp.log(scale_factor(problem.scale, covariance_type)), stored)
    free = tuple(zip(*covariance.labels(covariance_type, num_components, d), strict=True))
    return -(total + num_components) * log_scale - log_factor[tuple(map(jnp.array, free))].sum()
