"""Rows of plain numbers as text that programs read."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..files import write_text


def plain(value: Any) -> Any:
    """The same in Python's own types, None for what is not a finite number.

    Example:
        >>> plain({"a": (1.0, float("nan")), "b": np.arange(2)})
        {'a': [1.0, None], 'b': [0, 1]}
    """
    if isinstance(value, dict):
        return {name: plain(v) for name, v in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value


def ordinal(number: int) -> str:
    """A number as a place in a row.

    Example:
        >>> [ordinal(number) for number in (1, 2, 3, 4, 11, 22)]
        ['1st', '2nd', '3rd', '4th', '11th', '22nd']
    """
    return f"{number}{ {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10 if number % 100 // 10 != 1 else 0, 'th') }"


def json_text(value: Any, path: Any = None) -> str:
    """JSON text, written to `path` too, if given.

    Example:
        >>> json_text({"a": float("inf")})
        '{\\n "a": null\\n}\\n'
    """
    return _written(json.dumps(plain(value), indent=1, allow_nan=False, ensure_ascii=False) + "\n", path)


def csv_text(rows: Sequence[dict[str, Any]], fields: Sequence[str], path: Any = None) -> str:
    """CSV text with a header, an empty cell for what a row does not have; written to `path` too, if given.

    Example:
        >>> csv_text([{"a": 1}, {"a": 2, "b": 0.5}], ("a", "b"))
        'a,b\\n1,\\n2,0.5\\n'
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, fields, lineterminator="\n")
    writer.writeheader()
    writer.writerows(plain(row) for row in rows)
    return _written(text.getvalue(), path)


def _written(text: str, path: Any) -> str:
    if path is not None:
        write_text(path, text)
    return text
