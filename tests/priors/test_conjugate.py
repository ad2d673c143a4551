"""The conjugate prior: its density against scipy, its means in closed form, what makes it improper."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from jaxgmm.priors.interface import ComponentSums

import oracle
from helpers import COVARIANCE_TYPES, random_mixture, random_prior

log_prior = jax.jit(jaxgmm.log_prior)


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_density_is_scipys(kind, x64):
    """The density is that of Dirichlet, inverse Wishart (or gamma) and normal laws; absent components do not count."""
    mixture, prior = random_mixture(0, kind), random_prior(0, kind)
    np.testing.assert_allclose(log_prior(mixture, prior), oracle.log_prior(mixture, prior), rtol=1e-11)
    absent = dataclasses.replace(mixture, weights=jnp.array([0.3, 0.7, 0.0]))
    np.testing.assert_allclose(log_prior(absent, prior), oracle.log_prior(absent, prior), rtol=1e-11)
    stack = jax.tree.map(lambda a, b: jnp.stack([a, b]), mixture, random_mixture(1, kind))
    both = log_prior(stack, prior)
    np.testing.assert_allclose(both, [log_prior(stack[0], prior), log_prior(stack[1], prior)], rtol=1e-12)


def test_means_given_sums():
    """(n xbar + kappa m) / (n + kappa): the prior mean without rows, the rows' mean where there are very many."""
    prior, mixture = random_prior(0, "diag"), random_mixture(0, "diag")
    sums = ComponentSums(jnp.array([0.0, 2.0, 1e9]), jnp.ones((3, 3)), jnp.zeros((3, 3)))
    means, scatter = prior.maximize_means(mixture, sums)
    np.testing.assert_allclose(means[0], prior.mean, rtol=1e-6)
    np.testing.assert_allclose(means[1], (2 + 0.3 * np.asarray(prior.mean)) / 2.3, rtol=1e-6)
    np.testing.assert_allclose(means[2], np.ones(3), rtol=1e-6)
    shrinkage = np.array([0, 0.3 * 2 / 2.3, 0.3])
    np.testing.assert_allclose(scatter, shrinkage[:, None] * (1 - np.asarray(prior.mean)) ** 2, rtol=1e-5)


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_standard_deviations_of_means(kind):
    """sqrt(S / nu / kappa), feature by feature."""
    prior = random_prior(0, kind)
    scale = np.asarray(prior.scale)
    variances = {"full": np.diag, "tied": np.diag}.get(kind, lambda s: np.broadcast_to(s, 3))(scale)
    expected = np.sqrt(variances / float(prior.degrees_of_freedom) / 0.3)
    np.testing.assert_allclose(prior.standard_deviations_of_means(kind), expected, rtol=1e-6)


def test_improper_values_are_named():
    """Each hyperparameter by its name."""
    prior = random_prior(0, "full")
    for field, value, sentence in [
        ("mean_precision", 0.0, "prior.mean_precision has 0; values > 0"),
        ("degrees_of_freedom", 2.0, "prior.degrees_of_freedom is 2; a value > 2 was expected"),
        ("scale", -np.eye(3), "prior.scale is not positive definite"),
    ]:
        with pytest.raises(ValueError, match=sentence):
            dataclasses.replace(prior, **{field: jnp.asarray(value)}).check_values(3, "full")
