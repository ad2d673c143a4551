"""Whole figures: `comparison_figure` shows a comparison, and `mixture_figure` shows data with a mixture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike

from ..calls import join_names
from ..comparison.clustering import evenly_spaced
from ..comparison.report_columns import ComparisonRow
from ..comparison.result import Comparison
from ..data_frames import check_names, column_names
from ..density import responsibilities
from ..incomplete.observations import Observations
from ..incomplete.rows import values_on_host
from ..marginals import marginal
from ..mixture import Mixture, MixtureLike, as_mixture
from ..posterior.pooling import pool
from ..posterior.result import Posterior
from ..studies.parameters import parse_name
from .limits import axis_limits, component_ends, emptied, num_beyond, separated_pairs
from .mixtures import densities, ellipses
from .points import MOST_POINTS, scatter
from .posteriors import farthest, posterior_marginal
from .style import color, grey, ink, method_style, note

_MOST_PANELS = 24  # largest number of marginal posteriors in one figure
_MASS = 0.9  # probability inside each ellipse
_MOST_PAIRS = 3  # largest number of panels that show two features, in one figure


def comparison_figure(
    comparison: Comparison,
    mixture: Mixture,
    x: ArrayLike | Observations,
    *,
    feature_names: Sequence[str] | None = None,
    num_draws: int = 60,
) -> Figure:
    """Draw the data with EM and posterior draws. Also draw the marginal posteriors, in which a line marks EM.

    EM and the draws are shown as ellipses, or as densities if there is only one feature. If there are more than 24 parameters,
    only 24 are shown, namely those for which EM and the posterior are farthest apart. If there are more than two features, up
    to three pairs of features are shown in which the components overlap least.

    The axes are as wide as the data and EM's components. Draws beyond them are cut off. Components that hold no data are drawn
    in thin grey dashes.

    Args:
        comparison: a result of `jaxgmm.compare`; its first posterior is drawn.
        mixture: the EM solution that was compared.
        x: (N, D), the data, in data units, or observations. A panel shows the rows of which both values are observed.
        feature_names: D names of the features; None: those of the comparison.
        num_draws: largest number of posterior draws whose ellipses or densities are drawn.

    Returns:
        A matplotlib Figure, to be saved with `.savefig`.

    Example:
        >>> figure = comparison_figure(jaxgmm.compare(fit, posterior, x), fit.mixture, x)  # doctest: +SKIP
        >>> figure.savefig("comparison.png")  # doctest: +SKIP
    """
    x = values_on_host(x)
    known = comparison.meta.feature_names if len(comparison.meta.feature_names) == x.shape[1] else None
    names = check_names(known if feature_names is None else feature_names, x.shape[1])
    method, posterior = next(iter(comparison.posteriors.items()))
    rows = [row for row in comparison.rows if row.method == method]
    shown = _shown(rows)
    columns = _grid_columns(shown, mixture.num_components)
    height = max(5.2, 1.15 * math.ceil(len(shown) / columns) + 1.0)
    figure = Figure(figsize=(5.4 + 2.2 * columns, height), dpi=150, layout="constrained")
    halves: Any = figure.subfigures(1, 2, width_ratios=(5.4, 2.2 * columns))
    left, right = halves
    _draw_data(left, _on_host(mixture), _thin(posterior, num_draws), x, names)
    _draw_marginals(right, comparison, shown, columns, emptied(mixture, len(x)))
    return figure


def mixture_figure(mixture: MixtureLike, x: ArrayLike | Observations, *, feature_names: Sequence[str] | None = None) -> Figure:
    """Draw the data in the colours of the components, with the mixture.

    The mixture is shown as one ellipse around 90 % of each component, or as densities if there is only one feature. If there
    are more than two features, up to three pairs of features are shown in which the components overlap least. If there are more
    than 20 000 points, their density is drawn.

    Args:
        mixture: one Mixture, or one Fit.
        x: (N, D), the data, in data units, or observations. A panel shows the rows of which both values are observed.
        feature_names: D names of the features; None: the names of the columns of x if it is a data frame.

    Returns:
        A matplotlib Figure, to be saved with `.savefig`.

    Example:
        >>> import jaxgmm, numpy as np
        >>> mixture = jaxgmm.make_mixture([0.5, 0.5], np.zeros((2, 2)), np.stack([np.eye(2)] * 2))
        >>> mixture_figure(mixture, [[0.0, 1.0], [2.0, 1.0]]).axes[0].get_xlabel()
        'feature 0'
    """
    mixture = _on_host(as_mixture(mixture, single=True))
    names = check_names(column_names(x) if feature_names is None else feature_names, mixture.num_features)
    d, data, x = mixture.num_features, x, values_on_host(x)
    empty = emptied(mixture, len(x))
    pairs = separated_pairs(mixture, _MOST_PAIRS, empty) if d > 1 else []
    figure = Figure(figsize=(6.4 if d < 3 else 4.8 * len(pairs), 4.8), dpi=150, layout="constrained")
    if d == 1:
        densities(figure.subplots(), mixture, _complete(x), feature_name=names[0], empty=empty)
        title = "Data (bars), density of the mixture (thick), its components (dashed)"
    else:
        r = responsibilities(mixture, data)
        for ax, pair in zip(np.ravel(figure.subplots(1, len(pairs))), pairs, strict=True):
            scatter(ax, x[:, pair], responsibilities=r, feature_names=[names[i] for i in pair])
            _draw_plane(ax, mixture, None, x, pair, empty)
        title = f"{_data_words(x)} in the colours of the components;\nellipses, each around 90 % of its component"
    figure.suptitle(f"{title}{_empty_words(empty)}", fontsize=9, x=0.02, ha="left")
    return figure


def _draw_plane(
    ax: Any, mixture: Mixture, draws: Mixture | None, x: np.ndarray, pair: tuple[int, int], empty: Sequence[int]
) -> None:
    """Draw the mixture and the draws, as ellipses for a pair of features, on axes that already show the data x (N, D).

    The limits of the axes come from the data and from the components that hold data.
    """
    if draws is not None:
        ellipses(ax, marginal(draws, pair))
    ellipses(ax, marginal(mixture, pair), empty=empty)
    limits = [axis_limits(x[:, i], component_ends(mixture, i, _MASS, empty)) for i in pair]
    ax.set(xlim=limits[0], ylim=limits[1])
    beyond = num_beyond(x[:, pair], limits)
    note(ax, [f"{beyond} point{'s lie' if beyond > 1 else ' lies'} beyond the axes"] if beyond else [])


def _complete(x: np.ndarray) -> np.ndarray:
    """Return the rows of x (N, D) without NaN."""
    return x[~np.isnan(x).any(1)]


def _data_words(x: np.ndarray) -> str:
    """Return words for a title that say how the data are drawn."""
    return "Density of the data" if len(x) > MOST_POINTS else "Data"


def _empty_words(empty: Sequence[int]) -> str:
    """Return a text that names the components that hold no data, to be added to a title."""
    if len(empty) == 1:
        return f"\nComponent {empty[0]} (thin grey dashes) holds no data"
    return f"\nComponents {join_names(map(str, empty))} (thin grey dashes) hold no data" if empty else ""


def _draw_data(figure: SubFigure, mixture: Mixture, draws: Mixture, x: np.ndarray, names: list[str]) -> None:
    """Draw the data with EM and the draws: as densities if there is one feature, else as ellipses for pairs of features."""
    d, empty = mixture.num_features, emptied(mixture, len(x))
    drawn = f"{math.prod(draws.batch_shape)} posterior draws (thin)"
    if d == 1:
        densities(figure.subplots(), mixture, _complete(x), feature_name=names[0], draws=draws, empty=empty)
        title = f"Data (bars), density of EM (thick), its components (dashed),\n{drawn}"
    else:
        pairs = separated_pairs(mixture, _MOST_PAIRS, empty)
        for ax, pair in zip(np.ravel(figure.subplots(len(pairs), 1)), pairs, strict=True):
            scatter(ax, x[:, pair], feature_names=[names[i] for i in pair])
            _draw_plane(ax, mixture, draws, x, pair, empty)
        title = f"{_data_words(x)}, EM (thick) and {drawn}:\nellipses, each around 90 % of its component"
        title += _empty_words(empty)
    figure.suptitle(title, fontsize=9, x=0.02, ha="left")


def _draw_marginals(
    figure: SubFigure, comparison: Comparison, shown: list[ComparisonRow], columns: int, empty: Sequence[int]
) -> None:
    """Draw one panel for each row; all rows belong to the first posterior. The titles name the components that are empty."""
    method = next(iter(comparison.posteriors))
    total = sum(row.method == method for row in comparison.rows)
    axes = np.ravel(figure.subplots(math.ceil(len(shown) / columns), columns, squeeze=False))
    for ax, row in zip(axes, shown, strict=False):
        where = "" if row.component is None else f" ({row.component}{', empty' * (row.component in empty)})"
        title = row.short_name(28) + where
        posterior_marginal(
            ax,
            pool(np.asarray(comparison.draws(row)), comparison.posteriors[method].stats),
            row.em,
            (row.lower, row.upper),
            title=title,
            shade=grey(ax, 0.4) if row.component is None else color(row.component),
        )
    for ax in axes[len(shown) :]:
        ax.set_axis_off()
    which = (
        "Posterior of every parameter"
        if len(shown) == total
        else f"Posteriors of the {len(shown)} of {total} parameters farthest from EM"
    )
    figure.suptitle(f"{which}, by {method_style(method)[2]};\nthe component in brackets", fontsize=9, x=0.02, ha="left")
    shade = grey(axes[0], 0.4)
    handles = [
        Line2D([], [], color=ink(axes[0]), linewidth=1.6, label="EM"),
        Line2D([], [], color=shade, linewidth=7, alpha=0.55, label="posterior draws"),
        Line2D([], [], color=shade, linewidth=3, label=f"{100 * comparison.interval:g} % interval"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=8, frameon=False)


def _shown(rows: list[ComparisonRow]) -> list[ComparisonRow]:
    """Return at most 24 rows, sorted so that the components of one quantity are next to each other."""
    index = {"weights": 0, "means": 1, "covariances": 2}

    def place(row: ComparisonRow) -> tuple:
        """Return the key by which the rows are sorted."""
        field, (component, *rest) = parse_name(row.name)
        return index[field], rest, component

    return sorted(farthest(rows, _MOST_PANELS), key=place)


def _grid_columns(shown: list[ComparisonRow], num_components: int) -> int:
    """Return the number of columns of the grid of panels.

    The number is K if each row of the grid can show one quantity for all components. Otherwise the number is at most 4.
    """
    # parameters that all components share are at the end of `shown`, so they do not shift the rows of the other parameters
    whole = sum(row.component is not None for row in shown) % num_components == 0
    return num_components if whole and 2 <= num_components <= 6 and len(shown) < _MOST_PANELS else min(4, max(len(shown), 1))


def _on_host(mixture: Mixture) -> Mixture:
    """Return the mixture with NumPy arrays, so that indexing does not compile anything."""
    return jax.tree.map(np.asarray, mixture)


def _thin(posterior: Posterior, num_draws: int) -> Mixture:
    """Return at most `num_draws` mixtures (draws, ...) of a posterior, evenly spaced over chains and draws."""
    draws = pool(_on_host(posterior.mixture), posterior.stats)
    return draws[evenly_spaced(len(draws.weights), num_draws)]
