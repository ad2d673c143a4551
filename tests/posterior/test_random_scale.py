"""The unknown scale of the covariances: its conditional law, and the density in which it is integrated out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.integrate import quad

import jaxgmm
from jaxgmm import covariance
from jaxgmm.posterior.random_scale import draw_scale, log_prior_ratio

from helpers import independent_prior, random_mixture, random_prior

DEGREES = 2.7


@pytest.mark.parametrize(
    ("covariance_type", "family"),
    [("full", random_prior), ("diag", independent_prior), *(
        pytest.param(*case, marks=pytest.mark.slow) for case in (("tied", random_prior), ("spherical", random_prior))
    )],
)  # fmt: skip
def test_draws_have_the_mean_of_their_law(covariance_type, family):
    """E[S] = (f + m nu) W^-1 within 5 standard errors, which a number fails by chance with probability 6e-7."""
    mixture = random_mixture(0, covariance_type, k=3, d=2)
    prior = random_prior(0, covariance_type, 3, 2) if family is random_prior else family(covariance_type, 3, 2, False)
    used = jnp.array([True, False, True])
    factors = covariance.factorize(mixture.covariances, covariance_type, 2)
    draw = jax.jit(jax.vmap(lambda key: draw_scale(key, factors, used, prior, jnp.float32(DEGREES), covariance_type)))
    drawn = draw(jax.random.split(jax.random.key(0), 4000))
    found = np.asarray(drawn.covariance_law.inverse_wishart_parameters()[1], float)
    nu, mean = (np.asarray(value, float) for value in prior.covariance_law.inverse_wishart_parameters())
    invert = np.linalg.inv if mean.ndim == 2 else np.reciprocal
    stored = np.asarray(mixture.covariances, float)
    stored = stored if len(stored) == 1 else stored[[0, 2]]
    total = DEGREES * invert(mean) + sum(invert(one) for one in stored.reshape(-1, *mean.shape))
    expected = (DEGREES + len(stored) * nu) * invert(total)
    errors = found.std(0, ddof=1) / np.sqrt(len(found))
    assert (np.abs(found.mean(0) - expected) < 5 * errors).all()


def test_density_without_the_scale():
    """For one feature, the density is the integral over S, by quadrature; absent components do not enter."""
    variances, weights = np.array([0.5, 2.0, 1.3]), np.array([0.4, 0.6, 0.0])
    mixture = jaxgmm.make_mixture(weights, np.zeros((3, 1)), variances[:, None, None])
    prior = jaxgmm.Prior(jnp.ones(3), jnp.zeros(1), jnp.array(0.5), jnp.array(3.0), jnp.array([[1.5]]))

    def log_prob(scale):
        return stats.invgamma(1.5, scale=scale / 2).logpdf(variances[:2]).sum()

    law = stats.gamma(DEGREES / 2, scale=2 * 1.5 / DEGREES)
    integral = quad(lambda s: law.pdf(s) * np.exp(log_prob(s)), 0, 60)[0]
    found = jax.jit(log_prior_ratio)(mixture, prior, jnp.float32(DEGREES))
    assert float(found) == pytest.approx(np.log(integral) - log_prob(1.5), abs=1e-4)
