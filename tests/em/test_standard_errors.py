"""standard_errors: published figures, closed forms, weights, absent components, priors and singular information."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from jaxgmm.em.standard_errors import InformationStatus

from helpers import TWO_COVARIANCE_TYPES, slow_unless


def test_acidity_tied(x64):
    """Standard errors of acidity with two components of equal variance agree with published ones."""
    x = jaxgmm.datasets.load("acidity")
    fit = jaxgmm.fit(jaxgmm.from_labels(x, (x[:, 0] > 5.3).astype(int), num_components=2, covariance_type="tied"), x, tol=1e-13)
    errors = jaxgmm.standard_errors(fit.mixture, x)
    np.testing.assert_allclose(errors.weights, 0.04042, atol=5e-6)
    np.testing.assert_allclose(errors.means[:, 0], [0.04742, 0.06295], atol=5e-6)
    np.testing.assert_allclose(errors.covariances.ravel(), 0.02228, atol=5e-6)


@pytest.mark.slow
def test_waiting_full(x64):
    """Standard errors of the waiting times of faithful, K = 2, agree with published ones; for the sd by the delta method."""
    x = jaxgmm.datasets.load("faithful")[:, 1:]
    fit = jaxgmm.fit(jaxgmm.from_labels(x, (x[:, 0] > 67).astype(int), num_components=2), x, tol=1e-13)
    errors = jaxgmm.standard_errors(fit.mixture, x)
    np.testing.assert_allclose(errors.weights, 0.03116, atol=5e-6)
    np.testing.assert_allclose(errors.means[:, 0], [0.69967, 0.50459], atol=1e-5)
    sd = jnp.sqrt(fit.mixture.covariances.ravel())
    np.testing.assert_allclose(errors.covariances.ravel() / (2 * sd), [0.53732, 0.40096], atol=1e-5)


@pytest.mark.parametrize("covariance_type", TWO_COVARIANCE_TYPES)
def test_k1_closed_form(covariance_type, x64):
    """For K = 1, se(mean) = sd / sqrt(N), se(variance) = variance sqrt(2 / N) (spherical: / sqrt(D)) and se(weight) = 0."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 3)) * [1, 2, 3]
    mixture = jaxgmm.from_labels(x, np.zeros(200, int), num_components=1, covariance_type=covariance_type)
    errors = jaxgmm.standard_errors(mixture, x)
    variances = np.asarray(jaxgmm.covariance.variances(mixture.covariances, covariance_type, 3))[0]
    np.testing.assert_allclose(errors.means[0], np.sqrt(variances / 200), rtol=1e-8)
    got = np.asarray(jaxgmm.covariance.variances(errors.covariances, covariance_type, 3))[0]
    np.testing.assert_allclose(got, variances * np.sqrt(2 / (200 * (3 if covariance_type == "spherical" else 1))), rtol=1e-8)
    np.testing.assert_allclose(errors.weights, 0, atol=1e-12)


@pytest.mark.parametrize("estimator", slow_unless(("observed", "sandwich"), ("sandwich",)))  # it contains the observed one
def test_weights_and_absent_components(estimator, x64):
    """Integer weights act as repetition, weight 0 removes NaN too; an absent component changes nothing and gets NaN."""
    x = jaxgmm.datasets.load("iris")
    labels = np.repeat([0, 1, 1], 50)
    mixture = jaxgmm.fit(jaxgmm.from_labels(x, labels, num_components=2, covariance_type="diag"), x, tol=1e-12).mixture
    weight = np.arange(150) % 3
    holed = np.where(weight[:, None] == 0, np.nan, x)
    weighted = jaxgmm.standard_errors(mixture, holed, kind=estimator, sample_weight=weight)
    repeated = jaxgmm.standard_errors(mixture, np.repeat(x, weight, axis=0), kind=estimator)
    for a, b in zip(jax.tree.leaves(weighted), jax.tree.leaves(repeated), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-8)
    with_absent = jaxgmm.Mixture(
        jnp.append(mixture.weights, 0.0),
        jnp.vstack([mixture.means, mixture.means[:1]]),
        jnp.vstack([mixture.covariances, mixture.covariances[:1]]),
        "diag",
    )
    errors = jaxgmm.standard_errors(with_absent, np.repeat(x, weight, axis=0), kind=estimator)
    np.testing.assert_allclose(errors.means[:2], repeated.means, rtol=1e-8)
    assert np.isnan(errors.means[2]).all()
    assert np.isnan(errors.weights[2])


