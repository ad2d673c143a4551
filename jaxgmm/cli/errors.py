"""Distinguish errors about invalid input from errors inside jaxgmm, which need a traceback and a report."""

from __future__ import annotations

import dis
import sys
from types import TracebackType

# libraries whose error messages are not written for users of the command
_LIBRARIES = {"jax", "jaxlib", "numpy", "scipy", "numpyro", "pandas", "matplotlib", "jinja2", "tqdm"}


def refusal(error: Exception) -> str | None:
    """Return the message of an error as a sentence, or None if the error is a fault of jaxgmm.

    Errors of the operating system and a lack of memory are not faults of jaxgmm. A ValueError or TypeError is about invalid
    input if a `raise` statement of jaxgmm raised it. All other TypeErrors, and all errors from inside the libraries that jaxgmm
    uses, are faults of jaxgmm. They must not look like faults of the input.

    Example:
        >>> refusal(OSError(2, "No such file", "x.csv")), refusal(KeyError("weights"))
        ('x.csv: No such file.', None)
    """
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}." if error.filename else f"{error}."
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
        return "there is not enough memory; use fewer rows, draws or restarts."
    if isinstance(error, ValueError | TypeError):
        package, is_raised = _origin(error.__traceback__)
        is_ours = package == "jaxgmm" and is_raised
        is_foreign = package != "jaxgmm" and package not in _LIBRARIES and package not in sys.stdlib_module_names
        if is_ours or (is_foreign and isinstance(error, ValueError)):
            return str(error)
    return None


def internal_error(error: Exception) -> str:
    """Return a sentence that asks the user to report an error inside jaxgmm."""
    message = (str(error).splitlines() or [""])[0]
    return (
        f"this is an error inside jaxgmm: {type(error).__name__}: {message}; please report it to the developers, with the "
        "lines above."
    )


def _origin(trace: TracebackType | None) -> tuple[str, bool]:
    """Return the package in which an error arose, and whether a `raise` statement raised it."""
    if trace is None:
        return "", False
    while trace.tb_next is not None:
        trace = trace.tb_next
    frame = trace.tb_frame
    package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
    return package, dis.opname[frame.f_code.co_code[trace.tb_lasti]] == "RAISE_VARARGS"
