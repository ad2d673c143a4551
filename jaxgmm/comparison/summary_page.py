"""The short printed page of a comparison: the verdict, a table of the posteriors, and a table of parameters.

The page has at most `MOST_LINES` lines. `text_layout.render` returns the whole page.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from ..cells import shortened
from ..studies.columns import columns_of, rounded_by_sd
from ..tables import WIDTH, Layout, Table, paragraph
from .page_contents import PageContents
from .report_columns import ComparisonRow, SamplerDiagnostics
from .sampler_summary import SamplerSummary
from .text_layout import (
    cells,
    column_groups,
    component_title,
    cut_lines,
    head_lines,
    shown_columns,
    verdict_lines,
    with_names,
)

MOST_LINES = 40  # largest number of lines of the page
_OPENING = 11  # largest number of lines for the verdict, its reasons and the advice together
_HEAD = 7  # largest number of lines about the data, the model and EM
_MOST_POSTERIORS = 6  # largest number of posteriors in the table of posteriors
_SAMPLER_COLUMNS = ("chains", "draws", "r_hat_max", "ess_min", "divergences", "khat")
_KINDS = ("weight", "mean", "variance", "covariance")  # kinds of parameters, in the order in which they are shown first
_NAMES = 24  # smallest width, in characters, of the column with the names of the parameters


def summary_lines(page: PageContents) -> list[str]:
    """Return the lines of the short page."""
    samplers = dict(list(page.samplers.items())[:_MOST_POSTERIORS])
    lines = [page.title, "=" * len(page.title), *verdict_lines(page, _OPENING), "", *cut_lines(head_lines(page), _HEAD)]
    lines += ["", *_samplers_table(samplers).text().splitlines(), ""]
    below = _closing_lines(page)
    return [*lines, *_quantity_lines(page, MOST_LINES - len(lines) - len(below)), *below]


def _samplers_table(samplers: Mapping[str, SamplerSummary]) -> Table:
    """Return a table with one line for each posterior: how its draws were made, how good they are, and its verdict."""
    columns = [columns_of(SamplerDiagnostics)[name] for name in _SAMPLER_COLUMNS]
    rows = [
        [shortened(name, _NAMES), sampler.word, *(column.cell(getattr(sampler, column.name)) for column in columns)]
        for name, sampler in samplers.items()
    ]
    header = ("draws", "verdict", *(column.short for column in columns))
    return Table("", header, rows, left=(0, 1), layout=Layout(WIDTH, min_widths=(_NAMES - 2,)))


def _closing_lines(page: PageContents) -> list[str]:
    """Return the lines below the tables, which say how much is not shown and how to see it."""
    notes = sum(len(sampler.notes) for sampler in page.samplers.values())
    more = ["scores of predictions, densities and clusters", "the meaning of every column"]
    more += [f"{notes} note{'s' * (notes > 1)}"] if notes else []
    more += ["the modes"] if page.search is not None and page.search.modes is not None else []
    how = "the option --details" if page.reader == "command" else "print(comparison.details())"
    return ["", *paragraph(f"More with {how}: {', '.join(more)}.")]


def _quantity_lines(page: PageContents, most: int) -> list[str]:
    """Return a table of parameters in at most `most` lines, with its legend.

    If a posterior does not identify labels, the table shows quantities that do not depend on the order of the components.
    """
    named = [name for name, sampler in page.samplers.items() if sampler.identified]
    identified = len(named) == len(page.samplers)
    rows = page.rows if identified else page.label_invariant
    names = list(dict.fromkeys(row.name for row in rows))
    groups = {row.component for row in rows}
    legend = _legend(page, several=len(page.samplers) > 1, parameters=identified)
    # The 3 lines are two lines of headings, and one line that says how many quantities are shown.
    num_shown = most - len(legend) - 3 - (len(groups) if len(groups) > 1 else 0)
    chosen = _chosen(rows, max(num_shown, 1))
    shown = [row for row in rows if row.name in chosen]
    table = _beside_each_other(page, shown) if len(page.samplers) > 1 else _one_posterior(page, shown)
    left_out = []
    if len(chosen) < len(names):
        which = "those outside an interval first, then by kind and by distance from EM"
        # this text takes one line, which `most` takes into account
        left_out = [f"{len(chosen)} of {len(names)} quantities: {which}."]
    return [*table.text().splitlines(), *left_out, *legend]


def _chosen(rows: Sequence[ComparisonRow], most: int) -> set[str]:
    """Return the names of the `most` quantities that are shown. Quantities for which EM is outside an interval take precedence.

    Among these quantities, and among all others, the kind decides first: see `_KINDS`. Within a kind, quantities with a larger
    |z| take precedence.
    """
    keys: dict[str, tuple[bool, int, float]] = {}
    for row in rows:
        kind = _KINDS.index(row.kind) if row.kind in _KINDS else len(_KINDS)
        distance = abs(row.z) if math.isfinite(row.z) else 0.0
        key = (row.inside or row.is_log_density, kind, -distance)
        keys[row.name] = min(keys.get(row.name, key), key)
    return set(sorted(keys, key=lambda name: keys[name])[:most])


def _groups(rows: Sequence[ComparisonRow]) -> dict[str, list[ComparisonRow]]:
    """Return a dict from component headings to rows. Parameters that all components share have the last entry."""
    found: dict[str, list[ComparisonRow]] = {}
    for row in sorted(rows, key=lambda row: (row.component is None, row.component or 0)):
        found.setdefault(component_title(row.component), []).append(row)
    return found if len(found) > 1 else {"": list(rows)}


def _one_posterior(page: PageContents, rows: Sequence[ComparisonRow]) -> Table:
    """Return the table for one posterior. Each quantity has one line, and the columns are those of the whole page."""
    columns, groups = shown_columns(rows), _groups(rows)
    table = Table(
        "",
        ("", *(column.short.format(interval=100 * page.interval) for column in columns)),
        [[row.name, *cells(row, columns)] for own in groups.values() for row in own],
        left=(0,),
        column_groups=column_groups(columns, page.interval),
        row_groups=[(heading, len(own)) for heading, own in groups.items()] if len(groups) > 1 else (),
        layout=Layout(WIDTH, True, 1, (0, *(7 if column.decimals is None else 5 for column in columns))),
    )
    return with_names(table, rows)


def _beside_each_other(page: PageContents, rows: Sequence[ComparisonRow]) -> Table:
    """Return the table for several posteriors. Each quantity has one line.

    The line shows EM's estimate, and the mean and sd of as many posteriors as its width allows. A star marks a posterior whose
    interval does not contain EM's estimate.
    """
    groups, lines = _groups(rows), {}
    for heading, own in groups.items():
        for name in dict.fromkeys(row.name for row in own):
            lines[heading, name] = {str(row.method): row for row in own if row.name == name}
    texts = [_texts(by_method) for by_method in lines.values()]
    widths = {method: max(len(method), *(len(text.get(method, "")) for text in texts)) for method in page.samplers}
    em_width = max(len(text["EM"]) for text in texts)
    fitting, used = [], _NAMES + 6 + em_width
    for method in page.samplers:
        used += widths[method] + 2
        if used <= WIDTH:
            fitting.append(method)
    names = [next(iter(by_method.values())).short_name(_NAMES) for by_method in lines.values()]
    counts = [sum(heading == own for own, _ in lines) for heading in groups]
    return Table(
        "",
        ("", "EM", *fitting),
        [[name, t["EM"], *(t.get(method, "") for method in fitting)] for name, t in zip(names, texts, strict=True)],
        left=(0,),
        row_groups=list(zip(groups, counts, strict=True)) if len(groups) > 1 else (),
        layout=Layout(WIDTH),
    )


def _texts(by_method: Mapping[str, ComparisonRow]) -> dict[str, str]:
    """Return a dict of texts for one quantity: "EM" has the estimate and its error, each posterior's name has mean and sd."""
    first = next(iter(by_method.values()))
    finest = min((row.sd for row in by_method.values() if row.sd > 0), default=math.inf)
    em, se = rounded_by_sd([first.em, first.em_se], finest)
    found = {"EM": em if se == "-" else f"{em} ± {se}"}
    for method, row in by_method.items():
        mean, sd = rounded_by_sd([row.mean, row.sd], finest)
        found[method] = f"{mean} ± {sd}{' ' if row.inside or row.is_log_density else '*'}"
    return found


def _legend(page: PageContents, *, several: bool, parameters: bool) -> list[str]:
    """Return a few lines that explain the columns of the table of parameters."""
    if several:
        text = "EM ± its standard error; mean ± sd of the draws"
        return paragraph(f"{text}; * EM lies outside the {100 * page.interval:g} % interval.")
    if not parameters:
        return paragraph("The labels are not identified, so single components are not shown. z: (EM - mean) / sd.")
    text = "its se: EM's standard error; z: (EM - mean) / sd; Lap./sd: sd of the normal approximation / sd; learned: 1 - "
    return paragraph(f"{text}(posterior width / prior width) squared.")
