"""Define the law of covariances whose components share volumes, shapes or orientations, such as those of VEE.

    Sigma_k = lambda_k C_k,   |C_k| = 1

The law is a product of a law of each volume lambda, and a law of each matrix C, its shape and orientation. What all components
share is drawn once. S is the scale of the law, and tau its parameter `shape_sd`:

    volumes                      lambda ~ InverseGamma(a, |S|^(1 / D))
    VEI, EVI                     log C_jj = log S_jj - log|S| / D + s_j,           s ~ ZeroSumNormal(tau)
    EVE, VVE, EEV, VEV           C = U diag(exp(s)) U',  s ~ ZeroSumNormal(tau),   U ~ Haar measure
    VEE, EVV                     C = W / |W|^(1 / D),  W ~ InverseWishart(D - 1 + 2 / tau^2, S)

ZeroSumNormal(tau) is the law of independent normal variables with standard deviation tau from which their mean is subtracted.
The Haar measure is the uniform distribution of orthogonal matrices. The second and the fourth line hold after a change of the
units of single features, with another S. In EVE, VVE, EEV and VEV, shapes and axes are those of data in one unit, so S is one
number. The fourth line needs no axes, which would not be determined where C is close to the identity.

Densities refer to the volumes, to the vectors s in the subspace of vectors with sum 0, to the Haar measure, and, in the fourth
line, to the measure mu with dW / |W|^((D + 1) / 2) = dlambda / lambda dmu(C) for W = lambda C. For VEE and EVV, the density of
C with respect to mu is

    |S|^(nu / 2) Gamma(nu D / 2) / Gamma_D(nu / 2) tr(S C^-1)^(-nu D / 2)

Source: Bensmail, Celeux, Raftery & Robert (1997), Statistics and Computing 7, 1-10, for priors of volumes, shapes and
orientations.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from jax.scipy.special import gammaln, multigammaln

from .. import covariance, linalg
from ..covariance.distributions import sample_inverse_wishart
from ..covariance.types import has_free_axes, is_coupled, num_copies, shape_and_axes_scale
from ..tables import Table
from .covariance_laws import CovarianceLaw
from .hyperparameters import hyperparameter_table, require_positive, require_positive_definite


@partial(jax.tree_util.register_dataclass, data_fields=["volume_shape", "scale", "shape_sd"], meta_fields=[])
@dataclass(frozen=True, eq=False, repr=False)
class VolumeShapeOrientation(CovarianceLaw):
    """The law of covariances that share volumes, shapes or orientations: VEI, EVI, VEE, EVE, VVE, EEV, VEV and EVV.

    Sigma_k = lambda_k C_k with volumes lambda ~ InverseGamma(a, |S|^(1 / D)) and |C_k| = 1. If S is a multiple of the identity,
    all orientations have the same density. For VEE and EVV, C is W / |W|^(1 / D) with W ~ InverseWishart(D - 1 + 2 / tau^2, S).
    For the other types, the logarithms of the shape are normal with standard deviation tau, apart from their mean, which is 0.
    Use this law with `nuts`, `laplace` and `smc`, not with MAP-EM.

    Source: Bensmail, Celeux, Raftery & Robert (1997), Statistics and Computing 7, 1-10.

    Attributes:
        volume_shape: a () > 0.
        scale: S, in data units squared: (D,) for VEI and EVI, (D, D) for VEE and EVV, () for EVE, VVE, EEV and VEV.
        shape_sd: tau () > 0.

    Example:
        >>> import jax, jax.numpy as jnp, jaxgmm
        >>> law = jaxgmm.VolumeShapeOrientation(jnp.array(2.0), jnp.array(1.0), jnp.array(1.0))
        >>> prior = jaxgmm.IndependentPrior(jnp.ones(2), jnp.zeros(3), 9 * jnp.eye(3), law)
        >>> options = {"num_components": 2, "covariance_type": "VEV", "num_samples": 5}
        >>> jaxgmm.sample_prior(jax.random.key(0), prior, **options).covariances.shape
        (5, 2, 3, 3)
    """

    volume_shape: jax.Array
    scale: jax.Array
    shape_sd: jax.Array

    def is_normalised(self, covariance_type: str) -> bool:
        """Return whether `log_density` includes the normalising constant, for a given covariance type."""
        return is_coupled(covariance_type)

    def log_density(
        self, covariances: jax.Array, factors: covariance.Factors, covariance_type: str, num_features: int
    ) -> jax.Array:
        """Return the log density (..., 1) of all covariances together."""
        present = jnp.ones(factors.half_log_det.shape, bool)
        return self.total_log_density(covariances, factors, covariance_type, num_features, present)[..., None]

    def total_log_density(
        self,
        covariances: jax.Array,
        factors: covariance.Factors,
        covariance_type: str,
        num_features: int,
        present: jax.Array,
    ) -> jax.Array:
        """Return the log density (...) of the covariances of the present components."""
        log_volumes = 2 * factors.half_log_det / num_features
        if has_free_axes(covariance_type):
            logs = jnp.log(linalg.eigh(covariances)[0]) - log_volumes[..., None]
            of_shapes = self.log_density_of_shapes(logs)
        elif covariance.is_dense(covariance_type):
            trace = covariance.mahalanobis_trace(self.scale, factors, covariance_type, num_features) * jnp.exp(log_volumes)
            of_shapes = self.log_density_of_matrices(trace, num_features)
        else:
            of_shapes = self.log_density_of_shapes(jnp.log(covariances) - log_volumes[..., None] - self.log_center())
        volumes, shapes, _ = num_copies(covariance_type, covariances.shape[factors.half_log_det.ndim - 1])
        of_volumes = _total(self.log_density_of_volumes(log_volumes, num_features), present, volumes)
        return of_volumes + _total(of_shapes, present, shapes)

    def log_density_of_volumes(self, log_volumes: jax.Array, num_features: int) -> jax.Array:
        """Return the log density of volumes, given their logarithms (...)."""
        a, log_rate = self.volume_shape, self.log_scale(num_features)
        return a * log_rate - gammaln(a) - (a + 1) * log_volumes - jnp.exp(log_rate - log_volumes)

    def log_density_of_shapes(self, log_shapes: jax.Array) -> jax.Array:
        """Return the log density (...) of vectors s (..., D) that sum to 0."""
        constant = (log_shapes.shape[-1] - 1) * (jnp.log(self.shape_sd) + 0.5 * math.log(2 * math.pi))
        return -0.5 * ((log_shapes / self.shape_sd) ** 2).sum(-1) - constant

    def log_density_of_matrices(self, trace: jax.Array, num_features: int) -> jax.Array:
        """Return the log density of matrices C with determinant 1 under the law of VEE and EVV, given tr(S C^-1) (...)."""
        d, nu = num_features, self.degrees_of_freedom(num_features)
        constant = gammaln(nu * d / 2) - multigammaln(nu / 2, d)
        return constant + nu * d / 2 * (self.log_scale(d) - jnp.log(trace))

    def degrees_of_freedom(self, num_features: int) -> jax.Array:
        """Return nu of the inverse Wishart law from which VEE and EVV take C."""
        return num_features - 1 + 2 / self.shape_sd**2

    def log_scale(self, num_features: int) -> jax.Array:
        """Return log|S| / D, ()."""
        if self.scale.ndim == 2:
            return 2 * jnp.log(linalg.diagonal(linalg.cholesky(self.scale))).mean()
        return jnp.log(self.scale).mean()

    def log_center(self) -> jax.Array:
        """Return the mean of log C_jj, (D,), for VEI and EVI."""
        return jnp.log(self.scale) - jnp.log(self.scale).mean()

    def sample(self, key: jax.Array, covariance_type: str, num_components: int, num_features: int) -> jax.Array:
        """Return one draw of a mixture's covariances, in the storage form of the covariance type."""
        k, d, dtype = num_components, num_features, self.scale.dtype
        volumes, shapes, axes = num_copies(covariance_type, k)
        key_volumes, key_shapes, key_axes = jax.random.split(key, 3)
        drawn = jnp.exp(self.log_scale(d)) / jax.random.gamma(key_volumes, self.volume_shape, (volumes,), dtype)
        if covariance.is_dense(covariance_type) and not has_free_axes(covariance_type):
            matrices = sample_inverse_wishart(key_shapes, self.degrees_of_freedom(d), self.scale, "full", shapes, d)
            half_log_det = jnp.log(linalg.diagonal(linalg.cholesky(matrices))).sum(-1)
            matrices = matrices * jnp.exp(-2 * half_log_det / d)[:, None, None]
            return jnp.broadcast_to(drawn[:, None, None] * matrices, (k, d, d))
        logs = self.shape_sd * jax.random.normal(key_shapes, (shapes, d), dtype)
        logs = logs - logs.mean(-1, keepdims=True)
        if not covariance.is_dense(covariance_type):
            return jnp.broadcast_to(drawn[:, None] * jnp.exp(logs + self.log_center()), (k, d))
        # the orthogonal factor of a matrix of independent normal variables has the Haar measure, apart from signs of columns
        orthogonal = jnp.linalg.qr(jax.random.normal(key_axes, (axes, d, d), dtype))[0]
        root = orthogonal * jnp.exp(logs / 2)[:, None, :] * jnp.sqrt(drawn)[:, None, None]
        return jnp.broadcast_to(covariance.from_factor(root, covariance_type), (k, d, d))

    def standardise(self, scale: jax.Array, factor: jax.Array) -> VolumeShapeOrientation:
        """Return the law of the covariances of x / scale. If S is one number, all entries of `scale` must be equal."""
        divisor = {0: scale[0] ** 2, 1: scale**2, 2: scale[:, None] * scale}[self.scale.ndim]
        return dataclasses.replace(self, scale=self.scale / divisor)

    def typical_variances(self, covariance_type: str, num_features: int) -> jax.Array:
        """Return the diagonal of S, one variance for each feature, (D,)."""
        diagonal = linalg.diagonal(self.scale) if self.scale.ndim == 2 else self.scale
        return jnp.broadcast_to(diagonal, (num_features,))

    def hyperparameter_shapes(self, covariance_type: str, num_features: int) -> dict[str, tuple[int, ...]]:
        """Return the shape that each hyperparameter must have, as a dict from name to shape."""
        return {"volume_shape": (), "scale": shape_and_axes_scale(covariance_type, num_features), "shape_sd": ()}

    def check_values(self, name: str, covariance_type: str, num_features: int) -> None:
        """Raise ValueError if concrete hyperparameters make the law improper."""
        require_positive(self.volume_shape, f"{name}.volume_shape")
        require_positive(self.shape_sd, f"{name}.shape_sd")
        require_positive_definite(self.scale, f"{name}.scale")

    def _tables(self) -> list[Table]:
        laws = {
            "volume_shape": "a, volumes ~ InverseGamma(a, |S|^(1 / D))",
            "scale": "S",
            "shape_sd": "tau, standard deviation of the logarithms of the shapes",
        }
        return [hyperparameter_table(self, laws)]


def _total(values: jax.Array, present: jax.Array, copies: int) -> jax.Array:
    """Return the sum of values (..., K) over the present components, or one of them if the components share the quantity."""
    total = jnp.where(present, values, 0).sum(-1)
    return total if copies == present.shape[-1] else total / jnp.maximum(present.sum(-1), 1)
