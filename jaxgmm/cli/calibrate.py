"""`jaxgmm calibrate`: check a method by the ranks and the coverage of true values in simulated data sets."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import jax

from ..studies.method_names import POSTERIOR_METHODS
from ..validation import check_count
from .arguments import add_covariance_type, add_output_options
from .interruption import remember_file
from .messages import print_progress, warnings_to_stderr
from .outputs import check_output_file, output_paths, write_figure, write_json
from .records import command_record
from .toml_prior import read_prior

if TYPE_CHECKING:
    from ..calibration.result import Calibration

_COUNTS = ("num_components", "num_datasets", "num_observations", "num_draws")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `jaxgmm calibrate`."""
    parser.add_argument("method", metavar="METHOD", choices=POSTERIOR_METHODS, help=f"one of {', '.join(POSTERIOR_METHODS)}")
    parser.add_argument("-k", "--num-components", type=int, default=2, metavar="K", help="number of components; default: 2")
    parser.add_argument(
        "-d", "--num-features", type=int, metavar="D", help="number of features; default: that of --prior, or 1"
    )
    add_covariance_type(parser)
    parser.add_argument(
        "--num-datasets", type=int, default=256, metavar="B", help="number of simulated data sets; default: 256"
    )
    parser.add_argument("--num-observations", type=int, default=100, metavar="N", help="rows per data set; default: 100")
    parser.add_argument(
        "--missing", type=float, default=0.0, metavar="P", help="share of the values that are missing at random; default: 0"
    )
    parser.add_argument(
        "--num-draws", type=int, default=127, metavar="L", help="draws that each true value is ranked among; default: 127"
    )
    parser.add_argument("--thin", type=int, metavar="T", help="use every T-th draw; default: depends on the method")
    parser.add_argument(
        "--alpha",
        type=float,
        default=0.01,
        metavar="P",
        help="probability that a correct method fails the check; default: 0.01",
    )
    parser.add_argument(
        "--prior",
        type=Path,
        metavar="FILE.toml",
        help="file that sets weight_concentration (default 3), mean (0), mean_precision (0.1), degrees_of_freedom (D + 4) and "
        "scale (3 times the identity matrix for full and tied; D + 2 for the other types), each as a number, or as a list with "
        "one entry per component or feature; for codes such as VEE, volumes ~ InverseGamma(degrees_of_freedom / 2, scale / 2)",
    )
    parser.add_argument(
        "--resume",
        type=Path,
        metavar="FILE.npz",
        help="file in which finished batches are stored, so that an interrupted run can continue",
    )
    add_output_options(parser)


def run(arguments: argparse.Namespace) -> None:
    """Simulate the data sets, rank the true values, print the result, and write the output files."""
    for name in _COUNTS:
        check_count(getattr(arguments, name), name)
    prior = read_prior(arguments.prior, arguments.num_components, arguments.num_features, arguments.covariance_type)
    has_ranks = arguments.method != "bootstrap"
    csv_path, json_path, *figure_paths = output_paths(
        arguments, arguments.method, "csv", "json", *(["png"] if has_ranks else [])
    )
    if arguments.resume is not None:
        check_output_file(arguments.resume, "--resume", force=True)  # an existing file is valid: calibrate only adds to it
    remember_file(arguments.resume)
    from ..calibration.calibrate import calibrate

    options = {name: getattr(arguments, name) for name in (*_COUNTS, "covariance_type", "missing", "thin", "alpha")}
    print_progress(f"fitting {arguments.num_datasets} data sets, drawing by {arguments.method}, and ranking the true values")
    with warnings_to_stderr():
        calibration = calibrate(
            jax.random.key(arguments.seed),
            prior,
            arguments.method,
            path=arguments.resume,
            progress=None,
            **options,
        )
    print(calibration)
    write_json(json_path, command_record(arguments, options) | {"calibration": calibration.to_dict()})
    calibration.to_csv(csv_path)
    for path in figure_paths:
        _draw(path, calibration)
    print(f"Written: {', '.join(map(str, [*figure_paths, csv_path, json_path]))}")


def _draw(path: Path, calibration: Calibration) -> None:
    """Plot the distributions of the ranks with their bands, and write the figure."""
    from matplotlib.figure import Figure

    from ..plot import rank_ecdfs

    figure = Figure(figsize=(6.8, 4.8), dpi=150, layout="constrained")
    rank_ecdfs(figure.subplots(), calibration)
    write_figure(path, figure)
