"""The printed page of a comparison: plain numbers in, lines of at most 100 columns out."""

from __future__ import annotations

import html
import math
import textwrap
from collections.abc import Sequence
from functools import partial
from typing import Any

WIDTH = 100
_SHORTER = {"variance": "var.", "covariance": "cov.", "mean": "mean", "weight": "weight"}


def table(title: str, rows: Sequence[dict[str, Any]], interval: float) -> list[str]:
    """Lines of one block: a heading, and for each quantity a line a posterior; EM once.

    Args:
        title: what the rows have in common.
        rows: dicts with method, name, kind, features, em, mean, sd, lower, upper, z, inside, r_hat, ess_bulk; and, as far as
            there are, em_se, sd_ratio, contraction.
        interval: the intervals' probability.

    Returns:
        Lines of at most 100 columns.

    Example:
        >>> row = dict(kind="weight", name="weights[0]", method="nuts", features=[], em=0.5, mean=0.52, sd=0.03, lower=0.46,
        ...            upper=0.58, z=-0.67, inside=True, r_hat=1.001, ess_bulk=800.0)
        >>> print("\\n".join(table("component 0", [row], 0.95)))
        component 0                            EM     mean       sd   95 % interval      z inside R-hat  ESS
          weight                            0.500    0.520    0.030   0.460   0.580  -0.67    yes 1.001  800
    """
    several, further = len({row["method"] for row in rows}) > 1, any("em_se" in row for row in rows)
    finest: dict[str, float] = {}  # sd by quantity: its lines have the same decimals
    for row in rows:
        finest[row["name"]] = min(row["sd"] or math.inf, finest.get(row["name"], math.inf))
    cells = [numbers([row.get(c, math.nan) for c in _NUMBERS], finest[row["name"]]) for row in rows]
    least = (0 if several else 9, 8 if further and not several else 0, 9, 9, 8, 8)
    widths = [max(w, 1 + max(map(len, column))) if w else 0 for w, column in zip(least, zip(*cells, strict=True), strict=True)]
    if several:
        widths[2:4] = [max(w, 1 + max(len(c[i]) for c in cells)) for i, w in enumerate(widths[2:4])]
    by = 2 + min(max(2, *(len(str(row["method"])) for row in rows)), 12) if several else 0
    last = (("Lap./sd", 8), ("learned", 8)) if further else (("R-hat", 6), ("ESS", 5))
    room = WIDTH - sum(widths) - by - 14 - sum(w for _, w in last)  # what is left to the name
    between = f"{100 * interval:g} % interval"
    head = "" if several else f"{'EM':>{widths[0]}}{'its se' if widths[1] else '':>{widths[1]}}"
    head += f"{'mean':>{widths[2] + by}}{'sd':>{widths[3]}}{between:>{widths[4] + widths[5]}}{'z':>7}{'inside':>7}"
    lines = [f"{_cut(title, room - 1):<{room}}{head}" + "".join(f"{name:>{width}}" for name, width in last)]
    before = None
    for row, strings in zip(rows, cells, strict=True):
        name = "" if row["name"] == before else "  " + row_name(row, room - 3)
        if several and name:
            lines.append(
                f"{name:<{room}}{'  EM':<{by}}{strings[0]:>{widths[2]}}" + (f"{strings[1]:>{widths[3]}}" if further else "")
            )
            name = ""
        before = row["name"]
        lines.append(f"{name:<{room}}{_line(row, strings, widths, by, further)}".rstrip())
    return lines


_NUMBERS = ("em", "em_se", "mean", "sd", "lower", "upper")


def _line(row: dict[str, Any], strings: list[str], widths: list[int], by: int, further: bool) -> str:
    # EM's log densities lie above those of the draws by nature: no test of anything
    z, inside = ("", "") if "nats" in row["kind"] else (_z(row["z"]), "yes" if row["inside"] else "NO")
    values = "".join(f"{string:>{width}}" if width else "" for string, width in zip(strings, widths, strict=True))
    method = f"{'  ' + _cut(str(row['method']), by - 2):<{by}}" if by else ""
    if further:
        learned = row["contraction"]
        share = f"{100 * learned:.0f} %" if math.isfinite(learned) and learned > -9.995 else "-"
        last = f"{_fixed(row['sd_ratio'], 2):>8}{share:>8}"
    else:
        last = f"{_fixed(row['r_hat'], 3 if row['r_hat'] < 10 else 1):>6}{_count(row['ess_bulk']):>5}"
    return f"{method}{values}{z:>7}{inside:>7}{last}"


