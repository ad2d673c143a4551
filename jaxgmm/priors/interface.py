"""Define the interface of prior families. It contains the methods that MAP-EM, the samplers and the comparison need.

    p(weights, means, covariances) = Dirichlet(weights | c) prod_k p(Sigma_k) p(mu_k | Sigma_k)

Every family has a Dirichlet law for the weights and a `CovarianceLaw` for the covariances. Families differ in the law of the
means. Densities are normalised. They refer to the first K - 1 weights, the means, and the free entries of the covariances. To
add a family, subclass `MixturePrior` in a module of its own, list the class in `functions.FAMILIES`, and add it to the NumPyro
model in `posterior/model.py`.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import gammaln

from .. import covariance
from ..covariance.conjugate_terms import mode_denominator, observed_degrees, prior_scale, scatter_total
from ..covariance.distributions import gamma_shapes, inverse_wishart_factors
from ..covariance.estimates import estimate
from ..covariance.types import is_coupled
from ..mixture import Mixture
from ..row_sums import nonzero
from ..tables import Printed
from ..validation import is_traced
from .covariance_laws import CovarianceLaw
from .hyperparameters import host_values, require_positive


@partial(jax.tree_util.register_dataclass, data_fields=["count", "mean", "scatter"], meta_fields=[])
@dataclass(frozen=True, eq=False)
class ComponentSums:
    """Sums over the rows of each component. Responsibilities or labels assign the rows to the components.

    Attributes:
        count: (K,), the sum of weights.
        mean: (K, D), the weighted mean.
        scatter: the weighted scatter matrix about this mean, (K, D, D), or its diagonal, (K, D).
    """

    count: jax.Array
    mean: jax.Array
    scatter: jax.Array


class StandardVariables(NamedTuple):
    """Random numbers from standard distributions, which `draw_given_sums` converts to means and covariances.

    Attributes:
        gammas: (K or 1, D or 1), gamma variables of scale 1, with shape parameters from `gamma_shapes`.
        bartlett: (K or 1, D, D), standard normal variables; full and tied use those below the diagonal.
        noise: (K, D), standard normal variables.
    """

    gammas: jax.Array
    bartlett: jax.Array
    noise: jax.Array


class MixturePrior(Printed, ABC):
    """A prior of mixtures, the base class of all families.

    Each family is a dataclass of arrays, registered as a pytree, so that priors can be vmapped and traced. A family has at
    least the fields `weight_concentration` (K,) and `mean` (D,), and it implements the abstract methods below.
    """

    weight_concentration: jax.Array
    mean: jax.Array

    # Each family defines the following properties and methods.

    @property
    @abstractmethod
    def covariance_law(self) -> CovarianceLaw:
        """The law of each stored covariance."""

    @property
    @abstractmethod
    def means_share_covariance(self) -> bool:
        """Whether the law of mu_k depends on Sigma_k."""

    @abstractmethod
    def log_density_of_means(self, mixture: Mixture, factors: covariance.Factors) -> jax.Array:
        """Return log p(mu_k | Sigma_k) of each component, (..., K)."""

    @abstractmethod
    def deviations_of_means(self, root: jax.Array, noise: jax.Array, covariance_type: str) -> jax.Array:
        """Convert standard normal noise (K, D) to draws of mu_k - m, (K, D); `root` holds a square root of each covariance."""

    @abstractmethod
    def noise_of_means(self, mixture: Mixture, factors: covariance.Factors) -> jax.Array:
        """Return the noise (K, D) from which `deviations_of_means` computes mu_k - m for the means of a mixture."""

    @abstractmethod
    def standard_deviations_of_means(self, covariance_type: str) -> jax.Array:
        """Return the prior standard deviations of a mean vector, (D,), for a typical covariance."""

    @abstractmethod
    def maximize_means(self, mixture: Mixture, sums: ComponentSums) -> tuple[jax.Array, jax.Array]:
        """Return the mode (K, D) of the means, and the scatter from which the M-step computes the covariances.

        The argument `mixture` is the current mixture. If `means_share_covariance` is False, the mode is conditional on the
        covariances of this mixture.
        """

    @abstractmethod
    def draw_given_sums(
        self, sums: ComponentSums, factors: covariance.Factors, variables: StandardVariables, covariance_type: str
    ) -> tuple[jax.Array, covariance.Factors]:
        """Draw means (K, D) and covariances from their distributions conditional on the sums of each component's rows.

        The argument `factors` holds the factors of the current covariances. In the factors that are returned, `lower` is a
        square root of each covariance. This square root need not be triangular.
        """

    @abstractmethod
    def standardise(self, shift: jax.Array, scale: jax.Array, factor: jax.Array) -> MixturePrior:
        """Return the prior of the parameters of y = (x - shift) / scale.

        Args:
            shift: (D,), the numbers that are subtracted from the features.
            scale: (D,), the numbers that divide the features.
            factor: the numbers that divide the entries of one covariance, in storage form without the component axis.
        """

    @abstractmethod
    def with_scale(self, scale: jax.Array) -> MixturePrior:
        """Return the prior with another scale S of its covariance law; raise TypeError if this law has no closed forms."""

    @abstractmethod
    def hyperparameter_shapes(self, num_features: int, covariance_type: str) -> dict[str, tuple[int, ...]]:
        """Return the shapes of the hyperparameters that only this family has, as a dict from name to shape.

        Raise TypeError if the covariance law does not match the covariance type.
        """

    @abstractmethod
    def check_values(self, num_features: int, covariance_type: str) -> None:
        """Raise ValueError if the prior is improper.

        Check only the concrete values of the hyperparameters that only this family has.
        """

    # All families share the following properties and methods.

    @property
    def has_closed_forms(self) -> bool:
        """Whether the M-step of MAP-EM and the conditional distributions of Gibbs sampling have closed forms."""
        return self.covariance_law.has_closed_forms

    def log_density(self, mixture: Mixture, factors: covariance.Factors, present: jax.Array) -> jax.Array:
        """Return the log density of (weights, means, covariances), nats, (...).

        Args:
            mixture: a Mixture with leading axes (...).
            factors: the factors of the mixture's covariances.
            present: (..., K) booleans, True for components that enter the density.
        """
        shape = (mixture.covariance_type, mixture.num_features)
        return (
            log_dirichlet(mixture.weights, self.weight_concentration, present)
            + self.covariance_law.total_log_density(mixture.covariances, factors, *shape, present)
            + jnp.where(present, self.log_density_of_means(mixture, factors), 0).sum(-1)
        )

    def sample(self, key: jax.Array, covariance_type: str, num_components: int) -> Mixture:
        """Draw one mixture from the prior."""
        key_weights, key_covariances, key_means = jax.random.split(key, 3)
        d = self.mean.shape[-1]
        weights = jax.random.dirichlet(key_weights, self.weight_concentration)
        covariances = self.covariance_law.sample(key_covariances, covariance_type, num_components, d)
        noise = jax.random.normal(key_means, (num_components, d), self.mean.dtype)
        root = covariance.factorize(covariances, covariance_type, d).lower
        means = self.mean + self.deviations_of_means(root, noise, covariance_type)
        return Mixture(weights, means, covariances, covariance_type)

    def maximize(self, mixture: Mixture, sums: ComponentSums, present: jax.Array) -> Mixture:
        """Return the mode of (weights, means, covariances), computed from the sums of an E-step.

        The formulas are those of Fraley & Raftery (2007), section 3, but the denominators are those of the joint mode of
        (weights, means, covariances). If the law of the means does not depend on the covariances, the density is maximised in
        two steps. The first step maximises it over the means given the current covariances. The second step maximises it over
        the covariances given the means. This algorithm is ECM (Meng & Rubin 1993). Like EM, it never decreases the objective.

        Args:
            mixture: the mixture that the E-step used.
            sums: the sums of the E-step. A component with count 0 is empty and gets the mode of the prior.
            present: (K,) booleans, True for components that enter the prior's density; such a component may be empty.
        """
        covariance_type, d = mixture.covariance_type, mixture.num_features
        means, scatter = self.maximize_means(mixture, sums)
        degrees_of_freedom, _ = self.covariance_law.inverse_wishart_parameters()
        divisor = mode_denominator(sums.count, present, degrees_of_freedom, covariance_type, d, self.means_share_covariance)
        weights = jnp.where(present, sums.count + self.weight_concentration - 1, 0)
        covariances = self._scale_given_scatter(scatter, covariance_type)
        if is_coupled(covariance_type):
            divisor = jnp.where(present, divisor.reshape(present.shape), 0)
            covariances = estimate(covariances, divisor, covariance_type, jax.lax.stop_gradient(mixture.covariances))
        else:
            covariances = covariances / divisor
        return Mixture(weights / nonzero(weights.sum()), means, covariances, covariance_type)

    def gamma_shapes_given_counts(self, count: jax.Array, covariance_type: str) -> jax.Array:
        """Return the shape parameters (K or 1, D or 1) of the gamma variables that `draw_given_sums` needs."""
        k, d = len(count), self.mean.shape[-1]
        degrees_of_freedom, _ = self.covariance_law.inverse_wishart_parameters()
        observed = observed_degrees(count, covariance_type, d)
        return gamma_shapes(degrees_of_freedom + observed, covariance_type, k, d)

    def translate(self, shift: jax.Array) -> MixturePrior:
        """Return the prior after a change of the origin. If this prior is for data x, the result is for the data x - shift."""
        return dataclasses.replace(self, mean=self.mean - shift)

    def _scale_given_scatter(self, scatter: jax.Array, covariance_type: str) -> jax.Array:
        """Return the scale of the inverse Wishart posterior, S plus the pooled scatter, in storage form."""
        _, scale = self.covariance_law.inverse_wishart_parameters()
        pooled = scatter_total(covariance.pool(scatter, covariance_type), covariance_type, self.mean.shape[-1])
        return prior_scale(scale, covariance_type) + pooled

    def _draw_factors(self, scatter: jax.Array, variables: StandardVariables, covariance_type: str) -> covariance.Factors:
        """Draw covariances from their inverse Wishart posterior given a scatter; return the factors of the covariances."""
        scale = self._scale_given_scatter(scatter, covariance_type)
        return inverse_wishart_factors(variables.gammas, variables.bartlett, scale, covariance_type, self.mean.shape[-1])


def log_dirichlet(weights: jax.Array, concentration: jax.Array, present: jax.Array) -> jax.Array:
    """Return the log density (...) of the weights of the present components under the Dirichlet law with `concentration`."""
    c = jnp.where(present, concentration, 0)
    # with c = 1 the density is flat, even at a weight of 0
    kernel = jnp.where(present & (concentration != 1), (concentration - 1) * jnp.log(jnp.where(weights > 0, weights, 1)), 0)
    edge = jnp.where(present & (weights == 0) & (concentration != 1), jnp.where(concentration > 1, -jnp.inf, jnp.inf), 0)
    normaliser = gammaln(c.sum(-1)) - jnp.where(present, gammaln(concentration), 0).sum(-1)
    return normaliser + (kernel + edge).sum(-1)


def check_prior_shapes(prior: object, num_components: int, num_features: int, covariance_type: str) -> None:
    """Raise TypeError if `prior` is not a prior for this covariance type, ValueError if a shape does not match the mixture."""
    if not isinstance(prior, MixturePrior):
        raise TypeError(
            f"prior is {type(prior).__name__}; a jaxgmm.Prior or IndependentPrior was expected, as from jaxgmm.default_prior."
        )
    if jnp.ndim(prior.weight_concentration) == 1 and jnp.ndim(prior.mean) == 1:
        _check_sizes(jnp.size(prior.weight_concentration), jnp.size(prior.mean), num_components, num_features)
    expected: dict[str, tuple[int, ...]] = {"weight_concentration": (num_components,), "mean": (num_features,)}
    for name, shape in (expected | prior.hyperparameter_shapes(num_features, covariance_type)).items():
        given = jnp.shape(attrgetter(name)(prior))
        if given != shape:
            raise ValueError(
                f"prior.{name} has shape {given}; {shape} was expected for K={num_components}, D={num_features} and "
                f"covariance_type={covariance_type!r}."
            )


def _check_sizes(of_components: int, of_features: int, num_components: int, num_features: int) -> None:
    """Raise ValueError if the numbers of components or features of a prior differ from those of the mixture."""
    if of_components != num_components:
        raise ValueError(
            f"prior is for K={of_components} components, the mixture has K={num_components}: prior.weight_concentration has "
            f"shape ({of_components},); ({num_components},) was expected, as from jaxgmm.default_prior(x, num_components="
            f"{num_components})."
        )
    if of_features != num_features:
        raise ValueError(
            f"prior is for D={of_features} features, the mixture has D={num_features}: prior.mean has shape ({of_features},); "
            f"({num_features},) was expected, made from the same columns."
        )


def check_prior(
    prior: MixturePrior, num_components: int, num_features: int, covariance_type: str, *, mode: bool = False
) -> None:
    """Raise TypeError or ValueError if a prior has the wrong type or shapes, or if it is improper.

    For traced values, the function does not check whether the prior is proper.

    If `mode` is True, the prior is for MAP-EM, which also needs concentrations >= 1 and closed forms.
    """
    check_prior_shapes(prior, num_components, num_features, covariance_type)
    reason = reason_without_mode(prior) if mode else None
    if mode and not prior.has_closed_forms:
        raise TypeError(f"{reason}; for MAP-EM use InverseWishart or InverseGamma, or sample with nuts.")
    if is_traced(prior):
        return
    with jax.ensure_compile_time_eval():  # the prior may be a constant inside a function that jit traces
        require_positive(prior.weight_concentration, "prior.weight_concentration")
        if reason is not None:
            raise ValueError(f"{reason}: raise it, or sample (nuts, gibbs).")
        host_values(prior.mean, "prior.mean")
        prior.check_values(num_features, covariance_type)


def check_normalised(prior: MixturePrior, covariance_type: str, what: str) -> None:
    """Raise TypeError if the normalising constant of a prior is not known, or if its law does not exist for the type.

    `what` names the function that needs the normalised density.
    """
    if not prior.covariance_law.is_normalised(covariance_type):
        raise TypeError(
            f"prior is {type(prior).__name__}, whose density is known only up to a constant for covariance_type="
            f"{covariance_type!r}; for {what} use an IndependentPrior whose scale is VolumeShapeOrientation, as from "
            "jaxgmm.default_prior(..., normalised=True)."
        )


def reason_without_mode(prior: MixturePrior) -> str | None:
    """Return the reason why MAP-EM does not accept a valid prior, or None. Traced concentrations are not checked."""
    if not prior.has_closed_forms:
        return f"prior.scale is {type(prior.covariance_law).__name__}, under which the M-step has no closed form"
    if is_traced(prior):
        return None
    lowest = float(host_values(prior.weight_concentration, "prior.weight_concentration").min())
    if lowest >= 1:
        return None
    return (
        f"prior.weight_concentration has {lowest:.4g}; MAP needs values >= 1, below which the density is unbounded at a weight "
        "of 0"
    )
