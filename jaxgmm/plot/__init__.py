"""Figures. Each function draws on given axes and returns them; two functions return whole figures.

    from matplotlib import pyplot as plt
    jaxgmm.plot.forest(plt.gca(), comparison)

The functions for mixtures and points are `scatter`, `ellipses`, `contours`, `densities`, `convergence` and `coclustering`. The
functions for posteriors are `forest`, `pairs`, `posterior_marginal`, `component_numbers`, `modes` and `stages`. The functions
for studies are `rank_ecdfs`, `selection` and `coverage`. `mixture_figure` and `comparison_figure` return whole figures. No
function changes the style of matplotlib or uses pyplot. In jaxgmm, only this package, the report and the command import
matplotlib.
"""

from .figures import comparison_figure as comparison_figure
from .figures import mixture_figure as mixture_figure
from .forests import forest as forest
from .mixtures import coclustering as coclustering
from .mixtures import contours as contours
from .mixtures import convergence as convergence
from .mixtures import densities as densities
from .mixtures import ellipses as ellipses
from .points import scatter as scatter
from .posterior_modes import modes as modes
from .posterior_modes import stages as stages
from .posteriors import component_numbers as component_numbers
from .posteriors import pairs as pairs
from .posteriors import posterior_marginal as posterior_marginal
from .studies import coverage as coverage
from .studies import rank_ecdfs as rank_ecdfs
from .studies import selection as selection
from .style import COLORS as COLORS
from .style import MARKERS as MARKERS
from .style import color as color
