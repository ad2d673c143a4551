"""The mixture as a NumPyro model: a second, independent definition, which the tests compare with `density` and `priors`.

    weights ~ Dirichlet(c),   Sigma_k ~ InverseWishart(nu, S),   mu_k | Sigma_k ~ N(m, Sigma_k / kappa)
    x_n ~ sum_k w_k N(mu_k, Sigma_k)

Under an IndependentPrior, mu_k ~ N(m, M), and Sigma_k follows an inverse Wishart law, an inverse gamma law, or a half-normal
law with LKJ correlations. The labels of the observations are summed out (Bishop 2006, eq. 9.7). For the covariance types full
and tied, the model samples a Cholesky factor L instead of Sigma = L L'. The log densities of L and Sigma differ by the
log-Jacobian log|dSigma/dL| = D log 2 + sum_i (D - i + 1) log L_ii, with i from 1.
"""

from __future__ import annotations

import math
from typing import cast

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from jax.core import Tracer
from numpy.typing import ArrayLike
from numpyro import handlers

from ..incomplete.observations import Observations
from ..mixture import Mixture
from ..priors.conjugate import Prior
from ..priors.covariance_laws import HalfNormal, InverseGamma, InverseWishart
from ..priors.independent import IndependentPrior
from ..priors.volume_shape_orientation import VolumeShapeOrientation
from .coupled_model import sample_coupled

_NAMES = {"VVV": "full", "EEE": "tied", "VVI": "diag", "VII": "spherical"}  # codes of the covariance types
_VARIANCES = ("diag", "spherical", "EEI", "EII", "VEI", "EVI")  # the types whose covariances are stored as variances
_MATRICES = ("full", "tied", "VEE", "EVE", "VVE", "EEV", "VEV", "EVV")
_COUPLED = ("VEI", "EVI", "VEE", "EVE", "VVE", "EEV", "VEV", "EVV")  # the types for which `coupled_model` samples the sites


def model(
    x: ArrayLike | Observations,
    prior: Prior | IndependentPrior,
    *,
    num_components: int,
    covariance_type: str = "full",
    sample_weight: ArrayLike | None = None,
    axes: ArrayLike | None = None,
) -> None:
    """The NumPyro model of a Gaussian mixture, for use with NumPyro's own tools: MCMC, SVI, Predictive, `log_density`.

    The model has the sites weights (K,) and means (K, D). The site of the covariances depends on the covariance type: it is
    scale_tril for full (K, D, D) and tied (1, D, D), and variances for diag (K, D), spherical (K, 1), EEI (1, D) and EII
    (1, 1). Under a HalfNormal prior there are the sites scales and corr_tril instead; only full and tied have corr_tril, and
    only if D > 1. The other eight covariance types need a VolumeShapeOrientation law. They have sites for volumes, shapes and
    orientations: volumes; log_shapes; rotation_1, rotation_2 and so on, with entries of skew-symmetric matrices; and for VEE
    and EVV, diagonal and below, with entries of triangular matrices. The deterministic site covariances holds the covariances
    as a Mixture stores them. The observed site is x. The model does not validate its arguments, and its labels are not
    identified: see `nuts`, which starts at an EM solution, and `relabel`.

    Args:
        x: (N, D), or `observations`. Incomplete observations have the additional site incomplete, a factor that accounts for
            labels and missing values. Limits are part of the logits of the components.
        prior: a Prior or IndependentPrior, in the units of x.
        num_components: K.
        covariance_type: the covariance type, by name or code.
        sample_weight: (N,) >= 0, or None. A row with an integer weight w counts as w equal rows. A row of weight 0 is ignored,
            whatever values it holds.
        axes: (K, D, D), orthogonal matrices whose columns are axes about which the rotations of EVE, VVE, EEV and VEV are
            expressed, such as eigenvectors of covariances fitted by EM; None: the axes of the data. They change the meaning of
            the sites, but not the distribution of the covariances.

    Returns:
        None: a NumPyro model declares sites and returns no value.

    Raises:
        ValueError, TypeError: the covariance type is unknown, the prior is not for it, or shapes do not fit together.

    Example:
        >>> import jax, jaxgmm, numpyro
        >>> x = jaxgmm.datasets.load("faithful")
        >>> prior = jaxgmm.default_prior(x, num_components=2, covariance_type="diag")
        >>> seeded = numpyro.handlers.seed(jaxgmm.model, jax.random.key(0))
        >>> trace = numpyro.handlers.trace(seeded).get_trace(x, prior, num_components=2, covariance_type="diag")
        >>> list(trace)
        ['weights', 'variances', 'means', 'covariances', 'observations', 'x']
    """
    if isinstance(x, Observations):
        sample_weight = x.weight
    rows = x if isinstance(x, Observations) else jnp.asarray(x)
    covariance_type = _NAMES.get(covariance_type, covariance_type)
    if covariance_type not in _VARIANCES + _MATRICES:
        raise ValueError(
            f"covariance_type is {covariance_type!r}, which the NumPyro model does not support; one of "
            f"{', '.join(map(repr, _MATRICES + _VARIANCES))} was expected."
        )
    weights, means, lower = parameters(
        prior,
        num_components=num_components,
        num_features=rows.shape[1],
        covariance_type=covariance_type,
        axes=None if axes is None else jnp.asarray(axes),
    )
    if isinstance(rows, Observations) and not rows.is_plain:
        _observe_incomplete(rows, weights, means, _square(lower, covariance_type), covariance_type)
        return
    rows = rows.x if isinstance(rows, Observations) else rows
    if covariance_type in _MATRICES:
        normal = dist.MultivariateNormal(means, scale_tril=lower)
    else:
        normal = dist.Normal(means, jnp.broadcast_to(lower, means.shape)).to_event(1)
    mixture = dist.MixtureSameFamily(dist.Categorical(logits=jnp.log(weights)), normal)
    with numpyro.plate("observations", len(rows)):
        if sample_weight is None:
            numpyro.sample("x", mixture, obs=rows)
            return
        weight = jnp.asarray(sample_weight)
        present = weight > 0
        with handlers.mask(mask=present), handlers.scale(scale=jnp.where(present, weight, 1)):
            numpyro.sample("x", mixture, obs=jnp.where(present[:, None], rows, prior.mean))


