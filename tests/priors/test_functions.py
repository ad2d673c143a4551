"""Log density and draws of priors: moments of the draws from JAX and from NumPy, refusals."""

import dataclasses
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from jaxgmm.priors.functions import COVARIANCE_LAWS, FAMILIES, sample_prior_on_host
from jaxgmm.priors.interface import MixturePrior

from helpers import (
    COVARIANCE_TYPES,
    independent_prior,
    independent_prior_with,
    random_mixture,
    random_prior,
    slow_unless,
)


@pytest.mark.parametrize("kind", ["full"])
def test_draws_have_the_priors_moments(kind):
    """E Sigma = S / (nu - D - 1), E w = c / sum c, E mu = m with variance E Sigma / kappa.

    False failure: 5 standard errors for 20 means that are near normal at 4000 draws, under 1e-4.
    """
    root = np.array([[1.0, 0.0], [0.5, 0.8]])
    scale = root @ root.T if kind == "full" else 1.3
    prior = jaxgmm.Prior(*(jnp.asarray(v, jnp.float32) for v in ([1.0, 2.0], [3.0, -1.0], 0.5, 12.0, scale)))
    draws = jax.jit(lambda key: jaxgmm.sample_prior(key, prior, num_components=2, covariance_type=kind, num_samples=4000))(
        jax.random.key(0)
    )
    assert draws.batch_shape == (4000,)
    assert draws.covariance_type == kind

    def agree(values, mean):
        values = np.asarray(values, float)
        assert (abs(values.mean(0) - mean) < 5 * values.std(0) / np.sqrt(4000)).all()

    sigma = np.asarray(scale) / (12 - 3 if kind == "full" else 10)
    agree(draws.weights[:, 0], 1 / 3)
    agree(draws.covariances, sigma)
    agree(draws.means, prior.mean)
    variance = np.diag(sigma) if kind == "full" else sigma
    agree((draws.means - prior.mean) ** 2, variance / 0.5)
    np.testing.assert_allclose(draws.weights.sum(-1), 1, rtol=1e-5)


@pytest.mark.parametrize("kind", ["tied"])
def test_independent_draws(kind):
    """Standard deviations are half-normal, means have covariance M, LKJ correlations have variance 1 / (2 lkj + 1) at D=2.

    False failure: 5 standard errors for 10 means at 4000 draws, under 1e-4.
    """
    prior = independent_prior_with(jaxgmm.HalfNormal(jnp.array([0.8, 1.3]), jnp.array(1.7)))
    draws = jax.jit(lambda key: jaxgmm.sample_prior(key, prior, num_components=3, covariance_type=kind, num_samples=4000))(
        jax.random.key(1)
    )

    def agree(values, mean):
        values = np.asarray(values, float)
        assert (abs(values.mean(0) - mean) < 5 * values.std(0) / np.sqrt(4000)).all()

    dense = np.asarray(draws.covariances[:, 0])
    tau = np.sqrt(np.diagonal(dense, axis1=1, axis2=2) if kind == "tied" else dense)
    agree(tau**2, np.array([0.8, 1.3]) ** 2)
    agree(tau, np.array([0.8, 1.3]) * math.sqrt(2 / math.pi))
    deviation = np.asarray(draws.means[:, 0] - prior.mean)
    agree(deviation[:, :, None] * deviation[:, None, :], np.asarray(prior.mean_covariance))
    if kind == "tied":
        correlation = dense[:, 0, 1] / tau.prod(1)
        agree(correlation, 0)
        agree(correlation**2, 1 / (2 * 1.7 + 1))


@pytest.mark.parametrize(
    ("kind", "independent"),
    slow_unless(itertools.product(COVARIANCE_TYPES, (False, True)), [("full", True), ("diag", False)]),
)
def test_draws_on_the_host_have_the_same_law(kind, independent):
    """Mean and variance of every entry as sample_prior's. False failure: z < 5.5 for up to 50 entries, under 1e-5 each case."""
    twelve = jnp.asarray(12.0)  # degrees of freedom, so that covariances have a fourth moment
    if not independent:
        prior = dataclasses.replace(random_prior(0, kind, 2, 2), degrees_of_freedom=twelve)
    elif kind in ("full", "tied"):
        prior = independent_prior(kind, 2, 2, False)
        prior = dataclasses.replace(prior, scale=dataclasses.replace(prior.scale, degrees_of_freedom=twelve))
    else:
        prior = independent_prior(kind, 2, 2, False)
        prior = dataclasses.replace(prior, scale=dataclasses.replace(prior.scale, shape=twelve / 2))
    ours = sample_prior_on_host(0, prior, random_mixture(0, kind, 2, 2), 4000)
    theirs = jaxgmm.sample_prior(jax.random.key(0), prior, num_components=2, covariance_type=kind, num_samples=4000)
    assert ours.covariance_type == kind
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert a.shape == b.shape
        assert a.dtype == b.dtype
        a, b = (np.asarray(v, float).reshape(4000, -1) for v in (a, b))
        for power in (1, 2):
            u, v = ((values - b.mean(0)) ** power for values in (a, b))
            error = np.sqrt((u.var(0) + v.var(0)) / 4000)
            assert (abs(u.mean(0) - v.mean(0)) <= 5.5 * error).all(), (kind, power)


def test_half_normal_draws_on_the_host_are_those_of_sample_prior():
    """Priors without closed forms are sampled by sample_prior."""
    prior, mixture = independent_prior("diag", 2, 2, True), random_mixture(0, "diag", 2, 2)
    ours = sample_prior_on_host(3, prior, mixture, 5)
    theirs = jaxgmm.sample_prior(jax.random.key(3), prior, num_components=2, covariance_type="diag", num_samples=5)
    np.testing.assert_array_equal(ours.covariances, theirs.covariances)


def test_tables_of_types():
    """Files find every family and every law by its name."""
    assert all(issubclass(family, MixturePrior) for family in FAMILIES)
    assert {kind.__name__ for kind in COVARIANCE_LAWS} == {
        "InverseWishart",
        "InverseGamma",
        "HalfNormal",
        "VolumeShapeOrientation",
    }


def test_refusals():
    """Priors of the wrong type, shape or range are refused by field."""
    mixture, prior, key = random_mixture(0, "full"), random_prior(0, "full"), jax.random.key(0)
    for wrong, error, words in [
        (lambda: jaxgmm.log_prior(mixture, "flat"), TypeError, "Prior or IndependentPrior was expected"),
        (lambda: jaxgmm.log_prior(mixture, random_prior(0, "spherical")), ValueError, r"prior.scale has shape \(\); \(3, 3\)"),
        (
            lambda: jaxgmm.log_prior(mixture, random_prior(0, "full", k=2)),
            ValueError,
            r"prior.weight_concentration has shape \(2,\)",
        ),
        (lambda: jaxgmm.log_prior("mixture", prior), TypeError, "Mixture"),
        (lambda: jaxgmm.sample_prior(key, prior, num_components=2, num_samples=3), ValueError, "weight_concentration"),
        (lambda: jaxgmm.sample_prior(key, prior, num_components=3, num_samples=0), ValueError, "num_samples is 0"),
        (
            lambda: jaxgmm.sample_prior(key, prior, num_components=3, covariance_type="diag", num_samples=3),
            ValueError,
            r"prior.scale",
        ),
        (lambda: jaxgmm.sample_prior(1, prior, num_components=3, num_samples=3), TypeError, "random key"),
    ]:
        with pytest.raises(error, match=words):
            wrong()
