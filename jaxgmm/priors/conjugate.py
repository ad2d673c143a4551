"""Define the conjugate prior.

    weights ~ Dirichlet(c),   Sigma_k ~ InverseWishart(nu, S),   mu_k | Sigma_k ~ N(m, Sigma_k / kappa)

For diag and spherical, variances ~ InverseGamma(nu / 2, S / 2). A component has one variance for each feature (diag) or one
variance for all features (spherical). For tied, all components share one Sigma.

Source: Fraley & Raftery (2007), Journal of Classification 24, 155-181, section 3.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from .. import covariance, linalg
from ..mixture import Mixture
from ..tables import Table
from .covariance_laws import InverseWishart
from .hyperparameters import hyperparameter_table, require_positive
from .interface import ComponentSums, MixturePrior, StandardVariables


@partial(
    jax.tree_util.register_dataclass,
    meta_fields=[],
    data_fields=["weight_concentration", "mean", "mean_precision", "degrees_of_freedom", "scale"],
)
@dataclass(frozen=True, eq=False, repr=False)
class Prior(MixturePrior):
    """The conjugate prior of a mixture. Every hyperparameter is an array, so priors can be vmapped.

        weights ~ Dirichlet(c),   Sigma_k ~ InverseWishart(nu, S),   mu_k | Sigma_k ~ N(m, Sigma_k / kappa)

    For types that store variances, each variance ~ InverseGamma(nu / 2, S / 2). If the components share volumes, shapes or
    orientations (covariance types such as VEE), the prior density of the covariances is proportional to the product of these
    densities over the components. The normalising constant is not known: EM does not need it to find the mode, but `log_prior`
    and the objective of a fit lack it. Source: Fraley & Raftery (2007), Journal of Classification 24, 155-181, section 3.

    Attributes:
        weight_concentration: c (K,) > 0; c = 1 gives a flat prior of the weights. MAP-EM needs c >= 1.
        mean: m (D,), in data units.
        mean_precision: kappa () > 0, the number of observations to which the prior of each mean is equivalent.
        degrees_of_freedom: nu (); > D - 1 for covariance matrices, as in full and tied, > 0 for variances.
        scale: S, in data units squared: (D, D) for covariance matrices, () for spherical and EII, (D,) for other variances.

    Example:
        >>> import jax.numpy as jnp, jaxgmm
        >>> jaxgmm.Prior(jnp.ones(2), jnp.zeros(1), jnp.array(0.01), jnp.array(3.0), jnp.array([[4.0]]))
        Prior
                                shape   value  law
          weight_concentration  (2,)    [1 1]  c, weights ~ Dirichlet(c)
          mean                  (1,)    [0]    m, mean_k ~ N(m, Sigma_k / kappa)
          mean_precision        ()      0.01   kappa
          degrees_of_freedom    ()      3      nu, Sigma_k ~ InverseWishart(nu, S)
          scale                 (1, 1)  [4]    S
    """

    weight_concentration: jax.Array
    mean: jax.Array
    mean_precision: jax.Array
    degrees_of_freedom: jax.Array
    scale: jax.Array

    @property
    def covariance_law(self) -> InverseWishart:
        """The law of each stored covariance. If variances are stored, each has the law InverseGamma(nu / 2, S / 2)."""
        return InverseWishart(self.degrees_of_freedom, self.scale)

    @property
    def means_share_covariance(self) -> bool:
        """True, because mu_k | Sigma_k ~ N(m, Sigma_k / kappa)."""
        return True

    def log_density_of_means(self, mixture: Mixture, factors: covariance.Factors) -> jax.Array:
        """Return log N(mu_k | m, Sigma_k / kappa) of each component, (..., K)."""
        d, kappa = mixture.num_features, self.mean_precision
        z = self._whitened_deviations(mixture, factors)
        return d / 2 * jnp.log(kappa / (2 * math.pi)) - factors.half_log_det - kappa / 2 * (z**2).sum(-1)

    def noise_of_means(self, mixture: Mixture, factors: covariance.Factors) -> jax.Array:
        """Return the noise (K, D) from which `deviations_of_means` computes mu_k - m for the means of a mixture."""
        return self._whitened_deviations(mixture, factors) * jnp.sqrt(self.mean_precision)

    def deviations_of_means(self, root: jax.Array, noise: jax.Array, covariance_type: str) -> jax.Array:
        """Convert standard normal noise (K, D) to draws of mu_k - m, (K, D); `root` holds a square root of each covariance."""
        return covariance.transform(root, noise, covariance_type) / jnp.sqrt(self.mean_precision)

    def standard_deviations_of_means(self, covariance_type: str) -> jax.Array:
        """Return the prior standard deviations of a mean vector, (D,), for the covariance Sigma = S / nu."""
        typical = self.covariance_law.typical_variances(covariance_type, self.mean.shape[-1])
        return jnp.sqrt(typical / self.degrees_of_freedom / self.mean_precision)

    def maximize_means(self, mixture: Mixture, sums: ComponentSums) -> tuple[jax.Array, jax.Array]:
        """Return the mode (K, D) of the means, and the scatter from which the mode of the covariances is computed."""
        return self._posterior_means(sums), self._posterior_scatter(sums, mixture.covariance_type)

    def draw_given_sums(
        self, sums: ComponentSums, factors: covariance.Factors, variables: StandardVariables, covariance_type: str
    ) -> tuple[jax.Array, covariance.Factors]:
        """Draw covariances given the sums, and then means given the sums and the covariances; `factors` is not used."""
        drawn = self._draw_factors(self._posterior_scatter(sums, covariance_type), variables, covariance_type)
        steps = covariance.transform(drawn.lower, variables.noise, covariance_type)
        return self._posterior_means(sums) + steps / jnp.sqrt(self.mean_precision + sums.count)[:, None], drawn

    def standardise(self, shift: jax.Array, scale: jax.Array, factor: jax.Array) -> Prior:
        """Return the prior of the parameters of y = (x - shift) / scale."""
        law = self.covariance_law.standardise(scale, factor)
        return dataclasses.replace(self, mean=(self.mean - shift) / scale, scale=law.scale)

    def with_scale(self, scale: jax.Array) -> Prior:
        """Return the prior with another scale S."""
        return dataclasses.replace(self, scale=scale)

    def hyperparameter_shapes(self, num_features: int, covariance_type: str) -> dict[str, tuple[int, ...]]:
        """Return the shapes of the hyperparameters that only this family has, as a dict from name to shape."""
        return {"mean_precision": ()} | self.covariance_law.hyperparameter_shapes(covariance_type, num_features)

    def check_values(self, num_features: int, covariance_type: str) -> None:
        """Raise ValueError if concrete hyperparameters make the prior improper."""
        require_positive(self.mean_precision, "prior.mean_precision")
        self.covariance_law.check_values("prior", covariance_type, num_features)

    def _whitened_deviations(self, mixture: Mixture, factors: covariance.Factors) -> jax.Array:
        """Return L_k^-1 (mu_k - m) of each component, (..., K, D)."""
        deviations = mixture.means - linalg.with_axes(self.mean, mixture.means.ndim)
        return covariance.transform(factors.whitener, deviations, mixture.covariance_type)

    def _posterior_means(self, sums: ComponentSums) -> jax.Array:
        """Return (n_k xbar_k + kappa m) / (n_k + kappa), (K, D)."""
        count, kappa = sums.count[:, None], self.mean_precision
        return (count * sums.mean + kappa * self.mean[None]) / (count + kappa)

    def _posterior_scatter(self, sums: ComponentSums, covariance_type: str) -> jax.Array:
        """Return A_k + kappa n_k / (kappa + n_k) (xbar_k - m)(xbar_k - m)'."""
        kappa = self.mean_precision
        shrinkage = covariance.expand(kappa * sums.count / (kappa + sums.count), covariance_type)
        return sums.scatter + shrinkage * covariance.outer(sums.mean - self.mean[None], covariance_type)

    def _tables(self) -> list[Table]:
        is_dense = np.ndim(self.scale) - np.ndim(self.mean_precision) == 2
        law = "Sigma_k ~ InverseWishart(nu, S)" if is_dense else "variances ~ InverseGamma(nu / 2, S / 2)"
        laws = {
            "weight_concentration": "c, weights ~ Dirichlet(c)",
            "mean": "m, mean_k ~ N(m, Sigma_k / kappa)",
            "mean_precision": "kappa",
            "degrees_of_freedom": f"nu, {law}",
            "scale": "S",
        }
        return [hyperparameter_table(self, laws)]
