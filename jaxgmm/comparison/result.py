"""Comparison: the result of `compare`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..posterior.result import Posterior
from ..studies.columns import columns_of
from ..studies.parameters import value_at
from ..studies.serialization import Exported, plain
from .report_columns import ClusteringScores, ComparisonRow, DensityScores, JointScores
from .sampler_summary import ComparisonMeta, SamplerSummary
from .text_layout import PageContents, as_html, render


@dataclass(frozen=True, eq=False, repr=False)
class Comparison(Exported):
    """EM against one or several posteriors: `print` it, or take its numbers.

    `help(jaxgmm.comparison.report_columns)` describes every field of rows, samplers and scores with its unit.

    Attributes:
        interval: probability of the intervals.
        meta: a ComparisonMeta: the data, the model, and how EM ended.
        rows: a ComparisonRow for each free entry of weights, means and covariances and each posterior: method, name (its place
            in the Mixture, as "means[0,1]"), kind, component, features, em, em_se, mean, median, sd, mcse, lower, upper, z,
            tail, inside, r_hat, ess_bulk, ess_tail, laplace_sd, sd_ratio, contraction.
        label_invariant: the same, without em_se and contraction, for quantities that no order of the components changes:
            log-likelihood and log density of parameters and data (nats), sorted weights, mean and standard deviation of each
            feature under the whole mixture.
        samplers: by posterior a SamplerSummary: how its draws were made, how good they are, notes, findings, and the verdict, a
            `jaxgmm.comparison.verdict.Verdict` with its word and sentence.
        posteriors: by name, relabelled to EM.
        joint: by posterior JointScores, of all parameters at once.
        density: by posterior DensityScores: distances of the predictive density from EM's, and how well each predicts.
        clustering: by posterior ClusteringScores.
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

    @property
    def label_free(self) -> list[ComparisonRow]:
        """The former name of `label_invariant`."""
        return self.label_invariant

    def draws(self, row: ComparisonRow) -> np.ndarray:
        """Return the draws (C, S) behind one of `rows`, after relabelling."""
        return value_at(self.posteriors[row.method].mixture, row.name)

    def to_dict(self) -> dict[str, Any]:
        """Return every number in plain Python types, None for what is not defined; draws are not included."""
        tables = {"samplers": self.samplers, "joint": self.joint, "density": self.density, "clustering": self.clustering}
        found: dict[str, Any] = {"interval": self.interval, "meta": self.meta.to_dict()}
        found |= {kind: {name: record.to_dict() for name, record in records.items()} for kind, records in tables.items()}
        found["parameters"] = [row.to_dict() for row in self.rows]
        return plain(found | {"label_free": [row.to_dict() for row in self.label_invariant]})

    def _records(self) -> list[Mapping[str, Any]]:
        """Return `rows` and `label_invariant` as dictionaries, the features in one string."""
        return [row.to_dict() | {"features": " ".join(row.features)} for row in [*self.rows, *self.label_invariant]]

    def _fields(self) -> list[str]:
        """Return the columns of a row."""
        return list(columns_of(ComparisonRow))

    def page(self) -> PageContents:
        """Return what the printed page and the report show."""
        scores = {"joint": self.joint, "density": self.density, "clustering": self.clustering}
        return PageContents(self.interval, self.meta, self.samplers, self.rows, self.label_invariant, scores)

    def __str__(self) -> str:
        """Return the printed page."""
        return "\n".join(render(self.page()))

    def __repr__(self) -> str:
        """Return the printed page."""
        return str(self)

    def _repr_html_(self) -> str:
        """Return the printed page as HTML."""
        return as_html(self.page())
