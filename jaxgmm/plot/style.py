"""The style that all figures share: colours, markers, line styles, and the names on axes.

The colours are those of Okabe & Ito (2008), which colour-blind readers can distinguish. Each component and each method also has
its own marker, and EM has its own dark colour, so that figures printed in grey can be read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.ticker import MaxNLocator

from ..data_frames import check_names, column_names
from ..studies.method_names import POINT_METHODS, POSTERIOR_METHODS, display_name

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C564B", "#7A6A00")
MARKERS = ("o", "s", "^", "D", "v", "P", "*", "X")
DASHES = (
    "-",
    (0, (5, 2)),
    (0, (1.5, 1.5)),
    (0, (6, 2, 1.5, 2)),
    (0, (3, 1, 1, 1, 1, 1)),
    (0, (8, 3)),
    (0, (10, 2, 2, 2)),
    (0, (1, 3)),
)
INK = "#222222"
LIGHT_INK = "#EDEDED"
_METHODS = (*POSTERIOR_METHODS, *POINT_METHODS)


def is_dark(ax: Axes) -> bool:
    """Return whether the axes have a dark background, as in a dark style of matplotlib."""
    face = ax.get_facecolor() if to_rgba(ax.get_facecolor())[3] > 0 else rcParams["figure.facecolor"]
    *rgb, alpha = to_rgba(face)
    return alpha > 0 and float(np.dot(rgb, [0.3, 0.6, 0.1])) < 0.5


def ink(ax: Axes) -> str:
    """Return the colour of EM on these axes: dark on a light background, light on a dark background."""
    return LIGHT_INK if is_dark(ax) else INK


def grey(ax: Axes, level: float) -> str:
    """Return a grey for light or dark axes. Level 0 is the colour of text, and level 1 is the colour of the background."""
    return f"{0.95 - 0.8 * level:.3g}" if is_dark(ax) else f"{level:g}"


def paper(ax: Axes) -> Any:
    """Return the colour of the background, in which marks are filled and behind which text is placed."""
    return ax.get_facecolor() if to_rgba(ax.get_facecolor())[3] > 0 else "white"


def title_above(ax: Axes, text: str, num_rows: int) -> None:
    """Write a title above a legend that stands above the axes and has the given number of rows."""
    ax.set_title(plain(text), fontsize=9, loc="left", pad=8 + 13 * num_rows)


def note(ax: Axes, sentences: Sequence[str]) -> None:
    """Write sentences in small letters in the upper left corner of the axes."""
    text = "\n".join(sentences)
    if text:
        place: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points", "ha": "left", "va": "top"}
        box = {"facecolor": paper(ax), "alpha": 0.8, "edgecolor": "none", "pad": 1.5}
        ax.annotate(plain(text), (0, 1), (4, -4), **place, fontsize=7, color=grey(ax, 0.3), bbox=box, zorder=8)


def color(component: int) -> str:
    """Return the colour of a component, which is the same in all figures.

    Example:
        >>> color(0)
        '#0072B2'
    """
    return COLORS[component % len(COLORS)]


def method_style(method: str, position: int = 0) -> tuple[str, str, str]:
    """Return the colour, the marker and the displayed name of a method, which are the same in all figures.

    Args:
        method: name of the method.
        position: a number that determines the colour and the marker of a method that is not one of jaxgmm's methods.

    Example:
        >>> method_style("gibbs")
        ('#D55E00', 's', 'Gibbs')
        >>> method_style("mine")
        ('#7A6A00', 'X', 'mine')
    """
    index = _METHODS.index(method) if method in _METHODS else (len(_METHODS) + position) % len(COLORS)
    return COLORS[index], MARKERS[index], display_name(method)


def axis_names(feature_names: Sequence[str] | None, num_features: int, x: Any = None) -> list[str]:
    """Return the names of the features for the axes.

    By default they are the names of the columns of x if it is a data frame, and otherwise "feature 0", "feature 1" and so on.

    Example:
        >>> axis_names(None, 2)
        ['feature 0', 'feature 1']
    """
    names = column_names(x) if feature_names is None else feature_names
    return [plain(name) for name in check_names(names, num_features)]


def integer_ticks(ax: Axes) -> None:
    """Place the ticks of the horizontal axis at integers. Otherwise keep matplotlib's default placement."""
    ax.xaxis.set_major_locator(MaxNLocator(nbins="auto", steps=[1, 2, 2.5, 5, 10], integer=True))


def plain(text: object) -> str:
    r"""Return a text with escaped dollar signs, because matplotlib reads text between two dollar signs as a formula.

    Example:
        >>> plain("US$ per $")
        'US\\$ per \\$'
    """
    return str(text).replace("$", r"\$")
