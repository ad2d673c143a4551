"""Compute the log density of any prior, and draw from any prior. The module also lists prior families and covariance laws."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from .. import covariance
from ..calls import public
from ..covariance.distributions import gamma_shapes, inverse_wishart_factors
from ..covariance.types import as_covariance_type
from ..memory import check_memory, tree_bytes
from ..mixture import Mixture, MixtureLike, as_mixture
from ..validation import check_count, check_key
from .conjugate import Prior
from .covariance_laws import HalfNormal, InverseGamma, InverseWishart
from .independent import IndependentPrior
from .interface import MixturePrior, StandardVariables, check_normalised, check_prior, check_prior_shapes
from .volume_shape_orientation import VolumeShapeOrientation

# Saved files identify priors and their parts by the names of these types.
FAMILIES = (Prior, IndependentPrior)
COVARIANCE_LAWS = (InverseWishart, InverseGamma, HalfNormal, VolumeShapeOrientation)


@public
def log_prior(mixture: MixtureLike, prior: MixturePrior, *, present: jax.Array | None = None) -> jax.Array:
    """Return the normalised log prior density of (weights, means, covariances), nats.

    Components of weight exactly 0 are absent: their parameters do not enter the density, and their concentrations do not enter
    the Dirichlet law. A mixture with absent components therefore has the density of the smaller mixture without these
    components. If the components share volumes, shapes or orientations, the density of a `Prior` lacks its normalising
    constant, and under a `VolumeShapeOrientation` law, the density refers to the volumes, shapes and orientations.

    Args:
        mixture: a Mixture or a Fit, or a stack of either with leading axes (...).
        prior: a Prior or IndependentPrior whose shapes match the mixture.
        present: (..., K) booleans, True for components that enter the density; by default, those of positive weight.

    Returns:
        (...).

    Raises:
        ValueError, TypeError: the prior's shapes do not match the mixture.

    Example:
        >>> import jaxgmm, numpy as np
        >>> x = np.array([[0.0], [1.0], [2.0]])
        >>> prior = jaxgmm.default_prior(x, num_components=1)
        >>> jaxgmm.log_prior(jaxgmm.make_mixture([1.0], [[1.0]], [[[1.0]]]), prior).shape
        ()
    """
    mixture = as_mixture(mixture)
    check_prior_shapes(prior, mixture.num_components, mixture.num_features, mixture.covariance_type)
    return _log_density(mixture, prior, present)


@jax.jit
def _log_density(mixture: Mixture, prior: MixturePrior, present: jax.Array | None) -> jax.Array:
    """Return the log prior density (...) of mixtures whose K, D and covariance type match the prior."""
    present = mixture.weights > 0 if present is None else present
    factors = covariance.factorize(mixture.covariances, mixture.covariance_type, mixture.num_features)
    return prior.log_density(mixture, factors, present)


@public
def sample_prior(
    key: jax.Array, prior: MixturePrior, *, num_components: int, covariance_type: str = "full", num_samples: int
) -> Mixture:
    """Draw mixtures independently from a prior.

    Args:
        key: a random key.
        prior: a Prior or IndependentPrior with concentrations (K,).
        num_components: K.
        covariance_type: the covariance type, by name or code.
        num_samples: S.

    Returns:
        A Mixture with a leading axis (S,).

    Raises:
        ValueError, TypeError: the prior does not match K or the covariance type, or an option is out of range.

    Example:
        >>> import jax, jaxgmm, numpy as np
        >>> prior = jaxgmm.default_prior(np.array([[0.0], [1.0]]), num_components=2)
        >>> jaxgmm.sample_prior(jax.random.key(0), prior, num_components=2, num_samples=3).means.shape
        (3, 2, 1)
    """
    check_key(key)
    check_count(num_components, "num_components")
    check_count(num_samples, "num_samples")
    covariance_type = as_covariance_type(covariance_type)
    check_prior(prior, num_components, prior.mean.shape[-1], covariance_type)
    check_normalised(prior, covariance_type, "sample_prior")
    check_memory(float(num_samples) * num_components * tree_bytes(prior.mean), f"num_samples={num_samples}")
    return _sample_many(jax.random.split(key, num_samples), prior, covariance_type, num_components)


@partial(jax.jit, static_argnums=(2, 3))
def _sample_many(keys: jax.Array, prior: MixturePrior, covariance_type: str, num_components: int) -> Mixture:
    """Draw one mixture from the prior for each key."""
    return jax.vmap(lambda key: prior.sample(key, covariance_type, num_components))(keys)


def sample_prior_on_host(seed: int, prior: MixturePrior, mixture: Mixture, num_samples: int) -> Mixture:
    """Draw mixtures (S, ...) independently from a prior, with random numbers from NumPy.

    The draws have the shape and covariance type of the given mixture, and the same distribution as those of `sample_prior`.
    JAX's gamma sampler takes seconds to compile, but NumPy's sampler needs no compilation. These seconds matter if draws from
    the prior are a small part of a computation outside jit. Priors without closed forms are sampled by `sample_prior`.
    """
    covariance_type, (k, d) = mixture.covariance_type, mixture.means.shape
    if not prior.has_closed_forms:
        key = jax.random.key(seed)
        return sample_prior(key, prior, num_components=k, covariance_type=covariance_type, num_samples=num_samples)
    rng, dtype = np.random.default_rng(seed), prior.mean.dtype
    degrees_of_freedom, _ = prior.covariance_law.inverse_wishart_parameters()
    shapes = gamma_shapes(np.asarray(degrees_of_freedom), covariance_type, k, d)
    weights = rng.dirichlet(np.asarray(prior.weight_concentration, float), num_samples)
    gammas = rng.standard_gamma(shapes, (num_samples, *shapes.shape))
    bartlett = rng.normal(size=(num_samples, len(shapes), d, d))
    noise = rng.normal(size=(num_samples, k, d))
    # NumPy converts the numbers, because JAX would compile the conversion for each shape
    weights, *variables = jax.device_put([np.asarray(value, dtype) for value in (weights, gammas, bartlett, noise)])
    return _assemble(prior, weights, StandardVariables(*variables), covariance_type)


@partial(jax.jit, static_argnums=3)
def _assemble(prior: MixturePrior, weights: jax.Array, variables: StandardVariables, covariance_type: str) -> Mixture:
    """Compute mixtures (S, ...) from weights (S, K) and standard variables (S, ...)."""
    k, d = variables.noise.shape[1:]
    _, scale = prior.covariance_law.inverse_wishart_parameters()
    scale = jnp.broadcast_to(scale, covariance.storage_shape(covariance_type, k, d))

    def assemble_one(variables: StandardVariables) -> tuple[jax.Array, jax.Array]:
        gammas, bartlett, noise = variables
        root = inverse_wishart_factors(gammas, bartlett, scale, covariance_type, d).lower
        means = prior.mean + prior.deviations_of_means(root, noise, covariance_type)
        return means, covariance.from_factor(root, covariance_type)

    return Mixture(weights, *jax.vmap(assemble_one)(variables), covariance_type)
