"""`default_prior` makes a prior from the data, and `is_data_scaled` later recognises this prior."""

from __future__ import annotations

import math
import weakref
from functools import partial
from typing import Literal, overload

import jax
import jax.numpy as jnp
from numpy.typing import ArrayLike

from .. import covariance, linalg
from ..calls import public
from ..covariance import types as covariance_types
from ..covariance.types import as_covariance_type, has_free_axes, is_coupled
from ..devices.copies import original
from ..incomplete.checks import as_observed_data, check_columns
from ..incomplete.observations import Data, Observations
from ..incomplete.rows import moments_of_columns
from ..padding import pad_data
from ..row_sums import Weight, weight_or_ones
from ..validation import as_weighted_data, check_count
from .conjugate import Prior
from .independent import IndependentPrior
from .interface import MixturePrior
from .volume_shape_orientation import VolumeShapeOrientation

# This set holds the objects that `default_prior` returned. Prior has no field for its origin, because the field would be part
# of the pytree structure. A default prior and a prior written by hand could then not be stacked or share a program.
_data_scaled: weakref.WeakSet[MixturePrior] = weakref.WeakSet()

_MEAN_FACTOR = 10.0  # covariance of the means divided by that of the data, in the prior with a normalised density


@overload
def default_prior(
    x: ArrayLike | Observations,
    *,
    num_components: int,
    covariance_type: str = "full",
    sample_weight: ArrayLike | None = None,
    normalised: Literal[False] = False,
) -> Prior: ...
@overload
def default_prior(
    x: ArrayLike | Observations,
    *,
    num_components: int,
    covariance_type: str = "full",
    sample_weight: ArrayLike | None = None,
    normalised: bool,
) -> Prior | IndependentPrior: ...
@public
def default_prior(
    x: ArrayLike | Observations,
    *,
    num_components: int,
    covariance_type: str = "full",
    sample_weight: ArrayLike | None = None,
    normalised: bool = False,
) -> Prior | IndependentPrior:
    """Return the weakly informative, data-scaled prior of Fraley & Raftery (2007), section 3, with one scale per feature.

    The hyperparameters are c = 1, m = column means, kappa = 0.01, nu = D + 2 and S = V / K^(2 / D). Here V is the covariance of
    the data in the form of the covariance type: the matrix for full and tied, the variances for diag, the average variance for
    spherical. A small multiple of each feature's variance is added to the diagonal of V. For a constant feature, a small
    multiple of its squared value is added instead. The prior is therefore always proper, even if a column is constant or
    collinear, or if x has a single row.

    If components share volumes, shapes or orientations, as for "VEE", the normalising constant of this prior is not known, and
    only EM takes it. With `normalised`, the result for these types is an IndependentPrior with c = 1, the same m, and M = 10 V,
    which `nuts`, `laplace`, `smc` and `sample_prior` take. Its law of the covariances is `VolumeShapeOrientation` with a =
    (D + 2) / 2, the scale S / 2 and shape_sd = 1. For "EVE", "VVE", "EEV" and "VEV", the scale is |S|^(1 / D) / 2 and shape_sd
    is 2, because the shape of S says little about shapes along other axes.

    This prior depends on the data, so the data are used twice. This double use is acceptable for estimation. It is not
    acceptable for simulation-based calibration or for comparing the evidence of different transformations of the data.

    Args:
        x: (N, D), or `observations`. With observations, m and V hold the means and variances of the observed values, and V has
            no covariances.
        num_components: K.
        covariance_type: "full", "tied", "diag", "spherical", or a code such as "VEE": see `Mixture`.
        sample_weight: (N,) >= 0, or None.
        normalised: whether the density of the prior must be normalised, as samplers need it.

    Returns:
        A Prior in x's float dtype; if `normalised` is True and components share volumes, shapes or orientations, an
        IndependentPrior.

    Raises:
        ValueError, TypeError: x is empty, not finite or not of shape (N, D), or an option is out of range.

    Example:
        >>> import jaxgmm, numpy as np
        >>> jaxgmm.default_prior(np.array([[0.0], [2.0]]), num_components=2).mean.tolist()
        [1.0]
    """
    check_count(num_components, "num_components")
    covariance_type = as_covariance_type(covariance_type)
    if isinstance(x, Observations):
        x, weight = as_observed_data(x, sample_weight, None)
        check_columns(x, weight)
    else:
        x, weight = as_weighted_data(x, sample_weight)
    if len(x) == 0:
        raise ValueError(f"x has shape {x.shape}: it has no rows; at least one row was expected.")
    if not isinstance(normalised, bool):
        raise TypeError(f"normalised is {normalised!r}; True or False was expected.")
    prior = _default_prior(*pad_data(x, weight), num_components, covariance_type, normalised and is_coupled(covariance_type))
    _data_scaled.add(prior)
    return prior


