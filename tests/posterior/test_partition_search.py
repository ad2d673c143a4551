"""The search for a partition: losses against definitions, and the smallest expected loss of all partitions of six points."""

import numpy as np
import pytest
from scipy.stats import entropy
from sklearn.metrics import mutual_info_score
from sklearn.metrics.cluster import pair_confusion_matrix

from jaxgmm.posterior import partition_search


def all_partitions(n):
    """Return all partitions of n points as labels in order of first use."""
    found = [[0]]
    for _ in range(n - 1):
        found = [[*labels, k] for labels in found for k in range(max(labels) + 2)]
    return np.array(found)


def loss_between(c, z, loss):
    """Return the loss between two partitions by scikit-learn."""
    if loss == "vi":
        return entropy(np.bincount(c)) + entropy(np.bincount(z)) - 2 * mutual_info_score(c, z)
    table = pair_confusion_matrix(c, z)  # each pair counts twice
    return (table[0, 1] + table[1, 0]) / 2


@pytest.mark.parametrize("loss", partition_search.LOSSES)
def test_distances_are_scikit_learns(loss):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, (30, 40))
    labels[:, 5:20] = labels[:, 4:5]  # points that are always together
    draws = partition_search.collect_draws(np.concatenate([labels, labels[:3]]), loss)
    assert len(draws.sizes) == 25
    assert draws.sizes.sum() == 40
    assert draws.weights.max() == pytest.approx(2 / 33)
    partitions = rng.integers(0, 5, (6, len(draws.sizes)))
    found = partition_search.distances(draws, partitions)
    for i, c in enumerate(partitions):
        for j, z in enumerate(draws.labels):
            assert found[i, j] == pytest.approx(loss_between(c[draws.group], z[draws.group], loss), abs=1e-12)


def mean_losses(partitions, draws, loss):
    """Return the average loss of each partition over the draws, from pairs of points or from joint shares."""
    if loss == "binder":
        i, j = np.triu_indices(partitions.shape[1], 1)
        mine, theirs = (labels[:, i] == labels[:, j] for labels in (partitions, draws))
        return (mine[:, None] != theirs[None]).sum(-1).mean(1)
    mine, theirs = (np.eye(6)[labels] for labels in (partitions, draws))
    joint = np.einsum("pnk,snl->pskl", mine, theirs) / partitions.shape[1]
    h = [entropy(table, axis=-1) for table in (joint.sum(3), joint.sum(2), joint.reshape(*joint.shape[:2], -1))]
    return (2 * h[2] - h[0] - h[1]).mean(1)


@pytest.mark.parametrize("loss", partition_search.LOSSES)
def test_search_finds_the_best_of_all_partitions(loss):
    """Six points have 203 partitions; the draws range from pure noise to a clear clustering with points always together."""
    every = all_partitions(6)
    assert len(every) == 203
    for seed in range(8):
        rng = np.random.default_rng(seed)
        noise = [1.0, 0.5, 0.2, 0.1][seed % 4]
        labels = np.where(rng.random((20, 6)) < noise, rng.integers(0, 3, (20, 6)), [0, 0, 1, 1, 2, 2])
        labels[:, 1] = labels[:, 0]
        losses = mean_losses(every, labels, loss)
        draws = partition_search.collect_draws(labels, loss)
        for limit in (None, 1, 2):
            found = partition_search.search(draws, rng, 16, limit)
            smallest = losses[every.max(1) < (limit or 6)].min()
            assert partition_search.expected_losses(draws, found[None])[0] == pytest.approx(smallest, abs=1e-12)


@pytest.mark.parametrize("loss", partition_search.LOSSES)
def test_search_is_not_worse_than_any_candidate(loss):
    """Nor worse without a single run."""
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, 60)
    labels = np.where(rng.random((50, 60)) < 0.3, rng.integers(0, 3, (50, 60)), truth)
    draws = partition_search.collect_draws(labels, loss, [truth])
    losses = partition_search.expected_losses(draws, draws.labels)
    for num_runs in (0, 6):
        found = partition_search.search(draws, rng, num_runs)
        value = partition_search.expected_losses(draws, found[None])[0]
        assert value <= losses.min() * (1 + 1e-12)
    # moving a single point anywhere does not help
    for u in range(len(found)):
        for k in range(found.max() + 2):
            moved = found.copy()
            moved[u] = k
            assert partition_search.expected_losses(draws, moved[None])[0] >= value - 1e-9


def test_canonical_labels():
    assert partition_search.canonical(np.array([5, 5, 1, 5, 0])).tolist() == [0, 0, 1, 0, 2]
