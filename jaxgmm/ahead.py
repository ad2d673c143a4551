"""Programs compiled in other threads before they are needed: compiling is most of a first call's time.

`start` traces here and has the program compiled aside; `call` is the ordinary call, which finds it there: jax keeps one
program of each lowering. Threads do nothing but compile, as tracing depends on settings of this one.
"""

from __future__ import annotations

from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax
import numpy as np

_KEPT = 64  # programs known to have been started, the oldest forgotten first
_THREADS = 4
_pool: list[ThreadPoolExecutor] = []
_programs: OrderedDict[Any, Future] = OrderedDict()


def start(jitted: Any, *arguments: Any, **static: Any) -> None:
    """Has the program compiled that `call` with such arguments will run.

    Args:
        jitted: what `jax.jit` gives.
        *arguments: arrays, or only their shapes as of `jax.eval_shape`.
        **static: its static arguments, by name.

    Example:
        >>> import jax, numpy as np
        >>> double = jax.jit(lambda x: 2 * x)
        >>> start(double, jax.ShapeDtypeStruct((3,), np.float32))
        >>> call(double, np.ones(3, np.float32)).tolist()
        [2.0, 2.0, 2.0]
    """
    key = _key(jitted, arguments, static)
    if key in _programs:
        return
    if not _pool:
        _pool.append(ThreadPoolExecutor(_THREADS, thread_name_prefix="jaxgmm-compile"))
    _programs[key] = _pool[0].submit(_compile, jitted.lower(*arguments, **static))
    if len(_programs) > _KEPT:
        _programs.popitem(last=False)


def call(jitted: Any, *arguments: Any, **static: Any) -> Any:
    """jitted(*arguments, **static), once the program is there if it was started."""
    under_way = _programs.get(_key(jitted, arguments, static))
    if under_way is not None:
        under_way.result()
    return jitted(*arguments, **static)


def _compile(lowered: jax.stages.Lowered) -> None:
    lowered.compile()  # jax keeps it, with the lowering


def _key(jitted: Any, arguments: tuple, static: dict[str, Any]) -> Any:
    leaves, structure = jax.tree.flatten(arguments)
    shapes = tuple((np.shape(leaf), getattr(leaf, "dtype", type(leaf)), getattr(leaf, "weak_type", False)) for leaf in leaves)
    return jitted, structure, shapes, tuple(sorted(static.items())), jax.config.jax_enable_x64
