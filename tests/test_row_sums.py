"""Sums over rows: chunks, weights and compensation do not change what a sum is."""

import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from jaxgmm.row_sums import nonzero, sum_over_rows, weight_or_ones, zero_silenced


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


def test_ones_of_no_weights_are_opaque_to_the_compiler():
    """Inside jit the ones behind missing weights are no constant to XLA; outside they are plain ones; weights are kept."""
    x, given = jnp.zeros((5, 2)), jnp.arange(5.0)
    assert weight_or_ones(given, (5,), x.dtype) is given
    np.testing.assert_array_equal(weight_or_ones(None, (5,), x.dtype), np.ones(5))
    text = jax.jit(lambda x: weight_or_ones(None, x.shape[:1], x.dtype)).lower(x).as_text()
    assert "optimization_barrier" in text


FUNCTIONS_OF_ROWS = {
    "initialize": lambda x: jaxgmm.initialize(jax.random.key(0), x, num_components=2, covariance_type="diag"),
    "from_labels": lambda x: jaxgmm.from_labels(x, (x[:, 0] > 0).astype(int), num_components=2),
    "from_responsibilities": lambda x: jaxgmm.from_responsibilities(x, jnp.stack([x[:, 0] ** 2, x[:, 1] ** 2], 1)),
    "default_prior": lambda x: jaxgmm.default_prior(x, num_components=2),
    "bic": lambda x: jaxgmm.bic(jaxgmm.Mixture(jnp.ones(1), jnp.zeros((1, 2)), jnp.ones((1, 2)), "diag"), x),
}


@pytest.mark.parametrize("name", FUNCTIONS_OF_ROWS)
def test_compile_time_does_not_grow_with_rows(name):
    """With 3000 times as many rows a program compiles at most three times as long; XLA folds no array of the rows' length.

    A folded search through three million rows takes over a minute; the allowance of five seconds is for a busy machine.
    """
    seconds = []
    for rows in (1000, 3_000_000):
        lowered = jax.jit(FUNCTIONS_OF_ROWS[name]).lower(jax.ShapeDtypeStruct((rows, 2), jnp.float32))
        begin = time.process_time()
        lowered.compile()
        seconds.append(time.process_time() - begin)
    assert seconds[1] < 3 * seconds[0] + 5
