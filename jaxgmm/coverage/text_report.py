"""The printed page of a coverage study, with a table of coverage and a table of errors for each covariance type."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from ..cells import number
from ..tables import WIDTH, Layout, Table, paragraph
from .design import Design
from .quantities import HEADINGS
from .summary import StudyRow

_Column = tuple[str, Callable[[list[StudyRow]], str]]  # a heading, and a function that turns rows into the text of a cell


def render(rows: Sequence[StudyRow], design: Design, dtype: str) -> list[str]:
    """Return the page as lines of at most 100 characters."""
    k, d = design.num_components, design.num_features
    first, last = design.probabilities[0], design.probabilities[-1]
    fixed = "the data-scaled default" if design.prior == "default" else "fixed"
    missing = f"; {100 * design.missing:g} % of the values are missing" if design.missing else ""
    entries = {
        "data": f"{design.num_datasets} data sets per cell, with {d} feature{'s' * (d > 1)}, from {k} component{'s' * (k > 1)} "
        f"with unit variances, whose neighbours lie the stated number of standard deviations (sd) apart{missing}",
        "methods": f"EM starts from {design.start}; prior of all methods but em (maximum likelihood): {fixed}; {dtype}",
    }
    lines = ["Coverage study", "=============="]
    lines += [line for name, text in entries.items() for line in paragraph(f"{name:<8}{text}", " " * 8)]
    coverage = [_coverage_column(p) for p in dict.fromkeys((first, last))]
    kinds = [kind for kind in HEADINGS if any(row.kind == kind for row in rows) and (kind != "weight" or k > 1)]
    errors: list[_Column] = [("bias", _largest_bias), ("RMSE", _pooled_rmse), ("width", _median_width(last))]
    for covariance_type in dict.fromkeys(row.covariance_type for row in rows):
        own = [row for row in rows if row.covariance_type == covariance_type]
        about = f"{covariance_type} covariances:"
        lines += ["", f"{about} % of data sets whose interval contains the truth; no interval counts as a miss"]
        lines += [_table(own, kinds, coverage, _METHOD_COLUMNS).text()]
        lines += ["", f"{about} errors of the estimates, and median width of {100 * last:g} % intervals, in data units"]
        lines += [_table(own, kinds, errors, []).text()]
    return [*lines, "", *_notes(design.num_datasets)]


def _notes(num_datasets: int) -> list[str]:
    """Return the lines that explain all columns."""
    return paragraph(
        "N: observations per data set. em, map: Wald intervals; other methods: quantiles of draws, whose mean is the estimate. "
        "none: % of data sets without an interval, averaged over the parameters. failed: % of data sets whose EM did not "
        "converge or has a degenerate component, or whose draws cannot be used. ms: milliseconds per data set, without "
        "compilation and without the fit that draws start from, on the machine that computed the row. Coverage is averaged "
        "over the parameters of a kind; for one parameter its Monte Carlo standard error is at most "
        f"{50 / math.sqrt(num_datasets):.1f} percentage points. bias: the largest bias of a parameter. RMSE: pooled over the "
        "parameters. All numbers are in .rows."
    )


def _table(rows: Sequence[StudyRow], kinds: Sequence[str], columns: Sequence[_Column], last: Sequence[_Column]) -> Table:
    """Return a table with one row per cell and method.

    The `columns` appear once for each kind of parameter. The columns `last` appear only once, at the end.
    """
    cells: dict[tuple[int, float], dict[str, list[StudyRow]]] = {}
    for row in rows:
        cells.setdefault((row.num_observations, row.separation), {}).setdefault(row.method, []).append(row)
    lines = []
    for methods in cells.values():
        for method, group in methods.items():
            words = [word([row for row in group if row.kind == kind]) for kind in kinds for _, word in columns]
            lines.append([method, *words, *(word(group) for _, word in last)])
    return Table(
        "",
        ["method", *[heading for heading, _ in columns] * len(kinds), *[heading for heading, _ in last]],
        lines,
        left=(0,),
        column_groups=[("", 1), *((HEADINGS[kind], len(columns)) for kind in kinds), *([("", len(last))] if last else [])],
        row_groups=[(f"N = {n}, {apart:g} sd apart", len(methods)) for (n, apart), methods in cells.items()],
        layout=Layout(max_width=WIDTH),
    )


def _average(numbers: Sequence[float]) -> float:
    """Return the mean of the numbers, or NaN if there are no numbers."""
    return float(np.mean(numbers)) if numbers else math.nan


def _coverage_column(probability: float) -> _Column:
    """Return the column that shows the coverage of the intervals with one probability."""
    return (
        f"{100 * probability:g} %",
        lambda group: _percent(_average([row.intervals[probability].coverage for row in group])),
    )


def _median_width(probability: float) -> Callable[[list[StudyRow]], str]:
    """Return a function from rows to the average of their `width_median`, as text.

    The widths are those of the intervals with the given probability.
    """
    return lambda group: _short(_average([row.intervals[probability].width_median for row in group]))


def _largest_bias(group: list[StudyRow]) -> str:
    """Return, as text, the bias that is largest in absolute value among the parameters."""
    return _short(max((row.bias for row in group), key=lambda bias: (math.isfinite(bias), abs(bias)), default=math.nan))


def _pooled_rmse(group: list[StudyRow]) -> str:
    """Return, as text, the root mean square error over all parameters."""
    return _short(math.sqrt(_average([row.rmse**2 for row in group])))


_METHOD_COLUMNS: list[_Column] = [
    ("none", lambda group: _percent(_average([row.share_undefined for row in group]))),
    ("failed", lambda group: _percent(_average([row.share_failed for row in group]))),
    ("ms", lambda group: _short(1000 * group[0].seconds_per_dataset)),
]


def _percent(share: float) -> str:
    """Return a fraction as text, in percent with one decimal."""
    return f"{100 * share:.1f}" if math.isfinite(share) else "-"


def _short(value: float) -> str:
    """Return a number as text with three significant digits."""
    return number(value, 3) if math.isfinite(value) else "-"
