"""`jaxgmm sample`: draw data from a mixture in a JSON file that another command wrote."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import jax
import numpy as np

from ..density import sample
from ..files import write_text
from ..mixture import Mixture, make_mixture
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
    header = [*names, "component"] if arguments.labels else names
    rows = [
        [*(format(v, ".9g") for v in row), *([str(label)] if arguments.labels else [])]
        for row, label in zip(x, labels, strict=True)
    ]
    text = "\n".join(",".join(row) for row in [[_quote(name) for name in header], *rows]) + "\n"
    if arguments.out is None:
        sys.stdout.write(text)
    else:
        write_text(arguments.out, text)
        print(f"Written: {arguments.out}")


def _read_mixture(path: Path) -> tuple[Mixture, list[str]]:
    """Return the mixture and the column names from a JSON file that another command wrote."""
    expected = "a json file written by jaxgmm fit, compare or select was expected"
    if not path.is_file():
        raise ValueError(f"there is no file '{path}'; {expected}.")
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        fields, names = record["mixture"], [str(name) for name in record["data"]["feature_names"]]
        parts = {name: fields[name] for name in ("weights", "means", "covariances", "covariance_type")}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"'{path}' does not hold a mixture; {expected}.") from error
    return make_mixture(**parts), names


def _quote(name: str) -> str:
    """Return a column name, with quotes if the CSV format requires them."""
    return '"' + name.replace('"', '""') + '"' if any(c in name for c in ',"\n') else name
