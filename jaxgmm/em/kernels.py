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
from ..chunking import rows_per_chunk
from ..density import log_joint, quadratic_coefficients, quadratic_log_joint, safe_log
from ..mixture import Mixture
from ..row_sums import nonzero, sum_over_rows

_REACH = {"float64": 1e4, "float32": 64.0}  # squared whitened distances up to which the quadratic kernel is taken


class Summary(NamedTuple):
    """Moments in data units: count (K,), mean (K, D), and scatter (K, D, D) | (K, D) about those means."""

    count: jax.Array
    mean: jax.Array
    scatter: jax.Array


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


def _arguments(mixture: Mixture, factors: covariance.Factors, x: jax.Array, chunk_size: int | None) -> tuple:
    """Return what both kernels take: rows per chunk, the mixture, its factors, the data."""
    return chunk_size or rows_per_chunk(mixture.num_components, mixture.num_features, x.dtype), mixture, factors, x


def _sums(
    kernel: Callable,
    chunk: int,
    mixture: Mixture,
    factors: covariance.Factors,
    x: jax.Array,
    weight: jax.Array | None,
    shift: jax.Array,
) -> tuple:
    return sum_over_rows(kernel(mixture, factors, shift, weight is None), x, weight, chunk)


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


def _whitened(mixture: Mixture, factors: covariance.Factors, shift: jax.Array, whole: bool) -> Callable:
    covariance_type, log_weights = mixture.covariance_type, safe_log(mixture.weights)

    def chunk_sums(rows: jax.Array, w: jax.Array) -> tuple:
        joint, z = log_joint(log_weights, mixture.means, factors, _centred(rows, w, shift), covariance_type)
        r, log_likelihood = _share_out(joint, w, whole)
        return r.sum(-1), (r[:, None, :] * z).sum(-1), covariance.weighted_scatter(r, z, covariance_type), log_likelihood

    return chunk_sums


def _quadratic(lanes: bool, mixture: Mixture, factors: covariance.Factors, shift: jax.Array, whole: bool) -> Callable:
    covariance_type = mixture.covariance_type
    coefficients = quadratic_coefficients(safe_log(mixture.weights), mixture.means, factors, covariance_type)  # (K, F)

    def chunk_sums(rows: jax.Array, w: jax.Array) -> tuple:
        features = covariance.quadratic_features(_centred(rows, w, shift, lanes), covariance_type)  # (F, n)
        r, log_likelihood = _share_out(quadratic_log_joint(coefficients, features), w, whole)
        return covariance.einsum("fn,kn->fk", features, r), log_likelihood  # (F, K): measured faster than (K, F)

    return chunk_sums