def is_data_scaled(prior: object) -> bool:
    """Return whether `default_prior` created this object. Copies made by jit, vmap or tree.map are not recognised."""
    return original(prior) in _data_scaled


# Without jit, every operation would be compiled separately, and the first call would take one second longer.
@partial(jax.jit, static_argnums=(2, 3, 4))
def _default_prior(
    x: Data, weight: Weight, num_components: int, covariance_type: str, by_blocks: bool
) -> Prior | IndependentPrior:
    """Return the default prior of validated data; `by_blocks` is whether its law is `VolumeShapeOrientation`."""
    if isinstance(x, Observations):
        center, scatter = moments_of_columns(x, weight_or_ones(weight, (len(x),), x.dtype))
        scatter = jnp.diag(scatter) if covariance.is_dense(covariance_type) else scatter
    else:
        center, scatter = _moments_of_data(x, weight, covariance_type)
    d = x.shape[1]
    # The diagonal is increased by sqrt(eps) times the feature's variance, or times its squared magnitude for a constant
    # feature.
    eps = float(jnp.finfo(x.dtype).eps)
    diagonal = linalg.diagonal(scatter) if covariance.is_dense(covariance_type) else scatter
    size = jnp.where(abs(center) > 0, center**2, 1)
    floor = jnp.where(diagonal > 64 * eps**2 * size, math.sqrt(eps) * diagonal, math.sqrt(eps) * size)
    scatter = covariance.ridge(scatter, floor, covariance_type)
    if covariance_types.prior_scale_shape(covariance_type, d) == ():
        scatter = scatter.mean()
    array = partial(jnp.asarray, dtype=x.dtype)
    if by_blocks:
        return _prior_by_blocks(scatter, center, num_components, covariance_type)
    return Prior(jnp.ones(num_components, x.dtype), center, array(0.01), array(d + 2.0), scatter / num_components ** (2 / d))


def _prior_by_blocks(scatter: jax.Array, center: jax.Array, num_components: int, covariance_type: str) -> IndependentPrior:
    """Return the default prior with a normalised density, from the covariance V of the data, (D, D) or (D,)."""
    d, dtype = len(center), center.dtype
    scale = scatter / num_components ** (2 / d) / 2
    shape_sd = 1.0
    if has_free_axes(covariance_type):
        determinant = jnp.log(linalg.diagonal(linalg.cholesky(scale))).mean()
        scale, shape_sd = jnp.exp(2 * determinant), 2.0
    matrix = scatter if scatter.ndim == 2 else jnp.diag(scatter)
    law = VolumeShapeOrientation(jnp.asarray((d + 2) / 2, dtype), scale, jnp.asarray(shape_sd, dtype))
    return IndependentPrior(jnp.ones(num_components, dtype), center, _MEAN_FACTOR * matrix, law)


def _moments_of_data(x: jax.Array, weight: Weight, covariance_type: str) -> tuple[jax.Array, jax.Array]:
    """Return the mean (D,), and the scatter divided by the total weight, (D, D) or (D,). Rows of weight 0 are ignored."""
    weight = weight_or_ones(weight, x.shape[:1], x.dtype)
    x = jnp.where(weight[:, None] > 0, x, 0)
    total = weight.sum()
    rough = weight @ x / total
    centred = jnp.where(weight[:, None] > 0, x - rough[None], 0)
    correction = weight @ centred / total  # this second sum removes the rounding error of the first sum
    centred = centred - correction[None]
    if covariance.is_dense(covariance_type):
        scatter = jnp.matmul((weight[:, None] * centred).T, centred, precision=jax.lax.Precision.HIGHEST)
    else:
        scatter = weight @ centred**2
    return rough + correction, scatter / total
