"""Log-density, responsibilities and labels: against loops, under transformations, and at the edge of the float type."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm

import oracle
from helpers import COVARIANCE_TYPES, TWO_COVARIANCE_TYPES, random_data, random_mixture

log_prob = jax.jit(jaxgmm.log_prob)
responsibilities = jax.jit(jaxgmm.responsibilities)
predict = jax.jit(jaxgmm.predict)
X = random_data(0, n=20)


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_density_and_responsibilities(covariance_type, x64):
    """Log-densities, responsibilities and labels equal those of the oracle, and responsibilities sum to one."""
    mixture = random_mixture(0, covariance_type)
    np.testing.assert_allclose(log_prob(mixture, X), oracle.log_prob(mixture, X), rtol=1e-10)
    r = responsibilities(mixture, X)
    np.testing.assert_allclose(r, oracle.responsibilities(mixture, X), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(r.sum(-1), 1, rtol=1e-14)
    np.testing.assert_array_equal(predict(mixture, X), np.argmax(oracle.log_joint(mixture, X), axis=1))


@pytest.mark.parametrize("covariance_type", ["full", "spherical"])
def test_one_feature_and_many(covariance_type, x64):
    """One feature works like several; six features use the library's factorisation instead of written-out products."""
    for d in (1, 6):
        mixture, x = random_mixture(1, covariance_type, d=d), random_data(1, n=20, d=d)
        np.testing.assert_allclose(log_prob(mixture, x), oracle.log_prob(mixture, x), rtol=1e-10)


def test_the_density_integrates_to_one(x64):
    """The density sums to one over a fine grid, with one feature and with two."""
    grid = np.linspace(-40, 40, 4001)
    np.testing.assert_allclose(np.exp(log_prob(random_mixture(0, "full", d=1), grid[:, None])).sum() * 0.02, 1, rtol=1e-10)
    axis = np.linspace(-20, 20, 201)
    plane = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)
    np.testing.assert_allclose(np.exp(log_prob(random_mixture(0, "tied", d=2, spread=1.5), plane)).sum() * 0.04, 1, rtol=1e-8)


@pytest.mark.parametrize("covariance_type", ["tied", "diag"])
def test_stacks_broadcast(covariance_type, x64):
    """A stack (C, S) and points (N, D) give (C, S, N) and (C, S, N, K), equal to those of each member."""
    members = [[random_mixture(3 * c + s, covariance_type) for s in range(3)] for c in range(2)]
    stack = jax.tree.map(
        lambda *leaves: jnp.stack(leaves), *[jax.tree.map(lambda *leaves: jnp.stack(leaves), *row) for row in members]
    )
    values, r, labels = log_prob(stack, X), responsibilities(stack, X), predict(stack, X)
    assert values.shape == labels.shape == (2, 3, 20)
    assert r.shape == (2, 3, 20, 3)
    np.testing.assert_allclose(values[1, 2], log_prob(members[1][2], X), rtol=1e-12)
    np.testing.assert_allclose(r[0, 1], responsibilities(members[0][1], X), rtol=1e-10, atol=1e-14)


def test_chunks_of_rows_do_not_matter(x64, monkeypatch):
    """Rows worked through in chunks, with a remainder, give the results of all rows at once."""
    from jaxgmm import density

    mixture = random_mixture(0, "full")
    stack = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), mixture)
    whole = [log_prob(mixture, X), responsibilities(stack, X), predict(mixture, X)]
    monkeypatch.setattr(density, "density_rows_per_chunk", lambda numbers: 7)
    parts = [
        jax.jit(f)(m, X)
        for f, m in [
            (lambda m, x: jaxgmm.log_prob(m, x), mixture),
            (lambda m, x: jaxgmm.responsibilities(m, x), stack),
            (lambda m, x: jaxgmm.predict(m, x), mixture),
        ]
    ]
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)


def test_no_points():
    """No points give empty results of the right shapes."""
    mixture = random_mixture(0, "full")
    assert log_prob(mixture, jnp.zeros((0, 3))).shape == (0,)
    assert responsibilities(mixture, jnp.zeros((0, 3))).shape == (0, 3)


