"""Where EM starts: k-means++ and k-means inside jit, from labels, from responsibilities.

Distances are taken with each feature divided by its standard deviation, so starts are free of units. Seeds are drawn by
inverse cumulative weight: an integer weight acts as repetition of the row. Several candidates are made, on some thousand rows
where there are more, and the likeliest is taken: the optimum that EM then finds is decided here.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import covariance
from ..chunking import rows_per_chunk, start_rows
from ..density import log_joint, safe_log
from ..host import extremes
from ..mixture import Mixture
from ..row_sums import nonzero, sum_over_rows
from ..validation import (
    as_float_array,
    as_weighted_data,
    check_choice,
    check_count,
    check_covariance_type,
    check_key,
    is_traced,
)
from .kernels import Summary
from .m_step import data_covariance, rounding_ridge

METHODS = ("k-means++", "k-means")
_LLOYD_STEPS = {"k-means++": 10, "k-means": 100}
_CANDIDATES = 8
_TIE = 1e-4  # nats a row: candidates nearer than this are equally likely
_START_PSEUDO_COUNT = 1e-2  # of an average component: a start is never a spike


def initialize(
    key: jax.Array,
    x: Any,
    *,
    num_components: int,
    covariance_type: str = "full",
    method: str = "k-means++",
    sample_weight: Any = None,
) -> Mixture:
    """A start for EM: greedy k-means++ seeds (Arthur & Vassilvitskii 2007), k-means steps, moments of the groups of nearest points.

    The likeliest of eight such candidates is taken, one with a group of fewer than D + 1 points (2 for diag and spherical) only
    where there is no other. The centres are sought on 2048 rows (64 K if that is more), drawn by weight, where x has more; the
    moments are those of all rows. The same key gives the same start for the same rows in the same order.

    Covariances are drawn a little towards that of all data, and are always positive definite: constant and collinear
    columns and groups of one point too. Fewer distinct points than K leave components of weight 0.

    Args:
        key: a random key.
        x: (N, D), N >= num_components.
        num_components: K.
        covariance_type: "full", "tied", "diag" or "spherical".
        method: "k-means++": ten of Lloyd's steps after the seeds, or "k-means": until they settle.
        sample_weight: (N,) >= 0: an integer weight counts as repetition, 0 silences a row, whatever it holds.

    Returns:
        A Mixture in x's float dtype. Traced data that hold NaN or infinity give NaN.

    Raises:
        ValueError, TypeError: data or options that make no sense; fewer rows than components.

    Example:
        >>> import jax, jaxgmm
        >>> jaxgmm.initialize(jax.random.key(0), jaxgmm.datasets.load("iris"), num_components=3).means.shape
        (3, 4)
    """
    check_recipe(key, num_components, covariance_type, method)
    x, weight = weighted_data(x, sample_weight, num_components)
    return _initialize(key, x, weight, num_components=num_components, covariance_type=covariance_type, method=method)


@partial(jax.jit, static_argnames=("num_components", "covariance_type", "method"))
def initialize_batch(
    keys: jax.Array,
    x: jax.Array,
    weight: jax.Array | None,
    present: jax.Array | None = None,
    plain: jax.Array | None = None,
    *,
    num_components: int,
    covariance_type: str,
    method: str,
) -> Mixture:
    """Starts for many data sets (B, N, D) or weights (B, N) of one (N, D), from keys (B,); values are not looked at.

    present: (B,), how many components each start has; the others are absent, of weight 0. plain: (B,), which starts are a single
    draw, of k-means++ without steps of k-means, rather than the likeliest of several: those differ, as restarts must, where the
    likeliest of several are all alike.
    """
    if weight is None:  # behind a barrier, or the compiler works out for seconds where constants are largest
        weight = jax.lax.optimization_barrier(jnp.ones(x.shape[:-1], x.dtype))
    options = {"num_components": num_components, "covariance_type": covariance_type, "method": method}
    lanes = [None if lane is None else 0 for lane in (present, plain)]
    axes = (0, 0 if x.ndim == 3 else None, 0 if weight.ndim == 2 else None, *lanes)
    return jax.vmap(partial(_initialize, **options), in_axes=axes)(keys, x, weight, present, plain)


def check_recipe(key: Any, num_components: Any, covariance_type: Any, method: Any) -> None:
    """Refuses what no start can be made by."""
    check_key(key)
    check_count(num_components, "num_components")
    check_covariance_type(covariance_type)
    check_choice(method, "method", METHODS)


def from_labels(
    x: Any, labels: Any, *, num_components: int, covariance_type: str = "full", sample_weight: Any = None
) -> Mixture:
    """The plain M-step of a hard clustering: shares, means and covariances (divided by n) of the groups.

    Args:
        x: (N, D).
        labels: (N,) integers from 0 to num_components - 1.
        num_components: K. A label that never occurs gives weight 0, with the mean and covariance of all data.
        covariance_type: "full", "tied", "diag" or "spherical".
        sample_weight: (N,) >= 0, or None.

    Returns:
        A Mixture; covariances of groups of few points may be singular.

    Raises:
        ValueError, TypeError: labels out of range, wrong shapes.

    Example:
        >>> import jaxgmm, numpy as np
        >>> jaxgmm.from_labels(np.array([[0.0], [2.0], [9.0]]), [0, 0, 1], num_components=2).means.tolist()
        [[1.0], [9.0]]
    """
    check_count(num_components, "num_components")
    check_covariance_type(covariance_type)
    x, weight = weighted_data(x, sample_weight, 1)
    if not is_traced(labels):
        with jax.ensure_compile_time_eval():
            numbers = np.asarray(as_float_array(labels, "labels", check_values=True))
        if (numbers != numbers.round()).any() or (numbers.size and not 0 <= numbers.min() <= numbers.max() < num_components):
            raise ValueError(
                f"labels go from {numbers.min():g} to {numbers.max():g}; integers from 0 to "
                f"num_components - 1 = {num_components - 1} were expected."
            )
    labels = jnp.asarray(labels).astype(int)
    if labels.shape != (len(x),):
        raise ValueError(f"labels has shape {labels.shape}; one a row was expected: ({len(x)},).")
    return _from_groups(x, weight, labels, num_components=num_components, covariance_type=covariance_type, pseudo_count=0.0)


def from_responsibilities(
    x: Any, responsibilities: Any, *, covariance_type: str = "full", sample_weight: Any = None
) -> Mixture:
    """The plain M-step of given responsibilities. Bishop (2006), eq. 9.24 to 9.26.

    Args:
        x: (N, D).
        responsibilities: (N, K) >= 0; rows are used as they come, they should sum to one.
        covariance_type: "full", "tied", "diag" or "spherical".
        sample_weight: (N,) >= 0, or None.

    Returns:
        A Mixture; covariances of components with few points may be singular.

    Raises:
        ValueError, TypeError: wrong shapes, negative responsibilities.

    Example:
        >>> import jaxgmm, numpy as np
        >>> jaxgmm.from_responsibilities(np.array([[0.0], [2.0]]), np.array([[1.0, 0.0], [0.5, 0.5]])).weights.tolist()
        [0.75, 0.25]
    """
    check_covariance_type(covariance_type)
    x, weight = weighted_data(x, sample_weight, 1)
    r = as_float_array(responsibilities, "responsibilities", check_values=True).astype(x.dtype)
    if r.ndim != 2 or len(r) != len(x) or r.shape[1] == 0:
        raise ValueError(f"responsibilities has shape {r.shape}; (N, K) with N={len(x)} and K >= 1 was expected.")
    if not is_traced(r) and r.size and extremes(r)[0] < 0:
        raise ValueError(f"responsibilities has a negative value, {extremes(r)[0]:.4g}; values >= 0 were expected.")
    return _from_groups(x, weight, r, num_components=r.shape[1], covariance_type=covariance_type, pseudo_count=0.0)


def weighted_data(x: Any, sample_weight: Any, num_components: int) -> tuple[jax.Array, jax.Array]:
    """Data (N, D) and weights (N,), looked at, with a row for each component at least."""
    x, weight = as_weighted_data(x, sample_weight)
    rows = len(x) if weight is None or is_traced(weight) else int((np.asarray(weight) > 0).sum())
    if rows < max(num_components, 1):
        raise ValueError(f"x has {rows} rows; at least {max(num_components, 1)} were expected, one a component.")
    return x, jnp.ones(len(x), x.dtype) if weight is None else weight


@partial(jax.jit, static_argnames=("num_components", "covariance_type", "method"))
def _initialize(
    key: jax.Array,
    x: jax.Array,
    weight: jax.Array,
    present: jax.Array | None = None,
    plain: jax.Array | None = None,
    *,
    num_components: int,
    covariance_type: str,
    method: str,
) -> Mixture:
    total = nonzero(weight.sum())
    x = jnp.where(weight[:, None] > 0, x, x[jnp.argmax(weight > 0)])
    center = x[0] + weight @ (x - x[0]) / total
    sd = jnp.sqrt(weight @ (x - center) ** 2 / total)
    unit = jnp.where(sd > 0, sd, 1)
    key_rows, key_seeds = jax.random.split(key)
    rows, row_weight = _thinned(key_rows, x, weight, start_rows(num_components))
    scaled = ((rows - center) / unit).T  # (D, n)

    steps = _LLOYD_STEPS[method]
    if plain is not None and method == "k-means++":
        steps = jnp.where(plain, 0, steps)

    def candidate(uniform: jax.Array) -> tuple[jax.Array, jax.Array]:
        seeds = _plus_plus(uniform, scaled, row_weight)
        if present is not None:  # where no point is nearest
            seeds = jnp.where(jnp.arange(num_components)[:, None] < present, seeds, 10 * (1 + abs(scaled).max()))
        centers = _lloyd(scaled, row_weight, seeds, steps)
        return centers, _merit(scaled, row_weight, centers, num_components if present is None else present, covariance_type)

    trials = 2 + int(math.log(num_components))
    uniform = jax.random.uniform(key_seeds, (_CANDIDATES, num_components, trials), x.dtype)
    centers, merit = jax.lax.map(candidate, uniform)
    # the first of equals, so that rounding does not name the components
    chosen = jnp.argmax(merit >= merit.max() - _TIE)
    if plain is not None:
        chosen = jnp.where(plain, 0, chosen)
    return _from_groups(
        x,
        weight,
        _nearest(((x - center) / unit).T, centers[chosen]),
        num_components=num_components,
        covariance_type=covariance_type,
        pseudo_count=_START_PSEUDO_COUNT / num_components,
    )


def _thinned(key: jax.Array, x: jax.Array, weight: jax.Array, most: int) -> tuple[jax.Array, jax.Array]:
    """At most `most` rows that stand for all, one drawn from each equal share of the weight, and what each of them weighs."""
    if len(x) <= most:
        return x, weight
    index = _draw((jnp.arange(most) + jax.random.uniform(key, (most,), x.dtype)) / most, weight)
    return x[index], jnp.full(most, weight.sum() / most)


def _draw(uniform: jax.Array, weight: jax.Array) -> jax.Array:
    """Indices with probability proportional to weight (N,), from numbers in [0, 1), by inverse cumulative weight."""
    cumulative = jnp.cumsum(weight)
    return jnp.minimum(jnp.searchsorted(cumulative, uniform * cumulative[-1], side="right"), len(weight) - 1)


def _plus_plus(uniform: jax.Array, scaled: jax.Array, weight: jax.Array) -> jax.Array:
    """Seeds (K, D) from numbers in [0, 1), (K, trials): each the best of a few points drawn by weight times squared distance
    to the seeds before.
    """

    def add(distance: jax.Array, uniform: jax.Array) -> tuple[jax.Array, jax.Array]:
        potential = weight * distance
        candidates = scaled[:, _draw(uniform, jnp.where(potential.sum() > 0, potential, weight))]  # (D, trials)
        closer = jnp.minimum(((scaled[:, None, :] - candidates[:, :, None]) ** 2).sum(0), distance)  # (trials, N)
        best = (closer @ weight).argmin()
        return closer[best], candidates[:, best]

    # the same for all, and further than any two points are
    nowhere = jnp.full(len(weight), 1 + 4 * (scaled**2).sum(0).max())
    return jax.lax.scan(add, nowhere, uniform)[1]


def _nearest(scaled: jax.Array, centers: jax.Array) -> jax.Array:
    """Labels (N,) of points (D, N): the nearest of centers (K, D), by |c|^2 / 2 - c'x, one matrix product."""
    return ((centers**2).sum(1)[:, None] / 2 - covariance.einsum("kd,dn->kn", centers, scaled)).argmin(0)


