"""One self-contained HTML page of a comparison: the verdict first, then pictures, tables, how to read them, and what made them.

Nothing is loaded from elsewhere and nothing runs: style and pictures are inside the file. Text that comes from data or from the
caller is escaped.
"""

from __future__ import annotations

import base64
import io
import math
import platform
from collections.abc import Callable, Mapping
from html import escape
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from . import __version__, plot
from .density import predict
from .em.result import Fit
from .experiment.blocks import check_target, versions
from .experiment.compare import Comparison
from .experiment.page import numbers
from .experiment.verdict import full_name
from .files import write_text
from .mixture import Mixture
from .plot.forests import forest_rows
from .plot.style import method_style
from .posterior.predictive import coclustering
from .webpage import definitions, page, section, table

_MOST_POINTS = 1000  # of a co-clustering matrix
_MOST_BYTES = 1_500_000  # of one picture drawn as lines; larger ones become pixels
# further columns, where the rows have them
_EXTRAS = {
    "laplace_sd": ("sd, Laplace", "sd of the normal approximation at the mode"),
    "information_se": ("SE, information", "standard error of maximum likelihood"),
    "sd_ratio": ("sd ratio", "sd by Laplace over posterior sd"),
    "contraction": ("contraction", "1 - (width of the posterior's interval over the prior's) squared: near 1 the data say all"),
}


def write_report(
    path: Any,
    comparison: Comparison,
    fit: Fit | Mixture,
    x: Any,
    *,
    title: str | None = None,
    details: Mapping[str, Any] | None = None,
) -> Path:
    """Writes a comparison as one HTML page that needs nothing else: no network, no scripts.

    Args:
        path: the file; what was there is replaced as a whole.
        comparison: as from `compare`.
        fit: the Fit that was compared, or its mixture alone (then without the picture of convergence).
        x: (N, D), the data, in data units.
        title: a heading; None: "EM against the posterior".
        details: what else the page should say of how it came about, by name: seeds, options, a source.

    Returns:
        The path.

    Raises:
        ValueError, TypeError: not a comparison, data that do not go with it, a folder that is not there.

    Example:
        >>> comparison = jaxgmm.compare(fit, {"nuts": nuts, "laplace": laplace}, x)  # doctest: +SKIP
        >>> jaxgmm.write_report("faithful.html", comparison, fit, x, details={"seed": 0})  # doctest: +SKIP
    """
    check_target(path)
    x = _check(comparison, fit, x)
    heading = "EM against the posterior" if title is None else str(title)
    parts = [
        f"<h1>{escape(heading)}</h1>",
        *_verdicts(comparison),
        *_model(comparison),
        *_pictures(comparison, fit, x),
        *_tables(comparison),
        *_how_to_read(comparison),
        *_provenance(comparison, {} if details is None else details),
    ]
    return write_text(path, page(heading, parts))


def _check(comparison: Any, fit: Any, x: Any) -> np.ndarray:
    if not isinstance(comparison, Comparison):
        raise TypeError(f"comparison is {type(comparison).__name__}; a jaxgmm.Comparison was expected, as from jaxgmm.compare.")
    if not isinstance(fit, Fit | Mixture):
        raise TypeError(f"fit is {type(fit).__name__}; the jaxgmm.Fit that was compared, or its Mixture, was expected.")
    x, meta = np.asarray(x), comparison.meta
    expected = (meta["num_observations"], meta["num_features"])
    if x.shape != expected:
        raise ValueError(f"x has shape {x.shape}; the data that were compared have {expected}.")
    return x


def _verdicts(comparison: Comparison) -> list[str]:
    grades = {"agree": "good", "chains unmixed": "bad"}
    parts = []
    for method, sampler in comparison.samplers.items():
        verdict = sampler["verdict"]
        parts.append(f'<div class="verdict {grades.get(verdict["word"], "mixed")}">')
        parts.append(f"<p><strong>{escape(_name(method))}: {escape(verdict['word'])}.</strong></p>")
        parts += [f"<p>{escape(sentence)}</p>" for sentence in verdict["sentences"]]
        parts += [f"<p><em>Note:</em> {escape(note)}</p>" for note in sampler["notes"]]
        parts.append("</div>")
    return section("verdict", "Verdict", parts)


