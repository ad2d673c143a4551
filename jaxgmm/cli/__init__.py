"""The commands `jaxgmm fit`, `compare`, `select`, `calibrate`, `study` and `sample`, each with its own module.

Results go to stdout and to files; progress and warnings go to stderr. If the input is refused, the command prints one sentence
on stderr and ends with exit code 2.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from .. import __version__
from ..validation import check_count
from . import calibrate, compare, fit, rehearsal, sample, select, startup, study
from .messages import print_error

_REFUSED, _FAILED, _INTERRUPTED = 2, 1, 130
_COMMANDS = {
    "fit": (fit, "fit a mixture by EM under the default prior; print the mixture and write a json file"),
    "compare": (compare, "compare EM with the posterior; print a table, and write a figure and a json file"),
    "select": (
        select,
        "choose the number of components and the covariance type; print a table, and write a figure and a json file",
    ),
    "calibrate": (
        calibrate,
        "check a method by ranks and coverage over simulated data sets; print the result, and write csv, json and a figure",
    ),
    "study": (
        study,
        "measure bias, error and coverage of each method in a design; print tables, and write csv, json and a figure",
    ),
    "sample": (sample, "draw data from a mixture that jaxgmm fit, compare or select has written"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command `jaxgmm`.

    Args:
        argv: the command-line arguments; None means the arguments of the process.

    Returns:
        The exit code: 0 on success; 1 after an error inside jaxgmm; 2 if the input was refused, with a sentence on stderr; 130
        if the command was interrupted.

    Example:
        >>> main(["fit", "faithful", "-k", "0"])
        2
    """
    if argv is not None:
        return _run(argv)
    startup.tune_startup()
    startup.use_compilation_cache()
    code = _run(sys.argv[1:])
    rehearsal.exit_if_running(code)
    return code


def _run(argv: Sequence[str]) -> int:
    """Run one command and return its exit code; print each error as a sentence."""
    try:
        arguments = _parser().parse_args(argv)
        check_count(arguments.seed, "seed", 0)
        arguments.run(arguments)
        sys.stdout.flush()
        return 0
    except KeyboardInterrupt:
        return print_error("interrupted: no more files were written.", _INTERRUPTED)
    except BrokenPipeError:  # the program that read stdout has exited, as `head` does in `jaxgmm ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _FAILED
    except OSError as error:
        return print_error(f"{error.filename}: {error.strerror}." if error.filename else f"{error}.", _REFUSED)
    except (ValueError, TypeError) as error:
        return print_error(str(error), _REFUSED)
    except Exception as error:
        message = (str(error).splitlines() or [""])[0]
        return print_error(f"this is an error inside jaxgmm: {type(error).__name__}: {message}", _FAILED)


class _Parser(argparse.ArgumentParser):
    """An argument parser that raises ValueError where argparse would exit the process."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message}; see {self.prog} --help.")


def _parser() -> argparse.ArgumentParser:
    """Return the parser of `jaxgmm`, which has one subparser for each command."""
    parser = _Parser(prog="jaxgmm", description="Fit Gaussian mixtures by EM, and compare the fits with the posterior.")
    parser.add_argument("--version", action="version", version=f"jaxgmm {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=_Parser)
    for name, (module, text) in _COMMANDS.items():
        subparser = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        subparser.set_defaults(command=name, run=module.run)
        module.add_options(subparser)
    return parser
