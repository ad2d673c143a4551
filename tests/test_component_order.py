"""component_order: only exchangeable components change places."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxgmm.component_order import ascending_order, permute_components

from helpers import random_mixture


def test_ascending_within_groups():
    """Values ascend among equal concentrations, equal values keep their order, and the rule holds under jit and vmap."""
    values = jnp.array([[3.0, 9.0, 1.0, 8.0, 1.0], [1.0, 1.0, 1.0, 0.0, 0.0]])
    one, other = jnp.ones(5), jnp.array([1.0, 2.0, 1.0, 2.0, 1.0])
    run = jax.jit(jax.vmap(ascending_order, in_axes=(0, None)))
    assert run(values, one).tolist() == [[2, 4, 0, 3, 1], [3, 4, 0, 1, 2]]
    assert run(values, other).tolist() == [[2, 3, 4, 1, 0], [4, 3, 0, 1, 2]]


def test_permutation():
    """All arrays of a mixture move alike, and a shared covariance stays."""
    order = jnp.array([2, 0, 1])
    for covariance_type in ("full", "tied"):
        mixture = random_mixture(0, covariance_type, 3, 2)
        moved = permute_components(mixture, order)
        np.testing.assert_array_equal(moved.means, mixture.means[order])
        expected = mixture.covariances if covariance_type == "tied" else mixture.covariances[order]
        np.testing.assert_array_equal(moved.covariances, expected)
