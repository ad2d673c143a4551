"""How things print: short tables, as text, and as HTML in notebooks.

A class that prints derives from `Printed` and says what its tables are. Numbers are looked at on the host, with nothing
compiled, and only where that is cheap. A repr never raises: what no table can be made of prints as its fields, with shapes for
arrays.
"""

from __future__ import annotations

import dataclasses
import html
import textwrap
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from .status import StatusEnum
from .validation import on_host

MAX_ROWS = 12
MAX_NUMBERS = 6
_MAX_COPY = 1 << 20  # bytes to fetch from another device for a repr
MAX_SIZE = 1 << 20  # numbers to summarise for a repr
_WIDTH = 100
REACH = ("smallest", "median", "largest")


@dataclass(frozen=True)
class Table:
    """A title, rows of words under a header, and sentences below.

    Attributes:
        title: a line.
        header: one word for each column, or nothing.
        rows: words.
        notes: sentences, wrapped.
        left: places of columns that hold words, aligned to the left; numbers are to the right.
    """

    title: str
    header: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    notes: Sequence[str] = ()
    left: Collection[int] = ()

    def text(self) -> str:
        """Aligned columns, two spaces between them."""
        grid = [self.header, *self.rows] if self.header else []
        widths = [max(map(len, column)) for column in zip(*grid, strict=True)]
        lines = ["  " + "  ".join(map(self._aligned, range(len(row)), row, widths)).rstrip() for row in grid]
        notes = [textwrap.fill(note, _WIDTH, initial_indent="  ", subsequent_indent="  ") for note in self.notes]
        return "\n".join([self.title, *lines, *notes])

    def _aligned(self, column: int, word: str, width: int) -> str:
        return word.ljust(width) if column in self.left else word.rjust(width)

    def html(self) -> str:
        """The same as a table element, everything escaped."""
        lines = [("th", self.header), *(("td", row) for row in self.rows)] if self.header else []
        rows = "".join(f"<tr>{''.join(self._cell(tag, c, word) for c, word in enumerate(row))}</tr>" for tag, row in lines)
        notes = "".join(f"<div>{html.escape(note)}</div>" for note in self.notes)
        return f"<div>{html.escape(self.title)}</div>" + (f"<table>{rows}</table>" if rows else "") + notes

    def _cell(self, tag: str, column: int, word: str) -> str:
        side = "left" if column in self.left else "right"
        return f'<{tag} style="text-align:{side};padding:0 0.5em">{html.escape(word)}</{tag}>'


class Printed:
    """What prints as tables: a class says which in `_tables`."""

    def _tables(self) -> list[Table]:
        raise NotImplementedError

    def _shown(self) -> list[Table]:
        try:
            with np.errstate(all="ignore"):  # numbers may be anything here
                return self._tables()
        except Exception:  # pytree machinery builds these of anything, and a debugger must go on
            return [Table(_fields(self))]

    def __repr__(self) -> str:
        return "\n".join(table.text() for table in self._shown())

    def _repr_html_(self) -> str:
        return "".join(table.html() for table in self._shown())


def _fields(thing: Any) -> str:
    """Type and fields, arrays as their types and shapes."""
    words = [f"{field.name}={_brief(getattr(thing, field.name, None))}" for field in dataclasses.fields(thing)]
    return f"{type(thing).__name__}({', '.join(words)})"


def _brief(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_brief(entry)}" for key, entry in value.items()) + "}"
    try:
        if hasattr(value, "shape") and hasattr(value, "dtype"):
            return f"{value.dtype}[{','.join(map(str, value.shape))}]"
        return repr(value)
    except Exception:  # somebody else's repr
        return type(value).__name__


def look(value: Any) -> np.ndarray | None:
    """Numbers as NumPy has them; None for tracers, shapes without numbers, deleted arrays, and large ones elsewhere."""
    if isinstance(value, np.ndarray | np.generic | float | int):
        return np.asarray(value)
    if not isinstance(value, jax.Array) or isinstance(value, jax.core.Tracer) or value.is_deleted():
        return None
    if not value.is_fully_addressable:
        return None
    value = on_host(value)
    return np.asarray(value) if isinstance(value, np.ndarray) or value.nbytes <= _MAX_COPY else None


def number(value: Any, digits: int = 4) -> str:
    """One number: so many digits that count, or all before the point up to ten millions: data far from 0 differ late."""
    value = float(value)
    if 10**digits <= abs(value) < 1e7:
        return f"{value:.1f}".removesuffix(".0")
    return f"{value:.{digits}g}"


def numbers(values: Sequence[Any], most: int = MAX_NUMBERS) -> str:
    """A row of numbers in brackets, the middle left out where there are more than `most`."""
    if len(values) > most:
        values = [*values[: most - 1], None, values[-1]]
    return "[" + " ".join("..." if v is None else number(v) for v in values) + "]"


def numbers_of(value: Any) -> str:
    """A number, a row, or a square matrix, rows parted by semicolons, of a large one its diagonal; "" if not looked at."""
    seen = look(value)
    if seen is None:
        return ""
    if seen.ndim < 2:
        return numbers(seen) if seen.ndim else number(seen)
    if seen.size > 4:
        return f"diagonal {numbers(seen.diagonal())}"
    return "[" + "; ".join(" ".join(map(number, row)) for row in seen) + "]"


def elided(count: int) -> list[int | None]:
    """Which of many rows to show: the first, None for those left out, the last."""
    return list(range(count)) if count <= MAX_ROWS else [*range(MAX_ROWS - 2), None, count - 1]


def reach(value: Any) -> tuple[str, str, str]:
    """Smallest, median and largest of the finite numbers of an array, as words; empty where they are not looked at."""
    seen = look(value)
    if seen is None or not 0 < seen.size <= MAX_SIZE:
        return "", "", ""
    seen = np.asarray(seen, float)
    seen = seen[np.isfinite(seen)]
    if not seen.size:
        return ("not finite",) * 3
    return number(seen.min(), 6), number(np.median(seen), 6), number(seen.max(), 6)


def counted(statuses: np.ndarray, kind: type[StatusEnum]) -> str:
    """How often each: "97 CONVERGED, 3 MAX_ITER", the most frequent first."""
    codes, counts = np.unique(statuses, return_counts=True)
    return ", ".join(f"{counts[i]} {kind.name_of(codes[i])}" for i in np.argsort(-counts, kind="stable"))
