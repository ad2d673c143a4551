"""Compiler flags for the tests, set on import, before jax is.

Most of the suite's time is XLA's. These flags compile five times as fast, to slower code; they are XLA's own and no part of
jaxgmm. XLA_FLAGS set by the caller, empty too, stay as they are: with XLA_FLAGS= the tests run the very code that users run.
"""

import os
import subprocess
import sys

FLAGS = "--xla_cpu_use_fusion_emitters=false --xla_backend_optimization_level=0"
_PROBE = "import jax; jax.jit(lambda x: x + 1)(1.0).block_until_ready()"

if "XLA_FLAGS" not in os.environ:
    # a jaxlib that does not know a flag ends the process
    done = subprocess.run([sys.executable, "-c", _PROBE], env=os.environ | {"XLA_FLAGS": FLAGS}, capture_output=True)
    if done.returncode == 0:
        os.environ["XLA_FLAGS"] = FLAGS
