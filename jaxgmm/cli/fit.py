"""`jaxgmm fit`: a mixture by EM under the default prior."""

from __future__ import annotations

import argparse

from ..validation import check_count
from .shared import (
    add_data_options,
    add_model_options,
    fit_mode,
    fit_record,
    maximum_likelihood_line,
    read_data,
    targets,
    write_json,
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    add_data_options(parser)
    add_model_options(parser)


def run(arguments: argparse.Namespace) -> None:
    """Fits, prints, writes."""
    check_count(arguments.num_components, "num_components")
    x, names = read_data(arguments)
    (path,) = targets(arguments, arguments.data, "json")
    record, best, _, likeliest = fit_mode(arguments, x, names)
    record["maximum_likelihood"] = fit_record(likeliest())
    print(best)
    print(maximum_likelihood_line(record))
    write_json(path, record)
    print(f"Written: {path}")
