"""The command: `jaxgmm fit`, `jaxgmm compare`, `jaxgmm sample`.

Results go to stdout and files, progress and remarks to stderr. Errors are one sentence and exit code 2.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn

import jax
import numpy as np

from . import __version__, datasets
from .checks import check_count
from .covariance import TYPES
from .density import sample
from .em.fitting import fit
from .em.many import fit_restarts
from .em.result import ComponentStatus, Fit, Status
from .mixture import Mixture, make_mixture
from .prior import Prior, default_prior
from .reading import read_table

_REFUSED, _FAILED, _INTERRUPTED = 2, 1, 130


def main(argv: Sequence[str] | None = None) -> int:
    """The command `jaxgmm`.

    Args:
        argv: arguments; None takes those of the process.

    Returns:
        The exit code: 0; 2 refused, with a sentence on stderr; 130 interrupted; 1 for what should not happen.

    Example:
        >>> main(["fit", "faithful", "-k", "0"])
        2
    """
    if argv is None:
        _use_compilation_cache()
    try:
        arguments = _parser().parse_args(argv)
        check_count(arguments.seed, "seed", 0)
        arguments.run(arguments)
        sys.stdout.flush()
        return 0
    except KeyboardInterrupt:
        return _say("interrupted: nothing more was written.", _INTERRUPTED)
    except BrokenPipeError:  # the reader of stdout left, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _FAILED
    except OSError as error:
        return _say(f"{error.filename}: {error.strerror}." if error.filename else f"{error}.", _REFUSED)
    except (ValueError, TypeError) as error:
        return _say(str(error), _REFUSED)
    except Exception as error:
        return _say(f"failed, which it should not: {type(error).__name__}: {(str(error).splitlines() or [''])[0]}", _FAILED)


def _say(sentence: str, code: int = 0) -> int:
    print("jaxgmm:", " ".join(sentence.split()), file=sys.stderr)
    return code


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message}; see {self.prog} --help.")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="jaxgmm", description="Gaussian mixtures: EM, and EM against a NUTS posterior.")
    parser.add_argument("--version", action="version", version=f"jaxgmm {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=_Parser)
    _add_fit(commands.add_parser("fit", help="fit a mixture by EM under the default prior; prints it and writes a json"))
    _add_compare(commands.add_parser("compare", help="EM against the posterior; prints a table, writes a figure and a json"))
    _add_sample(commands.add_parser("sample", help="draw data from a mixture that fit or compare wrote"))
    return parser


def _add_data_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", metavar="DATA", help="a csv, npy or npz file, or one of: " + ", ".join(datasets.NAMES))
    parser.add_argument("-k", "--num-components", type=int, required=True, metavar="K", help="number of components")
    parser.add_argument("--covariance-type", choices=TYPES, default="full", help="default: full")
    parser.add_argument("--columns", metavar="A,B", help="columns to use, by name or number from 0; default: all")
    parser.add_argument("--array", metavar="NAME", help="the array of an npz file")
    parser.add_argument(
        "--restarts", type=int, default=10, metavar="R", help="starts of EM, of which the best is kept; default: 10"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="default: 0")
    parser.add_argument("--out", type=Path, default=Path("."), metavar="DIR", help="folder to write to; default: this one")
    parser.add_argument("--force", action="store_true", help="overwrite files")


def _add_fit(parser: argparse.ArgumentParser) -> None:
    _add_data_options(parser)
    parser.set_defaults(run=_run_fit)


def _add_compare(parser: argparse.ArgumentParser) -> None:
    _add_data_options(parser)
    parser.add_argument("--num-samples", type=int, default=1000, metavar="S", help="posterior draws a chain; default: 1000")
    parser.add_argument("--num-chains", type=int, default=4, metavar="C", help="default: 4")
    parser.add_argument("--interval", type=float, default=0.95, metavar="P", help="probability of the intervals; default: 0.95")
    parser.set_defaults(run=_run_compare)


def _add_sample(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("mixture", type=Path, metavar="FILE.json", help="written by jaxgmm fit or compare")
    parser.add_argument("-n", "--num-samples", type=int, required=True, metavar="N", help="number of rows")
    parser.add_argument("--labels", action="store_true", help="add a column with the component of each row")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="default: 0")
    parser.add_argument("--out", type=Path, metavar="FILE.csv", help="file to write to; default: stdout")
    parser.add_argument("--force", action="store_true", help="overwrite the file")
    parser.set_defaults(run=_run_sample)


def _run_fit(arguments: argparse.Namespace) -> None:
    x, names = _read(arguments)
    (target,) = _targets(arguments, "fit", "json")
    record, best, _, likeliest = _fit(arguments, x, names)
    record["maximum_likelihood"] = _fit_record(likeliest())
    print(best)
    print(_maximum_likelihood_line(record))
    _write_json(target, record)
    print(f"Written: {target}")


def _run_compare(arguments: argparse.Namespace) -> None:
    for name in ("num_samples", "num_chains"):
        check_count(getattr(arguments, name), name)
    if not 0 < arguments.interval < 1:
        raise ValueError(f"interval is {arguments.interval:g}; a probability between 0 and 1 was expected, as 0.95.")
    x, names = _read(arguments)
    figure_path, json_path = _targets(arguments, "compare", "png", "json")
    record, best, prior, likeliest = _fit(arguments, x, names)
    _progress("sampling the posterior by NUTS")
    from .experiment.compare import compare
    from .posterior.nuts import nuts

    key = jax.random.fold_in(jax.random.key(arguments.seed), 1)
    with _remarks():
        posterior = nuts(
            key,
            best.mixture,
            x,
            prior,
            num_samples=arguments.num_samples,
            num_chains=arguments.num_chains,
            progress=sys.stderr.isatty(),
        )
    comparison = compare(best, posterior, x, interval=arguments.interval, feature_names=names)
    record["maximum_likelihood"] = _fit_record(likeliest())
    print(comparison)
    print(_maximum_likelihood_line(record))
    _progress("drawing the figure")
    from .plot import comparison_figure

    comparison_figure(comparison, best.mixture, x, feature_names=names).savefig(figure_path)
    _write_json(json_path, record | {"comparison": comparison.to_dict()})
    print(f"Written: {figure_path}, {json_path}")


def _run_sample(arguments: argparse.Namespace) -> None:
    check_count(arguments.num_samples, "num_samples")
    mixture, names = _read_mixture(arguments.mixture)
    if arguments.out is not None:
        _refuse_existing([arguments.out], arguments.force)
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
        arguments.out.write_text(text, encoding="utf-8")
        print(f"Written: {arguments.out}")


def _read(arguments: argparse.Namespace) -> tuple[np.ndarray, list[str]]:
    for name in ("num_components", "restarts"):
        check_count(getattr(arguments, name), name)
    columns = None if arguments.columns is None else [c.strip() for c in arguments.columns.split(",")]
    if arguments.data in datasets.NAMES:
        x, names = _shipped(arguments.data, columns)
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


def _shipped(name: str, columns: list[str] | None) -> tuple[np.ndarray, list[str]]:
    from .reading import choose_columns

    keep, names = choose_columns(columns, datasets.columns(name), name)
    return datasets.load(name)[:, keep], names


def _targets(arguments: argparse.Namespace, command: str, *suffixes: str) -> list[Path]:
    """Files to write, in a folder that is there; refused now, not after the long work."""
    folder, stem = arguments.out, Path(arguments.data).stem
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"--out {folder} is a file; a folder was expected.")
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):
        raise ValueError(f"--out {folder} cannot be written to; give another folder.")
    paths = [folder / f"{stem}-{command}.{suffix}" for suffix in suffixes]
    _refuse_existing(paths, arguments.force)
    return paths


def _refuse_existing(paths: list[Path], force: bool) -> None:
    there = [str(path) for path in paths if path.exists()]
    if there and not force:
        raise ValueError(f"{' and '.join(there)} would be overwritten; give --force to allow it, or another --out.")


def _fit(
    arguments: argparse.Namespace, x: np.ndarray, names: list[str]
) -> tuple[dict[str, Any], Fit, Prior, Callable[[], Fit]]:
    """The mode under the default prior, best of several starts, the record of it, and how to get maximum likelihood from there."""
    options = {"num_components": arguments.num_components, "covariance_type": arguments.covariance_type}
    if len(x) < arguments.num_components:
        raise ValueError(
            f"{arguments.data} has {len(x)} rows and -k asks for {arguments.num_components} components; at least one row a "
            "component was expected."
        )
    _progress(f"EM from {arguments.restarts} starts")
    prior = default_prior(x, **options)
    with _remarks():
        best = fit_restarts(jax.random.key(arguments.seed), x, prior, num_restarts=arguments.restarts, **options)
    if not np.isfinite(float(best.objective)):
        raise ValueError(Status(int(best.status)).sentence)
    likeliest = _compile_aside(fit, best.mixture, x.astype(best.mixture.means.dtype))  # one line beside the main result
    record = {
        "jaxgmm": __version__,
        "jax": jax.__version__,
        "command": arguments.run.__name__.removeprefix("_run_"),
        "data": {"source": arguments.data, "feature_names": names, "num_observations": len(x)},
        "options": options | {"restarts": arguments.restarts, "seed": arguments.seed},
        "mixture": _fields(best.mixture) | {"covariance_type": best.mixture.covariance_type},
        "prior": _fields(prior),
        "fit": _fit_record(best),
    }
    return record, best, prior, likeliest


def _compile_aside(function: Callable, *arguments: Any) -> Callable:
    """A call that can wait: compiled in another thread, where it costs no time while this one has something else to do."""
    lowered = jax.jit(function).lower(*arguments)  # traced here: threads do nothing but compile
    compiled = ThreadPoolExecutor(1).submit(lowered.compile)
    return lambda: compiled.result()(*arguments)


def _fields(record: Any) -> dict[str, Any]:
    return {name: np.asarray(value, float).tolist() for name, value in vars(record).items() if not isinstance(value, str)}


def _fit_record(result: Fit) -> dict[str, Any]:
    history = np.asarray(result.history, float)
    return {
        "status": Status(int(result.status)).name,
        "num_iter": int(result.num_iter),
        "log_likelihood": float(result.log_likelihood),
        "objective": float(result.objective),
        "history": history[np.isfinite(history)].tolist(),
        "component_status": [ComponentStatus(int(s)).name for s in np.asarray(result.component_status)],
    }


def _maximum_likelihood_line(record: dict[str, Any]) -> str:
    likeliest = record["maximum_likelihood"]
    return (
        f"Maximum likelihood from there: log-likelihood {likeliest['log_likelihood']:.3f} nats (under the prior "
        f"{record['fit']['log_likelihood']:.3f})."
    )


def _write_json(path: Path, record: dict[str, Any]) -> None:
    path.write_text(json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def _read_mixture(path: Path) -> tuple[Mixture, list[str]]:
    expected = "a json file written by jaxgmm fit or jaxgmm compare was expected"
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
    return '"' + name.replace('"', '""') + '"' if any(c in name for c in ',"\n') else name


class _remarks(warnings.catch_warnings):
    """Warnings inside become remarks on stderr, a line each."""

    def __enter__(self) -> None:
        super().__enter__()
        warnings.simplefilter("always", RuntimeWarning)
        warnings.showwarning = lambda message, *_: _say(str(message))


def _progress(what: str) -> None:
    if sys.stderr.isatty():
        print(f"jaxgmm: {what} ...", file=sys.stderr)


def _use_compilation_cache() -> None:
    """Lets a second run of the command skip most compilation; where the folder cannot be written, nothing happens."""
    if os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        return
    try:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "jaxgmm"
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):
        return
    if os.access(folder, os.W_OK):
        jax.config.update("jax_compilation_cache_dir", str(folder))
        # many small programs: kept too, a second run takes a quarter of the first one's time, else half
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
