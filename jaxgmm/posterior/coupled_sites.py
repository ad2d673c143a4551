"""Convert between covariances that share volumes, shapes or orientations and the values of the sites of the NumPyro model.

The docstring of `coupled_model` defines the sites. Densities here are those of `VolumeShapeOrientation`, with respect to the
measure that its module defines.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .. import covariance, linalg
from ..covariance.axes import cayley
from ..covariance.types import has_free_axes, is_coupled, is_dense, num_copies
from ..em.covariance_chart import make_chart
from ..mixture import Mixture
from ..priors.volume_shape_orientation import VolumeShapeOrientation


class Coupled(NamedTuple):
    """Coupled covariances at given values of the sites.

    Attributes:
        factors: the factors of the covariances; `lower` is a square root of each covariance that need not be triangular.
        log_density: (), the log density of the covariances under their law.
        jacobian: (), the logarithm of the measure to which this density refers, relative to that of the sites.
    """

    factors: covariance.Factors
    log_density: jax.Array
    jacobian: jax.Array


def axes_of_start(start: Mixture) -> jax.Array | None:
    """Return the axes (K, D, D) of a mixture, about which rotations are expressed; None if its type has no free axes."""
    if not (is_coupled(start.covariance_type) and has_free_axes(start.covariance_type)):
        return None
    return make_chart(start.covariances, start.covariance_type, start.weights > 0).axes


def decode(
    sites: dict[str, jax.Array],
    law: VolumeShapeOrientation,
    axes: jax.Array | None,
    covariance_type: str,
    shape: tuple[int, int],
) -> Coupled:
    """Return the covariances at values of the sites; `shape` is (K, D), and `axes` are those of `coupled_model`."""
    (k, d), log_volumes = shape, jnp.log(sites["volumes"])
    log_density = law.log_density_of_volumes(log_volumes, d).sum()
    jacobian = jnp.zeros((), log_density.dtype)
    if d > 1 and "diagonal" in sites:
        root, whitener, trace, jacobian = _decode_matrices(sites["diagonal"], sites["below"], law)
        log_density += law.log_density_of_matrices(trace, d).sum()
    else:
        logs = sites.get("log_shapes", jnp.zeros((1, d), log_density.dtype))
        log_density += law.log_density_of_shapes(sites["log_shapes"]).sum() if d > 1 else 0
        logs = logs if is_dense(covariance_type) else logs + law.log_center()
        root = jnp.exp(logs / 2)
        whitener = 1 / root
        if is_dense(covariance_type):
            turned = jnp.eye(d, dtype=root.dtype)[None] if axes is None else axes
            if d > 1:
                rotations, log_det = cayley(_skew(sites, d))
                turned = linalg.multiply(turned, rotations)
                jacobian = (_log_haar(d) - (d - 1) * log_det).sum()
            root = turned * root[:, None, :]
            whitener = jnp.swapaxes(turned, -1, -2) * whitener[:, :, None]
    size = covariance.expand(jnp.exp(log_volumes / 2), covariance_type)
    stored = (k, *root.shape[1:])
    half_log_det = jnp.broadcast_to(d / 2 * log_volumes, (k,))
    factors = covariance.Factors(jnp.broadcast_to(size * root, stored), jnp.broadcast_to(whitener / size, stored), half_log_det)
    return Coupled(factors, log_density, jacobian)


def encode(mixture: Mixture, law: VolumeShapeOrientation, axes: jax.Array | None) -> dict[str, jax.Array]:
    """Return the values of the sites that give the covariances of a mixture, which must satisfy its covariance type."""
    covariance_type, (k, d) = mixture.covariance_type, mixture.means.shape
    volumes, shapes, turns = num_copies(covariance_type, k)
    factors = covariance.factorize(mixture.covariances, covariance_type, d)
    log_volumes = 2 * factors.half_log_det / d
    sites = {"volumes": jnp.exp(_shared(log_volumes, volumes))}
    if d == 1:
        return sites
    if is_dense(covariance_type) and not has_free_axes(covariance_type):
        product = linalg.multiply(factors.whitener, jnp.broadcast_to(linalg.cholesky(law.scale), factors.whitener.shape))
        lower = linalg.cholesky(linalg.multiply(jnp.swapaxes(product, -1, -2), product))
        lower = _shared(lower / jnp.sqrt((linalg.diagonal(lower) ** 2).sum(-1))[:, None, None], shapes)
        square = linalg.diagonal(lower) ** 2
        rows, columns = np.tril_indices(d, -1)
        return sites | {"diagonal": square / square.sum(-1, keepdims=True), "below": lower[:, rows, columns]}
    if not is_dense(covariance_type):
        logs = jnp.log(mixture.covariances) - log_volumes[:, None] - law.log_center()
        return sites | {"log_shapes": _zero_sum(_shared(logs, shapes))}
    chart = make_chart(mixture.covariances, covariance_type, jnp.ones(k, bool))
    logs = jnp.log(chart.variances) - log_volumes[:, None]
    turned = chart.axes[:turns] if axes is None else linalg.multiply(jnp.swapaxes(axes, -1, -2)[:turns], chart.axes[:turns])
    return sites | {"log_shapes": _zero_sum(_shared(logs, shapes))} | _rotation_sites(turned)


def _decode_matrices(
    diagonal: jax.Array, below: jax.Array, law: VolumeShapeOrientation
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Return square roots of C and of its inverse (..., D, D), tr(S C^-1) (...), and the log-Jacobian (), for VEE and EVV."""
    d = diagonal.shape[-1]
    rows, columns = np.tril_indices(d, -1)
    factor = (jnp.sqrt(diagonal)[..., None] * np.eye(d, dtype=diagonal.dtype)).at[:, rows, columns].set(below)
    logs = jnp.log(diagonal)
    size = jnp.exp(logs.mean(-1) / 2)  # |T|^(1 / D)
    lower = linalg.cholesky(law.scale) * jnp.exp(-law.log_scale(d) / 2)
    root = linalg.multiply(jnp.broadcast_to(lower, factor.shape), jnp.swapaxes(linalg.invert_lower(factor), -1, -2))
    whitener = linalg.multiply(jnp.swapaxes(factor, -1, -2), jnp.broadcast_to(linalg.invert_lower(lower), factor.shape))
    trace = jnp.exp(law.log_scale(d)) * (1 + (below**2).sum(-1)) / size**2
    jacobian = -((1 + np.arange(d, dtype=logs.dtype) / 2) * logs).sum()
    return root * size[:, None, None], whitener / size[:, None, None], trace, jacobian


