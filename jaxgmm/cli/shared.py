"""What the commands share: data that are read, files that are not overwritten, records, and what is said on stderr."""

from __future__ import annotations

import argparse
import json
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from .. import __version__, ahead, datasets
from ..covariance import TYPES
from ..em.batch.fit_many import fit_restarts
from ..em.fit import fit
from ..em.result import ComponentStatus, Fit, Status
from ..files import replacing, write_text
from ..io.read_table import choose_columns, read_table
from ..mixture import Mixture
from ..priors.conjugate import Prior
from ..priors.defaults import default_prior
from ..validation import check_count

METHODS = ("nuts", "gibbs", "laplace", "bootstrap")  # named here: to import them takes a second, which --help need not wait for


def say(sentence: str, code: int = 0) -> int:
    """A sentence on stderr; gives the exit code back.

    Example:
        >>> say("refused.", 2)
        2
    """
    print("jaxgmm:", " ".join(sentence.split()), file=sys.stderr)
    return code


def progress(what: str) -> None:
    """What is under way, on stderr, where that is a terminal."""
    if sys.stderr.isatty():
        print(f"jaxgmm: {what} ...", file=sys.stderr)


class remarks(warnings.catch_warnings):
    """Warnings inside become remarks on stderr, a line each."""

    def __enter__(self) -> None:
        super().__enter__()
        warnings.simplefilter("always", RuntimeWarning)
        warnings.showwarning = lambda message, *_: say(str(message))


def add_data_options(parser: argparse.ArgumentParser) -> None:
    """DATA and how it is read; where results go."""
    parser.add_argument("data", metavar="DATA", help="a csv, npy or npz file, or one of: " + ", ".join(datasets.NAMES))
    parser.add_argument("--columns", metavar="A,B", help="columns to use, by name or number from 0; default: all")
    parser.add_argument("--array", metavar="NAME", help="the array of an npz file")
    parser.add_argument(
        "--restarts", type=int, default=10, metavar="R", help="starts of EM, of which the best is kept; default: 10"
    )
    add_output_options(parser)


def add_output_options(parser: argparse.ArgumentParser) -> None:
    """Seed, folder, leave to overwrite."""
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="default: 0")
    parser.add_argument("--out", type=Path, default=Path("."), metavar="DIR", help="folder to write to; default: this one")
    parser.add_argument("--force", action="store_true", help="overwrite files")


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """K and the covariance type of one model."""
    parser.add_argument("-k", "--num-components", type=int, required=True, metavar="K", help="number of components")
    parser.add_argument("--covariance-type", choices=TYPES, default="full", help="default: full")


def chosen(text: str, option: str, known: Sequence[str]) -> list[str]:
    """Names separated by commas, each one of those known, none twice.

    Example:
        >>> chosen("nuts, laplace", "--methods", ["nuts", "laplace", "gibbs"])
        ['nuts', 'laplace']
    """
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in known:
            raise ValueError(f"{option} has '{name}'; names of {', '.join(known)} were expected, with commas between them.")
    if len(set(names)) < len(names):
        raise ValueError(f"{option} names one twice: {text}; different ones were expected.")
    return names


def read_data(arguments: argparse.Namespace) -> tuple[np.ndarray, list[str]]:
    """The data (N, D) and the names of their columns."""
    check_count(arguments.restarts, "restarts")
    columns = None if arguments.columns is None else [c.strip() for c in arguments.columns.split(",")]
    if arguments.data in datasets.NAMES:
        keep, names = choose_columns(columns, datasets.columns(arguments.data), arguments.data)
        x = datasets.load(arguments.data)[:, keep]
    elif not Path(arguments.data).exists():
        raise ValueError(
            f"there is no file '{arguments.data}', nor a data set of that name; a csv, npy or npz file was expected, or one "
            f"of {', '.join(datasets.NAMES)}."
        )
    else:
        x, names = read_table(arguments.data, columns=columns, array=arguments.array)
    single = x.astype(np.float32)
    lost = abs(x - single).max(0) > 1e-3 * x.std(0)
    if not jax.config.jax_enable_x64 and lost.any() and (x.std(0)[lost] > 0).any():
        raise ValueError(
            f"{names[int(lost.argmax())]} has values too large beside their spread for float32; subtract an offset from it, "
            "or set the environment variable JAX_ENABLE_X64=1."
        )
    return x, names


def check_rows(x: np.ndarray, num_components: int, data: str) -> None:
    """At least one row a component."""
    if len(x) < num_components:
        raise ValueError(
            f"{data} has {len(x)} rows and -k asks for {num_components} components; at least one row a component was expected."
        )


