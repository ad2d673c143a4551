"""The contents of the printed pages of a comparison and of its report. Some texts depend on the reader (see `next_steps`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ..studies.columns import Record
from .conclusion import Conclusion, conclude
from .mode_search import ModeSearch
from .next_steps import Reader, in_words_of
from .report_columns import ComparisonRow
from .sampler_summary import ComparisonMeta, SamplerSummary


class PageContents(NamedTuple):
    """The contents of the page. `scores` contains the scores by kind and by posterior, as in `scores["joint"]["nuts"]`."""

    interval: float
    meta: ComparisonMeta
    samplers: Mapping[str, SamplerSummary]
    rows: Sequence[ComparisonRow]
    label_invariant: Sequence[ComparisonRow]
    scores: Mapping[str, Mapping[str, Record]]
    search: ModeSearch | None = None
    reader: Reader = "python"

    def sentences(self) -> dict[str, str]:
        """Return phrases about the data, the model, EM and the search for other modes, by name."""
        modes = {} if self.search is None else {"modes": self.search.sentence()}
        return self.meta.sentences() | modes

    @property
    def conclusion(self) -> Conclusion:
        """One verdict on EM from all posteriors, the reasons for this verdict, and what to do next."""
        return conclude(self.samplers, self.reader, searched=self.search is not None and self.search.modes is not None)

    @property
    def word(self) -> str:
        """The verdict on EM from all posteriors, in a few words."""
        return next(iter(self.samplers.values())).word if len(self.samplers) == 1 else self.conclusion.verdict.word

    def findings(self, sampler: SamplerSummary) -> list[str]:
        """Return the sentences of the findings on one posterior. They name functions or options, depending on the reader."""
        return [in_words_of(self.reader, finding.sentence) for finding in sampler.findings]

    def notes(self, sampler: SamplerSummary) -> list[str]:
        """Return the notes on one posterior. They name functions or options, depending on the reader."""
        return [in_words_of(self.reader, note) for note in sampler.notes]

    @property
    def title(self) -> str:
        """The title of the page."""
        only_replicates = all(sampler.method == "bootstrap" for sampler in self.samplers.values()) and self.samplers
        return "EM and its bootstrap" if only_replicates else "EM against the posterior"
