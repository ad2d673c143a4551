"""`jaxgmm predict`: assign rows to the components of a mixture, which is read from a file of another command."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..mixture import Mixture
from .arguments import add_data_options
from .memberships import check_table_file, memberships_at, posterior_memberships, size_table, write_memberships
from .mixture_files import COLUMNS_HELP, FILE_HELP, read_matching_data, read_mixture_or_posterior


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `jaxgmm predict`."""
    parser.add_argument(
        "mixture", type=Path, metavar="FILE", help=f"{FILE_HELP}, or draws written by jaxgmm compare with --save"
    )
    add_data_options(parser, COLUMNS_HELP)
    parser.add_argument(
        "-o", "--output", "--out", dest="output", type=Path, metavar="FILE.csv", help="file to write to; default: stdout"
    )
    parser.add_argument("--force", action="store_true", help="overwrite an existing file")


def run(arguments: argparse.Namespace) -> None:
    """Write or print all columns of the data. Add the component of each row and the probability of each component."""
    thing, names = read_mixture_or_posterior(arguments.mixture)
    mixture = thing if isinstance(thing, Mixture) else thing.mixture
    if arguments.output is not None:
        check_table_file(arguments.output, "--output", arguments)
    data = read_matching_data(arguments, mixture, names)
    found = memberships_at(thing, data.x) if isinstance(thing, Mixture) else posterior_memberships(thing, None, data.x)
    write_memberships(arguments.output, found, data)
    if arguments.output is not None:
        weights = mixture.weights.reshape(-1, mixture.num_components).mean(0)
        print(size_table(found.sizes, weights).text())
        print(f"Written: {arguments.output}")
