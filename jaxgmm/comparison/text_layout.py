"""The printed page of a comparison: tables and paragraphs of at most `WIDTH` characters per line."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from html import escape

from ..cells import shortened
from ..studies.columns import Column, Record, columns_of, rounded_by_sd, rounded_by_value
from ..tables import WIDTH, Layout, Table, paragraph
from .page_contents import PageContents
from .report_columns import SECTIONS, ClusteringScores, ComparisonRow, DensityScores, JointScores, SamplerDiagnostics
from .sampler_summary import SamplerSummary

_METHOD = 12  # number of characters to which the name of a method is shortened
_CAPTION = 48  # width, in characters, of the column that describes a score
SCORES = {"joint": JointScores, "density": DensityScores, "clustering": ClusteringScores}


def render(page: PageContents) -> list[str]:
    """Return the lines of the whole page, with all details."""
    lines = [page.title, "=" * len(page.title), *verdict_lines(page), "", *head_lines(page)]
    for name, sampler in page.samplers.items():
        if len(page.samplers) > 1:
            lines += ["", *paragraph(f"Verdict by {name}: {sampler.word}. {' '.join(page.findings(sampler))}")]
        for note in page.notes(sampler):
            lines += paragraph(f"Note: {note}", "      ")
    lines += ["", *_sampler_lines(page.samplers)]
    parameters = parameter_tables(page)
    for table in [*mode_tables(page), *parameters, invariant_table(page), *_score_tables(page)]:
        lines += ["", *table.text().splitlines()]
    return [*lines, "", *paragraph(_legend(page, bool(parameters)))]


def as_html(text: str) -> str:
    """Return a printed page as one HTML element, for notebooks."""
    style = "line-height:1.25;font-family:ui-monospace,Menlo,Consolas,monospace;white-space:pre"
    return f'<pre style="{style}">{escape(text)}</pre>'


class PrintedPage(str):
    """A text of several lines, which a Python prompt and a notebook show as lines."""

    __slots__ = ()

    def __repr__(self) -> str:
        """Return the text."""
        return str(self)

    def _repr_html_(self) -> str:
        """Return the text as HTML."""
        return as_html(self)


def cut_lines(lines: list[str], most: int) -> list[str]:
    """Return the first lines, at most `most` of them. If lines are left out, the last returned line ends with an ellipsis."""
    return lines if len(lines) <= most else [*lines[: most - 1], shortened(f"{lines[most - 1]} …", WIDTH)]


def verdict_lines(page: PageContents, most: int | None = None) -> list[str]:
    """Return the lines with one verdict on EM from all posteriors, and what to do next.

    The reasons for the verdict are the findings if there is one posterior, and the conclusion if there are several. If there
    would be more than `most` lines, the last reasons are left out.
    """
    conclusion, samplers = page.conclusion, list(page.samplers.values())
    if len(samplers) == 1:
        conclusion = conclusion._replace(sentence=" ".join(page.findings(samplers[0])))
    reasons = paragraph(f"Verdict: {page.word}. {conclusion.sentence}")
    step = paragraph(f"What to do: {conclusion.next_step}")
    return [*(reasons if most is None else cut_lines(reasons, most - len(step))), *step]


def head_lines(page: PageContents) -> list[str]:
    """Return the lines that describe the data, the model and EM."""
    sentences, prior = page.sentences(), page.meta.em.prior
    if prior:
        sentences["EM"] += f", the mode under the posterior's prior ({prior['name']})"
    return [line for name, text in sentences.items() for line in paragraph(f"{name:<7}{text}", " " * 7)]


def _sampler_lines(samplers: Mapping[str, SamplerSummary]) -> list[str]:
    """Return a table with one line for each posterior, and a sentence that names posteriors without identified labels."""
    columns = [column for column in columns_of(SamplerDiagnostics).values() if column.short]
    rows = [[name, *(c.cell(getattr(sampler, c.name)) for c in columns)] for name, sampler in samplers.items()]
    layout = Layout(WIDTH, stretch=True, gap=1, min_widths=(0, *(max(5, len(c.short)) for c in columns)))
    lines = Table("", ("draws", *(c.short for c in columns)), rows, left=(0,), layout=layout).text().splitlines()
    unclear = [name for name, sampler in samplers.items() if not sampler.identified]
    if unclear:
        lines += paragraph(f"Labels are NOT identified by {', '.join(unclear)}: no table of its single components.")
    return lines


def shown_columns(rows: Sequence[ComparisonRow]) -> list[Column]:
    """Return the columns that a printed table of these rows shows."""
    columns = [column for column in columns_of(ComparisonRow).values() if column.short or column.group]
    parameters = any(row.em_se is not None for row in rows)
    return [column for column in columns if column.where != ("elsewhere" if parameters else "parameters")]


def quantity_table(title: str, rows: Sequence[ComparisonRow], interval: float) -> Table:
    """Return a table of the given rows, in which each quantity takes one or several lines.

    Args:
        title: heading of the first column; it says what the quantities have in common.
        rows: the quantities. With one posterior, each takes one line. With several posteriors, each takes one line for EM and,
            below it, one line for each posterior.
        interval: probability of the intervals.

    Returns:
        A table of at most `WIDTH` characters per line, in which the names of the quantities are shortened to fit.
    """
    columns, several = shown_columns(rows), len({row.method for row in rows}) > 1
    if several:
        columns = [column for column in columns if column.name not in ("em", "em_se")]
    headings = [column.short.format(interval=100 * interval) for column in columns]
    table = Table(
        "",
        (title, *[""] * several, *headings),
        _several_lines(rows, columns) if several else _single_lines(rows, columns),
        left=(0, 1) if several else (0,),
        column_groups=column_groups(columns, interval, 2 if several else 1),
        layout=Layout(WIDTH, True, 1, (0, *[2] * several, *(7 if c.decimals is None else 5 for c in columns))),
    )
    return with_names(table, rows)


def column_groups(columns: Sequence[Column], interval: float, num_names: int = 1) -> list[tuple[str, int]]:
    """Return each heading and the number of neighbouring columns that share it. The first `num_names` columns have none."""
    groups = [("", num_names)]
    for column in columns:
        group = column.group.format(interval=100 * interval)
        same = bool(group) and groups[-1][0] == group
        groups = [*groups[:-1], (group, groups[-1][1] + 1)] if same else [*groups, (group, 1)]
    return groups


def with_names(table: Table, rows: Sequence[ComparisonRow]) -> Table:
    """Return a table in which the full name of a quantity at the start of a line is replaced by a shorter name that fits."""
    names = {row.name: row for row in rows}
    lines = [[names[line[0]].short_name(table.name_width) if line[0] else "", *line[1:]] for line in table.rows]
    return replace(table, rows=lines)


def _single_lines(rows: Sequence[ComparisonRow], columns: Sequence[Column]) -> list[list[str]]:
    """Return one line for each quantity. Each line begins with the full name of the quantity."""
    return [[row.name, *cells(row, columns)] for row in rows]


def _several_lines(rows: Sequence[ComparisonRow], columns: Sequence[Column]) -> list[list[str]]:
    """Return, for each quantity, one line for EM and below it one line for each posterior.

    The line for EM shows the EM estimate in the column of the mean, and its standard error in the column of the sd.
    """
    groups: dict[str, list[ComparisonRow]] = {}
    for row in rows:
        groups.setdefault(row.name, []).append(row)
    lines = []
    for name, own in groups.items():
        finest = min(row.sd or math.inf for row in own)
        em: dict[str, str] = dict(zip(("mean", "sd"), rounded_by_sd([own[0].em, own[0].em_se], finest), strict=True))
        if own[0].em_se is None:
            del em["sd"]
        lines.append([name, "EM", *(em.get(column.name, "") for column in columns)])
        lines += [["", shortened(str(row.method), _METHOD), *cells(row, columns, finest)] for row in own]
    return lines


def cells(row: ComparisonRow, columns: Iterable[Column], sd: float | None = None, *, by_value: bool = False) -> list[str]:
    """Return the cells of one row.

    The number of decimals of a number in data units depends on `sd`. If `sd` is None, the posterior sd of the row is used. If
    `by_value` is True, a number that is smaller than the sd is shown with two significant digits, so that it is never rounded
    to 0.
    """
    adaptive = [column.name for column in columns if column.decimals is None]
    rounding = rounded_by_value if by_value else rounded_by_sd
    rounded = rounding([getattr(row, name) for name in adaptive], row.sd if sd is None else sd) if adaptive else []
    texts = dict(zip(adaptive, rounded, strict=True))
    tests = ("z", "inside") if row.is_log_density else ()
    return [
        "" if column.name in tests else texts.get(column.name) or column.cell(getattr(row, column.name)) for column in columns
    ]


def parameter_tables(page: PageContents) -> list[Table]:
    """Return one table for each component. The tables show only the posteriors that identify labels."""
    named = [name for name, sampler in page.samplers.items() if sampler.identified]
    rows = [row for row in page.rows if row.method in named]
    tables = []
    for component in sorted(dict.fromkeys(row.component for row in rows), key=lambda k: (k is None, k)):
        own = _side_by_side([row for row in rows if row.component == component])
        tables.append(quantity_table(component_title(component), own, page.interval))
    return tables


def invariant_table(page: PageContents) -> Table:
    """Return the table of log densities. If a posterior does not identify labels, add the other label-invariant quantities."""
    identified = all(sampler.identified for sampler in page.samplers.values())
    rows = [row for row in page.label_invariant if not identified or row.is_log_density]
    return quantity_table("whole mixture", _side_by_side(rows), page.interval)


def mode_tables(page: PageContents) -> list[Table]:
    """Return a list with the table of the modes, or an empty list if no search was made."""
    tables = [] if page.search is None else page.search.tables()
    return [replace(table, left=(0, 4, 5), layout=Layout(WIDTH)) for table in tables]


def component_title(component: int | None) -> str:
    """Return the heading of the parameters of one component; None stands for the parameters that all components share."""
    return "all components" if component is None else f"component {component}"


def _side_by_side(rows: Sequence[ComparisonRow]) -> list[ComparisonRow]:
    """Return the rows sorted so that the rows of one quantity are next to each other.

    The quantities keep the order in which they first occur.
    """
    order = {name: place for place, name in enumerate(dict.fromkeys(row.name for row in rows))}
    return sorted(rows, key=lambda row: order[row.name])


def score_lines(page: PageContents, kind: str, heading: str) -> list[tuple[Column, list[str]]]:
    """Return the known scores of one kind. Each score is a column together with a list of cells, one for each posterior.

    Args:
        page: the contents of the page.
        kind: "joint", "density" or "clustering".
        heading: "short" or "long"; it tells which heading of a column is used. Columns without this heading are left out.
    """
    found, lines = page.scores[kind], []
    for column in columns_of(SCORES[kind]).values():
        cells = [_score_cell(found.get(method), column, page.meta.total_weight) for method in page.samplers]
        if getattr(column, heading) and any(cell != "-" for cell in cells):
            lines.append((column, cells))
    return lines


def _score_cell(record: Record | None, column: Column, total_weight: float) -> str:
    """Return one score as text, followed by its standard error if this error is known and positive."""
    scale = total_weight if column.per_point else 1

    def text(name: str) -> str:
        """Return the value of a field as text, divided by the number of points if the column is shown per point."""
        value = getattr(record, name, None)
        return column.cell(value / scale if column.per_point and value is not None else value)

    error = getattr(record, column.error, None) if column.error else None
    known = error is not None and math.isfinite(error) and error > 0
    return f"{text(column.name)}±{text(column.error)}" if known else text(column.name)


def _score_tables(page: PageContents) -> list[Table]:
    """Return a table for each section of scores. A table has one column for each posterior."""
    p, n = page.meta.num_parameters, page.meta.num_observations
    density = [found for found in page.scores["density"].values() if isinstance(found, DensityScores)]
    scored = min((found.num_rows for found in density), default=0)
    titles = dict(SECTIONS)
    if n > 2000 and scored < n:
        titles["prediction"] += f" by {scored} rows"
    folds = max((found.num_folds or 0 for found in density), default=0)
    context = {"gap": p / 2, "radius": math.sqrt(p), "num_folds": folds}
    lines = [line for kind in SCORES for line in score_lines(page, kind, "short")]
    tables = []
    for section, title in titles.items():
        rows = [[column.short.format(**context), *texts] for column, texts in lines if column.section == section]
        if rows:
            methods = [shortened(str(method), _METHOD) for method in page.samplers]
            width = max(8, *(len(cell) for row in rows for cell in row[1:]), *map(len, methods))
            layout = Layout(WIDTH, min_widths=(_CAPTION, *[width] * len(methods)))
            tables.append(Table("", (title, *methods), rows, left=(0,), layout=layout))
    return tables


def _legend(page: PageContents, has_parameters: bool) -> str:
    """Return the explanation of the headings of the tables."""
    columns = [column for column in columns_of(ComparisonRow).values() if column.short]
    words = [
        f"{'sd in the line of EM' if column.name == 'em_se' and len(page.samplers) > 1 else column.short}: {column.explanation}"
        for column in columns
        if has_parameters or column.where != "parameters"
    ]
    units = "Means are in data units, variances and covariances in products of data units, weights are shares."
    draws = "R-hat and ESS of all draws are the largest and the smallest of all quantities; k-hat is that of Laplace's"
    return f"{units} {'; '.join(words)}. {draws} approximation, which is good below 0.7."
