"""Looking at arrays on the host and copying them to devices, with as few copies and compilations as possible."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .chunking import LARGE_COPY_BYTES, on_cpu

_ALIGNMENT = 64  # bytes: XLA on a CPU shares a buffer that is aligned so


def on_host(array: jax.Array) -> np.ndarray | jax.Array:
    """Return a NumPy view, without a copy, of a concrete array in the host's memory; return other arrays unchanged."""
    is_local = array.is_fully_addressable and all(device.platform == "cpu" for device in array.devices())
    return np.asarray(array) if is_local and len(array.devices()) == 1 else array


def to_host(tree: Any) -> Any:
    """Return small arrays as NumPy arrays; from an accelerator, all transfers start before the first one is waited for."""
    if not on_cpu():
        for leaf in jax.tree.leaves(tree):
            if isinstance(leaf, jax.Array):
                leaf.copy_to_host_async()
    return jax.tree.map(np.asarray, tree)


def to_device(array: np.ndarray, dtype: Any) -> jax.Array:
    """Return a NumPy array as a JAX array, with a single copy if it is large: jnp.asarray makes two (jax 0.10).

    The caller may change the NumPy array afterwards. `device_put` would share its memory if that happens to be aligned, so it
    is then copied first; otherwise `device_put` copies in the background, so its end is waited for.
    """
    cast = np.asarray(array, dtype)
    if cast.nbytes < LARGE_COPY_BYTES:
        return jnp.asarray(cast)
    if cast.ctypes.data % _ALIGNMENT == 0 and np.may_share_memory(cast, array):
        cast = cast.copy()
    return jax.block_until_ready(jax.device_put(cast))


def extremes(array: jax.Array) -> tuple[float, float]:
    """Return the smallest and largest value of a concrete array, which may be a constant inside the caller's jit."""
    host = on_host(array)  # NumPy does not flush subnormal numbers to zero
    if isinstance(host, np.ndarray):
        return float(host.min()), float(host.max())
    with jax.ensure_compile_time_eval():
        low, high = np.asarray(_extremes(array))
    return float(low), float(high)


@jax.jit
def _extremes(array: jax.Array) -> jax.Array:
    """Return the smallest and largest value, (2,)."""
    return jnp.stack([array.min(), array.max()])
