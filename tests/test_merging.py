"""merge: entropies by hand and by loops, a published figure, known clusters, weights, refusals."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from jaxgmm.merging import _bend

# The partition of faithful from which mclust starts: hierarchical clustering (VVV) of scaled data, cut at three clusters.
START_OF_MCLUST = (
    "1232323123213232232322123123333333322321323231323231232332332323213323123323233133323333212123233323"
    "2123323231323323232123321123212321232321323332321233233331212123332321223333321323312312323231331323"
    "231232312323233321232323333333321212233232333123232333113323332322332123"
)
HALF = jaxgmm.make_mixture([0.25, 0.25, 0.5], [[0.0], [0.0], [100.0]], [[[1.0]]] * 3)


def entropy(t, weight):
    """Return the entropy of memberships by loops."""
    return -sum(w * p * np.log(p) for w, row in zip(weight, t, strict=True) for p in row if p > 0)


def test_entropy_by_hand():
    """Two equal components share three points: 3 log 2 nats, which their merge removes."""
    merging = jaxgmm.merge(HALF, [[0.0], [1.0], [-1.0], [100.0], [101.0]])
    np.testing.assert_allclose(merging.entropy, [0, 0, 3 * np.log(2)], atol=1e-6)
    assert merging.groups.tolist() == [[0, 0, 0], [0, 0, 1], [0, 1, 2]]
    assert merging.merged.tolist() == [[0, 1], [0, 1]]
    assert merging.num_clusters == 2
    np.testing.assert_allclose(merging.combine(HALF.weights), [0.5, 0.5])
    assert "{0, 1} {2}" in repr(merging)
    weighted = jaxgmm.merge(HALF, [[0.0], [1.0], [np.nan], [100.0]], sample_weight=[2.0, 0.5, 0.0, 1.0])
    np.testing.assert_allclose(weighted.entropy, [0, 0, 2.5 * np.log(2)], atol=1e-6)


def test_each_merge_is_the_best_by_loops():
    rng = np.random.default_rng(0)
    x, weight = rng.normal(0, 2, (40, 1)).astype(np.float32), rng.gamma(2.0, 1.0, 40).astype(np.float32)
    mixture = jaxgmm.make_mixture(
        np.full(5, 0.2), rng.normal(0, 2, (5, 1)), rng.gamma(2.0, 0.5, (5, 1)), covariance_type="diag"
    )
    merging = jaxgmm.merge(mixture, x, sample_weight=weight)
    t = np.asarray(jaxgmm.responsibilities(mixture, x), float)
    for clusters in range(5, 0, -1):
        np.testing.assert_allclose(merging.entropy[clusters - 1], entropy(t, weight), rtol=1e-5, atol=1e-4)
        np.testing.assert_allclose(merging.combine(jaxgmm.responsibilities(mixture, x), clusters), t, atol=1e-5)
        if clusters == 1:
            break
        found = []
        for g, h in itertools.combinations(range(clusters), 2):
            joined = np.delete(t, h, 1)
            joined[:, g] += t[:, h]
            found.append((entropy(joined, weight), g, h, joined))
        *_, g, h, t = min(found, key=lambda one: one[0])
        assert merging.merged[clusters - 2].tolist() == [g, h]


def test_published_entropies_of_faithful():
    """mclust prints 42.3124 and 0.4948 nats for 3 and 2 clusters at its fit of the tied model, 42.74 and 0.4825 at the maximum.

    mclust stops EM when a step changes the log-likelihood by less than 1e-5 of its size plus one. From the partition from which
    it starts, this is after 18 steps, 0.010 nats below the maximum.
    """
    x = jaxgmm.datasets.load("faithful")
    labels = np.array(list(START_OF_MCLUST), int) - 1
    fit = jaxgmm.from_labels(x, labels, num_components=3, covariance_type="tied")
    with pytest.warns(RuntimeWarning, match="max_iter"):
        fit = jaxgmm.fit(fit, x, tol=0, max_iter=17)  # `from_labels` is the first M-step
    history = np.asarray(fit.history, float)
    change = np.abs(np.diff(history)) / (1 + np.abs(history[1:]))
    assert (change[:16] > 1e-5).all()
    assert change[16] < 1e-5
    assert float(fit.log_likelihood) == pytest.approx(-1126.326, abs=1e-3)
    np.testing.assert_allclose(jaxgmm.merge(fit, x).entropy, [0, 0.4948, 42.3124], rtol=1e-4)
    highest = jaxgmm.fit(fit.mixture, x)
    assert float(highest.log_likelihood) == pytest.approx(-1126.316, abs=1e-3)
    merging = jaxgmm.merge(highest, x)
    np.testing.assert_allclose(merging.entropy, [0, 0.4825, 42.743], rtol=3e-3)
    assert merging.num_clusters == 2


def test_bend():
    assert _bend(np.array([0.0, 0.1, 0.2, 5.2, 10.2])) == 3
    assert _bend(np.array([0.0, 1.0])) == 2
    assert _bend(np.array([0.0])) == 1


def test_refusals():
    with pytest.raises(ValueError, match="stack"):
        jaxgmm.merge(jax.tree.map(lambda leaf: leaf[None], HALF), [[0.0]])
    with pytest.raises(ValueError, match="NaN"):
        jaxgmm.merge(HALF, [[np.nan]])
    with pytest.raises(ValueError, match="features"):
        jaxgmm.merge(HALF, [[0.0, 1.0]])
    with pytest.raises(TypeError, match="runs on the host"):
        jax.jit(lambda x: jnp.asarray(jaxgmm.merge(HALF, x).entropy))(jnp.ones((3, 1)))
    merging = jaxgmm.merge(HALF, [[0.0]])
    with pytest.raises(ValueError, match="from 1 to 3"):
        merging.combine(HALF.weights, 4)
    with pytest.raises(ValueError, match="one number for each component"):
        merging.combine([1.0, 2.0])


def test_incomplete_rows():
    """Memberships are those given the observed values; a row of weight 0 does not count."""
    x = jaxgmm.observations([[0.0, np.nan], [1.0, 1.0], [5.0, 4.0], [2.0, 2.0]], sample_weight=[1.0, 2.0, 1.0, 0.0])
    mixture = jaxgmm.make_mixture([0.5, 0.5], [[0.0, 0.0], [3.0, 3.0]], np.ones((2, 1)), covariance_type="spherical")
    r = np.asarray(jaxgmm.responsibilities(mixture, x), float)
    np.testing.assert_allclose(jaxgmm.merge(mixture, x).entropy, [0, -np.asarray(x.weight) @ (r * np.log(r)).sum(1)], rtol=1e-5)
