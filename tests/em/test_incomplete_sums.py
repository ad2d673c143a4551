"""Tests of the E-step of incomplete rows, and of fits that use it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from incomplete_rows import ALLOWED, APPLE, DIAGONAL, LABELS, NOISE, VARIANCES, D, X

import jaxgmm

import oracle
from helpers import COVARIANCE_TYPES, assert_mixtures_close, random_mixture, slow_unless

WEIGHT = np.where(np.arange(len(X)) % 5, 0.5 + np.arange(len(X)) / 10, 0)


def assert_moments(found, expected):
    for name in ("count", "first", "second", "log_likelihood"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=0, atol=1e-10, err_msg=name)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("kind", slow_unless(COVARIANCE_TYPES, ("tied", "diag")))
def test_both_forms_by_direct_marginalisation(kind):
    """Every pattern of four features with weights and labels: grouped by pattern without noise, row by row with noise."""
    mixture = random_mixture(1, kind, d=D)
    grouped = jaxgmm.observations(X, sample_weight=WEIGHT, labels=LABELS, method="patterns")
    assert_moments(jaxgmm.e_step(mixture, grouped), oracle.observed_e_step(mixture, X, WEIGHT, None, ALLOWED))
    noise, matrices = (NOISE, NOISE) if kind in ("full", "diag") else (VARIANCES, DIAGONAL)
    by_row = jaxgmm.observations(X, sample_weight=WEIGHT, labels=ALLOWED, noise=noise)
    assert_moments(jaxgmm.e_step(mixture, by_row), oracle.observed_e_step(mixture, X, WEIGHT, matrices, ALLOWED))


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
@pytest.mark.parametrize("shared", [NOISE[0], VARIANCES[0], None])
@pytest.mark.parametrize("method", ["patterns", "rows"])
def test_noise_of_all_rows(kind, shared, method):
    """Noise that all rows share gives the same moments in both forms."""
    mixture = random_mixture(1, kind, d=D)
    matrix = None if shared is None else np.array([shared if shared.ndim == 2 else np.diag(shared)] * len(X))
    found = jaxgmm.observations(X, noise=shared, method=method)
    assert_moments(jaxgmm.e_step(mixture, found), oracle.observed_e_step(mixture, X, None, matrix))


@pytest.mark.usefixtures("x64")
def test_laws_of_moments():
    """A row of weight 2 counts twice, the order of rows does not matter, and vmap equals a loop."""
    mixture, one = random_mixture(1, "full", d=D), X[:7]
    twice = jaxgmm.e_step(mixture, jaxgmm.observations(np.concatenate([one, one]), method="rows"))
    weights = np.repeat([2.0, 0.0], 7)
    weighted = jaxgmm.observations(np.concatenate([one, np.full_like(one, np.inf)]), sample_weight=weights, method="rows")
    assert_moments(jaxgmm.e_step(mixture, weighted), twice)
    turned = jaxgmm.e_step(mixture, jaxgmm.observations(np.concatenate([one, one])[::-1], method="rows"))
    assert_moments(turned, twice)
    stack = np.stack([X[:14], X[1:15]])
    mapped = jax.vmap(lambda x: jaxgmm.e_step(mixture, jaxgmm.observations(x)))(stack)
    for b in range(2):
        alone = jaxgmm.e_step(mixture, jaxgmm.observations(stack[b], method="rows"))
        assert_moments(jax.tree.map(lambda leaf, b=b: leaf[b], mapped), alone)


@pytest.mark.usefixtures("x64")
def test_apple():
    """One component: maximum likelihood of Little & Rubin's example, as in R's mvnmle, and EM never lowers the objective."""
    found = jaxgmm.observations(APPLE)
    start = jaxgmm.make_mixture([1.0], [[10.0, 40.0]], [np.eye(2) * 50.0])
    fit = jaxgmm.fit(start, found, tol=1e-12)
    assert fit.converged
    assert np.diff(fit.history).min() >= -1e-10
    np.testing.assert_allclose(fit.log_likelihood, -101.785632128, rtol=0, atol=1e-8)
    np.testing.assert_allclose(fit.mixture.means[0], [14.7222656, 49.3332484], rtol=5e-6)
    covariance = [[89.534150, -90.696532], [-90.696532, 114.694700]]
    np.testing.assert_allclose(fit.mixture.covariances[0], covariance, rtol=5e-6)
    moments = jaxgmm.e_step(fit, found)
    after = jaxgmm.m_step(fit, moments, data_covariance=fit.mixture.covariances)
    assert_mixtures_close(after, fit.mixture, 1e-5)


@pytest.mark.usefixtures("x64")
def test_extreme_deconvolution():
    """The example of the extreme deconvolution code: noisy values of two coordinates in turn, K=2.

    The data are one plus the first 200 normal numbers of NumPy's old generator with seed 1, to nine digits. The published start
    has an indefinite covariance, so that the covariances here are diagonal; the mean log-likelihood of the start is the same.
    The end point was computed in another program.
    """
    values = np.array([float(f"{value:.8e}") for value in 1 + np.random.RandomState(1).normal(size=200)])
    x = np.full((200, 2), np.nan)
    x[np.arange(200), np.arange(200) % 2] = values
    with pytest.warns(RuntimeWarning, match="Columns 0 and 1 are never observed in the same row"):
        found = jaxgmm.observations(x, noise=[0.01, 0.01], method="patterns")
    means = [[0.86447943, 0.322681], [0.67078879, 0.45087394]]
    variances = np.array([[0.03821028, 0.03173839], [0.06219194, 0.06778009]])
    start = jaxgmm.make_mixture([0.5, 0.5], means, variances[:, :, None] * np.eye(2))
    np.testing.assert_allclose(jaxgmm.log_prob(start, found).mean(), -7.285240996404623, rtol=0, atol=1e-12)
    with pytest.warns(RuntimeWarning, match="max_iter"):
        fit = jaxgmm.fit(start, found, reg_covar=0.0, tol=0, max_iter=300)
    assert np.diff(fit.history).min() >= -1e-10
    ends = ([[1.09782, 1.64680], [1.23941, 0.92149]], np.array([[0.085526, 0.089763], [0.789890, 0.910253]]))
    end = jaxgmm.make_mixture([0.090023, 0.909977], ends[0], ends[1][:, :, None] * np.eye(2))
    np.testing.assert_allclose(jaxgmm.log_prob(end, found).mean(), -1.3097758715971, rtol=0, atol=1e-8)
    assert fit.log_likelihood / 200 <= -1.3097758715971 + 1e-10


@pytest.mark.usefixtures("x64")
def test_derivative():
    """The implicit derivative of a fit to a value agrees with a finite difference; it is 0 for a missing value."""
    start = jaxgmm.make_mixture([1.0], [[10.0, 40.0]], [np.eye(2) * 50.0])

    def mean(x):
        return jaxgmm.fit(start, jaxgmm.observations(x, method="rows"), tol=1e-13).mixture.means[0, 1]

    gradient = jax.grad(mean)(APPLE)
    step = np.zeros_like(APPLE)
    step[12, 0] = 1e-3
    difference = (mean(APPLE + step) - mean(APPLE - step)) / 2e-3
    np.testing.assert_allclose(gradient[12, 0], difference, rtol=1e-4)
    assert gradient[12, 1] == 0


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("kind", slow_unless(["full", "diag"], ["full"]))
def test_censored_values_by_quadrature(kind):
    """A row whose value lies between limits has the moments of complete rows, integrated over the value."""
    mixture, x = random_mixture(1, kind, d=D), np.array([[0.5, np.nan, -1.0, np.nan], [np.nan, 0.2, 0.3, 1.0]])
    lower, upper = np.array([[0, 0.4, 0, -np.inf], [-np.inf, 0, 0, 0]]), np.array([[0, 1.5, 0, np.inf], [-0.5, 0, 0, 0]])
    with pytest.warns(RuntimeWarning, match="never observed in the same row"):
        found = jaxgmm.observations(x, limits=(lower, upper))
    nodes, weights = np.polynomial.legendre.leggauss(60)
    rows, mass = [], []
    for n, j, (low, high) in ((0, 1, (0.4, 1.5)), (1, 0, (-12.5, -0.5))):
        for edges in np.linspace(low, high, 5)[:-1]:
            width = (high - low) / 4
            points = np.repeat(x[n : n + 1], len(nodes), 0)
            points[:, j] = edges + width * (nodes + 1) / 2
            rows.append(points)
            mass.append(weights * width / 2)
    rows, mass = np.concatenate(rows), np.concatenate(mass)
    joint = oracle.observed_log_joint(mixture, rows)
    density = np.exp(np.logaddexp.reduce(joint, 1)) * mass
    total = density.reshape(2, -1).sum(1)
    np.testing.assert_allclose(jaxgmm.log_prob(mixture, found), np.log(total), rtol=1e-8)
    expected = oracle.observed_e_step(mixture, rows, density / np.repeat(total, len(density) // 2))
    moments = jaxgmm.e_step(mixture, found)
    for name in ("count", "first", "second"):
        np.testing.assert_allclose(getattr(moments, name), getattr(expected, name), atol=1e-7, err_msg=name)


@pytest.mark.usefixtures("x64")
def test_fit_of_censored_values():
    """EM ends where the likelihood of values below a detection limit is largest, and its objective never falls."""
    x = np.random.default_rng(3).normal(size=(18, 2))
    found = jaxgmm.observations(np.where(x < [-0.5, -np.inf], np.nan, x), limits=(None, [-0.5, np.inf]))
    start = jaxgmm.make_mixture([1.0], [[0.5, 0.0]], [np.eye(2)])
    fit = jaxgmm.fit(start, found, tol=1e-13)
    assert np.diff(fit.history).min() >= -1e-10
    slope = jax.jit(jax.grad(lambda means: jaxgmm.log_prob(dataclasses.replace(fit.mixture, means=means), found).sum()))
    np.testing.assert_allclose(slope(fit.mixture.means), 0, atol=1e-4)
    assert (jaxgmm.impute(fit, found)[:, 0] < jnp.where(found.mask()[:, 0], np.inf, -0.5)).all()
