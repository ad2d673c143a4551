"""merge: combine components of a mixture into clusters, one pair after another, by the entropy of the memberships.

Source: Baudry, Raftery, Celeux, Lo & Gottardo (2010), J. Comput. Graph. Stat. 19, 332-353, section 3.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import entr

from .calls import public
from .cells import number
from .density import responsibilities
from .incomplete.observations import Observations
from .inputs import as_rows
from .mixture import MixtureLike, as_mixture
from .tables import Printed, Table, elided
from .validation import check_count, is_traced


@dataclass(frozen=True, eq=False, repr=False)
class Merging(Printed):
    """The merges of the K components of a mixture into K - 1, ..., 1 clusters. Row g - 1 of an array describes g clusters.

    Attributes:
        groups: (K, K) integers; groups[g - 1, k] is the cluster of component k when there are g clusters. Clusters have the
            order of their first components.
        entropy: (K,), the entropy of the memberships with 1, ..., K clusters, in nats, summed over the points. It is 0 with one
            cluster, and grows with the number of clusters.
        merged: (K - 1, 2); row g - 1 holds the two clusters that merge when g + 1 clusters become g clusters. Their numbers are
            those in the row of `groups` for g + 1 clusters.
        num_clusters: the number of clusters at the bend of the entropy, from a regression by two straight lines. With fewer
            than three components there is no bend, and num_clusters is K.

    Example:
        >>> import jaxgmm
        >>> mixture = jaxgmm.make_mixture([0.5, 0.5], [[0.0], [0.1]], [[[1.0]], [[1.0]]])
        >>> jaxgmm.merge(mixture, [[0.0], [0.1], [0.2]])
        Merging of 2 components by entropy; the bend is at 2 clusters
          clusters  entropy  components of each cluster
                 2    2.079  {0} {1}
                 1        0  {0, 1}
    """

    groups: np.ndarray
    entropy: np.ndarray
    merged: np.ndarray
    num_clusters: int

    def combine(self, values: ArrayLike, num_clusters: int | None = None) -> np.ndarray:
        """Return responsibilities or weights (..., K) of components summed over the components of each cluster.

        Args:
            values: (..., K), one number for each component in the last axis.
            num_clusters: the number of clusters G; None: the number at the bend.

        Returns:
            (..., G).

        Raises:
            ValueError, TypeError: the last axis has another length, or num_clusters is not an integer from 1 to K.

        Example:
            >>> import jaxgmm
            >>> mixture = jaxgmm.make_mixture([0.2, 0.3, 0.5], [[0.0], [0.1], [9.0]], [[[1.0]]] * 3)
            >>> merging = jaxgmm.merge(mixture, [[0.0], [0.2], [9.0]])
            >>> merging.combine(mixture.weights, 2).tolist()
            [0.5, 0.5]
        """
        group = self._group(num_clusters)
        values = np.asarray(values)
        if values.ndim == 0 or values.shape[-1] != len(group):
            raise ValueError(
                f"values has shape {values.shape}; (..., {len(group)}), one number for each component, was expected."
            )
        return np.stack([values[..., group == g].sum(-1) for g in range(group.max() + 1)], -1)

    def _group(self, num_clusters: int | None) -> np.ndarray:
        """Return the cluster (K,) of each component."""
        if num_clusters is None:
            num_clusters = self.num_clusters
        check_count(num_clusters, "num_clusters", 1, len(self.groups))
        return self.groups[num_clusters - 1]

    def _tables(self) -> list[Table]:
        k, rows = len(self.groups), []
        for i in elided(k):
            if i is None:
                rows.append(["..."] * 3)
                continue
            g = k - i
            members = [np.flatnonzero(self.groups[g - 1] == c).tolist() for c in range(g)]
            text = " ".join("{" + ", ".join(map(str, one)) + "}" for one in members)
            rows.append([str(g), number(self.entropy[g - 1]), text])
        clusters = f"{self.num_clusters} cluster{'s' * (self.num_clusters > 1)}"
        title = f"Merging of {k} component{'s' * (k > 1)} by entropy; the bend is at {clusters}"
        return [Table(title, ("clusters", "entropy", "components of each cluster"), rows, left=(2,))]


@public
def merge(mixture: MixtureLike, x: ArrayLike | Observations, *, sample_weight: ArrayLike | None = None) -> Merging:
    """Merge the components of a mixture into clusters, so that several components may describe one cluster.

    The entropy of the memberships in G clusters is E(G) = -sum_n w_n sum_g t_ng log t_ng, where t_ng is the sum of the
    responsibilities of the components in cluster g. Each step merges the pair of clusters g and h for which the entropy falls
    most. It falls by

        sum_n w_n ( (t_ng + t_nh) log(t_ng + t_nh) - t_ng log t_ng - t_nh log t_nh ).

    The density does not change. Choose the number of clusters by subject matter, or where the curve of the entropy bends. To
    find the bend, two straight lines are fitted to the entropy as a function of the number of clusters. Source: Baudry,
    Raftery, Celeux, Lo & Gottardo (2010), J. Comput. Graph. Stat. 19, 332-353, section 3, and section 4 for the bend.

    Args:
        mixture: one Mixture or one Fit.
        x: (N, D), the data, or `observations`. The computation runs on the host.
        sample_weight: (N,) >= 0, or None.

    Returns:
        A Merging.

    Raises:
        ValueError, TypeError: the mixture is a stack, the shapes of mixture, x and sample_weight do not match, x is not finite,
            or a value is traced.

    Example:
        >>> import jax, jaxgmm
        >>> x = jaxgmm.datasets.load("faithful")
        >>> fit = jaxgmm.fit_restarts(jax.random.key(0), x, num_components=3, covariance_type="tied", num_restarts=5)
        >>> merging = jaxgmm.merge(fit, x)
        >>> len(set(merging.groups[1].tolist())), bool(merging.entropy[1] < 1)
        (2, True)
    """
    mixture = as_mixture(mixture, single=True)
    if is_traced(mixture, x, sample_weight):
        raise TypeError("a value is traced, but merge runs on the host; call it outside jit and vmap.")
    rows, weight = as_rows(x, sample_weight, num_features=mixture.num_features)
    weights = np.ones(len(rows)) if weight is None else np.asarray(weight, float)
    memberships = np.asarray(responsibilities(mixture, rows), float)
    return _merge_all(memberships[weights > 0], weights[weights > 0])


def _merge_all(t: np.ndarray, weight: np.ndarray) -> Merging:
    """Merge clusters until one is left, given the responsibilities (N, K) and the weights (N,) of the rows."""
    t = t / t.sum(1, keepdims=True)
    group = np.arange(t.shape[1])
    groups, entropies, merged = [group], [_entropies(t, weight).sum()], []
    while t.shape[1] > 1:
        g, h = _best_pair(t, weight)
        t[:, g] += t[:, h]
        t = np.delete(t, h, 1)
        group = np.where(group == h, g, group - (group > h))
        groups.append(group)
        entropies.append(_entropies(t, weight).sum())
        merged.append((g, h))
    entropy = np.array(entropies[::-1])
    entropy[0] = 0.0  # all probabilities of one cluster are 1; their computed sums differ from 1 by rounding
    return Merging(np.array(groups[::-1]), entropy, np.array(merged[::-1], int).reshape(-1, 2), _bend(entropy))


def _entropies(t: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return -sum_n w_n t_ng log t_ng for each cluster g, (G,)."""
    return weight @ entr(t)


