"""The law of covariances that share volumes, shapes or orientations: density, draws, change of units, and validation."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats
from numpyro.infer import Predictive

import jaxgmm
from jaxgmm.covariance.types import TYPES, code_of, is_coupled
from jaxgmm.posterior.model import model

from helpers import coupled_prior, random_data

DEFAULT = ("EVV", "EVE")  # matrices, and shapes with axes; the other types are in the slow tests
COUPLED = [name if name in DEFAULT else pytest.param(name, marks=pytest.mark.slow) for name in TYPES if is_coupled(name)]


def slow_log_density(covariances, law, code):
    """Return the log density of covariances (K, D, D) as loops over the components, from the formulas of the module."""
    k, d = covariances.shape[:2]
    scale = np.asarray(law.scale, float)
    matrix = scale * np.eye(d) if scale.ndim < 2 else scale
    log_rate = np.linalg.slogdet(matrix)[1] / d
    nu = d - 1 + 2 / float(law.shape_sd) ** 2
    total = 0.0
    for component in range(k):
        log_volume = np.linalg.slogdet(covariances[component])[1] / d
        one = covariances[component] / math.exp(log_volume)
        if code[0] == "V" or component == 0:
            total += scipy.stats.invgamma(float(law.volume_shape), scale=math.exp(log_rate)).logpdf(math.exp(log_volume))
        if code[1] == "E" and component > 0:
            continue
        if code in ("VEE", "EVV"):
            total += nu * d / 2 * (log_rate - math.log(np.trace(matrix @ np.linalg.inv(one))))
            total += scipy.special.gammaln(nu * d / 2) - scipy.special.multigammaln(nu / 2, d)
            continue
        logs = np.log(np.diag(one) / np.diag(matrix)) + log_rate if code[2] == "I" else np.log(np.linalg.eigvalsh(one))
        within = scipy.linalg.null_space(np.ones((1, d))).T @ logs  # orthonormal coordinates of the vectors with sum 0
        total += scipy.stats.norm(0, float(law.shape_sd)).logpdf(within).sum()
    return total


@pytest.mark.parametrize("kind", COUPLED)
def test_density_is_the_slow_one(kind, x64):
    """Normalised log densities, one by one and with an absent component, which counts as if it did not exist."""
    prior = coupled_prior(kind, 3, 3)
    mixture = jaxgmm.sample_prior(jax.random.key(1), prior, num_components=3, covariance_type=kind, num_samples=1)[0]
    dense = np.asarray(mixture.covariances)
    dense = dense if dense.ndim == 3 else np.stack([np.diag(row) for row in dense])

    def rest(count):
        c, w, mean = (np.asarray(v) for v in (prior.weight_concentration, mixture.weights, prior.mean))
        weights = scipy.stats.dirichlet(c[:count]).logpdf(w[:count] / w[:count].sum()) if count > 1 else 0.0
        return weights + scipy.stats.multivariate_normal(mean, prior.mean_covariance).logpdf(mixture.means[:count]).sum()

    expected = rest(3) + slow_log_density(dense, prior.scale, code_of(kind))
    np.testing.assert_allclose(jaxgmm.log_prior(mixture, prior), expected, rtol=1e-10)
    weights = mixture.weights.at[2].set(0) / mixture.weights[:2].sum()
    two = jaxgmm.Mixture(weights, mixture.means, mixture.covariances, kind)
    expected = rest(2) + slow_log_density(dense[:2], prior.scale, code_of(kind))
    np.testing.assert_allclose(jaxgmm.log_prior(two, prior), expected, rtol=1e-10)


@pytest.mark.parametrize(
    "kind", ["VEV", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("EVI", "EVV", "VEE", "EVE"))]
)
def test_draws_follow_the_law(kind):
    """Logarithms of the variances and correlations have the means of NumPyro's draws: 12 z-values below 5 (failure: 1e-5)."""
    prior, options = coupled_prior(kind, 2, 2), {"num_components": 2, "covariance_type": kind}
    ours = jaxgmm.sample_prior(jax.random.key(0), prior, num_samples=4000, **options).covariances
    sampled = Predictive(model, num_samples=4000)(jax.random.key(1), random_data(0, 1, 2), prior, **options)

    def summaries(covariances):
        values = np.asarray(covariances, float)
        values = values if values.ndim == 4 else values[..., None] * np.eye(2)
        logs = np.log(np.diagonal(values, axis1=-2, axis2=-1)).reshape(len(values), -1)
        correlations = values[..., 0, 1] / np.exp(np.log(np.diagonal(values, axis1=-2, axis2=-1)).mean(-1))
        return np.concatenate([logs, logs**2, correlations, correlations**2], 1)

    one, two = summaries(ours), summaries(sampled["covariances"])
    error = np.sqrt((one.var(0) + two.var(0)) / 4000)
    assert (abs(one.mean(0) - two.mean(0)) < 5 * error + 1e-12).all()


