"""Conversion of results to plain Python values, JSON, CSV and data frames."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np

from ..em.result import ComponentStatus, Fit, Status
from ..files import write_text

if TYPE_CHECKING:
    import pandas

_BEGIN_OF_FORMULAS = ("=", "+", "-", "@", "\t")  # Excel and LibreOffice read a text that begins with one of these as a formula
_SIGNED_NUMBER = re.compile(r"[+-](\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")  # a signed number, which is not a formula


class FitRecord(TypedDict):
    """The outcome of one EM fit in plain types."""

    status: str
    num_iter: int
    log_likelihood: float
    objective: float
    component_status: list[str]


class Exported:
    """Base class of results that export themselves as JSON, CSV and a data frame.

    A subclass defines three methods: `to_dict`; `_records`, which returns the rows of a table; and `_fields`, which returns the
    names of the columns of this table.
    """

    def to_dict(self) -> dict[str, Any]:
        """Return every number in plain Python types."""
        raise NotImplementedError

    def _records(self) -> Iterable[Mapping[str, object]]:
        """Return the rows of the table, each as a mapping from column names to values."""
        raise NotImplementedError

    def _fields(self) -> Sequence[str]:
        """Return the names of the columns of the table."""
        raise NotImplementedError

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """Return the result of `to_dict` as JSON text; also write it to `path`, if given."""
        return json_text(self.to_dict(), path)

    def to_csv(self, path: str | os.PathLike[str] | None = None) -> str:
        """Return the table as CSV text with a header; also write it to `path`, if given."""
        return csv_text(self._records(), self._fields(), path)

    def to_dataframe(self) -> pandas.DataFrame:
        """Return the table as a pandas data frame with the same columns as `to_csv`. Pandas is imported on the first call."""
        return data_frame(self._records(), self._fields())


def plain(value: object) -> Any:
    """Return a value in plain Python types, with None in place of numbers that are not finite.

    Example:
        >>> plain({"a": (1.0, float("nan")), "b": np.arange(2)})
        {'a': [1.0, None], 'b': [0, 1]}
    """
    if isinstance(value, Mapping):
        return {name: plain(v) for name, v in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value


def ordinal(number: int) -> str:
    """Return a positive integer as an ordinal number.

    Example:
        >>> [ordinal(number) for number in (1, 2, 3, 4, 11, 22)]
        ['1st', '2nd', '3rd', '4th', '11th', '22nd']
    """
    return f"{number}{ {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10 if number % 100 // 10 != 1 else 0, 'th') }"


def describe_fit(fit: Fit) -> FitRecord:
    """Return the outcome of one EM fit in plain types.

    The entries are the status, the number of steps, the log-likelihood, the objective, and the statuses of the components.

    Example:
        >>> import jaxgmm
        >>> x = np.array([[0.0], [1.0], [2.0]], np.float32)
        >>> found = describe_fit(jaxgmm.fit(jaxgmm.from_labels(x, [0, 0, 0], num_components=1), x))
        >>> found["status"], found["component_status"], sorted(found)
        ('CONVERGED', ['OK'], ['component_status', 'log_likelihood', 'num_iter', 'objective', 'status'])
    """
    return {
        "status": Status(int(fit.status)).name,
        "num_iter": int(fit.num_iter),
        "log_likelihood": float(fit.log_likelihood),
        "objective": float(fit.objective),
        "component_status": [ComponentStatus(int(status)).name for status in np.asarray(fit.component_status)],
    }


def json_text(value: object, path: str | os.PathLike[str] | None = None) -> str:
    r"""Return a value as JSON text; also write it to `path`, if given.

    Example:
        >>> json_text({"a": float("inf")})
        '{\n "a": null\n}\n'
    """
    return _written(json.dumps(plain(value), indent=1, allow_nan=False, ensure_ascii=False) + "\n", path)


def csv_text(rows: Iterable[Mapping[str, object]], fields: Sequence[str], path: str | os.PathLike[str] | None = None) -> str:
    r"""Return rows as CSV text with a header; also write it to `path`, if given. If a row lacks a field, the cell is empty.

    Example:
        >>> csv_text([{"a": 1}, {"a": 2, "b": 0.5}], ("a", "b"))
        'a,b\n1,\n2,0.5\n'
    """
    lines = [csv_line(fields)]
    for row in rows:
        if not row.keys() <= set(fields):
            raise ValueError(f"a row has fields not in fieldnames: {sorted(row.keys() - set(fields))}")
        lines.append(csv_line([plain(row.get(name)) for name in fields]))
    return _written("".join(lines), path)


def csv_line(values: Iterable[object]) -> str:
    r"""Return one line of a CSV file. Text that a spreadsheet would read as a formula is quoted. None becomes an empty cell.

    Example:
        >>> csv_line(["=sum", "a,b", -0.5, "-0.5", None])
        '"=sum","a,b",-0.5,-0.5,\n'
    """
    return ",".join(map(_csv_cell, values)) + "\n"


def _csv_cell(value: object) -> str:
    """Return a value as a cell of a CSV file, with quotes if the format or a spreadsheet requires them."""
    if not isinstance(value, str):
        return "" if value is None else str(value)
    is_formula = value[:1] in _BEGIN_OF_FORMULAS and not _SIGNED_NUMBER.fullmatch(value)
    needs_quotes = is_formula or any(sign in value for sign in ',"\r\n')
    return '"' + value.replace('"', '""') + '"' if needs_quotes and value else value


def data_frame(rows: Iterable[Mapping[str, object]], fields: Sequence[str]) -> pandas.DataFrame:
    """Return rows as a pandas data frame with the given columns. If a row lacks a field, the value is missing.

    Example:
        >>> data_frame([{"a": 1}, {"a": 2, "b": 0.5}], ("a", "b")).shape
        (2, 2)
    """
    import pandas

    return pandas.DataFrame([dict(row) for row in rows], columns=list(fields))


def _written(text: str, path: str | os.PathLike[str] | None) -> str:
    """Write a text to `path`, if a path is given, and return the text."""
    if path is not None:
        write_text(path, text)
    return text
