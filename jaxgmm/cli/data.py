"""Read the data that the user names on the command line."""

from __future__ import annotations

import argparse
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from .. import datasets
from ..io.read_table import choose_columns, read_table
from ..io.text import STDIN
from ..validation import check_count
from .messages import warnings_to_stderr

# a column is refused if rounding to float32 changes a value by more than this fraction of the column's standard deviation
_LARGEST_ROUNDING = 1e-3


def read_data(arguments: argparse.Namespace) -> tuple[np.ndarray, list[str]]:
    """Read a file or a data set of the package, and return the data (N, D) and the names of the D columns."""
    check_count(arguments.restarts, "restarts")
    if arguments.data in datasets.NAMES:
        keep, names = choose_columns(arguments.columns, datasets.columns(arguments.data), arguments.data, drop=arguments.drop)
        x = datasets.load(arguments.data)[:, keep]
    elif arguments.data != STDIN and not Path(arguments.data).exists():
        raise ValueError(
            f"there is no file and no data set called '{arguments.data}'; a csv, npy or npz file, or one of "
            f"{', '.join(datasets.NAMES)}, was expected."
        )
    else:
        form = {"array": arguments.array, "delimiter": arguments.delimiter, "decimal": arguments.decimal}
        with warnings_to_stderr():
            x, names = read_table(arguments.data, columns=arguments.columns, drop=arguments.drop, **form)
    if jnp.result_type(float) == np.float32:
        _check_float32(x, names)
    return x, names


def check_rows(x: np.ndarray, num_components: int, data: str) -> None:
    """Raise ValueError if there are fewer rows than components."""
    if len(x) < num_components:
        raise ValueError(
            f"{data} has {len(x)} rows and -k asks for {num_components} components; at least one row per component was "
            "expected."
        )


def _check_float32(x: np.ndarray, names: list[str]) -> None:
    """Raise ValueError if the variation of a column is so small, compared with its values, that float32 would lose it."""
    # rounding can give a column of equal values a tiny standard deviation, so constant columns are detected by their range
    lost = abs(x - x.astype(np.float32)).max(0) > _LARGEST_ROUNDING * x.std(0)
    lost &= np.ptp(x, axis=0) > 0
    if lost.any():
        raise ValueError(
            f"the values of {names[int(lost.argmax())]} are too large for float32, compared with how much they vary; subtract "
            "an offset from them, or set the environment variable JAX_ENABLE_X64=1."
        )
