"""Figures of posteriors.

They show the draws of one quantity or of pairs of quantities, together with EM's estimate. They also show the posterior
probabilities of the numbers of components.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import FigureBase
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike

from ..comparison.clustering import evenly_spaced
from ..comparison.report_columns import ComparisonRow
from ..comparison.result import Comparison
from ..posterior.pooling import pool
from .style import COLORS, ink, integer_ticks, method_style, plain

Panels = TypeVar("Panels")  # axes (P, P), or a figure in which axes are created

_MOST_DOTS = 600  # largest number of draws shown in one panel


def posterior_marginal(
    ax: Axes,
    draws: ArrayLike,
    em: float | None = None,
    interval: tuple[float, float] | None = None,
    *,
    title: str = "",
    shade: str = COLORS[0],
) -> Axes:
    """Draw a histogram of the draws of one quantity, with EM as a dark line and the posterior interval as a bar below it.

    The few draws that are far away from the others are not shown. If EM is far away from the draws, an arrow points to it.

    Args:
        ax: axes to draw on.
        draws: (...), the draws, in the units of the quantity.
        em: the EM estimate; None: no line.
        interval: lower and upper end of the posterior interval; None: no bar.
        title: name of the quantity.
        shade: colour of the histogram.

    Returns:
        The axes.

    Example:
        >>> from matplotlib.figure import Figure
        >>> posterior_marginal(Figure().subplots(), [1.0, 2.0, 3.0], 2.0, title="mean waiting").get_title(loc="left")
        'mean waiting'
    """
    draws = np.asarray(draws, float).ravel()
    low, high = _robust_range(draws)
    margin = 0.05 * (high - low) or 0.5
    span = (low - margin, high + margin)
    heights, *_ = ax.hist(draws, bins=40, range=span, density=True, color=shade, alpha=0.55)
    top = float(np.max(heights)) or 1.0
    if interval is not None:
        ax.plot(interval, [-0.07 * top] * 2, color=shade, linewidth=3, solid_capstyle="butt")
    if em is not None:
        _mark_em(ax, em, span)
        reach = (2 * span[0] - span[1], 2 * span[1] - span[0])
        span = (max(min(span[0], em - margin), reach[0]), min(max(span[1], em + margin), reach[1]))
    ax.set(yticks=[], ylim=(-0.14 * top, 1.12 * top), xlim=span)
    for place, is_beyond, arrow in _edges(interval, span):
        if is_beyond:
            where = {"clip_on": False, "transform": ax.get_yaxis_transform()}  # x is a fraction of the width of the axes
            ax.plot(place, -0.07 * top, arrow, color=shade, markersize=5, zorder=3, **where)
    ax.set_title(plain(title), loc="left", fontsize=8, pad=2)
    ax.spines[["left", "right", "top"]].set_visible(False)
    ax.tick_params(labelsize=7, length=2, pad=1)
    ax.locator_params(axis="x", nbins=4)
    return ax


def _edges(interval: tuple[float, float] | None, span: tuple[float, float]) -> list[tuple[float, bool, str]]:
    """Return for each edge of the axes its place, whether the interval extends beyond this edge, and the marker of an arrow."""
    low, high = span if interval is None else interval
    return [(0.0, low < span[0], "<"), (1.0, high > span[1], ">")]


def _robust_range(draws: np.ndarray) -> tuple[float, float]:
    """Return the range in which draws are shown. It contains nearly all draws, but no long tails.

    Long tails occur if a component is empty in some of the draws. On each side, the range extends from the median by six times
    the distance of the quartile. If the central 95 % of the draws extends farther, for example because of a second mode, the
    range is extended to a little more than these draws, but to at most 25 times the distance of the quartile. The range never
    extends beyond the central 99.6 % of the draws.
    """
    draws = draws[np.isfinite(draws)]
    if not draws.size:
        return 0.0, 1.0
    shares = [0.002, 0.025, 0.25, 0.5, 0.75, 0.975, 0.998]
    least, lower, quartile, middle, other_quartile, upper, most = np.quantile(draws, shares).tolist()

    def end(distance: float, spread: float, farthest: float) -> float:
        """Return how far the range extends to one side of the median."""
        inner = 1.1 * distance if spread == 0 else max(6 * spread, min(1.1 * distance, 25 * spread))
        return min(inner, farthest)

    below = end(middle - lower, middle - quartile, middle - least)
    return middle - below, middle + end(upper - middle, other_quartile - middle, most - middle)


def _mark_em(ax: Axes, em: float, span: tuple[float, float]) -> None:
    """Draw EM as a dark line, or as an arrow at the edge if it is farther from the draws than the width of their range."""
    width = 0.99 * (span[1] - span[0])
    if span[0] - width <= em <= span[1] + width:
        ax.axvline(em, ymax=0.95, color=ink(ax), linewidth=1.6)  # the line ends below the title
        return
    beyond = em > span[1]
    where: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points", "va": "top", "fontsize": 7}
    text, side = (f"EM {em:.3g} →", "right") if beyond else (f"← EM {em:.3g}", "left")
    ax.annotate(text, (float(beyond), 1), (-1 if beyond else 1, -2), ha=side, color=ink(ax), **where)


def component_numbers(ax: Axes, prob_components: ArrayLike, prob_occupied: ArrayLike | None = None) -> Axes:
    """Draw bars for the posterior probabilities of the numbers of components, and of the numbers of occupied components.

    Args:
        ax: axes to draw on.
        prob_components: (M,), the probabilities of 1, 2, ..., M components: `posterior.stats["prob_components"]` of
            `jaxgmm.telescope`.
        prob_occupied: (M,), the probabilities of 1, 2, ..., M occupied components, `posterior.stats["prob_occupied"]`; None: no
            bars for them.

    Returns:
        The axes.

    Raises:
        ValueError: the arguments do not have the same shape (M,).

    Example:
        >>> from matplotlib.figure import Figure
        >>> component_numbers(Figure().subplots(), [0.1, 0.7, 0.2], [0.3, 0.7, 0.0]).get_xlabel()
        'number of components'
    """
    given = {"components": prob_components} | ({} if prob_occupied is None else {"occupied components": prob_occupied})
    bars = {name: np.asarray(value, float) for name, value in given.items()}
    shapes = {value.shape for value in bars.values()}
    if len(shapes) > 1 or any(len(shape) != 1 for shape in shapes):
        raise ValueError(f"the probabilities have the shapes {sorted(shapes)}; one shape (M,) was expected.")
    width = 0.8 / len(bars)
    for i, (name, value) in enumerate(bars.items()):
        places = np.arange(1, len(value) + 1) + (i - (len(bars) - 1) / 2) * width
        ax.bar(places, value, width, color=COLORS[i], label=name)
    integer_ticks(ax)
    ax.set(xlabel="number of components", ylabel="posterior probability")
    ax.spines[["right", "top"]].set_visible(False)
    if len(bars) > 1:
        ax.legend(fontsize=8, frameon=False)
    return ax


def farthest(rows: list[ComparisonRow], most: int) -> list[ComparisonRow]:
    """Return at most `most` rows, namely those in which EM is farthest from the posterior, in their original order.

    Quantities that do not vary are left out.
    """
    rows = [row for row in rows if row.sd > 0]  # for K = 1, the weight is constant
    kept = sorted(range(len(rows)), key=lambda i: -abs(rows[i].z))[:most]
    return [rows[i] for i in sorted(kept)]


def pairs(
    axes: Panels,
    comparison: Comparison,
    *,
    rows: Sequence[ComparisonRow] | None = None,
    mass: float = 0.9,
) -> Panels:
    """Draw pairs of parameters: the draws, EM as a cross, and the ellipse of Laplace's normal approximation.

    The panels below the diagonal show pairs of parameters. The panels on the diagonal show the draws of one parameter, with EM
    as a dark line. The panels above the diagonal show correlations. The draws come from the first posterior whose name is not
    "laplace". If there is a posterior "laplace", the ellipse has the mean and the covariance of its draws.

    Args:
        axes: axes (P, P) to draw on, or a figure in which the axes are created.
        comparison: a result of `jaxgmm.compare`.
        rows: P rows of `comparison.rows`; None: the four parameters for which EM is farthest from the posterior.
        mass: probability inside the ellipse.

    Returns:
        The argument `axes`: the axes (P, P) or the figure.

    Raises:
        ValueError: the axes do not have the shape (P, P).

    Example:
        >>> from matplotlib.figure import Figure
        >>> pairs(Figure(), jaxgmm.compare(fit, {"nuts": nuts, "laplace": laplace}, x))  # doctest: +SKIP
    """
    method = next((m for m in comparison.posteriors if m != "laplace"), next(iter(comparison.posteriors)))
    if rows is None:
        rows = farthest([row for row in comparison.rows if row.method == method], 4)
    count, grid = len(rows), axes
    if isinstance(axes, FigureBase):
        grid = axes.subplots(count, count, squeeze=False)
    grid = np.atleast_2d(np.asarray(grid, object))
    if grid.shape != (count, count):
        raise ValueError(
            f"axes have shape {grid.shape}; ({count}, {count}), a row and a column for each parameter, was expected."
        )
    draws = [_draws_of(comparison, row, method) for row in rows]
    laplace = [_draws_of(comparison, row, "laplace") for row in rows] if "laplace" in comparison.posteriors else None
    for i in range(count):
        for j in range(count):
            ax = grid[i, j]
            if i == j:
                posterior_marginal(ax, draws[i], rows[i].em, shade=method_style(method)[0])
            elif i > j:
                normal = None if laplace is None or method == "laplace" else np.stack([laplace[j], laplace[i]])
                _pair(ax, np.stack([draws[j], draws[i]]), (rows[j].em, rows[i].em), normal, method, mass)
            else:
                ax.set_axis_off()
                ax.text(
                    0.5, 0.5, _correlation(draws[j], draws[i]), ha="center", va="center", fontsize=8, transform=ax.transAxes
                )
    _label_pairs(grid, rows)
    if isinstance(axes, FigureBase):
        axes.suptitle("Pairs of parameters: posterior draws and EM", fontsize=9, x=0.02, ha="left")
        axes.legend(
            handles=_pair_handles(grid[0, 0], method, laplace, mass),
            loc="outside lower center",
            ncols=4,
            fontsize=8,
            frameon=False,
        )
    return axes


def _draws_of(comparison: Comparison, row: ComparisonRow, method: str) -> np.ndarray:
    """Return the draws of one parameter by one method, as an array with one axis."""
    draws = np.asarray(comparison.draws(replace(row, method=method)), float)
    return pool(draws, comparison.posteriors[method].stats)


def _correlation(x: np.ndarray, y: np.ndarray) -> str:
    """Return the correlation of two parameters as text. Return "" if one of them does not vary."""
    varied = np.ptp(x) > 0 and np.ptp(y) > 0
    return f"correlation\n{np.corrcoef(x, y)[0, 1]:.2f}" if varied else ""


def _pair(ax: Axes, draws: np.ndarray, em: tuple[float, float], laplace: np.ndarray | None, method: str, mass: float) -> None:
    """Plot two parameters in one panel: the draws (2, M), the EM estimate, and the ellipse of Laplace's draws (2, M)."""
    keep = evenly_spaced(draws.shape[1], _MOST_DOTS)
    ax.plot(*draws[:, keep], ".", color=method_style(method)[0], alpha=0.35, markersize=3, markeredgewidth=0, zorder=1)
    if laplace is not None:
        values, axes = np.linalg.eigh(np.cov(laplace))  # the ellipse is a line if a parameter does not vary
        angle = np.linspace(0, 2 * np.pi, 120)
        circle = math.sqrt(-2 * math.log1p(-mass)) * np.stack([np.cos(angle), np.sin(angle)])
        outline = np.mean(laplace, 1)[:, None] + axes * np.sqrt(np.maximum(values, 0)) @ circle
        ax.plot(*outline, color=method_style("laplace")[0], linewidth=1.6, linestyle=(0, (5, 2)), zorder=2)
    ax.plot(*em, "+", color=ink(ax), markersize=11, markeredgewidth=2, zorder=3)
    ax.tick_params(labelsize=7, length=2)
    ax.locator_params(nbins=4)


