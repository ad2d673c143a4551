"""Free coordinates of coupled covariances near given covariances, for derivatives with respect to all free parameters.

At the origin, the covariances are Sigma_k = U_k diag(q_k) U_k'. Near it, they are

    U_k R_k diag(q_kj exp(v_k + s_kj)) R_k' U_k',     sum_j s_kj = 0,     R_k = I + X_k + X_k^2 / 2

where X_k is a skew-symmetric matrix. R_k is a rotation up to fourth order in X_k, so first and second derivatives at the origin
are exact. The coordinates are the volumes v_k, D - 1 numbers that determine the shapes s_k, and the entries of X_k above the
diagonal. If all components share a volume, a shape or an orientation, they share its coordinates. For covariances that are
stored as variances, there is no X_k.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .. import covariance, linalg
from ..covariance.axes import axes_of, skew, variances_along
from ..covariance.types import is_dense, num_copies


class Chart(NamedTuple):
    """Coordinates (C,) of coupled covariances.

    Attributes:
        axes: (K, D, D), the axes U_k.
        variances: (K, D), the variances q_k along the axes.
        copies: the numbers of volumes, shapes and orientations that have coordinates: K, 1 or 0.
        is_dense: whether the covariances are stored as matrices.
    """

    axes: jax.Array
    variances: jax.Array
    copies: tuple[int, int, int]
    is_dense: bool

    def sizes(self) -> tuple[int, int, int]:
        """Return the numbers of coordinates of one volume, one shape and one orientation."""
        d = self.variances.shape[1]
        return 1, d - 1, d * (d - 1) // 2

    def components(self) -> np.ndarray:
        """Return the component (C,) of each coordinate, or -1 for a coordinate that all components share."""
        k = len(self.variances)
        owners = [
            np.repeat(np.arange(k) if n == k > 1 else np.full(n, -1), size)
            for n, size in zip(self.copies, self.sizes(), strict=True)
        ]
        return np.concatenate(owners)

    def covariances(self, coordinates: jax.Array) -> jax.Array:
        """Return the covariances at given coordinates (C,), in storage form."""
        (k, d), first, parts = self.variances.shape, 0, []
        for number, size in zip(self.copies, self.sizes(), strict=True):
            part = coordinates[first : first + number * size].reshape(number, size)
            parts.append(jnp.broadcast_to(part if number else jnp.zeros((1, size), coordinates.dtype), (k, size)))
            first += number * size
        volume, shape, turn = parts
        logs = volume + jnp.concatenate([shape, -shape.sum(1, keepdims=True)], 1)
        values = self.variances * jnp.exp(logs)
        if not self.is_dense:
            return values
        small = jax.vmap(lambda entries: skew(entries, d))(turn)
        turned = linalg.multiply(self.axes, jnp.eye(d, dtype=values.dtype) + small + linalg.multiply(small, small) / 2)
        return covariance.symmetric(linalg.multiply(turned * values[:, None], jnp.swapaxes(turned, 1, 2)))


def make_chart(covariances: jax.Array, covariance_type: str, present: jax.Array) -> Chart:
    """Return the chart whose origin is the given covariances; `present` (K,) marks the components of positive weight."""
    k, d, dense = len(covariances), covariances.shape[-1], is_dense(covariance_type)
    copies = num_copies(covariance_type, k)
    if not dense:
        return Chart(jnp.broadcast_to(jnp.eye(d, dtype=covariances.dtype), (k, d, d)), covariances, copies, dense)
    if copies[2] == 1:
        shared = axes_of(covariances, present.astype(covariances.dtype))
        return Chart(jnp.broadcast_to(shared, (k, d, d)), variances_along(shared, covariances), copies, dense)
    values, axes = linalg.eigh(covariances)
    return Chart(axes, values, copies, dense)