def _members(scaled: jax.Array, weight: jax.Array, centers: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Weights of the points in each group (K, N), their sums (K,) and means (K, D); an empty group keeps its centre."""
    member = (_nearest(scaled, centers) == jnp.arange(len(centers))[:, None]) * weight
    count = member.sum(1)
    means = jnp.matmul(member, scaled.T, precision=jax.lax.Precision.HIGHEST) / jnp.where(count > 0, count, 1)[:, None]
    return member, count, jnp.where(count[:, None] > 0, means, centers)


def _lloyd(scaled: jax.Array, weight: jax.Array, seeds: jax.Array, steps: jax.Array | int) -> jax.Array:
    """k-means from seeds (K, D), until no label changes the centres."""

    def update(state: tuple) -> tuple:
        step, centers, _ = state
        new = _members(scaled, weight, centers)[2]
        return step + 1, new, (abs(new - centers) > 1e-4).any()

    return jax.lax.while_loop(lambda s: s[2] & (s[0] < steps), update, (0, seeds, jnp.array(True)))[1]


def _merit(
    scaled: jax.Array, weight: jax.Array, centers: jax.Array, present: jax.Array | int, covariance_type: str
) -> jax.Array:
    """Return the mean log-likelihood of the mixture of the groups at their moments.

    -inf where one of the first `present` groups holds too few points for a covariance of its own.
    """
    d, kind = len(scaled), covariance_type
    member, count, means = _members(scaled, weight, centers)
    total = jnp.where(count.sum() > 0, count.sum(), 1)
    extra = total * _START_PSEUDO_COUNT / len(centers)  # of unit variance: the factorisation never fails
    scatter = covariance.weighted_scatter(member, scaled - means[:, :, None], kind)
    pooled = covariance.ridge(covariance.pool(scatter, kind), jnp.full(1, extra), kind)
    factors = covariance.factorize(pooled / (covariance.pool_counts(count, kind) + extra), kind, d)
    joint, _ = log_joint(safe_log(count / total), means, factors, scaled, kind)  # (K, N)
    top = joint.max(0)
    likelihood = weight @ (top + jnp.log(jnp.exp(joint - top).sum(0))) / total
    few = ((count < covariance.fewest_points(kind, d)) & (jnp.arange(len(centers)) < present)).any()
    return jnp.where(few | jnp.isnan(likelihood), -jnp.inf, likelihood)


@partial(jax.jit, static_argnames=("num_components", "covariance_type"))
def _from_groups(
    x: jax.Array, weight: jax.Array, groups: jax.Array, *, num_components: int, covariance_type: str, pseudo_count: float
) -> Mixture:
    """Moments of groups: labels (N,) or responsibilities (N, K). pseudo_count: of all data, in shares of the total weight."""
    shift = x[jnp.argmax(weight > 0)]
    k, d = num_components, x.shape[1]

    def sums(rows: tuple, w: jax.Array) -> tuple:
        points, group = rows
        centred = jnp.where(w[:, None] > 0, points - shift, 0).T  # (D, n)
        r = (group == jnp.arange(k)[:, None]) * w if group.ndim == 1 else group.T * w  # (K, n)
        return r.sum(1), jnp.matmul(r, centred.T, precision=jax.lax.Precision.HIGHEST)

    chunk = rows_per_chunk(k, d, x.dtype)
    count, first = sum_over_rows(sums, (x, groups), weight, chunk)
    safe = jnp.where(count > 0, count, 1)
    total = jnp.where(count.sum() > 0, count.sum(), 1)
    center = first.sum(0) / total
    mean = jnp.where(count[:, None] > 0, first / safe[:, None], center)

    def scatters(rows: tuple, w: jax.Array) -> jax.Array:
        points, group = rows
        centred = jnp.where(w[:, None] > 0, points - shift, 0).T
        r = (group == jnp.arange(k)[:, None]) * w if group.ndim == 1 else group.T * w
        return covariance.weighted_scatter(r, centred - mean[:, :, None], covariance_type)

    scatter = sum_over_rows(scatters, (x, groups), weight, chunk)
    spread = data_covariance(Summary(count, mean, scatter), shift, covariance_type)
    extra = pseudo_count * total
    divisor = covariance.pool_counts(count, covariance_type) + extra
    covariances = (covariance.pool(scatter, covariance_type) + extra * spread) / jnp.where(divisor > 0, divisor, 1)
    # a start can be factorised in its own dtype; the plain M-step of given groups is left as it is
    excess = jnp.where(pseudo_count > 0, rounding_ridge(d, x.dtype), 0)
    covariances = covariance.relative_ridge(covariances, excess, covariance_type)
    covariances = covariance.select_components(count > 0, covariances, spread, covariance_type)
    return Mixture(count / total, mean + shift, covariances, covariance_type)
