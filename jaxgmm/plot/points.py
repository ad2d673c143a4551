"""Figures of data in two features: points, or the density of points if there are too many to tell them apart."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from numpy.typing import ArrayLike

from .limits import axis_limits
from .style import MARKERS, axis_names, color, grey, paper

MOST_POINTS = 20_000  # with more points, their density is drawn
_CELLS = 220  # number of cells along each axis of the picture of a density
_FAINTEST = 0.15  # strength of the colour of a cell with one point, where 1 is full colour


def scatter(
    ax: Axes, x: ArrayLike, *, responsibilities: ArrayLike | None = None, feature_names: Sequence[str] | None = None
) -> Axes:
    """Draw points in the plane. The colours show the responsibilities, and the markers show the most probable component.

    If there are more than 20 000 points, their density is drawn instead: the more points a cell holds, the stronger its colour,
    on a logarithmic scale. In this case, points far away from all others are left out.

    Args:
        ax: axes to draw on.
        x: (N, 2), the points, in data units.
        responsibilities: (N, K), or None for grey points.
        feature_names: two names for the axes; None: the names of the columns of x if it is a data frame.

    Returns:
        The axes.

    Example:
        >>> from matplotlib.figure import Figure
        >>> scatter(Figure().subplots(), [[0.0, 1.0], [2.0, 1.0]]).get_xlabel()
        'feature 0'
    """
    names, x = axis_names(feature_names, 2, x), np.asarray(x)
    size = float(np.clip(4000 / max(len(x), 1), 3, 22))
    shade = grey(ax, 0.45)
    if len(x) > MOST_POINTS:
        _draw_density(ax, x, None if responsibilities is None else np.asarray(responsibilities))
    elif responsibilities is None:
        ax.scatter(x[:, 0], x[:, 1], s=size, color=shade, alpha=0.6, linewidths=0, zorder=1)
    else:
        r = np.asarray(responsibilities)
        shades = np.clip(r @ _colors(r.shape[1]), 0, 1)  # (N, 3)
        for k in range(r.shape[1]):
            own = r.argmax(1) == k
            style = {"marker": MARKERS[k % len(MARKERS)], "alpha": 0.8, "linewidths": 0, "zorder": 1}
            ax.scatter(x[own, 0], x[own, 1], s=size, c=shades[own], **style)
    ax.set(xlabel=names[0], ylabel=names[1])
    return ax


def _colors(num_components: int) -> np.ndarray:
    """Return the colours (K, 3) of the components."""
    return np.array([to_rgb(color(k)) for k in range(num_components)])


def _draw_density(ax: Axes, x: np.ndarray, responsibilities: np.ndarray | None) -> None:
    """Draw a picture whose cells have the average colour of their points; a cell with more points has a stronger colour."""
    limits = [axis_limits(column) for column in x.T]
    cells = [((column - low) / (high - low) * _CELLS) for column, (low, high) in zip(x.T, limits, strict=True)]
    inside = np.all([(cell >= 0) & (cell < _CELLS) for cell in cells], axis=0)
    column, row = (cell[inside].astype(int) for cell in cells)
    place = row * _CELLS + column
    counts = np.bincount(place, minlength=_CELLS**2).astype(float)
    shades = np.tile(to_rgb(grey(ax, 0.25)), (_CELLS**2, 1))
    if responsibilities is not None:
        shares = [np.bincount(place, weights=r, minlength=_CELLS**2) for r in responsibilities[inside].T]
        shades = np.clip(np.stack(shares, 1) / np.maximum(counts, 1)[:, None] @ _colors(len(shares)), 0, 1)
    strength = np.where(counts > 0, _FAINTEST + (1 - _FAINTEST) * np.log1p(counts) / np.log1p(max(counts.max(), 1)), 0)
    picture = strength[:, None] * shades + (1 - strength[:, None]) * np.array(to_rgb(paper(ax)))
    extent = (*limits[0], *limits[1])
    ax.imshow(
        picture.reshape(_CELLS, _CELLS, 3), extent=extent, origin="lower", aspect="auto", zorder=0, interpolation="nearest"
    )
    ax.set(xlim=limits[0], ylim=limits[1])
