"""Starts: hard and soft groups are plain M-steps; k-means++ seeds are free of units, weighted, and never a spike."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from jaxgmm.em import initialization as starts

import oracle
from helpers import COVARIANCE_TYPES, assert_mixtures_close, random_data, random_weight

X, R = random_data(0, d=2), np.random.default_rng(0).dirichlet(np.ones(3), 60)


def groups(x, r, w, kind):
    """The plain M-step of responsibilities: shares, means, covariances divided by n."""
    r = r * w[:, None]
    count = r.sum(0)
    means = (r.T @ x) / count[:, None]
    scatters = np.array(
        [sum(r[n, k] * np.outer(x[n] - means[k], x[n] - means[k]) for n in range(len(x))) for k in range(r.shape[1])]
    )
    matrices = [scatters.sum(0) / count.sum()] * len(count) if kind == "tied" else scatters / count[:, None, None]
    if kind == "spherical":
        matrices = [np.eye(x.shape[1]) * np.trace(m) / x.shape[1] for m in matrices]
    return oracle.Mixture(count / count.sum(), means, oracle.store(matrices, kind), kind)


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_groups_are_plain_m_steps(kind, x64):
    """from_responsibilities and from_labels, weighted: moments of the groups, nothing added."""
    w = random_weight(0)
    labels = R.argmax(1)
    soft = jaxgmm.from_responsibilities(X, R, covariance_type=kind, sample_weight=w)
    assert_mixtures_close(soft, groups(X, R, w, kind), 1e-10)
    hard = jaxgmm.from_labels(X, labels, num_components=3, covariance_type=kind, sample_weight=w)
    assert_mixtures_close(hard, groups(X, np.eye(3)[labels], w, kind), 1e-10)


def test_a_label_that_never_occurs(x64):
    """Weight 0, with the mean and covariance of all data."""
    mixture = jaxgmm.from_labels(X, np.zeros(60, int), num_components=3)
    assert mixture.weights.tolist() == [1, 0, 0]
    np.testing.assert_allclose(mixture.means, np.tile(X.mean(0), (3, 1)), rtol=1e-10)
    np.testing.assert_allclose(mixture.covariances[2], np.cov(X.T, ddof=0), rtol=1e-5)


def is_sound(mixture):
    dense = np.array([oracle.dense(mixture, k) for k in range(mixture.num_components)])
    return (
        all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(mixture))
        and (np.linalg.eigvalsh(dense) > 0).all()
        and abs(float(mixture.weights.sum()) - 1) < 1e-5
        and bool((mixture.weights >= 0).all())
    )


def hard_data():
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


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_starts_are_positive_definite(kind):
    """Whatever the data, float32: finite, positive definite; where there are fewer distinct rows than K, weight 0."""
    data = hard_data()
    xs = np.stack(list(data.values())).astype(np.float32)
    starts = jax.jit(jax.vmap(lambda x: jaxgmm.initialize(jax.random.key(0), x, num_components=3, covariance_type=kind)))(xs)
    for i, name in enumerate(data):
        assert is_sound(starts[i]), name
    assert int((starts[list(data).index("two distinct rows")].weights > 0).sum()) == 2
    assert int((starts[list(data).index("identical rows")].weights > 0).sum()) == 1


@pytest.mark.parametrize("method", ["k-means++", "k-means"])
def test_laws_of_seeds(method, x64):
    """Same key: integer weights are repetition and 0 removal; units and offsets of columns go along; keys differ."""
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


@pytest.mark.parametrize("method", ["k-means++", "k-means"])
def test_separated_clusters_are_found(method):
    """Three clusters 30 sds apart: every start has one component in each, its covariance near the cluster's own."""
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(60, 2)) + np.repeat([[0.0, 0], [30, 0], [0, 30]], 20, axis=0)).astype(np.float32)
    starts = jax.jit(jax.vmap(lambda key: jaxgmm.initialize(key, x, num_components=3, method=method)))(
        jax.random.split(jax.random.key(0), 20)
    )
    assert starts.batch_shape == (20,)
    np.testing.assert_allclose(starts.weights, 1 / 3, rtol=1e-5)
    assert (jnp.diagonal(starts.covariances, axis1=-2, axis2=-1) < 30).all()


