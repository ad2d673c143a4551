"""The prior that MAP-EM, Gibbs, Laplace and NUTS share.

    weights ~ Dirichlet(c),   Sigma_k ~ InverseWishart(nu, S),   mu_k | Sigma_k ~ N(m, Sigma_k / kappa)

diag and spherical: variances ~ InverseGamma(nu / 2, S / 2), a feature or one for all; tied: one Sigma. A second family,
`IndependentPrior`, has means free of the covariances, as most published analyses do. Densities here are in (weights, means,
covariances), normalised: weights with respect to K - 1 of them, covariances with respect to their free entries.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import gammaln

from .. import covariance, linalg
from ..mixture import Mixture, check_mixture
from ..tables import Printed, Table, numbers_of
from ..validation import (
    as_data,
    as_float_array,
    as_sample_weight,
    check_count,
    check_covariance_type,
    check_key,
    is_positive_definite,
    is_traced,
    zero_ignored_rows,
)


@partial(
    jax.tree_util.register_dataclass,
    meta_fields=[],
    data_fields=["weight_concentration", "mean", "mean_precision", "degrees_of_freedom", "scale"],
)
@dataclass(frozen=True, eq=False, repr=False)
class Prior(Printed):
    """The conjugate prior of a mixture; every hyperparameter is an array, so priors vmap.

    Attributes:
        weight_concentration: c (K,) > 0; 1 is flat. MAP-EM needs c >= 1.
        mean: m (D,), in data units.
        mean_precision: kappa () > 0: how many observations the prior of each mean is worth.
        degrees_of_freedom: nu () > D - 1 (full, tied), > 0 (diag, spherical).
        scale: S, data units squared: (D, D) for full and tied, (D,) for diag, () for spherical.

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

    def _tables(self) -> list[Table]:
        dense = np.ndim(self.scale) - np.ndim(self.mean_precision) == 2
        law = "Sigma_k ~ InverseWishart(nu, S)" if dense else "variances ~ InverseGamma(nu / 2, S / 2)"
        laws = {
            "weight_concentration": "c, weights ~ Dirichlet(c)",
            "mean": "m, mean_k ~ N(m, Sigma_k / kappa)",
            "mean_precision": "kappa",
            "degrees_of_freedom": f"nu, {law}",
            "scale": "S",
        }
        return [_prior_table(self, laws)]


@partial(jax.tree_util.register_dataclass, data_fields=["degrees_of_freedom", "scale"], meta_fields=[])
@dataclass(frozen=True, eq=False, repr=False)
class InverseWishart(Printed):
    """Sigma ~ InverseWishart(nu, S), for full and tied, with mean S / (nu - D - 1). Gelman et al. (2013), table A.1.

    Attributes:
        degrees_of_freedom: nu () > D - 1.
        scale: S (D, D), data units squared.

    Example:
        >>> import jax.numpy as jnp, jaxgmm
        >>> scale = jaxgmm.InverseWishart(jnp.array(4.0), jnp.eye(2))
        >>> jaxgmm.IndependentPrior(jnp.ones(3), jnp.zeros(2), 100 * jnp.eye(2), scale).scale.scale.shape
        (2, 2)
    """

    degrees_of_freedom: jax.Array
    scale: jax.Array

    def _tables(self) -> list[Table]:
        return [_prior_table(self, {"degrees_of_freedom": "nu, Sigma_k ~ InverseWishart(nu, S)", "scale": "S"})]


@partial(jax.tree_util.register_dataclass, data_fields=["shape", "rate"], meta_fields=[])
@dataclass(frozen=True, eq=False, repr=False)
class InverseGamma(Printed):
    """Variances ~ InverseGamma(shape, rate), for diag and spherical: mean rate / (shape - 1). Gelman et al. (2013), table A.1.

    Attributes:
        shape: () > 0.
        rate: (D,) for diag, () for spherical, data units squared.

    Example:
        >>> import jax.numpy as jnp, jaxgmm
        >>> scale = jaxgmm.InverseGamma(jnp.array(2.0), jnp.ones(2))
        >>> jaxgmm.IndependentPrior(jnp.ones(3), jnp.zeros(2), 100 * jnp.eye(2), scale).scale.rate.shape
        (2,)
    """

    shape: jax.Array
    rate: jax.Array

    def _tables(self) -> list[Table]:
        return [_prior_table(self, {"shape": "a, variances ~ InverseGamma(a, b)", "rate": "b"})]


