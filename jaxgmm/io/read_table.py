"""Read a table of numbers from a text file, such as csv, or from a file of NumPy arrays (npy or npz)."""

from __future__ import annotations

import csv
import math
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

_MISSING = {"", "na", "n/a", "nan", "null", "none", "nil", "-", "?", "."}
_EXPECTED = "a csv file (with or without a header), npy or npz was expected"


def read_table(
    path: str | os.PathLike[str], *, columns: Sequence[str] | None = None, array: str | None = None
) -> tuple[np.ndarray, list[str]]:
    r"""Read the numbers in a file and the names of their columns.

    Args:
        path: an npy file with an array (N, D) or (N,), an npz file with such arrays, or a text file. A file is read as text
            unless its suffix is .npy or .npz. Text consists of rows of numbers, as in csv or tsv; the first row may be a
            header.
        columns: the columns to return, in this order, by name or by number from 0. The contents of other columns are ignored.
            None returns all columns.
        array: the name of the array in an npz file; None if the file holds only one.

    Returns:
        x, a finite float64 array (N, D), and D column names.
        The names come from the header. Without a header they are "column 0", "column 1", ...

    Raises:
        ValueError: the file does not exist, is empty, has rows of different lengths, or has values that are missing or not
            numeric; or a requested column or array does not exist.

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder) / "points.csv"
        ...     _ = path.write_text("height,weight\n1.8,80\n1.7,70\n")
        ...     read_table(path, columns=["weight"])
        (array([[80.],
               [70.]]), ['weight'])
    """
    path = Path(path)
    if not path.exists():
        raise ValueError(f"there is no file '{path}'; {_EXPECTED}.")
    if not path.is_file():
        raise ValueError(f"'{path}' is not a file; {_EXPECTED}.")
    if path.stat().st_size == 0:
        raise ValueError(f"'{path}' is empty; {_EXPECTED}.")
    if path.suffix in (".npy", ".npz"):
        return _table_of_array(_load_array(path, array), path, columns)
    if array is not None:
        raise ValueError(f"'{path}' is a text file, which has no named arrays; leave --array out.")
    return _table_of_text(_split_text(path), path, columns)


def choose_columns(
    columns: Sequence[str] | None, names: list[str], path: str | os.PathLike[str]
) -> tuple[list[int], list[str]]:
    """Return the positions and names of the requested columns; a request is a name or a number from 0.

    Example:
        >>> choose_columns(["2", "height"], ["height", "weight", "age"], "points.csv")
        ([2, 0], ['age', 'height'])
    """
    if columns is None:
        return list(range(len(names))), names
    keep = []
    for column in columns:
        if column in names:
            keep.append(names.index(column))
        elif column.isdecimal() and int(column) < len(names):
            keep.append(int(column))
        else:
            raise ValueError(
                f"'{path}' has no column '{column}'; its columns, by name or by number from 0, are: {', '.join(names)}."
            )
    if not keep:
        raise ValueError("columns is empty; at least one column was expected.")
    if len(set(keep)) < len(keep):
        raise ValueError("a column is named twice; distinct columns were expected.")
    return keep, [names[i] for i in keep]


class _Rows(NamedTuple):
    """The rows of a text file without its blank lines: their fields, their line numbers, and the header's names or None."""

    fields: list[list[str]]
    lines: list[int]
    names: list[str] | None


@contextmanager
def _numpy_errors(path: Path) -> Iterator[None]:
    """Convert NumPy's errors about a file to a ValueError with a message of one sentence."""
    try:
        yield
    except (OSError, EOFError, ValueError) as error:
        content = "Python objects" if "Object arrays" in str(error) else "nothing that NumPy can read"
        raise ValueError(
            f"'{path}' holds {content}; an array of numbers was expected, written by numpy.save or numpy.savez."
        ) from error


def _load_array(path: Path, name: str | None) -> np.ndarray:
    """Return the array of an npy file, or one array of an npz file."""
    with _numpy_errors(path):
        loaded = np.load(path, allow_pickle=False)
    if isinstance(loaded, np.ndarray):
        if name is not None:
            raise ValueError(f"'{path}' holds one array without a name; a name can be given for npz files only.")
        return loaded
    with loaded:
        if name is None and len(loaded.files) != 1:
            with _numpy_errors(path):
                held = ", ".join(f"{key} {loaded[key].shape}" for key in loaded.files) or "no array"
            raise ValueError(f"'{path}' holds {held}; one array was expected: say which with --array NAME.")
        if name is not None and name not in loaded.files:
            raise ValueError(f"'{path}' has no array '{name}'; it holds {', '.join(loaded.files)}.")
        with _numpy_errors(path):
            return loaded[name or loaded.files[0]]


