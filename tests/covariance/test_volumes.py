"""Newton's method for covariances that differ only in their volumes."""

from functools import partial

import jax
import numpy as np
import pytest

from jaxgmm.covariance.volumes import with_own_volumes

solve = jax.jit(partial(with_own_volumes, num_steps=40))


@pytest.mark.parametrize("is_diagonal", [True, False])
def test_one_minimum(is_diagonal, x64):
    """From starts up to e^8 away, even with unequal weights, the same covariances are found: they are stationary."""
    rng = np.random.default_rng(0)
    roots = rng.normal(size=(4, 3, 3)) * np.array([[[5.0]], [[1.0]], [[1e-2]], [[1.0]]])
    matrices = roots @ np.swapaxes(roots, 1, 2)
    given = np.diagonal(matrices, axis1=1, axis2=2) if is_diagonal else matrices
    weights = np.array([0.6, 0.39, 1e-2, 0.0])
    found = solve(given, weights, np.full(4, np.nan))
    for _ in range(3):
        np.testing.assert_allclose(solve(given, weights, 8 * rng.uniform(-1, 1, 4)), found, rtol=1e-9, atol=1e-14)
    shared = found[0] / np.asarray(found[0]).reshape(-1)[0]
    np.testing.assert_allclose(found / np.asarray(found).reshape(4, -1)[:, :1].reshape(4, *[1] * shared.ndim), [shared] * 4)
    inverses = 1 / found if is_diagonal else np.linalg.inv(found)
    traces = (inverses * given).reshape(4, -1).sum(1)
    np.testing.assert_allclose(traces, 3, rtol=1e-9)  # the volumes are stationary
    relative = np.einsum("k,k...->...", weights / traces, given * inverses if is_diagonal else given @ inverses)
    np.testing.assert_allclose(relative, np.ones(3) / 3 if is_diagonal else np.eye(3) / 3, rtol=1e-8, atol=1e-9)  # so is C