def targets(arguments: argparse.Namespace, source: Any, *suffixes: str) -> list[Path]:
    """Files to write, in a folder that is there; refused now, not after the long work."""
    folder, stem = arguments.out, Path(source).stem
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"--out {folder} is a file; a folder was expected.")
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):
        raise ValueError(f"--out {folder} cannot be written to; give another folder.")
    paths = [folder / f"{stem}-{arguments.command}.{suffix}" for suffix in suffixes]
    refuse_existing(paths, arguments.force)
    return paths


def target(path: Path, option: str, *, force: bool) -> Path:
    """One file to write, named by the person, in a folder that is there; refused now, not after the long work."""
    folder = path.absolute().parent
    if path.is_dir():
        raise ValueError(f"{option} {path} is a folder; a file was expected.")
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise ValueError(f"{option} {path}: '{folder}' is no folder that can be written to; give another path.")
    refuse_existing([path], force)
    return path


def refuse_existing(paths: Sequence[Path], force: bool) -> None:
    """Nothing is overwritten without leave."""
    there = [str(path) for path in paths if path.exists()]
    if there and not force:
        raise ValueError(f"{' and '.join(there)} would be overwritten; give --force to allow it, or another --out.")


def fit_mode(
    arguments: argparse.Namespace, x: np.ndarray, names: list[str]
) -> tuple[dict[str, Any], Fit, Prior, Callable[[], Fit]]:
    """The mode under the default prior, best of several starts, the record of it, and how to get maximum likelihood from there."""
    check_rows(x, arguments.num_components, arguments.data)
    options = {"num_components": arguments.num_components, "covariance_type": arguments.covariance_type}
    progress(f"EM from {arguments.restarts} starts")
    prior = default_prior(x, **options)
    with remarks():
        best = fit_restarts(jax.random.key(arguments.seed), x, prior, num_restarts=arguments.restarts, **options)
    if not np.isfinite(float(best.objective)):
        raise ValueError(Status(int(best.status)).sentence)
    arguments_of_fit = best.mixture, x.astype(best.mixture.means.dtype)
    ahead.start(_likeliest, *arguments_of_fit)  # one line beside the main result, wanted last
    record = data_record(arguments, x, names, options | {"restarts": arguments.restarts})
    record |= {"mixture": mixture_record(best), "prior": fields(prior), "fit": fit_record(best)}
    return record, best, prior, partial(ahead.call, _likeliest, *arguments_of_fit)


@jax.jit
def _likeliest(start: Mixture, x: jax.Array) -> Fit:
    return fit(start, x)


def data_record(arguments: argparse.Namespace, x: np.ndarray, names: list[str], options: dict[str, Any]) -> dict[str, Any]:
    """What every record of data begins with: versions, the command, the data, the options."""
    return command_record(arguments, options) | {
        "data": {"source": arguments.data, "feature_names": names, "num_observations": len(x)}
    }


def command_record(arguments: argparse.Namespace, options: dict[str, Any]) -> dict[str, Any]:
    """What every record begins with."""
    return {
        "jaxgmm": __version__,
        "jax": jax.__version__,
        "command": arguments.command,
        "options": options | {"seed": arguments.seed},
    }


def mixture_record(result: Fit) -> dict[str, Any]:
    """A mixture as `sample` reads it."""
    return fields(result.mixture) | {"covariance_type": result.mixture.covariance_type}


def fields(record: Any) -> dict[str, Any]:
    """Arrays of a record as lists."""
    return {name: np.asarray(value, float).tolist() for name, value in vars(record).items() if not isinstance(value, str)}


def fit_record(result: Fit) -> dict[str, Any]:
    """How EM went."""
    history = np.asarray(result.history, float)
    return {
        "status": Status(int(result.status)).name,
        "num_iter": int(result.num_iter),
        "log_likelihood": float(result.log_likelihood),
        "objective": float(result.objective),
        "history": history[np.isfinite(history)].tolist(),
        "component_status": [ComponentStatus(int(s)).name for s in np.asarray(result.component_status)],
    }


def maximum_likelihood_line(record: dict[str, Any]) -> str:
    """One line beside the main result."""
    likeliest = record["maximum_likelihood"]
    return (
        f"Maximum likelihood from there: log-likelihood {likeliest['log_likelihood']:.3f} nats (under the prior "
        f"{record['fit']['log_likelihood']:.3f})."
    )


def write_json(path: Path, record: dict[str, Any]) -> None:
    """The record, whole or not at all."""
    write_text(path, json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def write_figure(path: Path, figure: Any) -> None:
    """The figure as png, whole or not at all."""
    with replacing(path) as stream:
        figure.savefig(stream, format="png")
