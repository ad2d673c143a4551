"""The E-step of incomplete rows: the same sums as in `kernels`, with conditional expectations in place of missing values.

With the notation of the module `incomplete.conditional`, a row of responsibility r and weight w adds

    count += w r,    first += w r G' f,    second += w r (G' f f' G + I - G' G).

The matrix G depends on the pattern of observed features and on the noise, but not on the values. Rows with the same pattern and
noise can therefore share it. `_by_pattern` sums f and f f' over such rows and applies G to the sums, so it needs one
factorisation for each pattern. `_by_row` needs one factorisation for each row.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .. import covariance
from ..chunking import rows_per_block, rows_per_chunk
from ..density import allowed_only, log_joint, safe_log
from ..devices.row_shards import row_axes
from ..incomplete.checks import is_diagonal
from ..incomplete.conditional import (
    centered,
    conditional,
    conditional_means,
    diagonal_factors,
    eliminate,
    explained,
    masked_matrices,
)
from ..incomplete.observations import Observations
from ..mixture import Mixture
from ..priors.interface import ComponentSums
from ..row_sums import Weight, sum_over_rows, weight_or_ones
from ..validation import is_traced
from .kernels import WhitenedSums, unwhiten, weighted_responsibilities


class Blocks(NamedTuple):
    """Incomplete rows grouped by pattern into C blocks of R rows. All rows of a block have the same pattern.

    Attributes:
        x: (C, R, D), with zeros in place of missing values.
        weight: (C, R), 0 for padding; or (B, C, R), weights of B fits, each of which works with its own part.
        pattern: (C,), the index of the pattern of each block.
        allowed: (C, R) or (C, R, K), as in `Observations`, or None.
        masks: (P, D), the patterns.
        noise: as in `Observations`, the same for all rows, or None.
    """

    x: jax.Array
    weight: jax.Array
    pattern: jax.Array
    allowed: jax.Array | None
    masks: jax.Array
    noise: jax.Array | None

    @property
    def dtype(self) -> np.dtype:
        """The float type of the data."""
        return self.x.dtype


class IncompleteRows(NamedTuple):
    """Incomplete rows, their weights, and the centre (D,) that is subtracted from them. Blocks hold their own weights."""

    rows: Observations | Blocks
    weight: Weight
    center: jax.Array


class IncompleteData(NamedTuple):
    """Incomplete rows and what a fit needs to know about all of them; no entry changes during a fit.

    Attributes:
        rows: the rows, one by one or in blocks; None if they are read in batches.
        total: (), their total weight.
        center: (D,), the means of the observed values.
        data_covariance: V, the covariance of a fit of one component, in the storage form; the default regularisation uses it.
    """

    rows: Observations | Blocks | None
    total: jax.Array | np.ndarray
    center: jax.Array
    data_covariance: jax.Array


def as_blocks(rows: Observations, weight: Any, num_components: int) -> Blocks | None:
    """Return concrete rows in blocks by pattern, or None if the E-step should treat each row alone.

    The weights are (N,), (B, N) for several fits, or None.
    """
    if rows.method == "rows" or is_traced(rows, weight):
        if rows.method == "patterns":
            raise ValueError(
                "method='patterns' was given for traced observations; only 'rows' is possible inside jit and vmap."
            )
        return None
    if row_axes(rows.x):
        if rows.method == "patterns":
            raise ValueError("method='patterns' was given for rows that are divided among devices; use method='rows'.")
        return None
    if rows.lower is not None or (rows.noise is not None and not rows.shares_noise):
        if rows.method == "patterns":
            raise ValueError("method='patterns' was given, but each row has its own noise or limits; use method='rows'.")
        return None
    n, d = rows.shape
    w = np.ones(n, rows.dtype) if weight is None else np.asarray(weight)
    kept = np.flatnonzero(w > 0 if w.ndim == 1 else (w > 0).any(0))
    masks, index = _patterns(np.asarray(rows.mask())[kept])
    size = rows_per_block(len(kept), len(masks), num_components, d, rows.dtype)
    if size is None and rows.method != "patterns":
        return None
    return _blocks(rows, w, masks, (kept, index), size or rows_per_chunk(num_components, d, rows.dtype))


def _patterns(masks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the different rows of masks (N, D), and the index of each row among them, (N,)."""
    packed = np.packbits(masks, axis=1)
    if packed.shape[1] <= 8:  # NumPy sorts integers much faster than rows
        packed = np.pad(packed, ((0, 0), (0, 8 - packed.shape[1]))).view(np.uint64)[:, 0]
    _, first, index = np.unique(packed, axis=0, return_index=True, return_inverse=True)
    return masks[first], index.ravel()


