"""Fit data that are read in batches, for `jaxgmm fit --batch-rows`."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import jax
import numpy as np

from .. import datasets
from ..chunking import sample_rows
from ..incomplete.observations import Observations, observations
from ..validation import check_count
from .data import check_rows
from .interruption import remember_file
from .memberships import check_labels_file, size_table, sizes_in_batches
from .messages import print_progress, warnings_to_stderr
from .outputs import output_paths, write_json
from .records import arrays_as_lists, command_record, fit_record, mixture_record

# options that only work for data in memory
_NEED_MEMORY = ("decimal", "array", "noise_columns", "label_column")


def fit_in_batches(arguments: argparse.Namespace) -> None:
    """Fit the posterior mode to data that are read in batches, print the fit, and write a JSON record and the labels.

    A random sample of rows determines the prior. The start is the best of several fits to this sample.
    """
    from ..em.batch.restarts import fit_restarts
    from ..em.stream.fit_batches import fit_batches
    from ..em.stream.initialize_batches import sample_batches
    from ..io.read_batches import read_batches
    from ..priors.defaults import default_prior

    check_count(arguments.batch_rows, "--batch-rows")
    for name in _NEED_MEMORY:
        if getattr(arguments, name):
            option = "--" + name.replace("_", "-")
            raise ValueError(f"{option} and --batch-rows were both given; {option} needs all data in memory: leave one out.")
    (path,) = output_paths(arguments, arguments.data, "json")
    check_labels_file(arguments)
    remember_file(arguments.checkpoint)
    source = datasets.load(arguments.data) if arguments.data in datasets.NAMES else arguments.data
    choice = {"drop": arguments.drop, "delimiter": arguments.delimiter}
    batches = read_batches(source, arguments.batch_rows, arguments.columns, **choice)
    rows_of = observations if arguments.missing else np.asarray

    def all_rows() -> Iterator[np.ndarray | Observations]:
        return map(rows_of, batches)

    key, options = jax.random.key(arguments.seed), {"num_components": arguments.num_components}
    options |= {"covariance_type": arguments.covariance_type}
    print_progress("one pass for a sample of the rows, and EM on this sample")
    x, _, num_rows = sample_batches(key, all_rows, sample_rows(arguments.num_components))
    check_rows(x, arguments.num_components, arguments.data)
    prior = default_prior(x, **options, normalised=False)
    with warnings_to_stderr():
        best = fit_restarts(key, x, prior, num_restarts=arguments.restarts, **options)
        fit = fit_batches(best, all_rows, prior, checkpoint=arguments.checkpoint)
    print(fit)
    print_progress("one pass for the sizes of the clusters")
    sizes = sizes_in_batches(fit.mixture, batches, arguments.labels, rows_of)
    print(size_table(sizes, fit.mixture.weights).text())
    options |= {"restarts": arguments.restarts, "batch_rows": arguments.batch_rows}
    data = {"source": arguments.data, "feature_names": batches.names, "num_observations": num_rows}
    record = command_record(arguments, options) | {"data": data, "sample_size": len(x)}
    record |= {"mixture": mixture_record(fit.mixture), "prior": arrays_as_lists(prior), "fit": fit_record(fit)}
    write_json(path, record | {"cluster_sizes": sizes})
    print(f"Written: {', '.join(str(name) for name in (path, arguments.labels) if name is not None)}")