def test_prior_reduces_standard_errors(x64):
    """The curvature of the log prior adds to the information."""
    x = jaxgmm.datasets.load("faithful")
    prior = jaxgmm.default_prior(x, num_components=2)
    mixture = jaxgmm.fit(jaxgmm.from_labels(x, (x[:, 1] > 67).astype(int), num_components=2), x, prior, tol=1e-12).mixture
    without, with_prior = jaxgmm.standard_errors(mixture, x), jaxgmm.standard_errors(mixture, x, prior)
    assert bool((with_prior.means < without.means).all())


def test_singular_information_is_a_status():
    """Two equal components give NaN and a status, also under vmap, beside a sound mixture."""
    x = jaxgmm.datasets.load("acidity").astype(np.float32)
    sound = jaxgmm.fit(jaxgmm.from_labels(x, (x[:, 0] > 5.3).astype(int), num_components=2), x).mixture
    same = jax.tree.map(lambda leaf: jnp.stack([leaf[0], leaf[0]]), sound)
    same = jaxgmm.Mixture(jnp.array([0.5, 0.5]), same.means, same.covariances, "full")
    both = jax.tree.map(lambda *leaves: jnp.stack(leaves), sound, same)
    errors = jax.jit(jax.vmap(lambda m: jaxgmm.standard_errors(m, x)))(both)
    assert errors.status.tolist() == [InformationStatus.OK, InformationStatus.SINGULAR]
    assert bool(jnp.isfinite(errors.means[0]).all())
    assert bool(jnp.isnan(errors.means[1]).all())


def test_errors():
    """An unknown estimator raises an error that lists the known ones."""
    x = jaxgmm.datasets.load("acidity")
    with pytest.raises(ValueError, match="'observed', 'sandwich'"):
        jaxgmm.standard_errors(jaxgmm.from_labels(x, np.zeros(155, int), num_components=1), x, kind="bootstrap")


