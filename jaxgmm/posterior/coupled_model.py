"""The part of the NumPyro model that describes covariances whose components share volumes, shapes or orientations.

    Sigma_k = lambda_k C_k,  |C_k| = 1,  under the law `VolumeShapeOrientation` with the parameters a, S and tau

    site                types               law
    volumes             all                 InverseGamma(a, |S|^(1 / D))
    log_shapes          EVI VEI EVE VVE     ZeroSumNormal(tau)
                        EEV VEV
    rotation_1 ...      EVE VVE EEV VEV     multivariate t
    diagonal            VEE EVV             Dirichlet
    below               VEE EVV             multivariate t

Each site has one row for each volume, shape or orientation: K rows, or one row if all components share it. With one feature,
there are only volumes.

An orientation is U_0 (I - Y)^-1 (I + Y), where the columns of U_0 are given axes and Y is skew-symmetric (Cayley's transform).
If the orientation has the Haar measure, the density of Y is proportional to |I + Y|^-(D - 1). Let v be the part of column j + 1
of Y above the diagonal, and Y_j the leading block of Y with j rows. Then v given Y_j has a multivariate t distribution with j
degrees of freedom and scale matrix (I + Y_j' Y_j) / j. The site rotation_j holds v.

For VEE and EVV, C is proportional to L (T T')^-1 L', where S = L L' and T is a lower triangular matrix. The squares of the
diagonal entries of T sum to 1. The site diagonal holds these squares, and the site below holds the other entries of T, row by
row. Their laws follow from Bartlett's decomposition: C has the law of W / |W|^(1 / D) with W ~ InverseWishart(nu, S) if
diagonal has the law Dirichlet((nu - i + 1) / 2, i = 1, ..., D), and the entries below are t variables whose scales make tr(T
T') independent of T.

Sources: Jauch, Hoff & Dunson (2020), Bernoulli 26, 1560-1586, for the Haar measure in Cayley's coordinates; Anderson (2003), An
Introduction to Multivariate Statistical Analysis, section 7.2, for Bartlett's decomposition.
"""

from __future__ import annotations

from typing import cast

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist

from ..priors.volume_shape_orientation import VolumeShapeOrientation

_AXIS_PARALLEL, _MATRICES = ("VEI", "EVI"), ("VEE", "EVV")
_NO_CHECKS = {"validate_args": False}  # the scale matrices below are valid, but may be traced
_HIGHEST = jax.lax.Precision.HIGHEST


def sample_coupled(
    law: VolumeShapeOrientation, num_components: int, num_features: int, covariance_type: str, axes: jax.Array | None
) -> jax.Array:
    """Sample the sites of coupled covariances; return Cholesky factors (K, D, D), or standard deviations (K, D) of VEI and EVI.

    The columns of `axes` (K, D, D) are the axes U_0 of each component, which are the axes of the data if None.
    """
    k, d = num_components, num_features
    copies = [1 if letter == "E" else k for letter in covariance_type]
    scale = law.scale * jnp.eye(d) if law.scale.ndim == 0 else law.scale
    scale = jnp.diag(scale) if scale.ndim == 1 else scale
    rate = jnp.exp(jnp.linalg.slogdet(scale)[1] / d)
    volumes = _sample("volumes", dist.InverseGamma(law.volume_shape, rate).expand([copies[0]]).to_event(1))
    if covariance_type in _MATRICES:
        shapes = _matrices(law, scale, copies[1], d)
    else:
        shapes = jnp.ones((1, d))
        if d > 1:
            zero_sum = dist.ZeroSumNormal(law.shape_sd, event_shape=(d,))
            shapes = jnp.exp(_sample("log_shapes", zero_sum.expand([copies[1]]).to_event(1)))
        if covariance_type in _AXIS_PARALLEL:
            return jnp.sqrt(jnp.broadcast_to(volumes[:, None] * shapes * jnp.diag(scale) / rate, (k, d)))
        turned = jnp.eye(d) if axes is None else axes
        turned = jnp.matmul(turned, _rotations(copies[2], d), precision=_HIGHEST)
        shapes = jnp.matmul(turned * shapes[:, None], jnp.swapaxes(turned, -1, -2), precision=_HIGHEST)
    return jnp.linalg.cholesky(jnp.broadcast_to(volumes[:, None, None] * shapes, (k, d, d)))


def _rotations(count: int, d: int) -> jax.Array:
    """Sample the sites of rotations, and return the rotations (count, D, D)."""
    skew = jnp.zeros((count, d, d))
    for j in range(1, d):
        block = skew[:, :j, :j]
        scale = (jnp.eye(j) + jnp.matmul(jnp.swapaxes(block, -1, -2), block, precision=_HIGHEST)) / j
        law = dist.MultivariateStudentT(j, jnp.zeros(j), jnp.linalg.cholesky(scale), **_NO_CHECKS)
        part = _sample(f"rotation_{j}", law.to_event(1))
        skew = skew.at[:, :j, j].set(part).at[:, j, :j].set(-part)
    return jnp.linalg.solve(jnp.eye(d) - skew, jnp.eye(d) + skew)


def _matrices(law: VolumeShapeOrientation, scale: jax.Array, count: int, d: int) -> jax.Array:
    """Sample the sites of VEE or EVV, and return the matrices C (count, D, D)."""
    if d == 1:
        return jnp.ones((1, 1, 1))
    concentration = (d - 1 + 2 / law.shape_sd**2 - jnp.arange(d)) / 2
    diagonal = _sample("diagonal", dist.Dirichlet(concentration).expand([count]).to_event(1))
    degrees, size = 2 * concentration.sum(), d * (d - 1) // 2
    normal = dist.MultivariateStudentT(degrees, jnp.zeros(size), jnp.eye(size) / jnp.sqrt(degrees), **_NO_CHECKS)
    below = _sample("below", normal.expand([count]).to_event(1))
    factor = jnp.sqrt(diagonal)[..., None] * jnp.eye(d)
    factor = factor.at[:, *jnp.tril_indices(d, -1)].set(below)
    root = jnp.matmul(jnp.linalg.cholesky(scale), jnp.swapaxes(jnp.linalg.inv(factor), -1, -2), precision=_HIGHEST)
    matrices = jnp.matmul(root, jnp.swapaxes(root, -1, -2), precision=_HIGHEST)
    return matrices * jnp.exp(-jnp.linalg.slogdet(matrices)[1] / d)[:, None, None]


def _sample(name: str, distribution: dist.Distribution) -> jax.Array:
    """Sample a site and return its value, which is an array."""
    return cast(jax.Array, numpyro.sample(name, distribution))
