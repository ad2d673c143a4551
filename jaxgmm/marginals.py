"""Marginals and conditionals of a mixture, which are Gaussian mixtures again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from . import covariance, linalg
from .density import responsibilities
from .mixture import Mixture, check_mixture
from .rounding import difference, positive_factors
from .validation import as_float_array


def marginal(mixture: Mixture, dims: Sequence[int] | int) -> Mixture:
    """Return the mixture that some of the features follow. Bishop (2006), eq. 2.98.

    Args:
        mixture: a mixture, or a stack of them with leading axes (...).
        dims: the features to keep, in the order wanted.

    Returns:
        A Mixture in len(dims) dimensions, of the same covariance type.

    Raises:
        ValueError, TypeError: dims is empty, repeats a feature, or names one that does not exist.

    Example:
        >>> import jaxgmm, numpy as np
        >>> mixture = jaxgmm.make_mixture([1.0], [[1.0, 2.0]], [np.eye(2)])
        >>> jaxgmm.marginal(mixture, [1]).means.tolist()
        [[2.0]]
    """
    check_mixture(mixture)
    kept = _as_features(dims, mixture.num_features)
    return Mixture(mixture.weights, mixture.means[..., kept], _sub_covariances(mixture, kept), mixture.covariance_type)


def condition(mixture: Mixture, dims: Sequence[int] | int, values: Any) -> Mixture:
    """Return the mixture that the other features follow, given the values of some. Bishop (2006), eq. 2.81, 2.82.

    The new weights are w_k N(values | k), normalised. Where the density of every component underflows, the nearest one has
    weight 1.

    Args:
        mixture: a mixture, or a stack of them with leading axes (...).
        dims: the features that are known.
        values: (len(dims),), in the units of those features.

    Returns:
        A Mixture of the remaining features in their order, of the same covariance type. A tied mixture stays tied, because the
        conditional covariance is the same for every component. Covariances stay positive definite to rounding, also where the
        known features determine the others.

    Raises:
        ValueError, TypeError: dims is empty, names all features or one that does not exist; values has another shape.

    Example:
        >>> import jaxgmm
        >>> mixture = jaxgmm.make_mixture([1.0], [[0.0, 0.0]], [[[1.0, 0.5], [0.5, 1.0]]])
        >>> jaxgmm.condition(mixture, 0, [2.0]).means.tolist()
        [[1.0]]
    """
    check_mixture(mixture)
    known = _as_features(dims, mixture.num_features)
    rest = [i for i in range(mixture.num_features) if i not in known]
    if not rest:
        raise ValueError(f"dims names all {mixture.num_features} features; at least one must remain: name fewer.")
    values = as_float_array(values, "values").astype(mixture.means.dtype)
    if values.shape != (len(known),):
        raise ValueError(f"values has shape {values.shape}; one value for each known feature was expected: ({len(known)},).")
    weights = responsibilities(marginal(mixture, known), values[None])[..., 0, :]  # (..., K)
    means, covariances = mixture.means[..., rest], _sub_covariances(mixture, rest)
    if covariance.is_dense(mixture.covariance_type):
        whitener = positive_factors(marginal(mixture, known)).whitener
        cross = mixture.covariances[..., known, :][..., rest]  # (..., K | 1, known, rest)
        half = linalg.multiply(whitener, cross)
        deviation = linalg.with_axes(values, mixture.means.ndim) - mixture.means[..., known]
        shift = linalg.multiply(whitener, deviation[..., None])
        means = means + (jnp.swapaxes(half, -1, -2) @ shift)[..., 0]
        explained = jnp.matmul(jnp.swapaxes(half, -1, -2), half, precision=jax.lax.Precision.HIGHEST)
        covariances = difference(covariances, explained, linalg.diagonal(covariances))
    return Mixture(weights, means, covariances, mixture.covariance_type)


def _as_features(dims: Sequence[int] | int, num_features: int) -> list[int]:
    """Return the features that dims names as indices from 0, or raise if they are not different features of the mixture."""
    array = np.atleast_1d(np.asarray(dims))
    if array.size and array.dtype.kind not in "iu":
        raise TypeError(f"dims is {dims!r}; integers were expected: features from 0 to {num_features - 1}.")
    features = array.ravel().tolist()
    if not features or len(set(features)) < len(features) or not all(-num_features <= i < num_features for i in features):
        raise ValueError(f"dims is {features}; one or more different features from 0 to {num_features - 1} were expected.")
    return [i % num_features for i in features]


def _sub_covariances(mixture: Mixture, features: list[int]) -> jax.Array:
    """Return the covariances of some features, in the mixture's storage."""
    if covariance.is_dense(mixture.covariance_type):
        return mixture.covariances[..., features, :][..., features]
    return mixture.covariances if mixture.covariances.shape[-1] == 1 else mixture.covariances[..., features]
