"""The forest: EM beside the intervals of every method, a line a quantity."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.transforms import blended_transform_factory

from ..comparison.compare import Comparison
from ..comparison.contraction import prior_intervals
from ..comparison.text_report import numbers, row_name
from ..priors.interface import MixturePrior
from ..studies.parameters import parameters
from .posteriors import furthest
from .style import INK, method_style, plain

MOST_ROWS = 36  # quantities in one forest
_BOLD = {"fontsize": 8, "fontweight": "bold"}
_REACH = (3.5, 8.0)  # posterior sds either side of a forest, at least and at most


def forest(ax: Axes, comparison: Comparison, *, rows: Sequence[dict[str, Any]] | None = None) -> Axes:
    """EM and the interval of each method for one quantity a line, grouped by component, in posterior sds.

    Every line has its own unit, the posterior sd by the first method, and its own zero, the posterior mean by it, so that shares,
    means and variances stand side by side; at the right EM and the posterior mean are written in data units. What lies
    beyond the axis is an arrow at its edge. Of parameters the first method's prior is drawn too, where it has one.

    Args:
        ax: axes to draw on; about a third of an inch of height a quantity is right.
        comparison: as from `jaxgmm.compare`.
        rows: which of `comparison.rows` or `.label_free`, of the first method; None: those of the parameters furthest from
            EM, at most 36, or what no labelling changes where any method's labels are not identified.

    Returns:
        The axes.

    Example:
        >>> forest(ax, jaxgmm.compare(fit, {"nuts": nuts, "laplace": laplace}, x))  # doctest: +SKIP
    """
    methods = list(comparison.samplers)
    shown = [row for row in (forest_rows(comparison) if rows is None else rows) if row["sd"] > 0]
    every = {(row["method"], row["name"]): row for row in [*comparison.rows, *comparison.label_free]}
    reach = _reach(shown, methods, every)
    places, groups = _places(shown)
    priors = _priors(comparison)
    for row, y in zip(shown, places, strict=True):
        drawn = [(*method_style(method, i)[:2], every.get((method, row["name"]))) for i, method in enumerate(methods)]
        _forest_line(ax, y, row, drawn + [("0.55", "", priors.get(row["name"]))] * bool(priors), reach)
        _beside(ax, y, [plain(text) for text in numbers([row["em"], row["mean"]], row["sd"])])
    for title, y in groups.items():
        ax.annotate(
            plain(title), (0, y), (-4, 0), xycoords=_edges(ax), textcoords="offset points", ha="right", va="center", **_BOLD
        )
    top = min([*groups.values(), *places], default=0.0)
    _beside(ax, top - (0 if groups else 1), ["EM", "mean"], **_BOLD)
    ax.axvline(0, color="0.6", linewidth=0.8, zorder=0)
    ax.set(xlim=(-reach, reach), ylim=(max(places, default=0.0) + 0.7, top - (0.6 if groups else 1.6)))
    ax.set_yticks(places, [plain(row_name(row, room=30)) for row in shown], fontsize=8)
    ax.tick_params(axis="y", length=0)
    ax.spines[["left", "right", "top"]].set_visible(False)
    ax.set_xlabel(f"posterior sd from the posterior mean, both by {method_style(methods[0])[2]}", fontsize=8)
    _forest_legend(ax, comparison, methods, bool(priors))
    return ax


def forest_rows(comparison: Comparison) -> list[dict[str, Any]]:
    """The quantities of a forest: the first method's parameters, or what no labelling changes, without the log densities.

    Example:
        >>> empty = Comparison(0.95, {}, [], [], {"nuts": {"identified": True}}, {})
        >>> forest_rows(empty)
        []
    """
    first = next(iter(comparison.samplers))
    identified = all(sampler["identified"] for sampler in comparison.samplers.values())
    rows = comparison.rows if identified else comparison.label_free
    return furthest([row for row in rows if row["method"] == first and "nats" not in row["kind"]], MOST_ROWS)


def _reach(shown: list[dict[str, Any]], methods: list[str], every: dict) -> float:
    """Half the width of a forest, in sds: all there is, within bounds."""
    ends = [0.0]
    for row in shown:
        others = [every.get((method, row["name"])) for method in methods]
        ends += [(value - row["mean"]) / row["sd"] for o in others if o for value in (o["lower"], o["upper"], o["em"])]
    ends = [abs(end) for end in ends if math.isfinite(end)]
    return float(np.clip(1.08 * max(ends), *_REACH))


def _edges(ax: Axes) -> Any:
    """Shares of the width across, data upwards."""
    return blended_transform_factory(ax.transAxes, ax.transData)


def _beside(ax: Axes, y: float, texts: list[str], **style: Any) -> None:
    """Two columns of text at the right of the axes, as far off in a narrow picture as in a wide one."""
    for offset, text in zip((62, 118), texts, strict=True):
        where = {"xycoords": _edges(ax), "textcoords": "offset points", "ha": "right", "va": "center"}
        ax.annotate(text, (1, y), (offset, 0), **where, **{"fontsize": 8, **style})


def _places(shown: list[dict[str, Any]]) -> tuple[list[float], dict[str, float]]:
    """Heights of the lines, from the top, and those of the headings of their groups."""
    places, groups, y, before = [], {}, 0.0, object()
    order = sorted(range(len(shown)), key=lambda i: (shown[i]["component"] is None, shown[i]["component"] or 0, i))
    shown[:] = [shown[i] for i in order]
    for row in shown:
        if row["component"] != before:
            y += 0.4 * bool(places)
            before = row["component"]
            if not all(other["component"] is None for other in shown):
                groups["all components" if before is None else f"component {before}"] = y
                y += 1
        places.append(y)
        y += 1
    return places, groups


def _priors(comparison: Comparison) -> dict[str, dict[str, float]]:
    """By the name of a parameter the interval under the first method's prior; empty where labels are not identified."""
    posterior = next(iter(comparison.posteriors.values()))
    identified = all(sampler["identified"] for sampler in comparison.samplers.values())
    if not isinstance(posterior.prior, MixturePrior) or not identified:
        return {}
    mixture = posterior.mixture[0, 0]
    ends = prior_intervals(mixture, posterior.prior, 0, comparison.interval)
    names = [parameter.name for parameter in parameters(mixture)]
    return {name: {"lower": low, "upper": high} for name, low, high in zip(names, *ends.tolist(), strict=True)}


