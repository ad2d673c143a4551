"""The E-step and the M-step, against loops and against scikit-learn, and the law that moments add."""

import warnings
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm

import oracle
from helpers import COVARIANCE_TYPES, assert_mixtures_close, random_data, random_mixture, random_prior, random_weight

e_step = partial(jax.jit, static_argnames="chunk_size")(jaxgmm.e_step)
m_step = jax.jit(jaxgmm.m_step)


def assert_moments_close(a, b, tolerance):
    for name in ("count", "first", "second", "log_likelihood"):
        np.testing.assert_allclose(getattr(a, name), getattr(b, name), rtol=tolerance, atol=tolerance * 100, err_msg=name)


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_e_step_is_the_oracles(kind, x64):
    """count, first, second, log-likelihood: the sums that define them, weighted."""
    mixture, x, w = random_mixture(0, kind), random_data(0), random_weight(0)
    assert_moments_close(e_step(mixture, x, sample_weight=w), oracle.e_step(mixture, x, w), 1e-10)


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_m_step_is_the_oracles(kind, x64):
    """Penalty, prior, reg_covar and plain ML: the maximiser of the expected complete-data objective."""
    mixture, x, w, prior = random_mixture(0, kind), random_data(0), random_weight(0), random_prior(0, kind)
    moments = e_step(mixture, x, sample_weight=w)
    assert_mixtures_close(m_step(mixture, moments), oracle.m_step(mixture, x, w), 1e-10)
    assert_mixtures_close(m_step(mixture, moments, prior), oracle.m_step(mixture, x, w, prior), 1e-10)
    for reg in (0.0, 1e-3):
        assert_mixtures_close(m_step(mixture, moments, reg_covar=reg), oracle.m_step(mixture, x, w, reg_covar=reg), 1e-10)


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_steps_are_scikit_learns(kind, x64):
    """With reg_covar=1e-6, 1, 5 and 25 steps from one start end where scikit-learn's do."""
    start, x = random_mixture(1, kind), random_data(1)
    ours, done = start, 0
    for steps in (1, 5, 25):
        for _ in range(steps - done):
            ours = m_step(ours, e_step(ours, x), reg_covar=1e-6)
        done = steps
        assert_mixtures_close(ours, scikit_learn(start, x, steps), 1e-6)


def scikit_learn(start, x, steps):
    from sklearn.mixture import GaussianMixture

    kind, dense = start.covariance_type, [oracle.dense(start, k) for k in range(3)]
    precisions = oracle.store([np.linalg.inv(m) for m in dense], kind)
    precisions = {"tied": lambda p: p[0], "spherical": lambda p: p[:, 0]}.get(kind, lambda p: p)(precisions)
    theirs = GaussianMixture(
        3,
        covariance_type=kind,
        tol=0,
        reg_covar=1e-6,
        max_iter=steps,
        weights_init=np.asarray(start.weights),
        means_init=np.asarray(start.means),
        precisions_init=precisions,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tol=0 never converges there
        theirs.fit(x)
    covariances = theirs.covariances_.reshape(start.covariances.shape)
    return oracle.Mixture(theirs.weights_, theirs.means_, covariances, kind)


@pytest.mark.parametrize("kind", ["tied", "spherical"])
def test_moments_add(kind, x64):
    """Chunks of 1, of 7 and of N rows, and uneven parts summed by hand, give the moments of all rows."""
    mixture, x, w = random_mixture(2, kind), random_data(2), random_weight(2)
    whole = e_step(mixture, x, sample_weight=w)
    for chunk_size in (1, 7):
        assert_moments_close(e_step(mixture, x, sample_weight=w, chunk_size=chunk_size), whole, 1e-12)
    parts = e_step(mixture, x[:13], sample_weight=w[:13]) + e_step(mixture, x, sample_weight=np.where(np.arange(60) < 13, 0, w))
    assert_moments_close(parts, whole, 1e-12)


@pytest.mark.parametrize("kind", ["full"])
def test_weights_are_repetition_and_zero_is_removal(kind, x64):
    """An integer weight repeats a row; weight 0 removes it, whatever it holds."""
    mixture, x = random_mixture(3, kind), random_data(3)
    w = np.random.default_rng(3).integers(0, 4, 60)
    poisoned = np.where(w[:, None] == 0, [[np.nan, np.inf, 1e300]], x)
    expected = e_step(mixture, np.repeat(x, w, axis=0))
    assert_moments_close(e_step(mixture, x, sample_weight=w.astype(float)), expected, 1e-12)
    assert_moments_close(e_step(mixture, jnp.asarray(poisoned), sample_weight=w.astype(float)), expected, 1e-12)
    gradient = jax.grad(lambda m: e_step(m, jnp.asarray(poisoned), sample_weight=w.astype(float)).log_likelihood)(mixture)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_one_component_is_closed_form(kind, x64):
    """K=1: the weighted mean and covariance, from any start, in one step."""
    x, w = random_data(4), random_weight(4)
    start = random_mixture(4, kind, k=1)
    step = m_step(start, e_step(start, x, sample_weight=w), reg_covar=0.0)
    covariance = np.cov(x.T, aweights=w, ddof=0)
    np.testing.assert_allclose(step.weights, [1])
    np.testing.assert_allclose(step.means[0], w @ x / w.sum(), rtol=1e-12)
    diagonal = np.diag(covariance)
    expected = {"full": covariance, "tied": covariance, "diag": diagonal, "spherical": diagonal.mean(keepdims=True)}[kind]
    np.testing.assert_allclose(step.covariances[0], expected, rtol=1e-10)
    plain = m_step(start, e_step(start, x, sample_weight=w))
    np.testing.assert_allclose(plain.covariances[0], expected, rtol=3e-6)  # the penalty is worth 1e-6 of an observation


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_empty_components_stay_where_they_are(kind, x64):
    """Nothing in it: mean and covariance kept, weight 0. Weight exactly 0 in the start: stays 0, under a prior too."""
    mixture, x = random_mixture(5, kind), random_data(5)
    far = jaxgmm.Mixture(mixture.weights, mixture.means.at[1].set(1e4), mixture.covariances, kind)
    absent = jaxgmm.Mixture(jnp.asarray([0.4, 0.0, 0.6]), mixture.means, mixture.covariances, kind)
    for start in (far, absent):
        step = m_step(start, e_step(start, x))
        assert float(step.weights[1]) == 0
        np.testing.assert_array_equal(step.means[1], start.means[1])
        if kind != "tied":
            np.testing.assert_array_equal(step.covariances[1], start.covariances[1])
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(step))
    step = m_step(absent, e_step(absent, x), random_prior(5, kind))
    assert float(step.weights[1]) == 0
    assert abs(float(step.weights.sum()) - 1) < 1e-12
    # with a prior, what is empty takes its mode
    prior = random_prior(5, kind)
    step = m_step(far, e_step(far, x), prior)
    np.testing.assert_allclose(step.means[1], prior.mean, rtol=1e-9)
    assert float(step.weights[1]) > 0