def _observe_incomplete(
    rows: Observations, weights: jax.Array, means: jax.Array, covariances: jax.Array, covariance_type: str
) -> None:
    """Declare the observed values of incomplete rows.

    Each missing value is replaced by 0, and its distribution by N(0, 1), which does not depend on the parameters. The factor
    removes the densities of these values. It also adds the log probability of the label and of the limits, which the logits do
    not contain, because NumPyro divides the probabilities of the components by their sum.
    """
    (n, d), observed, noise = rows.shape, rows.mask(), rows.noise
    if covariance_type not in _MATRICES:
        covariances = jnp.broadcast_to(covariances, means.shape)[..., None] * jnp.eye(d)
    if noise is None:
        noise = jnp.zeros((1, d))
    noise = noise[..., None] * jnp.eye(d) if noise.ndim == 2 else noise
    both = observed[:, None, :, None] & observed[:, None, None, :]
    matrices = jnp.where(both, covariances + noise[:, None], jnp.eye(d))  # (N, K, D, D)
    logits = jnp.broadcast_to(jnp.log(weights), (n, len(weights)))
    if rows.allowed is not None:
        labels = rows.allowed
        allowed = labels if labels.ndim == 2 else (labels[:, None] < 0) | (labels[:, None] == jnp.arange(len(weights)))
        logits = jnp.where(allowed, logits, -jnp.inf)
    if rows.lower is not None:
        logits += _log_probability_of_limits(rows, means, covariances, matrices)
    normal = dist.MultivariateNormal(jnp.where(observed[:, None], means, 0), covariance_matrix=matrices, **_checks(matrices))
    components = dist.Categorical(logits=logits, validate_args=False)  # logits of -inf are valid here, but NumPyro rejects them
    correction = jax.nn.logsumexp(logits, -1) + (d - observed.sum(-1)) / 2 * math.log(2 * math.pi)
    weight = jnp.ones(n) if rows.weight is None else rows.weight
    present = weight > 0
    with numpyro.plate("observations", n), handlers.mask(mask=present), handlers.scale(scale=jnp.where(present, weight, 1)):
        numpyro.sample("x", dist.MixtureSameFamily(components, normal), obs=rows.x)
        numpyro.factor("incomplete", correction)


