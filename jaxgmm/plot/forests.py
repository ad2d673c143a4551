"""`forest`: draw a forest plot. For each quantity, a line shows EM and the intervals of all posteriors."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.transforms import Transform, blended_transform_factory

from ..comparison.contraction import prior_intervals
from ..comparison.report_columns import ComparisonRow
from ..comparison.result import Comparison
from ..comparison.text_layout import component_title
from ..priors.interface import MixturePrior
from ..studies.columns import columns_of, rounded_by_sd
from ..studies.parameters import parameters
from .posteriors import farthest
from .style import grey, ink, method_style, plain, title_above

MOST_ROWS = 36  # largest number of quantities in one forest plot
_BOLD: dict[str, Any] = {"fontsize": 8, "fontweight": "bold"}
_HALF_WIDTHS = (3.5, 8.0)  # smallest and largest half-width of the horizontal axis, in posterior sds
_PRIOR_SHADE = 0.55  # grey of the intervals under the prior, from 0 for the colour of text to 1 for the background
_PRIOR_DASHES = (0, (1, 1))


class _Interval(NamedTuple):
    """An interval that is drawn, in the units of its quantity. An interval of the prior has neither a marker nor a mean."""

    shade: str
    lower: float
    upper: float
    marker: str = ""
    mean: float = math.nan


def forest(ax: Axes, comparison: Comparison, *, rows: Sequence[ComparisonRow] | None = None) -> Axes:
    """Draw a forest plot. For each quantity, one line shows EM and the interval of each posterior.

    The lines are grouped by component. On each line, the origin is the mean of the quantity under the first posterior, and the
    unit is its sd under the first posterior. Weights, means and variances are therefore drawn on the same scale. Numbers at
    the right show EM and the posterior mean in data units. An arrow at the edge shows that a value lies beyond the axis. If the
    first posterior has a prior, the intervals of the parameters under the prior are drawn too.

    Args:
        ax: axes to draw on; a suitable height is about a third of an inch for each quantity.
        comparison: a result of `jaxgmm.compare`.
        rows: some rows of the first posterior, from `comparison.rows` or `comparison.label_invariant`. None: at most 36
            parameters, namely those whose posterior means are farthest from EM. If a posterior does not identify labels,
            label-invariant quantities are shown instead.

    Returns:
        The axes.

    Example:
        >>> forest(ax, jaxgmm.compare(fit, {"nuts": nuts, "laplace": laplace}, x))  # doctest: +SKIP
    """
    methods = list(comparison.samplers)
    shown = _by_component([row for row in (forest_rows(comparison) if rows is None else rows) if row.sd > 0])
    every = {(row.method, row.name): row for row in [*comparison.rows, *comparison.label_invariant]}
    half_width = _half_width(shown, methods, every)
    places, headings = _places(shown)
    priors = _priors(comparison, grey(ax, _PRIOR_SHADE))
    for row, y in zip(shown, places, strict=True):
        intervals = [*_intervals(row, methods, every), *priors.get(row.name, [])]
        _draw_line(ax, y, row, intervals, half_width)
        _write_beside(ax, y, [plain(text) for text in rounded_by_sd([row.em, row.mean], row.sd)])
    for title, y in headings.items():
        ax.annotate(
            plain(title), (0, y), (-4, 0), xycoords=_edges(ax), textcoords="offset points", ha="right", va="center", **_BOLD
        )
    top = min([*headings.values(), *places], default=0.0)
    columns = columns_of(ComparisonRow)
    _write_beside(ax, top - (0 if headings else 1), [columns["em"].short, columns["mean"].short], **_BOLD)
    ax.axvline(0, color=grey(ax, 0.6), linewidth=0.8, zorder=0)
    ax.set(xlim=(-half_width, half_width), ylim=(max(places, default=0.0) + 0.7, top - (0.6 if headings else 1.6)))
    ax.set_yticks(places, [plain(row.short_name(30)) for row in shown], fontsize=8)
    ax.tick_params(axis="y", length=0)
    ax.spines[["left", "right", "top"]].set_visible(False)
    ax.set_xlabel(f"posterior sd from the posterior mean, both by {method_style(methods[0])[2]}", fontsize=8)
    _forest_legend(ax, comparison, methods, bool(priors))
    return ax


def forest_rows(comparison: Comparison) -> list[ComparisonRow]:
    """Return the rows of a forest plot, from the first posterior.

    The rows describe the parameters. If a posterior does not identify labels, the rows describe the label-invariant quantities
    instead, without log densities.
    """
    first = next(iter(comparison.samplers))
    rows = comparison.rows if _identified(comparison) else comparison.label_invariant
    return farthest([row for row in rows if row.method == first and not row.is_log_density], MOST_ROWS)


def _identified(comparison: Comparison) -> bool:
    """Return whether all posteriors identify labels."""
    return all(sampler.identified for sampler in comparison.samplers.values())


def _half_width(shown: Sequence[ComparisonRow], methods: Sequence[str], every: dict[tuple[str, str], ComparisonRow]) -> float:
    """Return the half-width of the horizontal axis, in posterior sds.

    The axis is as wide as necessary to show all values, within the limits `_HALF_WIDTHS`.
    """
    ends = [0.0]
    for row in shown:
        others = [every[method, row.name] for method in methods if (method, row.name) in every]
        ends += [(value - row.mean) / row.sd for other in others for value in (other.lower, other.upper, other.em)]
    return float(np.clip(1.08 * max(abs(end) for end in ends if math.isfinite(end)), *_HALF_WIDTHS))


def _edges(ax: Axes) -> Transform:
    """Return a transform in which x is a fraction of the width of the axes, and y is in data units."""
    return blended_transform_factory(ax.transAxes, ax.transData)


def _write_beside(ax: Axes, y: float, texts: Sequence[str], **style: Any) -> None:
    """Write two columns of text at the right of the axes, at a distance that does not depend on the width of the picture."""
    for offset, text in zip((62, 118), texts, strict=True):
        where = {"xycoords": _edges(ax), "textcoords": "offset points", "ha": "right", "va": "center"}
        ax.annotate(text, (1, y), (offset, 0), **where, **{"fontsize": 8, **style})


def _by_component(rows: Sequence[ComparisonRow]) -> list[ComparisonRow]:
    """Return the rows sorted by component; the rows of parameters that all components share are at the end."""
    return sorted(rows, key=lambda row: (row.component is None, row.component or 0))


def _places(shown: Sequence[ComparisonRow]) -> tuple[list[float], dict[str, float]]:
    """Return the vertical positions of the lines and of the headings of components, measured from the top."""
    places: list[float] = []
    headings: dict[str, float] = {}
    y, before = 0.0, object()
    for row in shown:
        if row.component != before:
            y += 0.4 * bool(places)
            before = row.component
            if not all(other.component is None for other in shown):
                headings[component_title(row.component)] = y
                y += 1
        places.append(y)
        y += 1
    return places, headings


def _intervals(row: ComparisonRow, methods: Sequence[str], every: dict[tuple[str, str], ComparisonRow]) -> Iterator[_Interval]:
    """Yield the interval of one quantity under each posterior."""
    for i, method in enumerate(methods):
        other = every.get((method, row.name))
        if other is not None:
            shade, marker, _ = method_style(method, i)
            yield _Interval(shade, other.lower, other.upper, marker, other.mean)


def _priors(comparison: Comparison, shade: str) -> dict[str, list[_Interval]]:
    """Return a dict from the name of each parameter to its interval under the prior of the first posterior.

    The intervals have the grey `shade`. The dict is empty if there is no prior, or if labels are not identified.
    """
    posterior = next(iter(comparison.posteriors.values()))
    if not isinstance(posterior.prior, MixturePrior) or not _identified(comparison):
        return {}
    mixture = posterior.mixture[0, 0]
    ends = prior_intervals(mixture, posterior.prior, 0, comparison.interval)
    found = zip(parameters(mixture), *ends.tolist(), strict=True)
    return {parameter.name: [_Interval(shade, low, high)] for parameter, low, high in found}


def _draw_line(ax: Axes, y: float, row: ComparisonRow, intervals: Sequence[_Interval], half_width: float) -> None:
    """Draw the EM estimate and all intervals of one quantity. The intervals are drawn one below the other."""

    def scaled(value: float) -> float:
        """Return the distance of a value from the posterior mean, in posterior sds."""
        return (value - row.mean) / row.sd

    step = 0.7 / max(len(intervals), 1)
    for i, interval in enumerate(intervals):
        height = y + step * (i - (len(intervals) - 1) / 2)
        lower, upper, shade = scaled(interval.lower), scaled(interval.upper), interval.shade
        style: dict[str, Any] = {"linewidth": 1.4, "linestyle": _PRIOR_DASHES}
        if interval.marker:
            style = {"linewidth": 1.8, "solid_capstyle": "butt"}
        ax.plot([max(lower, -half_width), min(upper, half_width)], [height] * 2, color=shade, **style)
        if interval.marker:
            ax.plot(scaled(interval.mean), height, interval.marker, color=shade, markersize=5.5, zorder=3)
        for end, is_beyond, arrow in ((-half_width, lower < -half_width, "<"), (half_width, upper > half_width, ">")):
            if is_beyond:
                ax.plot(end, height, arrow, color=shade, markersize=5 if interval.marker else 3.5, clip_on=False, zorder=3)
    em = scaled(row.em)
    if abs(em) <= half_width:
        ax.plot([em] * 2, [y - 0.4, y + 0.4], color=ink(ax), linewidth=2, solid_capstyle="butt", zorder=4)
    else:
        ax.plot(math.copysign(half_width, em), y, ">" if em > 0 else "<", color=ink(ax), markersize=8, clip_on=False, zorder=4)


def _forest_legend(ax: Axes, comparison: Comparison, methods: Sequence[str], has_prior: bool) -> None:
    """Draw the legend, which names EM, the posteriors and the prior."""
    mark = {"marker": "|", "markersize": 10, "markeredgewidth": 2, "color": ink(ax)}
    handles = [Line2D([], [], linestyle="none", **mark, label="EM")]
    probability = f"{100 * comparison.interval:g} %"
    for i, method in enumerate(methods):
        shade, marker, name = method_style(method, i)
        handles.append(
            Line2D([], [], color=shade, marker=marker, markersize=5.5, linewidth=1.8, label=f"{name}, {probability}")
        )
    if has_prior:
        handles.append(
            Line2D([], [], color=grey(ax, _PRIOR_SHADE), linewidth=1.4, linestyle=_PRIOR_DASHES, label=f"prior, {probability}")
        )
    ax.legend(handles=handles, loc="lower left", bbox_to_anchor=(0, 1), ncols=3, fontsize=8, frameon=False, borderaxespad=0.2)
    title_above(ax, "EM and the intervals of each quantity", math.ceil(len(handles) / 3))
