"""The class Comparison, which is the result of `compare`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..posterior.result import Posterior
from ..studies.columns import columns_of
from ..studies.parameters import value_at
from ..studies.serialization import Exported, plain
from .mode_search import ModeSearch
from .next_steps import Reader
from .page_contents import PageContents
from .report_columns import ClusteringScores, ComparisonRow, DensityScores, JointScores
from .sampler_summary import ComparisonMeta, SamplerSummary
from .summary_page import summary_lines
from .text_layout import PrintedPage, as_html, render


@dataclass(frozen=True, eq=False, repr=False)
class Comparison(Exported):
    """The comparison of EM with one or several posteriors. It can be printed, and its attributes hold the numbers.

    `help(jaxgmm.comparison.report_columns)` describes every field of rows, samplers and scores, and gives its unit.

    Attributes:
        interval: probability of the intervals.
        meta: a ComparisonMeta, which describes the data, the model, and how EM ended.
        rows: a list with one ComparisonRow for each posterior and each free entry of weights, means and covariances. The fields
            of a row are method, name (the entry's place in the Mixture, such as "means[0,1]"), kind, component, features, em,
            em_se, mean, median, sd, mcse, lower, upper, z, tail, inside, r_hat, ess_bulk, ess_tail, laplace_sd, sd_ratio,
            contraction.
        label_invariant: a list of ComparisonRow objects, without em_se and contraction, for quantities that do not depend on
            the order of the components. They are the log-likelihood and the log density of parameters and data (nats), the
            sorted weights, and the mean and standard deviation of each feature under the whole mixture.
        samplers: a dict with a SamplerSummary for each posterior. It tells how the draws were made and how good they are. It
            also has notes, findings, and a verdict, which is a `jaxgmm.comparison.verdict.Verdict` with a word and a sentence.
        posteriors: a dict of the posteriors by name, relabelled to match EM.
        joint: a dict with the JointScores of each posterior, which are scores of all parameters jointly.
        density: a dict with the DensityScores of each posterior. They are distances between the predictive density and EM's
            density, and scores of the predictions by the posterior and by EM.
        clustering: a dict with the ClusteringScores of each posterior.
        search: a `jaxgmm.comparison.mode_search.ModeSearch` with the modes of the posterior, the index of EM's mode among them
            (`em`) and its mass, or the reason why no search was made; None if no search was wanted.
        reader: "python" if the advice names functions of Python, "command" if it names options of the command.
    """

    interval: float
    meta: ComparisonMeta
    rows: list[ComparisonRow]
    label_invariant: list[ComparisonRow]
    samplers: dict[str, SamplerSummary]
    posteriors: dict[str, Posterior]
    joint: dict[str, JointScores] = field(default_factory=dict)
    density: dict[str, DensityScores] = field(default_factory=dict)
    clustering: dict[str, ClusteringScores] = field(default_factory=dict)
    search: ModeSearch | None = None
    reader: Reader = "python"

    @property
    def label_free(self) -> list[ComparisonRow]:
        """The former name of `label_invariant`."""
        return self.label_invariant

    @property
    def conclusion(self) -> str:
        """One verdict on EM from all posteriors, its reasons, and what to do next, in a few sentences."""
        return str(self.page().conclusion)

    def details(self) -> str:
        """Return the whole page as text: the findings on each posterior, all parameters, all scores, and a legend."""
        return PrintedPage("\n".join(render(self.page())))

    def draws(self, row: ComparisonRow) -> np.ndarray:
        """Return the relabelled draws (C, S) of the parameter that a row describes. The row must be one of `rows`."""
        return value_at(self.posteriors[row.method].mixture, row.name)

    def to_dict(self) -> dict[str, Any]:
        """Return every number except the draws in plain Python types; a number that is not defined is None."""
        tables = {"samplers": self.samplers, "joint": self.joint, "density": self.density, "clustering": self.clustering}
        found: dict[str, object] = {"interval": self.interval, "meta": self.meta.to_dict()}
        found |= {kind: {name: record.to_dict() for name, record in records.items()} for kind, records in tables.items()}
        found["modes"] = None if self.search is None else self.search.to_dict()
        found["parameters"] = [row.to_dict() for row in self.rows]
        return plain(found | {"label_free": [row.to_dict() for row in self.label_invariant]})

    def _records(self) -> list[Mapping[str, object]]:
        """Return `rows` and `label_invariant` as dictionaries, with the features joined into one string."""
        return [row.to_dict() | {"features": " ".join(row.features)} for row in [*self.rows, *self.label_invariant]]

    def _fields(self) -> list[str]:
        """Return the names of the columns of a row."""
        return list(columns_of(ComparisonRow))

    def page(self) -> PageContents:
        """Return the contents of the printed pages and of the report."""
        scores = {"joint": self.joint, "density": self.density, "clustering": self.clustering}
        rows = self.rows, self.label_invariant
        return PageContents(self.interval, self.meta, self.samplers, *rows, scores, self.search, self.reader)

    def __str__(self) -> str:
        """Return the short page, of at most 40 lines. `details` returns the whole page."""
        return "\n".join(summary_lines(self.page()))

    def __repr__(self) -> str:
        """Return the short page."""
        return str(self)

    def _repr_html_(self) -> str:
        """Return the short page as HTML."""
        return as_html(str(self))
