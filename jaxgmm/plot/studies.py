"""Pictures of studies: whether ranks are uniform, which model is best, how often intervals hold the truth."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes

from .style import COLORS, DASHES, INK, MARKERS, method_style, plain

if TYPE_CHECKING:  # the names alone: a picture of one study is not to wait for the others' code
    from ..calibration.result import Calibration
    from ..coverage.study import Study
    from ..selection import Selection


def rank_ecdfs(ax: Axes, calibration: Calibration) -> Axes:
    """ECDF of each quantity's ranks less what is expected of uniform ones, with the band that all of them should stay in.

    A curve within the band is thin and grey; one that leaves it is strong, marked and named, ringed where
    it is least probable. Above the band at the left and
    under it at the right the draws are too narrow, the other way round too wide; above it throughout they are too high, under
    it too low.

    Args:
        ax: axes to draw on.
        calibration: as from `jaxgmm.calibrate`.

    Returns:
        The axes.

    Raises:
        ValueError: nothing was ranked, as by bootstrap.

    Example:
        >>> rank_ecdfs(ax, jaxgmm.calibrate(key, prior, "gibbs", **options))  # doctest: +SKIP
    """
    if not calibration.quantities:
        raise ValueError(f"calibration of {calibration.method} has no ranks; one of nuts, gibbs or laplace was expected.")
    grid, lower, upper = calibration.band()
    certain = 100 * (1 - calibration.alpha)
    ax.fill_between(
        grid, lower, upper, color="0.88", linewidth=0, zorder=0, label=f"{certain:g} % band, all quantities at once"
    )
    ax.axhline(0, color="0.6", linewidth=0.8, zorder=1)
    outside = 0
    for row in calibration.rows:
        curve = calibration.ecdf(row["name"])[1]
        if row["inside"]:
            ax.plot(grid, curve, color="0.45", linewidth=0.9, zorder=2)
            continue
        style = {"color": COLORS[outside % 7], "linestyle": DASHES[outside % 7], "marker": MARKERS[outside % 7]}
        ax.plot(grid, curve, **style, linewidth=1.6, markersize=4, markevery=0.1, zorder=3, label=plain(row["name"]))
        ax.plot(row["at"], row["deviation"], "o", markersize=10, markerfacecolor="none", markeredgecolor=INK, zorder=4)
        outside += 1
    inside = len(calibration.quantities) - outside
    ax.plot([], [], color="0.45", linewidth=0.9, label=f"{inside} quantit{'y' if inside == 1 else 'ies'} inside")
    columns = 1 + (outside > 6) + (outside > 14)
    ax.legend(fontsize=7, frameon=False, ncols=columns, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.2)
    ax.set(xlim=(0, 1), xlabel="rank of the truth among the draws, as a share", ylabel="ECDF less the uniform one")
    return ax


def selection(ax: Axes, selection: Selection) -> Axes:
    """The criterion against the number of components, a line a covariance type; the best ringed, spikes crossed out.

    Args:
        ax: axes to draw on.
        selection: as from `jaxgmm.select`.

    Returns:
        The axes.

    Example:
        >>> selection(ax, jaxgmm.select(key, x))  # doctest: +SKIP
    """
    cells = [cell for cell in selection.cells.values() if np.isfinite(cell.criterion)]
    for i, kind in enumerate(dict.fromkeys(cell.covariance_type for cell in cells)):
        own = sorted((cell for cell in cells if cell.covariance_type == kind), key=lambda cell: cell.num_components)
        counts, values = [cell.num_components for cell in own], [cell.criterion for cell in own]
        style = {"color": COLORS[i % 7], "marker": MARKERS[i % 7], "linestyle": DASHES[i % 7]}
        ax.plot(counts, values, **style, linewidth=1.5, markersize=5, label=kind, zorder=2)
    spikes = [(cell.num_components, cell.criterion) for cell in cells if cell.spike]
    if spikes:
        ax.plot(
            *zip(*spikes, strict=True), "x", color=INK, markersize=9, markeredgewidth=1.6, label="spike: not chosen", zorder=3
        )
    best = selection.best
    if np.isfinite(best.criterion):
        where = f"best: {best.covariance_type}, K = {best.num_components}"
        ring = {"markersize": 14, "markerfacecolor": "none", "markeredgecolor": INK, "markeredgewidth": 1.8}
        ax.plot(best.num_components, best.criterion, "o", **ring, linestyle="none", label=where, zorder=4)
    ax.set(xlabel="number of components K", ylabel=f"{selection.criterion.upper()} (nats times two), lower is better")
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.margins(y=0.1)
    ax.legend(fontsize=8, frameon=False)
    return ax


def coverage(
    ax: Axes, study: Study, *, probability: float | None = None, kind: str | None = None, covariance_type: str | None = None
) -> Axes:
    """How often intervals hold the truth, a point a method, by distance of the components within number of observations.

    Bars are two Monte Carlo standard errors of one parameter either side; an interval that is undefined counts as a miss.

    Args:
        ax: axes to draw on; wide ones are best.
        study: as from `jaxgmm.coverage_study`.
        probability: of the intervals; None: the largest of the design.
        kind: "weight", "mean", "variance" or "covariance"; None: the average over all parameters.
        covariance_type: one of the design's; None: the first.

    Returns:
        The axes.

    Raises:
        ValueError: nothing of that probability, kind or type is in the study.

    Example:
        >>> coverage(ax, jaxgmm.coverage_study(key, design), kind="variance")  # doctest: +SKIP
    """
    design = study.design
    probability = max(design.probabilities) if probability is None else probability
    covariance_type = design.covariance_types[0] if covariance_type is None else covariance_type
    name = f"coverage_{100 * probability:g}"
    rows = [
        row for row in study.rows if row["covariance_type"] == covariance_type and kind in (None, row["kind"]) and name in row
    ]
    if not rows:
        raise ValueError(
            f"the study has no {100 * probability:g} % intervals of {kind or 'parameters'} with {covariance_type} covariances; it "
            f"has {', '.join(f'{100 * p:g} %' for p in design.probabilities)} and {', '.join(design.covariance_types)}."
        )
    cells = [(n, s) for n in design.num_observations for s in design.separations]
    places = np.array([i + 0.7 * design.num_observations.index(n) for i, (n, _) in enumerate(cells)])
    step = 0.7 / len(design.methods)
    for m, method in enumerate(design.methods):
        shade, marker, text = method_style(method, m)
        middle, error = 100 * np.array([_covered(rows, cell, method, name) for cell in cells]).T
        at = places + step * (m - (len(design.methods) - 1) / 2)
        ax.errorbar(at, middle, 2 * error, fmt=marker, color=shade, markersize=5, linewidth=1.2, label=text, zorder=2)
    ax.axhline(100 * probability, color=INK, linewidth=1.0, linestyle=DASHES[1], zorder=1)
    _label_cells(ax, cells, places)
    what = f"{kind}s" if kind else "all parameters"
    ax.set_ylabel(f"% of {100 * probability:g} % intervals that hold the truth\n{what}, {covariance_type}")
    ax.set_ylim(-2, 104)
    ax.legend(fontsize=8, frameon=False, ncols=3, loc="lower left", bbox_to_anchor=(0, 1.06), borderaxespad=0.2)
    return ax


def _label_cells(ax: Axes, cells: list[tuple[int, float]], places: np.ndarray) -> None:
    """Distances below, numbers of observations above, a line between those."""
    ax.set_xticks(places, [f"{s:g}" for _, s in cells])
    ax.set_xlabel("distance of the components, standard deviations")
    counts = np.array([n for n, _ in cells])
    for n in dict.fromkeys(counts.tolist()):
        own = places[counts == n]
        where = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points", "ha": "center", "fontsize": 8}
        ax.annotate(f"N = {n}", (float(own.mean()), 1), (0, 3), **where)
        if n != counts[-1]:
            ax.axvline(own.max() + 0.85, color="0.8", linewidth=0.8, zorder=0)


def _covered(rows: list[dict[str, Any]], cell: tuple[int, float], method: str, name: str) -> tuple[float, float]:
    """Mean over parameters, and the largest Monte Carlo standard error of one."""
    own = [row for row in rows if (row["num_observations"], row["separation"], row["method"]) == (*cell, method)]
    return float(np.mean([row[name] for row in own])), max(row[f"{name}_se"] for row in own)
