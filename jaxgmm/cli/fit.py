"""`jaxgmm fit`: fit a mixture by EM under the default prior."""

from __future__ import annotations

import argparse

from ..validation import check_count
from .arguments import add_batch_options, add_fit_options, add_model_options
from .estimates import fit_maximum_likelihood, fit_mode, maximum_likelihood_line
from .incomplete import add_incomplete_options, read_rows
from .memberships import check_labels_file, memberships_at, size_table, write_labels
from .outputs import output_paths, write_json
from .records import fit_record
from .streamed_fit import fit_in_batches


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `jaxgmm fit`."""
    add_fit_options(parser)
    add_model_options(parser)
    add_batch_options(parser)
    add_incomplete_options(parser)


def run(arguments: argparse.Namespace) -> None:
    """Fit the posterior mode, print the fit and the sizes of the clusters, and write a JSON record and the labels."""
    check_count(arguments.num_components, "num_components")
    check_count(arguments.restarts, "restarts")
    if arguments.batch_rows is not None:
        fit_in_batches(arguments)
        return
    if arguments.checkpoint is not None:
        raise ValueError("--checkpoint was given without --batch-rows; give both, or neither.")
    data, rows, words = read_rows(arguments, arguments.num_components)
    (path,) = output_paths(arguments, arguments.data, "json")
    check_labels_file(arguments)
    mode = fit_mode(arguments, rows, data.names)
    memberships = memberships_at(mode.fit.mixture, rows)
    record = mode.record | {"maximum_likelihood": fit_record(fit_maximum_likelihood(mode.fit, rows))}
    record |= {"component_labels": words} if words else {}
    print(mode.fit)
    print(size_table(memberships.sizes, mode.fit.mixture.weights).text())
    print(maximum_likelihood_line(record))
    write_json(path, record | {"cluster_sizes": memberships.sizes})
    written = [path, *write_labels(arguments, memberships, data)]
    print(f"Written: {', '.join(map(str, written))}")
