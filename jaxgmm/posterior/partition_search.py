"""Expected losses of partitions, and the search for the partition with the smallest expected loss.

The expectation is the average over draws of a partition z. Both losses depend on c and z only through contingency tables: n_k
is the size of cluster k of c, m_l is the size of cluster l of z, and n_kl is the number of points in both.

    VI       (1 / N) (sum_k f(n_k) + sum_l f(m_l) - 2 sum_kl f(n_kl)), f(n) = n log n                Meila (2007)
    Binder   (1 / 2) (sum_k f(n_k) + sum_l f(m_l) - 2 sum_kl f(n_kl)), f(n) = n^2                    Binder (1978)

VI, the variation of information, is in nats. Binder's loss, with equal costs, is the number of pairs of points that are
together in one partition only. Because both losses have the same form, one search serves both. No matrix N x N is
formed, and all code runs on the host, in NumPy.

The search is SALSO: Dahl, Johnson & Mueller (2022), J. Comput. Graph. Stat. 31, 1189-1201. Points that are together in every
draw move together. The smallest expected loss can still be reached. Suppose that a share t of such points is in one cluster and
the rest in another: the expected loss is a concave function of t, so it is smallest at t = 0 or t = 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..chunking import draws_per_batch

LOSSES = ("vi", "binder")
_MOST_SWEEPS = 100  # largest number of sweeps in one run; about five are usual
_LEAST_GAIN = 1e-9  # a move must lower the loss by more than this fraction of it, so that rounding causes no cycles


@dataclass(frozen=True, eq=False)
class Draws:
    """The distinct draws of a partition. The letters f, l and m_l have the meaning that the docstring of this module defines.

    Attributes:
        labels: (S, U), the cluster of each group of points in each draw; labels are 0, ..., L - 1 in order of first use.
        weights: (S,), the share of the original draws that are equal to each distinct draw; the shares sum to 1.
        sizes: (U,), number of points in each group. The points of a group are together in every draw.
        group: (N,), the group of each point.
        f: (N + 1,), the values of f for 0, 1, ..., N points.
        scale: the factor of the loss, 1 / N or 1 / 2.
        most_clusters: L, the largest number of clusters in a draw.
        own: (S,), sum_l f(m_l) of each draw.
    """

    labels: np.ndarray
    weights: np.ndarray
    sizes: np.ndarray
    group: np.ndarray
    f: np.ndarray
    scale: float
    most_clusters: int
    own: np.ndarray


def collect_draws(labels: np.ndarray, loss: str, candidates: Sequence[np.ndarray] = ()) -> Draws:
    """Return the distinct draws of a partition, given labels (M, N). A cluster may have different labels in different draws.

    Additional candidates (N,) for the estimate become draws of weight 0.
    """
    n = labels.shape[1]
    named = np.array([canonical(row) for row in [*labels, *candidates]])
    rows, place = np.unique(named, axis=0, return_inverse=True)
    counts = np.bincount(place.ravel()[: len(labels)], minlength=len(rows))
    columns, first, group, sizes = np.unique(rows, axis=1, return_index=True, return_inverse=True, return_counts=True)
    order = np.argsort(first)  # sort the groups by their first points, so that labels stay in order of first use
    labels, sizes, group = columns[:, order], sizes[order], np.argsort(order)[group.ravel()]
    count = np.arange(n + 1, dtype=float)
    f, scale = (count * np.log(np.maximum(count, 1)), 1 / n) if loss == "vi" else (count**2, 0.5)
    own = _sum_over_clusters(labels, sizes, f)
    return Draws(labels, counts / counts.sum(), sizes, group, f, scale, int(labels.max()) + 1, own)


def _sum_over_clusters(partitions: np.ndarray, sizes: np.ndarray, f: np.ndarray) -> np.ndarray:
    """Return sum_k f(n_k) for each partition (P, U) of groups with the given sizes (U,), as an array (P,)."""
    p, k = len(partitions), int(partitions.max()) + 1
    cells = partitions + k * np.arange(p)[:, None]
    counts = np.bincount(cells.ravel(), np.tile(sizes, p), p * k)
    return f[np.rint(counts).astype(int)].reshape(p, k).sum(1)


def canonical(labels: np.ndarray) -> np.ndarray:
    """Return labels 0, 1, ... in order of first use.

    Example:
        >>> canonical(np.array([7, 7, 2, 7])).tolist()
        [0, 0, 1, 0]
    """
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse]


def distances(draws: Draws, partitions: np.ndarray) -> np.ndarray:
    """Return the loss (P, S) between partitions (P, U) of the groups and each draw."""
    own = _sum_over_clusters(partitions, draws.sizes, draws.f)
    return draws.scale * (own[:, None] + draws.own[None] - 2 * _shared(draws, partitions))


def _shared(draws: Draws, partitions: np.ndarray) -> np.ndarray:
    """Return sum_kl f(n_kl) for each pair of a partition and a draw, (P, S), by matrix products of indicators."""
    size, u = draws.labels.shape
    k, m = int(partitions.max()) + 1, draws.most_clusters
    member = (draws.labels[:, None, :] == np.arange(m)[:, None]).reshape(size * m, u).astype(np.float32).T
    found = np.empty((len(partitions), size))
    batch = draws_per_batch(k * size * m, len(partitions))
    for start in range(0, len(partitions), batch):
        part = partitions[start : start + batch]
        mine = (part[:, None, :] == np.arange(k)[:, None]) * draws.sizes.astype(np.float32)
        # All numbers are finite, but the BLAS of NumPy can raise the flag "invalid" for a product of narrow float32 matrices.
        with np.errstate(invalid="ignore"):
            product = mine.reshape(-1, u) @ member
        tables = np.rint(product).astype(np.int32).reshape(len(part), k, size, m)
        found[start : start + len(part)] = draws.f[tables].sum((1, 3))
    return found


def expected_losses(draws: Draws, partitions: np.ndarray) -> np.ndarray:
    """Return the expected losses (P,) of partitions (P, U) of the groups."""
    return distances(draws, partitions) @ draws.weights


class _State:
    """A partition of the groups, with its contingency tables. The partition changes when one group moves to another cluster.

    The tables count points: `own` (K,) holds n_k, and `shared` (K, S L) holds n_kl for each draw. There is always at least one
    empty cluster. Groups that are not allocated yet have label -1.
    """

    def __init__(self, draws: Draws, labels: np.ndarray) -> None:
        """Start from labels (U,) of the groups, -1 for groups without a cluster."""
        self.draws, self.labels = draws, np.full(len(labels), -1)
        count, m = len(draws.labels), draws.most_clusters
        self.columns = np.ascontiguousarray((np.arange(count)[:, None] * m + draws.labels).T)  # (U, S), columns of `shared`
        self.gains = {size: draws.f[size:] - draws.f[: len(draws.f) - size] for size in np.unique(draws.sizes).tolist()}
        k = max(int(labels.max()) + 2, m + 1)
        self.own = np.zeros(k, int)
        self.shared = np.zeros((k, count * m), np.int32)
        for u in np.flatnonzero(labels >= 0).tolist():
            self._put(u, int(labels[u]))

    def _put(self, u: int, cluster: int) -> None:
        """Move a group to a cluster."""
        size, columns = self.draws.sizes[u], self.columns[u]
        before = self.labels[u]
        if before >= 0:
            self.own[before] -= size
            self.shared[before][columns] -= size
        self.own[cluster] += size
        self.shared[cluster][columns] += size
        self.labels[u] = cluster
        if self.own.all():
            self.own = np.append(self.own, 0)
            self.shared = np.concatenate([self.shared, np.zeros_like(self.shared[:1])])

    def _costs(self, u: int, most_clusters: int) -> np.ndarray:
        """Return the increase of the expected loss, divided by `scale`, for each of K clusters that a group may enter, (K,).

        The increase is relative to the state in which the group is in no cluster. A group may only enter the first empty
        cluster, and not even this one if there are `most_clusters` clusters without the group. Clusters that the group may
        not enter have an infinite increase.
        """
        size, present = int(self.draws.sizes[u]), self.labels[u]
        own, counts = self.own.copy(), self.shared.take(self.columns[u], 1)  # (K,) and (K, S)
        if present >= 0:
            own[present] -= size
            counts[present] -= size
        gains = self.gains[size]
        costs = gains[own] - 2 * (gains.take(counts) @ self.draws.weights)
        empty = np.flatnonzero(own == 0)
        if present >= 0 and own[present] == 0:
            empty = np.concatenate([[present], empty[empty != present]])
        allowed = 1 if len(own) - len(empty) < most_clusters else 0
        costs[empty[allowed:]] = np.inf
        return costs

    def sweep(self, order: np.ndarray, most_clusters: int) -> bool:
        """Move each group in turn to the cluster of the smallest expected loss; return whether a group has moved.

        A group without a cluster is allocated.
        """
        moved = False
        for u in order.tolist():
            present, costs = self.labels[u], self._costs(u, most_clusters)
            best = int(costs.argmin())
            if present < 0 or costs[best] < costs[present] - _LEAST_GAIN * abs(costs[present]):
                self._put(u, best)
                moved = True
        return moved


def search(draws: Draws, rng: np.random.Generator, num_runs: int, max_clusters: int | None = None) -> np.ndarray:
    """Return the partition (U,) with the smallest expected loss that is found.

    The candidates are all draws, the partition with a single cluster, and the partitions that the runs reach. There are three
    kinds of runs, which take turns. The first kind starts from the best candidate so far. The second kind starts without
    clusters and allocates the groups in random order. The third kind starts from a random partition.
    """
    most_clusters = len(draws.group) if max_clusters is None else max_clusters
    candidates = np.concatenate([np.zeros((1, len(draws.sizes)), int), draws.labels[draws.labels.max(1) < most_clusters]])
    losses = expected_losses(draws, candidates)
    best, lowest = candidates[losses.argmin()], losses.min()
    for run in range(num_runs):
        start = best
        if run % 3 == 1:
            start = np.full(len(best), -1)
        elif run % 3 == 2:
            start = canonical(rng.integers(0, min(draws.most_clusters, most_clusters), len(best)))
        found = improve(draws, start, rng, most_clusters)
        value = expected_losses(draws, found[None])[0]
        if value < lowest:
            best, lowest = found, value
    return best


def improve(draws: Draws, labels: np.ndarray, rng: np.random.Generator, most_clusters: int) -> np.ndarray:
    """Return the partition (U,) that sweeps reach from labels (U,); groups with label -1 are first allocated in random order.

    After the sweeps, each cluster in turn is destroyed: its groups are allocated again in random order, and sweeps follow. The
    new partition is kept if its expected loss is smaller.
    """
    best = _settle(draws, labels, rng, most_clusters)
    lowest = expected_losses(draws, best[None])[0]
    for cluster in rng.permutation(int(best.max()) + 1):
        trial = _settle(draws, np.where(best == cluster, -1, best), rng, most_clusters)
        value = expected_losses(draws, trial[None])[0]
        if value < lowest - _LEAST_GAIN * abs(lowest):
            best, lowest = trial, value
    return best


def _settle(draws: Draws, labels: np.ndarray, rng: np.random.Generator, most_clusters: int) -> np.ndarray:
    """Allocate groups with label -1, sweep until no group moves, and return the labels (U,) in order of first use."""
    state = _State(draws, labels)
    order = rng.permutation(np.flatnonzero(labels < 0))
    for _ in range(_MOST_SWEEPS):
        if not state.sweep(order, most_clusters) and len(order) == len(labels):
            break
        order = rng.permutation(len(labels))
    return canonical(state.labels)
