"""`jaxgmm select`: how many components, of which covariance type."""

from __future__ import annotations

import argparse
import math
import re

import jax

from ..covariance import TYPES
from ..selection import CRITERIA, select
from ..validation import check_count
from .shared import (
    add_data_options,
    check_rows,
    chosen,
    data_record,
    fit_record,
    mixture_record,
    progress,
    read_data,
    remarks,
    targets,
    write_figure,
    write_json,
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    add_data_options(parser)
    parser.add_argument(
        "-k", "--num-components", default="1-9", metavar="1-9", help="numbers to try, as 1-9 or 2,3,5; default: 1-9"
    )
    parser.add_argument("--covariance-types", default=",".join(TYPES), metavar="A,B", help=f"default: {','.join(TYPES)}")
    parser.add_argument("--criterion", choices=CRITERIA, default="bic", help="cv: held-out log-likelihood; default: bic")
    parser.add_argument("--folds", type=int, default=5, metavar="F", help="of cv; default: 5")


def run(arguments: argparse.Namespace) -> None:
    """Sweeps, prints, writes."""
    counts, kinds = numbers_of(arguments.num_components), chosen(arguments.covariance_types, "--covariance-types", TYPES)
    check_count(arguments.folds, "folds", 2)
    x, names = read_data(arguments)
    check_rows(x, max(counts), arguments.data)
    figure_path, json_path = targets(arguments, arguments.data, "png", "json")
    progress(f"EM from {arguments.restarts} starts for each of {len(counts) * len(kinds)} models")
    options = {"covariance_types": kinds, "criterion": arguments.criterion, "num_restarts": arguments.restarts}
    with remarks():
        found = select(
            jax.random.key(arguments.seed), x, num_components=counts, num_folds=arguments.folds, method="k-means++", **options
        )
    if not math.isfinite(found.best.criterion):
        raise ValueError("no model could be fitted to these data; fewer components, or other columns, were expected.")
    print(found)
    print(found.best.fit)
    options |= {"num_components": counts, "folds": arguments.folds}
    fitted = {"mixture": mixture_record(found.best.fit), "fit": fit_record(found.best.fit)}
    write_json(json_path, data_record(arguments, x, names, options) | found.to_dict() | fitted)
    from matplotlib.figure import Figure

    from ..plot import selection

    figure = Figure(figsize=(6.4, 4.2), dpi=150, layout="constrained")
    selection(figure.subplots(), found).set_title(arguments.data, loc="left", fontsize=9)
    write_figure(figure_path, figure)
    print(f"Written: {figure_path}, {json_path}")


def numbers_of(text: str) -> list[int]:
    """Whole numbers from 1, as 1-9 or 2,3,5 or both.

    Example:
        >>> numbers_of("1-3,6")
        [1, 2, 3, 6]
    """
    found: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,4})\s*(?:-\s*(\d{1,4})\s*)?", part)
        first, last = (0, 0) if match is None else (int(match[1]), int(match[2] or match[1]))
        if not 1 <= first <= last:
            raise ValueError(f"--num-components is '{text}'; numbers from 1 were expected, as 1-9 or 2,3,5.")
        found += range(first, last + 1)
    return sorted(set(found))
