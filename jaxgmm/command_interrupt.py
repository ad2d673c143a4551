"""End the command `jaxgmm` without a traceback if the user interrupts it while Python still imports its libraries.

This module is imported before JAX and NumPy. It does nothing in processes that do not run the command. `jaxgmm.cli.main` later
restores Python's signal handler.
"""

from __future__ import annotations

import os
import signal
import sys
import threading

INTERRUPTED = 130  # exit code of an interrupted command; shells use the same code


def is_command() -> bool:
    """Return whether this process runs `jaxgmm` or `python -m jaxgmm`; in the second case, sys.argv[0] is still "-m"."""
    name = os.path.basename(sys.argv[0]).removesuffix(".exe") if getattr(sys, "argv", None) else ""
    return name == "jaxgmm" or (name == "-m" and sys.orig_argv[1:3] == ["-m", "jaxgmm"])


def exit_quietly(*_: object) -> None:
    """Print one line, and end the process at once."""
    os.write(2, b"jaxgmm: interrupted: no more files were written.\n")
    os._exit(INTERRUPTED)


def handle_interrupts() -> None:
    """Make the command end quietly at an interrupt, unless the process already ignores or handles interrupts."""
    in_main_thread = threading.current_thread() is threading.main_thread()
    if is_command() and in_main_thread and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, exit_quietly)


handle_interrupts()
