"""Define the laws that a prior can assign to covariances, and the interface that each law implements.

    InverseWishart    covariance matrices of full and tied
    InverseGamma      variances of diag, spherical, EEI and EII
    HalfNormal        standard deviations of these six covariance types, with LKJ correlations

`volume_shape_orientation` defines the law of the other eight covariance types.

With the first two laws, the M-step and the conditional distributions of Gibbs sampling have closed forms. Other code reads two
parameters, nu and S, from each of these laws. For full and tied, the law is then InverseWishart(nu, S). For the other four
types, each variance has the law InverseGamma(nu / 2, S / 2).
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from .. import covariance
from ..covariance import types as covariance_types
from ..covariance.conjugate_terms import prior_scale
from ..covariance.distributions import half_normal_lkj_log_prob, inverse_wishart_log_prob, sample_inverse_wishart
from ..tables import Printed, Table
from .hyperparameters import host_values, hyperparameter_table, require_positive, require_positive_definite


class CovarianceLaw(Printed, ABC):
    """The interface of covariance laws. Each law is a dataclass of arrays that is registered as a pytree."""

    has_closed_forms: ClassVar[bool] = False

    @abstractmethod
    def log_density(
        self, covariances: jax.Array, factors: covariance.Factors, covariance_type: str, num_features: int
    ) -> jax.Array:
        """Return the log density (..., K or 1) of the free entries of each stored covariance."""

    def total_log_density(
        self,
        covariances: jax.Array,
        factors: covariance.Factors,
        covariance_type: str,
        num_features: int,
        present: jax.Array,
    ) -> jax.Array:
        """Return the log density (...) of the covariances of the present components; `present` has the shape (..., K)."""
        values = self.log_density(covariances, factors, covariance_type, num_features)
        stored = present if values.shape[-1] == present.shape[-1] else present.any(-1, keepdims=True)
        return jnp.where(stored, values, 0).sum(-1)

    def is_normalised(self, covariance_type: str) -> bool:
        """Return whether `log_density` includes the normalising constant, for a given covariance type."""
        return not covariance_types.is_coupled(covariance_type)

    @abstractmethod
    def sample(self, key: jax.Array, covariance_type: str, num_components: int, num_features: int) -> jax.Array:
        """Return one draw of a mixture's covariances, in the storage form of the covariance type."""

    @abstractmethod
    def standardise(self, scale: jax.Array, factor: jax.Array) -> CovarianceLaw:
        """Return the law of the covariances of x / scale.

        Args:
            scale: (D,), the numbers by which the features are divided.
            factor: the numbers that divide the entries of one covariance, in storage form without the component axis.
        """

    @abstractmethod
    def typical_variances(self, covariance_type: str, num_features: int) -> jax.Array:
        """Return a variance for each feature, (D,), with the order of magnitude that is typical under the law."""

    @abstractmethod
    def hyperparameter_shapes(self, covariance_type: str, num_features: int) -> dict[str, tuple[int, ...]]:
        """Return the shape that each hyperparameter must have, as a dict from name to shape."""

    @abstractmethod
    def check_values(self, name: str, covariance_type: str, num_features: int) -> None:
        """Raise ValueError if concrete hyperparameters make the law improper; `name` is the name of the law in the message."""

    def inverse_wishart_parameters(self) -> tuple[jax.Array, jax.Array]:
        """Return (nu, S), or raise TypeError if the law has no closed forms."""
        raise TypeError(
            f"{type(self).__name__} is not an inverse Wishart or inverse gamma law; use InverseWishart or InverseGamma."
        )

    def with_scale(self, scale: jax.Array) -> CovarianceLaw:
        """Return the law with another S, or raise TypeError if the law has no closed forms."""
        raise TypeError(f"{type(self).__name__} has no scale S; use InverseWishart or InverseGamma.")


class _ConjugateLaw(CovarianceLaw):
    """A law with closed forms. The parameters (nu, S) of an inverse Wishart law determine it."""

    has_closed_forms: ClassVar[bool] = True

    def log_density(
        self, covariances: jax.Array, factors: covariance.Factors, covariance_type: str, num_features: int
    ) -> jax.Array:
        """Return the log density (..., K or 1) of the free entries of each stored covariance."""
        degrees_of_freedom, scale = self.inverse_wishart_parameters()
        return inverse_wishart_log_prob(factors, degrees_of_freedom, scale, covariance_type, num_features)

    def sample(self, key: jax.Array, covariance_type: str, num_components: int, num_features: int) -> jax.Array:
        """Return one draw of a mixture's covariances, in the storage form of the covariance type."""
        parameters = self.inverse_wishart_parameters()
        return sample_inverse_wishart(key, *parameters, covariance_type, num_components, num_features)

    def typical_variances(self, covariance_type: str, num_features: int) -> jax.Array:
        """Return the diagonal of S, one variance for each feature, (D,)."""
        scale = prior_scale(self.inverse_wishart_parameters()[1], covariance_type)
        return covariance.variances(scale, covariance_type, num_features)[0]


