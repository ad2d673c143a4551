"""`write_report`: write a comparison as one self-contained HTML page.

The page shows verdicts, pictures, tables, an explanation of the tables, and how the page was made. It loads no other files and
runs no scripts, because style and pictures are inside the file. Text from the data or from the caller is escaped. jinja2 fills
in `template.html`, which includes `style.css`.
"""

from __future__ import annotations

import base64
import io
import os
import platform
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

import jinja2
import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from .. import __version__, plot
from ..calls import public
from ..checkpoint import check_target, versions
from ..comparison.result import Comparison
from ..comparison.verdict import Verdict
from ..density import predict
from ..em.result import Fit
from ..files import write_text
from ..incomplete.observations import Observations
from ..mixture import Mixture
from ..plot.forests import forest_rows
from ..posterior.coclustering import coclustering
from .clusters import GLOSSARY as CLUSTER_WORDS
from .clusters import clusters_table
from .number_tables import glossary, number_tables, samplers_table, shown_name

_MOST_POINTS = 1000  # largest number of points for which the co-clustering matrix is shown
_MOST_BYTES = 1_500_000  # largest size of a vector graphic, in bytes; a larger picture is stored as pixels
_BAD = (Verdict.CHAINS_UNMIXED, Verdict.SEVERAL_MODES, Verdict.OTHER_MODES, Verdict.POOR_MODE)
_GRADES = {Verdict.AGREE: "good"} | dict.fromkeys(_BAD, "bad")


class _Picture(NamedTuple):
    """A picture: its data URI, its text description for screen readers, its caption, and whether it scrolls sideways."""

    source: str
    alt: str
    caption: str
    wide: bool


class _Subject(NamedTuple):
    """The subject of the pictures: a comparison, the EM fit or mixture, and the data."""

    comparison: Comparison
    fit: Fit | Mixture
    x: np.ndarray | Observations

    @property
    def mixture(self) -> Mixture:
        """The mixture that EM fitted."""
        return self.fit.mixture if isinstance(self.fit, Fit) else self.fit

    @property
    def first(self) -> str:
        """The name of the first posterior's method."""
        return shown_name(next(iter(self.comparison.samplers)))

    @property
    def interval(self) -> str:
        """The probability of the intervals as text, in percent."""
        return f"{100 * self.comparison.interval:g} %"


@public
def write_report(
    path: str | os.PathLike[str],
    comparison: Comparison,
    fit: Fit | Mixture,
    x: ArrayLike | Observations,
    *,
    title: str | None = None,
    details: Mapping[str, object] | None = None,
) -> Path:
    """Write a comparison as one self-contained HTML page, which needs neither network nor scripts.

    Args:
        path: the file to write; an existing file is replaced.
        comparison: the result of `compare`.
        fit: the Fit that was compared, or only its mixture. With a mixture, there is no picture of the convergence.
        x: (N, D), the data that were compared, in data units, or observations. A picture of two features shows the rows of
            which both values are observed.
        title: a heading; None: "EM against the posterior", with the name of the data if it is known.
        details: additional facts about the comparison, by name, such as seeds or options. The entry "data" is the name of the
            data, or the path of their file, and is also shown at the top.

    Returns:
        The path.

    Raises:
        ValueError, TypeError: `comparison` or `fit` has a wrong type, the data do not match the comparison, or the folder does
            not exist.

    Example:
        >>> comparison = jaxgmm.compare(fit, {"nuts": nuts, "laplace": laplace}, x)  # doctest: +SKIP
        >>> jaxgmm.write_report("faithful.html", comparison, fit, x, details={"seed": 0})  # doctest: +SKIP
    """
    check_target(path)
    rows = _check(comparison, fit, x)
    page, subject, details = comparison.page(), _Subject(comparison, fit, rows), {} if details is None else details
    data = Path(str(details["data"])).name if "data" in details else ""
    facts = page.sentences() | ({"data": f"{data}: {page.sentences()['data']}"} if data else {})
    text = _template().render(
        title=(f"{page.title}: {data}" if data else page.title) if title is None else str(title),
        conclusion=page.conclusion,
        word=page.word,
        verdicts=list(_verdicts(comparison)),
        model={f"{name[0].upper()}{name[1:]}": text for name, text in facts.items()},
        tables=[clusters_table(comparison, subject.mixture, rows), samplers_table(comparison)],
        pictures=list(_pictures(subject)),
        numbers=number_tables(comparison),
        glossary=glossary(comparison) | CLUSTER_WORDS,
        origin=_origin(details),
        printed=comparison.details(),
    )
    return write_text(path, text)


@cache
def _template() -> jinja2.Template:
    """Return the template of the page."""
    loader = jinja2.PackageLoader("jaxgmm", "report")
    undefined = jinja2.StrictUndefined
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=undefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    return environment.get_template("template.html")


def _check(comparison: object, fit: object, x: ArrayLike | Observations) -> np.ndarray | Observations:
    """Return the data as an array or as observations.

    Raise an error if an argument has the wrong type, or if data and comparison do not match.
    """
    if not isinstance(comparison, Comparison):
        raise TypeError(f"comparison is {type(comparison).__name__}; a jaxgmm.Comparison was expected, from jaxgmm.compare.")
    if not isinstance(fit, Fit | Mixture):
        raise TypeError(f"fit is {type(fit).__name__}; the jaxgmm.Fit that was compared, or its Mixture, was expected.")
    rows, meta = x if isinstance(x, Observations) else np.asarray(x), comparison.meta
    expected = (meta.num_observations, meta.num_features)
    if rows.shape != expected:
        raise ValueError(f"x has shape {rows.shape}; the data that were compared have {expected}.")
    return rows


