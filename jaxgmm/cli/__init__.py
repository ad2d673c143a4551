"""The commands of `jaxgmm`, each with its own module: fit, compare, select, predict, plot, calibrate, study and sample.

Results go to stdout and to files; progress and warnings go to stderr. If the input is invalid, the command prints one sentence
on stderr and ends with exit code 2; with `--traceback`, it also prints a traceback. An error inside jaxgmm gives a traceback
and exit code 1.
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Sequence
from typing import NoReturn

from .. import __version__
from ..command_interrupt import INTERRUPTED
from ..validation import check_seed
from . import calibrate, compare, fit, interruption, plot, predict, sample, select, startup, study
from .errors import internal_error, refusal
from .interruption import exit_now
from .messages import print_error

_REFUSED, _FAILED = 2, 1
_COMMANDS = {
    "fit": (fit, "fit a mixture by EM under the default prior; print it and the sizes of the clusters, and write a json file"),
    "compare": (compare, "compare EM with the posterior; print a table, and write a figure and a json file"),
    "select": (
        select,
        "choose the number of components and the covariance type; print a table, and write a figure and a json file",
    ),
    "predict": (predict, "assign rows of data to the components of a fitted mixture; write labels and probabilities"),
    "plot": (plot, "draw data with a fitted mixture"),
    "calibrate": (
        calibrate,
        "check a method by ranks and coverage over simulated data sets; print the result, and write csv, json and a figure",
    ),
    "study": (
        study,
        "measure bias, error and coverage of each method in a design; print tables, and write csv, json and a figure",
    ),
    "sample": (sample, "draw data from a fitted mixture"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command `jaxgmm`.

    Args:
        argv: the command-line arguments. With None, the command takes the arguments of the process and ends the process.

    Returns:
        The exit code: 0 on success; 1 after an error inside jaxgmm, with a traceback; 2 if the input was invalid, with a
            sentence on stderr; 130 if the command was interrupted.

    Example:
        >>> main(["fit", "faithful", "-k", "0"])
        2
    """
    if argv is not None:
        return _run(argv)
    startup.tune_startup()
    startup.use_compilation_cache()
    interruption.stop_soon()
    code = _run(sys.argv[1:])
    interruption.stop_at_once()
    exit_now(code)


def _run(argv: Sequence[str]) -> int:
    """Run one command and return its exit code.

    An error is printed as one sentence. If the error arose inside jaxgmm, or with `--traceback`, a traceback is printed too.
    """
    interruption.remember_file(None)
    try:
        arguments = _parser().parse_args(argv)
        check_seed(getattr(arguments, "seed", 0))
        arguments.run(arguments)
        sys.stdout.flush()
        return 0
    except KeyboardInterrupt:
        return print_error(interruption.sentence(), INTERRUPTED)
    except BrokenPipeError:  # the program that reads stdout has exited, such as `head` in `jaxgmm ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _FAILED
    except Exception as error:
        if interruption.is_interrupted():
            return print_error(interruption.sentence(), INTERRUPTED)
        sentence = refusal(error)
        if sentence is None or "--traceback" in argv:
            traceback.print_exception(error)
        if sentence is not None:
            return print_error(sentence, _REFUSED)
        return print_error(internal_error(error), _FAILED)


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
        subparser.add_argument("--traceback", action="store_true", help="print the traceback of an error, too")
    return parser
