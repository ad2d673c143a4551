"""Moves of particles: a point that enters the sums with a weight, and permutations of components."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgmm.posterior.conditionals import gibbs_state
from jaxgmm.posterior.smc.moves import _permute, _with_point, joint_of_particles
from jaxgmm.priors.interface import ComponentSums

import oracle
from helpers import OTHER_TWO_COVARIANCE_TYPES, random_mixture

# whole: operation by operation they compile a hundred programs
with_point = jax.jit(_with_point, static_argnums=3)


@partial(jax.jit, static_argnums=3)
def joint_before_and_after(mixture, x, order, covariance_type):
    """Return the joint densities of the particle of a mixture, and of the particle with its components in another order."""
    state = gibbs_state(mixture)
    stack = jax.tree.map(lambda *leaves: jnp.stack(leaves), state, _permute(state, order))
    return joint_of_particles(stack, x.T, covariance_type)


@pytest.mark.parametrize("covariance_type", ["full", "diag"])
def test_a_point_enters_with_its_weights(covariance_type):
    """The sums are those of all points with their weights; weight 0 changes nothing."""
    rng = np.random.default_rng(0)
    x, w, point, weight = rng.normal(size=(5, 2)), rng.uniform(1, 2, 5), rng.normal(size=2), np.array([0.4, 0.0])

    def sums(x, w):
        mean = w @ x / w.sum()
        scatter = np.einsum("n,ni,nj->ij", w, x - mean, x - mean)
        scatter = scatter if covariance_type == "full" else np.diag(scatter)
        return w.sum()[None], mean[None], scatter[None]

    twice = [np.concatenate([leaf, leaf]).astype(np.float32) for leaf in sums(x, w)]
    found = with_point(ComponentSums(*twice), jnp.asarray(weight), jnp.asarray(point), covariance_type)
    for i, expected in enumerate((sums(np.vstack([x, point]), np.append(w, 0.4)), sums(x, w))):
        for a, b in zip((found.count, found.mean, found.scatter), expected, strict=True):
            np.testing.assert_allclose(a[i], b[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("covariance_type", OTHER_TWO_COVARIANCE_TYPES)
def test_permuted_particles_have_the_permuted_joint_density(covariance_type):
    mixture = random_mixture(0, covariance_type, 3, 2)
    x, order = np.random.default_rng(0).normal(size=(4, 2)), np.array([2, 0, 1])
    joint = np.asarray(joint_before_and_after(mixture, x, order, covariance_type))
    np.testing.assert_allclose(joint[1], joint[0][order], rtol=1e-5)
    total = np.logaddexp.reduce(joint[0], 0)
    np.testing.assert_allclose(total, oracle.log_prob(mixture, x), rtol=1e-4, atol=1e-4)
