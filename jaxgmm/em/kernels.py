"""The inner loops of EM: sums over data, a chunk of rows at a time, features first.

Two kernels give what the M-step needs. The whitened one takes z = W_k (x - mu_k) for each component: exact to rounding
however far apart or flat the components are. The quadratic one writes log-density and sums as two matrix products with the
features [x_i x_j, x, 1] about one centre: half the arithmetic, but its error is eps (distance / sd)^2, so it is taken only
while `_is_far` says that this is nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .. import covariance
from ..device import on_cpu
from ..mixture import Mixture

_REACH = {"float64": 1e4, "float32": 64.0}  # squared whitened distances up to which the quadratic kernel is taken


class Summary(NamedTuple):
    """Moments in data units: count (K,), mean (K, D), and scatter (K, D, D) | (K, D) about those means."""

    count: jax.Array
    mean: jax.Array
    scatter: jax.Array


def default_chunk(num_components: int, num_features: int, dtype: Any) -> int:
    """Rows a chunk: what its largest array, of features or of whitened rows, leaves room for in the cache.

    Measured flat within a factor of two; beyond 8 KiB a row of numbers a CPU's compiler splits single operations over threads,
    which at these sizes costs more than it gains. A GPU wants as many as there are: 256 MiB is within a tenth of that.
    """
    size = jnp.dtype(dtype).itemsize
    widest = size * max((num_features + 1) * (num_features + 2) // 2, num_components * num_features)
    if not on_cpu():
        return max(2**13, 2**28 // widest)
    return max(128, min(2**13 // size, 10 * 2**20 // widest // 128 * 128))


def sum_over_chunks(function: Callable, rows: Any, weight: jax.Array | None, chunk: int) -> Any:
    """Sum of function(rows of a chunk, their weights) over chunks of at most `chunk` rows; rows is a pytree of (N, ...).

    Chunks are of one size; the last overlaps the one before it, with weight 0 where it does: no copy, no padding. Sums in
    float32 are compensated (Kahan 1965), so that ten million rows lose nothing to the order of summation.
    """
    n = len(jax.tree.leaves(rows)[0])
    dtype = jax.tree.leaves(rows)[0].dtype
    if n <= chunk:
        return function(rows, jnp.ones(n, dtype) if weight is None else weight)
    number = -(-n // chunk)
    chunk = min(chunk, -(-n // number // 16) * 16)  # even, and whole vectors

    def one_chunk(i: jax.Array) -> Any:
        start = jnp.minimum(i * chunk, n - chunk)
        part = jax.tree.map(lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, start, chunk), rows)
        fresh = start + jnp.arange(chunk) >= i * chunk
        if weight is None:
            return function(part, fresh.astype(dtype))
        return function(part, jnp.where(fresh, jax.lax.dynamic_slice_in_dim(weight, start, chunk), 0))

    def step(carry: tuple, i: jax.Array) -> tuple:
        total, error = carry
        if dtype == jnp.float64:
            return (jax.tree.map(jnp.add, total, one_chunk(i)), error), None
        value = jax.tree.map(jnp.subtract, one_chunk(i), error)
        new = jax.tree.map(jnp.add, total, value)
        return (new, jax.tree.map(lambda a, b, c: (a - b) - c, new, total, value)), None

    zero = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(one_chunk, jnp.array(0)))
    (total, _), _ = jax.lax.scan(step, (zero, None if dtype == jnp.float64 else zero), jnp.arange(number))
    return total


def moment_sums(
    mixture: Mixture,
    factors: covariance.Factors,
    x: jax.Array,
    weight: jax.Array | None,
    shift: jax.Array,
    chunk_size: int | None,
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """count, first, second and log-likelihood of x - shift, in the whitened coordinates of a mixture that is shifted too.

    By the whitened kernel whatever the data, which also tells rows whose squares overflow from NaN.
    """
    return _sums(_whitened, *_arguments(mixture, factors, x, chunk_size), weight, shift)


def summary_sums(
    mixture: Mixture,
    factors: covariance.Factors,
    x: jax.Array,
    weight: jax.Array | None,
    shift: jax.Array,
    chunk_size: int | None,
) -> tuple[Summary, jax.Array]:
    """The summary and log-likelihood of x - shift under a mixture that is shifted too, by either kernel."""
    return _either_summary(*_arguments(mixture, factors, x, chunk_size), weight, shift)


def summarize(mixture: Mixture, factors: covariance.Factors, count: jax.Array, first: jax.Array, second: jax.Array) -> Summary:
    """Whitened sums in data units about the new means."""
    kind, safe = mixture.covariance_type, nonzero(count)[:, None]
    mean = mixture.means + covariance.transform(factors.lower, first / safe, kind)
    about_mean = second - covariance.outer(first / jnp.sqrt(safe), kind)
    return Summary(count, mean, covariance.transform_scatter(factors.lower, about_mean, kind))


def nonzero(total: jax.Array) -> jax.Array:
    """A total or totals to divide by: 1 where there is nothing."""
    return jnp.where(total > 0, total, 1)


def _arguments(mixture: Mixture, factors: covariance.Factors, x: jax.Array, chunk_size: int | None) -> tuple:
    """What both kernels take: rows a chunk, the mixture, its factors, a constant a component, data."""
    k, d = mixture.num_components, mixture.num_features
    positive = mixture.weights > 0
    log_weights = jnp.where(positive, jnp.log(jnp.where(positive, mixture.weights, 1)), -jnp.inf)
    constant = log_weights - factors.half_log_det - d / 2 * math.log(2 * math.pi)  # (K,)
    return chunk_size or default_chunk(k, d, x.dtype), mixture, factors, constant, x


def _sums(
    kernel: Callable,
    chunk: int,
    mixture: Mixture,
    factors: covariance.Factors,
    constant: jax.Array,
    x: jax.Array,
    weight: jax.Array | None,
    shift: jax.Array,
) -> tuple:
    return sum_over_chunks(kernel(mixture, factors, constant, shift, weight is None), x, weight, chunk)


def _whitened_summary(chunk: int, mixture: Mixture, factors: covariance.Factors, *rest: Any) -> tuple[Summary, jax.Array]:
    *sums, log_likelihood = _sums(_whitened, chunk, mixture, factors, *rest)
    return summarize(mixture, factors, *sums), log_likelihood


def _quadratic_summary(
    chunk: int, lanes: bool, mixture: Mixture, factors: covariance.Factors, *rest: Any
) -> tuple[Summary, jax.Array]:
    kind = mixture.covariance_type
    sums, log_likelihood = _sums(partial(_quadratic, lanes), chunk, mixture, factors, *rest)
    second, first, count = covariance.split_quadratic(sums.T, kind, mixture.num_features)
    safe = nonzero(count)[:, None]
    return Summary(count, first / safe, second - covariance.outer(first / jnp.sqrt(safe), kind)), log_likelihood


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _either_summary(chunk: int, *data: Any) -> tuple[Summary, jax.Array]:
    """The quadratic kernel where it is exact enough, else the whitened one."""
    quadratic, whitened = partial(_quadratic_summary, chunk), partial(_whitened_summary, chunk)

    @jax.custom_batching.custom_vmap
    def either(*data: Any) -> tuple:
        return jax.lax.cond(_is_far(*data[:2]), whitened, partial(quadratic, False), *data)

    @either.def_vmap
    def lanes(_: int, batched: list, *data: Any) -> tuple:
        """Each lane's own choice, whatever its neighbours are; the whitened kernel runs only if a lane needs it."""
        axes = tuple(jax.tree.map(lambda flag: 0 if flag else None, batched))
        far, near = jax.vmap(lambda *data: (_is_far(*data[:2]), quadratic(True, *data)), in_axes=axes)(*data)

        def choose(*data: Any) -> tuple:
            other = jax.vmap(whitened, in_axes=axes)(*data)
            return jax.tree.map(lambda a, b: jnp.where(far.reshape(-1, *[1] * (a.ndim - 1)), a, b), other, near)

        sums = jax.lax.cond(far.any(), choose, lambda *_: near, *data)
        return sums, jax.tree.map(lambda _: True, sums)

    return either(*data)


