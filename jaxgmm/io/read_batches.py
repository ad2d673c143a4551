"""`read_batches` reads rows in batches from files that do not fit into memory, or from anything that can be sliced."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..calls import public
from ..real_numbers import as_numpy
from ..validation import check_count
from .column_choice import choose_columns
from .delimiters import SAMPLE, find_delimiter, has_names, split

_ARROW = (".parquet", ".feather", ".arrow")
_EXPECTED = "an npy, csv, parquet or feather file, a folder of parquet files, or an object that can be sliced was expected"


@public
def read_batches(
    source: Any,
    rows: int,
    columns: Sequence[str | int] | str | None = None,
    *,
    drop: Sequence[str | int] | str | None = None,
    delimiter: str | None = None,
) -> RowBatches:
    """Return the rows of a file in batches, for `fit_batches` and `initialize_batches`. The file is read at each pass.

    Args:
        source: the name of an npy file, of a csv file (text with any delimiter), of a parquet or feather file, or of a folder
            of parquet files; a list of such names; a data set or a table of pyarrow; or an array that can be sliced, such as
            those of h5py and zarr. npy files are mapped into memory one batch at a time. Parquet and feather need pyarrow.
        rows: the number of rows of a batch. The last batch of each file may be shorter.
        columns: the columns to read, as in `read_table`; None reads all columns. The columns of an array are numbered from 0.
        drop: columns to leave out, in the same form.
        delimiter: the delimiter of text files, which is one character; if it is None, it is found from the text.

    Returns:
        An object whose batches can be iterated over any number of times. Its attribute `names` holds the names of the columns.

    Raises:
        ValueError: a file does not exist, cannot be read or is truncated, its columns differ from those of the first file, or
            pyarrow is not installed. While the batches are read: a value of a text file is not a number.
        TypeError: the source is of another type.

    Example:
        >>> import jaxgmm, numpy as np
        >>> [batch.shape for batch in jaxgmm.read_batches(np.zeros((5, 2)), 3)]
        [(3, 2), (2, 2)]
    """
    check_count(rows, "rows")
    parts = source if isinstance(source, list | tuple) else [source]
    if not parts:
        raise ValueError(f"source is empty; {_EXPECTED}.")
    if delimiter is not None and (not isinstance(delimiter, str) or len(delimiter) != 1):
        raise ValueError(f"delimiter is {delimiter!r}; one character was expected, or None.")
    readers = [_reader(part, delimiter) for part in parts]
    for reader in readers[1:]:
        if len(reader.names) != len(readers[0].names) or (reader.has_names and reader.names != readers[0].names):
            raise ValueError(
                f"{reader.label} has the columns {', '.join(reader.names)}, and {readers[0].label} "
                f"{', '.join(readers[0].names)}; files with the same columns were expected."
            )
    keep, names = choose_columns(columns, readers[0].names, readers[0].label.strip("'"), drop=drop)
    return RowBatches(readers, rows, keep, names)


class RowBatches:
    """The rows of files or arrays in batches, which can be iterated over any number of times; `read_batches` makes it."""

    def __init__(self, readers: list[_Reader], rows: int, keep: list[int], names: list[str]) -> None:
        """Store what to read; nothing is read before the batches are iterated over."""
        self.names = names
        self._readers, self._rows, self._keep = readers, rows, keep

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield the batches, each an array (n, D)."""
        for reader in self._readers:
            yield from reader.batches(self._rows, self._keep)


class _Reader:
    """A source of rows. `label` names it in error messages; `has_names` says whether the names of columns come from it."""

    label: str
    names: list[str]
    has_names = True

    def batches(self, rows: int, keep: list[int]) -> Iterator[np.ndarray]:
        """Yield arrays (n, D) with n <= rows of the columns with the positions `keep`."""
        raise NotImplementedError


class _Sliced(_Reader):
    """An array that can be sliced."""

    has_names = False

    def __init__(self, array: Any, label: str) -> None:
        """Check that the array has two axes."""
        if len(array.shape) != 2:
            raise ValueError(f"{label} has shape {tuple(array.shape)}; (N, D) was expected.")
        self.array: Any = array
        self.label, self.num_rows = label, array.shape[0]
        self.names = [f"column {i}" for i in range(array.shape[1])]

    def batches(self, rows: int, keep: list[int]) -> Iterator[np.ndarray]:
        """Yield slices of the array."""
        is_all = keep == list(range(len(self.names)))
        for begin in range(0, self.num_rows, rows):
            part = self._slice(begin, min(begin + rows, self.num_rows))
            yield part if is_all else part[:, keep]

    def _slice(self, begin: int, end: int) -> np.ndarray:
        """Return the rows from `begin` to `end` - 1."""
        return np.asarray(self.array[begin:end])


class _Npy(_Sliced):
    """An npy file. It is mapped anew for each batch, because pages of a mapped file count as memory of the process."""

    def __init__(self, path: Path) -> None:
        """Read the header of the file; raise ValueError if the file is damaged or truncated."""
        self.path = path
        super().__init__(self._mapped(), f"'{path}'")
        if self.array.dtype.kind not in "fiu":
            raise ValueError(f"'{path}' holds {self.array.dtype} values; real numbers were expected.")
        self.array = None

    def _mapped(self) -> np.ndarray:
        """Return the array of the file as a memory map."""
        try:
            return np.load(self.path, mmap_mode="r", allow_pickle=False)
        except (ValueError, EOFError, OSError) as error:
            # of files in other formats, NumPy says that they may hold pickled objects, and how to load these
            reason = "NumPy finds no array in it" if "pickle" in str(error) else str(error).rstrip(".")
            raise ValueError(f"'{self.path}' is not an npy file, or is truncated: {reason}.") from error

    def _slice(self, begin: int, end: int) -> np.ndarray:
        """Return the rows from `begin` to `end` - 1."""
        mapped = self._mapped()
        if len(mapped) != self.num_rows:
            raise ValueError(f"'{self.path}' had {self.num_rows} rows and now has {len(mapped)}; it must not change.")
        return np.array(mapped[begin:end])


