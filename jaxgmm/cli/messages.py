"""Print errors, progress and warnings on stderr, each as one line."""

from __future__ import annotations

import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


def print_error(sentence: str, code: int) -> int:
    """Print a sentence on stderr, and return `code`, the exit code of the command.

    Example:
        >>> print_error("the data set is empty.", 2)
        2
    """
    _print_line(sentence)
    return code


def print_remark(sentence: str) -> None:
    """Print on stderr a remark that the user needs in order to understand the results."""
    _print_line(sentence)


def print_progress(activity: str) -> None:
    """Print the current activity of the command if stderr is a terminal."""
    if sys.stderr.isatty():
        _print_line(f"{activity} ...")


@contextmanager
def warnings_to_stderr() -> Iterator[None]:
    """Print each RuntimeWarning that is raised inside the block as one line on stderr.

    Python's warning filters apply to all threads of the process. Warnings from other threads are dropped. These threads only
    run functions in advance to compile them; later, the main thread runs the same functions and gives the same warnings.
    """
    owner = threading.get_ident()

    def show(message: Warning | str, *_: object) -> None:
        if threading.get_ident() == owner:
            from ..comparison.next_steps import in_words_of  # imported here, because most commands give no warning

            _print_line(in_words_of("command", str(message)))

    with warnings.catch_warnings():
        warnings.simplefilter("always", RuntimeWarning)
        warnings.showwarning = show
        yield


def _print_line(text: str) -> None:
    """Print a text on stderr as one line that starts with the name of the program."""
    print("jaxgmm:", " ".join(text.split()), file=sys.stderr)