@partial(jax.tree_util.register_dataclass, data_fields=["sd", "lkj"], meta_fields=[])
@dataclass(frozen=True, eq=False, repr=False)
class HalfNormal(Printed):
    """Standard deviations ~ HalfNormal(sd), correlations ~ LKJ(lkj): sd (D,) or () in data units, lkj () > 0.

    Not conjugate, and it does not keep standard deviations from 0: for samplers, not for MAP-EM. Spherical takes sd (),
    the others (D,); lkj counts for full and tied only. Lewandowski, Kurowicka & Joe (2009).

    Attributes:
        sd: (D,) or (), data units.
        lkj: () > 0; 1 is flat over correlation matrices.

    Example:
        >>> import jax.numpy as jnp, jaxgmm
        >>> scale = jaxgmm.HalfNormal(jnp.array([1.0, 10.0]), jnp.array(2.0))
        >>> jaxgmm.IndependentPrior(jnp.ones(3), jnp.zeros(2), 100 * jnp.eye(2), scale).scale.sd.tolist()
        [1.0, 10.0]
    """

    sd: jax.Array
    lkj: jax.Array

    def _tables(self) -> list[Table]:
        return [_prior_table(self, {"sd": "standard deviations ~ HalfNormal(sd)", "lkj": "correlations ~ LKJ(lkj)"})]


@partial(
    jax.tree_util.register_dataclass, meta_fields=[], data_fields=["weight_concentration", "mean", "mean_covariance", "scale"]
)
@dataclass(frozen=True, eq=False, repr=False)
class IndependentPrior(Printed):
    """A prior whose means do not depend on the covariances: mu_k ~ N(m, M), Sigma_k by `scale`, weights ~ Dirichlet(c).

    Attributes:
        weight_concentration: c (K,) > 0; 1 is flat. MAP-EM needs c >= 1.
        mean: m (D,), in data units.
        mean_covariance: M (D, D), data units squared.
        scale: InverseWishart (full, tied), InverseGamma (diag, spherical) or HalfNormal (any; samplers only).

    Example:
        >>> import jax, jax.numpy as jnp, jaxgmm
        >>> scale = jaxgmm.InverseGamma(jnp.array(2.0), jnp.array(1.0))
        >>> prior = jaxgmm.IndependentPrior(jnp.ones(2), jnp.zeros(1), jnp.eye(1), scale)
        >>> recipe = {"num_components": 2, "covariance_type": "spherical", "num_samples": 5}
        >>> jaxgmm.sample_prior(jax.random.key(0), prior, **recipe).covariances.shape
        (5, 2, 1)
    """

    weight_concentration: jax.Array
    mean: jax.Array
    mean_covariance: jax.Array
    scale: InverseWishart | InverseGamma | HalfNormal

    def _tables(self) -> list[Table]:
        laws = {
            "weight_concentration": "c, weights ~ Dirichlet(c)",
            "mean": "m, mean_k ~ N(m, M)",
            "mean_covariance": "M",
        }
        return [_prior_table(self, laws, least=1), *self.scale._tables()]


def _prior_table(prior: Any, laws: dict[str, str], *, least: int = 0) -> Table:
    """A row for each hyperparameter: name, shape, value, place in the law; no values of a stack, of more axes than `least`."""
    values = {name: getattr(prior, name) for name in laws}
    stacked = min(map(np.ndim, values.values())) > least
    rows = [[name, str(np.shape(value)), "" if stacked else numbers_of(value), laws[name]] for name, value in values.items()]
    return Table(type(prior).__name__, ("", "shape", "value", "law"), rows, left=(0, 1, 2, 3))


def covariance_prior(prior: Prior | IndependentPrior) -> tuple[jax.Array, jax.Array]:
    """(nu, S) of the inverse Wishart, or of the inverse gamma(nu / 2, S / 2), in either family."""
    scale = prior if isinstance(prior, Prior) else prior.scale
    if isinstance(scale, InverseGamma):
        return 2 * scale.shape, 2 * scale.rate
    return scale.degrees_of_freedom, scale.scale


