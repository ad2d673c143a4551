"""Labels of many particles: the sums are those of the rows with each label, and labels follow their probabilities."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgmm import covariance
from jaxgmm.posterior import conditionals
from jaxgmm.posterior.smc.labels import sum_labels_of_particles
from jaxgmm.row_sums import FirstRows

import oracle
from helpers import TWO_COVARIANCE_TYPES, random_mixture

KEY = jax.random.key(0)
gibbs_state = jax.jit(conditionals.gibbs_state)  # eagerly, it compiles a hundred programs
sum_labels = jax.jit(sum_labels_of_particles, static_argnums=4)


def particles(mixture, count):
    """Return a state of `count` equal particles."""
    return jax.tree.map(lambda leaf: np.broadcast_to(leaf, (count, *leaf.shape)), gibbs_state(mixture))


@pytest.mark.parametrize("covariance_type", TWO_COVARIANCE_TYPES)
def test_sums_of_one_component_are_those_of_all_rows(covariance_type):
    """With one component, every row before the first row to skip has the label 0."""
    mixture, x = random_mixture(0, covariance_type, 1, 3), np.random.default_rng(0).normal(size=(9, 3))
    rows = FirstRows(jnp.array(7), jnp.array(9))
    found = sum_labels(KEY, particles(mixture, 2), jnp.asarray(x), rows, covariance_type)
    part = x[:7] - x[:7].mean(0)
    scatter = sum(np.asarray(covariance.outer(jnp.asarray(row), covariance_type)) for row in part)
    np.testing.assert_allclose(found.count, 7)
    np.testing.assert_allclose(found.mean[:, 0], np.tile(x[:7].mean(0), (2, 1)), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.scatter[0, 0], scatter, rtol=1e-3, atol=1e-4)


def test_labels_follow_their_probabilities():
    """Mean and variance of the counts of 4000 particles are within 5 standard errors (outside by chance in 6e-7 each)."""
    mixture, x = random_mixture(1, "full", 3, 2), np.random.default_rng(1).normal(size=(8, 2))
    rows = FirstRows(jnp.array(8), None)
    count = np.asarray(sum_labels(KEY, particles(mixture, 4000), jnp.asarray(x), rows, "full").count)
    share = oracle.responsibilities(mixture, x)
    assert (count.sum(1) == 8).all()
    error = np.sqrt((share * (1 - share)).sum(0) / 4000)
    assert (abs(count.mean(0) - share.sum(0)) < 5 * error + 1e-5).all()
    squares = (count - share.sum(0)) ** 2
    assert (abs(squares.mean(0) - (share * (1 - share)).sum(0)) < 5 * squares.std(0) / 4000**0.5).all()