@pytest.mark.parametrize("kind", ["full", "diag"])
def test_far_points_are_never_nan(kind):
    """Every density underflows, float32: finite moments and steps."""
    mixture = random_mixture(6, kind)
    x = np.array([[1e15, 1e15, -1e15], [3e6, 0, 0], [0, 0, 0]] * 20, np.float32)
    moments = e_step(mixture, x)
    assert np.isfinite(moments.count).all()
    assert abs(float(moments.count.sum()) - 60) < 1e-3
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(m_step(mixture, moments)))


def test_e_and_m_step_refuse(x64):
    """Wrong shapes and options, in a sentence that names what was expected."""
    mixture, x = random_mixture(0, "full"), random_data(0)
    moments = jaxgmm.Moments(jnp.ones(3), jnp.zeros((3, 3)), jnp.broadcast_to(jnp.eye(3), (3, 3, 3)), jnp.array(0.0))
    prior = random_prior(0, "full")
    for wrong, error, words in [
        (lambda: jaxgmm.e_step(mixture, x[0]), ValueError, r"\(N, D\) was expected"),
        (lambda: jaxgmm.e_step(mixture, x[:, :2]), ValueError, "3"),
        (lambda: jaxgmm.e_step(mixture, x, sample_weight=np.ones(5)), ValueError, "one weight per row was expected"),
        (lambda: jaxgmm.e_step(mixture, x, sample_weight=-np.ones(60)), ValueError, ">= 0 were expected"),
        (lambda: jaxgmm.e_step(mixture, x, chunk_size=0), ValueError, "integer >= 1 was expected"),
        (lambda: jaxgmm.e_step(mixture, x, chunk_size=2.0), TypeError, "integer >= 1 was expected"),
        (lambda: jaxgmm.m_step(mixture, moments, prior, reg_covar=1e-6), ValueError, "both given"),
        (lambda: jaxgmm.m_step(mixture, moments, reg_covar=-1.0), ValueError, ">= 0 was expected"),
        (lambda: jaxgmm.m_step(mixture, moments, random_prior(0, "diag")), ValueError, r"\(3, 3\) was expected"),
        (lambda: jaxgmm.m_step(mixture, moments, "weak"), TypeError, "Prior was expected"),
    ]:
        with pytest.raises(error, match=words):
            wrong()


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_rows_whose_squares_overflow_count_nowhere(kind):
    """In float32 1e25 has no square: such a row gives log-likelihood -inf and no moments, by itself and in a lane beside a sound
    one; NaN stays NaN."""
    mixture = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), random_mixture(3, kind))
    x = random_data(3).astype(np.float32)
    huge, spoilt = x.copy(), x.copy()
    huge[4], spoilt[4] = [1e25, -1e25, 1e25], np.nan
    weight = np.ones(len(x), np.float32)
    weight[4] = 0
    without = e_step(mixture, jnp.asarray(x), sample_weight=weight)
    lanes = jax.jit(jax.vmap(lambda x: jaxgmm.e_step(mixture, x)))(jnp.stack([huge, x, spoilt]))
    for found in (e_step(mixture, jnp.asarray(huge)), jax.tree.map(lambda leaf: leaf[0], lanes)):
        assert np.isneginf(found.log_likelihood)
        for name in ("count", "first", "second"):
            np.testing.assert_allclose(getattr(found, name), getattr(without, name), rtol=1e-4, atol=1e-4, err_msg=name)
    assert np.isfinite(lanes.log_likelihood[1])
    assert np.isnan(lanes.log_likelihood[2])