def _skew(sites: dict[str, jax.Array], d: int) -> jax.Array:
    """Return the skew-symmetric matrices Y (..., D, D), given the sites rotation_1, rotation_2 and so on."""
    entries = jnp.concatenate([sites[f"rotation_{j}"] for j in range(1, d)], -1)
    rows, columns = _above_diagonal(d)
    basis = np.zeros((len(rows), d, d), entries.dtype)
    basis[np.arange(len(rows)), rows, columns] = 1
    basis[np.arange(len(rows)), columns, rows] = -1
    return covariance.einsum("np,pij->nij", entries, basis)


def _above_diagonal(d: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows and columns of the entries above the diagonal, column by column."""
    columns, rows = np.tril_indices(d, -1)
    return rows, columns


def _log_haar(d: int) -> float:
    """Return the logarithm of the factor c in the density c |I + Y|^-(D - 1) of the Haar measure."""
    return sum(math.lgamma(j) - math.lgamma(j / 2) - j / 2 * math.log(math.pi) for j in range(1, d))


def _rotation_sites(turned: jax.Array) -> dict[str, jax.Array]:
    """Return the sites of orthogonal matrices (..., D, D), whose columns may change their signs.

    The signs are those that make the diagonal positive, apart from one column if the determinant would be -1.
    """
    d = turned.shape[-1]
    diagonal = linalg.diagonal(turned)
    turned = turned * jnp.where(diagonal < 0, -1, 1)[..., None, :]
    last = abs(diagonal) == abs(diagonal).min(-1, keepdims=True)
    last = last & (jnp.cumsum(last, -1) == 1)
    is_reflection = jnp.linalg.det(turned) < 0
    turned = jnp.where((last & is_reflection[..., None])[..., None, :], -turned, turned)
    identity = np.eye(d, dtype=turned.dtype)
    # Y = (R - I) (R + I)^-1, and Y' = (R' + I)^-1 (R' - I)
    transposed = jnp.swapaxes(turned, -1, -2)
    skew = jnp.swapaxes(jnp.linalg.solve(transposed + identity, transposed - identity), -1, -2)
    skew = (skew - jnp.swapaxes(skew, -1, -2)) / 2
    return {f"rotation_{j}": skew[:, :j, j] for j in range(1, d)}


def _shared(values: jax.Array, copies: int) -> jax.Array:
    """Return values (K, ...), or their mean (1, ...) over the components if all components share them."""
    return values if copies == len(values) else values.mean(0, keepdims=True)


def _zero_sum(logs: jax.Array) -> jax.Array:
    """Return vectors (..., D) without their mean."""
    return logs - logs.mean(-1, keepdims=True)