@pytest.mark.parametrize("kind", COUPLED)
def test_change_of_units(kind, x64):
    """The density of standardised parameters is that of the parameters, times the change of volumes and means."""
    prior, d = coupled_prior(kind, 2, 3), 3
    scale = jnp.full(d, 1.7) if np.ndim(prior.scale.scale) == 0 else jnp.array([0.3, 1.7, 20.0])
    shift = jnp.array([1.0, -2.0, 0.5])
    factor = scale[:, None] * scale
    mixture = jaxgmm.sample_prior(jax.random.key(2), prior, num_components=2, covariance_type=kind, num_samples=1)[0]
    divisor = factor if mixture.covariances.ndim == 3 else scale**2
    moved = jaxgmm.Mixture(mixture.weights, (mixture.means - shift) / scale, mixture.covariances / divisor, kind)
    new = jaxgmm.log_prior(moved, prior.standardise(shift, scale, factor))
    volumes = 2 if code_of(kind)[0] == "V" else 1
    change = 2 * jnp.log(scale).sum() + volumes * 2 / d * jnp.log(scale).sum()
    np.testing.assert_allclose(new, jaxgmm.log_prior(mixture, prior) + change, rtol=1e-10)


def test_default_prior_for_samplers():
    """EM's prior stays as it is; with `normalised`, types with shared parts get this law, and other types the usual prior."""
    x = random_data(0, 50, 3)
    covariance = np.cov(x.T, bias=True)
    for kind in ("tied", "VEI", "VEE", "VEV"):
        options = {"num_components": 2, "covariance_type": kind}
        usual, prior = jaxgmm.default_prior(x, **options), jaxgmm.default_prior(x, **options, normalised=True)
        assert type(usual) is jaxgmm.Prior
        if kind == "tied":
            assert type(prior) is jaxgmm.Prior
            continue
        assert isinstance(prior, jaxgmm.IndependentPrior)
        scale = covariance / 2 ** (2 / 3) / 2
        volume = np.linalg.det(scale) ** (1 / 3)
        expected = {"VEI": np.diag(scale), "VEE": scale, "VEV": volume}[kind]
        np.testing.assert_allclose(prior.scale.scale, expected, rtol=2e-3)
        prior.check_values(3, kind)
    with pytest.raises(TypeError, match="True or False"):
        jaxgmm.default_prior(x, num_components=2, normalised=1)


def test_invalid_laws():
    """Wrong shapes, values outside their range, and types without shared parts are refused in one sentence."""
    key, options = jax.random.key(0), {"num_components": 2, "num_samples": 2}
    cases = [
        ("full", (2.0, np.eye(2), 1.0), TypeError, "VolumeShapeOrientation; InverseWishart or HalfNormal was expected"),
        ("VEV", (2.0, np.eye(2), 1.0), ValueError, r"prior.scale.scale has shape \(2, 2\); \(\) was expected"),
        ("VEE", (2.0, np.ones((2, 2)), 1.0), ValueError, "prior.scale.scale is not positive definite"),
        ("EVI", (-1.0, np.ones(2), 1.0), ValueError, "prior.scale.volume_shape has -1; values > 0"),
        ("VEI", (1.0, np.ones(2), 0.0), ValueError, "prior.scale.shape_sd has 0; values > 0"),
    ]
    for kind, values, error, message in cases:
        law = jaxgmm.VolumeShapeOrientation(*map(jnp.asarray, values))
        prior = jaxgmm.IndependentPrior(jnp.ones(2), jnp.zeros(2), jnp.eye(2), law)
        with pytest.raises(error, match=message):
            jaxgmm.sample_prior(key, prior, covariance_type=kind, **options)
    with pytest.raises(TypeError, match="VolumeShapeOrientation"):
        jaxgmm.fit(
            jaxgmm.initialize(key, random_data(0, 30, 2), num_components=2, covariance_type="VEV"),
            random_data(0, 30, 2),
            coupled_prior("VEV", 2, 2),
        )
