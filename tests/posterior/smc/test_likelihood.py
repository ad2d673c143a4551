"""particle_likelihood: value and gradient for many particles against the likelihood of `nuts`, which JAX differentiates."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgmm import covariance
from jaxgmm.density import safe_log
from jaxgmm.posterior.conditionals import GibbsState
from jaxgmm.posterior.likelihood import log_likelihoods
from jaxgmm.posterior.smc.likelihood import log_likelihood_of_particles, log_likelihood_under_normal
from jaxgmm.row_sums import FirstRows

from helpers import random_data, random_mixture


@pytest.mark.parametrize(
    ("covariance_type", "d"),
    [
        ("full", 2),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in (("full", 5), ("tied", 2), ("diag", 3), ("spherical", 5))),
    ],
)
def test_value_and_gradient(covariance_type, d):
    """One of the three components is absent, and the last rows have weight 0."""
    y = jnp.asarray(random_data(0, 20, d, 2, spread=1.0), jnp.float32)
    weight = jnp.asarray(np.r_[np.random.default_rng(0).gamma(2.0, 1.0, 15), np.zeros(5)], jnp.float32)
    mixtures = [random_mixture(seed, covariance_type, 3, d, spread=1.0) for seed in (1, 2)]
    means, covariances = (
        jnp.stack([jnp.asarray(getattr(m, name), jnp.float32) for m in mixtures]) for name in ("means", "covariances")
    )
    weights = jnp.array([[0.4, 0.0, 0.6], [0.7, 0.0, 0.3]])

    def state(means, covariances):
        factors = covariance.factorize(covariances, covariance_type, d)
        return GibbsState(safe_log(weights), means, factors)

    def ours(means, covariances, weight):
        return log_likelihood_of_particles(state(means, covariances), y, weight, covariance_type).sum()

    def plain(means, covariances, weight):
        states = state(means, covariances)
        each = jax.vmap(lambda one: log_likelihoods(*one, y, covariance_type))(states)
        return (each @ weight).sum() - 2 * log_likelihood_under_normal(y, weight)

    for given, array in ((weight, weight), (FirstRows(jnp.array(13)), (jnp.arange(20) < 13).astype(jnp.float32))):
        found, expected = (
            jax.jit(jax.value_and_grad(function, (0, 1)))(means, covariances, w)
            for function, w in ((ours, given), (plain, array))
        )
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-4 * float(abs(b).max())), found, expected)
