"""Starts of restarts: candidates of several kinds, each improved by a few EM steps, of which the best go on to be fitted.

One kind of start fails on whole families of data: k-means++ seeds far points, so that with outliers nearly all its starts lead
to components on too few points, and distances in units of standard deviations cut elongated clusters apart. The first start is
therefore that of `initialize`, and each further restart has four candidates of different kinds. The likelihood after a few EM
steps tells which are promising ("small EM": Biernacki, Celeux & Govaert 2003).
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from .. import covariance, linalg
from ..chunking import start_rows
from ..mixture import Mixture
from ..row_sums import repeat_valid_row
from .assignments import mixture_of_groups
from .initialization import START_PSEUDO_COUNT, StartOptions, initialize_validated, standardise_features
from .k_means import nearest_centers, num_trials, plus_plus_seeds, subsample
from .loop import EMProblem, Options, finalize, init, is_running, prepare, step
from .result import Fit, unsoundness_of

_SHORT_RUN = Options(max_iter=8, accelerate=False, chunk_size=None, history=False)
_SHORT_TOL = 1e-5  # nats per row: a candidate that has settled to it takes no further step
_ALWAYS_FITTED = 5  # so many starts go on, or half of the restarts if that is more
_CAP = 0.1  # squared distance per feature beyond which all points are equally far, in units of the variance
_UNIFORM_CAP = 1e-9  # so small a cap makes seeds random distinct rows
_SPREAD = 0.1  # standard deviations between the means of components that start with the covariance of all data
_RIDGE = 1e-5  # of each variance, so that collinear columns can be whitened


def num_fitted(num_restarts: int) -> int:
    """Return how many of the starts go on to be fitted."""
    return max(min(num_restarts, _ALWAYS_FITTED), -(-num_restarts // 2))


@partial(jax.jit, static_argnums=(3, 4))
def restart_starts(
    key: jax.Array,
    x: jax.Array,
    weight: jax.Array,
    options: StartOptions,
    num_restarts: int,
    num_present: jax.Array | None = None,
) -> Mixture:
    """Return the starts (num_fitted,) that go on to be fitted, from validated data; the first is that of `initialize`.

    Args:
        key: a random key.
        x: (N, D).
        weight: (N,).
        options: what `initialize` takes.
        num_restarts: the number of restarts; the candidates are four times as many.
        num_present: number of components; the others are absent (weight 0). None: all are present.
    """
    keys = jax.random.split(key, num_restarts)
    first = jax.tree.map(lambda leaf: leaf[None], initialize_validated(keys[0], x, weight, num_present, options=options))
    if num_restarts == 1:
        return first
    x = repeat_valid_row(x, weight)
    rows, row_weight = subsample(keys[0], x, weight, start_rows(options.num_components))
    points = _make_points(rows, row_weight)
    present = options.num_components if num_present is None else num_present
    label = partial(_label_candidates, points=points, num_present=present, num_components=options.num_components)
    labels = jax.lax.map(lambda pair: label(*pair), (keys[1:], jnp.arange(num_restarts - 1)))
    labels = labels.reshape(-1, len(rows))
    run = partial(_run_candidate, points=points, num_present=present, options=options)
    # one after another, which is faster than side by side: what one candidate needs fits the cache
    runs: Fit = jax.lax.map(lambda pair: run(*pair), (jax.random.split(keys[0], len(labels)), labels))
    objective = jnp.nan_to_num(runs.objective, nan=-jnp.inf)
    order = jnp.lexsort((-objective, unsoundness_of(runs, row_weight.sum())))[: num_fitted(num_restarts) - 1]
    return jax.tree.map(lambda a, b: jnp.concatenate([a, b[order]]), first, runs.mixture)


class _Points(NamedTuple):
    """Rows (n, D) with their weights (n,), and the same in standardised and in whitened coordinates (D, n)."""

    rows: jax.Array
    weight: jax.Array
    standardised: jax.Array
    whitened: jax.Array


def _make_points(rows: jax.Array, weight: jax.Array) -> _Points:
    """Return the rows in the coordinates that candidates use."""
    _, _, standardised = standardise_features(rows, weight)
    d, total = len(standardised), jnp.where(weight.sum() > 0, weight.sum(), 1)
    correlation = covariance.einsum("dn,en->de", standardised * weight, standardised) / total
    root = linalg.invert_lower(linalg.cholesky(correlation + _RIDGE * jnp.eye(d, dtype=rows.dtype)))
    return _Points(rows, weight, standardised, covariance.einsum("de,en->dn", root, standardised))


def _label_candidates(
    key: jax.Array, number: jax.Array, *, points: _Points, num_present: jax.Array | int, num_components: int
) -> jax.Array:
    """Return labels (4, n) of the rows, one set for each candidate; the number of the restart decides between variants.

    The last candidate of the first of these restarts has no labels: all are -1.
    """
    key_seeds, key_cuts = jax.random.split(key)
    is_even, d = number % 2 == 0, len(points.whitened)
    spaces = [points.standardised, jnp.where(is_even, points.whitened, points.standardised), points.whitened]
    caps = jnp.array([jnp.inf, _CAP * d, _UNIFORM_CAP * d], points.rows.dtype)
    by_seeds = partial(_labels_by_seeds, weight=points.weight, num_present=num_present, num_components=num_components)
    seeded = jax.vmap(by_seeds)(jax.random.split(key_seeds, 3), jnp.stack(spaces), caps)
    cut = _labels_by_cuts(key_cuts, points, num_present, num_components, is_even)
    return jnp.concatenate([seeded, jnp.where(number == 0, -1, cut)[None]])


def _run_candidate(
    key: jax.Array, labels: jax.Array, *, points: _Points, num_present: jax.Array | int, options: StartOptions
) -> Fit:
    """Return a short run of EM from the mixture of labels (n,), or from components that overlap if the labels are -1."""
    k = options.num_components
    start = mixture_of_groups(
        points.rows,
        points.weight,
        jnp.maximum(labels, 0),
        num_components=k,
        covariance_type=options.covariance_type,
        pseudo_count=START_PSEUDO_COUNT / k,
    )
    overlapping = _overlapping_start(key, num_present, start)
    start = jax.tree.map(lambda a, b: jnp.where(labels[0] < 0, a, b), overlapping, start)
    return _short_run(start, points)


def _labels_by_seeds(
    key: jax.Array,
    points: jax.Array,
    cap: jax.Array,
    *,
    weight: jax.Array,
    num_present: jax.Array | int,
    num_components: int,
) -> jax.Array:
    """Return for each point (N,) which of the seeds of k-means++, with capped distances, is nearest."""
    uniform = jax.random.uniform(key, (num_components, num_trials(num_components)), points.dtype)
    seeds = plus_plus_seeds(uniform, points, weight, cap)
    far = 10 * (1 + abs(points).max())
    return nearest_centers(points, jnp.where(jnp.arange(num_components)[:, None] < num_present, seeds, far))


def _labels_by_cuts(
    key: jax.Array, points: _Points, num_present: jax.Array | int, num_components: int, is_equal: jax.Array
) -> jax.Array:
    """Return labels (N,) that cut a random direction of the whitened space into parts of equal or of random weight."""
    key_direction, key_parts = jax.random.split(key)
    d, dtype = len(points.whitened), points.rows.dtype
    position = covariance.einsum("d,dn->n", jax.random.normal(key_direction, (d,), dtype), points.whitened)
    parts = jnp.where(is_equal, 1, 0.1 + jax.random.exponential(key_parts, (num_components,), dtype))
    parts = jnp.where(jnp.arange(num_components) < num_present, parts, 0)
    order = jnp.argsort(position)
    cumulative = jnp.cumsum(points.weight[order])
    ends = jnp.searchsorted(cumulative, jnp.cumsum(parts)[:-1] / parts.sum() * cumulative[-1])
    cuts = position[order[jnp.minimum(ends, len(position) - 1)]]
    return (position > cuts[:, None]).sum(0)


def _overlapping_start(key: jax.Array, num_present: jax.Array | int, overall: Mixture) -> Mixture:
    """Return components of equal weight, of the covariance of all data, with means near that of all data.

    `overall` is the mixture whose first component holds all rows.
    """
    k, d = overall.weights.shape[0], overall.num_features
    weights = jnp.where(jnp.arange(k) < num_present, 1 / num_present, 0).astype(overall.weights.dtype)
    sd = jnp.sqrt(covariance.variances(overall.covariances, overall.covariance_type, d))[0]
    means = overall.means[0] + _SPREAD * sd * jax.random.normal(key, (k, d), overall.means.dtype)
    covariances = jnp.broadcast_to(overall.covariances[:1], overall.covariances.shape)
    return dataclasses.replace(overall, weights=weights, means=means, covariances=covariances)


def _short_run(start: Mixture, points: _Points) -> Fit:
    """Return the fit after a few EM steps; its history holds only the last objective."""
    problem = prepare(start, EMProblem(points.rows, points.weight, None, None), jnp.asarray(_SHORT_TOL, points.rows.dtype))
    state = jax.lax.while_loop(
        partial(is_running, options=_SHORT_RUN), partial(step, problem, options=_SHORT_RUN), init(problem, _SHORT_RUN)
    )
    return finalize(problem, state._replace(history=state.objective[None]), start)
