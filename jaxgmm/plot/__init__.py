"""Figures: each function draws on the axes that it is given and returns them; `comparison_figure` returns a whole figure.

    from matplotlib import pyplot as plt
    jaxgmm.plot.forest(plt.gca(), comparison)

Mixtures and points: `scatter`, `ellipses`, `contours`, `densities`, `convergence`, `coclustering`. Posteriors: `forest`,
`pairs`, `posterior_marginal`. Studies: `rank_ecdfs`, `selection`, `coverage`. Only this package, the report and the command
import matplotlib. No function changes the style or uses pyplot.
"""

from .figures import comparison_figure as comparison_figure
from .forests import forest as forest
from .mixtures import coclustering as coclustering
from .mixtures import contours as contours
from .mixtures import convergence as convergence
from .mixtures import densities as densities
from .mixtures import ellipses as ellipses
from .mixtures import scatter as scatter
from .posteriors import pairs as pairs
from .posteriors import posterior_marginal as posterior_marginal
from .studies import coverage as coverage
from .studies import rank_ecdfs as rank_ecdfs
from .studies import selection as selection
from .style import COLORS as COLORS
from .style import MARKERS as MARKERS
from .style import color as color