@partial(jax.tree_util.register_dataclass, data_fields=["degrees_of_freedom", "scale"], meta_fields=[])
@dataclass(frozen=True, eq=False, repr=False)
class InverseWishart(_ConjugateLaw):
    """The law Sigma ~ InverseWishart(nu, S) of covariance matrices, for full and tied; its mean is S / (nu - D - 1).

    Source: Gelman et al. (2013), Bayesian Data Analysis, table A.1.

    Attributes:
        degrees_of_freedom: nu () > D - 1.
        scale: S (D, D), in data units squared.

    Example:
        >>> import jax.numpy as jnp, jaxgmm
        >>> scale = jaxgmm.InverseWishart(jnp.array(4.0), jnp.eye(2))
        >>> jaxgmm.IndependentPrior(jnp.ones(3), jnp.zeros(2), 100 * jnp.eye(2), scale).scale.scale.shape
        (2, 2)
    """

    degrees_of_freedom: jax.Array
    scale: jax.Array

    def inverse_wishart_parameters(self) -> tuple[jax.Array, jax.Array]:
        """Return (nu, S)."""
        return self.degrees_of_freedom, self.scale

    def with_scale(self, scale: jax.Array) -> InverseWishart:
        """Return the law with another S."""
        return dataclasses.replace(self, scale=scale)

    def standardise(self, scale: jax.Array, factor: jax.Array) -> InverseWishart:
        """Return the law of the covariances of x / scale."""
        return dataclasses.replace(self, scale=self.scale / factor.reshape(self.scale.shape))

    def hyperparameter_shapes(self, covariance_type: str, num_features: int) -> dict[str, tuple[int, ...]]:
        """Return the shape that each hyperparameter must have, as a dict from name to shape."""
        return {"degrees_of_freedom": (), "scale": covariance_types.prior_scale_shape(covariance_type, num_features)}

    def check_values(self, name: str, covariance_type: str, num_features: int) -> None:
        """Raise ValueError if concrete hyperparameters make the law improper."""
        degrees = float(host_values(self.degrees_of_freedom, f"{name}.degrees_of_freedom"))
        limit = num_features - 1 if covariance.is_dense(covariance_type) else 0
        if degrees <= limit:
            raise ValueError(
                f"{name}.degrees_of_freedom is {degrees:.4g}; a value > {limit} was expected for covariance_type="
                f"{covariance_type!r} and D={num_features}: below it the prior is improper."
            )
        require_positive_definite(self.scale, f"{name}.scale")

    def _tables(self) -> list[Table]:
        return [hyperparameter_table(self, {"degrees_of_freedom": "nu, Sigma_k ~ InverseWishart(nu, S)", "scale": "S"})]


@partial(jax.tree_util.register_dataclass, data_fields=["shape", "rate"], meta_fields=[])
@dataclass(frozen=True, eq=False, repr=False)
class InverseGamma(_ConjugateLaw):
    """The law InverseGamma(shape, rate) of variances, for diag, spherical, EEI and EII; its mean is rate / (shape - 1).

    Source: Gelman et al. (2013), Bayesian Data Analysis, table A.1.

    Attributes:
        shape: () > 0.
        rate: (D,) for diag and EEI, () for spherical and EII, in data units squared.

    Example:
        >>> import jax.numpy as jnp, jaxgmm
        >>> scale = jaxgmm.InverseGamma(jnp.array(2.0), jnp.ones(2))
        >>> jaxgmm.IndependentPrior(jnp.ones(3), jnp.zeros(2), 100 * jnp.eye(2), scale).scale.rate.shape
        (2,)
    """

    shape: jax.Array
    rate: jax.Array

    def inverse_wishart_parameters(self) -> tuple[jax.Array, jax.Array]:
        """Return (nu, S) such that this law is InverseGamma(nu / 2, S / 2)."""
        return 2 * self.shape, 2 * self.rate

    def with_scale(self, scale: jax.Array) -> InverseGamma:
        """Return the law with another S, which is twice the rate."""
        return dataclasses.replace(self, rate=scale / 2)

    def standardise(self, scale: jax.Array, factor: jax.Array) -> InverseGamma:
        """Return the law of the variances of x / scale."""
        return dataclasses.replace(self, rate=self.rate / factor.reshape(self.rate.shape))

    def hyperparameter_shapes(self, covariance_type: str, num_features: int) -> dict[str, tuple[int, ...]]:
        """Return the shape that each hyperparameter must have, as a dict from name to shape."""
        return {"shape": (), "rate": covariance_types.prior_scale_shape(covariance_type, num_features)}

    def check_values(self, name: str, covariance_type: str, num_features: int) -> None:
        """Raise ValueError if concrete hyperparameters make the law improper."""
        require_positive(self.shape, f"{name}.shape")
        require_positive_definite(self.rate, f"{name}.rate")

    def _tables(self) -> list[Table]:
        return [hyperparameter_table(self, {"shape": "a, variances ~ InverseGamma(a, b)", "rate": "b"})]