def _forest_line(ax: Axes, y: float, row: dict[str, Any], drawn: list[tuple[str, str, dict | None]], reach: float) -> None:
    """EM, and below each other the intervals of all: colour, marker of the mean, ends; a prior has no marker."""

    def scaled(value: float) -> float:
        return (value - row["mean"]) / row["sd"]

    step = 0.7 / max(len(drawn), 1)
    for i, (shade, marker, other) in enumerate(drawn):
        if other is None:
            continue
        height = y + step * (i - (len(drawn) - 1) / 2)
        lower, upper = scaled(other["lower"]), scaled(other["upper"])
        line = {"linewidth": 1.8, "solid_capstyle": "butt"} if marker else {"linewidth": 1.4, "linestyle": (0, (1, 1))}
        ax.plot([max(lower, -reach), min(upper, reach)], [height] * 2, color=shade, **line)
        if marker:
            ax.plot(scaled(other["mean"]), height, marker, color=shade, markersize=5.5, zorder=3)
        for end, beyond, arrow in ((-reach, lower < -reach, "<"), (reach, upper > reach, ">")):
            if beyond:
                ax.plot(end, height, arrow, color=shade, markersize=5 if marker else 3.5, clip_on=False, zorder=3)
    em = scaled(row["em"])
    if abs(em) <= reach:
        ax.plot([em] * 2, [y - 0.4, y + 0.4], color=INK, linewidth=2, solid_capstyle="butt", zorder=4)
    else:
        ax.plot(math.copysign(reach, em), y, ">" if em > 0 else "<", color=INK, markersize=8, clip_on=False, zorder=4)


def _forest_legend(ax: Axes, comparison: Comparison, methods: list[str], prior: bool) -> None:
    handles: list[Any] = [Line2D([], [], linestyle="none", marker="|", markersize=10, markeredgewidth=2, color=INK, label="EM")]
    for i, method in enumerate(methods):
        shade, marker, name = method_style(method, i)
        label = f"{name}, {100 * comparison.interval:g} %"
        handles.append(Line2D([], [], color=shade, marker=marker, markersize=5.5, linewidth=1.8, label=label))
    if prior:
        handles.append(
            Line2D([], [], color="0.55", linewidth=1.4, linestyle=(0, (1, 1)), label=f"prior, {100 * comparison.interval:g} %")
        )
    ax.legend(handles=handles, loc="lower left", bbox_to_anchor=(0, 1), ncols=3, fontsize=8, frameon=False, borderaxespad=0.2)
