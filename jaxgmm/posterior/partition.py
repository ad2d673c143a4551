"""partition: the point estimate of a clustering under a posterior, and a credible ball around it.

Each draw of the parameters gives a partition of the points. The estimate minimises the average loss over these partitions. The
credible ball says how far the partitions of the draws are from the estimate, and its bounds are extreme partitions.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial as bind
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from ..calls import public
from ..cells import look, number
from ..density import as_points, predict, responsibilities, safe_log
from ..incomplete.observations import Observations
from ..mixture import Mixture, MixtureLike, as_mixture
from ..padding import cut, pad_data
from ..tables import Printed, Table, elided
from ..validation import check_choice, check_count, check_key, check_number, is_traced
from .partition_search import LOSSES, Draws, collect_draws, distances, expected_losses, search
from .pooling import pool
from .result import Posterior, check_one_posterior

_SEED = 0  # seed of the orders in which the search visits points, if there is no key
_UNITS = {"vi": "nats", "binder": "pairs"}


@bind(
    jax.tree_util.register_dataclass,
    data_fields=["labels", "expected_loss", "certainty", "radius", "upper", "lower", "horizontal", "draw_loss"],
    meta_fields=["loss", "level"],
)
@dataclass(frozen=True, eq=False, repr=False)
class Partition(Printed):
    """The point estimate of a clustering, with a credible ball.

    Labels are integers from 0. The largest cluster has label 0, the next one label 1, and so on.

    Attributes:
        labels: (N,), the cluster of each point.
        expected_loss: (), the average loss between the estimate and the draws; nats for "vi", pairs of points for "binder".
        certainty: (N,), the probability that the point is together with another point of its cluster, averaged over the other
            points of the cluster; 1 if there are none.
        radius: (), the radius of the credible ball: the smallest loss within which `level` of the draws lie.
        upper: (N,), the vertical upper bound. Of the draws in the ball, it is one with the fewest clusters. If several draws
            have the fewest clusters, it is the one that is farthest from the estimate.
        lower: (N,), the vertical lower bound. It is defined in the same way, with the most clusters.
        horizontal: (N,), the horizontal bound: of all draws in the ball, the one that is farthest from the estimate.
        draw_loss: (), the smallest average loss of a partition of a draw.
        loss: "vi" or "binder".
        level: the probability of the ball.

    Example:
        >>> import jax, jaxgmm
        >>> x = jaxgmm.datasets.load("galaxies")
        >>> prior = jaxgmm.default_prior(x, num_components=1)
        >>> start = jaxgmm.from_labels(x, [0] * len(x), num_components=1)
        >>> posterior = jaxgmm.laplace(jax.random.key(0), start, x, prior, num_samples=50)
        >>> jaxgmm.partition(posterior, x)
        Partition of 82 points into 1 cluster: expected VI 0 nats (best draw: 0)
          cluster  size  certainty
                0    82      1.000
          95 % of the draws are within 0 nats of the partition; the bounds of this ball have 1 to 1 clusters
    """

    labels: jax.Array
    expected_loss: jax.Array
    certainty: jax.Array
    radius: jax.Array
    upper: jax.Array
    lower: jax.Array
    horizontal: jax.Array
    draw_loss: jax.Array
    loss: str = field(default="vi", metadata={"static": True})
    level: float = field(default=0.95, metadata={"static": True})

    @property
    def num_clusters(self) -> int:
        """The number of clusters."""
        return int(np.asarray(self.labels).max()) + 1

    def _tables(self) -> list[Table]:
        fields = [look(getattr(self, name)) for name in ("labels", "certainty", "upper", "lower", "horizontal")]
        labels, certainty, *bounds = (value for value in fields if value is not None)
        k, unit = self.num_clusters, _UNITS[self.loss]
        rows = []
        for i in elided(k):
            members = labels == i
            rows.append(["..."] * 3 if i is None else [str(i), str(members.sum()), f"{certainty[members].mean():.3f}"])
        sizes = [len(np.unique(bound)) for bound in bounds]
        title = (
            f"Partition of {len(labels)} points into {k} cluster{'s' * (k > 1)}: expected "
            f"{'VI' if self.loss == 'vi' else 'Binder loss'} {number(self.expected_loss)} {unit} (best draw: "
            f"{number(self.draw_loss)})"
        )
        ball = (
            f"{100 * self.level:g} % of the draws are within {number(self.radius)} {unit} of the partition; the bounds of this "
            f"ball have {min(sizes)} to {max(sizes)} clusters"
        )
        return [Table(title, ("cluster", "size", "certainty"), rows, [ball])]


@public
def partition(
    posterior: Posterior,
    x: ArrayLike | Observations,
    *,
    loss: str = "vi",
    key: jax.Array | None = None,
    start: MixtureLike | None = None,
    max_clusters: int | None = None,
    level: float = 0.95,
    num_draws: int = 1000,
    num_runs: int = 16,
) -> Partition:
    """Estimate the clustering of the points: the partition c that minimises the expected loss E[loss(c, z)] over draws z.

    There are two losses. Both are label-invariant, so that the posterior need not be relabelled.

    - "vi": the variation of information, H(c) + H(z) - 2 I(c, z), in nats, where H is the entropy of the shares of the clusters
      and I the mutual information. Meila (2007), J. Multivariate Anal. 98, 873-895; Wade & Ghahramani (2018), Bayesian Anal.
      13, 559-626.
    - "binder": the number of pairs of points that one partition puts together and the other apart. Binder (1978), Biometrika
      65, 31-38, with equal costs. This estimate often has more small clusters.

    The search is SALSO: Dahl, Johnson & Mueller (2022), J. Comput. Graph. Stat. 31, 1189-1201. It works on contingency tables
    and forms no matrix N x N. It runs on the host, in NumPy, and needs about N S K steps for each sweep over the points. The
    search also considers the partitions of all draws in use. The result is therefore at least as good as the best of them.

    The credible ball is that of Wade & Ghahramani (2018): it contains the draws within the radius of the estimate.
    If the posterior is from `smc`, its runs have unequal weights, and each run enters with its weight.

    Args:
        posterior: draws (C, S, ...).
        x: (N, D), in data units, or `observations`, whose labels restrict the components.
        loss: "vi" or "binder".
        key: a random key. The partitions are then draws from the posterior of the partition: each point gets a component with
            the probabilities of its responsibilities under the drawn parameters. None: each point gets its most probable
            component. The spread of the partitions, and the ball, then describe only the uncertainty of the parameters, and
            are too small if components overlap.
        start: a Mixture or a Fit, such as EM's estimate. Its partition is one more candidate, so that the result is not worse.
        max_clusters: the largest number of clusters; None: no limit.
        level: the probability of the ball.
        num_draws: the largest number S of draws in use, which are evenly spaced.
        num_runs: number of runs of the search.

    Returns:
        A Partition.

    Raises:
        ValueError, TypeError: an option is invalid; posterior is not a single Posterior; x has another number of features, has
            no rows or is not finite; or a value is traced (the search runs on the host).

    Example:
        >>> import jax, jax.numpy as jnp, jaxgmm
        >>> draws = jaxgmm.make_mixture([[[0.5, 0.5]] * 2], [[[[0.0], [9.0]], [[8.0], [1.0]]]], [[[[[1.0]], [[1.0]]]] * 2])
        >>> posterior = jaxgmm.Posterior(draws, jnp.zeros((1, 2)), None, jnp.array(0), {})
        >>> jaxgmm.partition(posterior, [[0.0], [1.0], [9.0], [0.5]]).labels.tolist()
        [0, 0, 1, 0]
    """
    check_choice(loss, "loss", LOSSES)
    check_one_posterior(posterior)
    limit = _check_options(max_clusters, level, num_draws, num_runs)
    if is_traced(posterior, x, key, start):
        raise TypeError("a value is traced, but the search of partition runs on the host; call it outside jit and vmap.")
    draws, points = as_points(pool(posterior.mixture, posterior.stats), x)
    if not len(points):
        raise ValueError(f"x has shape {points.shape}: no rows; at least one was expected.")
    kept = np.unique(np.linspace(0, len(draws.means) - 1, min(num_draws, len(draws.means))).round().astype(int))
    draws = jax.tree.map(lambda leaf: leaf[kept], draws)
    if key is None:
        rng, labels = np.random.default_rng(_SEED), np.asarray(predict(draws, points))
    else:
        check_key(key)
        rng, labels = np.random.default_rng(np.asarray(jax.random.bits(key, (4,)))), _sample_labels(key, draws, points)
    candidates = []
    if start is not None:
        candidates = [np.asarray(predict(as_mixture(start, "start", single=True), points))]
    table = collect_draws(labels, loss, candidates)
    found = search(table, rng, num_runs, limit)
    return _collect(table, found, _Ball(loss, float(level)))


def _check_options(max_clusters: int | None, level: float, num_draws: object, num_runs: object) -> int | None:
    """Return the largest number of clusters; raise TypeError or ValueError if an option is invalid."""
    if max_clusters is not None:
        check_count(max_clusters, "max_clusters")
    check_number(level, "level", exclusive=True)
    if level > 1:
        raise ValueError(f"level is {level}; a probability in (0, 1] was expected, such as 0.95.")
    check_count(num_draws, "num_draws")
    check_count(num_runs, "num_runs", 0)
    return max_clusters


def _sample_labels(key: jax.Array, draws: Mixture, points: jax.Array) -> np.ndarray:
    """Return the component of each point under each draw, (S, N), drawn with the probabilities of the responsibilities."""
    keys = jax.random.split(key, len(draws.means))
    return np.asarray(cut(_draw_components(keys, draws, pad_data(points, None).x), len(points), 1))


@jax.jit
def _draw_components(keys: jax.Array, draws: Mixture, points: jax.Array) -> jax.Array:
    """Return random components (S, N) of points under draws (S, ...)."""

    def one(arguments: tuple[jax.Array, Mixture]) -> jax.Array:
        key, draw = arguments
        return jax.random.categorical(key, safe_log(responsibilities(draw, points)))

    return jax.lax.map(one, (keys, draws))


class _Ball(NamedTuple):
    """The loss and the probability of a credible ball."""

    loss: str
    level: float


def _collect(draws: Draws, found: np.ndarray, ball: _Ball) -> Partition:
    """Return the Partition of an estimate (U,) of the groups of points."""
    found = _by_size(found, draws.sizes)
    distance = distances(draws, found[None])[0]
    order = np.argsort(distance, kind="stable")
    reached = np.searchsorted(np.cumsum(draws.weights[order]), ball.level * (1 - 1e-9))
    radius = distance[order[min(reached, len(order) - 1)]]
    inside = np.flatnonzero((distance <= radius) & (draws.weights > 0))
    clusters = draws.labels.max(1) + 1

    def farthest(members: np.ndarray) -> jax.Array:
        """Return the labels (N,) of the farthest of some draws."""
        chosen = draws.labels[members[distance[members].argmax()]]
        return jnp.asarray(_by_size(chosen, draws.sizes)[draws.group])

    losses = expected_losses(draws, np.concatenate([found[None], draws.labels[draws.weights > 0]]))
    return Partition(
        labels=jnp.asarray(found[draws.group]),
        expected_loss=jnp.asarray(losses[0]),
        certainty=jnp.asarray(_certainty(draws, found)[draws.group]),
        radius=jnp.asarray(radius),
        upper=farthest(inside[clusters[inside] == clusters[inside].min()]),
        lower=farthest(inside[clusters[inside] == clusters[inside].max()]),
        horizontal=farthest(inside),
        draw_loss=jnp.asarray(losses[1:].min()),
        loss=ball.loss,
        level=ball.level,
    )


def _by_size(labels: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Return the labels of groups of points with the given sizes, renamed so that the largest cluster has label 0."""
    order = np.argsort(-np.bincount(labels, sizes), kind="stable")
    return np.argsort(order)[labels]


def _certainty(draws: Draws, found: np.ndarray) -> np.ndarray:
    """Return the mean probability (U,) that a point of each group is together with another point of its cluster."""
    together, counts = np.zeros(len(found)), np.bincount(found, draws.sizes)
    for k, count in enumerate(counts):
        members = found == k
        labels, sizes = draws.labels[:, members], draws.sizes[members]
        for row, weight in zip(labels, draws.weights, strict=True):
            together[members] += weight * np.bincount(row, sizes)[row]
        together[members] = (together[members] - 1) / max(count - 1, 1) if count > 1 else 1.0
    return together
