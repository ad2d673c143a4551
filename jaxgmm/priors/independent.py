"""Define a prior whose means do not depend on the covariances, as in most published analyses.

weights ~ Dirichlet(c),   mu_k ~ N(m, M),   Sigma_k ~ one of the laws in `covariance_laws`
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp

from .. import covariance, linalg
from ..covariance.types import is_coupled
from ..mixture import Mixture
from ..tables import Table
from .covariance_laws import HalfNormal, InverseGamma, InverseWishart
from .hyperparameters import hyperparameter_table, require_positive_definite
from .interface import ComponentSums, MixturePrior, StandardVariables
from .volume_shape_orientation import VolumeShapeOrientation


@partial(
    jax.tree_util.register_dataclass, meta_fields=[], data_fields=["weight_concentration", "mean", "mean_covariance", "scale"]
)
@dataclass(frozen=True, eq=False, repr=False)
class IndependentPrior(MixturePrior):
    """A prior whose means do not depend on the covariances: mu_k ~ N(m, M), Sigma_k ~ `scale`, weights ~ Dirichlet(c).

    Attributes:
        weight_concentration: c (K,) > 0; c = 1 gives a flat prior of the weights. MAP-EM needs c >= 1.
        mean: m (D,), in data units.
        mean_covariance: M (D, D), in data units squared.
        scale: the law of each covariance: InverseWishart for full and tied, InverseGamma for diag, spherical, EEI and EII, or
            HalfNormal for these six covariance types. For the other eight types, it is VolumeShapeOrientation. MAP-EM and
            `gibbs` accept neither HalfNormal nor VolumeShapeOrientation.

    Example:
        >>> import jax, jax.numpy as jnp, jaxgmm
        >>> scale = jaxgmm.InverseGamma(jnp.array(2.0), jnp.array(1.0))
        >>> prior = jaxgmm.IndependentPrior(jnp.ones(2), jnp.zeros(1), jnp.eye(1), scale)
        >>> options = {"num_components": 2, "covariance_type": "spherical", "num_samples": 5}
        >>> jaxgmm.sample_prior(jax.random.key(0), prior, **options).covariances.shape
        (5, 2, 1)
    """

    weight_concentration: jax.Array
    mean: jax.Array
    mean_covariance: jax.Array
    scale: InverseWishart | InverseGamma | HalfNormal | VolumeShapeOrientation

    @property
    def covariance_law(self) -> InverseWishart | InverseGamma | HalfNormal | VolumeShapeOrientation:
        """The law of each stored covariance."""
        return self.scale

    @property
    def means_share_covariance(self) -> bool:
        """False, because mu_k ~ N(m, M)."""
        return False

    def log_density_of_means(self, mixture: Mixture, factors: covariance.Factors) -> jax.Array:
        """Return log N(mu_k | m, M) of each component, (..., K)."""
        lower = linalg.cholesky(self.mean_covariance)
        constant = -mixture.num_features / 2 * math.log(2 * math.pi) - jnp.log(linalg.diagonal(lower)).sum()
        return constant - (self.noise_of_means(mixture, factors) ** 2).sum(-1) / 2

    def noise_of_means(self, mixture: Mixture, factors: covariance.Factors) -> jax.Array:
        """Return the noise (K, D) that belongs to the means of a mixture, by the inverse of `deviations_of_means`."""
        whitener = linalg.invert_lower(linalg.cholesky(self.mean_covariance))
        return (mixture.means - self.mean) @ jnp.swapaxes(whitener, -1, -2)

    def deviations_of_means(self, root: jax.Array, noise: jax.Array, covariance_type: str) -> jax.Array:
        """Convert standard normal noise (K, D) to draws of mu_k - m, (K, D); the covariances are not used."""
        return noise @ linalg.cholesky(self.mean_covariance).T

    def standard_deviations_of_means(self, covariance_type: str) -> jax.Array:
        """Return the prior standard deviations of a mean vector, (D,)."""
        return jnp.sqrt(linalg.diagonal(self.mean_covariance))

    def maximize_means(self, mixture: Mixture, sums: ComponentSums) -> tuple[jax.Array, jax.Array]:
        """Return the mode (K, D) of the means for the current covariances, and the scatter of the rows about this mode.

        The mode solves (n Sigma^-1 + M^-1) mu = n Sigma^-1 xbar + M^-1 m. It is computed as mu = m + n M (n M + Sigma)^-1
        (xbar - m), which is accurate even for n = 0.
        """
        covariance_type, (k, d) = mixture.covariance_type, mixture.means.shape
        sigma = covariance.to_dense(mixture.covariances, covariance_type, k, d)
        weighted = sums.count[:, None, None] * self.mean_covariance
        whitener = linalg.invert_lower(linalg.cholesky(weighted + sigma))
        z = covariance.transform(whitener, sums.mean - self.mean, "full")
        steps = covariance.transform(weighted, covariance.transform(jnp.swapaxes(whitener, -1, -2), z, "full"), "full")
        return self.mean + steps, _scatter_about(self.mean + steps, sums, covariance_type)

    def draw_given_sums(
        self, sums: ComponentSums, factors: covariance.Factors, variables: StandardVariables, covariance_type: str
    ) -> tuple[jax.Array, covariance.Factors]:
        """Draw means given the sums and the current covariances, and then covariances given the sums and these means."""
        means = self._draw_means(sums, factors, variables.noise, covariance_type)
        return means, self._draw_factors(_scatter_about(means, sums, covariance_type), variables, covariance_type)

    def standardise(self, shift: jax.Array, scale: jax.Array, factor: jax.Array) -> IndependentPrior:
        """Return the prior of the parameters of y = (x - shift) / scale."""
        return dataclasses.replace(
            self,
            mean=(self.mean - shift) / scale,
            mean_covariance=self.mean_covariance / (scale[:, None] * scale),
            scale=self.scale.standardise(scale, factor),
        )

    def with_scale(self, scale: jax.Array) -> IndependentPrior:
        """Return the prior with another scale S of its covariance law; raise TypeError if this law has no closed forms."""
        return dataclasses.replace(self, scale=self.scale.with_scale(scale))

    def hyperparameter_shapes(self, num_features: int, covariance_type: str) -> dict[str, tuple[int, ...]]:
        """Return the shapes of the hyperparameters that only this family has; raise TypeError if `scale` has the wrong type."""
        fitting = InverseWishart if covariance.is_dense(covariance_type) else InverseGamma
        other = VolumeShapeOrientation if is_coupled(covariance_type) else HalfNormal
        if not isinstance(self.scale, fitting | other):
            raise TypeError(
                f"prior.scale is {type(self.scale).__name__}; {fitting.__name__} or {other.__name__} was expected for "
                f"covariance_type={covariance_type!r}."
            )
        shapes = self.scale.hyperparameter_shapes(covariance_type, num_features)
        return {"mean_covariance": (num_features, num_features)} | {f"scale.{name}": shape for name, shape in shapes.items()}

    def check_values(self, num_features: int, covariance_type: str) -> None:
        """Raise ValueError if concrete hyperparameters make the prior improper."""
        require_positive_definite(self.mean_covariance, "prior.mean_covariance")
        self.scale.check_values("prior.scale", covariance_type, num_features)

    def _draw_means(
        self, sums: ComponentSums, factors: covariance.Factors, noise: jax.Array, covariance_type: str
    ) -> jax.Array:
        """Draw means given the current covariances.

        The draws are m + L^-T (L^-1 n Sigma^-1 (xbar - m) + noise), where L L' = n Sigma^-1 + M^-1 is the precision of mu_k.
        """
        whitener = covariance.to_dense(factors.whitener, covariance_type, *noise.shape)
        precision = covariance.from_factor(jnp.swapaxes(whitener, -1, -2), "full")
        of_prior = linalg.invert_lower(linalg.cholesky(self.mean_covariance))
        weighted = sums.count[:, None, None] * precision
        root = linalg.invert_lower(linalg.cholesky(weighted + covariance.from_factor(of_prior.T, "full")))
        z = covariance.transform(root, covariance.transform(weighted, sums.mean - self.mean, "full"), "full")
        return self.mean + covariance.transform(jnp.swapaxes(root, -1, -2), z + noise, "full")

    def _tables(self) -> list[Table]:
        laws = {
            "weight_concentration": "c, weights ~ Dirichlet(c)",
            "mean": "m, mean_k ~ N(m, M)",
            "mean_covariance": "M",
        }
        return [hyperparameter_table(self, laws, least_axes=1), *self.scale._tables()]


def _scatter_about(means: jax.Array, sums: ComponentSums, covariance_type: str) -> jax.Array:
    """Return the scatter of the rows about given means, A_k + n_k (xbar_k - mu_k)(xbar_k - mu_k)'."""
    about_means = covariance.outer(sums.mean - means, covariance_type)
    return sums.scatter + covariance.expand(sums.count, covariance_type) * about_means