def _cut(text: str, room: int) -> str:
    return text if len(text) <= room else text[: max(room - 1, 0)] + "…"


def numbers(values: Sequence[float], sd: float) -> list[str]:
    """Numbers with as many decimals as their posterior sd makes worth reading (two digits of it).

    Example:
        >>> numbers([4.28966, 0.0391], 0.0391)
        ['4.290', '0.039']
        >>> numbers([123456789.0, 2e6], 2e6)
        ['123456789', '2000000']
        >>> numbers([123456789000.0, 2e9], 2e9)
        ['1.235e11', '2.000e9']
    """
    size = abs(sd) if sd and math.isfinite(sd) else max([abs(v) for v in values if math.isfinite(v)] or [0.0]) * 1e-3
    decimals = max(0, 1 - math.floor(math.log10(size))) if size > 0 and math.isfinite(size) else 3
    plain = [_fixed(v, decimals) for v in values]
    if max(map(len, plain)) <= 10:
        return plain
    return [_scientific(v) for v in values]


def _fixed(value: float, decimals: int) -> str:
    # + 0.0: no minus sign before a zero
    return f"{round(value, decimals) + 0.0:.{decimals}f}" if math.isfinite(value) else "-"


def _z(value: float) -> str:
    return _fixed(value, 2 if abs(value) < 100 else 0)


def _count(value: float) -> str:
    if not math.isfinite(value):
        return "-"
    return f"{value:.0f}" if value < 9999.5 else f"{value / 1000:.0f}k"


def _scientific(value: float) -> str:
    if not math.isfinite(value):
        return "-"
    mantissa, exponent = f"{value:.3e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def row_name(row: dict[str, Any], room: int = 29) -> str:
    """The name of a row, shortened to fit `room` columns: first the kind's word, then the features' names.

    Example:
        >>> row_name({"kind": "covariance", "features": ["sepal_length", "sepal_width"]}, room=26)
        'cov. sepal_le…, sepal_wi…'
    """
    features = [str(f) for f in row["features"]]
    name = f"{row['kind']} {', '.join(features)}".rstrip()
    if len(name) > room:
        name = f"{_SHORTER.get(row['kind'], row['kind'])} {', '.join(features)}".rstrip()
    if len(name) > room and features:
        head = _SHORTER.get(row["kind"], row["kind"])
        share = (room - len(head) - 1 - 2 * (len(features) - 1)) // len(features)
        name = f"{head} {', '.join(f if len(f) <= share else f[: share - 1] + '…' for f in features)}"
    return name[:room]


def paragraph(text: str, indent: str = "") -> list[str]:
    """Text wrapped to the page, later lines indented.

    Example:
        >>> paragraph("short")
        ['short']
    """
    return textwrap.wrap(text, WIDTH, subsequent_indent=indent, break_on_hyphens=False) or [""]


def render(comparison: Any) -> list[str]:
    """The whole page of a Comparison, as lines."""
    c = comparison
    lines = ["EM against the posterior", "========================", *_head(c.meta)]
    for name, sampler in c.samplers.items():
        verdict = sampler["verdict"]
        whose = f" by {name}" if len(c.samplers) > 1 else ""
        lines += ["", *paragraph(f"Verdict{whose}: {verdict['word']}. " + " ".join(verdict["sentences"]))]
        for note in sampler["notes"]:
            lines += paragraph(f"Note: {note}", "      ")
    lines += ["", *_health(c.samplers)]
    named = [name for name, sampler in c.samplers.items() if sampler["identified"]]
    rows = [row for row in c.rows if row["method"] in named]
    for component in sorted(dict.fromkeys(row["component"] for row in rows), key=lambda k: (k is None, k)):
        title = "all components" if component is None else f"component {component}"
        lines += ["", *table(title, _side_by_side([r for r in rows if r["component"] == component]), c.interval)]
    everyone = len(named) == len(c.samplers)
    free = [row for row in c.label_free if not everyone or "nats" in row["kind"]]
    lines += ["", *table("whole mixture", _side_by_side(free), c.interval)]
    for title, found in _sections(c):
        lines += ["", *_columns(title, found, list(c.samplers))]
    return [*lines, "", *paragraph(_legend(bool(rows), len(c.samplers) > 1))]