@_either_summary.defjvp
def _either_summary_jvp(chunk: int, primals: tuple, tangents: tuple) -> tuple:
    return jax.jvp(partial(_whitened_summary, chunk), primals, tangents)


def _is_far(mixture: Mixture, factors: covariance.Factors) -> jax.Array:
    """Whether data lie so far from the centre, in units of a component, that the quadratic kernel would lose digits.

    By the largest expected squared distance in a component's whitened coordinates.
    """
    kind, d = mixture.covariance_type, mixture.num_features
    square = covariance.einsum(
        "k,kd->d", mixture.weights, covariance.variances(mixture.covariances, kind, d) + mixture.means**2
    )
    reach = covariance.transform(factors.whitener**2, jnp.broadcast_to(square, mixture.means.shape), kind)  # (K, D)
    return (jnp.where(mixture.weights > 0, reach.max(-1), 0) >= _REACH[mixture.means.dtype.name]).any()


def _centred(rows: jax.Array, w: jax.Array, shift: jax.Array, lanes: bool = False) -> jax.Array:
    """Rows about the centre, features first (D, n); a silenced row may hold NaN.

    lanes: of many data sets side by side. A transposition of those would be gathered anew by every use, a product is not.
    """
    centred = jnp.where((w > 0)[:, None], rows - shift, 0)
    return covariance.einsum("ij,nj->in", np.eye(rows.shape[1], dtype=rows.dtype), centred) if lanes else centred.T


