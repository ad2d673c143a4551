"""The numbers of a report: the tables of a comparison, and the explanation of their headings."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..comparison.report_columns import ComparisonRow, SamplerDiagnostics
from ..comparison.result import Comparison
from ..comparison.text_layout import SCORES, cells, component_title, mode_tables, score_lines
from ..plot.style import method_style
from ..studies.columns import Column, columns_of
from ..tables import Table

_NAME = 80  # largest number of characters of a quantity's name; a table cuts longer names


def samplers_table(comparison: Comparison) -> Table:
    """Return the table of diagnostics, with one line for each posterior."""
    columns = [column for column in columns_of(SamplerDiagnostics).values() if column.long]
    rows = [
        [shown_name(method), *(column.cell(getattr(sampler, column.name)) for column in columns)]
        for method, sampler in comparison.samplers.items()
    ]
    return Table("How the methods did", ("method", *(column.long for column in columns)), rows, left=(0,))


def number_tables(comparison: Comparison) -> list[Table]:
    """Return the tables of numbers.

    Each posterior has a table of quantities of the whole mixture. If it identifies labels, it also has a table of parameters.
    The first table shows the modes of the posterior, if they are known. The last table shows the scores of all posteriors.
    """
    tables = mode_tables(comparison.page())
    for method, sampler in comparison.samplers.items():
        name = shown_name(method)
        own = [row for row in comparison.rows if row.method == method]
        invariant = [row for row in comparison.label_invariant if row.method == method]
        if sampler.identified:
            tables.append(_quantity_table(f"Parameters, by {name}", own, comparison.interval))
            invariant = [row for row in invariant if row.is_log_density]
        tables.append(_quantity_table(f"Whole mixture, by {name}", invariant, comparison.interval))
    return [*tables, *_scores_table(comparison)]


def _quantity_table(title: str, rows: Sequence[ComparisonRow], interval: float) -> Table:
    """Return a table of the given rows, which all describe one posterior. The rows are grouped by component."""
    columns = _shown_columns(rows)
    groups: dict[str, list[ComparisonRow]] = {}
    shared = all(row.component is None for row in rows)
    for row in rows:
        groups.setdefault("" if shared else component_title(row.component), []).append(row)
    return Table(
        title,
        ("quantity", *(column.long.format(interval=100 * interval) for column in columns)),
        [[row.short_name(_NAME), *cells(row, columns, by_value=True)] for own in groups.values() for row in own],
        left=(0,),
        row_groups=[(heading, len(own)) for heading, own in groups.items()],
    )


def _shown_columns(rows: Sequence[ComparisonRow]) -> list[Column]:
    """Return the columns of a table.

    The columns for all quantities are first. The columns for parameters only are next, if they contain known numbers.
    """
    columns = [column for column in columns_of(ComparisonRow).values() if column.long]

    def is_known(column: Column) -> bool:
        """Return whether at least one row has a finite number in the column."""
        values = [getattr(row, column.name) for row in rows]
        return any(value is not None and math.isfinite(value) for value in values)

    always = [column for column in columns if column.where != "parameters"]
    return always + [column for column in columns if column.where == "parameters" and is_known(column)]


def _scores_table(comparison: Comparison) -> list[Table]:
    """Return a list with one table of all scores, in which each posterior has a column. If no score is known, return []."""
    lines = [line for kind in SCORES for line in score_lines(comparison.page(), kind, "long")]
    rows = [[column.long, *texts] for column, texts in lines]
    title = "All parameters, densities and clusters"
    return [Table(title, ("what", *map(shown_name, comparison.samplers)), rows, left=(0,))] if rows else []


def glossary(comparison: Comparison) -> dict[str, str]:
    """Return a dict from each heading of the tables to its explanation."""
    words = {
        "EM, mean, sd, interval": "Means are in data units, variances and covariances in products of data units, weights are "
        "shares. Mean, sd and interval are those of the posterior.",
    }
    for column in _shown_columns(comparison.rows):
        if column.unit != "data units" or column.where == "parameters":
            words[column.long] = _sentence(column)
    known = [column for column in columns_of(SamplerDiagnostics).values() if column.long]
    known += [column for kind in SCORES for column, _ in score_lines(comparison.page(), kind, "long")]
    words |= {column.long: _sentence(column) for column in known}
    return words | {
        "nats": "The unit of log densities. The log density of EM exceeds that of the draws by about half the number of free "
        "parameters.",
    }


def _sentence(column: Column) -> str:
    """Return the description of a column as a sentence."""
    shown = "; shown divided by the number of points" if column.per_point else ""
    return f"{column.description[0].upper()}{column.description[1:]}{shown}."


def shown_name(method: str) -> str:
    """Return the name of a method as the report shows it."""
    return method_style(method)[2]