def default_prior(x: Any, *, num_components: int, covariance_type: str = "full", sample_weight: Any = None) -> Prior:
    """The weakly informative, data-scaled prior of Fraley & Raftery (2007), section 3, with each feature on its own scale.

    c = 1, m = column means, kappa = 0.01, nu = D + 2 and S = V / K^(2 / D), V the data's covariance in the type's form
    (full and tied the matrix, diag the variances, spherical their average). Singular data (a constant or collinear
    column, one row) get a small multiple of their own scale on the diagonal, so that the prior is always proper.

    It looks at the data, which are thus used twice: right for estimation, wrong for simulation-based calibration and for
    comparing evidence across transformations of the data.

    Args:
        x: (N, D).
        num_components: K.
        covariance_type: "full", "tied", "diag" or "spherical".
        sample_weight: (N,) >= 0, or None.

    Returns:
        A Prior in x's float dtype.

    Raises:
        ValueError, TypeError: x is empty, not finite or not (N, D); an option is out of range.

    Example:
        >>> import jaxgmm, numpy as np
        >>> jaxgmm.default_prior(np.array([[0.0], [2.0]]), num_components=2).mean.tolist()
        [1.0]
    """
    check_count(num_components, "num_components")
    check_covariance_type(covariance_type)
    x = as_data(zero_ignored_rows(x, sample_weight), check_values=True)
    if len(x) == 0:
        raise ValueError(f"x has shape {x.shape}: no rows; at least one was expected.")
    weight = as_sample_weight(sample_weight, len(x), x.dtype, check_values=True)
    prior = _default_prior(x, weight, num_components, covariance_type)
    # beside the fields, for they are the contract: it does not outlive tree.map, jit and vmap
    object.__setattr__(prior, "_data_scaled", True)
    return prior


def is_data_scaled(prior: Any) -> bool:
    """Whether this very object came from `default_prior`; a copy through jit, vmap or tree.map does not tell."""
    return getattr(prior, "_data_scaled", False)


@partial(jax.jit, static_argnums=(2, 3))  # whole: operation by operation it costs a second of a first call
def _default_prior(x: jax.Array, weight: jax.Array | None, num_components: int, covariance_type: str) -> Prior:
    center, scatter = _moments_of_data(x, weight, covariance_type)
    d = x.shape[1]
    # the dtype floor: one part in sqrt(eps) of a feature's variance, or of its magnitude squared if it is constant
    eps = float(jnp.finfo(x.dtype).eps)
    diagonal = linalg.diagonal(scatter) if covariance.is_dense(covariance_type) else scatter
    size = jnp.where(abs(center) > 0, center**2, 1)
    floor = jnp.where(diagonal > 64 * eps**2 * size, math.sqrt(eps) * diagonal, math.sqrt(eps) * size)
    scatter = covariance.ridge(scatter, floor, covariance_type)
    if covariance.prior_scale_shape(covariance_type, d) == ():
        scatter = scatter.mean()
    array = partial(jnp.asarray, dtype=x.dtype)
    return Prior(jnp.ones(num_components, x.dtype), center, array(0.01), array(d + 2.0), scatter / num_components ** (2 / d))


def log_prior(mixture: Mixture, prior: Prior | IndependentPrior, *, present: jax.Array | None = None) -> jax.Array:
    """Log prior density of (weights, means, covariances), nats, normalised.

    Components of weight exactly 0 are absent and do not count, nor does their share of the Dirichlet: a mixture with
    masked components has the density of the smaller mixture.

    Args:
        mixture: with leading axes (...).
        prior: a Prior or IndependentPrior whose shapes go with it.
        present: (..., K) booleans: which components count; by default those of positive weight.

    Returns:
        (...).

    Raises:
        ValueError: the prior's shapes do not go with the mixture.

    Example:
        >>> import jaxgmm, numpy as np
        >>> x = np.array([[0.0], [1.0], [2.0]])
        >>> prior = jaxgmm.default_prior(x, num_components=1)
        >>> jaxgmm.log_prior(jaxgmm.make_mixture([1.0], [[1.0]], [[[1.0]]]), prior).shape
        ()
    """
    check_mixture(mixture)
    check_prior_shapes(prior, mixture)
    present = mixture.weights > 0 if present is None else present
    factors = covariance.factorize(mixture.covariances, mixture.covariance_type, mixture.num_features)
    return log_prior_factored(mixture, factors, prior, present)


