"""Change the settings of the process that runs a command: garbage collection, compiler passes, and the compilation cache."""

from __future__ import annotations

import contextlib
import gc
import importlib.metadata
import os

from ..compilation_cache import enable_compilation_cache


def tune_startup() -> None:
    """Shorten the startup of a command: collect garbage rarely and, on a CPU, run fewer LLVM passes.

    A command runs only for seconds, so the time for startup matters. Fewer passes shorten compilation by a seventh. In
    measurements, the compiled programs were equally fast. If the user has set XLA_FLAGS, these flags are kept.
    """
    gc.set_threshold(100_000, 50, 50)  # tracing creates many small objects; garbage collection took one second of ten
    has_accelerator = importlib.metadata.entry_points(group="jax_plugins")
    if not has_accelerator:
        os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=1")


def use_compilation_cache() -> None:
    """Store compiled programs in a cache folder if the folder is writable, so that later commands reuse the programs."""
    with contextlib.suppress(OSError, RuntimeError):  # RuntimeError: the user has no home folder
        enable_compilation_cache()
