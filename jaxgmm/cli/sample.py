"""`jaxgmm sample`: draw data from a mixture in a file that another command or jaxgmm.save wrote."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np

from ..sampling import sample
from ..studies.serialization import csv_line
from ..validation import check_count
from .mixture_files import FILE_HELP, read_mixture
from .outputs import check_output_file, write_lines


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `jaxgmm sample`."""
    parser.add_argument("mixture", type=Path, metavar="FILE", help=FILE_HELP)
    parser.add_argument("-n", "--num-samples", type=int, required=True, metavar="N", help="number of rows to draw")
    parser.add_argument("--labels", action="store_true", help="add a column with the component of each row")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="seed of the random numbers; default: 0")
    parser.add_argument("--out", type=Path, metavar="FILE.csv", help="file to write to; default: stdout")
    parser.add_argument("--force", action="store_true", help="overwrite an existing file")


def run(arguments: argparse.Namespace) -> None:
    """Draw the data, and print or write them as CSV."""
    check_count(arguments.num_samples, "num_samples")
    mixture, names = read_mixture(arguments.mixture)
    names = names or [f"column {i}" for i in range(mixture.num_features)]
    if arguments.out is not None:
        check_output_file(arguments.out, "--out", force=arguments.force)
    x, labels = map(np.asarray, sample(jax.random.key(arguments.seed), mixture, arguments.num_samples))
    write_lines(arguments.out, _lines(x, labels if arguments.labels else None, names))
    if arguments.out is not None:
        print(f"Written: {arguments.out}")


def _lines(x: np.ndarray, labels: np.ndarray | None, names: list[str]) -> Iterator[str]:
    """Yield the lines of a CSV file with the data and, if they are given, the labels."""
    yield csv_line(names if labels is None else [*names, "component"])
    for i, row in enumerate(x):
        yield ",".join(format(v, ".9g") for v in row) + ("\n" if labels is None else f",{labels[i]}\n")
