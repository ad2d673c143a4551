"""Programs compiled in another thread, while this one has something else to do: compiling is most of a first comparison's time."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax
import numpy as np

_KEPT = 16  # programs of one function, the oldest forgotten first
_pool: list[ThreadPoolExecutor] = []


class Aside:
    """A function of arrays, jitted: `start` traces it here and has it compiled aside; calling it waits for that, if need be.

    Threads do nothing but compile, as tracing depends on settings of this one.

    Args:
        function: of pytrees of arrays, without static arguments.

    Example:
        >>> double = Aside(lambda x: 2 * x)
        >>> double.start(np.ones(3))
        >>> double(np.ones(3)).tolist()
        [2.0, 2.0, 2.0]
    """

    def __init__(self, function: Callable) -> None:
        self._jitted = jax.jit(function)
        self._programs: dict[Any, Future] = {}

    def start(self, *arguments: Any) -> None:
        """Has the program for arguments of these shapes compiled."""
        self._find(jax.tree.map(np.asarray, arguments))

    def __call__(self, *arguments: Any) -> Any:
        arguments = jax.tree.map(np.asarray, arguments)  # on the host: no weak types, no devices
        return self._find(arguments).result()(*arguments)

    def _find(self, arguments: tuple) -> Future:
        leaves, structure = jax.tree.flatten(arguments)
        key = structure, tuple((leaf.shape, leaf.dtype) for leaf in leaves), jax.config.jax_enable_x64
        if key not in self._programs:
            lowered = self._jitted.lower(*arguments)
            if not _pool:
                _pool.append(ThreadPoolExecutor(2, thread_name_prefix="jaxgmm-compile"))
            while len(self._programs) >= _KEPT:
                self._programs.pop(next(iter(self._programs)))
            self._programs[key] = _pool[0].submit(lowered.compile)
        return self._programs[key]