def as_html(comparison: Any) -> str:
    """The page as one self-contained piece of HTML, for notebooks.

    Example:
        >>> as_html.__name__
        'as_html'
    """
    text = html.escape("\n".join(render(comparison)))
    return f'<pre style="line-height:1.25;font-family:ui-monospace,Menlo,Consolas,monospace;white-space:pre">{text}</pre>'


def _head(meta: dict[str, Any]) -> list[str]:
    em, k, prior = meta["em"], meta["num_components"], meta["em"].get("prior")
    lines = paragraph(f"data   {meta['num_observations']} observations of {', '.join(meta['feature_names'])}", "       ")
    lines += paragraph(
        f"model  {k} component{'s' * (k > 1)}, {meta['covariance_type']} covariances, {meta['num_parameters']} free parameters, "
        f"{meta['dtype']}",
        "       ",
    )
    what = f", the mode under the posterior's prior ({prior['name']})" if prior else ""
    return lines + paragraph(
        f"EM     {em['status'].lower().replace('_', ' ')} after {em['num_iter']} steps, log-likelihood "
        f"{em['log_likelihood']:.3f} nats, objective {em['objective']:.3f} nats{what}",
        "       ",
    )


def _health(samplers: dict[str, dict[str, Any]]) -> list[str]:
    """A line a posterior: how its draws were made, and how good they are."""
    heads = ("chains", "draws", "warm-up", "R-hat", "ESS", "tail ESS", "divergent", "depth", "E-BFMI", "k-hat", "switching")
    widths = (7, 6, 8, 7, 6, 9, 10, 6, 7, 6, 10)
    room = WIDTH - sum(widths)
    lines = [f"{'draws':<{room}}" + "".join(f"{head:>{width}}" for head, width in zip(heads, widths, strict=True))]
    for name, s in samplers.items():
        deepest = s["tree_depth_max"]
        cells = (
            str(s["chains"]),
            str(s["draws"]),
            "-" if s["num_warmup"] is None else str(s["num_warmup"]),
            _fixed(s["r_hat_max"], 3 if s["r_hat_max"] < 10 else 1),
            _count(s["ess_min"]),
            _count(s["ess_tail_min"]),
            str(s["divergences"]),
            "-" if deepest is None else str(deepest),
            _optional(s["e_bfmi_min"]),
            _optional(s["khat"]),
            f"{100 * s['switch_rate']:.1f} %",
        )
        lines.append(
            f"{'  ' + _cut(name, room - 3):<{room}}" + "".join(f"{c:>{w}}" for c, w in zip(cells, widths, strict=True))
        )
    unclear = [name for name, s in samplers.items() if not s["identified"]]
    if unclear:
        lines += paragraph(f"Labels are NOT identified by {', '.join(unclear)}: no table of its single components.")
    return lines


def _optional(value: float | None) -> str:
    return "-" if value is None else _fixed(value, 2)


