"""Where EM starts: k-means++ and k-means inside jit, from labels, from responsibilities.

Distances are taken with each feature divided by its standard deviation, so starts are free of units. Seeds are drawn by
inverse cumulative weight: an integer weight acts as repetition of the row.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import covariance
from ..checks import (
    as_data,
    as_float_array,
    as_sample_weight,
    check_choice,
    check_count,
    check_covariance_type,
    check_key,
    check_rows_finite,
    extremes,
    is_traced,
)
from ..mixture import Mixture
from .kernels import default_chunk, sum_over_chunks
from .moments import data_spread, rounding_ridge

METHODS = ("k-means++", "k-means")
_LLOYD_STEPS = 100
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
    """A start for EM: greedy k-means++ seeds (Arthur & Vassilvitskii 2007), each point to its nearest, moments of the groups.

    Covariances are drawn a little towards that of all data, and are always positive definite: constant and collinear
    columns and groups of one point too. Fewer distinct points than K leave components of weight 0.

    Args:
        key: a random key.
        x: (N, D), N >= num_components.
        num_components: K.
        covariance_type: "full", "tied", "diag" or "spherical".
        method: "k-means++", or "k-means": with Lloyd's iterations after the seeds.
        sample_weight: (N,) >= 0, or None.

    Returns:
        A Mixture in x's float dtype.

    Raises:
        ValueError, TypeError: data or options that make no sense; fewer rows than components.

    Example:
        >>> import jax, jaxgmm
        >>> jaxgmm.initialize(jax.random.key(0), jaxgmm.datasets.load("iris"), num_components=3).means.shape
        (3, 4)
    """
    check_key(key)
    check_count(num_components, "num_components")
    check_covariance_type(covariance_type)
    check_choice(method, "method", METHODS)
    x, weight = weighted_data(x, sample_weight, num_components)
    return _initialize(key, x, weight, num_components=num_components, covariance_type=covariance_type, method=method)


@partial(jax.jit, static_argnames=("num_components", "covariance_type", "method"))
def initialize_lanes(
    keys: jax.Array, x: jax.Array, weight: jax.Array | None, *, num_components: int, covariance_type: str, method: str
) -> Mixture:
    """Starts for many data sets (B, N, D) or weights (B, N) of one (N, D), from keys (B,); values are not looked at."""
    weight = jnp.ones(x.shape[:-1], x.dtype) if weight is None else weight
    options = {"num_components": num_components, "covariance_type": covariance_type, "method": method}
    axes = (0, 0 if x.ndim == 3 else None, 0 if weight.ndim == 2 else None)
    return jax.vmap(partial(_initialize, **options), in_axes=axes)(keys, x, weight)


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
        if (numbers != numbers.round()).any() or numbers.size and not 0 <= numbers.min() <= numbers.max() < num_components:
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
    x = as_data(check_rows_finite(x, sample_weight), check_values=True)
    weight = as_sample_weight(sample_weight, len(x), x.dtype, check_values=True)
    rows = len(x) if weight is None or is_traced(weight) else int((np.asarray(weight) > 0).sum())
    if rows < max(num_components, 1):
        raise ValueError(f"x has {rows} rows; at least {max(num_components, 1)} were expected, one a component.")
    return x, jnp.ones(len(x), x.dtype) if weight is None else weight


@partial(jax.jit, static_argnames=("num_components", "covariance_type", "method"))
def _initialize(
    key: jax.Array, x: jax.Array, weight: jax.Array, *, num_components: int, covariance_type: str, method: str
) -> Mixture:
    total = weight.sum()
    total = jnp.where(total > 0, total, 1)
    x = jnp.where(weight[:, None] > 0, x, x[jnp.argmax(weight > 0)])
    center = x[0] + weight @ (x - x[0]) / total
    sd = jnp.sqrt(weight @ (x - center) ** 2 / total)
    scaled = ((x - center) / jnp.where(sd > 0, sd, 1)).T  # (D, N)
    seeds = _plus_plus(key, scaled, weight, num_components)  # (K, D)
    if method == "k-means":
        seeds = _lloyd(scaled, weight, seeds)
    labels, _ = _nearest(scaled, seeds)
    return _from_groups(
        x,
        weight,
        labels,
        num_components=num_components,
        covariance_type=covariance_type,
        pseudo_count=_START_PSEUDO_COUNT / num_components,
    )


def _draw(key: jax.Array, weight: jax.Array, count: int) -> jax.Array:
    """count indices with probability proportional to weight (N,), by inverse cumulative weight."""
    cumulative = jnp.cumsum(weight)
    uniform = jax.random.uniform(key, (count,), weight.dtype) * cumulative[-1]
    index = jnp.searchsorted(cumulative, uniform, side="right")
    return jnp.minimum(index, len(weight) - 1)


def _plus_plus(key: jax.Array, scaled: jax.Array, weight: jax.Array, num_components: int) -> jax.Array:
    """Seeds (K, D): each the best of a few candidates drawn by weight times squared distance to the seeds before."""
    trials = 2 + int(math.log(num_components))
    key, key_first = jax.random.split(key)
    first = scaled[:, _draw(key_first, weight, 1)[0]]
    distance = ((scaled - first[:, None]) ** 2).sum(0)  # (N,)

    def add(carry: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        potential = weight * carry
        drawn = _draw(key, jnp.where(potential.sum() > 0, potential, weight), trials)
        candidates = scaled[:, drawn]  # (D, trials)
        closer = jnp.minimum(((scaled[:, None, :] - candidates[:, :, None]) ** 2).sum(0), carry)  # (trials, N)
        best = (closer @ weight).argmin()
        return closer[best], candidates[:, best]

    _, others = jax.lax.scan(add, distance, jax.random.split(key, num_components - 1))
    return jnp.concatenate([first[None], others])


def _nearest(scaled: jax.Array, seeds: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Labels (N,) and squared distances (N,) of points (D, N) to the nearest of seeds (K, D)."""
    distance = ((scaled[None] - seeds[:, :, None]) ** 2).sum(1)  # (K, N), fused
    return distance.argmin(0), distance.min(0)