def _log_probability_of_limits(rows: Observations, means: jax.Array, covariances: jax.Array, matrices: jax.Array) -> jax.Array:
    """Return the log probability that the censored values lie between their limits given the observed values, (N, K).

    Args:
        rows: observations with limits.
        means: (K, D).
        covariances: (K or 1, D, D).
        matrices: the covariances of the observed values, (N, K, D, D), with the identity in place of missing values.
    """
    assert rows.lower is not None
    assert rows.upper is not None
    observed = rows.mask()[:, None]
    cross = jnp.where(observed[..., None], covariances, 0)  # (N, K, D, D), covariances of the observed values with all values
    slopes = jnp.linalg.solve(matrices, jnp.broadcast_to(cross, matrices.shape))
    residuals = jnp.where(observed, rows.x[:, None] - means, 0)
    center = means + (residuals[..., None] * slopes).sum(-2)
    variances = jnp.diagonal(covariances, axis1=-2, axis2=-1) - (cross * slopes).sum(-2)
    censored = (jnp.isfinite(rows.lower) | jnp.isfinite(rows.upper)) & (rows.lower < rows.upper)
    sd = jnp.sqrt(jnp.where(censored[:, None], variances, 1))
    # Derivatives with respect to infinite limits would be NaN, so finite numbers take the place of such limits.
    has_low, has_high = (jnp.isfinite(limit)[:, None] & censored[:, None] for limit in (rows.lower, rows.upper))
    low = (jnp.where(has_low, rows.lower[:, None], 0) - center) / sd
    high = (jnp.where(has_high, rows.upper[:, None], 0) - center) / sd
    mirrored = has_low & (~has_high | (low + high > 0))  # differences of probabilities are accurate below the mean
    low, high = jnp.where(mirrored, -high, low), jnp.where(mirrored, -low, high)
    has_low, has_high = jnp.where(mirrored, has_high, has_low), jnp.where(mirrored, has_low, has_high)
    normal = dist.Normal()
    below = jnp.where(has_high, normal.log_cdf(jnp.where(has_high, high, 0)), 0)
    share = jnp.where(has_low, normal.log_cdf(jnp.where(has_low, low, 0)) - below, -1)
    log_probability = below + jnp.where(has_low, jnp.log(-jnp.expm1(share)), 0)
    return jnp.where(censored[:, None], log_probability, 0).sum(-1)


