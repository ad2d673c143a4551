"""The inner loops of EM. They compute sums over the data, one chunk of rows at a time. Features are the first axis of a chunk.

Two kernels compute the sums for the M-step. The whitened kernel computes z = W_k (x - mu_k) for each component. Its result is
exact up to rounding, however far apart or flat the components are. The quadratic kernel computes the log-densities and the sums
by two matrix products with the features [x_i x_j, x, 1] about one centre. It needs half the arithmetic, but its rounding error
grows with the distance of the data from the centre. Let r_k^2 be the largest, over the whitened coordinates i, of

    sum_j W_kij^2 E[x_j^2],    where E[x_j^2] = sum_l w_l (S_ljj + mu_lj^2) and x is relative to the centre.

The terms of a log-density are of the order of r_k^2 nats. Let eps be the machine epsilon. On adversarial data, the average
error of a log-density was less than eps r_k^2, and the error of a new covariance, in units of the component's variance, less
than 8 eps r_k^2. The quadratic kernel is used only if eps r_k^2 is at most half the tolerance of the fit for all components.
A tolerance of 0 only says that the fit does not stop early, so the largest permitted error then applies. If there are many
components and only a few of them are too narrow, these few are computed by the whitened kernel and all others by the quadratic
kernel.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from .. import covariance
from ..chunking import MANY_COMPONENTS, rows_per_chunk
from ..covariance.quadratic import quadratic_features, split_quadratic
from ..density import log_joint, log_joint_coefficients, quadratic_log_joint, safe_log
from ..mixture import Mixture
from ..priors.interface import ComponentSums
from ..rounding import scatter_about_mean
from ..row_sums import Weight, has_weights, nonzero, sum_over_rows, zero_silenced

# The largest r_k^2 at which the quadratic kernel is used lies between these two numbers. At the first number, the error is
# negligible for any tolerance (2e-12 in float64). Larger errors than at the second number (4e-10) are never permitted.
_SQUARES = {"float64": (1e4, 2e6), "float32": (64.0, 64.0)}

# With `MANY_COMPONENTS` or more, the whitened kernel can compute one in 16 or one in 4 of them, and the quadratic kernel the
# others. For K=1024, D=128 and diagonal covariances, the whitened kernel takes 40 times as long as the quadratic kernel.
_SHARES_OF_NARROW = (16, 4)

# count, first, second and log_likelihood, with the same meaning as in `Moments`
WhitenedSums: TypeAlias = tuple[jax.Array, jax.Array, jax.Array, jax.Array]
_Parameters: TypeAlias = tuple[jax.Array, jax.Array, covariance.Factors]  # log weights, means, factors


class Rows(NamedTuple):
    """Data x (N, D) with their weights, and the centre (D,) that the kernels subtract from each chunk."""

    x: jax.Array
    weight: Weight
    center: jax.Array


def moment_sums(mixture: Mixture, factors: covariance.Factors, rows: Rows, chunk_size: int | None) -> WhitenedSums:
    """Return the fields of `Moments` for x - center; the means of the mixture must also be relative to the centre.

    This function always uses the whitened kernel. Only this kernel can distinguish rows that hold NaN from rows whose squares
    overflow.
    """
    return whitened_sums(chunk_of(mixture, chunk_size), mixture, factors, rows)


def component_sums(
    mixture: Mixture, factors: covariance.Factors, rows: Rows, tol: jax.Array, chunk_size: int | None
) -> tuple[ComponentSums, jax.Array]:
    """Return the component sums and log-likelihood of x - center; the mixture's means must be relative to the centre, too.

    `tol` () is the tolerance of the fit, in nats per unit of weight.
    """
    return _component_sums(chunk_of(mixture, chunk_size), mixture, factors, rows, tol)


def unwhiten(
    mixture: Mixture, factors: covariance.Factors, count: jax.Array, first: jax.Array, second: jax.Array
) -> ComponentSums:
    """Compute the component sums from whitened sums; the result is in data units, with scatters about the new means."""
    covariance_type, safe = mixture.covariance_type, nonzero(count)[:, None]
    mean = mixture.means + covariance.transform(factors.lower, first / safe, covariance_type)
    about_mean = scatter_about_mean(count, first, second, covariance_type)
    return ComponentSums(count, mean, covariance.transform_scatter(factors.lower, about_mean, covariance_type))


def chunk_of(mixture: Mixture, chunk_size: int | None) -> int:
    """Return the number of rows in a chunk. This is the user's chunk size, or the default if the user gave None."""
    return chunk_size or rows_per_chunk(mixture.num_components, mixture.num_features, mixture.means.dtype)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _component_sums(
    chunk: int, mixture: Mixture, factors: covariance.Factors, rows: Rows, tol: jax.Array
) -> tuple[ComponentSums, jax.Array]:
    """Return the component sums, computed by the quadratic kernel for all components for which it is accurate enough."""
    return _make_either_kernel(chunk)(are_far(mixture, factors, tol), mixture, factors, rows)


