"""Write numbers, arrays, statuses and objects as short texts, which fill the cells of tables.

The functions read numbers on the host, compile nothing, and copy only small arrays from other devices.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, SupportsFloat

import jax
import numpy as np

from .devices.host import on_host
from .status import StatusEnum
from .validation import is_traced

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

MAX_NUMBERS = 6  # largest number of entries of a vector that a repr shows
_MAX_COPY = 1 << 20  # largest array, in bytes, that a repr copies from another device
MAX_SIZE = 1 << 20  # largest number of entries of an array that a repr summarises
REACH = ("smallest", "median", "largest")  # headings of the three texts that `reach` returns


def look(value: object) -> np.ndarray | None:
    """Return numbers as a NumPy array, or None if they cannot be read cheaply.

    The result is None for tracers, deleted arrays, large arrays on other devices, and objects that hold a shape but no numbers.
    """
    if isinstance(value, np.ndarray | np.generic | float | int):
        return np.asarray(value)
    if not isinstance(value, jax.Array) or is_traced(value) or value.is_deleted():
        return None
    if not (value.is_fully_addressable or value.is_fully_replicated):
        return None
    value = on_host(value)
    return np.asarray(value) if isinstance(value, np.ndarray) or value.nbytes <= _MAX_COPY else None


def number(value: SupportsFloat, digits: int = 4) -> str:
    """Return a number as text with `digits` significant digits.

    If the number is below 1e7, all its integer digits are shown, because data far from 0 may differ only in the last digits.
    """
    value = float(value)
    if 10**digits <= abs(value) < 1e7:
        return f"{value:.1f}".removesuffix(".0")
    return f"{value:.{digits}g}"


def numbers(values: Sequence[SupportsFloat | None] | np.ndarray, most: int = MAX_NUMBERS) -> str:
    """Return numbers as text in brackets. If there are more than `most` numbers, some in the middle are left out."""
    if len(values) > most:
        values = [*values[: most - 1], None, values[-1]]
    return "[" + " ".join("..." if v is None else number(v) for v in values) + "]"


def numbers_of(value: object) -> str:
    """Return a number, a vector or a square matrix as text, or "" if `look` cannot read it.

    If a matrix is larger than 2 by 2, only its diagonal is shown.
    """
    seen = look(value)
    if seen is None:
        return ""
    if seen.ndim < 2:
        return numbers(seen) if seen.ndim else number(seen)
    if seen.size > 4:
        return f"diagonal {numbers(seen.diagonal())}"
    return "[" + "; ".join(" ".join(map(number, row)) for row in seen) + "]"


def reach(value: object) -> tuple[str, str, str]:
    """Return the smallest, the median and the largest finite number of an array as text.

    The texts are empty if `look` cannot read the array, or if the array is empty or has more than `MAX_SIZE` numbers.
    """
    seen = look(value)
    if seen is None or not 0 < seen.size <= MAX_SIZE:
        return "", "", ""
    seen = np.asarray(seen, float)
    seen = seen[np.isfinite(seen)]
    if not seen.size:
        return "not finite", "not finite", "not finite"
    return number(seen.min(), 6), number(np.median(seen), 6), number(seen.max(), 6)


def counted(statuses: np.ndarray, kind: type[StatusEnum]) -> str:
    """Return how often each status occurs, as text such as "97 CONVERGED, 3 MAX_ITER". The most frequent status comes first."""
    codes, counts = np.unique(statuses, return_counts=True)
    return ", ".join(f"{counts[i]} {kind.name_of(codes[i])}" for i in np.argsort(-counts, kind="stable"))


def _brief(value: Any) -> str:
    """Return a short text for a value: the type and shape of an array, or the repr of another value."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_brief(entry)}" for key, entry in value.items()) + "}"
    try:
        if hasattr(value, "shape") and hasattr(value, "dtype"):
            return f"{value.dtype}[{','.join(map(str, value.shape))}]"
        return repr(value)
    except Exception:  # the repr of an object from other code may raise an error
        return type(value).__name__


def shortened(text: str, width: float) -> str:
    """Return a text cut to at most `width` characters, with an ellipsis at its end if it was cut.

    Example:
        >>> shortened("sepal_length", 8)
        'sepal_l…'
    """
    return text if len(text) <= width else text[: max(int(width) - 1, 0)] + "…"


def fields_of(thing: DataclassInstance) -> str:
    """Return the class name and the fields of a dataclass object as text; arrays are shown by their types and shapes."""
    words = [f"{field.name}={_brief(getattr(thing, field.name, None))}" for field in dataclasses.fields(thing)]
    return f"{type(thing).__name__}({', '.join(words)})"
