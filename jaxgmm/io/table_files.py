"""Read a whole table from a text, parquet or Excel file; other modules choose and check its columns."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from .delimiters import SAMPLE, find_delimiter, has_names, split
from .number_formats import as_text, find_decimal, is_number
from .text import Lines, read_text, split_lines

if TYPE_CHECKING:
    import pandas

# maps the suffix of a file to the reader of pandas and to the package that this reader needs
READERS = {
    ".parquet": ("read_parquet", "pyarrow"),
    ".feather": ("read_feather", "pyarrow"),
    ".xlsx": ("read_excel", "openpyxl"),
    ".xls": ("read_excel", "xlrd"),
    ".ods": ("read_excel", "odfpy"),
}


class Table(NamedTuple):
    """A table before its columns are chosen.

    Attributes:
        frame: the columns of the table, each with numbers or with text.
        names: the names of the columns.
        has_name: for each column, whether its name comes from the file.
        places: the place of each row in the file, such as a line number.
        remarks: texts that tell the user how the file was read; later steps add more texts.
        decimals: the possible decimal signs of text; the most likely sign comes first.
        knows_decimal: whether it is known that the first of `decimals` is the decimal sign of the file.
        text: the lines of the rows and their delimiter, if the table was read from text.
    """

    frame: pandas.DataFrame
    names: list[str]
    has_name: list[bool]
    places: list[str]
    remarks: list[str]
    decimals: str = ".,"
    knows_decimal: bool = True
    text: tuple[list[str], str] | None = None

    def cells(self) -> Iterator[Sequence[object]]:
        """Yield the cells of each row.

        If the table was read from text, the cells are strings, as they were written. In all other tables, a missing value
        becomes None.
        """
        if self.text is not None:
            yield from split(*self.text)
            return
        columns = [column.astype(object).where(column.notna(), None) for _, column in self.frame.items()]
        yield from zip(*columns, strict=True)


def _table(path: Path, frame: pandas.DataFrame, header: Sequence[str], places: list[str], remarks: list[str]) -> Table:
    """Return a table; its columns have the names in the header, or numbered names where the header has no name."""
    names = [name or f"column {i}" for i, name in enumerate(header)]
    if len(set(names)) < len(names):
        raise ValueError(f"'{path}' has two columns with the same name in its header; distinct names were expected.")
    if not len(frame):
        raise ValueError(f"'{path}' has a header and no rows; at least one row of numbers was expected.")
    return Table(frame, names, [bool(name) for name in header], places, remarks)


def read_with_pandas(path: Path) -> Table:
    """Return the table in a file that one of the pandas `READERS` can read."""
    import pandas

    reader, package = READERS[path.suffix]
    is_sheet = reader == "read_excel"
    try:
        frame = getattr(pandas, reader)(path, **({"header": None, "dtype": object} if is_sheet else {}))
    except ImportError as error:
        raise ValueError(f"'{path}' needs the package {package}; install it, as in pip install {package}.") from error
    except Exception as error:  # each engine of pandas raises its own errors
        reason = (str(error).splitlines() or [""])[0].rstrip(".")
        raise ValueError(f"'{path}' is not a {path.suffix[1:]} file, or is damaged: {reason}.") from error
    header, remark, rows_read = [str(name) for name in frame.columns], None, range(len(frame))
    if is_sheet:
        frame = frame.dropna(how="all").dropna(how="all", axis=1)
        rows = [as_text(row) for _, row in frame.head(SAMPLE).iterrows()]
        if not rows:
            raise ValueError(f"'{path}' is empty; a table of numbers was expected.")
        has_header, remark = has_names(rows)
        header = rows[0] if has_header else [""] * frame.shape[1]
        frame = frame.iloc[int(has_header) :].infer_objects()
        rows_read = [i + 1 for i in frame.index]  # rows of spreadsheets are numbered from 1
    return _table(path, frame, header, [f"row {i}" for i in rows_read], [remark] if remark else [])


class _Header(NamedTuple):
    """The names of the columns ("" if a name is missing), whether the names are in the first row, and a remark about them."""

    names: list[str]
    is_first_row: bool
    remark: str | None = None


def read_text_table(path: Path, delimiter: str | None, decimal: str | None) -> Table:
    """Return the table in a text file; find its delimiter and its decimal sign unless they are given."""
    text = split_lines(read_text(path))
    if not text.lines:
        raise ValueError(f"'{path}' is empty; a table of numbers was expected.")
    remark = None
    try:
        if delimiter is None:
            delimiter, remark = (text.delimiter, None) if text.delimiter else find_delimiter(text.lines, decimal)
        widths, ends = _widths(path, text, delimiter)
        rows = list(split(text.lines[:SAMPLE], delimiter))[: len(widths)]
    except csv.Error as error:
        raise ValueError(f"'{path}' is not a table of numbers: it has a {error}; check its quotation marks.") from error
    header = _find_header(rows, widths, next(split([text.comment], delimiter), []))
    width = len(header.names)
    ragged = [i for i, found in enumerate(widths) if found != width and not (i == 0 and header.is_first_row)]
    if ragged:
        line, found = text.numbers[ends[ragged[0]]], widths[ragged[0]]
        raise ValueError(f"'{path}' is ragged: line {line} has {found} values where {width} were expected, as in most lines.")
    first = ends[0] + 1 if header.is_first_row else 0
    frame, found = _parse(path, text.lines[first:], delimiter, width, decimal)
    remarks = [f"has comments between its rows ({text.inner_comments}), which are left out"] if text.inner_comments else []
    remarks += [given for given in (remark, header.remark) if given]
    places = [f"line {text.numbers[end]}" for end in ends[header.is_first_row :]]
    likely = found or ("," if delimiter == ";" else ".")
    decimals = decimal or likely + ".,".replace(likely, "")
    table = _table(path, frame, header.names, places, remarks)
    return table._replace(decimals=decimals, knows_decimal=found is not None, text=(text.lines[first:], delimiter))


def _widths(path: Path, text: Lines, delimiter: str) -> tuple[list[int], list[int]]:
    """Return the number of fields and the position of the last line of each row; raise ValueError if a quote is not closed."""
    if not any('"' in line for line in text.lines):
        numbers = [len(line.split()) if delimiter == " " else line.count(delimiter) + 1 for line in text.lines]
        return numbers, list(range(len(numbers)))
    read, widths, ends = -1, [], []

    def lines() -> Iterator[str]:
        nonlocal read
        for read, line in enumerate(text.lines):  # noqa: B007
            yield line

    for row in split(lines(), delimiter):
        widths.append(len(row))
        ends.append(read)
    if sum(line.count('"') for line in text.lines) % 2 and ends[-1] > (ends[-2] + 1 if len(ends) > 1 else 0):
        start = text.numbers[ends[-2] + 1 if len(ends) > 1 else 0]
        raise ValueError(f"'{path}' has a quotation mark without a partner in line {start}; delete it or add the other.")
    return widths, ends


def _find_header(rows: list[list[str]], widths: list[int], comment: list[str]) -> _Header:
    """Return the names of the columns.

    The names are in the first row, or in a comment above the first row. The first row may have one field fewer than the other
    rows, because R's `write.table` writes no heading for the column of row names.

    Args:
        rows: the first rows.
        widths: the number of fields of all rows.
        comment: the fields of the comment above the first row.
    """
    has_numbers = any(map(is_number, rows[0]))
    width = Counter(widths if has_numbers else widths[1:] or widths).most_common(1)[0][0]
    body = [row for row in rows[1:] if len(row) == width]
    if widths[0] == width - 1 and not has_numbers and body and any(map(is_number, body[0])):
        if not any(row[-1] for row in body):  # all lines but the first end with a delimiter
            return _Header([*rows[0], ""], True)
        labels = [row[0] for row in body]
        if len(set(labels)) == len(labels) and (not all(map(is_number, labels)) or labels == _count_from(labels)):
            return _Header(["row names", *rows[0]], True)
    if widths[0] == width:
        is_header, remark = has_names(rows)
        if is_header:
            return _Header(rows[0], True)._replace(remark=remark)
        if len(comment) == width > 1 and not any(map(is_number, comment)):
            return _Header(comment, False)
        return _Header([""] * width, False, remark)
    return _Header([""] * width, False)


def _count_from(labels: list[str]) -> list[str]:
    """Return consecutive numbers, one for each label, of which the first is the number that the first label holds.

    If the first label is not a number, return [].
    """
    return [str(i + int(labels[0])) for i in range(len(labels))] if labels[0].isdecimal() else []


def _parse(
    path: Path, lines: list[str], delimiter: str, width: int, decimal: str | None
) -> tuple[pandas.DataFrame, str | None]:
    """Return the fields of all rows as a data frame, and the decimal sign if the text determines it, else None."""
    import pandas

    options: dict[str, Any] = {"sep": r"\s+" if delimiter == " " else delimiter, "skipinitialspace": True}
    options |= {"header": None, "names": range(width), "na_filter": False, "skip_blank_lines": False}
    if int(pandas.__version__.partition(".")[0]) < 3:
        options["float_precision"] = "round_trip"  # later versions of pandas always use this precision

    def parse(**further: Any) -> pandas.DataFrame:
        if not lines:
            return pandas.DataFrame(columns=range(width))
        return pandas.read_csv(io.StringIO("\n".join(lines)), **options, **further)

    try:
        frame = parse(low_memory=False) if decimal != "," else parse(dtype=str)
        if decimal is not None:
            return frame, decimal
        if not any(
            "," in value for _, column in frame.items() if column.dtype.kind not in "biuf" for value in map(str, column)
        ):
            return frame, "."
        frame = parse(dtype=str)  # read as text: if the decimal sign is a comma, 1.234 may mean 1234
    except pandas.errors.ParserError as error:
        reason = str(error).removeprefix("Error tokenizing data. C error: ").rstrip(".")
        raise ValueError(f"'{path}' is not a table of numbers: {reason}; check its quotation marks.") from error
    for rows in (frame.head(SAMPLE), frame):
        found = find_decimal([column.tolist() for _, column in rows.items()])
        if found is not None:
            return frame, found
    return frame, None
