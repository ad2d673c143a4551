"""The options of several commands for incomplete rows: missing values, standard errors, and a column of labels."""

from __future__ import annotations

import argparse
from typing import NamedTuple

import numpy as np

from ..incomplete.observations import Observations, observations
from ..io.column_choice import choose_columns
from ..io.number_formats import is_missing
from .data import Data, read_data
from .messages import print_remark, warnings_to_stderr


class IncompleteTable(NamedTuple):
    """The data of a command, the rows for the fit, and the names of the components that the column of labels contains."""

    data: Data
    rows: np.ndarray | Observations
    words: list[str]


def add_incomplete_options(parser: argparse.ArgumentParser) -> None:
    """Add the options for missing values, standard errors and labels."""
    parser.add_argument("--missing", action="store_true", help="empty cells are values that are missing at random")
    parser.add_argument(
        "--noise-columns",
        metavar="A,B-D",
        help="columns with the standard errors of the measurements, one for each column of data, in the same order",
    )
    parser.add_argument(
        "--label-column",
        metavar="NAME",
        help="a column with the known component of some rows, as words or numbers; an empty cell is an unknown label",
    )


def read_rows(arguments: argparse.Namespace, num_components: int) -> IncompleteTable:
    """Read the data, and make observations of them if an option requires it, with at most `num_components` different labels."""
    others = [name for name in (arguments.noise_columns, arguments.label_column) if name is not None]
    own = argparse.Namespace(**vars(arguments))
    if others and arguments.columns is None:
        own.drop = ",".join(filter(None, [arguments.drop, *others]))
    data = read_data(own, keep_table=arguments.labels is not None or arguments.label_column is not None)
    if not (arguments.missing or others):
        return IncompleteTable(data, data.x, [])
    noise, labels, words = None, None, []
    if arguments.noise_columns is not None:
        noise = _standard_errors(arguments, data) ** 2
    if arguments.label_column is not None:
        labels, words = _labels(arguments, data, num_components)
    with warnings_to_stderr():
        rows = observations(data.x, noise=noise, labels=labels)
    return IncompleteTable(data, rows, words)


def _standard_errors(arguments: argparse.Namespace, data: Data) -> np.ndarray:
    """Return the standard errors (N, D) of the data."""
    own = argparse.Namespace(**vars(arguments) | {"columns": arguments.noise_columns, "drop": None})
    errors = read_data(own, keep_table=False)
    if errors.x.shape != data.x.shape:
        raise ValueError(
            f"--noise-columns names {errors.x.shape[1]} columns, and there are {data.x.shape[1]} columns of data "
            f"({', '.join(data.names)}); one column of standard errors for each, in the same order, was expected."
        )
    if (errors.x < 0).any():
        raise ValueError("--noise-columns holds a negative number; standard errors >= 0 were expected.")
    return errors.x


def _labels(arguments: argparse.Namespace, data: Data, num_components: int) -> tuple[np.ndarray, list[str]]:
    """Return the labels (N,) in the column of labels, with -1 for empty cells, and the name of each component."""
    assert data.table is not None
    (place,), (name,) = choose_columns([arguments.label_column], list(data.table.names), arguments.data)
    cells = [str(row[place]).strip() for row in data.table.cells()]
    known = [cell for cell in cells if not is_missing(cell)]
    words = sorted(set(known), key=lambda word: (not word.isdecimal(), int(word) if word.isdecimal() else 0, word))
    if len(words) > num_components:
        raise ValueError(
            f"column {name} has {len(words)} different labels, and -k asks for {num_components} component"
            f"{'s' * (num_components > 1)}; at least one component for each label was expected."
        )
    if words:
        print_remark(f"the labels of column {name} are the components {', '.join(f'{i} ({w})' for i, w in enumerate(words))}.")
    return np.array([-1 if is_missing(cell) else words.index(cell) for cell in cells], np.int32), words