def _verdicts(comparison: Comparison) -> Iterator[dict[str, object]]:
    """Yield the verdict on each posterior, with its sentences and notes."""
    page = comparison.page()
    for method, sampler in comparison.samplers.items():
        yield {
            "method": shown_name(method),
            "word": sampler.word,
            "grade": _GRADES.get(sampler.verdict, "mixed"),
            "sentences": page.findings(sampler),
            "notes": page.notes(sampler),
        }


def _pictures(subject: _Subject) -> Iterator[_Picture]:
    """Yield the pictures of the page."""
    comparison, mixture, first = subject.comparison, subject.mixture, subject.first
    yield _picture(
        lambda: plot.comparison_figure(comparison, mixture, subject.x, feature_names=comparison.meta.feature_names),
        f"The data with EM and draws by {first}; beside them a histogram of the draws of each parameter, with EM as a line.",
        f"Data, EM and posterior draws, and the posterior of each parameter, by {first}. The line through a histogram is EM; "
        f"the bar below it is the {subject.interval} interval.",
        wide=True,
    )
    yield _forest(subject)
    method = next(iter(comparison.samplers))
    if sum(row.sd > 0 for row in comparison.rows if row.method == method) > 1:
        yield _picture(
            lambda: plot.pairs(Figure(figsize=(7.6, 7.6), layout="constrained"), comparison),
            "Draws of pairs of the parameters farthest from EM, with EM as a cross.",
            "Pairs of the parameters farthest from EM: draws, EM (cross) and, if Laplace's draws were compared, the ellipse of "
            "the normal approximation.",
            wide=True,
        )
    if 3 <= len(subject.x) <= _MOST_POINTS and mixture.num_components > 1:
        yield _coclustering(subject)
    if isinstance(subject.fit, Fit) and np.isfinite(np.asarray(subject.fit.history)).any():
        history = subject.fit.history
        yield _picture(
            lambda: _on_axes(lambda ax: plot.convergence(ax, history), 5.6, 3.2),
            "The objective of EM after each step, rising to its last value.",
            "The objective of EM, in nats, after each step.",
        )


def _forest(subject: _Subject) -> _Picture:
    """Return the picture of all intervals."""
    comparison, lines = subject.comparison, forest_rows(subject.comparison)
    height = 1.9 + 0.36 * (len(lines) + subject.mixture.num_components)
    methods = ", ".join(map(shown_name, comparison.samplers))
    return _picture(
        lambda: _on_axes(lambda ax: plot.forest(ax, comparison), 7.4, height),
        f"EM and the {subject.interval} intervals of {methods} for {len(lines)} quantities, in posterior sds.",
        f"EM and the {subject.interval} intervals. The unit of every line is the posterior sd of its quantity (by "
        f"{subject.first}); the numbers are in data units.",
        wide=True,
    )


def _coclustering(subject: _Subject) -> _Picture:
    """Return the picture of the co-clustering matrix."""
    together = coclustering(next(iter(subject.comparison.posteriors.values())), subject.x)
    labels = predict(subject.mixture, subject.x)
    return _picture(
        lambda: _on_axes(lambda ax: plot.coclustering(ax, together, labels=labels), 5.6, 4.6),
        "A matrix of the probabilities that two points belong to the same component, in blocks by EM's clusters.",
        f"The probability that two points belong to the same component, by {subject.first}; lines separate EM's clusters. "
        "Blocks of one strong colour mean that the clusters are certain.",
    )


def _on_axes(draw: Callable[[Axes], object], width: float, height: float) -> Figure:
    """Return a figure with one panel, on whose axes the function `draw` is called. The sizes are in inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    draw(figure.subplots())
    return figure


def _picture(make: Callable[[], Figure], alt: str, caption: str, *, wide: bool = False) -> _Picture:
    """Return a picture in matplotlib's default style, even if the caller has set another style."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # the page has a white background, so a dark style of the caller would not suit it
        matplotlib.rcParams["svg.hashsalt"] = "jaxgmm"  # a fixed salt makes the bytes of a picture reproducible
        kind, content = _drawn(make())
    return _Picture(f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}", alt, caption, wide)


def _drawn(figure: Figure) -> tuple[str, bytes]:
    """Return the image type and the bytes of a figure: a vector graphic, or pixels if the vector graphic is too large."""
    lines = io.BytesIO()
    figure.savefig(lines, format="svg", metadata={"Date": None})
    if lines.tell() <= _MOST_BYTES:
        return "svg+xml", lines.getvalue()
    pixels = io.BytesIO()
    figure.savefig(pixels, format="png", dpi=200)
    return "png", pixels.getvalue()


def _origin(details: Mapping[str, object]) -> dict[str, str]:
    """Return the versions of the libraries and the details as text, by name."""
    made = {"jaxgmm": __version__, **versions(), "Python": platform.python_version()}
    facts = {"Versions": ", ".join(f"{name} {version}" for name, version in made.items())}
    return facts | {str(name): ", ".join(map(str, v)) if isinstance(v, list | tuple) else str(v) for name, v in details.items()}