def _side_by_side(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of one quantity next to each other, quantities in their first order."""
    order = {name: place for place, name in enumerate(dict.fromkeys(row["name"] for row in rows))}
    return sorted(rows, key=lambda row: order[row["name"]])


def _cells(
    methods: list[str], found: dict, name: str, digits: int, error: str = "", *, scale: float = 1.0, unit: str = ""
) -> list[str]:
    """One number a posterior, with its error where there is one."""
    out = []
    for method in methods:
        value, spread = (found.get(method, {}).get(key, math.nan) for key in (name, error))
        text = _fixed(scale * value, digits) + (unit if math.isfinite(value) else "")
        out.append(text + (f"±{_fixed(scale * spread, digits)}" if math.isfinite(spread) and spread > 0 else ""))
    return out


def _sections(comparison: Any) -> list[tuple[str, list[tuple[str, list[str]]]]]:
    """Titles, and under each the lines: what it is, and a cell a posterior."""
    c, p = comparison, comparison.meta["num_parameters"]

    cells = partial(_cells, list(c.samplers))
    scored = min((d["num_rows"] for d in c.density.values()), default=0)
    sampled = f" by {scored} rows" if scored < c.meta["num_observations"] and c.meta["num_observations"] > 2000 else ""
    folds = max((d.get("num_folds", 0) for d in c.density.values()), default=0)
    joint = [
        (f"log joint: EM above draws (nats; ~{p / 2:g})", cells(c.joint, "log_joint_gap", 1)),
        ("draws above EM's log joint density", cells(c.joint, "log_joint_rank", 1, scale=100, unit=" %")),
        (f"EM from the draws' centre (draws: ~{math.sqrt(p):.1f})", cells(c.joint, "mahalanobis", 2)),
        ("draws farther out than EM", cells(c.joint, "farther_share", 0, scale=100, unit=" %")),
        ("lost by Laplace's normal (KL, nats)", cells(c.joint, "laplace_kl", 3)),
        ("Wasserstein to Laplace (Laplace's sds)", cells(c.joint, "laplace_w2", 2)),
    ]
    density = [
        ("total variation (from 0 to 1)", cells(c.density, "total_variation", 3, "total_variation_error")),
        ("Hellinger distance (from 0 to 1)", cells(c.density, "hellinger", 3, "hellinger_error")),
        ("lost a point by EM's (KL, nats)", cells(c.density, "kl", 4, "kl_error")),
    ]
    predicted = [
        ("EM, of points that it saw", cells(c.density, "lpd_em", 1)),
        ("posterior, each point left out (LOO)", cells(c.density, "elpd_loo", 1, "elpd_loo_se")),
        ("  effective number of parameters", cells(c.density, "p_loo", 1)),
        ("  points with k-hat over 0.7 (not trusted)", cells(c.density, "num_khat_high", 0)),
        (f"EM, {folds} folds left out", cells(c.density, "elpd_folds_em", 1, "elpd_folds_em_se")),
        (f"posterior, {folds} folds left out", cells(c.density, "elpd_folds", 1, "elpd_folds_se")),
        ("  posterior minus EM", cells(c.density, "elpd_folds_difference", 2, "elpd_folds_difference_se")),
        ("  folds with k-hat over 0.7 (not trusted)", cells(c.density, "num_folds_khat_high", 0)),
    ]
    groups = [
        ("same groups (adjusted Rand, 1: the same)", cells(c.clustering, "adjusted_rand", 3)),
        ("mean difference of memberships", cells(c.clustering, "membership_difference", 4)),
        ("a point's uncertainty: EM (nats)", cells(c.clustering, "entropy_em", 3)),
        ("  posterior (nats)", cells(c.clustering, "entropy_posterior", 3)),
        ("points less than 90 % sure", cells(c.clustering, "unsure_share", 1, scale=100, unit=" %")),
    ]
    sections = [
        ("all parameters at once", joint),
        ("density, EM's beside the predictive", density),
        (f"log density of the data (nats){sampled}", predicted),
        ("who belongs with whom", groups),
    ]
    kept = [(title, [line for line in lines if any(cell != "-" for cell in line[1])]) for title, lines in sections]
    return [(title, lines) for title, lines in kept if lines]


def _columns(title: str, lines: list[tuple[str, list[str]]], methods: list[str]) -> list[str]:
    """A block with a column a posterior; what does not fit beside goes into a block below."""
    width = max(10, 2 + max(len(cell) for _, cells in lines for cell in cells), 2 + max(min(len(m), 12) for m in methods))
    room = 44
    fit, found = max(1, (WIDTH - room) // width), []
    for low in range(0, len(methods), fit):
        some = slice(low, low + fit)
        found.append(f"{_cut(title, room):<{room}}" + "".join(f"{_cut(m, 12):>{width}}" for m in methods[some]))
        for text, cells in lines:
            found.append(f"{'  ' + _cut(text, room - 2):<{room}}" + "".join(f"{cell:>{width}}" for cell in cells[some]))
    return found


def _legend(named: bool, several: bool) -> str:
    text = (
        "EM, mean, sd and interval are in data units: means as the column, variances and covariances in products "
        "of columns, weights as shares of one. mean, sd: of the posterior; z = (EM - mean) / sd; inside: EM "
        "within the interval; ESS: effective number of draws."
    )
    if named:
        error = "sd in EM's line" if several else "its se"
        text += (
            f" {error}: EM's standard error by the information; Lap./sd: the sd by Laplace's normal approximation over the "
            "posterior's; learned: 1 - (width of the central 90 %, posterior over prior) squared."
        )
    return text + (
        " R-hat (of chains that agree: 1) is the largest, the ESSs are the smallest of all quantities; k-hat: of Laplace's "
        "approximation, under 0.7 where it is good."
    )