class _Text(_Reader):
    """A text file with a delimiter, of which pandas reads some rows at a time."""

    def __init__(self, path: Path, delimiter: str | None) -> None:
        """Find the header in the first lines of the file, and the delimiter, if it is None."""
        import pandas

        self.path, self.label = path, f"'{path}'"
        try:
            with open(path, encoding="utf-8-sig", newline=None) as stream:
                lines = [line.rstrip("\n") for line in (stream.readline() for _ in range(SAMPLE)) if line.strip()]
        except UnicodeDecodeError as error:
            raise ValueError(f"'{path}' is not a text file; {_EXPECTED}.") from error
        if not lines:
            raise ValueError(f"'{path}' is empty; {_EXPECTED}.")
        delimiter = delimiter or find_delimiter(lines, ".")[0]
        first = list(split(lines, delimiter))
        header, _ = has_names(first)
        self.has_names = bool(header)
        self.names = first[0] if header else [f"column {i}" for i in range(len(first[0]))]
        self.options: dict[str, Any] = {"sep": r"\s+" if delimiter == " " else delimiter, "skipinitialspace": True}
        self.options |= {"header": 0 if header else None, "encoding": "utf-8-sig"}
        self.errors = (pandas.errors.ParserError, UnicodeDecodeError)

    def batches(self, rows: int, keep: list[int]) -> Iterator[np.ndarray]:
        """Yield the numbers of the requested columns as float64."""
        import pandas

        begin = 0
        chunked: Any = pandas.read_csv(self.path, chunksize=rows, usecols=keep, **self.options)
        with chunked as chunks:
            try:
                for chunk in chunks:
                    chunk = chunk.iloc[:, np.argsort(np.argsort(keep))]  # pandas returns columns in the order of the file
                    try:
                        yield chunk.to_numpy(float)
                    except ValueError as error:
                        raise ValueError(
                            f"{self.label} is not numeric in rows {begin} to {begin + len(chunk) - 1}: {error}; choose columns "
                            "of numbers."
                        ) from error
                    begin += len(chunk)
            except self.errors as error:
                raise ValueError(f"{self.label} is damaged after row {begin}: {str(error).rstrip('.')}.") from error


class _Arrow(_Reader):
    """A data set or a table of pyarrow."""

    def __init__(self, source: Any, label: str) -> None:
        """Read the names of the columns."""
        self.source, self.label, self.names = source, label, list(source.schema.names)

    def batches(self, rows: int, keep: list[int]) -> Iterator[np.ndarray]:
        """Yield the requested columns of record batches."""
        names = [self.names[i] for i in keep]
        is_table = hasattr(self.source, "select")
        options = {"max_chunksize": rows} if is_table else {"batch_size": rows, "columns": names}
        source = self.source.select(names) if is_table else self.source
        try:
            for batch in source.to_batches(**options):
                if batch.num_rows:
                    yield as_numpy(batch, self.label)
        except (OSError, ValueError) as error:  # a file may be damaged after its header
            raise ValueError(f"{self.label} is damaged: {str(error).rstrip('.')}.") from error


def _reader(source: Any, delimiter: str | None) -> _Reader:
    """Return the reader of one source, or raise ValueError or TypeError if there is none."""
    if isinstance(source, str | os.PathLike):
        return _file_reader(Path(source), delimiter)
    if hasattr(source, "to_batches") and hasattr(source, "schema"):
        return _Arrow(source, f"the {type(source).__name__}")
    if hasattr(source, "shape") and hasattr(source, "__getitem__"):
        if hasattr(source, "iloc"):
            raise TypeError("source is a data frame, which is in memory; give frame.to_numpy(), or use jaxgmm.fit.")
        return _Sliced(source, f"the {type(source).__name__}")
    raise TypeError(f"source is {type(source).__name__}; {_EXPECTED}.")


def _file_reader(path: Path, delimiter: str | None) -> _Reader:
    """Return the reader of a file, chosen by its suffix."""
    if not path.exists():
        raise ValueError(f"there is no file '{path}'; {_EXPECTED}.")
    if path.suffix == ".npy":
        return _Npy(path)
    if not path.is_dir() and path.suffix not in _ARROW:
        return _Text(path, delimiter)
    try:
        from pyarrow import dataset  # pyright: ignore[reportMissingImports] (an optional package)
    except ImportError as error:
        raise ValueError(f"'{path}' needs the package pyarrow; install it, as in pip install pyarrow.") from error
    form = "parquet" if path.is_dir() else path.suffix[1:]
    try:
        return _Arrow(dataset.dataset(path, format=form), f"'{path}'")
    except (OSError, ValueError) as error:  # pyarrow's own errors derive from these
        raise ValueError(f"'{path}' is not a {form} file, or is damaged: {str(error).rstrip('.')}.") from error
