"""The default prior, made from the data, and how later code recognises it."""

from __future__ import annotations

import math
import weakref
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from .. import covariance, linalg
from ..row_sums import weight_or_ones
from ..validation import as_weighted_data, check_count, check_covariance_type
from .conjugate import Prior

# Objects that `default_prior` returned. A field of Prior would be part of its pytree structure, so that a default prior and one
# written by hand could no longer be stacked or share a compiled program.
_data_scaled: weakref.WeakSet[Prior] = weakref.WeakSet()


def default_prior(x: Any, *, num_components: int, covariance_type: str = "full", sample_weight: Any = None) -> Prior:
    """The weakly informative, data-scaled prior of Fraley & Raftery (2007), section 3, with each feature on its own scale.

    c = 1, m = column means, kappa = 0.01, nu = D + 2 and S = V / K^(2 / D), with V the data's covariance in the form of the
    covariance type (full and tied: the matrix; diag: the variances; spherical: their average). Singular data (a constant or
    collinear column, one row) get a small multiple of their own scale added to the diagonal, so that the prior is always
    proper.

    The prior looks at the data, which are then used twice. That is right for estimation and wrong for simulation-based
    calibration and for comparing evidence across transformations of the data.

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
    x, weight = as_weighted_data(x, sample_weight)
    if len(x) == 0:
        raise ValueError(f"x has shape {x.shape}: no rows; at least one was expected.")
    prior = _default_prior(x, weight, num_components, covariance_type)
    _data_scaled.add(prior)
    return prior


def is_data_scaled(prior: Any) -> bool:
    """Return whether `default_prior` returned this very object; copies through jit, vmap or tree.map are not recognised."""
    return prior in _data_scaled


@partial(jax.jit, static_argnums=(2, 3))  # as one program: operation by operation the first call takes a second longer
def _default_prior(x: jax.Array, weight: jax.Array | None, num_components: int, covariance_type: str) -> Prior:
    """Return the default prior of validated data."""
    center, scatter = _moments_of_data(x, weight, covariance_type)
    d = x.shape[1]
    # The floor is one part in sqrt(eps) of a feature's variance, or of its squared magnitude if the feature is constant.
    eps = float(jnp.finfo(x.dtype).eps)
    diagonal = linalg.diagonal(scatter) if covariance.is_dense(covariance_type) else scatter
    size = jnp.where(abs(center) > 0, center**2, 1)
    floor = jnp.where(diagonal > 64 * eps**2 * size, math.sqrt(eps) * diagonal, math.sqrt(eps) * size)
    scatter = covariance.ridge(scatter, floor, covariance_type)
    if covariance.prior_scale_shape(covariance_type, d) == ():
        scatter = scatter.mean()
    array = partial(jnp.asarray, dtype=x.dtype)
    return Prior(jnp.ones(num_components, x.dtype), center, array(0.01), array(d + 2.0), scatter / num_components ** (2 / d))


def _moments_of_data(x: jax.Array, weight: jax.Array | None, covariance_type: str) -> tuple[jax.Array, jax.Array]:
    """Return mean (D,) and scatter over the total weight, (D, D) or (D,); rows of weight 0 may hold anything."""
    weight = weight_or_ones(weight, x.shape[:1], x.dtype)
    x = jnp.where(weight[:, None] > 0, x, 0)
    total = weight.sum()
    rough = weight @ x / total
    centred = jnp.where(weight[:, None] > 0, x - rough, 0)
    correction = weight @ centred / total  # a second pass removes the rounding error of the first sum
    centred = centred - correction
    if covariance.is_dense(covariance_type):
        scatter = jnp.matmul((weight[:, None] * centred).T, centred, precision=jax.lax.Precision.HIGHEST)
    else:
        scatter = weight @ centred**2
    return rough + correction, scatter / total
