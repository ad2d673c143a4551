"""Set compiler flags for the tests when imported, which must happen before jax is imported.

Most of the suite's time goes to XLA's compiler. With these flags of XLA it is five times as fast, and the code that it makes is
slower. XLA_FLAGS that are set already stay, even if empty: with XLA_FLAGS= the tests run the same code that users run.
"""

import os
import subprocess
import sys
import threading

FLAGS = " ".join(
    [
        "--xla_cpu_use_fusion_emitters=false",
        "--xla_backend_optimization_level=0",
        "--xla_cpu_parallel_codegen_split_count=1",  # saves a tenth of the CPU time of compilation
    ]
)
_PROBE = "import jax; jax.jit(lambda x: x + 1)(1.0).block_until_ready()"


def share_contexts(programs=100):
    """Let jax translate many programs in one MLIR context of each thread, in place of a new one for each program.

    A new context takes 5 ms, a third of the time of a small program, and the suite has thousands of those. The results do not
    depend on it. The function is private to jax: a jax without it works as usual.
    """
    try:
        from jax._src.interpreters.mlir import make_ir_context as make
    except ImportError:
        return
    of_thread = threading.local()

    def shared():
        if getattr(of_thread, "remaining", 0) == 0:
            of_thread.context, of_thread.remaining = make(), programs  # a context never frees types and constants
        of_thread.remaining -= 1
        return of_thread.context

    sys.modules[make.__module__].make_ir_context = shared


if "XLA_FLAGS" not in os.environ:
    # a jaxlib that does not know one of the flags ends its process, hence the probe in a process of its own
    done = subprocess.run([sys.executable, "-c", _PROBE], env=os.environ | {"XLA_FLAGS": FLAGS}, capture_output=True)
    if done.returncode == 0:
        os.environ["XLA_FLAGS"] = FLAGS
