"""`jaxgmm fit`: fit a mixture by EM under the default prior."""

from __future__ import annotations

import argparse

from ..validation import check_count
from .arguments import add_data_options, add_model_options
from .data import read_data
from .estimates import fit_maximum_likelihood, fit_mode, maximum_likelihood_line
from .outputs import output_paths, write_json
from .records import fit_record


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `jaxgmm fit`."""
    add_data_options(parser)
    add_model_options(parser)


def run(arguments: argparse.Namespace) -> None:
    """Fit the posterior mode, print the fit, and write a JSON record of it."""
    check_count(arguments.num_components, "num_components")
    x, names = read_data(arguments)
    (path,) = output_paths(arguments, arguments.data, "json")
    mode = fit_mode(arguments, x, names)
    record = mode.record | {"maximum_likelihood": fit_record(fit_maximum_likelihood(mode.fit, x))}
    print(mode.fit)
    print(maximum_likelihood_line(record))
    write_json(path, record)
    print(f"Written: {path}")