def log_prior_factored(
    mixture: Mixture, factors: covariance.Factors, prior: Prior | IndependentPrior, present: jax.Array
) -> jax.Array:
    """`log_prior` for those who have the factors already."""
    total = log_dirichlet(mixture.weights, prior.weight_concentration, present)
    return total + _log_covariances(mixture, factors, prior, present) + _log_means(mixture, factors, prior, present)


def sample_prior(
    key: jax.Array, prior: Prior | IndependentPrior, *, num_components: int, covariance_type: str = "full", num_samples: int
) -> Mixture:
    """Independent draws of mixtures from a prior.

    Args:
        key: a random key.
        prior: with concentrations (K,).
        num_components: K.
        covariance_type: "full", "tied", "diag" or "spherical".
        num_samples: S.

    Returns:
        A Mixture with leading (S,).

    Raises:
        ValueError, TypeError: the prior does not fit, an option is out of range.

    Example:
        >>> import jax, jaxgmm, numpy as np
        >>> prior = jaxgmm.default_prior(np.array([[0.0], [1.0]]), num_components=2)
        >>> jaxgmm.sample_prior(jax.random.key(0), prior, num_components=2, num_samples=3).means.shape
        (3, 2, 1)
    """
    check_key(key)
    check_count(num_components, "num_components")
    check_count(num_samples, "num_samples")
    check_covariance_type(covariance_type)
    check_prior(prior, num_components, prior.mean.shape[-1], covariance_type)
    d, dtype = prior.mean.shape[-1], prior.mean.dtype

    def one(key: jax.Array) -> Mixture:
        key_weights, key_covariances, key_means = jax.random.split(key, 3)
        weights = jax.random.dirichlet(key_weights, prior.weight_concentration)
        covariances = _sample_covariances(key_covariances, prior, covariance_type, num_components, d)
        noise = jax.random.normal(key_means, (num_components, d), dtype)
        if isinstance(prior, Prior):
            lower = covariance.factorize(covariances, covariance_type, d).lower
            noise = covariance.transform(lower, noise, covariance_type) / jnp.sqrt(prior.mean_precision)
        else:
            noise = noise @ linalg.cholesky(prior.mean_covariance).T
        means = prior.mean + noise
        return Mixture(weights, means, covariances, covariance_type)

    return jax.vmap(one)(jax.random.split(key, num_samples))


def log_dirichlet(weights: jax.Array, concentration: jax.Array, present: jax.Array) -> jax.Array:
    """Log density (...) of the present weights under a Dirichlet of their own concentrations."""
    c = jnp.where(present, concentration, 0)
    # c = 1 is flat at a weight of 0 too
    kernel = jnp.where(present & (concentration != 1), (concentration - 1) * jnp.log(jnp.where(weights > 0, weights, 1)), 0)
    edge = jnp.where(present & (weights == 0) & (concentration != 1), jnp.where(concentration > 1, -jnp.inf, jnp.inf), 0)
    normaliser = gammaln(c.sum(-1)) - jnp.where(present, gammaln(concentration), 0).sum(-1)
    return normaliser + (kernel + edge).sum(-1)


def _sample_covariances(key: jax.Array, prior: Prior | IndependentPrior, covariance_type: str, k: int, d: int) -> jax.Array:
    if not isinstance(prior, Prior) and isinstance(prior.scale, HalfNormal):
        key_sd, key_correlation = jax.random.split(key)
        shape = covariance.storage_shape(covariance_type, k, d)
        dtype = prior.mean.dtype
        if not covariance.is_dense(covariance_type):
            return (prior.scale.sd * jax.random.normal(key_sd, shape, dtype)) ** 2
        sd = abs(prior.scale.sd * jax.random.normal(key_sd, shape[:2], dtype))
        # the correlation of an inverse Wishart has LKJ's law at one concentration only: use the onion of partial correlations
        lower = sd[..., None] * _sample_lkj_cholesky(key_correlation, prior.scale.lkj, shape[0], d, dtype)
        return lower @ jnp.swapaxes(lower, -1, -2)
    return covariance.sample_inverse_wishart(key, *covariance_prior(prior), covariance_type, k, d)


