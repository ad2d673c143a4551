"""Check that arrays are the fields of a mixture: shapes, weights, and covariances of the given type."""

from __future__ import annotations

import jax
import numpy as np

from . import covariance
from .covariance.estimates import departure
from .covariance.types import is_coupled, meaning

_LARGEST_DEPARTURE = 1e-4  # largest relative difference between what components share, at which `make_mixture` accepts them


def check_shapes(weights: jax.Array, means: jax.Array, covariances: jax.Array, covariance_type: str) -> None:
    """Raise ValueError unless the arrays have the shapes of a mixture or of a stack of mixtures."""
    if means.ndim < 2:
        raise ValueError(f"means has shape {means.shape}; (..., K, D) was expected: the means of one feature are (K, 1).")
    *batch, k, d = means.shape
    if k == 0 or d == 0:
        raise ValueError(f"means has shape {means.shape}: at least one component and one feature were expected.")
    if weights.shape != (*batch, k):
        raise ValueError(
            f"weights has shape {weights.shape}; {(*batch, k)} was expected, because means has shape {means.shape}."
        )
    expected = (*batch, *covariance.storage_shape(covariance_type, k, d))
    if covariances.shape != expected:
        raise ValueError(
            f"covariances has shape {covariances.shape}; {expected} was expected for covariance_type="
            f"{covariance_type!r} and means {means.shape}."
        )


def check_weights(weights: np.ndarray) -> None:
    """Raise ValueError if a weight is negative or the weights of a mixture do not sum to one."""
    if (weights < 0).any():
        raise ValueError(f"weights has a negative value, {weights.min():.4g}; weights >= 0 that sum to one were expected.")
    total = weights.sum(-1, dtype=float)
    tolerance = 1e-6 if weights.dtype == np.float64 else 1e-4
    if (abs(total - 1) > tolerance).any():
        worst = total.flat[np.argmax(abs(total - 1))]
        raise ValueError(f"weights sum to {worst:.6g}; 1 was expected: divide them by their sum.")


def check_covariances(covariances: np.ndarray, covariance_type: str) -> None:
    """Raise ValueError if a covariance is not symmetric and positive definite."""
    if not covariance.is_dense(covariance_type):
        if (covariances <= 0).any():
            raise ValueError(f"covariances has a variance of {covariances.min():.4g}; variances > 0 were expected.")
        return
    diagonal = np.diagonal(covariances, axis1=-2, axis2=-1)
    if (diagonal <= 0).any():
        raise ValueError(
            f"covariances has a variance of {diagonal.min():.4g} on a diagonal; positive definite matrices were expected."
        )
    # divide by the two standard deviations in turn: in extreme units, the product of two variances over- or underflows
    sd = np.sqrt(diagonal)
    correlations = covariances / sd[..., :, None] / sd[..., None, :]
    if (abs(correlations - np.swapaxes(correlations, -1, -2)) > 1e-4).any():
        raise ValueError("covariances has a matrix that is not symmetric; symmetric matrices were expected: use (S + S') / 2.")
    smallest = np.linalg.eigvalsh(correlations).min()
    if smallest <= 0:
        raise ValueError(
            f"covariances has a matrix that is not positive definite (smallest eigenvalue of its correlation "
            f"matrix {smallest:.2g}); add a multiple of the identity, or use a simpler covariance_type."
        )


def check_shared(covariances: np.ndarray, covariance_type: str) -> None:
    """Raise ValueError if covariances do not share the volume, shape or orientation that their type says that they share."""
    found = departure(covariances, covariance_type) if is_coupled(covariance_type) else 0.0
    if found > _LARGEST_DEPARTURE:
        raise ValueError(
            f"covariances are not of covariance_type={covariance_type!r} ({meaning(covariance_type)}): what the components "
            f"should share differs by {found:.2g}, relatively; give other covariances, or use covariance_type='full' or 'diag'."
        )
