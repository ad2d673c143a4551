"""The terms of an inverse Wishart or inverse gamma prior give the mode of the covariances, and the posterior's parameters."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxgmm import covariance
from jaxgmm.covariance.conjugate_terms import mode_denominator, observed_degrees, prior_scale, scatter_total
from jaxgmm.covariance.distributions import inverse_wishart_log_prob

from helpers import COVARIANCE_TYPES

COUNT, NU, D = np.array([5.0, 9.0]), 6.0, 2
SCATTERS = np.array([[[3.0, 1.0], [1.0, 2.0]], [[6.0, -2.0], [-2.0, 9.0]]])
SCALES = {"full": np.array([[2.0, 0.5], [0.5, 1.0]]), "diag": np.array([2.0, 1.0]), "spherical": np.array(1.5)}


def terms(covariance_type):
    """Return the scatters in their form, the scale of the prior, and the scale plus the pooled scatter."""
    dense = covariance.is_dense(covariance_type)
    scatters = jnp.asarray(SCATTERS if dense else np.diagonal(SCATTERS, axis1=1, axis2=2))
    scale = jnp.asarray(SCALES["full" if dense else covariance_type])
    total = scatter_total(covariance.pool(scatters, covariance_type), covariance_type, D)
    return scatters, scale, prior_scale(scale, covariance_type) + total


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_mode(covariance_type, x64):
    """The scale over the denominator has a higher posterior density than covariances close to it."""
    scatters, scale, total = terms(covariance_type)
    present = jnp.ones(2, bool)
    mode = total / mode_denominator(COUNT, present, NU, covariance_type, D, means_share_covariance=False)

    def log_posterior(covariances):
        dense = covariance.to_dense(covariances, covariance_type, 2, D)
        whole = scatters if covariance.is_dense(covariance_type) else scatters[:, :, None] * np.eye(D)
        factors = covariance.factorize(covariances, covariance_type, D)
        fit = COUNT * np.linalg.slogdet(dense)[1] + np.einsum("kij,kji->k", np.linalg.inv(dense), whole)
        return float(inverse_wishart_log_prob(factors, NU, scale, covariance_type, D).sum() - fit.sum() / 2)

    best = log_posterior(mode)
    rng = np.random.default_rng(0)
    for size in (0.01, 0.1):
        for _ in range(5):
            factor = 1 + size * rng.uniform(-1, 1, mode.shape)
            other = mode * ((factor + np.swapaxes(factor, -1, -2)) / 2 if covariance.is_dense(covariance_type) else factor)
            assert log_posterior(other) < best


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_posterior(covariance_type, x64):
    """The posterior given the means is inverse Wishart with the added degrees of freedom and the added scatter."""
    _, scale, total = terms(covariance_type)
    degrees = NU + observed_degrees(jnp.asarray(COUNT), covariance_type, D)
    covariances = total / 10
    factors = covariance.factorize(covariances, covariance_type, D)
    for stored in range(len(total)):
        nu, parameter, value = float(degrees[stored]), np.asarray(total[stored]), np.asarray(covariances[stored])
        if covariance.is_dense(covariance_type):
            own, expected = parameter, stats.invwishart.logpdf(value, nu, parameter)
        else:
            own = parameter if covariance_type == "diag" else parameter[0]
            expected = stats.invgamma.logpdf(value, nu / 2, scale=parameter / 2).sum()
        found = inverse_wishart_log_prob(factors, nu, jnp.asarray(own), covariance_type, D)[stored]
        np.testing.assert_allclose(found, expected, rtol=1e-10)
    assert scale.shape == own.shape
