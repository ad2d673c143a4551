"""Who belongs with whom: EM's partition and memberships beside the posterior's.

The posterior's partition is, of those that its draws find most probable, the one nearest to the co-clustering matrix in squared
distance: Dahl (2006), in Bayesian Inference for Gene Expression and Proteomics, 201-218. Partitions are compared by the adjusted
Rand index, 1 where they are the same and about 0 where they agree by chance: Hubert & Arabie (1985), J. Classif. 2, 193-218.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

SURE = 0.9  # of a point's component: below, it is counted as uncertain
_CANDIDATES = 100  # partitions that the posterior's is chosen from
_AVERAGED = 400  # draws that the co-clustering matrix is averaged over
_MOST_ROWS = 1000  # of that matrix


def adjusted_rand(labels: Any, other: Any) -> float:
    """The adjusted Rand index of two partitions, integers (N,); 1 where both are all one group.

    Example:
        >>> adjusted_rand([0, 0, 1, 1], [1, 1, 0, 0])
        1.0
    """
    _, a = np.unique(labels, return_inverse=True)
    _, b = np.unique(other, return_inverse=True)
    table = np.zeros((a.max() + 1, b.max() + 1))
    np.add.at(table, (a, b), 1)

    def pairs(counts: np.ndarray) -> float:
        return float((counts * (counts - 1)).sum() / 2)

    together, mine, theirs, every = pairs(table), pairs(table.sum(1)), pairs(table.sum(0)), pairs(np.array([len(a)]))
    expected = mine * theirs / every if every else 0.0
    most = (mine + theirs) / 2
    return 1.0 if most == expected else (together - expected) / (most - expected)


def partition(responsibilities: np.ndarray) -> np.ndarray:
    """The posterior's partition (N,) from responsibilities (M, N, K) of its draws, in any order of their components."""
    r = np.asarray(responsibilities, np.float32)
    few = r[thinned(len(r), _AVERAGED)]
    flat = np.moveaxis(few, 1, 0).reshape(r.shape[1], -1)
    gain = 1 - 2 * (flat @ flat.T) / len(few)  # what two points in one group cost
    np.fill_diagonal(gain, 0)
    best, lowest = None, math.inf
    for draw in r[thinned(len(r), _CANDIDATES)]:
        labels = draw.argmax(-1)
        member = np.eye(r.shape[-1], dtype=np.float32)[labels]
        loss = float(((gain @ member) * member).sum())
        if loss < lowest:
            best, lowest = labels, loss
    return best


def compare_memberships(em: np.ndarray, draws: np.ndarray, weight: np.ndarray, identified: bool) -> dict[str, float]:
    """EM's memberships beside the posterior's, averages over the data.

    Args:
        em: responsibilities (N, K) under EM.
        draws: those of relabelled draws, (M, N, K).
        weight: (N,) > 0.
        identified: whether components have names that hold for all draws; if not, what needs them is NaN.

    Returns:
        adjusted_rand, of EM's labels and the posterior's partition (of at most 1000 rows); membership_difference, mean over
        points and components of |r_EM - E r|; entropy_em and entropy_posterior, mean uncertainty of a point's component, nats;
        entropy_within, the part of it that knowing the parameters would leave; unsure_share, points whose component under EM has
        posterior probability under 0.9.

    Example:
        >>> em = np.array([[1.0, 0.0], [0.0, 1.0]])
        >>> found = compare_memberships(em, np.stack([em, em]), np.ones(2), True)
        >>> found["adjusted_rand"], found["unsure_share"]
        (1.0, 0.0)
    """
    mean = np.asarray(draws, float).mean(0)
    rows = thinned(len(em), _MOST_ROWS)

    def average(per_point: np.ndarray) -> float:
        return float(np.average(per_point, weights=weight))

    found = {
        "adjusted_rand": adjusted_rand(em[rows].argmax(-1), partition(draws[:, rows])),
        "entropy_em": average(_entropy(em)),
        "entropy_within": average(np.mean([_entropy(draw) for draw in draws], axis=0)),
    }
    named = identified or em.shape[-1] == 1
    chosen = mean[np.arange(len(em)), em.argmax(-1)]
    return found | {
        "membership_difference": average(abs(em - mean).mean(-1)) if named else math.nan,
        "entropy_posterior": average(_entropy(mean)) if named else math.nan,
        "unsure_share": average(chosen < SURE) if named else math.nan,
    }


def _entropy(r: np.ndarray) -> np.ndarray:
    """Nats, over the last axis."""
    r = np.asarray(r, float)
    return -(r * np.log(np.where(r > 0, r, 1))).sum(-1)


def thinned(total: int, most: int) -> np.ndarray:
    """At most `most` of `total` positions, evenly spaced.

    Example:
        >>> thinned(9, 3).tolist()
        [0, 4, 8]
    """
    return np.unique(np.linspace(0, total - 1, min(most, total)).round().astype(int))
