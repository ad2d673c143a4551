"""The clusters of a report: how many points each component has, and how certain the component of each point is."""

from __future__ import annotations

import numpy as np

from ..comparison.clustering import SURE
from ..comparison.result import Comparison
from ..density import responsibilities
from ..incomplete.observations import Observations
from ..incomplete.rows import rows_at
from ..mixture import Mixture
from ..studies.columns import fixed
from ..studies.method_names import display_name
from ..tables import Table

GLOSSARY = {
    "points": "The number of points whose most probable component under EM is this one.",
    "share": "The points as a share of all points.",
    "weight": "The weight of the component under EM, which is the expected share of the points.",
    "surest": f"The number of these points whose probability is at least {100 * SURE:g} %.",
    "mean probability": "The probability of this component under EM, averaged over its points.",
}


def clusters_table(comparison: Comparison, mixture: Mixture, x: np.ndarray | Observations) -> Table:
    """Return a table with one line for each component, and notes that summarise the memberships of all points.

    Args:
        comparison: the comparison of EM with posteriors.
        mixture: the mixture that EM fitted.
        x: (N, D), the data, or observations. Rows that are not finite, and rows of weight 0, belong to no component.
    """
    if isinstance(x, Observations):
        x = x if x.weight is None else rows_at(x, np.flatnonzero(np.asarray(x.weight) > 0))
    else:
        x = x[np.isfinite(x).all(1)]
    r = np.asarray(responsibilities(mixture, x), float) if len(x) else np.zeros((0, mixture.num_components))
    labels, highest = r.argmax(1), r.max(1, initial=0)
    weights, total = np.asarray(mixture.weights, float), max(len(x), 1)
    rows = []
    for k in range(mixture.num_components):
        own = labels == k
        share, mean = f"{fixed(100 * own.sum() / total, 1)} %", highest[own].mean() if own.any() else np.nan
        rows.append([str(k), str(own.sum()), share, fixed(weights[k], 4), str((highest[own] >= SURE).sum()), fixed(mean, 3)])
    unsure = int((highest < SURE).sum())
    notes = [f"By EM, {unsure} of {len(x)} points ({fixed(100 * unsure / total, 1)} %) are less than {100 * SURE:g} % sure."]
    for name, scores in comparison.clustering.items():
        if np.isfinite(scores.unsure_share):
            notes.append(
                f"By {display_name(name)}, {fixed(100 * scores.unsure_share, 1)} % are less than {100 * SURE:g} % sure."
            )
    return Table("Clusters, by the most probable component of each point", ("component", *GLOSSARY), rows, notes, left=(0,))
