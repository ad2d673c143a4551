"""The command: `jaxgmm fit`, `compare`, `select`, `calibrate`, `study`, `sample`, one file each.

Results go to stdout and files, progress and remarks to stderr. Errors are one sentence and exit code 2.
"""

from __future__ import annotations

import argparse
import gc
import importlib.metadata
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import jax

from .. import __version__
from ..validation import check_count
from . import calibrate, compare, fit, sample, select, study
from .shared import say

_REFUSED, _FAILED, _INTERRUPTED = 2, 1, 130
_COMMANDS = {
    "fit": (fit, "fit a mixture by EM under the default prior; prints it and writes a json"),
    "compare": (compare, "EM against the posterior; prints a table, writes a figure and a json"),
    "select": (select, "how many components, of which type; prints a table, writes a figure and a json"),
    "calibrate": (
        calibrate,
        "is a method right? ranks and coverage over simulated data sets; prints them, writes csv, json, figure",
    ),
    "study": (study, "bias, error and coverage of every method, from a design; prints tables, writes csv, json, figure"),
    "sample": (sample, "draw data from a mixture that fit, compare or select wrote"),
}


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
        _hurry()
        _use_compilation_cache()
    try:
        arguments = _parser().parse_args(argv)
        check_count(arguments.seed, "seed", 0)
        arguments.run(arguments)
        sys.stdout.flush()
        return 0
    except KeyboardInterrupt:
        return say("interrupted: nothing more was written.", _INTERRUPTED)
    except BrokenPipeError:  # the reader of stdout left, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _FAILED
    except OSError as error:
        return say(f"{error.filename}: {error.strerror}." if error.filename else f"{error}.", _REFUSED)
    except (ValueError, TypeError) as error:
        return say(str(error), _REFUSED)
    except Exception as error:
        return say(f"failed, which it should not: {type(error).__name__}: {(str(error).splitlines() or [''])[0]}", _FAILED)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message}; see {self.prog} --help.")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="jaxgmm", description="Gaussian mixtures: EM, and EM against the posterior.")
    parser.add_argument("--version", action="version", version=f"jaxgmm {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=_Parser)
    for name, (module, text) in _COMMANDS.items():
        own = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        own.set_defaults(command=name, run=module.run)
        module.add_options(own)
    return parser


def _hurry() -> None:
    """What a process of a few seconds need not do: look for garbage all the while, and all of LLVM's passes.

    On a CPU compilation takes a seventh less, and the programs were measured as fast. XLA_FLAGS of the person's own stay.
    """
    gc.set_threshold(100_000, 50, 50)  # tracing makes many small objects: a second of ten
    accelerated = importlib.metadata.entry_points(group="jax_plugins")
    if not accelerated:
        os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=1")


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
