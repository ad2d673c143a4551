"""One self-contained HTML page of a comparison: the verdict first, then pictures, tables, how to read them, and what made them.

Nothing is loaded from elsewhere and nothing runs: style and pictures are inside the file. Text that comes from data or from the
caller is escaped.
"""

from __future__ import annotations

import base64
import io
import platform
from collections.abc import Callable, Mapping
from html import escape
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from .. import __version__, plot
from ..comparison.compare import Comparison
from ..density import predict
from ..em.result import Fit
from ..files import write_text
from ..mixture import Mixture
from ..plot.forests import forest_rows
from ..posterior.predictive import coclustering
from ..studies.checkpoint import check_target, versions
from .html import definitions, page, section
from .number_tables import how_they_did, how_to_read, numbers_of, shown_name

_MOST_POINTS = 1000  # of a co-clustering matrix
_MOST_BYTES = 1_500_000  # of one picture drawn as lines; larger ones become pixels


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
        *numbers_of(comparison),
        *how_to_read(comparison),
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
    grades = {"agree": "good", "chains unmixed": "bad", "several modes": "bad"}
    parts = []
    for method, sampler in comparison.samplers.items():
        verdict = sampler["verdict"]
        parts.append(f'<div class="verdict {grades.get(verdict["word"], "mixed")}">')
        parts.append(f"<p><strong>{escape(shown_name(method))}: {escape(verdict['word'])}.</strong></p>")
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
        how_they_did(comparison),
    ]
    return section("model", "Data and model", parts)


def _pictures(comparison: Comparison, fit: Fit | Mixture, x: np.ndarray) -> list[str]:
    mixture = fit.mixture if isinstance(fit, Fit) else fit
    names, methods = comparison.meta["feature_names"], [shown_name(method) for method in comparison.samplers]
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


def _provenance(comparison: Comparison, details: Mapping[str, Any]) -> list[str]:
    made = {"jaxgmm": __version__, **versions(), "Python": platform.python_version()}
    facts = {"Versions": ", ".join(f"{name} {version}" for name, version in made.items())}
    facts |= {str(name): ", ".join(map(str, v)) if isinstance(v, list | tuple) else str(v) for name, v in details.items()}
    printed = (
        f'<pre class="scroll" tabindex="0" role="region" aria-label="The comparison as printed">{escape(str(comparison))}</pre>'
    )
    return [*section("origin", "How it came about", [definitions(facts)]), *section("printed", "As printed", [printed])]
