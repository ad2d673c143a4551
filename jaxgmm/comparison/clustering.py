"""Clusterings: EM's partition and responsibilities beside the posterior's.

The posterior's partition is, among those that its draws find most probable, the one nearest to the co-clustering matrix in
squared distance: Dahl (2006), in Bayesian Inference for Gene Expression and Proteomics, 201-218. Partitions are compared by the
adjusted Rand index, 1 where they are the same and about 0 where they agree by chance: Hubert & Arabie (1985), J. Classif. 2,
193-218.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .report_columns import ClusteringScores

SURE = 0.9  # probability of its component below which a point counts as uncertain
_CANDIDATES = 100  # partitions that the posterior's is chosen from
_AVERAGED = 400  # draws that the co-clustering matrix is averaged over
_MOST_ROWS = 1000  # rows of that matrix


def adjusted_rand(labels: Any, other: Any) -> float:
    """Return the adjusted Rand index of two partitions, integers (N,); 1 if both are a single group.

    Example:
        >>> adjusted_rand([0, 0, 1, 1], [1, 1, 0, 0])
        1.0
    """
    _, a = np.unique(labels, return_inverse=True)
    _, b = np.unique(other, return_inverse=True)
    table = np.zeros((a.max() + 1, b.max() + 1))
    np.add.at(table, (a, b), 1)

    def pairs(counts: np.ndarray) -> float:
        """Return the number of pairs within the groups."""
        return float((counts * (counts - 1)).sum() / 2)

    together, mine, theirs, every = pairs(table), pairs(table.sum(1)), pairs(table.sum(0)), pairs(np.array([len(a)]))
    expected = mine * theirs / every if every else 0.0
    most = (mine + theirs) / 2
    return 1.0 if most == expected else (together - expected) / (most - expected)


def partition(responsibilities: np.ndarray) -> np.ndarray:
    """Return the posterior's partition (N,) from responsibilities (M, N, K) of draws with components in any order."""
    r = np.asarray(responsibilities, np.float32)
    few = r[evenly_spaced(len(r), _AVERAGED)]
    flat = np.moveaxis(few, 1, 0).reshape(r.shape[1], -1)
    gain = 1 - 2 * (flat @ flat.T) / len(few)  # cost of two points in one group
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
    """Compare EM's responsibilities with the posterior's, on average over the data.

    Args:
        em: responsibilities (N, K) under EM.
        draws: those under relabelled draws, (M, N, K).
        weight: (N,) > 0.
        identified: whether labels are identified; if not, scores that need labels are NaN.

    Returns:
        The scores; the partitions of at most 1000 rows are compared.

    Example:
        >>> em = np.array([[1.0, 0.0], [0.0, 1.0]])
        >>> found = compare_clusterings(em, np.stack([em, em]), np.ones(2), True)
        >>> found.adjusted_rand, found.unsure_share
        (1.0, 0.0)
    """
    mean = np.asarray(draws, float).mean(0)
    rows = evenly_spaced(len(em), _MOST_ROWS)

    def average(per_point: np.ndarray) -> float:
        """Return a weighted mean over the data."""
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
    """Return the entropy over the last axis, in nats."""
    r = np.asarray(r, float)
    return -(r * np.log(np.where(r > 0, r, 1))).sum(-1)


def evenly_spaced(total: int, most: int) -> np.ndarray:
    """Return at most `most` of `total` positions, evenly spaced.

    Example:
        >>> evenly_spaced(9, 3).tolist()
        [0, 4, 8]
    """
    return np.unique(np.linspace(0, total - 1, min(most, total)).round().astype(int))
