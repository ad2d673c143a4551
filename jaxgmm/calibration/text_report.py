"""The printed page of a calibration: the simulation, the outcome, a table of ranks and a table of coverage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..cells import shortened
from ..studies.serialization import ordinal
from ..tables import WIDTH, Layout, Table, paragraph
from .quantities import ORDER
from .rows import CoverageRow, RankRow

_LONGEST_METHOD = 30  # largest number of characters of a method's name in a heading; a longer name is cut


def header_lines(
    method: str, design: Mapping[str, Any], statuses: Mapping[str, int], num_datasets: int, num_draws: int
) -> list[str]:
    """Return the lines that describe the simulated data, the fits and the draws."""
    title = f"Calibration of {method} by simulation"
    k, d, n = design["num_components"], design["num_features"], design["num_observations"]
    options = [f"{name}={value}" for name, value in design["options"].items() if name != "num_samples"]
    thin = f", every {ordinal(design['thin'])} kept" if design["thin"] > 1 else ""
    missing = f", with {100 * design['missing']:g} % of the values missing" if design.get("missing") else ""
    entries = {
        "data": f"{num_datasets} sets of {n} observations of {d} feature{'s' * (d > 1)}, each from a mixture that was "
        f"drawn from the prior{missing}",
        "model": f"{k} component{'s' * (k > 1)}, {design['covariance_type']} covariances, {design['dtype']}",
        "prior": "; ".join(f"{name} {_short(value)}" for name, value in design["prior"].items()),
        "draws": "; ".join([f"{num_draws} per data set{thin}", *([", ".join(options)] if options else [])]),
        "status": ", ".join(f"{name} {count}" for name, count in statuses.items()),
    }
    lines = [line for name, text in entries.items() for line in paragraph(f"{name:<7}{text}", " " * 7)]
    return [title, "=" * len(title), *lines]


def verdict(outcome: str, rows: Sequence[RankRow], alpha: float, false_failure_rate: float) -> str:
    """Return the verdict as text.

    It contains the sentence of the outcome, the quantities outside their bands, and the probability of a false failure.
    """
    outside = [f"{row.name} ({row.shape})" if row.shape else row.name for row in rows if not row.inside]
    missing = max((row.not_ranked for row in rows), default=0)
    parts = [outcome]
    if outside:
        parts.append(f"{len(outside)} of {len(rows)} quantities are outside their bands: {', '.join(outside)}.")
    if missing:
        parts.append(f"In {missing} data sets some draws are not finite, so that the truth has no rank.")
    if rows:
        parts.append(
            f"A correct method fails with probability at most {false_failure_rate:.2g} (alpha={alpha:g} for all {len(rows)} "
            "quantities, Bonferroni)."
        )
    return " ".join(parts)


def rank_lines(rows: Sequence[RankRow]) -> list[str]:
    """Return the table of ranks, label-invariant quantities first, and an explanation of its columns."""
    groups = [(title, [row for row in rows if row.label_invariant == free]) for title, free in _GROUPS]
    table = Table(
        "",
        ("ranks of the truth among the draws", "chi-square p", "ECDF p", "gap", "band", "inside", "ESS"),
        [_rank_cells(row) for _, group in groups for row in group],
        left=(0,),
        row_groups=[(title, len(group)) for title, group in groups],
        layout=Layout(max_width=WIDTH),
    )
    lowest = min(row.ess_low for row in rows)
    ess = "median effective number of draws"
    if np.isfinite(lowest):
        ess += f", which is below {lowest:.0f} in one data set of 20 for the quantity with the fewest"
    explanation = (
        "gap: deviation of the ranks' distribution function (ECDF) from the uniform one, where it is least probable; band: the "
        "deviation that is allowed there; p: probability that a correct method gives ranks as uneven as these; "
        f"ESS: {ess}; means[k,d]: component k, feature d."
    )
    return [table.text(), *paragraph(explanation)]


_GROUPS = (("for any order of the components", True), (ORDER, False))


def _rank_cells(row: RankRow) -> list[str]:
    """Return the cells of one row of the table of ranks."""
    numbers = [f"{row.chi_square_p:.4f}", f"{row.ecdf_p:.4f}", f"{row.deviation:+.3f}", f"{row.limit:.3f}"]
    return [row.name, *numbers, "yes" if row.inside else "NOT", f"{row.ess_median:.0f}"]


def coverage_lines(rows: Sequence[CoverageRow]) -> list[str]:
    """Return the table of coverage, with one row per parameter, and a note on its Monte Carlo error."""
    table = {(row.method, row.name, row.probability): row for row in rows}
    methods = list(dict.fromkeys(row.method for row in rows))
    names = list(dict.fromkeys(row.name for row in rows))
    probabilities = list(dict.fromkeys(row.probability for row in rows))
    columns = [(method, probability) for method in methods for probability in probabilities]
    groups = [(shortened(_display(method), _LONGEST_METHOD), len(probabilities)) for method in methods]
    text = Table(
        "",
        ("% of intervals that contain the truth", *(f"{100 * probability:g} %" for _, probability in columns)),
        [[name, *(f"{100 * table[method, name, p].coverage:.1f}" for method, p in columns)] for name in names],
        left=(0,),
        column_groups=[("", 1), *groups],
        layout=Layout(max_width=WIDTH),
    ).text()
    errors = [f"{100 * max(row.error for row in rows if row.probability == p):.1f}" for p in probabilities]
    note = f"Monte Carlo standard error: at most {', '.join(errors)} percentage points for intervals of "
    note += f"{', '.join(f'{100 * p:g}' for p in probabilities)} %."
    if "em" in methods:
        note += " EM: Wald intervals from the information at the mode, on log-ratios of weights and logarithms of variances."
    return [text, *paragraph(" ".join([note, *(_undefined(method, rows) for method in methods)]).rstrip())]


def _undefined(method: str, rows: Sequence[CoverageRow]) -> str:
    """Return a sentence on the data sets for which a method has no interval. If there are none, return ""."""
    own = [row for row in rows if row.method == method]
    share = max(row.undefined for row in own)
    if not share:
        return ""
    poorest = min(row.coverage_with_misses / row.probability for row in own)
    return (
        f"{_display(method)}: up to {100 * share:.1f} % of the data sets have no interval and are left out; if they count as "
        f"misses, the lowest coverage is {poorest:.2f} times the nominal coverage."
    )


def _display(method: str) -> str:
    """Return the name of a method as the page shows it."""
    return "EM" if method == "em" else method


def _short(value: object) -> str:
    """Return a hyperparameter as text with four significant digits."""
    if isinstance(value, list):
        return f"[{', '.join(map(_short, value))}]"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