@_component_sums.defjvp
def _component_sums_jvp(chunk: int, primals: tuple, tangents: tuple) -> tuple:
    """Return the component sums, the log-likelihood, and their derivatives, all computed by the whitened kernel."""
    return jax.jvp(partial(whitened_component_sums, chunk), primals[:-1], tangents[:-1])


def _make_either_kernel(chunk: int) -> Callable[..., tuple[ComponentSums, jax.Array]]:
    """Return a function that chooses the kernel by its first argument, the result of `are_far`.

    By default, a vmapped `cond` runs both branches for every member of the batch. With the batching rule that is defined here,
    the whitened kernel runs only if at least one member needs it. A batch of one member, as of data with many rows, is computed
    without a batch axis, and can therefore also use the kernel for a few narrow components.
    """
    whitened, quadratic = partial(whitened_component_sums, chunk), partial(_quadratic_component_sums, chunk)

    @jax.custom_batching.custom_vmap
    def either(far: jax.Array, mixture: Mixture, factors: covariance.Factors, rows: Rows) -> tuple[ComponentSums, jax.Array]:
        numbers = numbers_of_narrow(mixture)
        mixed = [partial(_mixed_component_sums, chunk, number, far) for number in numbers[1:]]
        return jax.lax.switch(kernel_index(far, numbers), [partial(quadratic, False), *mixed, whitened], mixture, factors, rows)

    @either.def_vmap
    def either_batched(size: int, is_batched: list, far: jax.Array, *arguments: Any) -> tuple:
        if size == 1:
            member = jax.tree.map(lambda leaf, flag: leaf[0] if flag else leaf, [far, *arguments], list(is_batched))
            sums = jax.tree.map(lambda leaf: leaf[None], either(*member))
            return sums, jax.tree.map(lambda _: True, sums)
        axes = tuple(jax.tree.map(lambda flag: 0 if flag else None, is_batched[1:]))
        near_sums = jax.vmap(partial(quadratic, True), in_axes=axes)(*arguments)

        def choose(*arguments: Any) -> tuple:
            far_sums, is_far = jax.vmap(whitened, in_axes=axes)(*arguments), far.any(-1)
            return jax.tree.map(lambda a, b: jnp.where(is_far.reshape(-1, *[1] * (a.ndim - 1)), a, b), far_sums, near_sums)

        sums = jax.lax.cond(far.any(), choose, lambda *_: near_sums, *arguments)
        return sums, jax.tree.map(lambda _: True, sums)

    return either


