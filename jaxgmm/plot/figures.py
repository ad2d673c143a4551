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

from ..comparison.clustering import evenly_spaced
from ..comparison.report_columns import ComparisonRow
from ..comparison.result import Comparison
from ..density import responsibilities
from ..marginals import marginal
from ..mixture import Mixture, MixtureLike, as_mixture
from ..posterior.pooling import pool
from ..posterior.result import Posterior
from ..studies.parameters import parse_name
from .mixtures import densities, ellipses, scatter
from .posteriors import farthest, posterior_marginal
from .style import INK, axis_names, color, method_style

_MOST_PANELS = 24  # largest number of marginal posteriors in one figure
_MOST_PAIRS = 3  # largest number of panels that show two features, in one figure


def comparison_figure(
    comparison: Comparison, mixture: Mixture, x: ArrayLike, *, feature_names: Sequence[str] | None = None, num_draws: int = 60
) -> Figure:
    """Draw the data with EM and posterior draws. Also draw the marginal posteriors, in which a line marks EM.

    EM and the draws are shown as ellipses, or as densities if there is only one feature. If there are more than 24 parameters,
    only 24 are shown, namely those for which EM and the posterior are farthest apart. If there are more than two features, each
    of the first three features is shown together with the next feature.

    Args:
        comparison: a result of `jaxgmm.compare`; its first posterior is drawn.
        mixture: the EM solution that was compared.
        x: (N, D), the data, in data units.
        feature_names: D names of the features.
        num_draws: largest number of posterior draws whose ellipses or densities are drawn.

    Returns:
        A matplotlib Figure, to be saved with `.savefig`.

    Example:
        >>> figure = comparison_figure(jaxgmm.compare(fit, posterior, x), fit.mixture, x)  # doctest: +SKIP
        >>> figure.savefig("comparison.png")  # doctest: +SKIP
    """
    x = np.asarray(x)
    names = axis_names(feature_names, x.shape[1])
    method, posterior = next(iter(comparison.posteriors.items()))
    rows = [row for row in comparison.rows if row.method == method]
    shown = _shown(rows)
    columns = _grid_columns(shown, mixture.num_components)
    height = max(5.2, 1.15 * math.ceil(len(shown) / columns) + 1.0)
    figure = Figure(figsize=(5.4 + 2.2 * columns, height), dpi=150, layout="constrained")
    halves: Any = figure.subfigures(1, 2, width_ratios=(5.4, 2.2 * columns))
    left, right = halves
    _draw_data(left, _on_host(mixture), _thin(posterior, num_draws), x, names)
    _draw_marginals(right, comparison, shown, columns)
    return figure


def mixture_figure(mixture: MixtureLike, x: ArrayLike, *, feature_names: Sequence[str] | None = None) -> Figure:
    """Draw the data in the colours of the components, with the mixture.

    The mixture is shown as one ellipse around 90 % of each component, or as densities if there is only one feature. If there
    are more than two features, each of the first three features is shown together with the next feature.

    Args:
        mixture: one Mixture, or one Fit.
        x: (N, D), the data, in data units.
        feature_names: D names of the features.

    Returns:
        A matplotlib Figure, to be saved with `.savefig`.

    Example:
        >>> import jaxgmm, numpy as np
        >>> mixture = jaxgmm.make_mixture([0.5, 0.5], np.zeros((2, 2)), np.stack([np.eye(2)] * 2))
        >>> mixture_figure(mixture, [[0.0, 1.0], [2.0, 1.0]]).axes[0].get_xlabel()
        'feature 0'
    """
    mixture, x = as_mixture(mixture, single=True), np.asarray(x)
    names, d = axis_names(feature_names, mixture.num_features), mixture.num_features
    pairs = _pairs(d)
    figure = Figure(figsize=(6.4 if d < 3 else 4.8 * len(pairs), 4.8), dpi=150, layout="constrained")
    if d == 1:
        densities(figure.subplots(), mixture, x, feature_name=names[0])
        figure.suptitle("Data (bars), density of the mixture (dark), its components (dashed)", fontsize=9, x=0.02, ha="left")
        return figure
    r = responsibilities(mixture, x)
    for ax, pair in zip(np.ravel(figure.subplots(1, len(pairs))), pairs, strict=True):
        scatter(ax, x[:, pair], responsibilities=r, feature_names=[names[i] for i in pair])
        ellipses(ax, marginal(mixture, pair))
    title = "Data in the colours of the components; ellipses, each around 90 % of its component"
    figure.suptitle(title, fontsize=9, x=0.02, ha="left")
    return figure


def _pairs(num_features: int) -> list[tuple[int, int]]:
    """Return the pairs of features that are shown together."""
    return [(i, i + 1) for i in range(num_features - 1)][:_MOST_PAIRS]


def _draw_data(figure: SubFigure, mixture: Mixture, draws: Mixture, x: np.ndarray, names: list[str]) -> None:
    """Draw the data with EM and the draws: as densities if there is one feature, else as ellipses for pairs of features."""
    d = mixture.num_features
    if d == 1:
        densities(figure.subplots(), mixture, x, feature_name=names[0], draws=draws)
    else:
        pairs = _pairs(d)
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


def _draw_marginals(figure: SubFigure, comparison: Comparison, shown: list[ComparisonRow], columns: int) -> None:
    """Draw one panel for each row; all rows belong to the first posterior."""
    method = next(iter(comparison.posteriors))
    total = sum(row.method == method for row in comparison.rows)
    axes = np.ravel(figure.subplots(math.ceil(len(shown) / columns), columns, squeeze=False))
    for ax, row in zip(axes, shown, strict=False):
        title = row.short_name(28) + ("" if row.component is None else f" ({row.component})")
        posterior_marginal(
            ax,
            pool(np.asarray(comparison.draws(row)), comparison.posteriors[method].stats),
            row.em,
            (row.lower, row.upper),
            title=title,
            shade="0.4" if row.component is None else color(row.component),
        )
    for ax in axes[len(shown) :]:
        ax.set_axis_off()
    which = (
        "Posterior of every parameter"
        if len(shown) == total
        else f"Posteriors of the {len(shown)} of {total} parameters farthest from EM"
    )
    figure.suptitle(f"{which}, by {method_style(method)[2]};\nthe component in brackets", fontsize=9, x=0.02, ha="left")
    handles = [
        Line2D([], [], color=INK, linewidth=1.6, label="EM"),
        Line2D([], [], color="0.4", linewidth=7, alpha=0.55, label="posterior draws"),
        Line2D([], [], color="0.4", linewidth=3, label=f"{100 * comparison.interval:g} % interval"),
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
    whole = sum(row.component is not None for row in shown) % num_components == 0  # shared parameters come last
    return num_components if whole and 2 <= num_components <= 6 and len(shown) < _MOST_PANELS else min(4, max(len(shown), 1))


def _on_host(mixture: Mixture) -> Mixture:
    """Return the mixture with NumPy arrays, so that indexing does not compile anything."""
    return jax.tree.map(np.asarray, mixture)


def _thin(posterior: Posterior, num_draws: int) -> Mixture:
    """Return at most `num_draws` mixtures (draws, ...) of a posterior, evenly spaced over chains and draws."""
    draws = pool(_on_host(posterior.mixture), posterior.stats)
    return draws[evenly_spaced(len(draws.weights), num_draws)]