def _model(comparison: Comparison) -> list[str]:
    meta, em = comparison.meta, comparison.meta["em"]
    k = meta["num_components"]
    parts = [
        definitions(
            {
                "Data": f"{meta['num_observations']} observations of {', '.join(meta['feature_names'])}",
                "Model": f"{k} component{'s' * (k > 1)}, {meta['covariance_type']} covariances, {meta['num_parameters']} free "
                f"parameters, {meta['dtype']}",
                "EM": f"{em['status'].lower().replace('_', ' ')} after {em['num_iter']} steps, log-likelihood "
                f"{em['log_likelihood']:.3f} nats, objective {em['objective']:.3f} nats",
            }
        ),
        table(
            "How the methods did",
            [
                "method",
                "chains",
                "draws a chain",
                "divergent",
                "largest R-hat",
                "smallest ESS",
                "labels identified",
                "draws that switch",
            ],
            [_sampler_cells(method, sampler) for method, sampler in comparison.samplers.items()],
        ),
    ]
    return section("model", "Data and model", parts)


def _sampler_cells(method: str, sampler: dict[str, Any]) -> list[str]:
    return [
        _name(method),
        str(sampler["chains"]),
        str(sampler["draws"]),
        str(sampler["divergences"]),
        _number(sampler["r_hat_max"], 3),
        _number(sampler["ess_min"], 0),
        "yes" if sampler["identified"] else "NO",
        f"{100 * sampler['switch_rate']:.1f} %",
    ]


def _pictures(comparison: Comparison, fit: Fit | Mixture, x: np.ndarray) -> list[str]:
    mixture = fit.mixture if isinstance(fit, Fit) else fit
    names, methods = comparison.meta["feature_names"], [_name(method) for method in comparison.samplers]
    first, interval = methods[0], f"{100 * comparison.interval:g} %"
    lines = forest_rows(comparison)
    parts = _picture(
        lambda: plot.comparison_figure(comparison, mixture, x, feature_names=names),
        f"The data with EM and draws by {first}; beside them a histogram of the draws of each parameter, EM as a line.",
        f"Data, EM and posterior draws; and the posterior of each parameter, by {first}. A dark line is EM, the bar under a "
        f"histogram the {interval} interval.",
        wide=True,
    )
    parts += _picture(
        lambda: _on_axes(lambda ax: plot.forest(ax, comparison), 7.4, 1.9 + 0.36 * (len(lines) + mixture.num_components)),
        f"For {len(lines)} quantities EM and the {interval} intervals of {', '.join(methods)}, in posterior sds.",
        f"EM beside the {interval} intervals. Every line is in its own posterior sd (by {first}); numbers are in data units.",
        wide=True,
    )
    if sum(row["sd"] > 0 for row in comparison.rows if row["method"] == next(iter(comparison.samplers))) > 1:
        parts += _picture(
            lambda: plot.pairs(Figure(figsize=(7.6, 7.6), layout="constrained"), comparison),
            "Draws of the parameters furthest from EM, two by two, with EM as a cross.",
            "The parameters furthest from EM, two by two: draws, EM (cross) and, where Laplace was asked for, the ellipse of its "
            "normal approximation.",
            wide=True,
        )
    parts += _memberships(comparison, mixture, x, first)
    if isinstance(fit, Fit) and np.isfinite(np.asarray(fit.history)).any():
        parts += _picture(
            lambda: _on_axes(lambda ax: plot.convergence(ax, fit.history), 5.6, 3.2),
            "The objective of EM after each step, rising to its last value.",
            "The objective of EM, in nats, after each step.",
        )
    return section("pictures", "Pictures", parts)


def _memberships(comparison: Comparison, mixture: Mixture, x: np.ndarray, first: str) -> list[str]:
    if not 3 <= len(x) <= _MOST_POINTS or mixture.num_components < 2:
        return []
    together = coclustering(next(iter(comparison.posteriors.values())), x)
    return _picture(
        lambda: _on_axes(lambda ax: plot.coclustering(ax, together, labels=predict(mixture, x)), 5.6, 4.6),
        "A matrix of the probabilities that two points belong to the same component, in blocks by EM's clusters.",
        f"How surely two points belong together, by {first}; lines part EM's clusters. Dark blocks without shades: memberships are "
        "certain.",
    )


