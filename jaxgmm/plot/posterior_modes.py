"""Figures of a posterior with several modes: the modes over the data, and the stages of `smc`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike

from ..comparison.mode_search import percent
from ..density import log_prob
from ..marginals import marginal
from ..mixture import Mixture
from ..posterior.modes import Modes
from ..posterior.result import Posterior, check_one_posterior
from .mixtures import histogram, outlines
from .points import scatter
from .style import COLORS, DASHES, axis_names, ink, integer_ticks


def modes(
    ax: Axes,
    modes: Modes,
    x: ArrayLike,
    *,
    features: Sequence[int] | None = None,
    feature_names: Sequence[str] | None = None,
    em: int | None = None,
    mass: float = 0.9,
    most: int = 4,
) -> Axes:
    """Draw the modes of a posterior over the data; the legend gives the mass of each mode.

    Each mode has its own colour and line style. With one feature, a mode is drawn as its density, over a histogram of the data.
    With two features, it is drawn as one ellipse for each component; the lines are wider for components of larger weight.

    Args:
        ax: axes to draw on.
        modes: a result of `jaxgmm.modes`.
        x: (N, D), the data, in data units.
        features: one or two features to draw; None: the first feature if D = 1, and the first two otherwise.
        feature_names: one name for each feature that is drawn, for the axes.
        em: index of EM's mode, which the legend marks, such as `comparison.search.em`; or None.
        mass: probability that a point of a component lies inside the component's ellipse.
        most: the largest number of modes to draw; these are the modes of the largest masses.

    Returns:
        The axes.

    Raises:
        ValueError: `features` does not hold one or two features.

    Example:
        >>> import jaxgmm, jax.numpy as jnp
        >>> from matplotlib.figure import Figure
        >>> mixture = jaxgmm.make_mixture([[1.0]], [[[0.0]]], [[[[1.0]]]])
        >>> found = jaxgmm.Modes(mixture, jnp.array([-9.0]), jnp.array([1.0]), jnp.array([0.0]), jnp.array([0]))
        >>> [text.get_text() for text in modes(Figure().subplots(), found, [[0.0], [1.0]]).get_legend().get_texts()]
        ['mode 0: 100 %']
    """
    x = np.asarray(x)
    chosen = list(range(min(2, x.shape[1]))) if features is None else list(features)
    if len(chosen) not in (1, 2):
        raise ValueError(f"features is {features}; one or two features were expected, such as (0, 1).")
    mixture = marginal(modes.mixture[:most], chosen)
    count = mixture.batch_shape[0]
    styles = [{"color": COLORS[m % len(COLORS)], "linestyle": DASHES[m % len(DASHES)]} for m in range(count)]
    if len(chosen) == 1:
        _draw_densities(ax, mixture, x[:, chosen[0]], styles)
        ax.set(xlabel=axis_names(feature_names, 1)[0], ylabel="density")
    else:
        scatter(ax, x[:, chosen], feature_names=feature_names)
        _draw_ellipses(ax, mixture, styles, mass)
    names = [f"mode {m}{' (EM)' if m == em else ''}: {percent(modes.mass[m])}" for m in range(count)]
    handles = [Line2D([], [], linewidth=1.8, label=name, **style) for name, style in zip(names, styles, strict=True)]
    ax.legend(handles=handles, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, fontsize=8, frameon=False)
    return ax


def _draw_densities(ax: Axes, mixture: Mixture, x: np.ndarray, styles: Sequence[dict]) -> None:
    """Draw a histogram of one feature and the densities of several mixtures (M,)."""
    grid = histogram(ax, x).astype(np.asarray(mixture.means).dtype)
    for curve, style in zip(np.exp(np.asarray(log_prob(mixture, grid[:, None]))), styles, strict=True):
        ax.plot(grid, curve, linewidth=1.8, **style)
    ax.set_ylim(bottom=0)


def _draw_ellipses(ax: Axes, mixture: Mixture, styles: Sequence[dict], mass: float) -> None:
    """Draw the ellipses of the components of several mixtures (M,); absent components are left out."""
    lines, weights = outlines(mixture, mass), np.asarray(mixture.weights)
    for lines_of_mode, weights_of_mode, style in zip(lines, weights, styles, strict=True):
        present = weights_of_mode > 0
        widths = 0.8 + 2.4 * weights_of_mode[present]
        options = {"colors": style["color"], "linestyles": [style["linestyle"]], "linewidths": widths, "zorder": 3}
        ax.add_collection(LineCollection(list(lines_of_mode[present]), **options))
    ax.autoscale_view()


def stages(ax: Axes, posterior: Posterior) -> Axes:
    """Draw the effective sample size and the number of surviving particles in each stage of `smc`, in one colour for each run.

    Both are drawn as shares of the number of particles. A solid line shows the effective sample size before the particles are
    resampled. `smc` ends a stage before this share falls below one half; a horizontal line marks one half. A dotted line shows
    the share of the particles that survived the stage. If a small share survives, few particles represent the posterior.

    Args:
        ax: axes to draw on.
        posterior: a Posterior by `smc`.

    Returns:
        The axes.

    Raises:
        ValueError: the posterior is a stack, or it is not from `smc`.

    Example:
        >>> import jax, jaxgmm
        >>> from matplotlib.figure import Figure
        >>> x = jaxgmm.datasets.load("galaxies")
        >>> prior = jaxgmm.default_prior(x, num_components=1)
        >>> posterior = jaxgmm.smc(jax.random.key(0), x, prior, num_components=1, num_samples=200, num_chains=2)
        >>> stages(Figure().subplots(), posterior).get_xlabel()
        'stage'
    """
    check_one_posterior(posterior)
    if not {"effective_size", "parents"} <= posterior.stats.keys():
        raise ValueError(
            f"posterior is by {posterior.method!r} and has no effective sample sizes of stages; one by jaxgmm.smc was expected."
        )
    sizes, parents = (np.asarray(posterior.stats[name], float) for name in ("effective_size", "parents"))
    num_particles = posterior.log_density.shape[1]
    for run, (size, survived) in enumerate(zip(sizes, parents, strict=True)):
        stage = np.flatnonzero(np.isfinite(size))
        shade = COLORS[run % len(COLORS)]
        ax.plot(stage + 1, size[stage] / num_particles, color=shade, linewidth=1.4)
        ax.plot(stage + 1, survived[stage] / num_particles, color=shade, linewidth=1.2, linestyle=DASHES[2])
    ax.axhline(0.5, color=ink(ax), linewidth=0.8)
    ax.set(xlabel="stage", ylabel="share of the particles", ylim=(0, 1.02))
    handles = [
        Line2D([], [], color=ink(ax), linewidth=1.4, label="effective sample size"),
        Line2D([], [], color=ink(ax), linewidth=1.2, linestyle=DASHES[2], label="particles that survived"),
    ]
    ax.legend(handles=handles, fontsize=8, frameon=False, loc="lower right")
    integer_ticks(ax)
    return ax
