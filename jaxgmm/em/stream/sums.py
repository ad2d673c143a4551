"""The sums of an E-step in a form in which the sums of batches can be added."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp

from ... import covariance
from ...mixture import Mixture
from ...priors.interface import ComponentSums
from ..kernels import (
    Rows,
    WhitenedSums,
    about_means,
    chunk_of,
    kernel_index,
    mixed_parts,
    narrow_components,
    numbers_of_narrow,
    quadratic_sums,
    split_sums,
    unwhiten,
    whitened_sums,
)


def additive_sums(
    far: jax.Array, mixture: Mixture, factors: covariance.Factors, rows: Rows, chunk_size: int | None
) -> WhitenedSums:
    """Return the sums over rows from which `finish_sums` computes what `component_sums` returns; sums of batches can be added.

    `far` (K,), from `are_far`, chooses the kernel as in `component_sums`. For components that the whitened kernel computes, the
    sums are the fields of `Moments`. The sums of all other components have the same shapes, but are in data units and relative
    to the centre.
    """
    chunk, numbers = chunk_of(mixture, chunk_size), numbers_of_narrow(mixture)
    mixed = [partial(_mixed_sums, chunk, number, far) for number in numbers[1:]]
    kernels = [partial(quadratic_sums, chunk, False), *mixed, partial(whitened_sums, chunk)]
    return jax.lax.switch(kernel_index(far, numbers), kernels, mixture, factors, rows)


def finish_sums(
    far: jax.Array, mixture: Mixture, factors: covariance.Factors, sums: WhitenedSums
) -> tuple[ComponentSums, jax.Array]:
    """Return the component sums and the log-likelihood of rows, given their `additive_sums` with the same `far`."""
    *moments, log_likelihood = sums
    numbers, ones = numbers_of_narrow(mixture), jnp.ones(far.shape, bool)
    masks = [jnp.zeros_like(ones).at[narrow_components(far, number)].set(True) for number in numbers]
    is_whitened = jnp.stack([*masks, ones])[kernel_index(far, numbers)]
    near, whitened = about_means(mixture, factors, *moments), unwhiten(mixture, factors, *moments)

    def choose(a: jax.Array, b: jax.Array) -> jax.Array:
        return jnp.where(is_whitened.reshape(-1, *[1] * (a.ndim - 1)), a, b)

    return jax.tree.map(choose, whitened, near), log_likelihood


def _mixed_sums(
    chunk: int, number: int, far: jax.Array, mixture: Mixture, factors: covariance.Factors, rows: Rows
) -> WhitenedSums:
    """Return the sums of `additive_sums`. The whitened kernel computes `number` components, which include all `far` ones."""
    sums, of_few, log_likelihood = mixed_parts(chunk, number, far, mixture, factors, rows)
    narrow, moments = narrow_components(far, number), split_sums(sums, mixture)
    count, first, second = (leaf.at[narrow].set(some) for leaf, some in zip(moments, of_few, strict=True))
    return count, first, second, log_likelihood
