"""`jaxgmm sample`: draw data from a mixture in a JSON file that another command wrote."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np

from ..density import sample
from ..files import parse_file, replacing
from ..mixture import Mixture, make_mixture
from ..studies.serialization import csv_line
from ..validation import check_count
from .outputs import check_output_file


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `jaxgmm sample`."""
    parser.add_argument("mixture", type=Path, metavar="FILE.json", help="a file written by jaxgmm fit, compare or select")
    parser.add_argument("-n", "--num-samples", type=int, required=True, metavar="N", help="number of rows to draw")
    parser.add_argument("--labels", action="store_true", help="add a column with the component of each row")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="seed of the random numbers; default: 0")
    parser.add_argument("--out", type=Path, metavar="FILE.csv", help="file to write to; default: stdout")
    parser.add_argument("--force", action="store_true", help="overwrite an existing file")


def run(arguments: argparse.Namespace) -> None:
    """Draw the data, and print or write them as CSV."""
    check_count(arguments.num_samples, "num_samples")
    mixture, names = _read_mixture(arguments.mixture)
    if arguments.out is not None:
        check_output_file(arguments.out, "--out", force=arguments.force)
    x, labels = map(np.asarray, sample(jax.random.key(arguments.seed), mixture, arguments.num_samples))
    lines = _lines(x, labels if arguments.labels else None, names)
    if arguments.out is None:
        sys.stdout.writelines(lines)
    else:
        with replacing(arguments.out) as stream:
            stream.writelines(line.encode("utf-8") for line in lines)
        print(f"Written: {arguments.out}")


def _lines(x: np.ndarray, labels: np.ndarray | None, names: list[str]) -> Iterator[str]:
    """Yield the lines of a CSV file with the data and, if they are given, the labels."""
    yield csv_line(names if labels is None else [*names, "component"])
    for i, row in enumerate(x):
        yield ",".join(format(v, ".9g") for v in row) + ("\n" if labels is None else f",{labels[i]}\n")


def _read_mixture(path: Path) -> tuple[Mixture, list[str]]:
    """Return the mixture and the column names from a JSON file that another command wrote."""
    expected = "a json file written by jaxgmm fit, compare or select was expected"
    if not path.is_file():
        raise ValueError(f"there is no file '{path}'; {expected}.")
    try:
        record = parse_file(path, json.loads)
        fields, names = record["mixture"], list(record["data"]["feature_names"])
        parts = {name: fields[name] for name in ("weights", "means", "covariances", "covariance_type")}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"'{path}' does not hold a mixture; {expected}.") from error
    try:
        mixture = make_mixture(**parts)
    except (ValueError, TypeError) as error:
        raise ValueError(f"'{path}' does not hold a valid mixture: {error}") from error
    if len(names) != mixture.num_features or not all(isinstance(name, str) for name in names):
        raise ValueError(
            f"'{path}' has {len(names)} feature_names for {mixture.num_features} features; one name for each was expected."
        )
    return mixture, names