def _lloyd(scaled: jax.Array, weight: jax.Array, seeds: jax.Array) -> jax.Array:
    """k-means from seeds, until no label changes the centres; a group that loses all its points keeps its centre."""

    def update(state: tuple) -> tuple:
        step, centers, _ = state
        labels, _ = _nearest(scaled, centers)
        member = (labels == jnp.arange(len(centers))[:, None]) * weight  # (K, N)
        count = member.sum(1, keepdims=True)
        new = jnp.where(count > 0, member @ scaled.T / jnp.where(count > 0, count, 1), centers)
        return step + 1, new, (abs(new - centers) > 1e-4).any()

    return jax.lax.while_loop(lambda s: s[2] & (s[0] < _LLOYD_STEPS), update, (0, seeds, jnp.array(True)))[1]


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

    chunk = default_chunk(k, d)
    count, first = sum_over_chunks(sums, (x, groups), weight, chunk)
    safe = jnp.where(count > 0, count, 1)
    total = jnp.where(count.sum() > 0, count.sum(), 1)
    center = first.sum(0) / total
    mean = jnp.where(count[:, None] > 0, first / safe[:, None], center)

    def scatters(rows: tuple, w: jax.Array) -> jax.Array:
        points, group = rows
        centred = jnp.where(w[:, None] > 0, points - shift, 0).T
        r = (group == jnp.arange(k)[:, None]) * w if group.ndim == 1 else group.T * w
        return covariance.weighted_scatter(r, centred - mean[:, :, None], covariance_type)

    scatter = sum_over_chunks(scatters, (x, groups), weight, chunk)
    spread = data_spread(count, mean, scatter, shift, covariance_type)
    extra = pseudo_count * total
    divisor = covariance.pool_counts(count, covariance_type) + extra
    covariances = (covariance.pool(scatter, covariance_type) + extra * spread) / jnp.where(divisor > 0, divisor, 1)
    # a start can be factorised in its own dtype; the plain M-step of given groups is left as it is
    excess = jnp.where(pseudo_count > 0, rounding_ridge(d, x.dtype), 0)
    covariances = covariance.relative_ridge(covariances, excess, covariance_type)
    covariances = covariance.select_components(count > 0, covariances, spread, covariance_type)
    return Mixture(count / total, mean + shift, covariances, covariance_type)