def _best_pair(t: np.ndarray, weight: np.ndarray) -> tuple[int, int]:
    """Return the two clusters, g < h, whose merge lowers the entropy most, given the memberships t (N, G)."""
    own, best, largest = _entropies(t, weight), (0, 1), -np.inf
    for g in range(t.shape[1] - 1):
        drops = own[g] + own[g + 1 :] - _entropies(t[:, g : g + 1] + t[:, g + 1 :], weight)
        if drops.max() > largest:
            best, largest = (g, g + 1 + int(drops.argmax())), drops.max()
    return best


def _bend(entropy: np.ndarray) -> int:
    """Return the number of clusters at which the curve of the entropies (K,) bends.

    For each number of clusters, two straight lines are fitted: the first to the entropies up to this number, the second to the
    entropies from this number on. The curve bends at the number for which the two lines fit best.
    """
    k = len(entropy)
    if k < 3:
        return k
    counts = np.arange(1, k + 1)

    def misfit(chosen: slice) -> float:
        """Return the sum of squares about the straight line through some points of the curve."""
        x, y = counts[chosen] - counts[chosen].mean(), entropy[chosen] - entropy[chosen].mean()
        return float(((y - x * (x @ y) / (x @ x)) ** 2).sum())

    return 2 + int(np.argmin([misfit(slice(0, g)) + misfit(slice(g - 1, k)) for g in range(2, k)]))
