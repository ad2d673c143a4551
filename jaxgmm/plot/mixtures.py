"""Figures of mixtures and data, of the convergence of EM, and of co-clustering probabilities."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.patches import Rectangle
from numpy.typing import ArrayLike

from .. import covariance
from ..density import log_prob, responsibilities
from ..mixture import Mixture, MixtureLike, as_mixture
from .limits import axis_limits, component_ends
from .style import COLORS, axis_names, color, grey, ink, integer_ticks, note, paper, plain

_GRID = 160  # number of points along each axis of the grid for contours
_PEAK = 3.0  # a density is cut off where it is higher than this many times the histogram's height
_CLOSE = 0.08  # a component is numbered above the density of the mixture if this density is closer, as a share of the axis


def ellipses(ax: Axes, mixture: MixtureLike, *, mass: float = 0.9, empty: Sequence[int] = ()) -> Axes:
    """Draw, for each component, an ellipse around the mean, and the number of the component at the mean.

    A stack does not widen the axes if something was drawn on them before, because one draw may be far away from the data.

    Args:
        ax: axes to draw on.
        mixture: a Mixture, a Fit, or a stack such as posterior draws, with two features. One mixture is drawn in strong dark
            lines. A stack is drawn in thin lines in the colours of the components, without the means.
        mass: probability that a point of a component lies inside the component's ellipse.
        empty: components of one mixture that hold no data. They are drawn in thin grey dashes and do not widen the axes.

    Returns:
        The axes.

    Example:
        >>> import jaxgmm, numpy as np
        >>> mixture = jaxgmm.make_mixture([0.5, 0.5], np.zeros((2, 2)), np.stack([np.eye(2)] * 2))
        >>> from matplotlib.figure import Figure
        >>> len(ellipses(Figure().subplots(), mixture).collections)
        2
    """
    mixture = as_mixture(mixture)
    found = outlines(mixture, mass)  # (..., K, points, 2)
    many, has_data, means = found.ndim > 3, ax.has_data(), np.asarray(mixture.means)
    for k in range(mixture.num_components):
        lines = found[..., k, :, :].reshape(-1, *found.shape[-2:])
        is_empty = not many and k in empty
        style = {"colors": ink(ax), "linewidths": 2.0, "zorder": 3}
        if many:
            style = {"colors": color(k), "linewidths": 0.7, "alpha": min(0.6, 12 / len(lines)), "zorder": 2}
        elif is_empty:
            style = {"colors": grey(ax, 0.5), "linewidths": 0.9, "linestyles": "dashed", "zorder": 3}
        ax.add_collection(LineCollection(list(lines), **style), autolim=not (has_data and (many or is_empty)))
        if not many and not is_empty:
            style = {"color": paper(ax), "markeredgecolor": ink(ax), "markeredgewidth": 1.4, "markersize": 11, "zorder": 4}
            ax.plot(*means[k], "o", **style)
            text = {"ha": "center", "va": "center_baseline", "fontsize": 8, "color": ink(ax), "fontweight": "bold", "zorder": 5}
            ax.annotate(str(k), means[k], **text)
    ax.autoscale_view()
    return ax


def contours(ax: Axes, mixture: MixtureLike, *, masses: Sequence[float] = (0.5, 0.75, 0.95)) -> Axes:
    """Draw lines of equal density in the plane. Each line surrounds the smallest region that contains a given probability.

    Args:
        ax: axes to draw on.
        mixture: one Mixture, or one Fit, with two features.
        masses: the probabilities of the regions, each above 0 and below 1.

    Returns:
        The axes.

    Raises:
        ValueError: the mixture is a stack or does not have two features, or an entry of masses is not between 0 and 1.

    Example:
        >>> import jaxgmm, numpy as np
        >>> from matplotlib.figure import Figure
        >>> mixture = jaxgmm.make_mixture([0.5, 0.5], np.zeros((2, 2)), np.stack([np.eye(2)] * 2))
        >>> contours(Figure().subplots(), mixture).get_xlabel()
        'feature 0'
    """
    mixture = as_mixture(mixture)
    if mixture.num_features != 2 or mixture.batch_shape:
        raise ValueError(
            f"mixture has D={mixture.num_features} and leading axes {mixture.batch_shape}; one mixture with D=2 was expected: "
            "use jaxgmm.marginal(mixture, dims) for two of its features."
        )
    if not masses or not all(0 < mass < 1 for mass in masses):
        raise ValueError(f"masses is {masses}; probabilities between 0 and 1 were expected, such as (0.5, 0.95).")
    grid, density = _density_on_grid(mixture)
    ordered = np.sort(density.ravel())[::-1]
    held = np.cumsum(ordered) / ordered.sum()
    levels = {float(ordered[np.searchsorted(held, mass)]): f"{100 * mass:g} %" for mass in sorted(masses, reverse=True)}
    widths = np.linspace(1.0, 1.8, len(levels))
    drawn = ax.contour(*grid, density.T, levels=list(levels), colors=ink(ax), linewidths=widths, zorder=3)
    for text in ax.clabel(drawn, fmt=levels, fontsize=7, inline=True, inline_spacing=3):
        text.set(zorder=5, bbox={"facecolor": paper(ax), "alpha": 0.75, "edgecolor": "none", "pad": 0.5})
    if not ax.get_xlabel():
        names = axis_names(None, 2)
        ax.set(xlabel=names[0], ylabel=names[1])
    return ax


def densities(
    ax: Axes,
    mixture: MixtureLike,
    x: ArrayLike,
    *,
    feature_name: str = "feature 0",
    draws: MixtureLike | None = None,
    empty: Sequence[int] = (),
) -> Axes:
    """Draw a histogram of the only feature, with the densities of the mixture, of its components, and of posterior draws.

    The axes are as wide as the data and EM's components, and as high as the histogram and EM's density; draws are cut off. If
    the peak of EM's density is more than three times as high as the histogram, the peak is cut off too, and an arrow marks it.

    Args:
        ax: axes to draw on.
        mixture: one Mixture, or one Fit, with D = 1; its components are drawn as dashed lines.
        x: (N, 1), the data, in data units.
        feature_name: label of the horizontal axis.
        draws: a stack of mixtures, or a Posterior, whose densities are drawn in thin lines; or None.
        empty: components that hold no data. They are not drawn, and a note names them.

    Returns:
        The axes.

    Example:
        >>> import jaxgmm
        >>> mixture = jaxgmm.make_mixture([0.5, 0.5], [[0.0], [3.0]], [[[1.0]], [[1.0]]])
        >>> from matplotlib.figure import Figure
        >>> len(densities(Figure().subplots(), mixture, [[0.0], [1.0], [3.0]]).lines)
        3
    """
    mixture, x = as_mixture(mixture, single=True), np.asarray(x)[:, 0]
    even = histogram(ax, x, component_ends(mixture, 0, 0.98, empty))
    grid, highest = _with_peaks(mixture, even), max(bar.get_height() for bar in ax.patches if isinstance(bar, Rectangle))
    if draws is not None:
        curves = np.exp(np.asarray(log_prob(draws, grid[:, None]))).reshape(-1, len(grid))
        style = {"colors": COLORS[5], "linewidths": 0.7, "alpha": min(0.6, 12 / len(curves)), "zorder": 1}
        ax.add_collection(LineCollection([np.c_[grid, curve] for curve in curves], **style), autolim=False)
    total = np.exp(np.asarray(log_prob(mixture, grid[:, None])))
    top = 1.18 * min(max(highest, float(total.max())), _PEAK * highest)
    for k, curve in enumerate((np.asarray(responsibilities(mixture, grid[:, None])) * total[:, None]).T):
        if k not in empty:
            ax.plot(grid, curve, "--", color=color(k), linewidth=1.4, zorder=4)
            peak = curve.argmax()
            height = total[peak] if total[peak] - curve[peak] < _CLOSE * top else curve[peak]
            _number_component(ax, k, float(grid[peak]), float(height), top)
    ax.plot(grid, total, color=ink(ax), linewidth=1.8, zorder=3)
    note(ax, [f"component {k} holds no data" for k in empty])
    ax.set(xlabel=plain(feature_name), ylabel="density", xlim=even[[0, -1]], ylim=(0, top))
    return ax


def _with_peaks(mixture: Mixture, grid: np.ndarray) -> np.ndarray:
    """Return the points at which densities are drawn: a grid, and points near the means of the components."""
    stored = np.asarray(mixture.covariances, float)
    sd = np.sqrt(np.ravel(covariance.variances(stored, mixture.covariance_type, 1)))
    near = np.asarray(mixture.means, float)[:, 0, None] + sd[:, None] * np.linspace(-3, 3, 25)
    near = near[(near >= grid[0]) & (near <= grid[-1])]
    return np.sort(np.concatenate([grid, near])).astype(np.asarray(mixture.means).dtype)


def _number_component(ax: Axes, component: int, at: float, height: float, top: float) -> None:
    """Write the number of a component above its density, with an arrow if the density is higher than the axes."""
    text = f"{component} ↑" if height > top else str(component)
    box = {"facecolor": paper(ax), "alpha": 0.85, "edgecolor": "none", "pad": 1.0}
    style = {"ha": "center", "va": "center", "fontsize": 8, "fontweight": "bold", "bbox": box, "zorder": 6}
    offset = -7 if height > 0.94 * top else 7
    ax.annotate(text, (at, min(height, top)), (0, offset), textcoords="offset points", color=color(component), **style)


def convergence(ax: Axes, history: ArrayLike) -> Axes:
    """Draw the objective after each EM step.

    Args:
        ax: axes to draw on.
        history: (steps + 1,), the objective in nats, such as Fit.history. Entries that are not finite, or that come after the
            last change, are left out.

    Returns:
        The axes.

    Example:
        >>> from matplotlib.figure import Figure
        >>> convergence(Figure().subplots(), [-3.0, -2.0, -2.0, -2.0]).lines[0].get_xdata().tolist()
        [0, 1]
    """
    history = np.asarray(history)
    changes = np.flatnonzero(history[1:] != history[:-1])
    history = history[: changes[-1] + 2 if changes.size else 1]
    steps = np.flatnonzero(np.isfinite(history))
    ax.plot(steps, history[steps], "o-", color=COLORS[0], markersize=3, linewidth=1.2)
    ax.set(xlabel="EM step", ylabel="objective (nats)")
    ax.set_title("Objective of EM after each step", fontsize=9)
    integer_ticks(ax)
    return ax


def coclustering(ax: Axes, matrix: ArrayLike, *, labels: ArrayLike | None = None) -> Axes:
    """Draw the matrix of probabilities that two points belong to the same component. The points are sorted by cluster.

    Args:
        ax: axes to draw on; a colour scale is added beside them.
        matrix: (N, N), a result of `jaxgmm.coclustering`.
        labels: (N,), the cluster of each point. The points are sorted by cluster, and lines separate the clusters. Within a
            cluster, the points whose membership is most certain come first. None: the points are sorted by average linkage.

    Returns:
        The axes.

    Raises:
        ValueError: the matrix is not square, or the number of labels does not match the matrix.

    Example:
        >>> from matplotlib.figure import Figure
        >>> matrix = [[1.0, 0.1, 0.9], [0.1, 1.0, 0.2], [0.9, 0.2, 1.0]]
        >>> coclustering(Figure().subplots(), matrix, labels=[0, 1, 0]).images[0].get_array().tolist()[0]
        [1.0, 0.9, 0.1]
    """
    matrix = np.asarray(matrix, float)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"matrix has shape {matrix.shape}; (N, N) was expected, such as jaxgmm.coclustering(posterior, x).")
    if labels is not None and np.shape(labels) != (len(matrix),):
        raise ValueError(f"labels has shape {np.shape(labels)}; one label per point was expected: ({len(matrix)},).")
    order = _by_linkage(matrix) if labels is None else _by_label(matrix, np.asarray(labels))
    image = ax.imshow(matrix[np.ix_(order, order)], cmap="Blues", vmin=0, vmax=1, interpolation="none", rasterized=True)
    scale = ax.figure.colorbar(image, ax=ax, fraction=0.046, pad=0.03)
    scale.set_label("P(same component)", fontsize=8)
    scale.ax.tick_params(labelsize=7)
    if labels is not None:
        ordered = np.asarray(labels)[order]
        for end in np.flatnonzero(ordered[1:] != ordered[:-1]) + 0.5:
            ax.axhline(end, color=ink(ax), linewidth=0.8)
            ax.axvline(end, color=ink(ax), linewidth=0.8)
    ax.set(xlabel="point, in order of clusters", ylabel="point, in order of clusters")
    ax.set_title("Probability that two points belong to the same component", fontsize=9)
    return ax


def histogram(ax: Axes, values: np.ndarray, ends: ArrayLike = ()) -> np.ndarray:
    """Draw a grey histogram of one feature (N,). Return a grid of 400 points that extends a little beyond the data.

    `axis_limits` computes the range of the histogram and of the grid from the points and from `ends`. Points beyond this range
    are left out.
    """
    low, high = axis_limits(values, ends)
    inside = values[(values >= low) & (values <= high)]
    # There are at most 60 bins, because a histogram of rounded data has gaps if the bins are narrow.
    bins = int(np.clip(len(np.histogram_bin_edges(inside, "auto")) - 1, 12, 60))
    ax.hist(inside, bins=bins, density=True, color=grey(ax, 0.85), edgecolor=paper(ax), zorder=0)
    return np.linspace(low, high, 400)


def outlines(mixture: Mixture, mass: float) -> np.ndarray:
    """Return the outlines (..., K, points, 2) of the ellipses that contain the probability `mass` of each component.

    For D = 2, the standardised outline is |z|^2 = -2 log(1 - mass).
    """
    dense = covariance.to_dense(mixture.covariances, mixture.covariance_type, mixture.num_components, 2)
    lower = np.linalg.cholesky(np.asarray(dense, float))
    angle = np.linspace(0, 2 * np.pi, 120)
    circle = math.sqrt(-2 * math.log1p(-mass)) * np.stack([np.cos(angle), np.sin(angle)])  # (2, points)
    return np.asarray(mixture.means, float)[..., None, :] + np.swapaxes(lower @ circle, -1, -2)


def _density_on_grid(mixture: Mixture) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
    """Return a grid and the density on it. The grid extends four standard deviations beyond each mean in both directions."""
    dense = covariance.to_dense(mixture.covariances, mixture.covariance_type, mixture.num_components, 2)
    extent = 4 * np.sqrt(np.diagonal(np.asarray(dense, float), axis1=-2, axis2=-1))  # (K, 2)
    means = np.asarray(mixture.means, float)
    present = np.asarray(mixture.weights) > 0
    low, high = (means - extent)[present].min(0), (means + extent)[present].max(0)
    grid = tuple(np.linspace(a, b, _GRID) for a, b in zip(low, high, strict=True))
    points = np.stack(np.meshgrid(*grid, indexing="ij"), -1).reshape(-1, 2)
    density = np.exp(np.asarray(log_prob(mixture, points.astype(np.asarray(mixture.means).dtype)), float))
    return grid, density.reshape(_GRID, _GRID)


def _by_linkage(matrix: np.ndarray) -> np.ndarray:
    """Return the order of the points in the tree of a hierarchical clustering by average linkage."""
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import squareform

    if len(matrix) < 3:
        return np.arange(len(matrix))
    distance = np.clip(1 - (matrix + matrix.T) / 2, 0, 1)
    np.fill_diagonal(distance, 0)
    return leaves_list(linkage(squareform(distance, checks=False), "average"))


def _by_label(matrix: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the order of the points by label. Within a label, the points whose membership is most certain come first."""
    certainty = (matrix * (labels[:, None] == labels)).sum(1)
    return np.lexsort((-certainty, labels))
