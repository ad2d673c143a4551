"""Comparison of EM's partition and responsibilities with those of the posterior.

Each draw gives a partition, in which every point belongs to its most probable component. The posterior's partition is the
partition that has the smallest squared distance from the co-clustering matrix: Dahl (2006), in Bayesian Inference for Gene
Expression and Proteomics, 201-218. The adjusted Rand index compares two partitions. It is 1 for equal partitions, and
about 0 for partitions that agree only by chance: Hubert & Arabie (1985), J. Classif. 2, 193-218.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from .report_columns import ClusteringScores

SURE = 0.9  # a point counts as uncertain if the probability of its most probable component is below this value
_CANDIDATES = 100  # number of draws whose partitions are candidates for the posterior's partition
_AVERAGED = 400  # number of draws over which the co-clustering matrix is averaged
_MOST_ROWS = 1000  # largest number of data rows in the co-clustering matrix


def adjusted_rand(labels: ArrayLike, other: ArrayLike) -> float:
    """Return the adjusted Rand index of two partitions, given as integer labels (N,).

    If each partition is a single group, the index is 1.

    Example:
        >>> adjusted_rand([0, 0, 1, 1], [1, 1, 0, 0])
        1.0
    """
    _, a = np.unique(labels, return_inverse=True)
    _, b = np.unique(other, return_inverse=True)
    table = np.zeros((a.max() + 1, b.max() + 1))
    np.add.at(table, (a, b), 1)

    def pairs(counts: np.ndarray) -> float:
        """Return the number of pairs of points in the same group, given the sizes of the groups."""
        return float((counts * (counts - 1)).sum() / 2)

    together, mine, theirs, every = pairs(table), pairs(table.sum(1)), pairs(table.sum(0)), pairs(np.array([len(a)]))
    expected = mine * theirs / every if every else 0.0
    most = (mine + theirs) / 2
    return 1.0 if most == expected else (together - expected) / (most - expected)


def partition(responsibilities: np.ndarray) -> np.ndarray:
    """Return the posterior's partition (N,) from the responsibilities (M, N, K) of M draws.

    The order of the components may differ between draws.
    """
    r = np.asarray(responsibilities, np.float32)
    few = r[evenly_spaced(len(r), _AVERAGED)]
    flat = np.moveaxis(few, 1, 0).reshape(r.shape[1], -1)
    # change of the squared distance to the matrices of the draws if two points join one group
    gain = 1 - 2 * (flat @ flat.T) / len(few)
    np.fill_diagonal(gain, 0)
    best, lowest = np.zeros(r.shape[1], int), math.inf
    for draw in r[evenly_spaced(len(r), _CANDIDATES)]:
        labels = draw.argmax(-1)
        member = np.eye(r.shape[-1], dtype=np.float32)[labels]
        loss = float(((gain @ member) * member).sum())
        if loss < lowest:
            best, lowest = labels, loss
    return best


def compare_clusterings(em: np.ndarray, draws: np.ndarray, weight: np.ndarray, identified: bool) -> ClusteringScores:
    """Compare EM's responsibilities with the posterior's. The scores are averages over the data.

    Args:
        em: responsibilities (N, K) under EM.
        draws: responsibilities (M, N, K) under the relabelled draws.
        weight: weights (N,) of the rows, all positive.
        identified: whether labels are identified. If they are not, the scores that need labels are NaN.

    Returns:
        The scores. The adjusted Rand index is computed from at most 1000 rows.

    Example:
        >>> em = np.array([[1.0, 0.0], [0.0, 1.0]])
        >>> found = compare_clusterings(em, np.stack([em, em]), np.ones(2), True)
        >>> found.adjusted_rand, found.unsure_share
        (1.0, 0.0)
    """
    mean = np.asarray(draws, float).mean(0)
    rows = evenly_spaced(len(em), _MOST_ROWS)

    def average(per_point: np.ndarray) -> float:
        """Return the weighted mean of numbers (N,), one for each point."""
        return float(np.average(per_point, weights=weight))

    labelled = identified or em.shape[-1] == 1
    chosen = mean[np.arange(len(em)), em.argmax(-1)]
    return ClusteringScores(
        adjusted_rand=adjusted_rand(em[rows].argmax(-1), partition(draws[:, rows])),
        membership_difference=average(abs(em - mean).mean(-1)) if labelled else math.nan,
        entropy_em=average(_entropy(em)),
        entropy_posterior=average(_entropy(mean)) if labelled else math.nan,
        entropy_within=average(np.mean([_entropy(draw) for draw in draws], axis=0)),
        unsure_share=average(chosen < SURE) if labelled else math.nan,
    )


def _entropy(r: np.ndarray) -> np.ndarray:
    """Return the entropy of the probabilities along the last axis, in nats."""
    r = np.asarray(r, float)
    return -(r * np.log(np.where(r > 0, r, 1))).sum(-1)


def evenly_spaced(total: int, most: int) -> np.ndarray:
    """Return at most `most` evenly spaced positions from 0, ..., `total` - 1.

    Example:
        >>> evenly_spaced(9, 3).tolist()
        [0, 4, 8]
    """
    return np.unique(np.linspace(0, total - 1, min(most, total)).round().astype(int))
