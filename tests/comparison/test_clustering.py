"""Clusterings: partitions and their scores against loops and scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from jaxgmm.comparison import clustering


def test_adjusted_rand_is_scikit_learns():
    rng = np.random.default_rng(0)
    for _ in range(20):
        a, b = rng.integers(0, 4, 50), rng.integers(0, 3, 50)
        b = np.where(rng.random(50) < 0.5, a, b)
        assert clustering.adjusted_rand(a, b) == pytest.approx(adjusted_rand_score(a, b), abs=1e-12)
    assert clustering.adjusted_rand(np.zeros(5), np.zeros(5)) == 1


def test_scores_by_loops():
    rng = np.random.default_rng(0)
    draws = rng.dirichlet([0.3, 0.3], (50, 12)).astype(np.float32)
    em, weight = rng.dirichlet([0.3, 0.3], 12), rng.integers(1, 4, 12).astype(float)
    found = clustering.compare_clusterings(em, draws, weight, True)
    mean = draws.astype(float).mean(0)
    difference = entropy = unsure = 0.0
    for n in range(12):
        difference += weight[n] * abs(em[n] - mean[n]).mean()
        entropy -= weight[n] * sum(p * np.log(p) for p in mean[n])
        unsure += weight[n] * (mean[n, em[n].argmax()] < 0.9)
    assert found.membership_difference == pytest.approx(difference / weight.sum())
    assert found.entropy_posterior == pytest.approx(entropy / weight.sum())
    assert found.unsure_share == pytest.approx(unsure / weight.sum())
    unlabelled = clustering.compare_clusterings(em, draws, weight, False)
    assert np.isnan(unlabelled.entropy_posterior)
    assert unlabelled.entropy_within == found.entropy_within
    assert clustering.compare_clusterings(np.ones((3, 1)), np.ones((5, 3, 1)), np.ones(3), False).unsure_share == 0


def test_partition_is_the_nearest_to_the_coclustering_matrix():
    rng = np.random.default_rng(1)
    draws = rng.dirichlet([0.5, 0.5, 0.5], (30, 8))
    together = np.einsum("mik,mjk->ij", draws, draws) / 30
    np.fill_diagonal(together, 1)

    def loss(labels):
        return sum((float(labels[i] == labels[j]) - together[i, j]) ** 2 for i in range(8) for j in range(8))

    best = min(loss(draw.argmax(-1)) for draw in draws)
    assert loss(clustering.partition(draws)) == pytest.approx(best, rel=1e-5)
    # whatever the components are called in each draw
    shuffled = np.stack([draw[:, rng.permutation(3)] for draw in draws])
    assert clustering.adjusted_rand(clustering.partition(shuffled), clustering.partition(draws)) == 1


def test_evenly_spaced_positions():
    """The first and the last position are always among them."""
    assert clustering.evenly_spaced(10, 4).tolist() == [0, 3, 6, 9]
    assert clustering.evenly_spaced(3, 100).tolist() == [0, 1, 2]
