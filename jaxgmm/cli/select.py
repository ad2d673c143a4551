"""`jaxgmm select`: choose the number of components and the covariance type."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

import jax

from ..covariance.types import CLASSIC, TYPES, canonical
from ..priors.defaults import default_prior
from ..priors.interface import MixturePrior
from ..selection.select import CRITERIA, Selection, select
from ..validation import check_count
from .arguments import add_fit_options, parse_counts, parse_names
from .data import check_rows
from .incomplete import add_incomplete_options, read_rows
from .memberships import check_labels_file, memberships_at, write_labels
from .messages import print_progress, warnings_to_stderr
from .outputs import output_paths, write_figure, write_json
from .records import data_record, fit_record, mixture_record


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `jaxgmm select`."""
    add_fit_options(parser)
    parser.add_argument(
        "-k",
        "--num-components",
        default="1-9",
        metavar="1-9",
        help="numbers of components to try, such as 1-9 or 2,3,5; default: 1-9",
    )
    parser.add_argument(
        "--covariance-types",
        default=",".join(CLASSIC),
        metavar="A,B",
        help=f"names or codes, or all for the fourteen types; default: {','.join(CLASSIC)}",
    )
    parser.add_argument(
        "--criterion",
        choices=CRITERIA,
        default="bic",
        help="cv: log-likelihood of held-out rows; evidence: probabilities of the models under one prior, which is "
        "default_prior for the largest number of components; default: bic",
    )
    parser.add_argument("--folds", type=int, default=5, metavar="F", help="number of folds for cv; default: 5")
    add_incomplete_options(parser)


def run(arguments: argparse.Namespace) -> None:
    """Fit all models, print a table of the criterion, and write the results, the best model, a figure and the labels."""
    counts = parse_counts(arguments.num_components)
    given = ",".join(TYPES) if arguments.covariance_types == "all" else arguments.covariance_types
    types = parse_names(",".join(canonical(name.strip()) for name in given.split(",")), "--covariance-types", TYPES)
    check_count(arguments.folds, "folds", 2)
    check_count(arguments.restarts, "restarts")
    data, x, words = read_rows(arguments, min(counts))
    check_rows(x, max(counts), arguments.data)
    figure_path, json_path = output_paths(arguments, arguments.data, "png", "json")
    check_labels_file(arguments)
    print_progress(f"EM from {arguments.restarts} starts for each of {len(counts) * len(types)} models")
    options = {"covariance_types": types, "criterion": arguments.criterion, "num_restarts": arguments.restarts}
    prior = _priors(x, types, max(counts)) if arguments.criterion == "evidence" else None
    with warnings_to_stderr():
        key, folds = jax.random.key(arguments.seed), arguments.folds
        selection = select(key, x, num_components=counts, num_folds=folds, method="k-means++", prior=prior, **options)
    if not math.isfinite(selection.best.criterion):
        raise ValueError("no model could be fitted to these data; use fewer components or other columns.")
    print(selection)
    print(selection.best.fit)
    options |= {"num_components": counts, "folds": arguments.folds}
    best = selection.best.fit
    fitted: dict[str, object] = {"mixture": mixture_record(best.mixture), "fit": fit_record(best)}
    fitted |= {"component_labels": words} if words else {}
    write_json(json_path, data_record(arguments, x, data.names, options) | selection.to_dict() | fitted)
    _draw(figure_path, selection, arguments.data)
    written = [figure_path, json_path]
    if arguments.labels is not None:
        written += write_labels(arguments, memberships_at(best.mixture, x), data)
    print(f"Written: {', '.join(map(str, written))}")


def _priors(x: Any, covariance_types: list[str], num_components: int) -> dict[str, MixturePrior]:
    """Return, by covariance type, the default prior for the largest number of components. Print a remark on its scale."""
    print_progress(
        f"Evidence under default_prior for {num_components} components. Its scale is made from the data and is the same for "
        "all numbers of components; the probabilities depend on it."
    )
    return {name: default_prior(x, num_components=num_components, covariance_type=name) for name in covariance_types}


def _draw(path: Path, selection: Selection, title: str) -> None:
    """Plot the criterion against the number of components, and write the figure."""
    from matplotlib.figure import Figure

    from ..plot import selection as plot_selection

    figure = Figure(figsize=(6.4, 4.2), dpi=150, layout="constrained")
    plot_selection(figure.subplots(), selection).set_title(title, loc="left", fontsize=9)
    write_figure(path, figure)
