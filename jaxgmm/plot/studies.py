"""Figures of studies: the ranks of a calibration, the criterion of a model selection, and the coverage of intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from operator import attrgetter
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes

from .style import COLORS, DASHES, MARKERS, grey, ink, integer_ticks, method_style, plain, title_above

if TYPE_CHECKING:  # at run time, a figure of one study should not import the code of other studies
    from ..calibration.result import Calibration
    from ..coverage.study import Study
    from ..coverage.summary import StudyRow
    from ..selection.select import Selection


def rank_ecdfs(ax: Axes, calibration: Calibration) -> Axes:
    """Draw a curve for each quantity: the ECDF of its ranks minus the ECDF of uniform ranks. Also draw the band.

    If the method is correct, all curves should lie inside the band. A curve inside the band is thin and grey. A curve that
    leaves the band is thick, has a name and markers, and has a ring at its least probable point. If a curve is above the band
    on the left and below it on the right, the draws are too narrow; in the reverse case, they are too wide. If a curve is above
    the band everywhere, the draws are too high; if it is below the band everywhere, they are too low.

    Args:
        ax: axes to draw on.
        calibration: a result of `jaxgmm.calibrate`.

    Returns:
        The axes.

    Raises:
        ValueError: the calibration has no ranks, because its method is bootstrap.

    Example:
        >>> rank_ecdfs(ax, jaxgmm.calibrate(key, prior, "gibbs", **options))  # doctest: +SKIP
    """
    if not calibration.quantities:
        raise ValueError(f"calibration of {calibration.method} has no ranks; one of nuts, gibbs or laplace was expected.")
    grid, lower, upper = calibration.band()
    label = f"{100 * (1 - calibration.alpha):g} % band, all quantities at once"
    ax.fill_between(grid, lower, upper, color=grey(ax, 0.88), linewidth=0, zorder=0, label=label)
    ax.axhline(0, color=grey(ax, 0.6), linewidth=0.8, zorder=1)
    outside = 0
    for row in calibration.rows:
        curve = calibration.ecdf(row.name)[1]
        if row.inside:
            ax.plot(grid, curve, color=grey(ax, 0.45), linewidth=0.9, zorder=2)
            continue
        style = {"color": COLORS[outside % 7], "linestyle": DASHES[outside % 7], "marker": MARKERS[outside % 7]}
        ax.plot(grid, curve, **style, linewidth=1.6, markersize=4, markevery=0.1, zorder=3, label=plain(row.name))
        ax.plot(row.at, row.deviation, "o", markersize=10, markerfacecolor="none", markeredgecolor=ink(ax), zorder=4)
        outside += 1
    inside = len(calibration.quantities) - outside
    ax.plot([], [], color=grey(ax, 0.45), linewidth=0.9, label=f"{inside} quantit{'y' if inside == 1 else 'ies'} inside")
    columns = 1 + (outside > 6) + (outside > 14)
    ax.legend(fontsize=7, frameon=False, ncols=columns, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.2)
    title_above(
        ax, f"Ranks of the truth among draws by {method_style(calibration.method)[2]}", math.ceil((outside + 2) / columns)
    )
    ax.set(xlim=(0, 1), xlabel="rank of the truth among the draws, as a fraction", ylabel="ECDF minus the uniform one")
    return ax


def selection(ax: Axes, selection: Selection) -> Axes:
    """Draw the criterion against the number of components, with one line per covariance type.

    The legend lists the types in the order of their best models, the best first. The best model has a ring; models with a
    degenerate component are crossed out.

    Args:
        ax: axes to draw on.
        selection: a result of `jaxgmm.select`.

    Returns:
        The axes.

    Example:
        >>> selection(ax, jaxgmm.select(key, x))  # doctest: +SKIP
    """
    cells = [cell for cell in selection.ranked if np.isfinite(cell.criterion)]
    labels = selection.type_labels()
    for i, covariance_type in enumerate(dict.fromkeys(cell.covariance_type for cell in cells)):
        own = sorted((cell for cell in cells if cell.covariance_type == covariance_type), key=attrgetter("num_components"))
        counts, values = [cell.num_components for cell in own], [cell.criterion for cell in own]
        place = (i + i // 7) % 7  # with more than seven types, colours return with other markers and dashes
        style = {"color": COLORS[i % 7], "marker": MARKERS[place], "linestyle": DASHES[place]}
        ax.plot(counts, values, **style, linewidth=1.5, markersize=5, label=labels[covariance_type], zorder=2)
    unsound = [(cell.num_components, cell.criterion) for cell in cells if not cell.sound and cell is not selection.best]
    if unsound:
        cross = {"color": ink(ax), "markersize": 9, "markeredgewidth": 1.6, "label": "degenerate or failed: not chosen"}
        ax.plot(*zip(*unsound, strict=True), "x", **cross, zorder=3)
    best = selection.best
    if np.isfinite(best.criterion):
        label = f"best: {labels[best.covariance_type]}, K = {best.num_components}"
        ring = {"markersize": 14, "markerfacecolor": "none", "markeredgecolor": ink(ax), "markeredgewidth": 1.8}
        ax.plot(best.num_components, best.criterion, "o", **ring, linestyle="none", label=label, zorder=4)
    name = "-2 log p(x)" if selection.criterion == "evidence" else selection.criterion.upper()
    ax.set_title(f"{name} of the models", fontsize=9)
    ax.set(xlabel="number of components K", ylabel=f"{name} (twice nats), lower is better")
    integer_ticks(ax)
    ax.margins(y=0.1)
    ax.legend(fontsize=8, frameon=False, ncols=1 if len(labels) <= 7 else 2)
    return ax


def coverage(
    ax: Axes, study: Study, *, probability: float | None = None, kind: str | None = None, covariance_type: str | None = None
) -> Axes:
    """Draw the coverage of intervals, with one point per method, separation and number of observations.

    The coverage is the percentage of intervals that contain the truth. Undefined intervals count as misses. Error bars extend
    two Monte Carlo standard errors of one parameter to either side.

    Args:
        ax: axes to draw on, preferably wide.
        study: a result of `jaxgmm.coverage_study`.
        probability: probability of the intervals; None: the largest probability in the design.
        kind: "weight", "mean", "variance" or "covariance", the kind of the parameters that are averaged; None: all parameters.
        covariance_type: a covariance type of the design; None: the first one.

    Returns:
        The axes.

    Raises:
        ValueError: the study does not have that probability, kind or covariance type.

    Example:
        >>> coverage(ax, jaxgmm.coverage_study(key, design), kind="variance")  # doctest: +SKIP
    """
    design = study.design
    probability = max(design.probabilities) if probability is None else probability
    covariance_type = design.covariance_types[0] if covariance_type is None else covariance_type
    rows = [row for row in study.rows if row.covariance_type == covariance_type and kind in (None, row.kind)]
    rows = [row for row in rows if probability in row.intervals]
    if not rows:
        raise ValueError(
            f"the study has no {100 * probability:g} % intervals of a {kind or 'parameter'} with {covariance_type} "
            f"covariances; it has {', '.join(f'{100 * p:g} %' for p in design.probabilities)} and "
            f"{', '.join(design.covariance_types)}."
        )
    cells = [(n, s) for n in design.num_observations for s in design.separations]
    positions = np.array([i + 0.7 * design.num_observations.index(n) for i, (n, _) in enumerate(cells)])
    step = 0.7 / len(design.methods)
    for m, method in enumerate(design.methods):
        shade, marker, text = method_style(method, m)
        middle, error = 100 * np.array([_average_coverage(rows, cell, method, probability) for cell in cells]).T
        at = positions + step * (m - (len(design.methods) - 1) / 2)
        ax.errorbar(at, middle, 2 * error, fmt=marker, color=shade, markersize=5, linewidth=1.2, label=text, zorder=2)
    ax.axhline(100 * probability, color=ink(ax), linewidth=1.0, linestyle=DASHES[1], zorder=1)
    _label_cells(ax, cells, positions)
    subject = f"{kind}s" if kind else "all parameters"
    ax.set_ylabel(f"% of {100 * probability:g} % intervals that contain the truth\n{subject}, {covariance_type}")
    ax.set_ylim(-2, 104)
    ax.legend(fontsize=8, frameon=False, ncols=3, loc="lower left", bbox_to_anchor=(0, 1.06), borderaxespad=0.2)
    title_above(ax, f"Coverage of {100 * probability:g} % intervals", 1 + math.ceil((len(design.methods) + 1) / 3))
    return ax


def _label_cells(ax: Axes, cells: Sequence[tuple[int, float]], positions: np.ndarray) -> None:
    """Write the separations below the axes and the numbers of observations above them, with lines between the numbers."""
    ax.set_xticks(positions, [f"{separation:g}" for _, separation in cells])
    ax.set_xlabel("distance of the components, standard deviations")
    counts = np.array([n for n, _ in cells])
    for n in dict.fromkeys(counts.tolist()):
        own = positions[counts == n]
        style = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points", "ha": "center", "fontsize": 8}
        ax.annotate(f"N = {n}", (float(own.mean()), 1), (0, 3), **style)
        if n != counts[-1]:
            ax.axvline(own.max() + 0.85, color=grey(ax, 0.8), linewidth=0.8, zorder=0)


def _average_coverage(
    rows: Sequence[StudyRow], cell: tuple[int, float], method: str, probability: float
) -> tuple[float, float]:
    """Return the mean coverage over the parameters, and the largest Monte Carlo standard error of a single parameter."""
    own = [row for row in rows if (row.num_observations, row.separation, row.method) == (*cell, method)]
    intervals = [row.intervals[probability] for row in own]
    return float(np.mean([one.coverage for one in intervals])), max(one.coverage_se for one in intervals)
