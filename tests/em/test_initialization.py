"""initialize: starts do not depend on units, treat weights as repetition, are positive definite and not degenerate."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from jaxgmm import chunking
from jaxgmm.chunking import start_rows
from jaxgmm.em.initialization import START_PSEUDO_COUNT, StartOptions, _cluster_log_likelihood, initialize_batch
from jaxgmm.em.restart_starts import restart_starts

import oracle
from helpers import (
    COVARIANCE_TYPES,
    OTHER_TWO_COVARIANCE_TYPES,
    assert_mixtures_close,
    random_data,
    random_weight,
    slow_unless,
)

X = random_data(0, d=2)
cluster_log_likelihood = jax.jit(_cluster_log_likelihood, static_argnums=(3, 4))


def is_sound(mixture):
    """Return whether a mixture is finite, with weights that sum to 1 and positive definite covariances."""
    dense = np.array([oracle.dense(mixture, k) for k in range(mixture.num_components)])
    return (
        all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(mixture))
        and (np.linalg.eigvalsh(dense) > 0).all()
        and abs(float(mixture.weights.sum()) - 1) < 1e-5
        and bool((mixture.weights >= 0).all())
    )


def hard_data():
    """Return data sets that could make covariances singular or distances overflow."""
    line = np.linspace(-1, 1, 60)[:, None]
    rng = np.random.default_rng(0)
    return {
        "constant column": np.hstack([line, np.full((60, 1), 7.0)]),
        "constant column of zeros": np.hstack([line, np.zeros((60, 1))]),
        "collinear columns": np.hstack([line, 3 * line - 1]),
        "identical rows": np.full((60, 2), 5.0),
        "two distinct rows": np.repeat([[0.0, 1.0], [2.0, -3.0]], 30, axis=0),
        "offset of 1e6 sds": rng.normal(size=(60, 2)) + 1e6,
        "units of 1e-6 and 1e6": rng.normal(size=(60, 2)) * [1e-6, 1e6],
        "an outlier of 1e8": np.concatenate([rng.normal(size=(59, 2)), [[1e8, 0.0]]]),
        "tiny": 1e-10 * rng.normal(size=(60, 2)),
        "huge": 1e12 * rng.normal(size=(60, 2)),
    }


@pytest.mark.parametrize("covariance_type", slow_unless(COVARIANCE_TYPES, ("full",)))
def test_starts_are_positive_definite(covariance_type):
    """In float32, for any data, starts are finite and positive definite; without K distinct rows some weights are 0."""
    data = hard_data()
    xs = np.stack(list(data.values())).astype(np.float32)
    start = partial(jaxgmm.initialize, jax.random.key(0), num_components=3, covariance_type=covariance_type)
    starts = jax.jit(jax.vmap(start))(xs)
    for i, name in enumerate(data):
        assert is_sound(starts[i]), name
    assert int((starts[list(data).index("two distinct rows")].weights > 0).sum()) == 2
    assert int((starts[list(data).index("identical rows")].weights > 0).sum()) == 1


@pytest.mark.parametrize("method", slow_unless(("k-means++", "k-means"), ("k-means++",)))
def test_weights_units_and_offsets(method, x64):
    """For one key an integer weight acts as repetition, 0 as removal, and units and offsets of columns make no difference."""
    start = partial(jax.jit(partial(jaxgmm.initialize, num_components=3, method=method)), jax.random.key(3))
    w = np.random.default_rng(1).choice([0.0, 1.0, 2.0], 60, p=[0.45, 0.35, 0.2])
    assert w.sum() <= 60
    padded = np.concatenate([np.repeat(X, w.astype(int), axis=0), np.full((60, 2), np.nan)])[:60]
    base = start(X, sample_weight=w)
    kept = np.where(w[:, None] > 0, X, np.nan)
    assert_mixtures_close(start(kept, sample_weight=w), base, 1e-12)
    assert_mixtures_close(start(padded, sample_weight=np.isfinite(padded[:, 0]).astype(float)), base, 1e-9)
    units, shift = np.array([1e-3, 1e4]), np.array([5.0, -7.0])
    moved = start(X * units + shift, sample_weight=w)
    back = jaxgmm.Mixture(moved.weights, (moved.means - shift) / units, moved.covariances / np.outer(units, units))
    assert_mixtures_close(back, base, 1e-7)
    other = jaxgmm.initialize(jax.random.key(4), X, num_components=3, method=method)
    again = jaxgmm.initialize(jax.random.key(4), X, num_components=3, method=method)
    np.testing.assert_array_equal(other.means, again.means)


@pytest.mark.parametrize("method", slow_unless(("k-means++", "k-means"), ("k-means",)))
def test_separated_clusters_are_found(method):
    """With three clusters 30 standard deviations apart, every start has one component in each, of the cluster's covariance."""
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(60, 2)) + np.repeat([[0.0, 0], [30, 0], [0, 30]], 20, axis=0)).astype(np.float32)
    starts = jax.jit(jax.vmap(lambda key: jaxgmm.initialize(key, x, num_components=3, method=method)))(
        jax.random.split(jax.random.key(0), 20)
    )
    assert starts.batch_shape == (20,)
    np.testing.assert_allclose(starts.weights, 1 / 3, rtol=1e-5)
    assert (jnp.diagonal(starts.covariances, axis1=-2, axis2=-1) < 30).all()