def _table_of_array(values: np.ndarray, path: Path, columns: Sequence[str] | None) -> tuple[np.ndarray, list[str]]:
    """Return the requested columns of an array as float64, and their names."""
    if values.dtype.kind not in "fiu":
        raise ValueError(f"'{path}' holds {values.dtype} values; real numbers were expected.")
    x = values[:, None] if values.ndim == 1 else values
    if x.ndim != 2 or 0 in x.shape:
        raise ValueError(f"'{path}' holds an array of shape {values.shape}; (N, D) or (N,) with rows and columns was expected.")
    keep, names = choose_columns(columns, [f"column {i}" for i in range(x.shape[1])], path)
    x = np.asarray(x[:, keep], float)
    _check_finite(x, names, [f"row {i}" for i in range(len(x))], path)
    return x, names


def _split_text(path: Path) -> _Rows:
    """Split a text file into rows and fields; the first row is a header if none of its fields is a number."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise ValueError(f"'{path}' is not text; {_EXPECTED}.")
    source = text.splitlines()
    first = next((line for line in source if line.strip()), "")
    if not first:
        raise ValueError(f"'{path}' is empty; {_EXPECTED}.")
    unquoted = re.sub('"[^"]*"', "", first)
    delimiter = next((d for d in ",;\t" if d in unquoted), None)
    if delimiter is None:
        rows = [(line.split(), i) for i, line in enumerate(source, 1)]
    else:
        reader = csv.reader(source, delimiter=delimiter, skipinitialspace=True)
        rows = [([field.strip() for field in row], reader.line_num) for row in reader]
    rows = [(row, i) for row, i in rows if any(row)]
    names = None
    if not any(math.isfinite(_number(field)) for field in rows[0][0]):
        names = [name or f"column {i}" for i, name in enumerate(rows[0][0])]
        rows = rows[1:]
        if len(set(names)) < len(names):
            raise ValueError(f"'{path}' has two columns with the same name in its header; distinct names were expected.")
    if not rows:
        raise ValueError(f"'{path}' has a header and no rows; at least one row of numbers was expected.")
    return _Rows([row for row, _ in rows], [i for _, i in rows], names)


def _table_of_text(rows: _Rows, path: Path, columns: Sequence[str] | None) -> tuple[np.ndarray, list[str]]:
    """Return the requested columns of a text file as float64, and their names."""
    width = len(rows.names or rows.fields[0])
    for row, line in zip(rows.fields, rows.lines, strict=True):
        if len(row) != width:
            raise ValueError(
                f"'{path}' is ragged: line {line} has {len(row)} values where {width} were expected, as in its first line."
            )
    keep, names = choose_columns(columns, rows.names or [f"column {i}" for i in range(width)], path)
    try:
        x = np.array([[float(row[i]) for i in keep] for row in rows.fields])
    except ValueError:
        _check_numeric(rows, keep, names, path)
        x = np.array([[_number(row[i]) for i in keep] for row in rows.fields])
    _check_finite(x, names, [f"line {line}" for line in rows.lines], path)
    return x, names


def _check_numeric(rows: _Rows, keep: list[int], names: list[str], path: Path) -> None:
    """Raise ValueError if a field is neither a finite number nor a word for a missing value. Name the first such field."""
    for i, name in zip(keep, names, strict=True):
        for row, line in zip(rows.fields, rows.lines, strict=True):
            if not math.isfinite(_number(row[i])) and row[i].lower() not in _MISSING:
                raise ValueError(
                    f"'{path}' is not numeric: {name} holds '{row[i][:30]}' in line {line}; numbers were expected: leave this "
                    "column out by naming the others with --columns."
                )


def _check_finite(x: np.ndarray, names: list[str], places: list[str], path: Path) -> None:
    """Raise ValueError if a value is missing or infinite; `places` says where each row is in the file."""
    finite = np.isfinite(x)
    if finite.all():
        return
    row, column = np.argwhere(~finite)[0]
    count = int((~finite).any(1).sum())
    raise ValueError(
        f"'{path}' has gaps (missing or infinite values) in {count} row{'s' * (count > 1)}, the first in {places[row]}, "
        f"{names[column]}; finite numbers were expected: drop or fill such rows, or leave the column out with --columns."
    )


def _number(field: str) -> float:
    """Return the number in a field, or NaN if the field does not hold a number."""
    try:
        return float(field)
    except ValueError:
        return math.nan
