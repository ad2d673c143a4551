"""The printed page of a comparison: plain numbers in, lines of at most 100 columns out."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import Any

WIDTH = 100
_SHORTER = {"variance": "var.", "covariance": "cov.", "mean": "mean", "weight": "weight"}


def table(title: str, rows: Sequence[dict[str, Any]], interval: float) -> list[str]:
    """Lines of one block: a heading and a line a row.

    Args:
        title: what the rows have in common.
        rows: dicts with kind, features, em, mean, sd, lower, upper, z, inside, r_hat, ess_bulk.
        interval: the intervals' probability.

    Returns:
        Lines of at most 100 columns.

    Example:
        >>> row = dict(kind="weight", features=[], em=0.5, mean=0.52, sd=0.03, lower=0.46, upper=0.58, z=-0.67, inside=True,
        ...            r_hat=1.001, ess_bulk=800.0)
        >>> print("\\n".join(table("component 0", [row], 0.95)))
        component 0                            EM     mean       sd   95 % interval      z inside R-hat  ESS
          weight                            0.500    0.520    0.030   0.460   0.580  -0.67    yes 1.001  800
    """
    cells = [numbers([row[c] for c in ("em", "mean", "sd", "lower", "upper")], row["sd"]) for row in rows]
    widths = [
        max(least, 1 + max(map(len, column))) for least, column in zip((9, 9, 9, 8, 8), zip(*cells, strict=True), strict=True)
    ]
    room = WIDTH - sum(widths) - 25  # what the other four columns leave to the name
    head = "".join(f"{name:>{width}}" for name, width in zip(("EM", "mean", "sd"), widths, strict=False))
    between = f"{100 * interval:g} % interval"
    lines = [f"{title:<{room}}{head}{between:>{sum(widths[3:])}}{'z':>7}{'inside':>7}{'R-hat':>6}{'ESS':>5}"]
    for row, strings in zip(rows, cells, strict=True):
        # EM's log densities lie above those of the draws by nature: no test of anything
        z, inside = ("", "") if "nats" in row["kind"] else (_z(row["z"]), "yes" if row["inside"] else "NO")
        values = "".join(f"{string:>{width}}" for string, width in zip(strings, widths, strict=True))
        lines.append(
            f"{'  ' + row_name(row, room - 3):<{room}}{values}{z:>7}{inside:>7}"
            f"{_fixed(row['r_hat'], 3 if row['r_hat'] < 10 else 1):>6}{_count(row['ess_bulk']):>5}".rstrip()
        )
    return lines


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
    size = abs(sd) if sd else max([abs(v) for v in values if math.isfinite(v)] or [0.0]) * 1e-3
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


def render(
    interval: float,
    meta: dict[str, Any],
    rows: Sequence[dict[str, Any]],
    label_free: Sequence[dict[str, Any]],
    samplers: dict[str, dict[str, Any]],
) -> list[str]:
    """The whole page of a Comparison, as lines."""
    em, k = meta["em"], meta["num_components"]
    features = ", ".join(meta["feature_names"])
    lines = ["EM against the posterior", "========================"]
    lines += paragraph(f"data   {meta['num_observations']} observations of {features}", "       ")
    lines += paragraph(
        f"model  {k} component{'s' * (k > 1)}, {meta['covariance_type']} covariances, {meta['dtype']}", "       "
    )
    lines += paragraph(
        f"EM     {em['status'].lower().replace('_', ' ')} after {em['num_iter']} steps, log-likelihood "
        f"{em['log_likelihood']:.3f} nats, objective {em['objective']:.3f} nats",
        "       ",
    )
    for method, sampler in samplers.items():
        own = [row for row in rows if row["method"] == method]
        free = [row for row in label_free if row["method"] == method]
        lines += _method(method, sampler, own, free, interval, meta["num_parameters"])
    lines += [
        "",
        *paragraph(
            "EM, mean, sd and interval are in data units: means as the column, variances and covariances in products "
            "of columns, weights as shares of one. mean, sd: of the posterior; z = (EM - mean) / sd; inside: EM "
            "within the interval; ESS: effective number of draws."
        ),
    ]
    return lines


def _method(
    method: str,
    sampler: dict[str, Any],
    rows: list[dict[str, Any]],
    free: list[dict[str, Any]],
    interval: float,
    num_parameters: int,
) -> list[str]:
    lines = paragraph(
        f"{method:<6} {sampler['chains']} chains of {sampler['draws']} draws, {sampler['divergences']} divergent; R-hat at "
        f"most {_fixed(sampler['r_hat_max'], 3)}, ESS at least {_fixed(sampler['ess_min'], 0)}; labels "
        f"{'' if sampler['identified'] else 'NOT '}identified, {100 * sampler['switch_rate']:.1f} % of draws switch",
        "       ",
    )
    lines += ["", *paragraph(f"Verdict: {sampler['verdict']['word']}. " + " ".join(sampler["verdict"]["sentences"]))]
    for note in sampler["notes"]:
        lines += paragraph(f"Note: {note}", "      ")
    if sampler["identified"]:
        groups = dict.fromkeys(row["component"] for row in rows)
        for component in sorted(groups, key=lambda c: (c is None, c)):
            title = "all components" if component is None else f"component {component}"
            lines += ["", *table(title, [row for row in rows if row["component"] == component], interval)]
        free = free[:2]  # the two log densities
    lines += ["", *table("whole mixture", free, interval)]
    gap = next((row["em"] - row["mean"] for row in free if row["kind"] == "log joint density (nats)"), math.nan)
    if math.isfinite(gap):
        lines += paragraph(
            f"EM's log joint density is {gap:.1f} nats above the draws' mean; about {num_parameters / 2:g}, half the "
            f"number of free parameters, is to be expected of a mode."
        )
    return lines