def _on_axes(draw: Callable[[Any], Any], width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), layout="constrained")
    draw(figure.subplots())
    return figure


def _picture(make: Callable[[], Figure], alt: str, caption: str, *, wide: bool = False) -> list[str]:
    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # the page is white behind its pictures, whatever style the caller has
        matplotlib.rcParams["svg.hashsalt"] = "jaxgmm"  # the same bytes each time
        kind, content = _drawn(make())
    source = f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"
    image = f'<img src="{source}" alt="{escape(alt)}">'
    if wide:
        image = f'<div class="scroll wide" tabindex="0" role="region" aria-label="{escape(alt)}">{image}</div>'
    return [f"<figure>{image}<figcaption>{escape(caption)}</figcaption></figure>"]


def _drawn(figure: Figure) -> tuple[str, bytes]:
    lines = io.BytesIO()
    figure.savefig(lines, format="svg", metadata={"Date": None})
    if lines.tell() <= _MOST_BYTES:
        return "svg+xml", lines.getvalue()
    pixels = io.BytesIO()
    figure.savefig(pixels, format="png", dpi=200)
    return "png", pixels.getvalue()


def _tables(comparison: Comparison) -> list[str]:
    parts = []
    for method, sampler in comparison.samplers.items():
        own = [row for row in comparison.rows if row["method"] == method]
        free = [row for row in comparison.label_free if row["method"] == method]
        if sampler["identified"]:
            parts.append(_rows_table(f"Parameters, by {_name(method)}", own, comparison.interval))
            free = [row for row in free if "nats" in row["kind"]]
        parts.append(_rows_table(f"Whole mixture, by {_name(method)}", free, comparison.interval))
    return section("numbers", "Numbers", parts)


def _rows_table(caption: str, rows: list[dict[str, Any]], interval: float) -> str:
    extras = [name for name in _EXTRAS if any(_finite(row.get(name)) for row in rows)]
    between = f"{100 * interval:g} %"
    head = ["quantity", "EM", "mean", "sd", f"{between} from", f"{between} to", "z", "inside", "R-hat", "ESS"]
    return table(caption, head + [_EXTRAS[name][0] for name in extras], [_row_cells(row, extras) for row in rows])


def _row_cells(row: dict[str, Any], extras: list[str]) -> list[str]:
    # EM's log densities lie above those of the draws by nature: no test of anything
    z, inside = ("", "") if "nats" in row["kind"] else (_number(row["z"], 2), "yes" if row["inside"] else "NO")
    cells = [full_name(row), *numbers([row[c] for c in ("em", "mean", "sd", "lower", "upper")], row["sd"])]
    cells += [z, inside, _number(row["r_hat"], 3), _number(row["ess_bulk"], 0)]
    for name in extras:
        value = row.get(name)
        own = (
            ""
            if not _finite(value)
            else numbers([value], row["sd"])[0]
            if name in ("laplace_sd", "information_se")
            else _number(value, 2)
        )
        cells.append(own)
    return cells


def _how_to_read(comparison: Comparison) -> list[str]:
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


def _provenance(comparison: Comparison, details: Mapping[str, Any]) -> list[str]:
    made = {"jaxgmm": __version__, **versions(), "Python": platform.python_version()}
    facts = {"Versions": ", ".join(f"{name} {version}" for name, version in made.items())}
    facts |= {str(name): ", ".join(map(str, v)) if isinstance(v, list | tuple) else str(v) for name, v in details.items()}
    printed = (
        f'<pre class="scroll" tabindex="0" role="region" aria-label="The comparison as printed">{escape(str(comparison))}</pre>'
    )
    return [*section("origin", "How it came about", [definitions(facts)]), *section("printed", "As printed", [printed])]


def _name(method: str) -> str:
    return method_style(method)[2]


def _number(value: float, decimals: int) -> str:
    return f"{value:.{decimals}f}" if math.isfinite(value) else "–"


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
