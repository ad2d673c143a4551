"""Raise an error before arrays are allocated that do not fit into memory; XLA would abort the process instead."""

from __future__ import annotations

import os
from pathlib import Path

import jax

_SMALL = 1 << 27  # bytes; for smaller arrays, the free memory is not read, which saves time in usual calls
# pairs of Linux files: the first holds the memory limit of a container, the second its present use, both in bytes
_CONTAINER = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)


def check_memory(num_bytes: float, what: str) -> None:
    """Raise ValueError if arrays of `num_bytes` bytes do not fit into the free memory.

    Args:
        num_bytes: the number of bytes that the arrays need, or a lower bound of this number.
        what: the option that determines the size, with its value; part of the error message.

    Example:
        >>> check_memory(1e6, "num_samples=1000")
        >>> check_memory(1e18, "num_samples=10**15")
        Traceback (most recent call last):
        ...
        ValueError: num_samples=10**15 takes at least 1e+09 GB of memory, more than is free; a smaller number was expected.
    """
    if num_bytes > _SMALL and num_bytes > free_memory():
        raise ValueError(
            f"{what} takes at least {num_bytes / 1e9:.3g} GB of memory, more than is free; a smaller number was expected."
        )


def tree_bytes(tree: object) -> int:
    """Return the total number of bytes of the arrays in a pytree; the arrays may be traced.

    Example:
        >>> import numpy as np
        >>> tree_bytes({"a": np.zeros((3, 2), np.float32), "b": np.zeros(1)})
        32
    """
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def free_memory() -> float:
    """Return the number of free bytes of memory, or infinity if the system does not report this number."""
    free = float("inf")
    try:
        entries = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        free = sum(1024.0 * int(entries[name].split()[0]) for name in ("MemAvailable", "SwapFree"))
    except (OSError, KeyError, ValueError):
        if hasattr(os, "sysconf") and {"SC_PHYS_PAGES", "SC_PAGE_SIZE"} <= os.sysconf_names.keys():
            free = float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    for limit, use in _CONTAINER:
        try:
            free = min(free, float(Path(limit).read_text()) - float(Path(use).read_text()))
        except (OSError, ValueError):  # there is no container, or it has no limit
            continue
    return free
