"""Properties that hold for every data set: hypothesis chooses permutations, weights and shapes.

Arrays come in a few fixed shapes, so that each function is compiled a few times only.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxgmm

from helpers import COVARIANCE_TYPES, assert_mixtures_close, enabled_x64, random_data, random_mixture

N, D, K, STEPS, LARGEST_WEIGHT = 24, 2, 3, 5, 3
few = settings(max_examples=25, deadline=None, derandomize=True)
covariance_types, seeds = st.sampled_from(COVARIANCE_TYPES), st.integers(0, 2**16)
integer_weights = st.lists(st.integers(0, LARGEST_WEIGHT), min_size=N, max_size=N).filter(lambda w: sum(w) >= N // 2)
fit = jax.jit(partial(jaxgmm.fit, tol=0.0, max_iter=STEPS))
e_step = jax.jit(jaxgmm.e_step)


def start_and_data(seed, covariance_type):
    """Return a start and data whose components overlap."""
    start = random_mixture(seed, covariance_type, k=K, d=D, spread=1.5)
    return start, random_data(seed, n=N, d=D, k=K, spread=1.5)


def permuted(mixture, order):
    """Return the mixture with its components in another order."""
    order = np.asarray(order)
    covariances = mixture.covariances if mixture.covariance_type == "tied" else mixture.covariances[order]
    return jaxgmm.Mixture(mixture.weights[order], mixture.means[order], covariances, mixture.covariance_type)


def assert_same_moments(a, b, order=slice(None)):
    """Assert that the moments b are the moments a, with the components in another order."""
    for name in ("count", "first", "second"):
        np.testing.assert_allclose(getattr(b, name), getattr(a, name)[order], rtol=1e-9, atol=1e-9, err_msg=name)
    np.testing.assert_allclose(b.log_likelihood, a.log_likelihood, rtol=1e-12)


@few
@given(seed=seeds, covariance_type=covariance_types, order=st.permutations(range(K)), rows=st.permutations(range(N)))
def test_order_of_components_and_rows(seed, covariance_type, order, rows):
    """Permutations of components and rows leave the moments and the objectives of a fit the same."""
    with enabled_x64():
        start, x = start_and_data(seed, covariance_type)
        order, rows = np.asarray(order), np.asarray(rows)
        weight = np.ones(N)
        other = permuted(start, order)
        moments, moved = e_step(start, x, sample_weight=weight), e_step(other, x[rows], sample_weight=weight)
        assert_same_moments(moments, moved, order)
        found, again = fit(start, x, sample_weight=weight), fit(other, x[rows], sample_weight=weight)
        np.testing.assert_allclose(again.history, found.history, rtol=1e-9)
        assert_mixtures_close(again.mixture, permuted(found.mixture, order), 1e-6)


@few
@given(seed=seeds, covariance_type=covariance_types, weights=integer_weights)
def test_integer_weights_are_repetition(seed, covariance_type, weights):
    """Weights that are integers give what repeated rows give; a weight of 0 removes a row, even if it holds NaN."""
    with enabled_x64():
        start, x = start_and_data(seed, covariance_type)
        w = np.asarray(weights)
        padding = N * LARGEST_WEIGHT - w.sum()
        repeated = np.concatenate([np.repeat(x, w, axis=0), np.full((padding, D), np.nan)])
        is_row = np.concatenate([np.ones(w.sum()), np.zeros(padding)])
        weighted = jnp.asarray(np.where(w[:, None] > 0, x, np.nan)), w.astype(float)
        moments = e_step(start, weighted[0], sample_weight=weighted[1])
        assert_same_moments(moments, e_step(start, jnp.asarray(repeated), sample_weight=is_row))
        found = fit(start, weighted[0], sample_weight=weighted[1])
        again = fit(start, jnp.asarray(repeated), sample_weight=is_row)
        np.testing.assert_allclose(again.history, found.history, rtol=1e-9)
        assert_mixtures_close(again.mixture, found.mixture, 1e-6)


@settings(max_examples=8)  # each example compiles programs of its own
@given(
    n=st.sampled_from([0, 5]),
    d=st.sampled_from([1, 5]),
    k=st.sampled_from([1, 2]),
    batch=st.sampled_from([(), (2,)]),
    covariance_type=covariance_types,
)
def test_shapes_of_densities(n, d, k, batch, covariance_type):
    """log_prob is (..., N), responsibilities (..., N, K) with rows that sum to one, predict (..., N) integers below K."""
    mixture = random_mixture(0, covariance_type, k=k, d=d)
    for size in batch:
        mixture = jax.tree.map(lambda leaf, size=size: jnp.stack([leaf] * size), mixture)
    x = random_data(0, n=n, d=d, k=k).astype(np.float32)
    log_prob, r, labels = jaxgmm.log_prob(mixture, x), jaxgmm.responsibilities(mixture, x), jaxgmm.predict(mixture, x)
    assert log_prob.shape == labels.shape == (*batch, n)
    assert r.shape == (*batch, n, k)
    assert np.isfinite(log_prob).all()
    np.testing.assert_allclose(r.sum(-1), 1, rtol=1e-5)
    assert jnp.issubdtype(labels.dtype, jnp.integer)
    assert ((labels >= 0) & (labels < k)).all()
    one = jax.tree.map(lambda leaf: leaf[(0,) * len(batch)], mixture)
    x_drawn, labels_drawn = jaxgmm.sample(jax.random.key(n), one, n)
    assert x_drawn.shape == (n, d)
    assert labels_drawn.shape == (n,)
