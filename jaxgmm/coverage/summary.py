"""The table of a coverage study: rows from the estimates and intervals of many data sets, and its printed page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..comparison.text_report import WIDTH, paragraph

_HEADINGS = {"weight": "weights", "mean": "means", "variance": "variances", "covariance": "covariances"}


def rows_of(
    described: Sequence[Mapping[str, Any]],
    truth: np.ndarray,
    found: Mapping[str, np.ndarray],
    probabilities: Sequence[float],
    cell: Mapping[str, Any],
) -> list[dict[str, Any]]:
    """One row a parameter of one cell and method.

    Args:
        described: what the P parameters are, as `rows.entries`.
        truth: (P,).
        found: of B data sets estimate (B, P), lower and upper (B, Q, P), defined (B, P), failed (B,).
        probabilities: Q, of the intervals.
        cell: what all rows begin with.

    Returns:
        Dicts of plain numbers, NaN where there is none.

    Example:
        >>> found = {"estimate": np.array([[1.0], [3.0]]), "failed": np.zeros(2, bool), "defined": np.array([[True], [False]]),
        ...          "lower": np.array([[[0.0]], [[np.nan]]]), "upper": np.array([[[4.0]], [[np.nan]]])}
        >>> row, = rows_of([{"name": "means[0,0]"}], np.array([2.0]), found, (0.9,), {})
        >>> row["bias"], row["rmse"], row["coverage_90"], row["coverage_90_defined"], row["share_undefined"]
        (0.0, 1.0, 0.5, 1.0, 0.5)
    """
    rows = []
    for p, entry in enumerate(described):
        defined = np.asarray(found["defined"][:, p], bool)
        undefined, undefined_se = _share(~defined)
        row = {**cell, **entry, "truth": float(truth[p]), "num_datasets": len(defined)}
        row |= _errors(np.asarray(found["estimate"][:, p], float) - float(truth[p]))
        for q, probability in enumerate(probabilities):
            lower, upper = (np.asarray(found[end][:, q, p], float) for end in ("lower", "upper"))
            inside = defined & (lower <= truth[p]) & (truth[p] <= upper)
            width = (upper - lower)[defined]
            name = f"{100 * probability:g}"
            row[f"coverage_{name}"], row[f"coverage_{name}_se"] = _share(inside)
            row[f"coverage_{name}_defined"], row[f"coverage_{name}_defined_se"] = _share(inside[defined])
            row[f"width_{name}"], row[f"width_{name}_se"] = _mean(width)
            row[f"width_{name}_median"] = float(np.median(width)) if len(width) else math.nan
        row |= {"share_undefined": undefined, "share_undefined_se": undefined_se}
        row["share_failed"], row["share_failed_se"] = _share(np.asarray(found["failed"], bool))
        rows.append(row)
    return rows


def _errors(error: np.ndarray) -> dict[str, Any]:
    """Bias and root mean square of errors (B,); those that are no number are counted apart."""
    error = error[np.isfinite(error)]
    bias, bias_se = _mean(error)
    square, square_se = _mean(error**2)
    rmse = math.sqrt(square) if square >= 0 else math.nan
    spread = square_se / (2 * rmse) if rmse > 0 else square_se  # by the delta method
    return {"num_estimates": len(error), "bias": bias, "bias_se": bias_se, "rmse": rmse, "rmse_se": spread}


def _mean(values: np.ndarray) -> tuple[float, float]:
    """Mean, and its Monte Carlo standard error."""
    if not len(values):
        return math.nan, math.nan
    return float(values.mean()), float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else math.nan


def _share(hits: np.ndarray) -> tuple[float, float]:
    """Share, and its Monte Carlo standard error, taken at (hits + 1) / (B + 2), so that 0 and 1 have one too."""
    if not len(hits):
        return math.nan, math.nan
    p = (hits.sum() + 1) / (len(hits) + 2)
    return float(hits.mean()), math.sqrt(p * (1 - p) / len(hits))


def render(rows: Sequence[Mapping[str, Any]], meta: Mapping[str, Any], probabilities: Sequence[float]) -> list[str]:
    """The page of a study, as lines of at most 100 columns: coverage, then bias, error and width, by covariance type."""
    k, d, count = meta["num_components"], meta["num_features"], meta["num_datasets"]
    lines = ["Coverage study", "=============="]
    lines += paragraph(
        f"data    {count} data sets a cell of {d} feature{'s' * (d > 1)}, from {k} component{'s' * (k > 1)} with unit "
        "variances, neighbours as many standard deviations apart as 'apart' says",
        "        ",
    )
    fixed = "the data-scaled default" if meta["prior"] == "default" else "fixed"
    lines += paragraph(
        f"methods EM starts by {meta['start']}; prior of all but em (maximum likelihood): {fixed}; {meta['dtype']}", "        "
    )
    kinds = [kind for kind in _HEADINGS if any(row["kind"] == kind for row in rows) and (kind != "weight" or k > 1)]
    ends = [probabilities[0], probabilities[-1]][-len(set(probabilities)) :]
    coverage = {f"{100 * p:g} %": (lambda group, p=p: _percent(_average(group, f"coverage_{100 * p:g}"))) for p in ends}
    last = f"{100 * ends[-1]:g}"
    errors = {
        "bias": _largest_bias,
        "RMSE": _pooled_rmse,
        "width": lambda group: _number(_average(group, f"width_{last}_median")),
    }
    for kind in dict.fromkeys(row["covariance_type"] for row in rows):
        own = [row for row in rows if row["covariance_type"] == kind]
        lines += ["", f"{kind} covariances: % of data sets whose interval covers the truth, none counted as a miss"]
        lines += _tables(own, kinds, coverage, 7, tail=True)
        lines += ["", f"{kind} covariances: errors of the estimates, and median width of {last} % intervals, data units"]
        lines += _tables(own, kinds, errors, 8, tail=False)
    return lines + ["", *_notes(count)]


def _notes(count: int) -> list[str]:
    return paragraph(
        "N: observations a data set. em, map: Wald intervals; others: quantiles of draws, whose mean is the estimate. none: "
        "% of data sets, on average over parameters, without an interval. failed: % whose EM did not converge or holds a "
        "spike, or whose draws are not to be used. ms: milliseconds a data set, compilation and the fit that draws start from "
        "apart, on the machine that made the row. Coverage has a Monte Carlo standard error of at most "
        f"{50 / math.sqrt(count):.1f} points for one parameter; a column is the average over its parameters, bias that of the "
        "parameter where it is largest. More is in .rows."
    )


def _tables(
    rows: Sequence[Mapping[str, Any]], kinds: Sequence[str], columns: Mapping[str, Any], width: int, *, tail: bool
) -> list[str]:
    """One line a cell and method, a group of columns a kind of parameter; as many tables as the page's width asks for."""
    groups: dict[tuple, list] = {}
    for row in rows:
        groups.setdefault((row["num_observations"], row["separation"], row["method"]), []).append(row)
    room = (WIDTH - 23 - 21 * tail) // (width * len(columns) + 1)
    lines = []
    for first in range(0, len(kinds), room):
        some, whole = kinds[first : first + room], tail and first + room >= len(kinds)
        lines.append(" " * 23 + " ".join(f"{_HEADINGS[kind]:>{width * len(columns)}}" for kind in some))
        heads = " ".join("".join(f"{name:>{width}}" for name in columns) for _ in some)
        lines.append(f"{'N':>6}{'apart':>6}  {'method':<9}{heads}" + f"{'none':>7}{'failed':>7}{'ms':>7}" * whole)
        for (n, apart, method), group in groups.items():
            cells = [
                "".join(f"{cell([row for row in group if row['kind'] == kind]):>{width}}" for cell in columns.values())
                for kind in some
            ]
            end = [_percent(_average(group, name)) for name in ("share_undefined", "share_failed")]
            end.append(_number(1000 * group[0]["seconds_per_dataset"]))
            lines.append(f"{n:>6}{apart:>6g}  {method:<9}" + " ".join(cells) + "".join(f"{e:>7}" for e in end) * whole)
    return [line.rstrip() for line in lines]


def _average(group: Sequence[Mapping[str, Any]], name: str) -> float:
    return float(np.mean([row[name] for row in group])) if group else math.nan


def _largest_bias(group: Sequence[Mapping[str, Any]]) -> str:
    return _number(max((row["bias"] for row in group), key=lambda b: (math.isfinite(b), abs(b)), default=math.nan))


def _pooled_rmse(group: Sequence[Mapping[str, Any]]) -> str:
    return _number(math.sqrt(np.mean([row["rmse"] ** 2 for row in group]))) if group else "-"


def _percent(share: float) -> str:
    return f"{100 * share:.1f}" if math.isfinite(share) else "-"


def _number(value: float) -> str:
    """Three digits, in seven columns."""
    if not math.isfinite(value):
        return "-"
    decimals = max(0, min(4, 2 - math.floor(math.log10(abs(value))))) if value else 1
    plain = f"{round(value, decimals) + 0.0:.{decimals}f}"
    return plain if len(plain) <= 7 else f"{value:.0e}".replace("e+0", "e").replace("e+", "e")
