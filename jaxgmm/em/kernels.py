"""The inner loops of EM: sums over data, a chunk of rows at a time, features first.

Two kernels give the same moments. The whitened one takes z = W_k (x - mu_k) for each component: exact to rounding however
far apart or flat the components are. The quadratic one writes log-density and moments as two matrix products with the
features [x_i x_j, x, 1] about one centre: half the arithmetic, but its error is eps (distance / sd)^2, so it is taken in
float64 only, and only while `reach` says that this is nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from .. import covariance
from ..mixture import Mixture

_REACH = 1e4  # squared whitened distances up to which the quadratic kernel loses under 1e-11 nats a row
_WIDEST = 32  # features D up to which the quadratic kernel measured faster


def default_chunk(num_components: int, num_features: int) -> int:
    """Rows a chunk: its arrays stay in the cache; measured flat within a factor of two."""
    return 2048 if num_components * num_features <= 64 else 1024 if num_components * num_features <= 256 else 512


def sum_over_chunks(function: Callable, rows: Any, weight: jax.Array | None, chunk: int) -> Any:
    """Sum of function(rows of a chunk, their weights) over chunks of at most `chunk` rows; rows is a pytree of (N, ...).

    The last chunk overlaps the one before it, with weight 0 where it does: no copy, no padding. Sums are compensated
    (Kahan 1965), so that ten million float32 rows lose nothing to the order of summation.
    """
    n = len(jax.tree.leaves(rows)[0])
    dtype = jax.tree.leaves(rows)[0].dtype
    if n <= chunk:
        return function(rows, jnp.ones(n, dtype) if weight is None else weight)

    def one_chunk(i: jax.Array) -> Any:
        start = jnp.minimum(i * chunk, n - chunk)
        part = jax.tree.map(lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, start, chunk), rows)
        fresh = start + jnp.arange(chunk) >= i * chunk
        if weight is None:
            return function(part, fresh.astype(dtype))
        return function(part, jnp.where(fresh, jax.lax.dynamic_slice_in_dim(weight, start, chunk), 0))

    def step(carry: tuple, i: jax.Array) -> tuple:
        total, error = carry
        value = jax.tree.map(jnp.subtract, one_chunk(i), error)
        new = jax.tree.map(jnp.add, total, value)
        return (new, jax.tree.map(lambda a, b, c: (a - b) - c, new, total, value)), None

    zero = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(one_chunk, jnp.array(0)))
    (total, _), _ = jax.lax.scan(step, (zero, zero), jnp.arange(-(-n // chunk)))
    return total


def moment_sums(
    mixture: Mixture,
    factors: covariance.Factors,
    x: jax.Array,
    weight: jax.Array | None,
    shift: jax.Array,
    chunk_size: int | None,
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """count, first, second and log-likelihood of x - shift, in the whitened coordinates of a mixture that is shifted too."""
    k, d = mixture.num_components, mixture.num_features
    chunk = chunk_size or default_chunk(k, d)
    positive = mixture.weights > 0
    log_weights = jnp.where(positive, jnp.log(jnp.where(positive, mixture.weights, 1)), -jnp.inf)
    constant = log_weights - factors.half_log_det - d / 2 * math.log(2 * math.pi)  # (K,)
    data = (mixture, factors, constant, x, weight, shift)
    if x.dtype != jnp.float64 or d > _WIDEST or len(x) <= chunk:
        return _whitened_sums(chunk, *data)
    return _fastest_sums(chunk, *data)


def _whitened_sums(chunk: int, mixture: Mixture, factors: covariance.Factors, constant: jax.Array, *data: Any) -> tuple:
    x, weight, shift = data
    return sum_over_chunks(_whitened(mixture, factors, constant, shift), x, weight, chunk)


def _quadratic_sums(chunk: int, mixture: Mixture, factors: covariance.Factors, constant: jax.Array, *data: Any) -> tuple:
    x, weight, shift = data
    sums = sum_over_chunks(_quadratic(mixture, factors, constant, shift), x, weight, chunk)
    return _to_whitened(mixture, factors, *sums)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _fastest_sums(chunk: int, *data: Any) -> tuple:
    """The quadratic kernel where it is exact enough. Under vmap a choice by value would run both: there, the whitened one."""

    @jax.custom_batching.custom_vmap
    def either(*data: Any) -> tuple:
        mixture, factors = data[:2]
        kernels = (partial(_quadratic_sums, chunk), partial(_whitened_sums, chunk))
        return jax.lax.cond(_reach(mixture, factors) < _REACH, *kernels, *data)

    @either.def_vmap
    def lanes(_: int, batched: list, *data: Any) -> tuple:
        axes = tuple(jax.tree.map(lambda flag: 0 if flag else None, batched))
        sums = jax.vmap(partial(_whitened_sums, chunk), in_axes=axes)(*data)
        return sums, jax.tree.map(lambda _: True, sums)

    return either(*data)


@_fastest_sums.defjvp
def _fastest_sums_jvp(chunk: int, primals: tuple, tangents: tuple) -> tuple:
    return jax.jvp(partial(_whitened_sums, chunk), primals, tangents)


def _reach(mixture: Mixture, factors: covariance.Factors) -> jax.Array:
    """Largest expected squared distance of the data from the centre, in a component's whitened coordinates."""
    kind, d = mixture.covariance_type, mixture.num_features
    square = covariance.einsum(
        "k,kd->d", mixture.weights, covariance.variances(mixture.covariances, kind, d) + mixture.means**2
    )
    reach = covariance.transform(factors.whitener**2, jnp.broadcast_to(square, mixture.means.shape), kind)  # (K, D)
    return jnp.where(mixture.weights > 0, reach.max(-1), 0).max()


