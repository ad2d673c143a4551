"""partition: known answers, the credible ball by definition, weights of chains, a random key, refusals."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm

KEY = jax.random.key(0)
X = np.array([[0.0], [0.2], [0.4], [1.9], [4.0], [4.1], [4.3]], np.float32)


def posterior_of(means, stats=None):
    """Return draws (C, S) of two components with unit variance and given means (C, S, 2)."""
    means = jnp.asarray(means, jnp.float32)[..., None]
    draws = jaxgmm.Mixture(jnp.full(means.shape[:-1], 0.5), means, jnp.ones((*means.shape, 1)), "full")
    return jaxgmm.Posterior(draws, jnp.zeros(means.shape[:2]), None, jnp.array(0), stats or {}, "gibbs")


# the point 1.9 belongs to the left group in the first chain and to the right one in the second, in changing labellings
POSTERIOR = posterior_of([[[0.0, 4.0], [4.0, 0.0]], [[0.0, 3.0], [3.0, 0.0]]])
LEFT, RIGHT = [0, 0, 0, 0, 1, 1, 1], [1, 1, 1, 0, 0, 0, 0]


def with_weights(*weights):
    return dataclasses.replace(POSTERIOR, stats={"chain_weight": jnp.array(weights)})


def vi(a, b):
    """Return the variation of information by its definition, from joint shares."""
    n = len(a)
    shares = {(i, j): sum(p == i and q == j for p, q in zip(a, b, strict=True)) / n for i in set(a) for j in set(b)}
    total = 0.0
    for (i, j), both in shares.items():
        if both:
            total -= both * (np.log(both * n / a.count(i)) + np.log(both * n / b.count(j)))
    return total


@pytest.mark.parametrize("loss", ["vi", "binder"])
def test_weights_of_chains_decide(loss):
    """Each chain has one partition; the estimate is that of the chain with the larger weight."""
    found = jaxgmm.partition(with_weights(0.75, 0.25), X, loss=loss)
    assert found.labels.tolist() == LEFT
    expected = vi(LEFT, RIGHT) if loss == "vi" else 6.0  # the point is apart from 3 and together with 3 others
    assert float(found.expected_loss) == pytest.approx(0.25 * expected, rel=1e-6)
    assert float(found.draw_loss) == pytest.approx(float(found.expected_loss))
    assert float(found.radius) == pytest.approx(expected, rel=1e-6)
    assert found.horizontal.tolist() == RIGHT
    assert jaxgmm.partition(with_weights(0.25, 0.75), X, loss=loss).labels.tolist() == RIGHT
    small = jaxgmm.partition(with_weights(0.75, 0.25), X, loss=loss, level=0.7)
    assert float(small.radius) == 0
    assert small.horizontal.tolist() == LEFT
    # the point 1.9 is with the three others of its cluster in three quarters of the draws
    np.testing.assert_allclose(found.certainty, [11 / 12] * 3 + [0.75] + [1.0] * 3, rtol=1e-6)
    assert "7 points into 2 clusters" in repr(found)


def test_ball_by_definition():
    """Radius and bounds by loops over draws with labels from responsibilities; the estimate beats EM's and every draw's."""
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(0, 1, 15), rng.normal(3, 1, 15)])[:, None].astype(np.float32)
    means = np.stack([rng.normal(0, 0.3, (2, 30)), rng.normal(3, 0.3, (2, 30))], -1)
    posterior = posterior_of(means)
    em = jaxgmm.make_mixture([0.5, 0.5], [[0.0], [3.0]], [[[1.0]], [[1.0]]])
    found = jaxgmm.partition(posterior, x, start=em, num_runs=4, level=0.8)
    draws = np.asarray(jaxgmm.predict(posterior.mixture, x)).reshape(-1, 30).tolist()
    losses = [vi(found.labels.tolist(), draw) for draw in draws]
    assert float(found.expected_loss) == pytest.approx(np.mean(losses), abs=1e-6)
    radius = sorted(losses)[47]  # 48 of 60 draws
    assert float(found.radius) == pytest.approx(radius, abs=1e-6)
    inside = [i for i, loss in enumerate(losses) if loss <= radius + 1e-9]
    assert vi(found.labels.tolist(), found.horizontal.tolist()) == pytest.approx(max(losses[i] for i in inside), abs=1e-6)
    counts = [len(set(draw)) for draw in draws]
    for bound, count in ((found.upper, min), (found.lower, max)):
        assert len(set(bound.tolist())) == count(counts[i] for i in inside)
    others = [*draws, jaxgmm.predict(em, x).tolist()]
    assert float(found.expected_loss) <= min(np.mean([vi(c, z) for z in draws]) for c in others) + 1e-6
    assert float(found.draw_loss) == pytest.approx(min(np.mean([vi(c, z) for z in draws]) for c in draws), abs=1e-6)


def test_key_draws_the_labels():
    """With a key, the certainty of a point is that of the co-clustering matrix, within 5 standard errors (by chance 6e-7)."""
    posterior = posterior_of(np.broadcast_to([0.0, 4.0], (1, 4000, 2)))
    found = jaxgmm.partition(posterior, X, key=KEY, num_draws=4000, num_runs=2)
    together = np.asarray(jaxgmm.coclustering(posterior, X))
    labels = np.asarray(found.labels)
    for n in range(len(X)):
        mates = (labels == labels[n]) & (np.arange(len(X)) != n)
        assert abs(float(found.certainty[n]) - together[n, mates].mean()) < 5 * 0.5 / np.sqrt(4000)
    assert float(found.radius) > 0
    again = jaxgmm.partition(posterior, X, key=KEY, num_draws=4000, num_runs=2)
    assert (found.labels == again.labels).all()
    assert float(jaxgmm.partition(posterior, X).radius) == 0  # without a key, all draws of equal parameters are equal


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": "rand"}, "'vi', 'binder' was expected"),
        ({"level": 0.0}, "level is 0"),
        ({"level": 1.5}, "a probability in"),
        ({"max_clusters": 0}, "max_clusters is 0"),
        ({"num_draws": 0}, "num_draws is 0"),
        ({"num_runs": -1}, "num_runs is -1"),
        ({"start": 3}, "start is int"),
        ({"key": 3}, "key"),
    ],
)
def test_refused_options(options, message):
    with pytest.raises((TypeError, ValueError), match=message):
        jaxgmm.partition(POSTERIOR, X, **options)


def test_refused_input():
    with pytest.raises(TypeError, match="posterior is Mixture"):
        jaxgmm.partition(POSTERIOR.mixture, X)
    with pytest.raises(ValueError, match="NaN"):
        jaxgmm.partition(POSTERIOR, X * np.nan)
    with pytest.raises(ValueError, match="2 features"):
        jaxgmm.partition(POSTERIOR, np.ones((3, 2)))
    with pytest.raises(ValueError, match="no rows"):
        jaxgmm.partition(POSTERIOR, np.ones((0, 1)))
    with pytest.raises(TypeError, match="runs on the host"):
        jax.jit(lambda posterior: jaxgmm.partition(posterior, X).labels)(POSTERIOR)
