"""Pictures: each function draws on axes that it is given and returns them; figures as a whole come from `comparison_figure`.

    from matplotlib import pyplot as plt
    jaxgmm.plot.forest(plt.gca(), comparison)

Mixtures and points: `scatter`, `ellipses`, `contours`, `densities`, `convergence`, `coclustering`. Posteriors: `forest`, `pairs`,
`posterior_marginal`. Studies: `rank_ecdfs`, `selection`, `coverage`. With report and command the only rooms that import
matplotlib; nothing here sets a style or touches pyplot.
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