def _sample_lkj_cholesky(key: jax.Array, lkj: jax.Array, count: int, d: int, dtype: Any) -> jax.Array:
    """Cholesky factors (count, D, D) of LKJ correlations. Lewandowski, Kurowicka & Joe (2009), section 3.2 (onion)."""
    key_beta, key_direction = jax.random.split(key)
    rows = jnp.arange(1, d, dtype=dtype)
    square = jax.random.beta(
        key_beta, rows / 2, lkj + (d - 1 - rows) / 2, (count, d - 1), dtype
    )  # squared length below the diagonal
    direction = jnp.tril(jax.random.normal(key_direction, (count, d, d), dtype), -1)[:, 1:]
    direction = direction / jnp.linalg.norm(direction, axis=-1, keepdims=True)
    below = jnp.concatenate([jnp.zeros((count, 1, d), dtype), jnp.sqrt(square)[..., None] * direction], 1)
    diagonal = jnp.concatenate([jnp.ones((count, 1), dtype), jnp.sqrt(1 - square)], 1)
    return below + diagonal[..., None] * jnp.eye(d, dtype=dtype)


def _log_covariances(
    mixture: Mixture, factors: covariance.Factors, prior: Prior | IndependentPrior, present: jax.Array
) -> jax.Array:
    kind, d = mixture.covariance_type, mixture.num_features
    if not isinstance(prior, Prior) and isinstance(prior.scale, HalfNormal):
        density = covariance.half_normal_lkj_log_prob(mixture.covariances, factors, prior.scale.sd, prior.scale.lkj, kind, d)
    else:
        density = covariance.inverse_wishart_log_prob(factors, *covariance_prior(prior), kind, d)  # (..., K | 1)
    counts = present if density.shape[-1] == mixture.num_components else present.any(-1, keepdims=True)
    return jnp.where(counts, density, 0).sum(-1)


def _log_means(mixture: Mixture, factors: covariance.Factors, prior: Prior | IndependentPrior, present: jax.Array) -> jax.Array:
    d, deviation = mixture.num_features, mixture.means - prior.mean
    if isinstance(prior, Prior):
        kappa = prior.mean_precision
        z = covariance.transform(factors.whitener, deviation, mixture.covariance_type)  # (..., K, D)
        density = d / 2 * jnp.log(kappa / (2 * math.pi)) - factors.half_log_det - kappa / 2 * (z**2).sum(-1)
    else:
        lower = linalg.cholesky(prior.mean_covariance)
        z = deviation @ jnp.swapaxes(linalg.invert_lower(lower), -1, -2)
        density = -d / 2 * math.log(2 * math.pi) - jnp.log(linalg.diagonal(lower)).sum() - (z**2).sum(-1) / 2
    return jnp.where(present, density, 0).sum(-1)


def _moments_of_data(x: jax.Array, weight: jax.Array | None, covariance_type: str) -> tuple[jax.Array, jax.Array]:
    """Mean (D,) and scatter over the total weight, (D, D) or (D,); rows of weight 0 may hold anything."""
    weight = jnp.ones(len(x), x.dtype) if weight is None else weight
    x = jnp.where(weight[:, None] > 0, x, 0)
    total = weight.sum()
    rough = weight @ x / total
    centred = jnp.where(weight[:, None] > 0, x - rough, 0)
    correction = weight @ centred / total  # a second pass: the rounding of the first sum is gone
    centred = centred - correction
    if covariance.is_dense(covariance_type):
        scatter = jnp.matmul((weight[:, None] * centred).T, centred, precision=jax.lax.Precision.HIGHEST)
    else:
        scatter = weight @ centred**2
    return rough + correction, scatter / total


def check_prior_shapes(prior: Prior | IndependentPrior, mixture: Mixture) -> None:
    """Refuses a prior whose type or shapes do not go with a mixture."""
    if not isinstance(prior, Prior | IndependentPrior):
        raise TypeError(
            f"prior is {type(prior).__name__}; a jaxgmm.Prior or IndependentPrior was expected, as from jaxgmm.default_prior."
        )
    k, d, kind = mixture.num_components, mixture.num_features, mixture.covariance_type
    form = covariance.prior_scale_shape(kind, d)
    expected: dict[str, tuple] = {"weight_concentration": (k,), "mean": (d,)}
    if isinstance(prior, Prior):
        expected |= {"mean_precision": (), "degrees_of_freedom": (), "scale": form}
    else:
        expected |= {"mean_covariance": (d, d)} | _scale_shapes(prior, kind, d)
    for name, shape in expected.items():
        got = jnp.shape(attrgetter(name)(prior))
        if got != shape:
            raise ValueError(
                f"prior.{name} has shape {got}; {shape} was expected for K={k}, D={d} and covariance_type={kind!r}."
            )


