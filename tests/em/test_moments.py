"""The E-step: against loops, the law that moments add, weights, and rows at the edge of the float type."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm

import oracle
from helpers import (
    COVARIANCE_TYPES,
    OTHER_TWO_COVARIANCE_TYPES,
    TWO_COVARIANCE_TYPES,
    random_data,
    random_mixture,
    random_weight,
)

e_step = partial(jax.jit, static_argnames="chunk_size")(jaxgmm.e_step)
m_step = jax.jit(jaxgmm.m_step)


def assert_moments_close(a, b, tolerance):
    """Assert that all fields agree within a relative tolerance, and within 100 times that near 0."""
    for name in ("count", "first", "second", "log_likelihood"):
        np.testing.assert_allclose(getattr(a, name), getattr(b, name), rtol=tolerance, atol=tolerance * 100, err_msg=name)


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_e_step_is_the_oracles(covariance_type, x64):
    """Count, first, second and the log-likelihood are the weighted sums that define them."""
    mixture, x, w = random_mixture(0, covariance_type), random_data(0), random_weight(0)
    assert_moments_close(e_step(mixture, x, sample_weight=w), oracle.e_step(mixture, x, w), 1e-10)


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_carried_moments_are_those_of_the_new_coordinates(covariance_type, x64):
    """Each row is whitened by the new mixture and weighted by its responsibilities under the old one."""
    old, new = random_mixture(0, covariance_type), random_mixture(1, covariance_type)
    x, w = random_data(0), random_weight(0)
    r = w[:, None] * np.asarray(jaxgmm.responsibilities(old, x))
    expected = oracle.e_step(old, x, w)
    (k, d), is_dense = old.means.shape, expected.second.ndim == 3
    for i, matrix in enumerate(jaxgmm.covariance.to_dense(np.asarray(new.covariances), covariance_type, k, d)):
        z = np.linalg.solve(np.linalg.cholesky(matrix), (x - new.means[i]).T).T
        second = np.einsum("n,ni,nj->ij", r[:, i], z, z)
        expected.first[i] = r[:, i] @ z
        expected.second[i] = second if is_dense else second.diagonal()
    moments = e_step(old, x, sample_weight=w)
    assert_moments_close(moments.carried(old, new), expected, 1e-10)
    assert_moments_close(moments.carried(old, new).carried(new, old), moments, 1e-10)


def test_moments_of_other_forms_cannot_be_carried(x64):
    """The two mixtures must have the same covariance type."""
    full, diag = random_mixture(0, "full"), random_mixture(0, "diag")
    with pytest.raises(ValueError, match="two mixtures of one form were expected"):
        e_step(full, random_data(0)).carried(full, diag)


@pytest.mark.parametrize("covariance_type", ["tied", "spherical"])
def test_moments_add(covariance_type, x64):
    """Chunks of 1, of 7 and of N rows, and uneven parts added with `+`, give the moments of all rows."""
    mixture, x, w = random_mixture(2, covariance_type), random_data(2), random_weight(2)
    whole = e_step(mixture, x, sample_weight=w)
    for chunk_size in (1, 7):
        assert_moments_close(e_step(mixture, x, sample_weight=w, chunk_size=chunk_size), whole, 1e-12)
    parts = e_step(mixture, x[:13], sample_weight=w[:13]) + e_step(mixture, x, sample_weight=np.where(np.arange(60) < 13, 0, w))
    assert_moments_close(parts, whole, 1e-12)


@pytest.mark.parametrize("covariance_type", OTHER_TWO_COVARIANCE_TYPES)
def test_chunks_agree_in_tiny_units(covariance_type):
    """In float32, with covariances 1e-10 of those of data of size 1e-12, chunks of any size give the same sums to rounding."""
    mixture, x = random_mixture(4, covariance_type), np.float32(1e-12 * random_data(4))
    mixture = jaxgmm.Mixture(
        np.float32(mixture.weights), np.float32(1e-12 * mixture.means), np.float32(1e-34 * mixture.covariances), covariance_type
    )
    whole = e_step(mixture, x)
    for chunk_size in (1, 7, 32):
        for part, all_rows in zip(
            jax.tree.leaves(e_step(mixture, x, chunk_size=chunk_size)), jax.tree.leaves(whole), strict=True
        ):
            np.testing.assert_allclose(part, all_rows, rtol=0, atol=2e-6 * float(abs(all_rows).max()))


@pytest.mark.parametrize("covariance_type", ["full"])
def test_weights_are_repetition_and_zero_is_removal(covariance_type, x64):
    """An integer weight repeats a row; weight 0 removes it, whatever it holds."""
    mixture, x = random_mixture(3, covariance_type), random_data(3)
    w = np.random.default_rng(3).integers(0, 4, 60)
    spoilt = np.where(w[:, None] == 0, [[np.nan, np.inf, 1e300]], x)
    expected = e_step(mixture, np.repeat(x, w, axis=0))
    assert_moments_close(e_step(mixture, x, sample_weight=w.astype(float)), expected, 1e-12)
    assert_moments_close(e_step(mixture, jnp.asarray(spoilt), sample_weight=w.astype(float)), expected, 1e-12)
    gradient = jax.grad(lambda m: e_step(m, jnp.asarray(spoilt), sample_weight=w.astype(float)).log_likelihood)(mixture)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


@pytest.mark.parametrize("covariance_type", ["full", "diag"])
def test_far_points_are_never_nan(covariance_type):
    """Where every density underflows in float32, moments and the next step are finite."""
    mixture = random_mixture(6, covariance_type)
    x = np.array([[1e15, 1e15, -1e15], [3e6, 0, 0], [0, 0, 0]] * 20, np.float32)
    moments = e_step(mixture, x)
    assert np.isfinite(moments.count).all()
    assert abs(float(moments.count.sum()) - 60) < 1e-3
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(m_step(mixture, moments)))


def test_refusals(x64):
    """Wrong shapes and options are refused with what was expected."""
    mixture, x = random_mixture(0, "full"), random_data(0)
    for wrong, error, words in [
        (lambda: jaxgmm.e_step(mixture, x[0]), ValueError, r"\(N, D\) was expected"),
        (lambda: jaxgmm.e_step(mixture, x[:, :2]), ValueError, "3"),
        (lambda: jaxgmm.e_step(mixture, x, sample_weight=np.ones(5)), ValueError, "one weight per row was expected"),
        (lambda: jaxgmm.e_step(mixture, x, sample_weight=-np.ones(60)), ValueError, ">= 0 were expected"),
        (lambda: jaxgmm.e_step(mixture, x, chunk_size=0), ValueError, "integer >= 1 was expected"),
        (lambda: jaxgmm.e_step(mixture, x, chunk_size=2.0), TypeError, "integer >= 1 was expected"),
    ]:
        with pytest.raises(error, match=words):
            wrong()


@pytest.mark.parametrize("covariance_type", TWO_COVARIANCE_TYPES)
def test_rows_whose_squares_overflow_count_nowhere(covariance_type):
    """A row of 1e25, which has no square in float32, gives log-likelihood -inf and no moments; NaN stays NaN.

    The same holds in a batch, beside a sound data set.
    """
    mixture = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), random_mixture(3, covariance_type))
    x = random_data(3).astype(np.float32)
    huge, spoilt = x.copy(), x.copy()
    huge[4], spoilt[4] = [1e25, -1e25, 1e25], np.nan
    weight = np.ones(len(x), np.float32)
    weight[4] = 0
    without = e_step(mixture, jnp.asarray(x), sample_weight=weight)
    batch = jax.jit(jax.vmap(lambda x: jaxgmm.e_step(mixture, x)))(jnp.stack([huge, x, spoilt]))
    for found in (e_step(mixture, jnp.asarray(huge)), jax.tree.map(lambda leaf: leaf[0], batch)):
        assert np.isneginf(found.log_likelihood)
        for name in ("count", "first", "second"):
            np.testing.assert_allclose(getattr(found, name), getattr(without, name), rtol=1e-4, atol=1e-4, err_msg=name)
    assert np.isfinite(batch.log_likelihood[1])
    assert np.isnan(batch.log_likelihood[2])
