"""Marginals and conditionals: the law that joins them, what they keep, and what they refuse."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm

import oracle
from helpers import OTHER_TWO_COVARIANCE_TYPES, random_data, random_mixture

X = random_data(0, n=20)


@pytest.mark.parametrize("covariance_type", OTHER_TWO_COVARIANCE_TYPES)
def test_joint_is_marginal_times_conditional(covariance_type, x64):
    """It holds that log p(a, b) = log p(b) + log p(a | b); the marginal keeps the features asked for, in their order."""
    mixture, point = random_mixture(6, covariance_type), X[3]
    known, rest = [2, 0], [1]
    condition = jax.jit(lambda mixture, values: jaxgmm.condition(mixture, known, values))
    marginal = jaxgmm.marginal(mixture, known)
    conditional = condition(mixture, point[known])
    joint = oracle.log_prob(mixture, point[None])
    np.testing.assert_allclose(
        oracle.log_prob(marginal, point[None, known]) + oracle.log_prob(conditional, point[None, rest]), joint, rtol=1e-10
    )
    np.testing.assert_array_equal(marginal.means, mixture.means[:, jnp.array(known)])
    assert marginal.covariance_type == conditional.covariance_type == covariance_type
    assert conditional.num_features == 1
    assert abs(float(conditional.weights.sum()) - 1) < 1e-14
    both = condition(jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), mixture), point[known])
    np.testing.assert_allclose(both.means[1], conditional.means, rtol=1e-12)
    np.testing.assert_allclose(both.covariances[0], conditional.covariances, rtol=1e-12)


def test_far_condition_is_not_nan():
    """Where every density underflows, the nearest component has weight 1."""
    conditional = jaxgmm.condition(random_mixture(6, "full"), [0], [1e30])
    assert set(conditional.weights.tolist()) == {0, 1}


def test_refusals():
    """Features that do not exist, and values of another shape, are refused with what was expected."""
    mixture = random_mixture(0, "full")
    for wrong, error, words in [
        (lambda: jaxgmm.marginal(mixture, []), ValueError, "features from 0 to 2 were expected"),
        (lambda: jaxgmm.marginal(mixture, [0, 0]), ValueError, "different features"),
        (lambda: jaxgmm.marginal(mixture, [3]), ValueError, "from 0 to 2"),
        (lambda: jaxgmm.marginal(mixture, [0.5]), (TypeError, ValueError), "features"),
        (lambda: jaxgmm.condition(mixture, [0, 1, 2], [0, 0, 0]), ValueError, "at least one must remain"),
        (lambda: jaxgmm.condition(mixture, [0, 1], [0.0]), ValueError, r"\(2,\)"),
    ]:
        with pytest.raises(error, match=words):
            wrong()
