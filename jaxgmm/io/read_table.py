"""Data from a file: csv and its kin, npy, npz, as numbers (N, D) with the names of the columns, or a sentence why not."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

_GAPS = {"", "na", "n/a", "nan", "null", "none", "nil", "-", "?", "."}
_FORMATS = "a csv file (with or without a header), npy or npz was expected"


def read_table(path: Any, *, columns: Sequence[str] | None = None, array: str | None = None) -> tuple[np.ndarray, list[str]]:
    """The numbers in a file, and what the columns are called.

    Args:
        path: a csv, tsv or other text file of rows of numbers, whose first row may be a header; an npy file (N, D) or (N,);
            an npz file of one such array, or with `array`. Anything else is read as text.
        columns: names, or numbers from 0, of the columns to keep, in the order wanted; the others may hold anything.
        array: the array of an npz file.

    Returns:
        x (N, D) float64, finite; D names: the header's, else "column 0", ...

    Raises:
        ValueError: no such file, or empty, ragged, not numeric, with gaps; a column or array that is not there.

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder) / "points.csv"
        ...     _ = path.write_text("height,weight\\n1.8,80\\n1.7,70\\n")
        ...     read_table(path, columns=["weight"])
        (array([[80.],
               [70.]]), ['weight'])
    """
    path = Path(path)
    if not path.exists():
        raise ValueError(f"there is no file '{path}'; {_FORMATS}.")
    if not path.is_file():
        raise ValueError(f"'{path}' is not a file; {_FORMATS}.")
    if path.stat().st_size == 0:
        raise ValueError(f"'{path}' is empty; {_FORMATS}.")
    if path.suffix in (".npy", ".npz"):
        return _from_array(_load(path, array), path, columns)
    if array is not None:
        raise ValueError(f"'{path}' has no arrays to choose from by name: that is for npz files.")
    rows, lines, names = _split(path)
    return _from_text(rows, lines, names, path, columns)


def _load(path: Path, name: str | None) -> np.ndarray:
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            if name is not None:
                raise ValueError(f"'{path}' holds one array without a name; a name is for npz files.")
            return loaded
        with loaded:
            if name is None and len(loaded.files) != 1:
                held = ", ".join(f"{n} {loaded[n].shape}" for n in loaded.files) or "no array"
                raise ValueError(f"'{path}' holds {held}; one array was expected: say which with --array NAME.")
            if name is not None and name not in loaded.files:
                raise ValueError(f"'{path}' has no array '{name}'; it holds {', '.join(loaded.files)}.")
            return loaded[name or loaded.files[0]]
    except (OSError, EOFError, ValueError) as error:
        if str(error).startswith("'"):
            raise
        what = (
            "Python objects"
            if "pickle" in str(error).lower() and "Object arrays" in str(error)
            else "nothing that NumPy can read"
        )
        raise ValueError(
            f"'{path}' holds {what}; an array of numbers was expected, written by numpy.save or numpy.savez."
        ) from error


def _from_array(values: np.ndarray, path: Path, columns: Sequence[str] | None) -> tuple[np.ndarray, list[str]]:
    if values.dtype.kind not in "fiu":
        raise ValueError(f"'{path}' holds {values.dtype} values; real numbers were expected.")
    x = values[:, None] if values.ndim == 1 else values
    if x.ndim != 2 or 0 in x.shape:
        raise ValueError(f"'{path}' holds an array of shape {values.shape}; (N, D) or (N,) with rows and columns was expected.")
    keep, names = choose_columns(columns, [f"column {i}" for i in range(x.shape[1])], path)
    x = np.asarray(x[:, keep], float)
    if not np.isfinite(x).all():
        row, column = np.argwhere(~np.isfinite(x))[0]
        raise ValueError(_gap_sentence(path, int((~np.isfinite(x)).any(1).sum()), f"row {row}", names[column]))
    return x, names


def _split(path: Path) -> tuple[list[list[str]], list[int], list[str] | None]:
    """Fields of each row that is not blank, the rows' line numbers, and the header's names."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise ValueError(f"'{path}' is not text; {_FORMATS}.")
    source = text.splitlines()
    first = next((line for line in source if line.strip()), "")
    if not first:
        raise ValueError(f"'{path}' is empty; {_FORMATS}.")
    unquoted = re.sub('"[^"]*"', "", first)
    delimiter = next((d for d in ",;\t" if d in unquoted), None)
    if delimiter is None:
        rows = [(line.split(), i) for i, line in enumerate(source, 1)]
    else:
        reader = csv.reader(source, delimiter=delimiter, skipinitialspace=True)
        rows = [([field.strip() for field in row], reader.line_num) for row in reader]
    rows = [(row, i) for row, i in rows if any(row)]
    names = None
    if not any(_is_number(field) for field in rows[0][0]):
        names = [name or f"column {i}" for i, name in enumerate(rows[0][0])]
        rows = rows[1:]
        if len(set(names)) < len(names):
            raise ValueError(f"'{path}' has two columns of the same name in its header; different names were expected.")
    if not rows:
        raise ValueError(f"'{path}' has a header and no rows; at least one row of numbers was expected.")
    return [row for row, _ in rows], [i for _, i in rows], names


def _from_text(
    rows: list[list[str]], lines: list[int], names: list[str] | None, path: Path, columns: Sequence[str] | None
) -> tuple[np.ndarray, list[str]]:
    width = len(names or rows[0])
    for row, line in zip(rows, lines, strict=True):
        if len(row) != width:
            raise ValueError(
                f"'{path}' is ragged: line {line} has {len(row)} values where {width} were expected, as in its first line."
            )
    keep, chosen = choose_columns(columns, names or [f"column {i}" for i in range(width)], path)
    try:
        x = np.array([[float(row[i]) for i in keep] for row in rows])
    except ValueError:
        x = np.array([[_number(row[i]) for i in keep] for row in rows])
        _refuse_words(rows, lines, keep, chosen, path)
    if not np.isfinite(x).all():
        row, column = np.argwhere(~np.isfinite(x))[0]
        raise ValueError(_gap_sentence(path, int((~np.isfinite(x)).any(1).sum()), f"line {lines[row]}", chosen[column]))
    return x, chosen


def _refuse_words(rows: list[list[str]], lines: list[int], keep: list[int], names: list[str], path: Path) -> None:
    for i, name in zip(keep, names, strict=True):
        for row, line in zip(rows, lines, strict=True):
            if not _is_number(row[i]) and row[i].lower() not in _GAPS:
                raise ValueError(
                    f"'{path}' is not numeric: {name} holds '{row[i][:30]}' in line {line}; numbers were expected: "
                    "leave the column out with --columns, which names those to keep."
                )


def _gap_sentence(path: Path, rows: int, where: str, column: str) -> str:
    return (
        f"'{path}' has gaps (missing or infinite values) in {rows} row{'s' * (rows > 1)}, the first in {where}, {column}; "
        "finite numbers were expected: drop or fill such rows, or leave the column out with --columns."
    )


def choose_columns(columns: Sequence[str] | None, names: list[str], path: Path) -> tuple[list[int], list[str]]:
    """Positions and names of the columns asked for, by name or number from 0; all of them for None."""
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
                f"'{path}' has no column '{column}'; names or numbers from 0 were expected, of: {', '.join(names)}."
            )
    if not keep or len(set(keep)) < len(keep):
        raise ValueError("columns are named twice, or none is; different columns were expected.")
    return keep, [names[i] for i in keep]


def _is_number(field: str) -> bool:
    return math.isfinite(_number(field))


def _number(field: str) -> float:
    try:
        return float(field)
    except ValueError:
        return math.nan