def test_degenerate_clusters_rank_below_the_others():
    """A cluster of one far point would be by far the most likely; except for tied it ranks below all others."""
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(size=(59, 2)) + np.repeat([[0.0, 0], [3, 0]], [30, 29], axis=0), [[80.0, 80.0]]])
    degenerate, sound = [[0.0, 0], [3, 0], [80, 80]], [[0.0, -1], [0, 1], [3, 0]]
    for covariance_type in COVARIANCE_TYPES:
        log_likelihoods = [
            float(
                cluster_log_likelihood(x.T.astype(np.float32), np.ones(60, np.float32), np.float32(centers), 3, covariance_type)
            )
            for centers in (degenerate, sound)
        ]
        assert np.isfinite(log_likelihoods[1])
        assert log_likelihoods[0] > log_likelihoods[1] if covariance_type == "tied" else log_likelihoods[0] == -np.inf


@pytest.mark.parametrize("covariance_type", OTHER_TWO_COVARIANCE_TYPES)
def test_cluster_log_likelihood(covariance_type, x64):
    """It is that of the mixture of the clusters, whose covariances are shrunk a little towards unit variance."""
    w, centers = random_weight(0), X[[0, 20, 40]]
    r = np.eye(3)[((X[:, None] - centers) ** 2).sum(-1).argmin(1)]
    plain = oracle.mixture_of_groups(X, r, w, covariance_type)
    extra = START_PSEUDO_COUNT / 3 * w.sum()
    count = np.full(3, w.sum()) if covariance_type == "tied" else plain.weights * w.sum()
    matrices = [(oracle.dense(plain, k) * count[k] + extra * np.eye(2)) / (count[k] + extra) for k in range(3)]
    expected = w @ oracle.log_prob(plain._replace(covariances=oracle.store(matrices, covariance_type)), X) / w.sum()
    found = cluster_log_likelihood(X.T, w, centers, len(centers), covariance_type)
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_many_rows(x64):
    """With more rows than the subsample, weights still act as repetition, and the moments are those of all rows."""
    rng = np.random.default_rng(0)
    n = 2 * start_rows(3)
    x = rng.normal(size=(n, 1)) + 20 * rng.integers(3, size=(n, 1))
    w = rng.choice([0.0, 1.0, 2.0], n, p=[0.45, 0.35, 0.2])
    repeated = np.concatenate([np.repeat(x, w.astype(int), axis=0), np.full((n, 1), np.nan)])[:n]
    start = jax.jit(partial(jaxgmm.initialize, num_components=3, covariance_type="diag"))
    base = start(jax.random.key(0), x, sample_weight=w)
    silenced = start(jax.random.key(0), np.where(w[:, None] > 0, x, np.nan), sample_weight=w)
    assert_mixtures_close(silenced, base, 1e-12)
    assert_mixtures_close(start(jax.random.key(0), repeated, sample_weight=np.isfinite(repeated[:, 0]) * 1.0), base, 1e-9)
    order = np.argsort(base.means[:, 0])
    labels = np.digitize(x[:, 0], [10, 30])
    expected = oracle.mixture_of_groups(x, np.eye(3)[labels], w, "diag")
    np.testing.assert_allclose(base.weights[order], expected.weights, rtol=1e-9)
    np.testing.assert_allclose(base.means[order], expected.means, rtol=1e-9, atol=1e-9)


