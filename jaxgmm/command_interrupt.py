"""End the command `jaxgmm` at once, without a traceback, if it is interrupted while its libraries are still imported.

This module is imported before JAX and NumPy. It does nothing in other processes. `jaxgmm.cli.main` restores Python's handler.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import Any

INTERRUPTED = 130  # exit code, as of shells


def is_command() -> bool:
    """Return whether this process is the command: `jaxgmm`, or `python -m jaxgmm`, for which the first argument is "-m" now."""
    name = os.path.basename(sys.argv[0]).removesuffix(".exe") if getattr(sys, "argv", None) else ""
    return name == "jaxgmm" or (name == "-m" and sys.orig_argv[1:3] == ["-m", "jaxgmm"])


def exit_quietly(*_: Any) -> None:
    """Print one line and end the process."""
    os.write(2, b"jaxgmm: interrupted: no more files were written.\n")
    os._exit(INTERRUPTED)


def handle_interrupts() -> None:
    """Let the command end quietly when it is interrupted, unless the process ignores or handles the signal already."""
    in_main_thread = threading.current_thread() is threading.main_thread()
    if is_command() and in_main_thread and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, exit_quietly)


handle_interrupts()
