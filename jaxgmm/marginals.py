"""Compute marginal and conditional distributions of a Gaussian mixture. They are Gaussian mixtures, too."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from . import covariance, linalg
from .calls import public
from .covariance.types import type_of_marginals
from .density import responsibilities
from .mixture import Mixture, MixtureLike, as_mixture
from .rounding import difference, positive_factors
from .validation import as_float_array, check_static


@public
def marginal(mixture: MixtureLike, dims: Sequence[int] | int) -> Mixture:
    """Return the marginal distribution of some features. Source: Bishop (2006), eq. 2.98.

    Args:
        mixture: a Mixture or a Fit, or a stack of either with leading axes (...).
        dims: the features to keep, in the order of the result.

    Returns:
        A Mixture in len(dims) dimensions. Its covariance type is the same if it is full, tied, diag, spherical, EII or EEI. For
        the other types, which share volumes, shapes or orientations of all features, it is full or diag.

    Raises:
        ValueError, TypeError: dims is empty, repeats a feature, or contains a feature that does not exist.

    Example:
        >>> import jaxgmm, numpy as np
        >>> mixture = jaxgmm.make_mixture([1.0], [[1.0, 2.0]], [np.eye(2)])
        >>> jaxgmm.marginal(mixture, [1]).means.tolist()
        [[2.0]]
    """
    mixture = as_mixture(mixture)
    kept = _as_features(dims, mixture.num_features)
    name = type_of_marginals(mixture.covariance_type)
    return Mixture(mixture.weights, mixture.means[..., kept], _sub_covariances(mixture, kept), name)


@public
def condition(mixture: MixtureLike, dims: Sequence[int] | int, values: ArrayLike) -> Mixture:
    """Return the conditional distribution of the other features, given values of the features `dims`.

    The new weights are proportional to w_k p(values | component k). If these densities underflow for all components, the
    nearest component gets weight 1. Source: Bishop (2006), eq. 2.81 and 2.82.

    Args:
        mixture: a Mixture or a Fit, or a stack of either with leading axes (...).
        dims: the features whose values are given.
        values: (len(dims),), the values of these features in the order of dims, in the units of the data.

    Returns:
        A Mixture of the other features in their original order, of the covariance type that `marginal` returns. A tied mixture
        stays tied, because the conditional covariance is the same for every component. Covariances stay positive definite up
        to rounding, even if the known features determine the others.

    Raises:
        ValueError, TypeError: dims is empty, contains all features or a feature that does not exist, or values has the wrong
            shape.

    Example:
        >>> import jaxgmm
        >>> mixture = jaxgmm.make_mixture([1.0], [[0.0, 0.0]], [[[1.0, 0.5], [0.5, 1.0]]])
        >>> jaxgmm.condition(mixture, 0, [2.0]).means.tolist()
        [[1.0]]
    """
    mixture = as_mixture(mixture)
    known = _as_features(dims, mixture.num_features)
    rest = [i for i in range(mixture.num_features) if i not in known]
    if not rest:
        raise ValueError(f"dims names all {mixture.num_features} features; at least one must remain: name fewer.")
    values = as_float_array(values, "values").astype(mixture.means.dtype)
    if values.shape != (len(known),):
        raise ValueError(f"values has shape {values.shape}; one value for each known feature was expected: ({len(known)},).")
    return _condition(mixture, values, tuple(known), tuple(rest))


@partial(jax.jit, static_argnums=(2, 3))
def _condition(mixture: Mixture, values: jax.Array, known: tuple[int, ...], rest: tuple[int, ...]) -> Mixture:
    """Return the conditional distribution of the features `rest`, given values (len(known),) of the features `known`."""
    given, others = marginal(mixture, known), list(rest)
    weights = responsibilities(given, values[None])[..., 0, :]  # (..., K)
    means, covariances = mixture.means[..., others], _sub_covariances(mixture, others)
    if covariance.is_dense(mixture.covariance_type):
        whitener = positive_factors(given).whitener
        cross = mixture.covariances[..., list(known), :][..., others]  # (..., K or 1, known, rest)
        half = linalg.multiply(whitener, cross)
        deviation = linalg.with_axes(values, mixture.means.ndim) - mixture.means[..., list(known)]
        shift = linalg.multiply(whitener, deviation[..., None])
        means = means + (jnp.swapaxes(half, -1, -2) @ shift)[..., 0]
        explained = jnp.matmul(jnp.swapaxes(half, -1, -2), half, precision=jax.lax.Precision.HIGHEST)
        covariances = difference(covariances, explained, linalg.diagonal(covariances))
    return Mixture(weights, means, covariances, type_of_marginals(mixture.covariance_type))


def _as_features(dims: Sequence[int] | int, num_features: int) -> list[int]:
    """Return the features in dims as indices from 0; raise ValueError or TypeError unless they are distinct features."""
    check_static(dims, "dims")
    array = np.atleast_1d(np.asarray(dims))
    if array.size and array.dtype.kind not in "iu":
        raise TypeError(f"dims is {dims!r}; integers were expected: features from 0 to {num_features - 1}.")
    features = array.ravel().tolist()
    if not features or len(set(features)) < len(features) or not all(-num_features <= i < num_features for i in features):
        raise ValueError(f"dims is {features}; one or more different features from 0 to {num_features - 1} were expected.")
    return [i % num_features for i in features]


def _sub_covariances(mixture: Mixture, features: list[int]) -> jax.Array:
    """Return the covariances of some features, stored in the form of the covariance type."""
    if covariance.is_dense(mixture.covariance_type):
        return mixture.covariances[..., features, :][..., features]
    return mixture.covariances if mixture.covariances.shape[-1] == 1 else mixture.covariances[..., features]
