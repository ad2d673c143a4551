"""Random points: their moments and labels, their keys, and refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm

import oracle
from helpers import random_mixture


@pytest.mark.parametrize("covariance_type", ["full", "tied", "spherical"])
def test_draws(covariance_type):
    """Labels follow the weights and points follow their component.

    The bounds are 5 standard deviations of about 30 normal means: the test fails by chance with probability under 2e-5.
    """
    mixture, draws = random_mixture(7, covariance_type), 4000
    x, labels = jax.jit(jaxgmm.sample, static_argnums=2)(jax.random.key(0), mixture, draws)
    assert x.shape == (draws, 3)
    assert x.dtype == jnp.float32
    fraction = np.bincount(labels, minlength=3) / draws
    w = np.asarray(mixture.weights)
    assert (abs(fraction - w) < 5 * np.sqrt(w * (1 - w) / draws)).all()
    for k in range(3):
        z = np.linalg.solve(np.linalg.cholesky(oracle.dense(mixture, k)), (np.asarray(x)[labels == k] - mixture.means[k]).T).T
        assert (abs(z.mean(0)) < 5 / np.sqrt(len(z))).all()
        assert (abs(z.T @ z / len(z) - np.eye(3)) < 5 * np.sqrt((1 + np.eye(3)) / len(z))).all()
    assert len(set(labels[:20].tolist())) > 1, "draws come in random order"


def test_draws_by_key_and_number():
    """The same key gives the same draws and another key different ones; zero draws are allowed."""
    mixture = random_mixture(7, "diag")
    one, again, other = (np.asarray(jaxgmm.sample(jax.random.key(i), mixture, 4)[0]) for i in (0, 0, 1))
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()
    assert jaxgmm.sample(jax.random.key(0), mixture, 0)[0].shape == (0, 3)


def test_refusals():
    """Invalid arguments are refused with what was expected."""
    mixture, key = random_mixture(0, "full"), jax.random.key(0)
    stack = jax.tree.map(lambda leaf: leaf[None], mixture)
    for wrong, error, words in [
        (lambda: jaxgmm.sample(key, mixture, -1), ValueError, "num_samples is -1; an integer >= 0 was expected"),
        (lambda: jaxgmm.sample(key, mixture, 2.0), TypeError, "num_samples is 2.0"),
        (lambda: jaxgmm.sample(0, mixture, 2), TypeError, "random key was expected"),
        (lambda: jaxgmm.sample(key, stack, 2), ValueError, "use jax.vmap"),
    ]:
        with pytest.raises(error, match=words):
            wrong()