@partial(jax.tree_util.register_dataclass, data_fields=["sd", "lkj"], meta_fields=[])
@dataclass(frozen=True, eq=False, repr=False)
class HalfNormal(CovarianceLaw):
    """The law with standard deviations ~ HalfNormal(sd) and correlations ~ LKJ(lkj).

    It is for the covariance types full, tied, diag, spherical, EEI and EII. The law is not conjugate and does not keep standard
    deviations away from 0. Use it with `nuts`, `laplace` or `smc`, not with MAP-EM.

    Source of the LKJ law: Lewandowski, Kurowicka & Joe (2009), Journal of Multivariate Analysis 100, 1989-2001.

    Attributes:
        sd: the scale of the half-normal law in data units: () for spherical and EII, (D,) for the other types.
        lkj: () > 0; lkj = 1 gives a flat law of correlation matrices. Only full and tied use lkj.

    Example:
        >>> import jax.numpy as jnp, jaxgmm
        >>> scale = jaxgmm.HalfNormal(jnp.array([1.0, 10.0]), jnp.array(2.0))
        >>> jaxgmm.IndependentPrior(jnp.ones(3), jnp.zeros(2), 100 * jnp.eye(2), scale).scale.sd.tolist()
        [1.0, 10.0]
    """

    sd: jax.Array
    lkj: jax.Array

    def log_density(
        self, covariances: jax.Array, factors: covariance.Factors, covariance_type: str, num_features: int
    ) -> jax.Array:
        """Return the log density (..., K or 1) of the free entries of each stored covariance."""
        return half_normal_lkj_log_prob(covariances, factors, self.sd, self.lkj, covariance_type, num_features)

    def sample(self, key: jax.Array, covariance_type: str, num_components: int, num_features: int) -> jax.Array:
        """Return one draw of a mixture's covariances, in the storage form of the covariance type."""
        key_sd, key_correlation = jax.random.split(key)
        shape, dtype = covariance.storage_shape(covariance_type, num_components, num_features), jnp.result_type(self.sd)
        if not covariance.is_dense(covariance_type):
            return (self.sd * jax.random.normal(key_sd, shape, dtype)) ** 2
        sd = abs(self.sd * jax.random.normal(key_sd, shape[:2], dtype))
        # The correlations of an inverse Wishart matrix follow an LKJ law for only one value of lkj. The onion method works for
        # every value.
        lower = sd[..., None] * _sample_lkj_cholesky(key_correlation, self.lkj, shape[0], num_features, dtype)
        return lower @ jnp.swapaxes(lower, -1, -2)

    def standardise(self, scale: jax.Array, factor: jax.Array) -> HalfNormal:
        """Return the law of the covariances of x / scale."""
        return dataclasses.replace(self, sd=self.sd / (scale if self.sd.ndim else scale[0]))

    def typical_variances(self, covariance_type: str, num_features: int) -> jax.Array:
        """Return a variance for each feature, (D,), with the order of magnitude that is typical under the law."""
        return jnp.broadcast_to(self.sd**2, (num_features,))

    def hyperparameter_shapes(self, covariance_type: str, num_features: int) -> dict[str, tuple[int, ...]]:
        """Return the shape that each hyperparameter must have, as a dict from name to shape."""
        return {"sd": (num_features,) if covariance_types.prior_scale_shape(covariance_type, num_features) else (), "lkj": ()}

    def check_values(self, name: str, covariance_type: str, num_features: int) -> None:
        """Raise ValueError if concrete hyperparameters make the law improper."""
        require_positive(self.sd, f"{name}.sd")
        require_positive(self.lkj, f"{name}.lkj")

    def _tables(self) -> list[Table]:
        return [hyperparameter_table(self, {"sd": "standard deviations ~ HalfNormal(sd)", "lkj": "correlations ~ LKJ(lkj)"})]


def _sample_lkj_cholesky(key: jax.Array, lkj: jax.Array, count: int, num_features: int, dtype: DTypeLike) -> jax.Array:
    """Draw Cholesky factors (count, D, D) of LKJ correlation matrices.

    The draws are made by the onion method of Lewandowski, Kurowicka & Joe (2009), section 3.2.
    """
    d = num_features
    key_beta, key_direction = jax.random.split(key)
    rows = jnp.arange(1, d, dtype=dtype)
    # the squared length of each row's part below the diagonal
    square = jax.random.beta(key_beta, rows / 2, lkj + (d - 1 - rows) / 2, (count, d - 1), dtype)
    direction = jnp.tril(jax.random.normal(key_direction, (count, d, d), dtype), -1)[:, 1:]
    direction = direction / jnp.linalg.norm(direction, axis=-1, keepdims=True)
    below = jnp.concatenate([jnp.zeros((count, 1, d), dtype), jnp.sqrt(square)[..., None] * direction], 1)
    diagonal = jnp.concatenate([jnp.ones((count, 1), dtype), jnp.sqrt(1 - square)], 1)
    return below + diagonal[..., None] * jnp.eye(d, dtype=dtype)
