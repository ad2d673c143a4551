"""Read a table of numbers from a text file such as csv, a NumPy file (npy or npz), a parquet file or an Excel file."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np

from ..calls import public
from ..validation import warn_at_caller
from .array_files import load_array
from .column_choice import choose_columns, identifies_rows
from .number_formats import Numbers, as_numbers, as_text
from .table_files import READERS, Table, read_text_table, read_with_pandas
from .text import STDIN

if TYPE_CHECKING:
    import pandas

Columns: TypeAlias = Sequence[str | int] | str | None
ColumnChooser: TypeAlias = Callable[[list[str]], Sequence[str] | None]
_EXPECTED = "a csv file (with or without a header), npy, npz, parquet or xlsx was expected"


class WholeTable(NamedTuple):
    """All columns of a table, also those that hold no measurements.

    Attributes:
        names: the names of all columns.
        cells: a function that returns the cells of each row. The cells of a text file are strings, as they were written.
    """

    names: list[str]
    cells: Callable[[], Iterable[Sequence[object]]]


@public
def read_table(
    path: str | os.PathLike[str],
    *,
    columns: Sequence[str | int] | str | None = None,
    drop: Sequence[str | int] | str | None = None,
    array: str | None = None,
    delimiter: str | None = None,
    decimal: str | None = None,
) -> tuple[np.ndarray, list[str]]:
    r"""Read the numbers in a file and the names of their columns.

    The suffix determines the format of a file: npy, npz, parquet, feather, xlsx, xls or ods. Every other file is read as text,
    which may be compressed by gzip, bzip2 or xz. The function finds the delimiter of the text (comma, semicolon, tab, | or
    white space), its decimal sign and its encoding. In all formats except npy and npz, columns without numbers and columns that
    count or identify the rows are left out with a warning, unless `columns` names them.

    Args:
        path: the file; "-" reads text from stdin.
        columns: the columns to return, in this order: names, numbers from 0, or ranges such as "1-3" or "height-weight", as a
            list or as one text with commas. The contents of other columns are ignored. None returns all columns with
            measurements.
        drop: the columns to leave out, in the same form as `columns`.
        array: the name of the array in an npz file; None if the file holds only one.
        delimiter: the delimiter of the text; if it is None, the function finds it.
        decimal: the decimal sign of the text, "." or ","; if it is None, the function finds it.

    Returns:
        A finite float64 array (N, D), and the D names of its columns. The names come from the header. Without a header, they
        are "column 0", "column 1", ...

    Raises:
        ValueError: the file does not exist, is empty, has rows of different lengths, or has values that are missing or not
            numeric; a requested column or array does not exist; or a package that the format needs is not installed.

    Warns:
        RuntimeWarning: a column was left out, or the text can be read in two ways.

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder) / "points.csv"
        ...     _ = path.write_text("height;weight\n1,8;80\n1,7;70\n")
        ...     read_table(path)
        (array([[ 1.8, 80. ],
               [ 1.7, 70. ]]), ['height', 'weight'])
    """
    x, names, _ = read_whole_table(path, columns=columns, drop=drop, array=array, delimiter=delimiter, decimal=decimal)
    return x, names


def read_whole_table(
    path: str | os.PathLike[str],
    *,
    columns: Columns | ColumnChooser = None,
    drop: Sequence[str | int] | str | None = None,
    array: str | None = None,
    delimiter: str | None = None,
    decimal: str | None = None,
    keep_missing: bool = False,
) -> tuple[np.ndarray, list[str], WholeTable]:
    """Return the numbers and the names that `read_table` returns, and the whole table.

    The options are those of `read_table`. `columns` may also be a function. It gets the names of all columns, and
    returns the names of the chosen columns or None. If `keep_missing` is True, missing values are NaN and cause no error.
    """
    path = Path(path)
    if str(path) != STDIN:
        _check_file(path)
    if decimal not in (None, ".", ","):
        raise ValueError(f"decimal is {decimal!r}; '.' or ',' was expected.")
    if path.suffix in (".npy", ".npz"):
        return _table_of_array(load_array(path, array), path, columns, drop, keep_missing)
    if array is not None:
        raise ValueError(f"'{path}' is a table, which has no named arrays; leave --array out.")
    table = read_with_pandas(path) if path.suffix in READERS else read_text_table(path, delimiter, decimal)
    x, names = _measurements(table, path, _chosen(columns, table.names), drop)
    for remark in table.remarks:
        warn_at_caller(f"'{path}' {remark}.")
    _check_finite(np.nan_to_num(x, posinf=np.inf, neginf=-np.inf) if keep_missing else x, names, table.places, path)
    return x, names, WholeTable(table.names, table.cells)


def _chosen(columns: Columns | ColumnChooser, names: list[str]) -> Columns:
    """Return the requested columns. If `columns` is a function, call it with the names of all columns to get them."""
    return columns(names) if callable(columns) else columns


def _check_file(path: Path) -> None:
    """Raise ValueError if there is no file at a path, or if the file is empty."""
    if not path.exists():
        raise ValueError(f"there is no file '{path}'; {_EXPECTED}.")
    if not path.is_file():
        raise ValueError(f"'{path}' is not a file; {_EXPECTED}.")
    if path.stat().st_size == 0:
        raise ValueError(f"'{path}' is empty; {_EXPECTED}.")


def _table_of_array(
    values: np.ndarray, path: Path, columns: Columns | ColumnChooser, drop: Columns, keep_missing: bool
) -> tuple[np.ndarray, list[str], WholeTable]:
    """Return the requested columns of an array as float64, their names, and the whole array as a table."""
    if values.dtype.kind not in "fiu":
        raise ValueError(f"'{path}' holds {values.dtype} values; real numbers were expected.")
    x = values[:, None] if values.ndim == 1 else values
    if x.ndim != 2 or 0 in x.shape:
        raise ValueError(f"'{path}' holds an array of shape {values.shape}; (N, D) or (N,) with rows and columns was expected.")
    whole = WholeTable([f"column {i}" for i in range(x.shape[1])], x.tolist)
    keep, names = choose_columns(_chosen(columns, whole.names), whole.names, path, drop=drop)
    x = np.asarray(x[:, keep], float)
    checked = np.nan_to_num(x, posinf=np.inf, neginf=-np.inf) if keep_missing else x
    _check_finite(checked, names, [f"row {i}" for i in range(len(x))], path)
    return x, names, whole


def _measurements(table: Table, path: Path, columns: Columns, drop: Columns) -> tuple[np.ndarray, list[str]]:
    """Return the numbers in the requested columns, or in all columns with measurements, and the names of these columns."""
    positions, _ = choose_columns(columns, table.names, path, drop=drop)
    found = {i: _numbers(table, i) for i in positions}
    if columns is None:
        positions = _with_measurements(table, found, path)
    for i in positions:
        _check_numeric(table, i, found[i], path)
        if found[i].percent:
            table.remarks.append(f"has percent signs in {table.names[i]}, which are dropped: 12% is read as 12")
        if found[i].is_ambiguous:
            table.remarks.append(
                f"has numbers in {table.names[i]} that may have decimal commas or thousands; '{table.decimals[0]}' is taken as "
                f"the decimal sign: if this is wrong, give decimal='{table.decimals[1]}' (--decimal {table.decimals[1]})"
            )
    return np.stack([found[i].values for i in positions], 1), [table.names[i] for i in positions]


def _numbers(table: Table, i: int) -> Numbers:
    """Return the numbers in one column of a table."""
    column = table.frame.iloc[:, i]
    if column.dtype.kind in "biuf":
        return Numbers(column.to_numpy(float, na_value=np.nan), np.array([], int))
    return as_numbers(as_text(column), table.decimals, knows_decimal=table.knows_decimal)


def _with_measurements(table: Table, found: dict[int, Numbers], path: Path) -> list[int]:
    """Return the columns with measurements, and add a remark about the others; raise ValueError if no column has numbers."""
    left: dict[int, str] = {}
    for i, (values, wrong, *_) in found.items():
        column, name = table.frame.iloc[:, i], table.names[i]
        if column.dtype.kind == "b" or not np.isfinite(values).any():
            example = column.iloc[wrong[0] if len(wrong) else 0]
            left[i] = f"{name} (without numbers, as in {str(example)[:30]!r})" if str(example) else f"{name} (empty)"
        elif not len(wrong) and identifies_rows(values, name, table.has_name[i], _in_digits(column)):
            left[i] = f"{name} (it counts or identifies the rows)"
    keep = [i for i in found if i not in left]
    if not keep:  # if all columns seem to count or identify rows, none of them is left out
        keep = [i for i in found if table.frame.iloc[:, i].dtype.kind != "b" and np.isfinite(found[i].values).any()]
        left = {i: text for i, text in left.items() if i not in keep}
    if not keep:
        raise ValueError(f"'{path}' is not numeric: it has no column of numbers, only {', '.join(left.values())}.")
    # an empty column without a name is due to delimiters at the end of lines, and is not reported
    shown = [text for i, text in left.items() if table.has_name[i] or not text.endswith("(empty)")]
    if shown:
        names = ", ".join(shown)
        table.remarks.append(
            f"has columns that are left out: {names}; to keep one with numbers, name it in columns= (in the command: --columns)"
        )
    return keep


def _in_digits(column: pandas.Series) -> bool:
    """Return whether the numbers in a column of a data frame were written without a decimal sign."""
    return column.dtype.kind in "iu" or (column.dtype.kind == "O" and all(str(value).strip().isdecimal() for value in column))


def _check_numeric(table: Table, i: int, numbers: Numbers, path: Path) -> None:
    """Raise ValueError if a field of a column is neither a number nor a word for a missing value."""
    if len(numbers.wrong):
        row = numbers.wrong[0]
        raise ValueError(
            f"'{path}' is not numeric: {table.names[i]} holds '{str(table.frame.iloc[row, i])[:30]}' in {table.places[row]}; "
            "numbers were expected: correct it, or leave the column out with --drop."
        )


def _check_finite(x: np.ndarray, names: list[str], places: list[str], path: Path) -> None:
    """Raise ValueError if a value is missing or infinite; `places` holds the place of each row in the file."""
    finite = np.isfinite(x)
    if finite.all():
        return
    row, column = np.argwhere(~finite)[0]
    count = int((~finite).any(1).sum())
    raise ValueError(
        f"'{path}' has gaps (missing or infinite values) in {count} row{'s' * (count > 1)}, the first in {places[row]}, "
        f"{names[column]}; finite numbers were expected: drop or fill such rows, or leave the column out with --drop."
    )
