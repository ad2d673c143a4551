"""Pairs of fits with K and K + 1 components: additional starts split one component of the smaller model."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgmm.selection.fit_pairs import _split

from helpers import OTHER_TWO_COVARIANCE_TYPES, random_mixture


@pytest.mark.parametrize("kind", OTHER_TWO_COVARIANCE_TYPES)
def test_split_components(kind):
    """Each start halves one weight and moves the halves apart in opposite directions; the density has the same mean."""
    mixture = random_mixture(0, kind, k=3, d=2)
    absent = dataclasses.replace(mixture, weights=jnp.array([0.4, 0.6, 0.0]))
    found = _split(jax.tree.map(lambda leaf: leaf[None], absent), 2)
    assert found.weights.shape == (1, 2, 3)
    np.testing.assert_allclose(found.weights[0], [[0.2, 0.6, 0.2], [0.4, 0.3, 0.3]], rtol=1e-6)
    for k in range(2):
        halves = found.means[0, k, jnp.array([k, 2])]
        np.testing.assert_allclose(halves.mean(0), mixture.means[k], rtol=1e-4, atol=1e-5)
        assert abs(halves[0] - halves[1]).max() > 0.1
