"""Mixture: what make_mixture accepts and refuses, how stacks are indexed and printed, and how parameters are counted."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm

from helpers import COVARIANCE_TYPES, random_mixture


def test_fields_are_kept(x64):
    """Values keep the dtype of the means; integers become the default float; weights are scaled to sum to one exactly."""
    mixture = jaxgmm.make_mixture([0.25, 0.75], [[0, 1], [2, 3]], [[1, 2], [3, 4]], covariance_type="diag")
    assert {leaf.dtype for leaf in jax.tree.leaves(mixture)} == {np.dtype("float64")}
    np.testing.assert_array_equal(mixture.means, [[0, 1], [2, 3]])
    np.testing.assert_array_equal(mixture.covariances, [[1, 2], [3, 4]])
    rounded = jaxgmm.make_mixture(
        [0.3333333, 0.3333333, 0.3333333], np.zeros((3, 1)), np.ones((3, 1)), covariance_type="spherical"
    )
    assert abs(float(rounded.weights.sum()) - 1) < 1e-15
    assert (mixture.num_components, mixture.num_features, mixture.batch_shape) == (2, 2, ())


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_number_of_parameters(covariance_type):
    """The number of parameters is K - 1 weights, K D means and the covariances' free entries, as scikit-learn counts them."""
    covariances = {"full": 3 * 10, "tied": 10, "diag": 12, "spherical": 3}[covariance_type]
    assert jaxgmm.num_parameters(random_mixture(0, covariance_type, d=4)) == 2 + 12 + covariances


def test_stacks():
    """Leading axes can be indexed, one mixture cannot, and no mixture can be changed in place."""
    one = random_mixture(0, "full")
    stack = jax.tree.map(lambda leaf: jnp.stack([jnp.stack([leaf, 2 * leaf])] * 3), one)
    assert stack.batch_shape == (3, 2)
    assert stack[0].batch_shape == (2,)
    assert stack[1, 1].batch_shape == ()
    np.testing.assert_array_equal(stack[2, 1].means, 2 * one.means)
    np.testing.assert_array_equal(stack[:, 0].weights, jnp.stack([one.weights] * 3))
    with pytest.raises(IndexError, match="one mixture"):
        one[0]
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.weights = one.means
    made = jaxgmm.make_mixture(*(np.stack([leaf] * 2) for leaf in jax.tree.leaves(one)))
    assert made.batch_shape == (2,)


def test_a_pytree():
    """jit, vmap, grad and tree.map apply to a mixture, whose covariance type is part of the structure."""
    mixture = random_mixture(0, "diag")
    assert len(jax.tree.leaves(mixture)) == 3
    same = jax.jit(lambda m: m)(mixture)
    assert same.covariance_type == "diag"
    assert same.means.shape == (3, 3)
    gradient = jax.grad(lambda m: (m.means**2).sum())(mixture)
    np.testing.assert_allclose(gradient.means, 2 * mixture.means, rtol=1e-6)
    assert jax.tree.structure(mixture) != jax.tree.structure(random_mixture(0, "spherical"))
    assert "Mixture" in repr(jax.tree.map(lambda _: None, mixture)) + repr(jax.tree.structure(mixture))


def test_repr():
    """The text shows weights, means and standard deviations; for a stack their ranges; for a traced mixture one line."""
    text = repr(jaxgmm.make_mixture([0.25, 0.75], [[0.0], [5.0]], [[4.0], [9.0]], covariance_type="spherical"))
    assert text.splitlines()[0] == "Mixture spherical, K=2 components, D=1 features, float32"
    assert text.splitlines()[1:] == ["  k  weight  mean   sd", "  0  0.2500   [0]  [2]", "  1  0.7500   [5]  [3]"]
    stack = jax.tree.map(lambda leaf: jnp.stack([leaf] * 4), random_mixture(0, "full"))
    assert "stacked (4,)" in repr(stack)
    assert len(repr(stack).splitlines()) == 5
    seen = []
    jax.jit(lambda m: seen.append(repr(m)) or m.weights)(random_mixture(0, "full"))
    assert "K=3" in seen[0]
    assert "\n" not in seen[0]


