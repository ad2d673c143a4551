"""Sums over rows: chunks, weights and compensation do not change what a sum is."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgmm.row_sums import nonzero, sum_over_rows, zero_silenced


def moments(rows, w):
    """Return the weight, the weighted sum and the weighted squares of rows."""
    x, y = rows
    return {"weight": w.sum(), "first": w @ x, "squares": (w * y**2).sum()}


@pytest.mark.parametrize("chunk", [1, 7, 16, 48, 100, 101, 1000])
@pytest.mark.parametrize("weighted", [True, False])
def test_chunks_do_not_matter(chunk, weighted, x64):
    """Chunks that divide the rows, leave a remainder or exceed them give the sum over all rows, by NumPy."""
    rng = np.random.default_rng(0)
    x, y, w = rng.normal(size=(100, 3)), rng.normal(size=100), rng.gamma(1.0, size=100)
    found = sum_over_rows(moments, (jnp.asarray(x), jnp.asarray(y)), jnp.asarray(w) if weighted else None, chunk)
    w = w if weighted else np.ones(100)
    np.testing.assert_allclose(found["weight"], w.sum(), rtol=1e-13)
    np.testing.assert_allclose(found["first"], w @ x, rtol=1e-12)
    np.testing.assert_allclose(found["squares"], w @ y**2, rtol=1e-13)


def test_float32_is_compensated():
    """A million numbers near 1 in chunks of 16 sum to the last digit, where plain float32 addition loses three."""
    x = np.float32(1) + np.float32(0.1) * np.random.default_rng(0).random(1_000_000, np.float32)
    total = jax.jit(lambda x: sum_over_rows(lambda rows, w: (w * rows).sum(), x, None, 16))(jnp.asarray(x))
    np.testing.assert_allclose(total, x.sum(dtype=float), rtol=2e-7)
    plain = np.add.accumulate(x.reshape(-1, 16).sum(1), dtype=np.float32)[-1]
    assert abs(plain - x.sum(dtype=float)) > 100 * abs(float(total) - x.sum(dtype=float))


def test_gradients_pass_through_chunks(x64):
    """The derivative with respect to rows and weights is that of the plain sum, in chunks too."""
    x, w = jnp.asarray(np.random.default_rng(1).normal(size=50)), jnp.linspace(0.0, 1.0, 50)

    def total(x, w, chunk):
        return sum_over_rows(lambda rows, w: (w * jnp.sin(rows)).sum(), x, w, chunk)

    in_x, in_w = jax.grad(total, argnums=(0, 1))(x, w, 16)
    np.testing.assert_allclose(in_x, w * jnp.cos(x), rtol=1e-12)
    np.testing.assert_allclose(in_w, jnp.sin(x), rtol=1e-12)


def test_silenced_rows_and_empty_totals():
    """Rows of weight 0 become zeros whatever they hold; totals of 0 become 1, so that they divide."""
    rows = jnp.array([[1.0, 2.0], [jnp.nan, jnp.inf]])
    assert zero_silenced(rows, jnp.array([0.5, 0.0])).tolist() == [[1, 2], [0, 0]]
    assert nonzero(jnp.array([0.0, 3.0])).tolist() == [1, 3]