@pytest.mark.parametrize("covariance_type", ["full", "diag"])
def test_far_points(covariance_type):
    """Where densities underflow or squares overflow in float32, log-densities are finite or -inf and never NaN.

    The nearest component in Mahalanobis distance then has responsibility 1.
    """
    mixture = dataclasses.replace(random_mixture(2, covariance_type), means=jnp.array([[0.0, 0, 0], [5.0, 0, 0], [0, -5.0, 0]]))
    directions = np.array([[1.0, 0, 0], [-1.0, 0, 0], [0.3, -1, 0.2], [1, 1, 1]])
    for size in (1e3, 1e10, 1e20, 1e30, 3e38):
        x = (size * directions).astype(np.float32)
        value, r = log_prob(mixture, x), np.asarray(responsibilities(mixture, x))
        assert not np.isnan(value).any()
        assert not np.isposinf(value).any()
        np.testing.assert_allclose(r.sum(1), 1, rtol=1e-6)
        if size >= 1e20:
            distance = [
                [
                    oracle.log_normal(1e6 * p, np.zeros(3), oracle.dense(mixture, k))
                    + np.linalg.slogdet(oracle.dense(mixture, k))[1] / 2
                    for k in range(3)
                ]
                for p in directions
            ]
            np.testing.assert_array_equal(r.argmax(1), np.argmax(distance, axis=1))


@pytest.mark.parametrize("covariance_type", TWO_COVARIANCE_TYPES)
def test_gradients_are_finite_and_right(covariance_type, x64):
    """Gradients in every field are finite, at far points and at weights of exactly 0 too, and equal the analytic ones.

    With respect to a weight the derivative is N(x | k) / p(x).
    """
    mixture = random_mixture(4, covariance_type)
    absent = dataclasses.replace(mixture, weights=jnp.array([0.4, 0.0, 0.6]))
    x = jnp.asarray(np.concatenate([X, [[1e6, 0, 0]]]))
    gradient_of = jax.jit(jax.grad(lambda m, x, w: w @ jaxgmm.log_prob(m, x), argnums=(0, 1)))
    for m in (mixture, absent):
        gradient, in_x = gradient_of(m, x, jnp.ones(21))
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((gradient, in_x)))
    point = np.eye(21)[5]
    gradient, _ = gradient_of(absent, x, point)
    expected = [
        np.exp(oracle.log_normal(X[5], m, oracle.dense(absent, k)) - oracle.log_prob(absent, X[5:6])[0])
        for k, m in enumerate(np.asarray(absent.means))
    ]
    np.testing.assert_allclose(gradient.weights, expected, rtol=1e-9)
    np.testing.assert_array_equal(gradient.means[1], 0)
    step = 1e-6
    up, down = (
        oracle.log_prob(oracle.of(m)._replace(means=np.asarray(m.means) + s * np.eye(3)[[0, 0, 0]] * np.eye(3)[:, :1]), X[5:6])
        for m, s in ((absent, step), (absent, -step))
    )
    np.testing.assert_allclose(gradient.means[0, 0], (up - down)[0] / (2 * step), rtol=1e-6, atol=1e-8)


def test_weight_zero_is_silent(x64):
    """A component of weight 0 does not change the density, wherever it is, and has responsibility 0."""
    mixture = dataclasses.replace(random_mixture(5, "full"), weights=jnp.array([0.4, 0.0, 0.6]))
    keep = np.array([0, 2])
    smaller = jaxgmm.Mixture(mixture.weights[keep], mixture.means[keep], mixture.covariances[keep])
    np.testing.assert_allclose(log_prob(mixture, X), oracle.log_prob(smaller, X), rtol=1e-12)
    assert (responsibilities(mixture, X)[:, 1] == 0).all()


def test_refusals():
    """Invalid arguments are refused with what was expected."""
    mixture = random_mixture(0, "full")
    for wrong in (lambda: jaxgmm.log_prob("mixture", X), lambda: jaxgmm.log_prob(X, mixture)):
        with pytest.raises(TypeError, match="Mixture"):
            wrong()
