"""Pictures: each function draws on axes that it is given and returns them. The only file that imports matplotlib.

Colours are those of Okabe & Ito (2008), told apart by the colour-blind; a component also has its own marker, and EM its own
line, so that a grey print can be read.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from . import covariance
from .density import log_prob, marginal, responsibilities
from .experiment.compare import Comparison
from .experiment.page import row_name
from .mixture import Mixture

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7A6A00")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_INK = "#222222"
_MOST_PANELS = 24  # marginals in one figure
_MOST_PAIRS = 3  # pictures of two features each in one figure


def color(component: int) -> str:
    """The colour of a component, the same in every picture.

    Example:
        >>> color(0)
        '#0072B2'
    """
    return COLORS[component % len(COLORS)]


def scatter(ax: Axes, x: Any, *, responsibilities: Any = None, feature_names: Sequence[str] | None = None) -> Axes:
    """Points in the plane; with responsibilities coloured by them, marked by the most likely component.

    Args:
        ax: axes to draw on.
        x: (N, 2), in data units.
        responsibilities: (N, K), or None for grey points.
        feature_names: two names for the axes.

    Returns:
        The axes.

    Example:
        >>> scatter(Figure().subplots(), [[0.0, 1.0], [2.0, 1.0]]).get_xlabel()
        'feature 0'
    """
    x = np.asarray(x)
    size = float(np.clip(4000 / max(len(x), 1), 3, 22))
    if responsibilities is None:
        ax.scatter(x[:, 0], x[:, 1], s=size, color="0.45", alpha=0.6, linewidths=0, zorder=1)
    else:
        r = np.asarray(responsibilities)
        shades = np.clip(r @ np.array([to_rgb(color(k)) for k in range(r.shape[1])]), 0, 1)  # (N, 3)
        for k in range(r.shape[1]):
            mine = r.argmax(1) == k
            ax.scatter(
                x[mine, 0],
                x[mine, 1],
                s=size,
                c=shades[mine],
                marker=MARKERS[k % len(MARKERS)],
                alpha=0.8,
                linewidths=0,
                zorder=1,
            )
    names = _names(feature_names, 2)
    ax.set(xlabel=names[0], ylabel=names[1])
    return ax


def ellipses(ax: Axes, mixture: Mixture, *, mass: float = 0.9) -> Axes:
    """The ellipse that holds a share `mass` of each component, and its mean, marked with the component's number.

    Args:
        ax: axes to draw on.
        mixture: one mixture, or a stack of them (posterior draws), in two features. One is drawn in strong dark lines, a
            stack in thin ones of the components' colours, without marks.
        mass: probability inside, of each component by itself.

    Returns:
        The axes.

    Example:
        >>> import jaxgmm, numpy as np
        >>> mixture = jaxgmm.make_mixture([0.5, 0.5], np.zeros((2, 2)), np.stack([np.eye(2)] * 2))
        >>> len(ellipses(Figure().subplots(), mixture).collections)
        2
    """
    outlines = _outlines(mixture, mass)  # (..., K, points, 2)
    many = outlines.ndim > 3
    for k in range(mixture.num_components):
        lines = outlines[..., k, :, :].reshape(-1, *outlines.shape[-2:])
        style = (
            {"colors": color(k), "linewidths": 0.7, "alpha": min(0.6, 12 / len(lines)), "zorder": 2}
            if many
            else {"colors": _INK, "linewidths": 2.0, "zorder": 3}
        )
        ax.add_collection(LineCollection(list(lines), **style))
        if not many:
            mark = np.asarray(mixture.means)[k]
            ax.plot(*mark, "o", color="white", markeredgecolor=_INK, markeredgewidth=1.4, markersize=11, zorder=4)
            ax.annotate(str(k), mark, ha="center", va="center_baseline", fontsize=8, color=_INK, fontweight="bold", zorder=5)
    ax.autoscale_view()
    return ax


def densities(ax: Axes, mixture: Mixture, x: Any, *, feature_name: str = "feature 0", draws: Mixture | None = None) -> Axes:
    """Histogram of one variable, the mixture's density, its components (dashed), and densities of posterior draws.

    Args:
        ax: axes to draw on.
        mixture: one mixture with D = 1.
        x: (N, 1), in data units.
        feature_name: name of the axis.
        draws: a stack of mixtures, thin lines.

    Returns:
        The axes.

    Example:
        >>> import jaxgmm
        >>> mixture = jaxgmm.make_mixture([0.5, 0.5], [[0.0], [3.0]], [[[1.0]], [[1.0]]])
        >>> len(densities(Figure().subplots(), mixture, [[0.0], [1.0], [3.0]]).lines)
        3
    """
    x = np.asarray(x)[:, 0]
    spread = np.ptp(x) or 1.0
    grid = np.linspace(x.min() - 0.15 * spread, x.max() + 0.15 * spread, 400).astype(np.asarray(mixture.means).dtype)
    bins = int(np.clip(len(np.histogram_bin_edges(x, "auto")) - 1, 12, 60))  # few: rounded data give combs in narrow ones
    ax.hist(x, bins=bins, density=True, color="0.85", edgecolor="white", zorder=0)
    if draws is not None:
        curves = np.exp(np.asarray(log_prob(draws, grid[:, None]))).reshape(-1, len(grid))
        ax.add_collection(
            LineCollection(
                [np.stack([grid, c], 1) for c in curves],
                colors="#56B4E9",
                linewidths=0.7,
                alpha=min(0.6, 12 / len(curves)),
                zorder=1,
            )
        )
    total = np.exp(np.asarray(log_prob(mixture, grid[:, None])))
    for k, curve in enumerate((np.asarray(responsibilities(mixture, grid[:, None])) * total[:, None]).T):
        ax.plot(grid, curve, "--", color=color(k), linewidth=1.4, zorder=4)
        ax.annotate(
            str(k),
            (float(grid[curve.argmax()]), float(curve.max())),
            textcoords="offset points",
            xytext=(0, 3),
            ha="center",
            fontsize=8,
            color=color(k),
            fontweight="bold",
        )
    ax.plot(grid, total, color=_INK, linewidth=1.8, zorder=3)
    ax.set(xlabel=feature_name, ylabel="density")
    ax.set_ylim(bottom=0)
    return ax


def convergence(ax: Axes, history: Any) -> Axes:
    """The objective after each EM step.

    Args:
        ax: axes to draw on.
        history: (steps + 1,), nats, NaN-padded, as in Fit.history.

    Returns:
        The axes.

    Example:
        >>> convergence(Figure().subplots(), [-3.0, -2.0, float("nan")]).lines[0].get_xdata().tolist()
        [0, 1]
    """
    history = np.asarray(history)
    steps = np.flatnonzero(np.isfinite(history))
    ax.plot(steps, history[steps], "o-", color=COLORS[0], markersize=3, linewidth=1.2)
    ax.set(xlabel="EM step", ylabel="objective (nats)")
    ax.xaxis.get_major_locator().set_params(integer=True)
    return ax


def posterior_marginal(
    ax: Axes,
    draws: Any,
    em: float | None = None,
    interval: tuple[float, float] | None = None,
    *,
    title: str = "",
    shade: str = COLORS[0],
) -> Axes:
    """Histogram of the draws of one quantity, with EM as a dark line and the posterior interval as a bar below.

    Args:
        ax: axes to draw on.
        draws: (...), in the units of the quantity.
        em: the point estimate.
        interval: its lower and upper end.
        title: what the quantity is.
        shade: colour of the histogram.

    Returns:
        The axes.

    Example:
        >>> posterior_marginal(Figure().subplots(), [1.0, 2.0, 3.0], 2.0, title="mean waiting").get_title(loc="left")
        'mean waiting'
    """
    draws = np.asarray(draws, float).ravel()
    low, high = np.quantile(draws, [0.002, 0.998])
    margin = 0.05 * (high - low) or 0.5
    span = (low - margin, high + margin)
    heights, *_ = ax.hist(draws, bins=40, range=span, density=True, color=shade, alpha=0.55)
    top = heights.max() or 1.0
    if interval is not None:
        ax.plot(interval, [-0.07 * top] * 2, color=shade, linewidth=3, solid_capstyle="butt")
    if em is not None:
        ax.axvline(em, color=_INK, linewidth=1.6)
        span = (min(span[0], em - margin), max(span[1], em + margin))
    ax.set(yticks=[], ylim=(-0.14 * top, 1.12 * top), xlim=span)
    ax.set_title(title, loc="left", fontsize=8, pad=2)
    ax.spines[["left", "right", "top"]].set_visible(False)
    ax.tick_params(labelsize=7, length=2, pad=1)
    ax.locator_params(axis="x", nbins=4)
    return ax


def comparison_figure(
    comparison: Comparison, mixture: Mixture, x: Any, *, feature_names: Sequence[str] | None = None, num_draws: int = 60
) -> Figure:
    """One page: the data with EM's and the draws' ellipses (or densities), and marginal posteriors with EM marked.

    Of more than 24 parameters those are shown where EM and the posterior are furthest apart; of more than two features each
    with the next, of the first four.

    Args:
        comparison: as from `jaxgmm.compare`; its first posterior is drawn.
        mixture: the EM solution that was compared.
        x: (N, D), in data units.
        feature_names: D names.
        num_draws: posterior draws whose ellipses are drawn.

    Returns:
        A matplotlib Figure, to be saved with `.savefig`.

    Example:
        >>> figure = comparison_figure(jaxgmm.compare(fit, posterior, x), fit.mixture, x)  # doctest: +SKIP
        >>> figure.savefig("comparison.png")  # doctest: +SKIP
    """
    x = np.asarray(x)
    names = _names(feature_names, x.shape[1])
    method, posterior = next(iter(comparison.posteriors.items()))
    rows = [row for row in comparison.rows if row["method"] == method]
    shown = _furthest(rows)
    columns = _grid_columns(shown, mixture.num_components)
    height = max(5.2, 1.15 * math.ceil(len(shown) / columns) + 1.0)
    figure = Figure(figsize=(5.4 + 2.2 * columns, height), dpi=150, layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(5.4, 2.2 * columns))
    _draw_data(left, _on_host(mixture), _thin(_on_host(posterior.mixture), num_draws), x, names)
    _draw_marginals(right, comparison, shown, len(rows), method, columns)
    return figure


def _draw_data(figure: Any, mixture: Mixture, draws: Mixture, x: np.ndarray, names: list[str]) -> None:
    d = mixture.num_features
    if d == 1:
        densities(figure.subplots(), mixture, x, feature_name=names[0], draws=draws)
    else:
        pairs = [(i, i + 1) for i in range(d - 1)][:_MOST_PAIRS]
        for ax, pair in zip(np.ravel(figure.subplots(len(pairs), 1)), pairs, strict=True):
            scatter(ax, x[:, pair], feature_names=[names[i] for i in pair])
            ellipses(ax, marginal(draws, pair))
            ellipses(ax, marginal(mixture, pair))
    drawn = f"{math.prod(draws.batch_shape)} posterior draws (thin)"
    title = (
        f"Data (bars), density of EM (dark), its components (dashed),\n{drawn}"
        if d == 1
        else f"Data, EM (dark) and {drawn}:\nellipses, each around 90 % of its component"
    )
    figure.suptitle(title, fontsize=9, x=0.02, ha="left")


def _draw_marginals(figure: Any, comparison: Comparison, shown: list[dict], total: int, method: str, columns: int) -> None:
    axes = np.ravel(figure.subplots(math.ceil(len(shown) / columns), columns, squeeze=False))
    for ax, row in zip(axes, shown, strict=False):
        shared = row["component"] is None
        title = row_name(row, room=28) + ("" if shared else f" ({row['component']})")
        posterior_marginal(
            ax,
            comparison.draws(row),
            row["em"],
            (row["lower"], row["upper"]),
            title=title,
            shade="0.4" if shared else color(row["component"]),
        )
    for ax in axes[len(shown) :]:
        ax.set_axis_off()
    which = (
        "Posterior of every parameter"
        if len(shown) == total
        else f"Posteriors of the {len(shown)} of {total} parameters furthest from EM"
    )
    figure.suptitle(f"{which}, by {method};\nthe component in brackets", fontsize=9, x=0.02, ha="left")
    handles = [
        Line2D([], [], color=_INK, linewidth=1.6, label="EM"),
        Line2D([], [], color="0.4", linewidth=7, alpha=0.55, label="posterior draws"),
        Line2D([], [], color="0.4", linewidth=3, label=f"{100 * comparison.interval:g} % interval"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=8, frameon=False)


def _furthest(rows: list[dict]) -> list[dict]:
    """At most 24 rows, the components of one quantity side by side."""
    rows = [row for row in rows if row["sd"] > 0]  # K = 1: the weight is no parameter
    rows = sorted(rows, key=lambda row: -abs(row["z"]))[:_MOST_PANELS] if len(rows) > _MOST_PANELS else rows
    index = {"weights": 0, "means": 1, "covariances": 2}

    def place(row: dict) -> tuple:
        field, numbers = row["name"].rstrip("]").split("[")
        component, *rest = map(int, numbers.split(","))
        return index[field], rest, component

    return sorted(rows, key=place)


def _grid_columns(shown: list[dict], num_components: int) -> int:
    """A column a component where every row of the grid is then one quantity."""
    whole = sum(row["component"] is not None for row in shown) % num_components == 0  # shared ones come last
    return num_components if whole and 2 <= num_components <= 6 and len(shown) < _MOST_PANELS else min(4, max(len(shown), 1))


def _on_host(mixture: Mixture) -> Mixture:
    """With NumPy arrays, of which parts are taken without anything to compile."""
    return Mixture(*map(np.asarray, (mixture.weights, mixture.means, mixture.covariances)), mixture.covariance_type)


def _thin(mixture: Mixture, num_draws: int) -> Mixture:
    """At most num_draws of a stack, evenly spaced over chains and draws, as (draws, ...)."""
    total = math.prod(mixture.batch_shape)
    keep = np.unique(np.linspace(0, total - 1, num_draws).round().astype(int))
    return mixture[np.unravel_index(keep, mixture.batch_shape)]


def _outlines(mixture: Mixture, mass: float) -> np.ndarray:
    """Ellipses (..., K, points, 2) that hold `mass` of each component: |z|^2 <= -2 log(1 - mass) in two dimensions."""
    dense = covariance.to_dense(mixture.covariances, mixture.covariance_type, mixture.num_components, 2)
    lower = np.linalg.cholesky(np.asarray(dense, float))
    angle = np.linspace(0, 2 * np.pi, 120)
    circle = math.sqrt(-2 * math.log1p(-mass)) * np.stack([np.cos(angle), np.sin(angle)])  # (2, points)
    return np.asarray(mixture.means, float)[..., None, :] + np.swapaxes(lower @ circle, -1, -2)


def _names(feature_names: Sequence[str] | None, num_features: int) -> list[str]:
    return [f"feature {i}" for i in range(num_features)] if feature_names is None else [str(n) for n in feature_names]
