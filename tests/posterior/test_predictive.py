"""predictive: densities and responsibilities against averages by NumPy, and moments of samples."""

import jax
import jax.numpy as jnp
import numpy as np
import predictive_draws
import pytest
from predictive_draws import CHAINS, DRAWS, D, K, N, arrays, joint, make_posterior, shares, shuffled
from scipy.special import logsumexp

import jaxgmm
from jaxgmm import chunking
from jaxgmm.posterior import coclustering, predictive


@pytest.fixture(scope="module")
def posterior():
    return predictive_draws.posterior()


@pytest.fixture(scope="module")
def x():
    return predictive_draws.points()


def test_density_is_the_mean_of_the_draws_densities(posterior, x):
    expected = logsumexp(logsumexp(joint(), axis=-1), axis=0) - np.log(CHAINS * DRAWS)
    np.testing.assert_allclose(jaxgmm.predictive_log_prob(posterior, x), expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(jaxgmm.predictive_log_prob(shuffled(), x), expected, rtol=1e-5, atol=1e-5)


def test_density_far_out(posterior, x):
    """Where densities underflow the value is finite while logarithms are, and -inf beyond; gradients are finite too."""
    far = np.full((N, D), 1e3)
    value = jaxgmm.predictive_log_prob(posterior, far)
    assert np.isfinite(value).all()
    assert (value < -1e4).all()
    assert np.isneginf(jaxgmm.predictive_log_prob(posterior, np.full((N, D), 1e25))).all()
    slope = jax.jit(jax.grad(lambda x: predictive.predictive_log_prob(posterior, x).sum()))
    assert np.isfinite(slope(jnp.asarray(far))).all()
    step = 1e-2 * np.eye(N, D)[:, 0, None]  # the first point, along every axis
    both = [float(jaxgmm.predictive_log_prob(posterior, x + s * step)[0]) for s in (1, -1)]
    assert float(slope(jnp.asarray(x, float))[0].sum()) == pytest.approx((both[0] - both[1]) / 2e-2, rel=2e-2, abs=2e-3)


def test_responsibilities_are_averages(posterior, x):
    got = jaxgmm.predictive_responsibilities(posterior, x)
    np.testing.assert_allclose(got, shares().mean(0), atol=1e-5)
    np.testing.assert_allclose(got.sum(-1), 1, atol=1e-6)


def test_batches_of_draws_change_nothing(posterior, x, monkeypatch):
    """50 draws in batches of 4, of which the last is padded, give the same results."""
    functions = {
        predictive._log_mean: jaxgmm.predictive_log_prob,
        predictive.mean_responsibilities: jaxgmm.predictive_responsibilities,
        coclustering._coclustering: jaxgmm.coclustering,
    }
    whole = [public(posterior, x) for public in functions.values()]
    monkeypatch.setattr(chunking, "_DRAW_NUMBERS", 4 * N * K * D)
    for (private, public), expected in zip(functions.items(), whole, strict=True):
        private.clear_cache()
        np.testing.assert_allclose(public(posterior, x), expected, rtol=1e-5, atol=1e-6)
        private.clear_cache()  # so that no other test uses a program that was compiled for the small batch


def test_memory_is_that_of_a_batch():
    """All of 4000 draws and 50 000 points at once would take 4.8 GB."""
    shape = jax.tree.map(
        lambda shape: jax.ShapeDtypeStruct(shape, jnp.float32),
        jaxgmm.Mixture((4000, 3), (4000, 3, 2), (4000, 3, 2, 2)),
        is_leaf=lambda leaf: isinstance(leaf, tuple),
    )
    points = jax.ShapeDtypeStruct((50_000, 2), jnp.float32)
    compiled = predictive._log_mean.lower(shape, points).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 10 * chunking._DRAW_NUMBERS


def test_samples_have_the_posteriors_moments():
    """Two components 10 apart with sds 1 and 3, and weights .2 and .6; six tests of |z| < 5 fail with probability 4e-6."""
    weights = np.array([[[0.2, 0.8], [0.6, 0.4]]])
    means = np.array([[[[0.0], [10.0]], [[1.0], [12.0]]]])
    covariances = np.broadcast_to(np.array([[1.0], [9.0]]), (1, 2, 2, 1))
    posterior = make_posterior(weights, means, covariances, "diag")
    n = 20_000
    x, labels = (np.asarray(v) for v in jaxgmm.predictive_sample(jax.random.key(3), posterior, n))
    assert x.shape == (n, 1)
    assert labels.shape == (n,)
    share = weights.mean((0, 1))
    assert abs((labels == 0).mean() - share[0]) < 5 * np.sqrt(share[0] * share[1] / n)
    for k in range(2):
        within = x[labels == k, 0]
        part = weights[0, :, k] / weights[0, :, k].sum()  # probability of the draws, given that a point is of this component
        mean = part @ means[0, :, k, 0]
        variance = covariances[0, 0, k, 0] + part @ (means[0, :, k, 0] - mean) ** 2
        assert abs(within.mean() - mean) < 5 * np.sqrt(variance / len(within))
        # a mixture of normals with close means and equal variances has kurtosis <= 3
        assert abs(within.var() - variance) < 5 * variance * np.sqrt(2 / len(within))
    assert abs(x.mean() - (weights * means[..., 0]).sum(-1).mean()) < 5 * x.std() / np.sqrt(n)


def test_posteriors_of_many_data_sets(posterior, x):
    """Under jit and vmap each data set gets the numbers that its posterior alone gives."""
    turned = jax.tree.map(lambda leaf: leaf[::-1] if leaf.ndim else leaf, posterior)
    first = jax.tree.map(lambda leaf: leaf[:1] if leaf.ndim else leaf, posterior)
    second = jax.tree.map(lambda leaf: leaf[:1] if leaf.ndim else leaf, turned)
    stack = jax.tree.map(lambda *leaves: jnp.stack(leaves), first, second)
    with pytest.raises(ValueError, match=r"use jax\.vmap"):
        jaxgmm.predictive_log_prob(stack, x)
    got = jax.jit(jax.vmap(lambda p: jaxgmm.predictive_log_prob(p, x)))(stack)
    for batched, one in zip(got, (first, second), strict=True):
        np.testing.assert_allclose(batched, jaxgmm.predictive_log_prob(one, x), rtol=1e-6)


def test_labels_must_be_identified(x):
    raw, lost = make_posterior(*arrays()), make_posterior(*arrays(), labels_identified=False)
    for refused, words in [(raw, "has not been relabelled"), (lost, "labels are not identified")]:
        with pytest.raises(ValueError, match=words):
            jaxgmm.predictive_responsibilities(refused, x)
        with pytest.raises(ValueError, match=words):
            jaxgmm.assignment_entropy(refused, x)
    assert np.isnan(jax.jit(predictive.predictive_responsibilities)(lost, x)).all()
    one = make_posterior(np.ones((1, 2, 1)), np.zeros((1, 2, 1, D)), np.ones((1, 2, 1, 1)), "spherical")
    assert (jaxgmm.assignment_entropy(one, x) == 0).all()  # a single component is certain


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda p, x: jaxgmm.predictive_log_prob(p.mixture, x), TypeError, "a jaxgmm.Posterior was expected"),
        (lambda p, x: jaxgmm.predictive_log_prob(p, x * np.nan), ValueError, "NaN"),
        (lambda p, x: jaxgmm.predictive_sample(p, p, 3), TypeError, "a random key was expected"),
        (lambda p, x: jaxgmm.predictive_sample(jax.random.key(0), p, 2.0), TypeError, "an integer >= 0"),
    ],
)
def test_invalid_arguments(posterior, x, call, error, words):
    with pytest.raises(error, match=words):
        call(posterior, x)
