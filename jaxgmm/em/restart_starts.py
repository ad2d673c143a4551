"""Starts of restarts: candidates of several kinds, of which those that a few EM steps show to be the best are fitted.

One kind of start fails on whole families of data: k-means++ seeds far points, so that with outliers nearly all its starts lead
to components on too few points, and distances in units of standard deviations cut elongated clusters apart. The first start is
therefore that of `initialize`, and each further restart has eight candidates. Seven of them assign each point to the nearest of
K seeds of k-means++ (Arthur & Vassilvitskii 2007); they differ in the coordinates, which are standardised, whitened, half
whitened as in mclust's hierarchical start (Scrucca & Raftery 2015), or a random projection, and in a cap of the distances,
which makes outliers unattractive. The components of the eighth start with the covariance of all data and nearly equal means.

The likelihood after short runs of EM tells which candidates are promising ("small EM": Biernacki, Celeux & Govaert 2003). All
candidates take a few steps; the better of them go on, and the best of these are fitted to the end. A candidate whose likelihood
has settled takes no further step, so that where EM is fast, the longer runs cost little.
"""

from __future__ import annotations

import dataclasses
import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from .. import covariance, linalg
from ..chunking import short_run_rows, short_runs_per_batch
from ..mixture import Mixture, num_parameters
from ..row_sums import Weight, nonzero, repeat_valid_row, vary_with, weight_or_ones
from .assignments import mixture_of_groups
from .initialization import START_PSEUDO_COUNT, StartOptions, initialize_validated, standardise_features
from .k_means import nearest_centers, num_trials, plus_plus_seeds, subsample
from .loop import EMProblem, Options, finalize, init, is_running, prepare, step
from .result import Fit, unsoundness_of

_ALWAYS_FITTED = 5  # so many starts go on, or half of the restarts if that is more
_PHASES = (
    (4, math.inf),
    (16, 6),
    (64, 3),
)  # most EM steps of a short run, and how many candidates take them for each fitted one
_SHORT_TOL = 1e-5  # nats per row: a candidate that has settled to it takes no further step
_SPREAD = 0.1  # standard deviations between the means of components that start with the covariance of all data
_FLAT = 1e-5  # smallest eigenvalue of the correlations, so that collinear columns can be whitened


class _Kind(NamedTuple):
    """How the seeds of a candidate are drawn.

    Attributes:
        whitening: the power of the correlation matrix in the distance: 0 standardised, 1 whitened, 1/2 between the two.
        projected: whether the points are projected on a random direction.
        cap: squared distance beyond which all points are equally far, in units of the variance of the coordinates;
            so small a number as 1e-9 makes the seeds random distinct rows.
    """

    whitening: float
    projected: bool
    cap: float


_SEEDED = (
    _Kind(0, False, math.inf),
    _Kind(0, False, 0.1),
    _Kind(0.5, False, math.inf),
    _Kind(1, False, 0.1),
    _Kind(1, False, 1e-9),
    _Kind(0, True, 1e-9),
    _Kind(1, True, 0.1),
)