def _share_out(joint: jax.Array, w: jax.Array, whole: bool) -> tuple[jax.Array, jax.Array]:
    """Weighted responsibilities (K, n) and the log-likelihood, from log w_k N(x_n | k), (K, n).

    whole: weights are 0 or 1. A product of eight totals, each from 1 to K, then takes one logarithm instead of eight.
    """
    top = joint.max(0)
    top = jnp.where(jnp.isneginf(top), 0, top)
    unnormalised = jnp.exp(joint - top)
    total = unnormalised.sum(0)
    if whole and len(w) % 8 == 0:
        eights = jnp.where(w > 0, total, 1).reshape(8, -1)
        log_likelihood = jnp.where(w > 0, top, 0).sum() + jnp.log(math.prod(eights[i] for i in range(8))).sum()
    else:
        log_likelihood = jnp.where(w > 0, w * (jnp.log(total) + top), 0).sum()
    return unnormalised * (w / jnp.where(total == 0, 1, total)), log_likelihood


def _whitened(mixture: Mixture, factors: covariance.Factors, constant: jax.Array, shift: jax.Array, whole: bool) -> Callable:
    kind = mixture.covariance_type
    home = covariance.transform(factors.whitener, mixture.means, kind)  # (K, D)

    def chunk_sums(rows: jax.Array, w: jax.Array) -> tuple:
        z = covariance.whiten(factors.whitener, _centred(rows, w, shift), kind) - home[:, :, None]  # (K, D, n)
        r, log_likelihood = _share_out(constant[:, None] - 0.5 * (z**2).sum(1), w, whole)
        return r.sum(-1), (r[:, None, :] * z).sum(-1), covariance.weighted_scatter(r, z, kind), log_likelihood

    return chunk_sums


def _quadratic(
    lanes: bool, mixture: Mixture, factors: covariance.Factors, constant: jax.Array, shift: jax.Array, whole: bool
) -> Callable:
    kind = mixture.covariance_type
    coefficients = covariance.quadratic_coefficients(factors.whitener, mixture.means, constant, kind)  # (K, F)

    def chunk_sums(rows: jax.Array, w: jax.Array) -> tuple:
        features = covariance.quadratic_features(_centred(rows, w, shift, lanes), kind)  # (F, n)
        r, log_likelihood = _share_out(covariance.einsum("kf,fn->kn", coefficients, features), w, whole)
        return covariance.einsum("fn,kn->fk", features, r), log_likelihood  # (F, K): measured faster than (K, F)

    return chunk_sums