def _blocks(
    rows: Observations, weight: np.ndarray, masks: np.ndarray, members: tuple[np.ndarray, np.ndarray], size: int
) -> Blocks:
    """Return rows in blocks of `size` rows; `members` holds the indices of the rows and the patterns of these rows."""
    kept, index = members
    order = kept[np.argsort(index, kind="stable")]
    counts = np.bincount(index, minlength=len(masks))
    blocks = -(-counts // size)
    num_blocks = 1 << (int(blocks.sum()) - 1).bit_length() if blocks.sum() < 64 else -(-int(blocks.sum()) // 16) * 16
    first = np.repeat(np.cumsum(blocks) - blocks, counts) * size
    place = first + np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    num_patterns = 1 << (len(masks) - 1).bit_length()  # few programs serve all numbers of patterns and blocks
    pattern = np.zeros(num_blocks, np.int32)
    pattern[: blocks.sum()] = np.repeat(np.arange(len(masks)), blocks)

    def placed(values: Any) -> Any:
        values = np.asarray(values)
        out = np.zeros((num_blocks * size, *values.shape[1:]), values.dtype)
        out[place] = values[order]
        return jax.device_put(out.reshape(num_blocks, size, *values.shape[1:]))

    padded = np.concatenate([masks, np.ones((num_patterns - len(masks), masks.shape[1]), bool)])
    allowed = None if rows.allowed is None else placed(rows.allowed)
    x, w = placed(rows.x), placed(weight.astype(rows.dtype).T)
    w = w if weight.ndim == 1 else jnp.moveaxis(w, -1, 0)
    if allowed is not None and allowed.ndim == 3:
        padding = np.ones(num_blocks * size, bool)
        padding[place] = False
        allowed = allowed | padding.reshape(num_blocks, size, 1)
    return Blocks(x, w, jax.device_put(pattern), allowed, jax.device_put(padded), rows.noise)


def incomplete_sums(
    mixture: Mixture, factors: covariance.Factors, data: IncompleteRows, chunk_size: int | None
) -> WhitenedSums:
    """Return the fields of `Moments` of incomplete rows minus `data.center`; the means of `mixture` are relative to it, too."""
    if isinstance(data.rows, Blocks):
        return _by_pattern(mixture, factors, data.rows, data.center)
    return _by_row(mixture, factors, data.rows, data.weight, data.center, chunk_size)


def incomplete_component_sums(
    mixture: Mixture, factors: covariance.Factors, data: IncompleteRows, chunk_size: int | None
) -> tuple[ComponentSums, jax.Array]:
    """Return the component sums and log-likelihood of incomplete rows minus the centre, as `component_sums` does."""
    count, first, second, log_likelihood = incomplete_sums(mixture, factors, data, chunk_size)
    return unwhiten(mixture, factors, count, first, second), log_likelihood


def _by_row(
    mixture: Mixture,
    factors: covariance.Factors,
    rows: Observations,
    weight: Weight,
    center: jax.Array,
    chunk_size: int | None,
) -> WhitenedSums:
    """Return the sums of `incomplete_sums`; each row has its own factorisation."""
    name, (k, d) = mixture.covariance_type, mixture.means.shape

    def chunk_sums(
        part: Observations, w: jax.Array, center: jax.Array, log_weights: jax.Array, means: jax.Array, factors: Any
    ) -> WhitenedSums:
        part = centered(part.map_rows(lambda leaf: silenced(leaf, w)), center)
        given = conditional(means, factors, part, name)
        joint = allowed_only(given.log_normal + log_weights[:, None], part.allowed)
        r, log_likelihood = weighted_responsibilities(joint, w, True)
        mean, count = conditional_means(given), r.sum(-1)
        second = covariance.weighted_scatter(r, mean, name) + _identity(count, name, d) - explained(given, r, name)
        return count, (r[:, None] * mean).sum(-1), second, log_likelihood

    chunk = chunk_size or rows_per_chunk(k, d if is_diagonal(name, rows.noise) else 2 * d * d, rows.dtype)
    shared = (center, safe_log(mixture.weights), mixture.means, factors)
    return sum_over_rows(chunk_sums, rows.with_own_noise(), weight, chunk, shared)


def silenced(leaf: jax.Array, w: jax.Array) -> jax.Array:
    """Return an array with one entry for each row, with zeros in rows of weight 0, which may hold any values."""
    return jnp.where(w.reshape(-1, *[1] * (leaf.ndim - 1)) > 0, leaf, jnp.zeros((), leaf.dtype))


def _identity(count: jax.Array, covariance_type: str, num_features: int) -> jax.Array:
    """Return count_k times the identity matrix, as scatters (K, D, D) or (K, D)."""
    ones = jnp.ones((len(count), num_features), count.dtype)
    if not covariance.is_dense(covariance_type):
        return count[:, None] * ones
    return count[:, None, None] * jnp.eye(num_features, dtype=count.dtype)


class _PatternFactors(NamedTuple):
    """M^-1 and G of each pattern, (P, K or 1, D, D) or their diagonals (P, K, D); sum_i log M_ii (P, K or 1); masks (P, D)."""

    whitener: jax.Array
    gain: jax.Array
    half_log_det: jax.Array
    mask: jax.Array


def _pattern_factors(mixture: Mixture, factors: covariance.Factors, blocks: Blocks) -> _PatternFactors:
    """Return the factors of each pattern under each component."""
    d, mask = mixture.num_features, blocks.masks.T.astype(blocks.dtype)
    if is_diagonal(mixture.covariance_type, blocks.noise):
        sd = jnp.broadcast_to(factors.lower, mixture.means.shape).T[:, :, None]
        root, gain = (jnp.transpose(leaf, (2, 1, 0)) for leaf in diagonal_factors(sd, mask, blocks.noise))
        return _PatternFactors(1 / root, gain, jnp.log(root).sum(-1), blocks.masks)
    matrix, right = masked_matrices(factors.lower, mask, blocks.noise, mixture.covariance_type, d)
    unit = jnp.broadcast_to(jnp.eye(d, dtype=mask.dtype)[:, :, None, None], matrix.shape)
    half_log_det, whitener, gain = eliminate(matrix, unit, right)
    whitener, gain = (jnp.transpose(leaf, (3, 2, 0, 1)) for leaf in (whitener, gain))
    return _PatternFactors(whitener, gain, half_log_det.T, blocks.masks)


def _by_pattern(mixture: Mixture, factors: covariance.Factors, blocks: Blocks, center: jax.Array) -> WhitenedSums:
    """Return the sums of `incomplete_sums`; rows with the same pattern share a factorisation."""
    d, name = mixture.num_features, mixture.covariance_type
    is_dense = not is_diagonal(name, blocks.noise)
    form = _form(mixture, is_dense)

    def block_sums(
        rows: tuple, w: jax.Array, log_weights: jax.Array, means: jax.Array, center: jax.Array, patterns: Any
    ) -> WhitenedSums:
        (x, weight, pattern, allowed), w = jax.tree.map(lambda leaf: leaf[0], rows), w[0]
        own = jax.tree.map(lambda leaf: leaf[pattern], patterns)
        mask = own.mask
        masked = jnp.where(mask[None] & (weight > 0)[:, None], x - center[None], 0).T
        whitened = covariance.Factors(own.whitener, own.whitener, own.half_log_det)
        joint, z = log_joint(log_weights, jnp.where(mask[None], means, 0), whitened, masked, form)
        joint += (d - mask.sum()) * (math.log(2 * math.pi) / 2)
        r, log_likelihood = weighted_responsibilities(allowed_only(joint, allowed), weight * w, True)
        f, ff = (r[:, None] * z).sum(-1), covariance.weighted_scatter(r, z, form)
        return *_lift(own.gain, r.sum(-1), f, ff, name), log_likelihood

    patterns = _pattern_factors(mixture, factors, blocks)
    shared = (safe_log(mixture.weights), mixture.means, center, patterns)
    return sum_over_rows(block_sums, (blocks.x, blocks.weight, blocks.pattern, blocks.allowed), None, 1, shared)


def _form(mixture: Mixture, is_dense: bool) -> str:
    """Return the covariance type whose storage form the factors of a pattern have."""
    if covariance.is_dense(mixture.covariance_type) or not is_dense:
        return mixture.covariance_type
    return "full"


def _lift(
    gain: jax.Array, count: jax.Array, first: jax.Array, second: jax.Array, covariance_type: str
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return count, first and second moments of u, given the moments of f for rows that share the gain G."""
    d = first.shape[-1]
    if gain.ndim == 2:
        return count, gain * first, gain**2 * (second - count[:, None]) + count[:, None]
    gain = jnp.broadcast_to(gain, (len(count), d, d))
    inner = second - count[:, None, None] * jnp.eye(d, dtype=count.dtype)
    lifted = covariance.einsum("kia,kij,kjb->kab", gain, inner, gain)
    if not covariance.is_dense(covariance_type):
        lifted = jnp.diagonal(lifted, axis1=-2, axis2=-1)
    return count, covariance.einsum("kia,ki->ka", gain, first), lifted + _identity(count, covariance_type, d)


def total_weight_of(rows: Observations, weight: Weight) -> jax.Array:
    """Return the total weight (); it is NaN if a weight is negative."""
    values = weight_or_ones(weight, (len(rows),), rows.dtype)
    return jnp.where((values >= 0).all(), values.sum(), jnp.nan)
