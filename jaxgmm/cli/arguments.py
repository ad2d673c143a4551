"""Command-line options that several commands share, and functions that parse their values."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from .. import datasets
from ..covariance.types import CODES, TYPES, canonical


def add_data_options(parser: argparse.ArgumentParser, columns: str = "all that hold measurements") -> None:
    """Add the argument DATA, and options for reading DATA; `columns` says which columns are used by default."""
    parser.add_argument(
        "data",
        metavar="DATA",
        help="a table as text (csv, tsv, ...; - reads it from stdin), an npy, npz, parquet or xlsx file, or the name of a data "
        "set: " + ", ".join(datasets.NAMES),
    )
    parser.add_argument(
        "--columns",
        metavar="A,B-D",
        help=f"columns to use: names, numbers from 0, or ranges of these; default: {columns}",
    )
    parser.add_argument("--drop", metavar="A,B-D", help="columns to leave out, in the same form")
    parser.add_argument("--delimiter", metavar="CHAR", help="delimiter of a table as text; default: found from the text")
    parser.add_argument("--decimal", choices=(".", ","), help="decimal sign of a table as text; default: found from the text")
    parser.add_argument("--array", metavar="NAME", help="the array to use from an npz file")


def add_fit_options(parser: argparse.ArgumentParser) -> None:
    """Add the argument DATA with its options, and the options for the number of EM starts, the labels and the output."""
    add_data_options(parser)
    parser.add_argument(
        "--restarts", type=int, default=10, metavar="R", help="number of EM starts; the best fit is kept; default: 10"
    )
    parser.add_argument(
        "--labels",
        type=Path,
        metavar="FILE.csv",
        help="also write a csv file with all columns of DATA (with --batch-rows: those that are used), the component of each "
        "row and the probability of each",
    )
    add_output_options(parser)


def add_batch_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of a fit to data that do not fit into memory."""
    parser.add_argument(
        "--batch-rows",
        type=int,
        metavar="N",
        help="read the data in batches of N rows, once for each EM step, instead of holding them in memory; for an npy, "
        "parquet or text file, or a folder of parquet files",
    )
    parser.add_argument(
        "--checkpoint",
        type=Path,
        metavar="FILE.npz",
        help="with --batch-rows: a file for the state of the fit, from which the same command continues after an interruption",
    )


def add_output_options(parser: argparse.ArgumentParser) -> None:
    """Add the options for the seed, the output folder, and the permission to overwrite files."""
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="seed of the random numbers; default: 0")
    parser.add_argument(
        "--out", type=Path, default=Path("."), metavar="DIR", help="folder to write to; default: the current folder"
    )
    parser.add_argument("--force", action="store_true", help="overwrite existing files")


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Add the options for the number of components and the covariance type of one model."""
    parser.add_argument("-k", "--num-components", type=int, required=True, metavar="K", help="number of components")
    add_covariance_type(parser)


def add_covariance_type(parser: argparse.ArgumentParser) -> None:
    """Add the option for the covariance type."""
    parser.add_argument(
        "--covariance-type",
        type=canonical,
        choices=TYPES,
        metavar="TYPE",
        default="full",
        help="full, tied, diag, spherical, or a code of volume, shape and orientation: " + ", ".join(CODES) + "; default: full",
    )


def parse_names(text: str, option: str, known: Sequence[str]) -> list[str]:
    """Return the names in a comma-separated list, or raise ValueError if a name is unknown or given twice.

    Example:
        >>> parse_names("nuts, laplace", "--methods", ["nuts", "laplace", "gibbs"])
        ['nuts', 'laplace']
    """
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in known:
            raise ValueError(f"{option} contains '{name}'; a comma-separated list of {', '.join(known)} was expected.")
    if len(set(names)) < len(names):
        raise ValueError(f"{option} is '{text}', which contains the same name twice; distinct names were expected.")
    return names


def parse_counts(text: str) -> list[int]:
    """Return the sorted integers in a comma-separated list of numbers and ranges, such as 1-9 or 2,3,5.

    Example:
        >>> parse_counts("1-3,6")
        [1, 2, 3, 6]
    """
    counts: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,4})\s*(?:-\s*(\d{1,4})\s*)?", part)
        first, last = (0, 0) if match is None else (int(match[1]), int(match[2] or match[1]))
        if not 1 <= first <= last:
            raise ValueError(f"--num-components is '{text}'; integers from 1 were expected, as in 1-9 or 2,3,5.")
        counts += range(first, last + 1)
    return sorted(set(counts))
