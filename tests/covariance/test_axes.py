"""The search for axes that several covariances share."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import expm

from jaxgmm.covariance.axes import axes_of, common_axes, variances_along

search = jax.jit(common_axes, static_argnums=(3, 4))
WEIGHTS = np.array([0.5, 0.3, 0.2])


def covariances(noise, seed=0):
    """Return covariances whose axes are the same up to noise, and the axes."""
    rng = np.random.default_rng(seed)
    axes = np.linalg.qr(rng.normal(size=(4, 4)))[0]
    values = rng.gamma(2.0, 2.0, (3, 4)) + 0.1
    turns = [expm(noise * (m - m.T)) for m in rng.normal(size=(3, 4, 4))]
    return np.array([t @ axes @ np.diag(v) @ axes.T @ t.T for t, v in zip(turns, values, strict=True)]), axes


@pytest.mark.parametrize("equal_volume", [True, False])
def test_shared_axes_are_found(equal_volume, x64):
    """Axes that all covariances share exactly are found from the identity, up to their order and signs, and by `axes_of`."""
    given, axes = covariances(0.0)
    for found in (search(given, WEIGHTS, np.eye(4), equal_volume, 60), axes_of(given, jnp.ones(3))):
        overlap = abs(np.asarray(found).T @ axes)
        np.testing.assert_allclose([overlap.max(0), overlap.max(1)], 1, atol=1e-10)


@pytest.mark.parametrize("equal_volume", [True, False])
def test_each_pass_decreases_the_objective(equal_volume, x64):
    """The function that the M-step minimises never increases, the axes stay orthogonal, and they become stationary."""
    given, _ = covariances(0.4)
    axes, values = np.eye(4), []
    for _ in range(30):
        logs = np.log(np.asarray(variances_along(axes, given)))
        values.append(np.log(WEIGHTS @ np.exp(logs.mean(1))) if equal_volume else WEIGHTS @ logs.sum(1))
        axes = np.asarray(search(given, WEIGHTS, axes, equal_volume, 1))
    assert (np.diff(values) <= 1e-13).all()
    np.testing.assert_allclose(axes.T @ axes, np.eye(4), atol=1e-12)
    np.testing.assert_allclose(search(given, WEIGHTS, axes, equal_volume, 60), axes, atol=1e-7)


def test_one_feature(x64):
    """One feature has one axis, and the derivative of this axis is 0."""
    ones = jnp.ones((3, 1, 1))
    value, tangent = jax.jvp(lambda given: common_axes(given, WEIGHTS, jnp.eye(1), False, 2), (ones,), (ones,))
    assert value.tolist() == [[1.0]]
    assert tangent.tolist() == [[0.0]]
