"""The M-step of coupled covariances: the covariances of a type that maximise the expected log-likelihood.

The covariances of a coupled type differ between components, but share their volume, shape or orientation. The M-step minimises

    sum_k n_k log|Sigma_k| + tr(W_k Sigma_k^-1)

over the covariances of the type, where W_k is the scatter of component k about its mean, and n_k its count. With S_k = W_k /
n_k and the geometric mean gm over the features:

    EVI   variances s_k = diag S_k:           Sigma_k = lambda s_k / gm(s_k),  lambda = sum_k n_k gm(s_k) / n
    EVV   the same with matrices, where gm(S_k) = |S_k|^(1 / D)
    EEV   S_k = U_k diag(s_k) U_k':           Sigma_k = U_k diag(sum_k n_k s_k / n) U_k'
    VEI   `with_own_volumes` of s_k;   VEE   of the matrices S_k;   VEV   of the eigenvalues s_k in increasing order
    VVE   `common_axes` D:                    Sigma_k = D diag(q_k) D',  q_k = diag(D' S_k D)
    EVE   `common_axes` D:                    as EVI for the variances q_k along these axes

A step never increases the sum. The iterations of VEI, VEE, VEV, EVE and VVE start at the previous covariances, so that a few of
them suffice in each step of EM.

Source: Celeux & Govaert (1995), Pattern Recognition 28, 781-793.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from .. import covariance, linalg
from .axes import axes_of, common_axes, variances_along
from .types import ANY_DENSE, ANY_DIAGONAL, code_of, fewest_points, is_coupled, is_dense, is_shared, is_spherical
from .volumes import with_own_volumes

FEW_STEPS = 4  # number of iterations in a step of EM, which starts at the previous covariances
MANY_STEPS = 200  # number of iterations that give the estimates exactly, up to rounding, in all usual cases


@partial(jax.tree_util.register_dataclass, data_fields=["index"], meta_fields=["types"])
@dataclass(frozen=True, eq=False)
class Member:
    """One of several covariance types, which a compiled program takes as an argument.

    The mixtures of such a program have the covariance type `wide_type`. Their covariances are stored as (K, D, D) or (K, D),
    even if all components share one covariance. `narrow` converts them at the end.

    Attributes:
        types: the covariance types that the program serves, all dense or all diagonal.
        index: (), the place of the type in `types`.
    """

    types: tuple[str, ...]
    index: jax.Array | np.ndarray

    @property
    def wide_type(self) -> str:
        """The covariance type of the mixtures."""
        return ANY_DENSE if is_dense(self.types[0]) else ANY_DIAGONAL

    def property_of_type(self, of_type: Callable[[str], bool] | Callable[[str], int]) -> jax.Array:
        """Return a property of the covariance type, ()."""
        return jnp.asarray(np.array([of_type(name) for name in self.types]))[self.index]

    def fewest_points(self, num_features: int) -> jax.Array:
        """Return the smallest number of points that determine the covariance of one component, ()."""
        return self.property_of_type(partial(fewest_points, num_features=num_features))


def narrow(covariances: np.ndarray, covariance_type: str) -> np.ndarray:
    """Convert covariances of a type from wide storage, (..., K, D, D) or (..., K, D), to the storage form of the type."""
    if is_spherical(covariance_type):
        covariances = covariances[..., :1]
    if not is_shared(covariance_type):
        return covariances
    return covariances[..., :1, :, :] if is_dense(covariance_type) else covariances[..., :1, :]


def estimate(
    scatters: jax.Array,
    counts: jax.Array,
    covariance_type: str,
    start: jax.Array | None = None,
    *,
    num_steps: int = FEW_STEPS,
    member: Member | None = None,
) -> jax.Array:
    """Return the covariances of a coupled type that maximise the expected log-likelihood, (K, D, D) or (K, D).

    Args:
        scatters: W_k, (K, D, D) or (K, D).
        counts: n_k (K,) >= 0. A component of count 0 does not influence the shared parameters. Its own parameters are those of
            its covariance in `start`, or of the average covariance if there is no start.
        covariance_type: a coupled type, or the wide type of `member`.
        start: the previous covariances, which are of the type, or None.
        num_steps: the number of iterations, for types without a closed form.
        member: the type of the result, if the program serves several types.
    """
    total = counts.sum()
    used, weights = counts > 0, counts / jnp.where(total > 0, total, 1)
    divisor = covariance.expand(jnp.where(used, counts, 1), covariance_type)
    own = scatters / divisor
    average = covariance.einsum("k,k...->...", weights, own)
    own = jnp.where(covariance.expand(used, covariance_type), own, average if start is None else start)
    if member is None:
        return _MAPS[code_of(covariance_type)](own, weights, start, num_steps)
    maps = [partial(_MAPS[code_of(name)], steps=num_steps) for name in member.types]
    return jax.lax.switch(member.index, maps, own, weights, start)


def nearest(
    covariances: jax.Array, weights: jax.Array, covariance_type: str, start: jax.Array, member: Member | None = None
) -> jax.Array:
    """Return the covariances of the type that are nearest to given covariances; uncoupled covariances are returned unchanged.

    The nearest covariances maximise the expected log-likelihood of data with the given weights and covariances. If the given
    covariances are of the type, they are returned up to rounding.
    """
    if not is_coupled(covariance_type):
        return covariances
    scatters = covariance.expand(weights, covariance_type) * covariances
    return estimate(scatters, weights, covariance_type, start, member=member)


def departure(covariances: np.ndarray, covariance_type: str) -> float:
    """Return how far covariances (..., K, D, D) or (..., K, D) are from sharing what a coupled type shares.

    The number is the largest relative difference between volumes, between shapes, or between the products A B and B A of two
    covariances, which are equal if the covariances have the same axes.
    """
    volume, shape, orientation = code_of(covariance_type)
    d = covariances.shape[-1]
    matrices = covariances if orientation != "I" else covariances[..., None] * np.eye(d)
    volumes = np.exp(np.linalg.slogdet(matrices)[1] / d)[..., None, None]  # (..., K, 1, 1)
    scaled = matrices / volumes
    found = [0.0]
    if volume == "E":
        found.append(_spread(volumes, volumes[..., :1, :, :]))
    if shape == "E":
        shapes = np.linalg.eigvalsh(scaled)[..., None] if orientation == "V" else scaled
        found.append(_spread(shapes, shapes[..., :1, :, :]))
    if orientation == "E":
        products = scaled[..., :1, :, :] @ scaled
        found.append(_spread(products, np.swapaxes(products, -1, -2)))
    return max(found)


def _spread(arrays: np.ndarray, others: np.ndarray) -> float:
    """Return the largest difference between two stacks of matrices, relative to the largest entry of each matrix."""
    return float((abs(arrays - others) / abs(arrays).max((-2, -1), keepdims=True)).max())


def _equal_volumes(logs_of_means: jax.Array, weights: jax.Array) -> jax.Array:
    """Return the factors (K,) that give covariances with geometric means gm_k the same volume, given log gm_k."""
    return jnp.exp(jax.nn.logsumexp(logs_of_means, b=weights) - logs_of_means)


def _evi(own: jax.Array, weights: jax.Array, start: jax.Array | None, steps: int) -> jax.Array:
    """Return the estimates of EVI."""
    return own * _equal_volumes(jnp.log(own).mean(-1), weights)[:, None]


def _evv(own: jax.Array, weights: jax.Array, start: jax.Array | None, steps: int) -> jax.Array:
    """Return the estimates of EVV."""
    logs = 2 * jnp.log(linalg.diagonal(linalg.cholesky(own))).mean(-1)
    return own * _equal_volumes(logs, weights)[:, None, None]


def _eev(own: jax.Array, weights: jax.Array, start: jax.Array | None, steps: int) -> jax.Array:
    """Return the estimates of EEV."""
    values, vectors = linalg.eigh(own)
    return _compose(vectors, covariance.einsum("k,kj->j", weights, values))


def _vev(own: jax.Array, weights: jax.Array, start: jax.Array | None, steps: int) -> jax.Array:
    """Return the estimates of VEV."""
    values, vectors = linalg.eigh(own)
    return _compose(vectors, with_own_volumes(values, weights, _log_volumes(start, own), steps))


def _vee(own: jax.Array, weights: jax.Array, start: jax.Array | None, steps: int) -> jax.Array:
    """Return the estimates of VEE, or of VEI, whose covariances are diagonal."""
    return with_own_volumes(own, weights, _log_volumes(start, own), steps)


def _vve(own: jax.Array, weights: jax.Array, start: jax.Array | None, steps: int) -> jax.Array:
    """Return the estimates of VVE."""
    axes = common_axes(own, weights, _first_axes(own, weights, start), False, steps)
    return _compose(axes, variances_along(axes, own))


def _eve(own: jax.Array, weights: jax.Array, start: jax.Array | None, steps: int) -> jax.Array:
    """Return the estimates of EVE."""
    axes = common_axes(own, weights, _first_axes(own, weights, start), True, steps)
    return _compose(axes, _evi(variances_along(axes, own), weights, None, steps))


def _own(own: jax.Array, weights: jax.Array, start: jax.Array | None, steps: int) -> jax.Array:
    """Return the estimates of VVV and VVI."""
    return own


def _average(own: jax.Array, weights: jax.Array, start: jax.Array | None, steps: int) -> jax.Array:
    """Return the estimates of EEE and EEI, repeated for each component."""
    return jnp.broadcast_to(covariance.einsum("k,k...->...", weights, own), own.shape)


def _vii(own: jax.Array, weights: jax.Array, start: jax.Array | None, steps: int) -> jax.Array:
    """Return the estimates of VII, repeated for each feature."""
    return jnp.broadcast_to(own.mean(-1, keepdims=True), own.shape)


def _eii(own: jax.Array, weights: jax.Array, start: jax.Array | None, steps: int) -> jax.Array:
    """Return the estimates of EII, repeated for each component and each feature."""
    return _average(_vii(own, weights, start, steps), weights, start, steps)


_MAPS = {"EVI": _evi, "EVV": _evv, "EEV": _eev, "VEV": _vev, "VEE": _vee, "VEI": _vee, "VVE": _vve, "EVE": _eve}
# the other types are not coupled: only programs that serve several types use their estimates in wide storage
_MAPS |= {"EII": _eii, "VII": _vii, "EEI": _average, "VVI": _own, "EEE": _average, "VVV": _own}


def _compose(vectors: jax.Array, values: jax.Array) -> jax.Array:
    """Return the matrices U_k diag(v_k) U_k', for vectors (D, D) or (K, D, D) and values (D,) or (K, D)."""
    scaled = vectors * values[..., None, :]
    return covariance.symmetric(linalg.multiply(scaled, jnp.broadcast_to(jnp.swapaxes(vectors, -1, -2), scaled.shape)))


def _log_volumes(start: jax.Array | None, own: jax.Array) -> jax.Array:
    """Return the logarithms (K,) of the volumes of the previous covariances; NaN if there are none or if they are singular."""
    if start is None:
        return jnp.full(len(own), jnp.nan, own.dtype)
    if start.ndim == 2:
        return jnp.log(jnp.where(start > 0, start, jnp.nan)).mean(-1)
    return 2 * jnp.log(linalg.diagonal(linalg.cholesky(start))).mean(-1)


def _first_axes(own: jax.Array, weights: jax.Array, start: jax.Array | None) -> jax.Array:
    """Return the axes of the previous covariances, or those of the average covariance if there are none."""
    if start is None:
        return axes_of(own, weights)
    return axes_of(start, jnp.where(weights > 0, 1, 0).astype(own.dtype))
