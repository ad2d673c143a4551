"""Change the settings of the process that runs a command: garbage collection, compiler passes, and the compilation cache."""

from __future__ import annotations

import contextlib
import gc
import importlib.metadata
import os

from ..compilation_cache import enable_compilation_cache

_LAST_WITH_FUSION_FLAG = (0, 10)  # last release of jaxlib of which we know that it has the flag xla_cpu_use_fusion_emitters


def tune_startup() -> None:
    """Shorten the startup of a command: collect garbage rarely and, on a CPU, let XLA compile with less effort.

    A command runs only for seconds, so the time for startup matters. Fewer LLVM passes shorten compilation by a seventh, and
    XLA's older code generator for fused operations halves it. In measurements, the compiled programs were equally fast. If the
    user has set XLA_FLAGS, these flags are kept.
    """
    gc.set_threshold(100_000, 50, 50)  # tracing creates many small objects; garbage collection took one second of ten
    has_accelerator = importlib.metadata.entry_points(group="jax_plugins")
    if not has_accelerator:
        os.environ.setdefault("XLA_FLAGS", _compiler_flags(importlib.metadata.version("jaxlib")))


def _compiler_flags(jaxlib_version: str) -> str:
    """Return the flags of XLA for a release of jaxlib. A flag that the release does not know would end the process."""
    flags = "--xla_backend_optimization_level=1"
    release = tuple(int(number) for number in jaxlib_version.split(".")[:2])
    return f"{flags} --xla_cpu_use_fusion_emitters=false" if release <= _LAST_WITH_FUSION_FLAG else flags


def use_compilation_cache() -> None:
    """Store compiled programs in a cache folder if the folder is writable, so that later commands reuse the programs."""
    with contextlib.suppress(OSError, RuntimeError):  # RuntimeError: the user has no home folder
        enable_compilation_cache()
