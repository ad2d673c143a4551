"""The numbers of a report: tables of a comparison, and how to read them."""

from __future__ import annotations

import math
from typing import Any

from ..comparison.compare import Comparison
from ..comparison.text_report import numbers, row_name
from ..plot.style import method_style
from .html import definitions, section, table

# further columns, where the rows have them
_EXTRAS = {
    "em_se": ("EM's se", "standard error of EM by the information"),
    "sd_ratio": ("sd ratio", "sd by Laplace over the posterior's"),
    "contraction": ("learned", "1 - (width of the central 90 %, posterior over prior) squared: near 1 the data say all"),
}
# where in a comparison, key, what it is, decimals, factor
_WHOLE = (
    ("joint", "log_joint_gap", "log joint density: EM above the draws' mean (nats)", 1, 1),
    ("joint", "mahalanobis", "EM from the draws' centre (their sds)", 2, 1),
    ("joint", "farther_share", "draws farther out than EM (%)", 0, 100),
    ("joint", "laplace_kl", "lost by Laplace's normal (KL, nats)", 3, 1),
    ("joint", "laplace_w2", "Wasserstein distance to Laplace (Laplace's sds)", 2, 1),
    ("density", "total_variation", "total variation between EM's density and the predictive one", 3, 1),
    ("density", "hellinger", "Hellinger distance between them", 3, 1),
    ("density", "kl", "lost a point by EM's density (KL, nats)", 4, 1),
    ("density", "elpd_loo", "predictive log score, each point left out (nats)", 1, 1),
    ("density", "elpd_folds_difference", "the same by folds, posterior minus EM (nats)", 2, 1),
    ("clustering", "adjusted_rand", "same groups as EM's (adjusted Rand, 1: the same)", 3, 1),
    ("clustering", "membership_difference", "mean difference of memberships", 4, 1),
    ("clustering", "unsure_share", "points less than 90 % sure (%)", 1, 100),
)


def how_they_did(comparison: Comparison) -> str:
    """A table of the methods."""
    head = "method, chains, draws a chain, divergent, largest R-hat, smallest ESS, labels identified, draws that switch"
    rows = [_sampler_cells(method, sampler) for method, sampler in comparison.samplers.items()]
    return table("How the methods did", head.split(", "), rows)


def _sampler_cells(method: str, sampler: dict[str, Any]) -> list[str]:
    return [
        shown_name(method),
        str(sampler["chains"]),
        str(sampler["draws"]),
        str(sampler["divergences"]),
        _number(sampler["r_hat_max"], 3),
        _number(sampler["ess_min"], 0),
        "yes" if sampler["identified"] else "NO",
        f"{100 * sampler['switch_rate']:.1f} %",
    ]


def numbers_of(comparison: Comparison) -> list[str]:
    """Tables of every method's parameters, where its labels are identified, and of the whole mixture."""
    parts = []
    for method, sampler in comparison.samplers.items():
        own = [row for row in comparison.rows if row["method"] == method]
        free = [row for row in comparison.label_free if row["method"] == method]
        if sampler["identified"]:
            parts.append(_rows_table(f"Parameters, by {shown_name(method)}", own, comparison.interval))
            free = [row for row in free if "nats" in row["kind"]]
        parts.append(_rows_table(f"Whole mixture, by {shown_name(method)}", free, comparison.interval))
    return section("numbers", "Numbers", [*parts, *_whole(comparison)])


def _rows_table(caption: str, rows: list[dict[str, Any]], interval: float) -> str:
    extras = [name for name in _EXTRAS if any(_finite(row.get(name)) for row in rows)]
    between = f"{100 * interval:g} %"
    head = ["quantity", "EM", "mean", "sd", f"{between} from", f"{between} to", "z", "inside", "R-hat", "ESS"]
    groups: dict[str, list] = {}
    for row in rows:
        title = "" if all(r["component"] is None for r in rows) else _component(row["component"])
        groups.setdefault(title, []).append(_row_cells(row, extras))
    return table(caption, head + [_EXTRAS[name][0] for name in extras], groups)


def _component(component: int | None) -> str:
    return "all components" if component is None else f"component {component}"


def _row_cells(row: dict[str, Any], extras: list[str]) -> list[str]:
    # EM's log densities lie above those of the draws by nature: no test of anything
    z, inside = ("", "") if "nats" in row["kind"] else (_number(row["z"], 2), "yes" if row["inside"] else "NO")
    cells = [row_name(row, room=80), *numbers([row[c] for c in ("em", "mean", "sd", "lower", "upper")], row["sd"])]
    cells += [z, inside, _number(row["r_hat"], 3), _number(row["ess_bulk"], 0)]
    for name in extras:
        value = row.get(name)
        own = "" if not _finite(value) else numbers([value], row["sd"])[0] if name == "em_se" else _number(value, 2)
        cells.append(own)
    return cells


def _whole(comparison: Comparison) -> list[str]:
    """One table of what concerns all parameters at once, a column a method; nothing where nothing is known."""
    lines = []
    for where, key, words, decimals, factor in _WHOLE:
        found = getattr(comparison, where)
        values = [found.get(method, {}).get(key, math.nan) for method in comparison.samplers]
        if any(map(_finite, values)):
            lines.append([words, *(_number(factor * value, decimals) if _finite(value) else "–" for value in values)])
    head = ["what", *map(shown_name, comparison.samplers)]
    return [table("All parameters, densities and groups", head, lines)] if lines else []


def how_to_read(comparison: Comparison) -> list[str]:
    """What the words of the tables mean."""
    words = {
        "EM, mean, sd, interval": "in data units: means as the column, variances and covariances in products of columns, weights as "
        "shares of one. mean, sd and interval are the posterior's.",
        "z": "(EM - mean) / sd. A mode is not a mean: up to about 1 is no contradiction.",
        "inside": "whether EM lies within the interval.",
        "R-hat": "under 1.01 the chains agree; above, believe nothing else yet.",
        "ESS": "how many independent draws the draws are worth; 100 a chain are wanted.",
        "labels identified": "whether components keep their names from draw to draw. Where they do not, only what no order of "
        "the components changes is shown.",
        "nats": "units of log densities; EM's lies above those of the draws by about half the number of free parameters.",
    }
    found = {name for row in comparison.rows for name in _EXTRAS if _finite(row.get(name))}
    words |= {_EXTRAS[name][0]: _EXTRAS[name][1] + "." for name in _EXTRAS if name in found}
    return section("reading", "How to read this", [definitions(words)])


def shown_name(method: str) -> str:
    """A method as a reader knows it."""
    return method_style(method)[2]


def _number(value: float, decimals: int) -> str:
    return f"{value:.{decimals}f}" if math.isfinite(value) else "–"


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
