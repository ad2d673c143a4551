"""likelihood_tempering: permutations and replaced components of points in the unconstrained space."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgmm import covariance
from jaxgmm.mixture import Mixture
from jaxgmm.posterior.smc.likelihood_tempering import Model
from jaxgmm.posterior.standardization import StandardizedProblem
from jaxgmm.posterior.unconstrained_space import make_unconstrained_space

from helpers import independent_prior, random_data


@pytest.mark.parametrize("covariance_type", ["full", pytest.param("tied", marks=pytest.mark.slow)])
def test_points_keep_their_density_when_components_are_exchanged(covariance_type):
    """With one of three components absent, the other two are exchanged in some points, and only one is ever replaced."""
    y = jnp.asarray(random_data(0, 12, 2, 2), jnp.float32)
    prior = independent_prior(covariance_type, 3, 2, half_normal=False)
    prior = jax.tree.map(jnp.float32, prior.__class__(np.full(3, 1.5), prior.mean, prior.mean_covariance, prior.scale))
    problem = StandardizedProblem(y, None, prior, np.zeros(2, np.float32), np.ones(2, np.float32))

    @jax.jit
    def run(key):
        unit = covariance.from_dense(jnp.broadcast_to(jnp.eye(2), (3, 2, 2)), covariance_type, jnp.ones(3))
        shape = Mixture(jnp.full(3, 1 / 3), jnp.zeros((3, 2)), unit, covariance_type)
        model = Model(
            problem, make_unconstrained_space(problem, shape), jnp.array([True, True, False]), shape, prior.weight_concentration
        )
        keys = jax.random.split(key, 3)
        z = model.sample_prior(keys[0], 8)
        permuted = jax.vmap(model.permute)(jax.random.split(keys[1], 8), z)
        replaced = jax.vmap(model.replace_component)(jax.random.split(keys[2], 8), z, z[::-1])
        means = [model.decode(points)[0].mixture.means for points in (z, permuted, replaced)]
        return [model.log_density(points, jnp.array(0.7)) for points in (z, permuted)], means

    (before, after), (means, permuted, replaced) = jax.tree.map(np.asarray, run(jax.random.key(0)))
    np.testing.assert_allclose(after, before, rtol=1e-4)
    exchanged = (permuted != means).any((1, 2))
    assert 0 < exchanged.sum() < 8
    np.testing.assert_allclose(np.sort(permuted[:, :2], 1), np.sort(means[:, :2], 1), rtol=1e-5)
    np.testing.assert_array_equal(permuted[:, 2], means[:, 2])
    assert ((replaced != means).any(2).sum(1) == 1).all()
