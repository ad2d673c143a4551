"""Calibration: ranks, what they are judged by, coverage of intervals, and the page that says it."""

from __future__ import annotations

import textwrap
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ..studies.serialization import csv_text, json_text, ordinal, plain
from .bands import chi_square, inside_probability, most_extreme, rank_counts, simultaneous_band, simultaneous_p
from .quantities import RULE

WIDTH = 100
_COLUMNS = 8  # of coverage, side by side
_FIELDS = (
    "kind",
    "method",
    "name",
    "label_invariant",
    "chi_square_p",
    "ecdf_p",
    "deviation",
    "at",
    "limit",
    "inside",
    "shape",
    "not_ranked",
    "ess_median",
    "ess_low",
    "probability",
    "coverage",
    "error",
    "undefined",
    "coverage_with_misses",
)


@dataclass(frozen=True, eq=False)
class Calibration:
    """What a calibration found: `print` it, or take its numbers.

    Attributes:
        method: its name.
        design: all that the numbers depend on, in plain types: key, prior, counts, options, versions.
        quantities: Q names of what was ranked; none for bootstrap, which draws from no posterior of that prior.
        label_invariant: (Q,) booleans: no order of components matters; the rest is of components by their means of feature 0.
        ranks: (B, Q) integers, how many of L draws are under the truth; -1: a value is not finite.
        num_draws: L.
        ess: (B, Q), bulk effective sample size of the L draws.
        coverage: one dict for each method ("em" is the estimate with its information), parameter and probability: method, name,
            probability, coverage where there is an interval, error (Monte Carlo standard error), undefined (share of data sets
            without an interval), coverage_with_misses, with those counted as misses.
        statuses: how many data sets, by the status of the method's draws.
        fit_statuses: the same of the EM fits that draws start from.
        alpha: family-wise false-failure rate of the bands over all quantities.
    """

    method: str
    design: dict[str, Any]
    quantities: list[str]
    label_invariant: np.ndarray
    ranks: np.ndarray
    num_draws: int
    ess: np.ndarray
    coverage: list[dict[str, Any]]
    statuses: dict[str, int]
    fit_statuses: dict[str, int]
    alpha: float

    @property
    def passed(self) -> bool | None:
        """Whether every quantity was ranked in every data set and lies inside its band; None where nothing is ranked."""
        return all(row["inside"] and not row["not_ranked"] for row in self.rows) if self.quantities else None

    @property
    def thresholds(self) -> dict[str, float]:
        """alpha, the share alpha / Q of each quantity (Bonferroni), and the exact bound on false failures that counts leave."""
        if not self.quantities:
            return {"alpha": self.alpha}
        share = self.alpha / len(self.quantities)
        exact = len(self.quantities) * (1 - inside_probability(self._limits(len(self.ranks))))
        return {"alpha": self.alpha, "alpha_each": share, "false_failure_rate": exact}

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """One dict for each quantity: name, label_invariant; chi_square_p; ecdf_p, the exact simultaneous p-value of the ECDF;
        deviation of the ECDF from uniform where it is least probable, at which share of the ranks, limit of the band
        there; inside; shape, what the draws look like; not_ranked, data sets; ess_median and ess_low (the 5 % quantile).
        """
        return [self._row(j) for j in range(len(self.quantities))]

    def _row(self, j: int) -> dict[str, Any]:
        ranks = self.ranks[self.ranks[:, j] >= 0, j]
        row = {"name": self.quantities[j], "label_invariant": bool(self.label_invariant[j])}
        row |= {"not_ranked": len(self.ranks) - len(ranks)} | _judged(ranks, self.num_draws, self._limits(len(ranks)))
        known = self.ess[np.isfinite(self.ess[:, j]), j]
        low, median = np.quantile(known, [0.05, 0.5]) if len(known) else (np.nan, np.nan)
        return row | {"ess_median": float(median), "ess_low": float(low)}

    def _limits(self, num_ranks: int) -> tuple[np.ndarray, np.ndarray]:
        return simultaneous_band(num_ranks, self.num_draws, self.alpha / max(1, len(self.quantities)))

    def band(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """z (L + 2,), from 0 to 1, and what the ECDF of B ranks less z must lie between: lower, upper (L + 2,).

        At z = j / (L + 1) the ECDF is the share of ranks under j. All quantities' ECDFs lie inside with probability 1 - alpha.
        """
        z = np.arange(self.num_draws + 2) / (self.num_draws + 1)
        lower, upper = self._limits(len(self.ranks))
        return z, lower / len(self.ranks) - z, upper / len(self.ranks) - z

    def ecdf(self, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """z (L + 2,), the ECDF of one quantity's ranks less z, and the band's lower and upper ends there."""
        if name not in self.quantities:
            raise ValueError(f"name is {name!r}; one of {', '.join(map(repr, self.quantities))} was expected.")
        ranks = self.ranks[:, self.quantities.index(name)]
        ranks = ranks[ranks >= 0]
        z, lower, upper = self.band()
        return z, rank_counts(ranks, self.num_draws) / max(1, len(ranks)) - z, lower, upper

    def to_dict(self) -> dict[str, Any]:
        """Every number in plain Python types, None for what is not defined; ranks are included."""
        found = {"method": self.method, "passed": self.passed, "design": self.design, "thresholds": self.thresholds}
        found |= {"statuses": self.statuses, "fit_statuses": self.fit_statuses, "quantities": self.rows}
        return plain(found | {"coverage": self.coverage, "num_draws": self.num_draws, "ranks": self.ranks})

    def to_json(self, path: Any = None) -> str:
        """`to_dict` as JSON text; written to `path` too, if given."""
        return json_text(self.to_dict(), path)

    def to_csv(self, path: Any = None) -> str:
        """`rows` and `coverage` as CSV text, kind "rank" or "coverage", a header first; written to `path` too, if given."""
        rows = [{"kind": "rank", "method": self.method, **row} for row in self.rows]
        return csv_text(rows + [{"kind": "coverage", **row} for row in self.coverage], _FIELDS, path)

    def __str__(self) -> str:
        return "\n".join([*_head(self), *_ranks(self), *_coverage(self)])

    def __repr__(self) -> str:
        return str(self)


def _judged(ranks: np.ndarray, num_draws: int, limits: tuple[np.ndarray, np.ndarray]) -> dict[str, Any]:
    """One quantity's ranks beside their band."""
    if not len(ranks):
        return {"chi_square_p": np.nan, "ecdf_p": np.nan, "deviation": np.nan, "at": np.nan, "limit": np.nan} | {
            "inside": False,
            "shape": "",
        }
    size, z = len(ranks), np.arange(num_draws + 2) / (num_draws + 1)
    difference = rank_counts(ranks, num_draws) / size - z
    limit = np.where(difference < 0, z - limits[0] / size, limits[1] / size - z)
    place = most_extreme(ranks, num_draws)
    inside = bool((abs(difference) <= limit + 1e-12).all())
    return {
        "chi_square_p": chi_square(ranks, num_draws)[0],
        "ecdf_p": simultaneous_p(ranks, num_draws),
        "deviation": float(difference[place]),
        "at": float(z[place]),
        "limit": float(limit[place]),
        "inside": inside,
        "shape": "" if inside else _shape(ranks, num_draws),
    }


def _shape(ranks: np.ndarray, num_draws: int) -> str:
    """What ranks outside say of the draws: where they lie, or how wide they are, whichever is the further from uniform."""
    u = (ranks + 0.5) / (num_draws + 1) - 0.5
    shift, spread = u.mean() * np.sqrt(12 * len(u)), ((u**2).mean() - 1 / 12) * np.sqrt(180 * len(u))
    if abs(shift) > abs(spread):
        return "draws too low" if shift > 0 else "draws too high"
    return "draws too narrow" if spread > 0 else "draws too wide"


def _head(calibration: Calibration) -> list[str]:
    design = calibration.design
    title = f"Calibration of {calibration.method} by simulation"
    k, d, n = design["num_components"], design["num_features"], design["num_observations"]
    lines = [title, "=" * len(title)]
    lines += _entry(
        "data",
        f"{len(calibration.ranks)} sets of {n} observations of {d} feature{'s' * (d > 1)}, each from a mixture of the prior",
    )
    lines += _entry("model", f"{k} component{'s' * (k > 1)}, {design['covariance_type']} covariances, {design['dtype']}")
    lines += _entry("prior", "; ".join(f"{name} {_short(value)}" for name, value in design["prior"].items()))
    options = ", ".join(f"{name}={value}" for name, value in design["options"].items() if name != "num_samples")
    thin = f", every {ordinal(design['thin'])} kept" if design["thin"] > 1 else ""
    lines += _entry("draws", f"{calibration.num_draws} a data set{thin}{'; ' * bool(options)}{options}")
    lines += _entry("status", ", ".join(f"{name} {count}" for name, count in calibration.statuses.items()))
    return [*lines, "", *textwrap.wrap(_verdict(calibration), WIDTH)]


def _verdict(calibration: Calibration) -> str:
    if calibration.passed is None:
        return "No verdict: what bootstrap draws is no posterior of the prior, so nothing is ranked; coverage below."
    rows, rate = calibration.rows, calibration.thresholds["false_failure_rate"]
    chance = f"a right method fails this with probability {rate:.2g} at most (alpha={calibration.alpha:g} over all, Bonferroni)"
    outside = [f"{row['name']} ({row['shape']})" if row["shape"] else row["name"] for row in rows if not row["inside"]]
    missing = max(row["not_ranked"] for row in rows)
    if calibration.passed:
        return f"Verdict: calibrated. The ranks of all {len(rows)} quantities are inside their bands; {chance}."
    said = (
        f"{len(outside)} of {len(rows)} quantities are outside their bands: {', '.join(outside)}; {chance}." if outside else ""
    )
    lost = f" In {missing} data sets draws are not finite and have no rank." if missing else ""
    return f"Verdict: NOT calibrated. {said}{lost}".replace(".  ", ". ")


def _ranks(calibration: Calibration) -> list[str]:
    if not calibration.quantities:
        return []
    head = (
        f"{'ranks of the truth among draws':<34}{'chi-square p':>13}{'ECDF p':>9}{'gap':>13}{'band':>8}{'inside':>8}{'ESS':>7}"
    )
    lines = ["", head]
    for free, title in ((True, "  whatever the order of components"), (False, f"  {RULE}")):
        lines.append(title)
        lines += [_line(row) for row in calibration.rows if row["label_invariant"] == free]
    lowest = min(row["ess_low"] for row in calibration.rows)
    explanation = (
        "gap: of the ranks' distribution function from the uniform one, where it is least probable; band: how far it may go "
        "there; p: of ranks as uneven as these from a right method; ESS: median effective number of draws"
        + (f", in one data set of 20 under {lowest:.0f}" if np.isfinite(lowest) else "")
        + ". means[k,d]: component k, feature d."
    )
    return [*lines, *textwrap.wrap(explanation, WIDTH)]


def _line(row: dict[str, Any]) -> str:
    values = f"{row['chi_square_p']:>13.4f}{row['ecdf_p']:>9.4f}{row['deviation']:>+13.3f}{row['limit']:>8.3f}"
    return f"    {row['name']:<30}{values}{'yes' if row['inside'] else 'NOT':>8}{row['ess_median']:>7.0f}"


def _coverage(calibration: Calibration) -> list[str]:
    """A line for each parameter; the columns are methods and probabilities."""
    table = {(row["method"], row["name"], row["probability"]): row for row in calibration.coverage}
    methods = list(dict.fromkeys(key[0] for key in table))
    probabilities = list(dict.fromkeys(key[2] for key in table))
    columns = [(method, p) for method in methods for p in probabilities]
    lines = []
    for lo in range(0, len(columns), _COLUMNS):
        lines += _coverage_table(table, columns[lo : lo + _COLUMNS])
    errors = (
        f"{100 * max(row['error'] for row in calibration.coverage if row['probability'] == p):.1f}" for p in probabilities
    )
    said = f"Monte Carlo standard error: at most {', '.join(errors)} for intervals of {_percent(probabilities)} %."
    said += " EM: its mode and the information there, on log-ratios of weights and log variances." * ("em" in methods)
    for method in methods:
        share = max(row["undefined"] for row in calibration.coverage if row["method"] == method)
        if share:
            lowest = min(
                row["coverage_with_misses"] / row["probability"] for row in calibration.coverage if row["method"] == method
            )
            said += (
                f" {'EM' if method == 'em' else method}: {100 * share:.1f} % of the data sets have no interval, left out here; "
                f"counted as misses, the poorest covers {lowest:.2f} of what it should."
            )
    return [*lines, *textwrap.wrap(said, WIDTH)]


def _coverage_table(table: dict[tuple, dict[str, Any]], columns: list[tuple[str, float]]) -> list[str]:
    """Columns in groups under their method."""
    heads = "".join(f"{100 * p:>6g} %" for _, p in columns)
    widths = Counter(method for method, _ in columns)
    groups = "".join(f"{'EM' if method == 'em' else method[: 8 * n - 2]:>{8 * n}}" for method, n in widths.items())
    lines = ["", f"{'% of intervals that hold the truth':<36}{groups}", f"{'':<36}{heads}"]
    for name in dict.fromkeys(key[1] for key in table):
        cells = "".join(f"{100 * table[method, name, p]['coverage']:>8.1f}" for method, p in columns)
        lines.append(f"    {name:<32}{cells}")
    return lines


def _entry(name: str, text: str) -> list[str]:
    return textwrap.wrap(f"{name:<7}{text}", WIDTH, subsequent_indent=" " * 7)


def _percent(probabilities: list[float]) -> str:
    return ", ".join(f"{100 * p:g}" for p in probabilities)


def _short(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_short, value))}]"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