@pytest.mark.parametrize("code", slow_unless(("EII", "EEI", "VEI", "EVI", "EEV", "EVV", "VEE", "VVE"), ("VVE",)))
def test_one_component(code, x64):
    """For K = 1, the coordinates of the type are another parametrisation of diag or full, so the standard errors agree."""
    x = np.random.default_rng(0).normal(size=(200, 3)) @ np.array([[1, 0.3, 0], [0, 2, 0.5], [0, 0, 3]])
    mixture = jaxgmm.from_labels(x, np.zeros(200, int), num_components=1, covariance_type=code)
    name = {"EII": "spherical", "EEI": "diag", "VEI": "diag", "EVI": "diag"}.get(code, "full")
    free = jaxgmm.Mixture(mixture.weights, mixture.means, mixture.covariances, name)
    errors, expected = jaxgmm.standard_errors(mixture, x), jaxgmm.standard_errors(free, x)
    assert int(errors.status) == InformationStatus.OK
    for a, b in zip(jax.tree.leaves(errors), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("code", ["EEV", pytest.param("VVE", marks=pytest.mark.slow)])
def test_nearly_equal_axes(code, x64):
    """If the variances along the axes are nearly equal, errors are those of full; if they are equal, the status says so."""
    x = np.random.default_rng(0).normal(size=(200, 2))
    x = (x - x.mean(0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(x.T, ddof=0))).T
    for ratio, status in [(1.0001, InformationStatus.OK), (1.0, InformationStatus.SINGULAR)]:
        scaled = x * [1, ratio]
        full = jaxgmm.Mixture(np.ones(1), np.zeros((1, 2)), np.diag([1, ratio**2])[None], "full")
        errors = jaxgmm.standard_errors(jaxgmm.Mixture(full.weights, full.means, full.covariances, code), scaled)
        assert int(errors.status) == status
        expected = jaxgmm.standard_errors(full, scaled).covariances if ratio > 1 else np.full((1, 2, 2), np.nan)
        np.testing.assert_allclose(errors.covariances, expected, rtol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("code", ["EII", "EEI", "VEI", "EVI", "VEE", "EVE", "VVE", "EEV", "VEV", "EVV"])
def test_standard_errors_of_the_bootstrap(code, x64):
    """Standard errors agree with those of 400 resamples of 600 rows.

    The bootstrap has a relative error of 1 / sqrt(800) = 3.5 %, and the normal approximation a few percent. The ratios of 14 to
    20 standard errors lie within 20 % of 1 with near certainty.
    """
    rng = np.random.default_rng(7)
    root = np.array([[1.0, 0.0], [0.5, 0.7]])
    x = np.concatenate([rng.normal(size=(250, 2)) @ root.T, 1.4 * rng.normal(size=(350, 2)) @ root + [7.0, 4.0]])
    start = jaxgmm.from_labels(x, np.repeat([0, 1], [250, 350]), num_components=2, covariance_type=code)
    fit = jaxgmm.fit(start, x, tol=1e-12, max_iter=3000)
    errors = jaxgmm.standard_errors(fit, x, kind="sandwich")  # the types do not fit the data, so the observed one is wrong
    draws = jaxgmm.bootstrap(jax.random.key(0), fit, x, num_samples=400, progress=False).mixture
    for name in ("weights", "means", "covariances"):
        values = np.asarray(getattr(draws, name))
        spread = values.reshape(-1, *values.shape[2:]).std(0)
        np.testing.assert_allclose(getattr(errors, name), spread, rtol=0.2, atol=1e-12)


@pytest.mark.slow
def test_shared_shape_and_orientation(x64):
    """The standard errors of VEE are those of another parametrisation: exp(v_k) L L' with |L| = 1, by the delta method."""
    rng = np.random.default_rng(1)
    root = np.array([[1.0, 0.0], [0.8, 0.6]])
    x = np.concatenate([rng.normal(size=(60, 2)) @ root, 2 * rng.normal(size=(80, 2)) @ root + [6.0, -3.0]])
    start = jaxgmm.from_labels(x, np.repeat([0, 1], [60, 80]), num_components=2, covariance_type="VEE")
    mixture = jaxgmm.fit(start, x, tol=1e-14, max_iter=2000).mixture

    def at(theta):
        lower = jnp.array([[jnp.exp(theta[0]), 0.0], [theta[1], jnp.exp(-theta[0])]])
        covariances = jnp.exp(theta[2:4])[:, None, None] * (lower @ lower.T)
        weights = jnp.stack([theta[4], 1 - theta[4]])
        return jaxgmm.Mixture(weights, theta[5:].reshape(2, 2), covariances, "full")

    sigma = np.asarray(mixture.covariances)
    volumes = np.log(np.linalg.det(sigma)) / 2
    lower = np.linalg.cholesky(sigma[0] / np.exp(volumes[0]))
    theta = np.concatenate([[np.log(lower[0, 0]), lower[1, 0]], volumes, mixture.weights[:1], np.ravel(mixture.means)])
    np.testing.assert_allclose(at(theta).covariances, sigma, rtol=1e-8)
    information = -jax.jit(jax.hessian(lambda t: jaxgmm.log_prob(at(t), x).sum()))(theta)
    slopes = jax.jacfwd(lambda t: at(t).covariances)(theta)
    variances = np.einsum("kabi,ij,kabj->kab", slopes, np.linalg.inv(information), slopes)
    errors = jaxgmm.standard_errors(mixture, x)
    np.testing.assert_allclose(errors.covariances, np.sqrt(variances), rtol=1e-4)
    np.testing.assert_allclose(np.ravel(errors.means) ** 2, np.diag(np.linalg.inv(information))[5:], rtol=1e-4)