def bad():
    """Return arguments that make no mixture, with the error and the words that each must give."""
    eye = [np.eye(2)] * 2
    means = np.zeros((2, 2))
    skew = np.array([[1.0, 0.5], [0.0, 1.0]])
    return {
        "weights sum": (([0.8, 1.0], means, eye), ValueError, "weights sum to 1.8; 1 was expected"),
        "negative weight": (([-0.5, 1.5], means, eye), ValueError, "negative value, -0.5"),
        "NaN weight": (([np.nan, 1.0], means, eye), ValueError, "NaN"),
        "weights shape": (([1.0], means, eye), ValueError, r"\(2,\) was expected"),
        "means of one variable": (([0.5, 0.5], [0.0, 1.0], [1.0, 1.0]), ValueError, r"are \(K, 1\)"),
        "no components": (([], np.zeros((0, 2)), np.zeros((0, 2, 2))), ValueError, "at least one component"),
        "NaN mean": (([0.5, 0.5], means * np.nan, eye), ValueError, "means contains NaN"),
        "covariances shape": (([0.5, 0.5], means, np.ones((2, 2))), ValueError, r"\(2, 2, 2\) was expected"),
        "not positive definite": (
            ([0.5, 0.5], means, [np.eye(2), [[1.0, 2.0], [2.0, 1.0]]]),
            ValueError,
            "not positive definite",
        ),
        "singular": (([0.5, 0.5], means, [np.eye(2), np.ones((2, 2))]), ValueError, "not positive definite"),
        "negative variance": (([0.5, 0.5], means, [np.eye(2), np.diag([1.0, -1.0])]), ValueError, "positive definite"),
        "not symmetric": (([0.5, 0.5], means, [np.eye(2), skew]), ValueError, "not symmetric"),
        "strings": ((["a", "b"], means, eye), TypeError, "weights holds strings"),
        "masked": (([0.5, 0.5], np.ma.masked_array(means, means == 0), eye), TypeError, "masked"),
    }


@pytest.mark.parametrize("case", bad())
def test_refusals(case):
    """Arguments that do not make a mixture are refused with what was expected."""
    arguments, error, words = bad()[case]
    with pytest.raises(error, match=words):
        jaxgmm.make_mixture(*arguments)


def test_other_refusals():
    """Unknown covariance types, variances of 0 and shapes of another storage are refused."""
    with pytest.raises(ValueError, match="covariance_type is 'tie'"):
        jaxgmm.make_mixture([1.0], [[0.0]], [[1.0]], covariance_type="tie")
    for covariance_type, covariances in [("diag", [[1.0, 0.0]]), ("spherical", [[0.0]]), ("tied", [[[1.0, 0.0], [0.0, 0.0]]])]:
        with pytest.raises(ValueError, match="variance of 0"):
            jaxgmm.make_mixture([1.0], [[0.0, 0.0]], covariances, covariance_type=covariance_type)
    for covariance_type, shape in [("tied", (1, 2, 2)), ("diag", (3, 2)), ("spherical", (3, 1))]:
        with pytest.raises(ValueError, match=str(shape).replace("(", r"\(").replace(")", r"\)")):
            jaxgmm.make_mixture(np.full(3, 1 / 3), np.zeros((3, 2)), np.ones((3, 2, 2)), covariance_type=covariance_type)


def test_weight_zero_and_nearly_singular_are_allowed(x64):
    """A component of weight 0 is allowed, and so is a condition number of 1e10."""
    mixture = jaxgmm.make_mixture([0.0, 1.0], [[0.0, 0.0]] * 2, [np.eye(2), [[1.0, 1 - 1e-10], [1 - 1e-10, 1.0]]])
    assert float(mixture.weights[0]) == 0


def test_traced_input_is_not_looked_at():
    """Inside jit shapes are checked and values are not."""
    make = jax.jit(lambda w: jaxgmm.make_mixture(w, jnp.zeros((2, 1)), jnp.ones((2, 1)), covariance_type="diag"))
    assert make(jnp.array([2.0, -1.0])).weights.tolist() == [2, -1]
    with pytest.raises(ValueError, match=r"\(2,\) was expected"):
        make(jnp.ones(3))