def _centred(rows: jax.Array, w: jax.Array, shift: jax.Array) -> jax.Array:
    """Rows about the centre, features first (D, n); a silenced row may hold NaN."""
    return jnp.where((w > 0)[:, None], rows - shift, 0).T


def _share_out(joint: jax.Array, w: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Weighted responsibilities (K, n) and the log-likelihood, from log w_k N(x_n | k), (K, n)."""
    top = joint.max(0)
    top = jnp.where(jnp.isneginf(top), 0, top)
    unnormalised = jnp.exp(joint - top)
    total = unnormalised.sum(0)
    log_likelihood = jnp.where(w > 0, w * (jnp.log(total) + top), 0).sum()
    return unnormalised * (w / jnp.where(total == 0, 1, total)), log_likelihood


def _whitened(mixture: Mixture, factors: covariance.Factors, constant: jax.Array, shift: jax.Array) -> Callable:
    kind = mixture.covariance_type
    home = covariance.transform(factors.whitener, mixture.means, kind)  # (K, D)

    def chunk_sums(rows: jax.Array, w: jax.Array) -> tuple:
        z = covariance.whiten(factors.whitener, _centred(rows, w, shift), kind) - home[:, :, None]  # (K, D, n)
        r, log_likelihood = _share_out(constant[:, None] - 0.5 * (z**2).sum(1), w)
        return r.sum(-1), (r[:, None, :] * z).sum(-1), covariance.weighted_scatter(r, z, kind), log_likelihood

    return chunk_sums


def _quadratic(mixture: Mixture, factors: covariance.Factors, constant: jax.Array, shift: jax.Array) -> Callable:
    kind = mixture.covariance_type
    coefficients = covariance.quadratic_coefficients(factors.whitener, mixture.means, constant, kind)  # (K, F)

    def chunk_sums(rows: jax.Array, w: jax.Array) -> tuple:
        features = covariance.quadratic_features(_centred(rows, w, shift), kind)  # (F, n)
        r, log_likelihood = _share_out(covariance.einsum("kf,fn->kn", coefficients, features), w)
        return covariance.einsum("fn,kn->kf", features, r), log_likelihood  # (K, F)

    return chunk_sums


def _to_whitened(mixture: Mixture, factors: covariance.Factors, sums: jax.Array, log_likelihood: jax.Array) -> tuple:
    """Sums of features about the centre as moments about the means."""
    kind, means = mixture.covariance_type, mixture.means
    second, first, count = covariance.split_quadratic(sums, kind, mixture.num_features)
    about = second - covariance.cross(first, means, kind) + covariance.expand(count, kind) * covariance.outer(means, kind)
    first = covariance.transform(factors.whitener, first - count[:, None] * means, kind)
    return count, first, covariance.transform_scatter(factors.whitener, about, kind), log_likelihood