def test_lloyd_lowers_the_sum_of_squares():
    """Each step of k-means improves on its seeds, in standardised units, for every key."""
    x, weight = jnp.asarray((X - X.mean(0)) / X.std(0), jnp.float32), jnp.ones(60)

    def inertia(centers):
        return ((x[:, None] - centers) ** 2).sum(-1).min(1).sum()

    def path(uniform):
        seeds = starts._plus_plus(uniform, x.T, weight)
        return jnp.stack([inertia(starts._lloyd(x.T, weight, seeds, steps)) for steps in (0, 1, 3, 100)])

    paths = np.asarray(jax.jit(jax.vmap(path))(jax.random.uniform(jax.random.key(0), (5, 3, 3))))
    assert (np.diff(paths, axis=1) <= 1e-5 * paths[:, :1]).all()
    assert (paths[:, -1] < paths[:, 0]).any()


def test_no_spike_where_there_is_a_choice():
    """A component on one far point would be likeliest by far: it ranks below every candidate without one, but for tied."""
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(size=(59, 2)) + np.repeat([[0.0, 0], [3, 0]], [30, 29], axis=0), [[80.0, 80.0]]])
    spike, sound = [[0.0, 0], [3, 0], [80, 80]], [[0.0, -1], [0, 1], [3, 0]]
    for kind in COVARIANCE_TYPES:
        merits = [float(starts._merit(jnp.asarray(x.T), jnp.ones(60), jnp.array(c), len(c), kind)) for c in (spike, sound)]
        assert np.isfinite(merits[1])
        assert merits[0] > merits[1] if kind == "tied" else merits[0] == -np.inf


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_merit_is_the_likelihood_of_the_groups(kind, x64):
    """Of the mixture of the groups, drawn a little towards unit variance."""
    w, centers = random_weight(0), X[[0, 20, 40]]
    r = np.eye(3)[((X[:, None] - centers) ** 2).sum(-1).argmin(1)]
    plain = groups(X, r, w, kind)
    extra = starts._START_PSEUDO_COUNT / 3 * w.sum()
    count = np.full(3, w.sum()) if kind == "tied" else plain.weights * w.sum()
    matrices = [(oracle.dense(plain, k) * count[k] + extra * np.eye(2)) / (count[k] + extra) for k in range(3)]
    expected = w @ oracle.log_prob(plain._replace(covariances=oracle.store(matrices, kind)), X) / w.sum()
    merit = starts._merit(jnp.asarray(X.T), jnp.asarray(w), jnp.asarray(centers), len(centers), kind)
    np.testing.assert_allclose(merit, expected, rtol=1e-9)


def test_many_rows(x64):
    """More rows than the centres are sought on: weights are still repetition, and the moments are those of all rows."""
    rng = np.random.default_rng(0)
    n = 2 * starts.start_rows(3)
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
    expected = groups(x, np.eye(3)[labels], w, "diag")
    np.testing.assert_allclose(base.weights[order], expected.weights, rtol=1e-9)
    np.testing.assert_allclose(base.means[order], expected.means, rtol=1e-9, atol=1e-9)


def test_refusals():
    """Labels and responsibilities out of range, too few rows, in a sentence."""
    key = jax.random.key(0)
    for wrong, error, words in [
        (lambda: jaxgmm.initialize(key, X[:2], num_components=3), ValueError, "2 rows; at least 3 were expected"),
        (
            lambda: jaxgmm.initialize(key, X, num_components=30, sample_weight=np.arange(60) < 20),
            (TypeError, ValueError),
            "expected",
        ),
        (lambda: jaxgmm.initialize(key, X, num_components=30, sample_weight=(np.arange(60) < 20) * 1.0), ValueError, "20 rows"),
        (lambda: jaxgmm.from_labels(X, np.full(60, 3), num_components=3), ValueError, "from 0 to num_components - 1 = 2"),
        (lambda: jaxgmm.from_labels(X, np.full(60, -1), num_components=3), ValueError, "go from -1 to -1"),
        (lambda: jaxgmm.from_labels(X, np.full(60, 0.5), num_components=3), ValueError, "integers"),
        (lambda: jaxgmm.from_labels(X, np.full(60, np.nan), num_components=3), ValueError, "NaN"),
        (lambda: jaxgmm.from_labels(X, np.full(60, "a"), num_components=3), TypeError, "strings"),
        (lambda: jaxgmm.from_labels(X, np.zeros(5, int), num_components=3), ValueError, r"\(60,\)"),
        (lambda: jaxgmm.from_responsibilities(X, R[:5]), ValueError, r"\(N, K\) with N=60"),
        (lambda: jaxgmm.from_responsibilities(X, -R), ValueError, ">= 0 were expected"),
        (lambda: jaxgmm.from_responsibilities(X, R * np.nan), ValueError, "NaN"),
        (lambda: jaxgmm.from_responsibilities(X, R[:, 0]), ValueError, r"\(N, K\)"),
    ]:
        with pytest.raises(error, match=words):
            wrong()
