"""Settings of the process that runs the command: garbage collection, compiler passes, and the compilation cache."""

from __future__ import annotations

import gc
import importlib.metadata
import os
from pathlib import Path

import jax


def tune_startup() -> None:
    """Make a process that runs for seconds start faster: collect garbage rarely and, on a CPU, run fewer LLVM passes.

    Fewer passes shorten compilation by a seventh, and the programs measured as fast. XLA_FLAGS that the user has set are kept.
    """
    gc.set_threshold(100_000, 50, 50)  # tracing creates many small objects: collecting them takes one second of ten
    has_accelerator = importlib.metadata.entry_points(group="jax_plugins")
    if not has_accelerator:
        os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=1")


def use_compilation_cache() -> None:
    """Let a second run of the command reuse compiled programs, unless no folder for them can be written."""
    if os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        return
    try:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "jaxgmm"
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):
        return
    if os.access(folder, os.W_OK):
        jax.config.update("jax_compilation_cache_dir", str(folder))
        # with small programs kept too, a second run takes a quarter of the first one's time, otherwise half of it
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
