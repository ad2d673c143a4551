"""Linear algebra of stacks: the results of NumPy, derivatives against finite differences, and two programs at the same time."""

from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jaxgmm import linalg


def definite(seed, d, shape=(2, 3)):
    root = np.random.default_rng(seed).normal(size=(*shape, d, d))
    return root @ np.swapaxes(root, -1, -2) + 0.5 * np.eye(d)


@pytest.mark.parametrize("d", [1, 3, 6, 40])
def test_numbers(x64, d):
    """Factors, inverses, eigenvalues and solutions of a stack equal those of NumPy, at sizes with and without library calls."""
    a = definite(0, d)
    lower = linalg.cholesky(a)
    np.testing.assert_allclose(lower, np.linalg.cholesky(a), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(linalg.invert_lower(lower) @ lower, np.broadcast_to(np.eye(d), a.shape), atol=1e-12)
    values, vectors = linalg.eigh(jnp.asarray(a))
    np.testing.assert_allclose((vectors * values[..., None, :]) @ jnp.swapaxes(vectors, -1, -2), a, atol=1e-11)
    right = np.random.default_rng(1).normal(size=(2, 3, d, 2))
    np.testing.assert_allclose(linalg.solve(jnp.asarray(a), jnp.asarray(right)), np.linalg.solve(a, right), atol=1e-11)


@pytest.mark.parametrize("function", [linalg.cholesky, linalg.invert_lower])
@pytest.mark.parametrize("d", [2, 6])
def test_derivatives(x64, function, d):
    """First and second derivatives agree with finite differences."""
    a = definite(2, d, (2,))
    a = np.linalg.cholesky(a) if function is linalg.invert_lower else a

    def of_symmetric(a):
        return function(a if function is linalg.invert_lower else (a + jnp.swapaxes(a, -1, -2)) / 2)

    check_grads(jax.jit(jax.vmap(of_symmetric)), (jnp.asarray(a),), order=2, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("d", [2, 6])
def test_one_bad_matrix_spoils_no_other(d):
    """A matrix that is not positive definite gives NaN for itself and finite factors for its neighbours."""
    a = definite(3, d, (3,)).astype(np.float32)
    a[1] = -a[1]
    lower = np.asarray(jax.jit(jax.vmap(linalg.cholesky))(a))
    assert np.isnan(lower[1]).any()
    assert np.isfinite(lower[[0, 2]]).all()


def test_programs_at_the_same_time_end():
    """Two threads that factorise stacks at the same time both end, although with plain jaxlib calls they can wait forever."""
    a = jnp.asarray(definite(4, 16, (200,)), jnp.float32)

    @jax.jit
    def twice(a):
        def body(_, both):
            return tuple(linalg.invert_lower(linalg.cholesky(a + 0.01 * x @ jnp.swapaxes(x, -1, -2))) for x in both)

        return jax.lax.fori_loop(0, 20, body, (a, 2 * a))

    twice(a)
    with ThreadPoolExecutor(2) as pool:
        for found in pool.map(lambda _: jax.block_until_ready(twice(a)), range(4)):
            assert bool(jnp.isfinite(found[0]).all())
