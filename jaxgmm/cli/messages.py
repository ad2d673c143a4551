"""Print errors, progress and warnings on stderr, one line each."""

from __future__ import annotations

import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


def print_error(sentence: str, code: int) -> int:
    """Print a sentence on stderr and return the exit code of the command.

    Example:
        >>> print_error("the data set is empty.", 2)
        2
    """
    _print_line(sentence)
    return code


def print_progress(activity: str) -> None:
    """Print what the command is doing, if stderr is a terminal."""
    if sys.stderr.isatty():
        _print_line(f"{activity} ...")


@contextmanager
def warnings_to_stderr() -> Iterator[None]:
    """Print each RuntimeWarning of the block as one line on stderr.

    Python keeps its warning filters for the whole process. Warnings of other threads, which only rehearse, are therefore
    dropped inside the block.
    """
    owner = threading.get_ident()

    def show(message: Warning | str, *_: object) -> None:
        if threading.get_ident() == owner:
            _print_line(str(message))

    with warnings.catch_warnings():
        warnings.simplefilter("always", RuntimeWarning)
        warnings.showwarning = show
        yield


def _print_line(text: str) -> None:
    print("jaxgmm:", " ".join(text.split()), file=sys.stderr)
