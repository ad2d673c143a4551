"""Stop the command soon after Ctrl-C. Python alone cannot interrupt a compiled program that is running."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import NoReturn

from ..command_interrupt import INTERRUPTED, exit_quietly

_GRACE = 2.0  # seconds after Ctrl-C; the main thread can end the command during this time
_interrupted = threading.Event()
_resumable: list[Path] = []  # the file from which the same command can continue, if the command writes such a file


def stop_soon() -> None:
    """At Ctrl-C, raise KeyboardInterrupt in the main thread, and end the process if it still runs after `_GRACE` seconds.

    The process can end at any time, because files are written completely or not at all.
    """
    if signal.getsignal(signal.SIGINT) not in (exit_quietly, signal.default_int_handler) or os.name == "nt":
        return  # the process ignores the signal, for example under nohup
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)  # Python writes the number of each signal to this pipe at once
    threading.Thread(target=_watch, args=(reader,), name="jaxgmm-interruption", daemon=True).start()
    sys.unraisablehook = _end_if_interrupted
    signal.signal(signal.SIGINT, _interrupt)


def stop_at_once() -> None:
    """Make Ctrl-C end the process at once, from the end of the command until the process has exited."""
    if signal.getsignal(signal.SIGINT) is _interrupt:
        signal.signal(signal.SIGINT, exit_quietly)


def remember_file(path: Path | None) -> None:
    """Remember the file from which the command can continue after Ctrl-C; None if the command writes no such file."""
    _resumable[:] = [] if path is None else [path]


def sentence() -> str:
    """Return what the command says after Ctrl-C, and whether the same command can continue.

    Example:
        >>> sentence()
        'interrupted: no more files were written.'
    """
    kept = [f", but the same command continues from '{path}'" for path in _resumable if path.is_file()]
    return "".join(["interrupted: no more files were written", *kept, "."])


def is_interrupted() -> bool:
    """Return whether the user has pressed Ctrl-C. Libraries may replace the error KeyboardInterrupt by another one."""
    return _interrupted.is_set()


def exit_now(code: int) -> NoReturn:
    """Write all pending output and end the process immediately.

    A normal exit takes some tenths of a second, and Ctrl-C during this time would end the process without a sentence. Python
    also cannot stop a running compilation, and may crash if it exits normally while one is running.
    """
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):  # such as a full disk: `main` has already reported this error
            stream.flush()
    os._exit(code)


def _interrupt(*_: object) -> NoReturn:
    """Raise KeyboardInterrupt, and remember that the user has pressed Ctrl-C."""
    _interrupted.set()
    raise KeyboardInterrupt


def _watch(reader: int) -> None:
    """Wait for Ctrl-C, give the main thread `_GRACE` seconds to end the process, and then end the process."""
    while os.read(reader, 1) != bytes([signal.SIGINT]):
        pass
    time.sleep(_GRACE)
    _end()


def _end_if_interrupted(lost: sys.UnraisableHookArgs) -> None:
    """End the process after a KeyboardInterrupt during the deletion of an object, because Python ignores such an error."""
    if isinstance(lost.exc_value, KeyboardInterrupt):
        _end()
    sys.__unraisablehook__(lost)


def _end() -> NoReturn:
    """Say that the command was interrupted, and end the process at once. The main thread may hold the lock of stderr."""
    os.write(2, f"jaxgmm: {sentence()}\n".encode())
    os._exit(INTERRUPTED)
