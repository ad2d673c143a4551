"""`jaxgmm compare`: EM against the posterior, by one or several methods."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import jax

from ..validation import check_count
from .shared import (
    METHODS,
    add_data_options,
    add_model_options,
    chosen,
    fit_mode,
    fit_record,
    maximum_likelihood_line,
    progress,
    read_data,
    remarks,
    target,
    targets,
    write_figure,
    write_json,
)

_UNDER_WAY = {
    "nuts": "sampling the posterior by NUTS",
    "gibbs": "sampling the posterior by Gibbs",
    "laplace": "drawing from the normal approximation at the mode",
    "bootstrap": "fitting replicates of the data",
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    add_data_options(parser)
    add_model_options(parser)
    parser.add_argument(
        "--methods", default="nuts", metavar="A,B", help=f"of {', '.join(METHODS)}; the first one is drawn; default: nuts"
    )
    parser.add_argument("--num-samples", type=int, default=1000, metavar="S", help="posterior draws a chain; default: 1000")
    parser.add_argument("--num-chains", type=int, default=4, metavar="C", help="default: 4")
    parser.add_argument("--interval", type=float, default=0.95, metavar="P", help="probability of the intervals; default: 0.95")
    parser.add_argument("--report", type=Path, metavar="FILE.html", help="write a page with tables and pictures too")


def run(arguments: argparse.Namespace) -> None:
    """Fits, samples, compares, prints, writes."""
    for name in ("num_components", "num_samples", "num_chains"):
        check_count(getattr(arguments, name), name)
    if not 0 < arguments.interval < 1:
        raise ValueError(f"interval is {arguments.interval:g}; a probability between 0 and 1 was expected, as 0.95.")
    methods = chosen(arguments.methods, "--methods", METHODS)
    x, names = read_data(arguments)
    figure_path, json_path = targets(arguments, arguments.data, "png", "json")
    if arguments.report is not None:
        target(arguments.report, "--report", force=arguments.force)
    record, best, prior, likeliest = fit_mode(arguments, x, names)
    record["options"] |= {
        "methods": methods,
        "num_samples": arguments.num_samples,
        "num_chains": arguments.num_chains,
        "interval": arguments.interval,
    }
    from ..comparison.compare import begin_ahead, compare

    begin_ahead(best, x, prior)
    posteriors = {method: _draw(method, arguments, best, x, prior) for method in methods}
    comparison = compare(best, posteriors, x, interval=arguments.interval, feature_names=names)
    record["maximum_likelihood"] = fit_record(likeliest())
    print(comparison)
    print(maximum_likelihood_line(record))
    write_json(json_path, record | {"comparison": comparison.to_dict()})
    progress("drawing the figure")
    from ..plot import comparison_figure

    write_figure(figure_path, comparison_figure(comparison, best.mixture, x, feature_names=names))
    written = [figure_path, json_path]
    if arguments.report is not None:
        progress("writing the report")
        from ..report.write_report import write_report

        details = {"data": arguments.data, **record["options"]}
        written.append(write_report(arguments.report, comparison, best, x, details=details))
    print(f"Written: {', '.join(map(str, written))}")


def _draw(method: str, arguments: argparse.Namespace, best: Any, x: Any, prior: Any) -> Any:
    """A Posterior by one method; its key does not depend on the others."""
    import importlib

    progress(_UNDER_WAY[method])
    sampler = getattr(importlib.import_module(f"..posterior.{method}", __package__), method)
    key = jax.random.fold_in(jax.random.key(arguments.seed), 1 + METHODS.index(method))
    options = {"num_samples": arguments.num_samples, "num_chains": arguments.num_chains}
    if method == "nuts":
        options["progress"] = sys.stderr.isatty()
    with remarks():
        return sampler(key, best.mixture, x, prior, **options)