def parameters(
    prior: Prior | IndependentPrior,
    *,
    num_components: int,
    num_features: int,
    covariance_type: str,
    axes: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Sample the sites of the parameters, declare the site covariances, and return the parameters.

    They are weights (K,), means (K, D), and Cholesky factors (K, D, D) or standard deviations (K, D). Axes that all components
    or all features share have length 1.
    """
    k, d = num_components, num_features
    weights = _sample("weights", dist.Dirichlet(prior.weight_concentration))
    law = prior if isinstance(prior, Prior) else prior.scale
    if covariance_type in _COUPLED:
        if not isinstance(law, VolumeShapeOrientation):
            raise TypeError(
                f"prior has a law of type {type(law).__name__}; an IndependentPrior whose scale is VolumeShapeOrientation was "
                f"expected for covariance_type={covariance_type!r}."
            )
        lower = sample_coupled(law, k, d, covariance_type, axes)
    else:
        assert not isinstance(law, VolumeShapeOrientation)
        lower = _factors(law, k, d, covariance_type)
    if not isinstance(prior, Prior):
        matrix = prior.mean_covariance
        mean = dist.MultivariateNormal(prior.mean, matrix, **_checks(matrix)).expand([k]).to_event(1)
    elif covariance_type in _MATRICES:
        root = lower / jnp.sqrt(prior.mean_precision)
        mean = dist.MultivariateNormal(prior.mean, scale_tril=root, **_checks(root)).expand([k]).to_event(1)
    else:
        mean = dist.Normal(prior.mean, jnp.broadcast_to(lower, (k, d)) / jnp.sqrt(prior.mean_precision)).to_event(2)
    means = _sample("means", mean)
    numpyro.deterministic("covariances", _square(lower, covariance_type))
    return weights, means, lower


def _factors(scale: Prior | InverseWishart | InverseGamma | HalfNormal, k: int, d: int, covariance_type: str) -> jax.Array:
    """Sample the sites from which the covariances are computed; return Cholesky factors or standard deviations."""
    dense = covariance_type in _MATRICES
    stored = 1 if covariance_type in ("tied", "EEI", "EII") else k
    columns = 1 if covariance_type in ("spherical", "EII") else d
    if isinstance(scale, HalfNormal):
        scales = _sample("scales", dist.HalfNormal(scale.sd).expand([stored, columns]).to_event(2))
        if not dense:
            return scales
        if d == 1:  # one feature has no correlations
            return scales[..., None]
        return scales[..., None] * _sample("corr_tril", dist.LKJCholesky(d, scale.lkj).expand([stored]).to_event(1))
    if isinstance(scale, InverseGamma):
        shape, rate = scale.shape, scale.rate
    elif not dense:
        shape, rate = scale.degrees_of_freedom / 2, scale.scale / 2
    else:
        lower = jnp.linalg.cholesky(scale.scale)
        law = dist.InverseWishartCholesky(scale.degrees_of_freedom, scale_tril=lower, **_checks(lower))
        return _sample("scale_tril", law.expand([stored]).to_event(1))
    return jnp.sqrt(_sample("variances", dist.InverseGamma(shape, rate).expand([stored, columns]).to_event(2)))


def _sample(name: str, distribution: dist.Distribution) -> jax.Array:
    """Sample a site and return its value, which is an array."""
    return cast(jax.Array, numpyro.sample(name, distribution))


def _checks(argument: jax.Array) -> dict[str, bool]:
    """Return the options of a NumPyro distribution of matrices. If its argument is traced, they switch NumPyro's check off.

    NumPyro cannot check traced values. With the check on, it would still compile those operations of the check that do not
    depend on the values.
    """
    return {"validate_args": False} if isinstance(argument, Tracer) else {}


def _square(lower: jax.Array, covariance_type: str) -> jax.Array:
    """Compute covariances from Cholesky factors, or variances from standard deviations."""
    if covariance_type in _MATRICES:
        return jnp.matmul(lower, jnp.swapaxes(lower, -1, -2), precision=jax.lax.Precision.HIGHEST)
    return lower**2


def sites_of(mixture: Mixture, prior: Prior | IndependentPrior) -> dict[str, jax.Array]:
    """Convert a mixture to the values of the model's sites under a given prior; see `coupled_sites` for coupled covariances."""
    sites = {"weights": mixture.weights, "means": mixture.means}
    dense, half_normal = mixture.covariance_type in _MATRICES, isinstance(getattr(prior, "scale", None), HalfNormal)
    if not dense:
        return sites | ({"scales": jnp.sqrt(mixture.covariances)} if half_normal else {"variances": mixture.covariances})
    lower = jnp.linalg.cholesky(mixture.covariances)
    if not half_normal:
        return sites | {"scale_tril": lower}
    scales = jnp.sqrt(jnp.diagonal(mixture.covariances, axis1=-2, axis2=-1))
    sites["scales"] = scales
    return sites if mixture.num_features == 1 else sites | {"corr_tril": lower / scales[..., None]}


def mixture_of(sites: dict[str, jax.Array], covariance_type: str) -> tuple[Mixture, jax.Array]:
    """Convert values of the sites to a mixture, and return it with log|d covariances / d sites| ().

    For scale_tril L, the docstring of this module gives the log determinant. For scales s and corr_tril C, the covariance is
    Sigma = diag(s) C C' diag(s), and the free entries of C are those below its diagonal. The determinant is then
    2^D prod_i s_i^D prod_j C_jj^(D - j), with j from 1.
    """
    d, lower = sites["means"].shape[-1], root_of(sites, covariance_type)
    if "variances" in sites:
        log_det = jnp.zeros(())
    elif "scale_tril" in sites:
        diagonal = jnp.diagonal(lower, axis1=-2, axis2=-1)
        log_det = (math.log(2) + jnp.arange(d, 0, -1) * jnp.log(diagonal)).sum()
    elif covariance_type in _MATRICES:
        diagonal = jnp.diagonal(lower, axis1=-2, axis2=-1) / sites["scales"]
        powers = jnp.arange(d - 1, -1, -1)
        log_det = (math.log(2) + d * jnp.log(sites["scales"]) + powers * jnp.log(diagonal)).sum()
    else:
        log_det = jnp.log(2 * lower).sum()
    covariances = sites["variances"] if "variances" in sites else _square(lower, covariance_type)
    mixture = Mixture(sites["weights"], sites["means"], covariances, covariance_type)
    return mixture, jnp.asarray(log_det, covariances.dtype)


def root_of(sites: dict[str, jax.Array], covariance_type: str) -> jax.Array:
    """Compute Cholesky factors (K or 1, D, D), or standard deviations (K, D or 1), from values of the sites."""
    if "variances" in sites:
        return jnp.sqrt(sites["variances"])
    if "scale_tril" in sites:
        return sites["scale_tril"]
    if covariance_type not in _MATRICES:
        return sites["scales"]
    return sites["scales"][..., None] * sites.get("corr_tril", jnp.ones((*sites["scales"].shape, 1), sites["scales"].dtype))