def numbers_of_narrow(mixture: Mixture) -> list[int]:
    """Return the numbers of components that the whitened kernel can compute while the quadratic kernel computes the others."""
    k = mixture.num_components
    has_own_covariances = len(mixture.covariances) == k
    return [0, *(k // share for share in _SHARES_OF_NARROW if has_own_covariances and k >= MANY_COMPONENTS)]


def kernel_index(far: jax.Array, numbers: list[int]) -> jax.Array:
    """Return the index () of the kernel: quadratic, with each of the numbers of narrow components, or whitened."""
    return (far.sum() > np.array(numbers)).sum()


def narrow_components(far: jax.Array, number: int) -> jax.Array:
    """Return the indices of `number` components, which include all `far` ones; at most `number` components may be far."""
    return jnp.argsort(~far, stable=True)[:number]


def are_far(mixture: Mixture, factors: covariance.Factors, tol: jax.Array) -> jax.Array:
    """Return for each component, (K,), whether the quadratic kernel is not accurate enough for `tol`."""
    return _squares(mixture, factors) >= _limit(tol, mixture.means.dtype)


def quadratic_error(mixture: Mixture, factors: covariance.Factors, tol: jax.Array) -> jax.Array:
    """Return a bound (), in nats per unit of weight, on the error of the log-likelihood if the quadratic kernel computes it.

    If the whitened kernel is used, the result is 0.
    """
    squares = _squares(mixture, factors)
    near = jnp.where(squares < _limit(tol, squares.dtype), squares, 0)
    is_used = (near != squares).sum() <= numbers_of_narrow(mixture)[-1]
    return jnp.where(is_used, jnp.finfo(squares.dtype).eps * near.max(), 0)


def _limit(tol: jax.Array, dtype: np.dtype) -> jax.Array:
    """Return the value () of r_k^2 from which the quadratic kernel is not used."""
    return jnp.clip(jnp.where(tol > 0, tol, jnp.inf) / (2 * jnp.finfo(dtype).eps), *_SQUARES[dtype.name])


def _squares(mixture: Mixture, factors: covariance.Factors) -> jax.Array:
    """Return r_k^2 of each component, (K,), and 0 for absent components; the module docstring defines r_k^2."""
    covariance_type, d = mixture.covariance_type, mixture.num_features
    second_moments = covariance.variances(mixture.covariances, covariance_type, d) + mixture.means**2
    square = covariance.einsum("k,kd->d", mixture.weights, second_moments)
    whitened = covariance.transform(factors.whitener**2, jnp.broadcast_to(square, mixture.means.shape), covariance_type)
    return jnp.where(mixture.weights > 0, whitened.max(-1), 0)


def whitened_component_sums(
    chunk: int, mixture: Mixture, factors: covariance.Factors, rows: Rows
) -> tuple[ComponentSums, jax.Array]:
    """Return the component sums and the log-likelihood, computed by the whitened kernel."""
    count, first, second, log_likelihood = whitened_sums(chunk, mixture, factors, rows)
    return unwhiten(mixture, factors, count, first, second), log_likelihood


def whitened_sums(chunk: int, mixture: Mixture, factors: covariance.Factors, rows: Rows) -> WhitenedSums:
    """Return the whitened sums and the log-likelihood, computed by the whitened kernel."""
    covariance_type, is_weighted = mixture.covariance_type, has_weights(rows.weight)

    def chunk_sums(
        x: jax.Array,
        w: jax.Array,
        center: jax.Array,
        log_weights: jax.Array,
        means: jax.Array,
        factors: covariance.Factors,
    ) -> WhitenedSums:
        centered = _centred(x, w, center, is_weighted).T
        joint, z = log_joint(log_weights, means, factors, centered, covariance_type)
        r, log_likelihood = weighted_responsibilities(joint, w, is_weighted)
        scatter = covariance.weighted_scatter(r, z, covariance_type)
        return r.sum(-1), (r[:, None, :] * z).sum(-1), scatter, log_likelihood

    shared = (rows.center, safe_log(mixture.weights), mixture.means, factors)
    return sum_over_rows(chunk_sums, rows.x, rows.weight, chunk, shared)


def _quadratic_component_sums(
    chunk: int, is_batched: bool, mixture: Mixture, factors: covariance.Factors, rows: Rows
) -> tuple[ComponentSums, jax.Array]:
    """Return the component sums and log-likelihood by the quadratic kernel; `is_batched` says whether it runs under vmap."""
    *moments, log_likelihood = quadratic_sums(chunk, is_batched, mixture, factors, rows)
    return about_means(mixture, factors, *moments), log_likelihood


def quadratic_sums(chunk: int, is_batched: bool, mixture: Mixture, factors: covariance.Factors, rows: Rows) -> WhitenedSums:
    """Return counts and moments about the centre in data units, and the log-likelihood, computed by the quadratic kernel."""
    is_weighted = has_weights(rows.weight)
    coefficients = log_joint_coefficients(safe_log(mixture.weights), mixture.means, factors, mixture.covariance_type)  # (K, F)
    transpose = _transpose_batched if is_batched else jnp.transpose

    def chunk_sums(x: jax.Array, w: jax.Array, center: jax.Array, coefficients: jax.Array) -> tuple[jax.Array, jax.Array]:
        centered = transpose(_centred(x, w, center, is_weighted))
        features = quadratic_features(centered, mixture.covariance_type)  # (F, n)
        joint = quadratic_log_joint(coefficients, features)
        r, log_likelihood = weighted_responsibilities(joint, w, is_weighted)
        return covariance.einsum("fn,kn->fk", features, r), log_likelihood  # a product (F, K) was faster than (K, F)

    sums, log_likelihood = sum_over_rows(chunk_sums, rows.x, rows.weight, chunk, (rows.center, coefficients))
    return *split_sums(sums, mixture), log_likelihood


def split_sums(sums: jax.Array, mixture: Mixture) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return counts and moments about the centre, given the sums (F, K) of quadratic features times responsibilities."""
    second, first, count = split_quadratic(sums.T, mixture.covariance_type, mixture.num_features)
    return count, first, second


def about_means(
    mixture: Mixture, factors: covariance.Factors, count: jax.Array, first: jax.Array, second: jax.Array
) -> ComponentSums:
    """Return the component sums, given counts and moments about the centre in data units."""
    precision = covariance.precision(factors.whitener, mixture.covariance_type)
    scatter = scatter_about_mean(count, first, second, mixture.covariance_type, precision, check_pivots=True)
    return ComponentSums(count, first / nonzero(count)[:, None], scatter)


def _mixed_component_sums(
    chunk: int, number: int, far: jax.Array, mixture: Mixture, factors: covariance.Factors, rows: Rows
) -> tuple[ComponentSums, jax.Array]:
    """Return the component sums and log-likelihood. The whitened kernel computes `number` components, including `far` ones."""
    sums, of_few, log_likelihood = mixed_parts(chunk, number, far, mixture, factors, rows)
    narrow = narrow_components(far, number)
    few, few_factors = jax.tree.map(lambda leaf: leaf[narrow], (mixture, factors))
    count, first, second = split_sums(sums, mixture)
    all_sums, few_sums = about_means(mixture, factors, count, first, second), unwhiten(few, few_factors, *of_few)
    return jax.tree.map(lambda leaf, some: leaf.at[narrow].set(some), all_sums, few_sums), log_likelihood


def mixed_parts(
    chunk: int, number: int, far: jax.Array, mixture: Mixture, factors: covariance.Factors, rows: Rows
) -> tuple[jax.Array, tuple[jax.Array, jax.Array, jax.Array], jax.Array]:
    """Return the sums (F, K) of the quadratic features, the whitened sums of the narrow components, and the log-likelihood."""
    name, is_weighted = mixture.covariance_type, has_weights(rows.weight)
    log_weights, narrow = safe_log(mixture.weights), narrow_components(far, number)
    few, few_factors = jax.tree.map(lambda leaf: leaf[narrow], (mixture, factors))
    coefficients = log_joint_coefficients(log_weights, mixture.means, factors, name)

    def chunk_sums(
        x: jax.Array, w: jax.Array, center: jax.Array, coefficients: jax.Array, narrow: jax.Array, parameters: _Parameters
    ) -> tuple:
        centered = _centred(x, w, center, is_weighted).T
        features = quadratic_features(centered, name)
        of_few, z = log_joint(*parameters, centered, name)
        joint = quadratic_log_joint(coefficients, features).at[narrow].set(of_few)
        r, log_likelihood = weighted_responsibilities(joint, w, is_weighted)
        r_few = r[narrow]
        sums = r_few.sum(-1), (r_few[:, None, :] * z).sum(-1), covariance.weighted_scatter(r_few, z, name)
        return covariance.einsum("fn,kn->fk", features, r), sums, log_likelihood

    shared = (rows.center, coefficients, narrow, (log_weights[narrow], few.means, few_factors))
    return sum_over_rows(chunk_sums, rows.x, rows.weight, chunk, shared)


def _centred(x: jax.Array, w: jax.Array, center: jax.Array, is_weighted: bool) -> jax.Array:
    """Return the rows (n, D) of a chunk minus the centre; rows of weight 0 may hold any values and become zeros.

    If the data have no weights, no row is replaced. Some rows of a chunk may then have weight 0, because another chunk counts
    them, or because they are padding. Padding repeats a row of the data, so all these rows hold ordinary values.
    """
    centred = x - center[None]
    return zero_silenced(centred, w) if is_weighted else centred


def _transpose_batched(x: jax.Array) -> jax.Array:
    """Return the transpose (D, n) of x (n, D), computed as a product with the identity matrix.

    XLA fuses a batched transposition into every operation that uses it. Each of these operations then gathers the numbers
    again. In contrast, XLA stores the result of a product. Without vmap, a plain transposition is a fifth faster if there are
    few features.
    """
    return covariance.einsum("ij,nj->in", np.eye(x.shape[1], dtype=x.dtype), x)


def weighted_responsibilities(joint: jax.Array, w: jax.Array, is_weighted: bool) -> tuple[jax.Array, jax.Array]:
    """Return w_n r_nk, (K, n), and the weighted log-likelihood, computed from log w_k N(x_n | k), (K, n).

    `is_weighted` says whether weights may have other values than 0 and 1.
    """
    top = joint.max(0)
    top = jnp.where(jnp.isneginf(top), 0, top)
    unnormalised = jnp.exp(joint - top[None])
    total = unnormalised.sum(0)
    if not is_weighted and len(w) % 8 == 0:
        log_likelihood = jnp.where(w > 0, top, 0).sum() + _sum_of_logs(jnp.where(w > 0, total, 1))
    else:
        log_likelihood = jnp.where(w > 0, w * (jnp.log(total) + top), 0).sum()
    return unnormalised * (w / jnp.where(total == 0, 1, total))[None], log_likelihood


def _sum_of_logs(totals: jax.Array) -> jax.Array:
    """Return the sum of log(totals); the number of totals is a multiple of eight, and each lies between 1 and K.

    One logarithm of a product of eight totals replaces eight logarithms, which makes an E-step in float64 7 % faster.
    """
    eights = totals.reshape(8, -1)
    return jnp.log(math.prod(eights[i] for i in range(8))).sum()
