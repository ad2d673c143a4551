"""Read the data that the user names on the command line."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from .. import datasets
from ..incomplete.observations import Observations
from ..io.column_choice import choose_columns
from ..io.read_table import WholeTable, read_whole_table
from ..io.text import STDIN
from .messages import warnings_to_stderr

# a column is refused if rounding to float32 changes a value by more than this fraction of the column's standard deviation
_LARGEST_ROUNDING = 1e-3


class Data(NamedTuple):
    """The data (N, D) that a command uses, the names of the D columns, and the whole table (None if the table is not kept)."""

    x: np.ndarray
    names: list[str]
    table: WholeTable | None


def read_data(
    arguments: argparse.Namespace,
    choose: Callable[[list[str]], Sequence[str] | None] | None = None,
    *,
    keep_table: bool = True,
) -> Data:
    """Read a file or a data set of the package.

    Args:
        arguments: the arguments of the command.
        choose: a function that receives the names of all columns and returns the columns to use; None means that the option
            --columns chooses the columns.
        keep_table: whether to keep the whole table. If the data are a text file, its text then stays in memory.
    """
    columns = arguments.columns if choose is None else choose
    if arguments.data in datasets.NAMES:
        data = _packaged_data(arguments, columns)
    elif arguments.data != STDIN and not Path(arguments.data).exists():
        raise ValueError(
            f"there is no file and no data set called '{arguments.data}'; a csv, npy or npz file, or one of "
            f"{', '.join(datasets.NAMES)}, was expected."
        )
    else:
        form = {"array": arguments.array, "delimiter": arguments.delimiter, "decimal": arguments.decimal}
        form |= {"keep_missing": getattr(arguments, "missing", False)}
        with warnings_to_stderr():
            data = Data(*read_whole_table(arguments.data, columns=columns, drop=arguments.drop, **form))
    if jnp.result_type(float) == np.float32:
        _check_float32(np.where(np.isnan(data.x), _first_values(data.x), data.x), data.names)
    return data if keep_table else data._replace(table=None)


def _packaged_data(arguments: argparse.Namespace, columns: str | Callable[[list[str]], Sequence[str] | None] | None) -> Data:
    """Return the requested columns of a data set of the package."""
    known, rows = datasets.columns(arguments.data), datasets.read_rows(arguments.data)
    chosen = columns(known) if callable(columns) else columns
    keep, names = choose_columns(chosen, known, arguments.data, drop=arguments.drop)
    table = WholeTable(list(rows[0]), lambda: (list(row.values()) for row in rows))
    return Data(datasets.load(arguments.data)[:, keep], names, table)


def check_rows(x: np.ndarray | Observations, num_components: int, data: str) -> None:
    """Raise ValueError if there are fewer rows than components."""
    if len(x) < num_components:
        raise ValueError(
            f"{data} has {len(x)} rows and -k asks for {num_components} components; at least one row per component was "
            "expected."
        )


def _first_values(x: np.ndarray) -> np.ndarray:
    """Return the first value of each column that is not missing, (D,); 0 for an empty column."""
    first = x[np.isfinite(x).argmax(0), np.arange(x.shape[1])]
    return np.where(np.isnan(first), 0, first)


def _check_float32(x: np.ndarray, names: list[str]) -> None:
    """Raise ValueError if a column varies so little, compared with its values, that float32 cannot represent the variation."""
    # rounding can give a column of equal values a tiny standard deviation, so constant columns are detected by their range
    lost = abs(x - x.astype(np.float32)).max(0) > _LARGEST_ROUNDING * x.std(0)
    lost &= np.ptp(x, axis=0) > 0
    if lost.any():
        raise ValueError(
            f"the values of {names[int(lost.argmax())]} are too large for float32, compared with how much they vary; subtract "
            "an offset from them, or set the environment variable JAX_ENABLE_X64=1."
        )