def _scale_shapes(prior: IndependentPrior, covariance_type: str, num_features: int) -> dict[str, tuple]:
    form, dense = covariance.prior_scale_shape(covariance_type, num_features), covariance.is_dense(covariance_type)
    if isinstance(prior.scale, HalfNormal):
        return {"scale.sd": (num_features,) if form else (), "scale.lkj": ()}
    fitting = InverseWishart if dense else InverseGamma
    if not isinstance(prior.scale, fitting):
        raise TypeError(
            f"prior.scale is {type(prior.scale).__name__}; {fitting.__name__} or HalfNormal was expected for "
            f"covariance_type={covariance_type!r}."
        )
    return {"scale.degrees_of_freedom": (), "scale.scale": form} if dense else {"scale.shape": (), "scale.rate": form}


def check_prior(
    prior: Prior | IndependentPrior, num_components: int, num_features: int, covariance_type: str, *, mode: bool = False
) -> None:
    """Refuses a prior of the wrong shape or, where values are concrete, an improper one.

    mode: for MAP-EM, which also needs concentrations >= 1 and a conjugate scale.
    """
    shape = jax.ShapeDtypeStruct((num_components, num_features), jnp.float32)
    check_prior_shapes(prior, Mixture(shape, shape, shape, covariance_type))
    if mode and not isinstance(prior, Prior) and isinstance(prior.scale, HalfNormal):
        raise TypeError(
            "prior.scale is HalfNormal, which has no closed M-step and no mode away from 0; for MAP-EM use "
            "InverseWishart or InverseGamma, or sample with nuts."
        )
    if is_traced(prior):
        return
    with jax.ensure_compile_time_eval():  # constants inside somebody's jit
        _check_prior_values(prior, num_features, covariance_type, mode)


def _check_prior_values(prior: Prior | IndependentPrior, num_features: int, covariance_type: str, mode: bool) -> None:
    def array(value: Any, name: str) -> np.ndarray:
        """On the host, where nothing needs to be compiled."""
        return np.asarray(as_float_array(value, name, check_values=True))

    lowest = float(array(prior.weight_concentration, "prior.weight_concentration").min())
    _require_positive(lowest, "prior.weight_concentration")
    if mode and lowest < 1:
        raise ValueError(
            f"prior.weight_concentration has {lowest:.4g}; MAP needs values >= 1, below which the density is "
            "unbounded at a weight of 0: raise it, or sample (nuts, gibbs)."
        )
    array(prior.mean, "prior.mean")
    if isinstance(prior, Prior):
        _require_positive(float(array(prior.mean_precision, "prior.mean_precision")), "prior.mean_precision")
    else:
        _require_positive_definite(array(prior.mean_covariance, "prior.mean_covariance"), "prior.mean_covariance")
    if not isinstance(prior, Prior) and isinstance(prior.scale, HalfNormal):
        _require_positive(float(array(prior.scale.sd, "prior.scale.sd").min()), "prior.scale.sd")
        _require_positive(float(array(prior.scale.lkj, "prior.scale.lkj")), "prior.scale.lkj")
        return
    nu, scale = covariance_prior(prior)
    nu, limit = float(array(nu, "prior degrees of freedom")), num_features - 1 if covariance.is_dense(covariance_type) else 0
    if nu <= limit:
        raise ValueError(
            f"prior.degrees_of_freedom is {nu:.4g}; a value > {limit} was expected for covariance_type="
            f"{covariance_type!r} and D={num_features}: below it the prior is improper."
        )
    _require_positive_definite(array(scale, "prior.scale"), "prior.scale")


def _require_positive(value: float, name: str) -> None:
    if value <= 0:
        raise ValueError(f"{name} has {value:.4g}; values > 0 were expected.")


def _require_positive_definite(scale: np.ndarray, name: str) -> None:
    if not (is_positive_definite(scale) if scale.ndim == 2 else (scale > 0).all()):
        raise ValueError(
            f"{name} is not positive definite; a covariance (or variances > 0) in data units squared was expected."
        )
