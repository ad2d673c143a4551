"""Starts of restarts. There are candidates of several kinds, and only the best after a few EM steps are fitted to the end.

No single kind of start suits all data. Two examples concern starts by k-means++. Its seeds are points that lie far apart, so if
there are outliers, nearly all starts lead to components with too few points. Its distances are in units of standard deviations,
so elongated clusters are cut into pieces. Each restart therefore has seven candidates.

Six candidates assign each point to the nearest of K seeds of k-means++ (Arthur & Vassilvitskii 2007). They differ in the
coordinates, which are standardised, whitened, or projected on a random line. They also differ in an upper limit of the
distances, which makes outliers less likely as seeds. In the seventh candidate, all components start with the covariance of all
data, and their means are nearly equal.

The likelihood after short runs of EM shows which candidates are promising (`start_race`). Only the best are fitted to the end.
"""

from __future__ import annotations

import dataclasses
import math
from functools import partial
from itertools import accumulate
from typing import NamedTuple

import jax
import jax.numpy as jnp

from .. import covariance, linalg
from ..chunking import can_compare_starts, short_run_rows
from ..covariance import types as covariance_types
from ..covariance.estimates import Member
from ..mixture import Mixture
from ..priors.interface import MixturePrior
from ..row_sums import Weight, nonzero, repeat_valid_row, with_array
from .assignments import mixture_of_groups
from .initialization import START_PSEUDO_COUNT, StartOptions, initialize_validated, standardise_features
from .k_means import MAX_LLOYD_STEPS, lloyd, nearest_centers, num_trials, plus_plus_seeds, subsample
from .problem import CenteredProblem, EMProblem, prepare
from .start_race import SHORT_TOL, race

_ALWAYS_FITTED = 5  # the number of starts that are fitted: this number, or half of the restarts if that is more
_FLAT = 1e-5  # this number is added to the diagonal of the correlation matrix, so that collinear columns can be whitened
_ROWS = 2.0**-30  # with a cap as small as this, the seeds are random distinct rows; a power of two makes sums of caps exact
_SPREAD = 0.2  # largest distance of the means of overlapping components from the mean of all data, in standard deviations


class _Kind(NamedTuple):
    """The way in which the seeds of a candidate are drawn.

    Attributes:
        is_whitened: whether distances are Mahalanobis distances; otherwise each feature is in units of its standard deviation.
        is_projected: whether the points are projected on a random direction.
        cap: upper limit of squared distances, in units of the total variance of the coordinates; larger ones count as equal.
        is_moved: whether k-means moves the seeds.
    """

    is_whitened: bool
    is_projected: bool
    cap: float
    is_moved: bool = False


_SEEDED = (
    _Kind(False, False, math.inf, is_moved=True),
    _Kind(False, False, 0.1),
    _Kind(True, False, 0.1),
    _Kind(True, False, _ROWS),
    _Kind(False, True, _ROWS),
    _Kind(True, True, 0.1),
)


class _Numbers(NamedTuple):
    """Random numbers: uniform numbers for the seeds (M, K, trials), directions (M, D), and moves of means (R, K, D)."""

    seeds: jax.Array
    directions: jax.Array
    means: jax.Array


def num_fitted(num_restarts: int) -> int:
    """Return the number of starts that are fitted to the end."""
    return max(min(num_restarts, _ALWAYS_FITTED), -(-num_restarts // 2))


@partial(jax.jit, static_argnums=(3, 4))
def restart_starts(
    key: jax.Array,
    x: jax.Array,
    weight: Weight,
    options: StartOptions,
    num_restarts: int,
    *,
    num_present: jax.Array | None = None,
    prior: MixturePrior | None = None,
    member: Member | None = None,
) -> Mixture:
    """Return the starts (num_fitted,) that are fitted to the end, from validated data.

    If `num_restarts` is 1, there is one start, which is the start of `initialize`; there is then no `member`. If there is no
    `member`, and D, K and the number of rows are so large that short runs of EM would take too long
    (`chunking.can_compare_starts`), all starts are starts of `initialize`.

    Args:
        key: a random key.
        x: (N, D).
        weight: (N,), or the weights of padded data.
        options: the options of `initialize`.
        num_restarts: the number of restarts. There are seven candidates for each restart.
        num_present: number of components; the others are absent (weight 0). None: all are present.
        prior: the prior of the fits, or None. With a prior, the log posterior density shows which candidates are promising.
        member: the covariance type, if the program serves several types. The candidates then begin with covariances of the type
            in `options`, "full" or "diag", and the first step of EM makes them covariances of the member.
    """
    if num_restarts == 1:
        start = initialize_validated(key, x, weight, num_present, options=options)
        return jax.tree.map(lambda leaf: leaf[None], start)
    weight = with_array(weight, x)
    k, d = options.num_components, x.shape[1]
    size = short_run_rows(k - 1 + k * d + covariance_types.num_free(options.covariance_type, k, d))
    if member is None and not can_compare_starts(k, k * d * min(size, len(x))):
        keys = jax.random.split(key, num_fitted(num_restarts))
        return jax.lax.map(lambda key: initialize_validated(key, x, weight, num_present, options=options), keys)
    key_rows, key_numbers = jax.random.split(key)
    rows, weight = subsample(key_rows, repeat_valid_row(x, weight), weight, size)
    present = options.num_components if num_present is None else num_present
    numbers = _draw_numbers(key_numbers, rows, k, num_restarts)
    seeded = _seeded_starts(numbers, rows, weight, options, present)
    if member is not None:
        seeded = dataclasses.replace(seeded, covariance_type=member.wide_type)
    problem = prepare(seeded, EMProblem(rows, weight, prior, None, member), jnp.asarray(SHORT_TOL, x.dtype))
    overlapping = _overlapping_starts(numbers.means, problem, present)
    starts = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), problem.start, overlapping)
    best = race(jax.random.fold_in(key_numbers, 1), starts, problem, num_fitted(num_restarts))
    return dataclasses.replace(best, means=best.means + problem.center)