def _label_pairs(grid: np.ndarray, rows: Sequence[ComparisonRow]) -> None:
    """Write the names of the parameters below the lowest row and beside the first column. Show tick labels only there."""
    last = len(rows) - 1
    for i, row in enumerate(rows):
        where = "" if row.component is None else f"\nof component {row.component}"
        name = plain(row.short_name(26)) + where
        grid[last, i].set_xlabel(name, fontsize=8)
        if i:
            grid[i, 0].set_ylabel(name, fontsize=8)
        for j in range(last + 1):
            if i > j:
                grid[i, j].set(xlim=grid[j, j].get_xlim(), ylim=grid[i, i].get_xlim())
                grid[i, j].tick_params(labelbottom=i == last, labelleft=j == 0)
            elif i == j:
                grid[i, j].tick_params(labelbottom=i == last)


def _pair_handles(ax: Axes, method: str, laplace: list[np.ndarray] | None, mass: float) -> list[Line2D]:
    """Return the entries of the legend."""
    shade, _, name = method_style(method)
    handles = [
        Line2D([], [], linestyle="none", marker="+", markersize=9, markeredgewidth=2, color=ink(ax), label="EM"),
        Line2D([], [], linestyle="none", marker=".", color=shade, label=f"draws by {name}"),
    ]
    if laplace is not None and method != "laplace":
        label = f"Laplace, normal, {100 * mass:g} %"
        handles.append(Line2D([], [], color=method_style("laplace")[0], linestyle=(0, (5, 2)), linewidth=1.6, label=label))
    return handles