def test_errors():
    """Errors say how many rows were expected."""
    key = jax.random.key(0)
    for wrong, error, words in [
        (lambda: jaxgmm.initialize(key, X[:2], num_components=3), ValueError, "2 rows; at least 3 were expected"),
        (
            lambda: jaxgmm.initialize(key, X, num_components=30, sample_weight=np.arange(60) < 20),
            (TypeError, ValueError),
            "expected",
        ),
        (lambda: jaxgmm.initialize(key, X, num_components=30, sample_weight=(np.arange(60) < 20) * 1.0), ValueError, "20 rows"),
    ]:
        with pytest.raises(error, match=words):
            wrong()


def test_batches_are_single_starts():
    """A batch gives the starts of `initialize`, for stacked data and weights, and for data that all starts share."""
    keys = jax.random.split(jax.random.key(5), 3)
    xs = np.stack([random_data(seed, d=2) for seed in range(3)]).astype(np.float32)
    weight = np.stack([random_weight(seed) for seed in range(3)]).astype(np.float32)
    options = StartOptions(3, "diag", "k-means++")
    single = partial(jaxgmm.initialize, num_components=3, covariance_type="diag")
    stacked = initialize_batch(keys, jnp.asarray(xs), jnp.asarray(weight), options)
    shared = initialize_batch(keys, jnp.asarray(xs[0]), None, options)
    for b, key in enumerate(keys):
        assert_mixtures_close(stacked[b], single(key, xs[b], sample_weight=weight[b]), 1e-4)
        assert_mixtures_close(shared[b], single(key, xs[0]), 1e-4)


def test_absent_components():
    """Components beyond `num_present` have weight 0."""
    keys, x = jnp.stack([jax.random.key(0)] * 2), jnp.asarray(X, jnp.float32)
    starts = initialize_batch(keys, x, None, StartOptions(4, "full", "k-means++"), num_present=jnp.array([2, 4]))
    np.testing.assert_array_equal(starts.weights > 0, [[True, True, False, False], [True] * 4])


def test_large_problems_have_one_candidate(monkeypatch):
    """Where candidates cannot be compared, a start is made from one candidate, and so is each start of restarts."""
    assert chunking.can_compare_starts(63, 2**40)  # with fewer than 64 components, candidates are always compared
    assert not chunking.can_compare_starts(64, 2**40)
    monkeypatch.setattr(chunking, "_CANDIDATE_NUMBERS", 0)
    monkeypatch.setattr(chunking, "MANY_COMPONENTS", 0)
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(80, 5)) + 20 * (np.arange(80) % 4)[:, None], jnp.float32)  # no other test has this shape
    options = StartOptions(4, "spherical", "k-means++")
    start = jaxgmm.initialize(jax.random.key(0), x, **options._asdict())
    assert is_sound(start)
    np.testing.assert_allclose(start.weights, 0.25, atol=1e-6)
    starts = restart_starts(jax.random.key(0), x, None, options, 2)
    assert starts.weights.shape == (2, 4)
    assert is_sound(starts[0])
    assert (starts[0].means != starts[1].means).any()