def _draw_numbers(key: jax.Array, rows: jax.Array, num_components: int, num_restarts: int) -> _Numbers:
    """Return the random numbers of all candidates. The numbers of one restart do not depend on the number of restarts."""
    k, d, kinds = num_components, rows.shape[1], len(_SEEDED)
    shapes = {"seeds": (kinds, k, num_trials(k)), "directions": (kinds, d), "means": (k, d)}
    sizes = [math.prod(shape) for shape in shapes.values()]
    uniform = jax.random.uniform(key, (num_restarts, sum(sizes)), rows.dtype)
    parts = jnp.split(uniform, list(accumulate(sizes))[:-1], axis=1)
    seeds, directions, means = (part.reshape(-1, *shape[-2:]) for part, shape in zip(parts, shapes.values(), strict=True))
    return _Numbers(seeds.reshape(-1, k, num_trials(k)), 2 * directions.reshape(-1, d) - 1, 2 * means - 1)


def _seeded_starts(
    numbers: _Numbers, rows: jax.Array, weight: jax.Array, options: StartOptions, num_present: jax.Array | int
) -> Mixture:
    """Return the starts of all seeded kinds as one stack."""
    k, covariance_type, method = options
    kinds = _SEEDED * (len(numbers.seeds) // len(_SEEDED))
    _, _, points = standardise_features(rows, weight)
    maps = _coordinate_maps(points, weight, kinds, numbers.directions)
    caps = jnp.array([kind.cap for kind in kinds], rows.dtype)
    moves = jnp.array([MAX_LLOYD_STEPS[method] * kind.is_moved for kind in kinds])

    def one_start(map_: jax.Array, cap: jax.Array, move: jax.Array, uniform: jax.Array) -> Mixture:
        mapped = covariance.einsum("de,en->dn", map_, points)
        coordinates = mapped / jnp.sqrt(nonzero(weight @ (mapped**2).sum(0) / nonzero(weight.sum())))
        seeds = plus_plus_seeds(uniform, coordinates, weight, cap)
        seeds = jnp.where(jnp.arange(k)[:, None] < num_present, seeds, 10 * (1 + abs(coordinates).max()))
        labels = nearest_centers(coordinates, lloyd(coordinates, weight, seeds, move))
        return mixture_of_groups(
            rows, weight, labels, num_components=k, covariance_type=covariance_type, pseudo_count=START_PSEUDO_COUNT / k
        )

    return jax.lax.map(lambda args: one_start(*args), (maps, caps, moves, numbers.seeds), batch_size=len(_SEEDED))


def _coordinate_maps(points: jax.Array, weight: jax.Array, kinds: tuple[_Kind, ...], directions: jax.Array) -> jax.Array:
    """Return the matrices (M, D, D) that map standardised points (D, N) to the coordinates of the kinds of candidates.

    A projection fills the first row of its matrix; the other rows are 0.
    """
    d = len(points)
    correlation = covariance.einsum("dn,en->de", points * weight, points) / nonzero(weight.sum())
    identity = jnp.eye(d, dtype=points.dtype)
    whitener = linalg.invert_lower(linalg.cholesky((correlation + _FLAT * identity)[None]))
    is_whitened, is_projected = (jnp.array([kind[i] for kind in kinds])[:, None, None] for i in range(2))
    maps = jnp.where(is_whitened, whitener, identity)
    lines = covariance.einsum("md,mde->me", directions, maps)[:, None, :] * identity[:, :1]
    return jnp.where(is_projected, lines, maps)


def _overlapping_starts(numbers: jax.Array, problem: CenteredProblem, num_present: jax.Array | int) -> Mixture:
    """Return starts whose components have equal weights, the covariance of all data, and means near the mean of all data."""
    kind, spread = problem.start.covariance_type, problem.data_covariance
    count, k, d = numbers.shape
    means = _SPREAD * covariance.transform(covariance.factorize(spread, kind, d).lower, numbers, kind)
    weights = jnp.where(jnp.arange(k) < num_present, 1 / num_present, 0).astype(numbers.dtype)
    covariances = jnp.broadcast_to(spread, (count, *problem.start.covariances.shape[1:]))
    return Mixture(jnp.broadcast_to(weights, (count, k)), means, covariances, kind)
