"""`jaxgmm calibrate`: is a method right? Simulated data sets, ranks, coverage."""

from __future__ import annotations

import argparse
import sys
import tomllib
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ..covariance import TYPES, prior_scale_shape
from ..priors.conjugate import Prior
from ..validation import check_count
from .shared import METHODS, add_output_options, command_record, progress, remarks, target, targets, write_figure, write_json

_PRIOR = ("weight_concentration", "mean", "mean_precision", "degrees_of_freedom", "scale")


def add_options(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument("method", metavar="METHOD", choices=METHODS, help=f"one of {', '.join(METHODS)}")
    parser.add_argument("-k", "--num-components", type=int, default=2, metavar="K", help="number of components; default: 2")
    parser.add_argument(
        "-d", "--num-features", type=int, metavar="D", help="number of features; default: that of the prior, or 1"
    )
    parser.add_argument("--covariance-type", choices=TYPES, default="full", help="default: full")
    parser.add_argument("--num-datasets", type=int, default=256, metavar="B", help="default: 256")
    parser.add_argument("--num-observations", type=int, default=100, metavar="N", help="of each data set; default: 100")
    parser.add_argument(
        "--num-draws", type=int, default=127, metavar="L", help="draws that a truth is ranked among; default: 127"
    )
    parser.add_argument("--thin", type=int, metavar="T", help="every T-th draw counts; default: by the method")
    parser.add_argument("--alpha", type=float, default=0.01, metavar="P", help="of a right method to fail; default: 0.01")
    parser.add_argument(
        "--prior",
        type=Path,
        metavar="FILE.toml",
        help="weight_concentration (default 3), mean (0), mean_precision (0.1), degrees_of_freedom (D + 4), scale (3 times the "
        "identity; diag and spherical D + 2): numbers, or lists with one entry a component or feature",
    )
    parser.add_argument(
        "--resume", type=Path, metavar="FILE.npz", help="keeps every batch; a run that was stopped goes on from it"
    )
    add_output_options(parser)


def run(arguments: argparse.Namespace) -> None:
    """Simulates, ranks, prints, writes."""
    for name in ("num_components", "num_datasets", "num_observations", "num_draws"):
        check_count(getattr(arguments, name), name)
    prior = _prior(arguments)
    csv_path, json_path, *pictures = targets(
        arguments, arguments.method, "csv", "json", *(["png"] if arguments.method != "bootstrap" else [])
    )
    if arguments.resume is not None:
        target(arguments.resume, "--resume", force=True)  # it is read, and only added to
    from ..calibration.calibrate import calibrate

    options = {
        name: getattr(arguments, name)
        for name in ("num_components", "covariance_type", "num_datasets", "num_observations", "num_draws", "thin", "alpha")
    }
    progress(f"{arguments.num_datasets} data sets, each fitted, drawn from by {arguments.method} and ranked")
    with remarks():
        found = calibrate(
            jax.random.key(arguments.seed),
            prior,
            arguments.method,
            path=arguments.resume,
            progress=sys.stderr.isatty(),
            **options,
        )
    print(found)
    write_json(json_path, command_record(arguments, options) | {"calibration": found.to_dict()})
    found.to_csv(csv_path)
    if pictures:
        _draw(pictures[0], found)
    print(f"Written: {', '.join(map(str, [*pictures, csv_path, json_path]))}")


def _draw(path: Path, found: Any) -> None:
    from matplotlib.figure import Figure

    from ..plot import rank_ecdfs

    figure = Figure(figsize=(6.8, 4.8), dpi=150, layout="constrained")
    rank_ecdfs(figure.subplots(), found)
    write_figure(path, figure)


def _prior(arguments: argparse.Namespace) -> Prior:
    """The sampling prior: what the file says, else the defaults."""
    given = {} if arguments.prior is None else _read(arguments.prior)
    mean = np.asarray(given.get("mean", 0.0))
    d = arguments.num_features or (len(mean) if mean.ndim else 1)
    check_count(d, "num_features")
    shape = prior_scale_shape(arguments.covariance_type, d)
    scale = np.asarray(given.get("scale", 3.0 if len(shape) == 2 else d + 2.0))
    wanted = {
        "weight_concentration": (np.asarray(given.get("weight_concentration", 3.0)), (arguments.num_components,)),
        "mean": (mean, (d,)),
        "mean_precision": (np.asarray(given.get("mean_precision", 0.1)), ()),
        "degrees_of_freedom": (np.asarray(given.get("degrees_of_freedom", d + 4.0)), ()),
        "scale": (scale * np.eye(d) if len(shape) == 2 and scale.ndim == 0 else scale, shape),
    }
    return Prior(**{name: _spread(name, value, shape) for name, (value, shape) in wanted.items()})


def _spread(name: str, value: np.ndarray, shape: tuple[int, ...]) -> jax.Array:
    if value.ndim and value.shape != shape:
        raise ValueError(f"{name} in the prior has shape {value.shape}; {shape}, or one number, was expected.")
    return jax.numpy.asarray(np.broadcast_to(value, shape), float)


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ValueError(f"there is no file '{path}'; a toml file with {', '.join(_PRIOR)} was expected.")
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"'{path}' is not toml: {error}.") from error
    for name, value in given.items():
        if name not in _PRIOR:
            raise ValueError(f"'{path}' has '{name}'; only {', '.join(_PRIOR)} were expected.")
        try:
            numeric = np.asarray(value).dtype.kind in "fi"
        except ValueError:  # lists of different lengths
            numeric = False
        if not numeric:
            raise ValueError(f"'{path}': {name} is {value!r}; a number or a list of numbers was expected.")
    return given
