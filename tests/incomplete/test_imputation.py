"""Tests of imputed and denoised rows."""

import jax
import numpy as np
import pytest
from incomplete_rows import ALLOWED, FIRST, LABELS, LIMITS, NOISE, VARIANCES, D, X

import jaxgmm

import oracle
from helpers import random_mixture, slow_unless


@pytest.mark.usefixtures("x64")
def test_means_and_covariances():
    """Conditional means and covariances of complete rows, averaged over the components, by direct marginalisation."""
    mixture, noise = random_mixture(1, "full", d=D), NOISE
    joint = oracle.observed_log_joint(mixture, X, noise, ALLOWED)
    r = np.exp(joint - np.logaddexp.reduce(joint, 1)[:, None])
    found = jaxgmm.observations(X, noise=noise, labels=LABELS)
    means, covariances = jaxgmm.denoise(mixture, found)
    for n in range(len(X)):
        laws = [oracle.observed_row(oracle.of(mixture), k, X[n], noise[n])[1:] for k in range(3)]
        mean = sum(r[n, k] * laws[k][0] for k in range(3))
        spread = sum(r[n, k] * (laws[k][1] + np.outer(laws[k][0] - mean, laws[k][0] - mean)) for k in range(3))
        np.testing.assert_allclose(means[n], mean, atol=1e-9)
        np.testing.assert_allclose(covariances[n], spread, atol=1e-9)
    np.testing.assert_allclose(jaxgmm.impute(mixture, found), np.where(np.isnan(X), means, X), atol=1e-9)


@pytest.mark.usefixtures("x64")
def test_draws():
    """Draws have the conditional means and variances, within five standard errors; observed values do not change."""
    mixture, found = random_mixture(1, "diag", d=D), jaxgmm.observations(X, labels=LABELS)
    draws = np.asarray(jaxgmm.impute(mixture, found, key=jax.random.key(0), num_imputations=2000))
    means, covariances = jaxgmm.denoise(mixture, found)
    variances = np.maximum(np.diagonal(covariances, axis1=1, axis2=2), 0)
    assert (draws == X)[:, ~np.isnan(X)].all()
    assert (abs(draws.mean(0) - means) <= 5 * np.sqrt(variances / 2000) + 1e-9).all()
    missing = np.isnan(X)
    np.testing.assert_allclose(draws.var(0)[missing], variances[missing], rtol=0.3)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("kind", slow_unless(["full", "diag"], ["full"]))
def test_draws_between_limits(kind):
    """Draws of censored rows lie between the limits; means and covariances are right within five standard errors.

    `denoise` computes these from closed forms; `test_incomplete_sums` checks these forms by quadrature.
    """
    mixture, noise = random_mixture(1, kind, d=D), NOISE if kind == "full" else VARIANCES
    found = jaxgmm.observations(X, limits=LIMITS, noise=noise)
    draws = np.asarray(jaxgmm.impute(mixture, found, key=jax.random.key(0), num_imputations=1000))
    means, covariances = (np.asarray(leaf) for leaf in jaxgmm.denoise(mixture, found))
    missing = np.isnan(X)
    assert ((draws >= LIMITS[0]) & (draws <= LIMITS[1]))[:, FIRST].all()
    variances = np.diagonal(covariances, axis1=1, axis2=2)
    error = np.sqrt(variances / 1000)
    assert (abs(draws.mean(0) - means) <= 5 * error)[missing].all()
    both = missing[:, :, None] & missing[:, None]
    deviations = draws - means
    products = deviations[..., :, None] * deviations[..., None, :]
    assert (abs(products.mean(0) - covariances) <= 5 * products.std(0) / np.sqrt(1000))[both].all()


def test_stacks_and_wrong_calls():
    """A stack of mixtures gives a stack of results; draws need both options."""
    mixture, found = random_mixture(1, "spherical", d=D), jaxgmm.observations(X[:3])
    stack = jax.tree.map(lambda leaf: leaf[None].repeat(2, 0), mixture)
    assert jaxgmm.impute(stack, found).shape == (2, 3, D)
    with pytest.raises(TypeError, match="key and num_imputations must be given together"):
        jaxgmm.impute(mixture, found, key=jax.random.key(0))
    with pytest.raises(TypeError, match="x is ndarray; observations were expected"):
        jaxgmm.denoise(mixture, X)
