"""The command line: `jaxgmm fit`, `compare`, `select`, `calibrate`, `study` and `sample`, with one module for each command.

Results go to stdout and to files; progress and warnings go to stderr. An error is one sentence on stderr and exit code 2.
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
    "fit": (fit, "fit a mixture by EM under the default prior; print it and write a json file"),
    "compare": (compare, "compare EM with the posterior; print a table, write a figure and a json file"),
    "select": (
        select,
        "choose the number of components and the covariance type; print a table, write a figure and a json file",
    ),
    "calibrate": (
        calibrate,
        "check a method by ranks and coverage over simulated data sets; print them, write csv, json and a figure",
    ),
    "study": (
        study,
        "measure bias, error and coverage of every method of a design; print tables, write csv, json and a figure",
    ),
    "sample": (sample, "draw data from a mixture that fit, compare or select wrote"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command `jaxgmm`.

    Args:
        argv: the arguments; None takes those of the process.

    Returns:
        The exit code: 0 on success; 2 if the input was refused, with a sentence on stderr; 130 if interrupted; 1 for an error
        inside jaxgmm.

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
    """Run one command and turn its errors into sentences and exit codes."""
    try:
        arguments = _parser().parse_args(argv)
        check_count(arguments.seed, "seed", 0)
        arguments.run(arguments)
        sys.stdout.flush()
        return 0
    except KeyboardInterrupt:
        return print_error("interrupted: nothing more was written.", _INTERRUPTED)
    except BrokenPipeError:  # whoever read stdout has left, as `| head` does
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
    """A parser that raises errors instead of leaving the process."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message}; see {self.prog} --help.")


def _parser() -> argparse.ArgumentParser:
    """Return the parser of the command with one subparser for each of its commands."""
    parser = _Parser(prog="jaxgmm", description="Gaussian mixtures: EM, and EM compared with the posterior.")
    parser.add_argument("--version", action="version", version=f"jaxgmm {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=_Parser)
    for name, (module, text) in _COMMANDS.items():
        subparser = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        subparser.set_defaults(command=name, run=module.run)
        module.add_options(subparser)
    return parser