def num_fitted(num_restarts: int) -> int:
    """Return how many of the starts go on to be fitted."""
    return max(min(num_restarts, _ALWAYS_FITTED), -(-num_restarts // 2))


@partial(jax.jit, static_argnums=(3, 4))
def restart_starts(
    key: jax.Array,
    x: jax.Array,
    weight: Weight,
    options: StartOptions,
    num_restarts: int,
    num_present: jax.Array | None = None,
) -> Mixture:
    """Return the starts (num_fitted,) that go on to be fitted, from validated data; the first is that of `initialize`.

    Args:
        key: a random key.
        x: (N, D).
        weight: (N,), or the weights of padded data.
        options: what `initialize` takes.
        num_restarts: the number of restarts; the candidates are eight times as many.
        num_present: number of components; the others are absent (weight 0). None: all are present.
    """
    weight = weight_or_ones(weight, x.shape[:1], x.dtype)
    key_first, key_rows, key_seeded, key_overlapping = jax.random.split(key, 4)
    first = jax.tree.map(lambda leaf: leaf[None], initialize_validated(key_first, x, weight, num_present, options=options))
    if num_restarts == 1:
        return first
    size = short_run_rows(num_parameters(first))
    rows, weight = subsample(key_rows, repeat_valid_row(x, weight), weight, size)
    present = options.num_components if num_present is None else num_present
    starts = _merge(
        _seeded_starts(key_seeded, rows, weight, options, num_restarts - 1, present),
        _overlapping_starts(key_overlapping, rows, weight, options, num_restarts - 1, present),
    )
    best = _race(starts, rows, weight, num_fitted(num_restarts) - 1)
    return _merge(first, best)


def _merge(*stacks: Mixture) -> Mixture:
    """Return stacks of mixtures as one stack."""
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *stacks)


def _seeded_starts(
    key: jax.Array, rows: jax.Array, weight: jax.Array, options: StartOptions, count: int, num_present: jax.Array | int
) -> Mixture:
    """Return `count` starts of each seeded kind as one stack."""
    k, d, dtype = options.num_components, rows.shape[1], rows.dtype
    kinds = _SEEDED * count
    key_directions, key_seeds = jax.random.split(key)
    _, _, points = standardise_features(rows, weight)
    directions = jax.random.normal(key_directions, (len(kinds), d), dtype)
    maps = _coordinate_maps(points, weight, kinds, directions)
    caps = jnp.array([kind.cap * (1 if kind.projected else d) for kind in kinds], dtype)
    uniforms = jax.random.uniform(key_seeds, (len(kinds), k, num_trials(k)), dtype)

    def one_start(map_: jax.Array, cap: jax.Array, uniform: jax.Array) -> Mixture:
        coordinates = covariance.einsum("de,en->dn", map_, points)
        seeds = plus_plus_seeds(uniform, coordinates, weight, cap)
        far = 10 * (1 + abs(coordinates).max())
        labels = nearest_centers(coordinates, jnp.where(jnp.arange(k)[:, None] < num_present, seeds, far))
        return _mixture_of_groups(rows, weight, labels, options)

    return jax.lax.map(lambda args: one_start(*args), (maps, caps, uniforms), batch_size=len(_SEEDED))


def _coordinate_maps(points: jax.Array, weight: jax.Array, kinds: tuple[_Kind, ...], directions: jax.Array) -> jax.Array:
    """Return the matrices (M, D, D) that map standardised points (D, N) to the coordinates of the kinds of candidates.

    The coordinates have a mean variance of 1. A projection fills the first row of its matrix; the other rows are 0.
    """
    d = len(points)
    correlation = covariance.einsum("dn,en->de", points * weight, points) / nonzero(weight.sum())
    values, vectors = linalg.eigh(correlation)
    power = jnp.array([kind.whitening / 2 for kind in kinds], points.dtype)
    maps = vectors * jnp.maximum(values, _FLAT) ** -power[:, None, None]  # (M, D, D), whose columns
    maps = covariance.einsum("mde,fe->mdf", maps, vectors)
    lines = covariance.einsum("md,mde->me", directions, maps)[:, None, :] * jnp.eye(d, 1, dtype=points.dtype)
    projected = jnp.array([kind.projected for kind in kinds])
    maps = jnp.where(projected[:, None, None], lines, maps)
    variance = covariance.einsum("mde,ef,mdf->m", maps, correlation, maps) / jnp.where(projected, 1, d)
    return maps / jnp.sqrt(nonzero(variance))[:, None, None]


def _overlapping_starts(
    key: jax.Array, rows: jax.Array, weight: jax.Array, options: StartOptions, count: int, num_present: jax.Array | int
) -> Mixture:
    """Return `count` starts of components of equal weight with the covariance of all data and means near that of all data."""
    k, d = options.num_components, rows.shape[1]
    overall = _mixture_of_groups(rows, weight, jnp.zeros(len(rows), int), options)  # all rows in the first component
    sd = jnp.sqrt(covariance.variances(overall.covariances, options.covariance_type, d))[0]
    means = overall.means[0] + _SPREAD * sd * jax.random.normal(key, (count, k, d), rows.dtype)
    weights = jnp.where(jnp.arange(k) < num_present, 1 / num_present, 0).astype(rows.dtype)
    covariances = jnp.broadcast_to(overall.covariances[:1], (count, *overall.covariances.shape))
    return dataclasses.replace(overall, weights=jnp.broadcast_to(weights, (count, k)), means=means, covariances=covariances)


def _mixture_of_groups(rows: jax.Array, weight: jax.Array, labels: jax.Array, options: StartOptions) -> Mixture:
    """Return the start whose components have the moments of the groups of rows."""
    k, kind, _ = options
    pseudo_count = START_PSEUDO_COUNT / k
    return mixture_of_groups(rows, weight, labels, num_components=k, covariance_type=kind, pseudo_count=pseudo_count)


def _race(starts: Mixture, rows: jax.Array, weight: jax.Array, num_wanted: int) -> Mixture:
    """Return the best mixtures (num_wanted,) after short runs of EM from starts (M,), of which fewer go on in each phase."""
    size = len(starts.weights)
    width = min(size, short_runs_per_batch(rows.size * starts.num_components))
    counts = jnp.array([min(size, num_wanted * factor) for _, factor in _PHASES])
    steps = jnp.array([most for most, _ in _PHASES])
    run = jax.vmap(partial(_short_run, rows=rows, weight=weight), in_axes=(0, None))

    def one_phase(phase: jax.Array, runs: Fit) -> Fit:
        def one_batch(batch: jax.Array, runs: Fit) -> Fit:
            part = jax.tree.map(lambda a: jax.lax.dynamic_slice_in_dim(a, batch * width, width), runs.mixture)
            new = run(part, steps[phase])
            return jax.tree.map(lambda a, b: jax.lax.dynamic_update_slice_in_dim(a, b, batch * width, 0), runs, new)

        runs = jax.lax.fori_loop(0, -(-counts[phase] // width), one_batch, runs)
        objective = jnp.nan_to_num(runs.objective, nan=-jnp.inf)
        order = jnp.lexsort((-objective, unsoundness_of(runs, weight.sum()), jnp.arange(size) >= counts[phase]))
        return jax.tree.map(lambda leaf: leaf[order], runs)

    blank = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), jax.eval_shape(run, starts, steps[0]))
    begin = vary_with(dataclasses.replace(blank, mixture=starts), starts, rows, weight)
    runs = jax.lax.fori_loop(0, len(_PHASES), one_phase, begin)
    return jax.tree.map(lambda leaf: leaf[:num_wanted], runs.mixture)


def _short_run(start: Mixture, num_steps: jax.Array, rows: jax.Array, weight: jax.Array) -> Fit:
    """Return the fit after at most `num_steps` EM steps from a start."""
    options = Options(max(most for most, _ in _PHASES), accelerate=False, chunk_size=None, history=False)
    problem = prepare(start, EMProblem(rows, weight, None, None), jnp.asarray(_SHORT_TOL, rows.dtype))
    state = jax.lax.while_loop(
        lambda state: is_running(state, options) & (state.step < num_steps),
        partial(step, problem, options=options),
        init(problem, options),
    )
    return finalize(problem, state, start)
