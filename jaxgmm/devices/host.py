"""Read arrays on the host and copy arrays to devices, with as few copies and compilations as possible."""

from __future__ import annotations

from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import DTypeLike

from ..chunking import on_cpu
from .processes import is_global, of_all_processes, over_parts, own_parts

Tree = TypeVar("Tree")
_ALIGNMENT = 64  # bytes; on a CPU, XLA shares the memory of a NumPy array if its address is a multiple of this number


def on_host(array: jax.Array) -> np.ndarray | jax.Array:
    """Return a NumPy view, without a copy, of a concrete array of numbers in the host's memory.

    Any other array, for example an array of random keys, is returned unchanged.
    """
    if jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
        return array
    is_local = array.is_fully_addressable and all(device.platform == "cpu" for device in array.devices())
    return np.asarray(array) if is_local and len(array.devices()) == 1 else array


def to_host(tree: Tree) -> Tree:
    """Return small arrays as NumPy arrays; on an accelerator, start all transfers before waiting for the first one."""
    if not on_cpu():
        for leaf in jax.tree.leaves(tree):
            if isinstance(leaf, jax.Array):
                leaf.copy_to_host_async()
    return jax.tree.map(np.asarray, tree)


def to_device(array: np.ndarray, dtype: DTypeLike) -> jax.Array:
    """Return a NumPy array as a JAX array; jnp.asarray would copy a large array twice, and compile for each shape (jax 0.10).

    The caller may change the NumPy array afterwards, so the JAX array must not share its memory. If the memory is aligned,
    `device_put` would share it, so this function copies the array first. Otherwise, `device_put` copies the array in the
    background, and this function waits until the copy is complete.
    """
    cast = np.asarray(array, dtype)
    if cast.ctypes.data % _ALIGNMENT == 0 and np.may_share_memory(cast, array):
        cast = cast.copy()
    return jax.block_until_ready(jax.device_put(cast))


def cast(array: jax.Array, dtype: DTypeLike) -> jax.Array:
    """Return an array in another dtype; a concrete array in the host's memory is converted by NumPy, without compilation."""
    if array.dtype == dtype:
        return array
    view = array if isinstance(array, Tracer) else on_host(array)
    if isinstance(view, np.ndarray) and not array.committed:
        return to_device(view, dtype)
    return array.astype(dtype)


def extremes(array: jax.Array) -> tuple[float, float]:
    """Return the smallest and the largest value of a concrete array; this also works while jit traces the caller."""
    if is_global(array):  # collective operations can lose a NaN, so the processes exchange their extremes
        own = [extremes(part) for (part,) in own_parts(array) if isinstance(part, jax.Array) and part.size]
        low, high = np.array(own or [(np.inf, -np.inf)]).T
        every = of_all_processes(np.array([low.min(), high.max()]), array)
        return float(every[:, 0].min()), float(every[:, 1].max())
    host = on_host(array)  # use NumPy, because XLA rounds subnormal numbers to zero
    if isinstance(host, np.ndarray):
        return float(host.min()), float(host.max())
    with jax.ensure_compile_time_eval():
        low, high = np.asarray(_extremes(array))
    return float(low), float(high)


def num_positive(array: jax.Array) -> int:
    """Return the number of positive entries of a concrete array."""
    return int(over_parts(lambda values: (values > 0).sum(), array))


@jax.jit
def _extremes(array: jax.Array) -> jax.Array:
    """Return the smallest and largest value as an array (2,)."""
    return jnp.stack([array.min(), array.max()])
