"""`jaxgmm plot`: draw data together with a mixture, which is read from a file of another command."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..io.text import STDIN
from .arguments import add_data_options
from .mixture_files import COLUMNS_HELP, FILE_HELP, read_matching_data, read_mixture
from .outputs import check_output_file, write_figure


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `jaxgmm plot`."""
    parser.add_argument("mixture", type=Path, metavar="FILE", help=FILE_HELP)
    add_data_options(parser, COLUMNS_HELP)
    parser.add_argument(
        "-o",
        "--output",
        "--out",
        dest="output",
        type=Path,
        metavar="FILE.png",
        help="picture to write; default: the name of DATA with -plot.png, in the current folder",
    )
    parser.add_argument("--force", action="store_true", help="overwrite an existing file")


def run(arguments: argparse.Namespace) -> None:
    """Draw the data in the colours of the components, with the mixture, and write the figure."""
    mixture, names = read_mixture(arguments.mixture)
    stem = "stdin" if arguments.data == STDIN else Path(arguments.data).stem
    path = Path(f"{stem}-plot.png") if arguments.output is None else arguments.output
    if path.suffix.lower() != ".png":
        raise ValueError(f"--output is {path}; a file that ends with .png was expected.")
    check_output_file(path, "--output", force=arguments.force)
    data = read_matching_data(arguments, mixture, names)
    from ..plot import mixture_figure

    write_figure(path, mixture_figure(mixture, data.x, feature_names=names or data.names))
    print(f"Written: {path}")
