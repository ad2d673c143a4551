"""The schema of a comparison is complete, and names of quantities are short enough."""

import pytest

from jaxgmm.comparison.report_columns import (
    SECTIONS,
    ClusteringScores,
    ComparisonRow,
    DensityScores,
    JointScores,
    SamplerDiagnostics,
)
from jaxgmm.comparison.sampler_summary import SamplerSummary
from jaxgmm.studies.columns import columns_of

from fabricated_comparisons import row

RECORDS = (ComparisonRow, SamplerDiagnostics, SamplerSummary, JointScores, DensityScores, ClusteringScores)
CONTEXT = {"interval": 95.0, "gap": 2.5, "radius": 1.5, "num_folds": 10}


@pytest.mark.parametrize("record", RECORDS)
def test_every_column_is_explained(record):
    """Explanations are phrases, headings fit the page and can be filled in, and every standard error is a column."""
    columns = columns_of(record)
    assert columns
    for name, column in columns.items():
        assert column.explanation
        assert not column.explanation.endswith(".")
        assert f"    {name}: {column.explanation}" in record.__doc__
        assert len(column.short.format(**CONTEXT)) <= 46
        assert "{" not in column.long.format(**CONTEXT)
        assert column.error in ("", *columns)


@pytest.mark.parametrize("record", [JointScores, DensityScores, ClusteringScores])
def test_every_printed_score_has_a_section(record):
    for column in columns_of(record).values():
        assert bool(column.short) == (column.section in SECTIONS)


def test_names_in_sentences():
    assert row(kind="mean", features=("waiting",), component=1).full_name == "mean waiting of component 1"
    assert row(kind="largest weight", features=(), component=None).full_name == "largest weight"


def test_names_are_shortened_step_by_step():
    one = row(kind="covariance", features=("sepal_length", "sepal_width"))
    assert one.short_name(40) == "covariance sepal_length, sepal_width"
    assert one.short_name(35) == "cov. sepal_length, sepal_width"
    assert one.short_name(26) == "cov. sepal_le…, sepal_wi…"
    assert all(len(one.short_name(width)) <= width for width in range(8, 40))
    assert row(kind="weight", features=()).short_name(3) == "wei"


def test_log_densities_are_recognised():
    assert row(kind="log-likelihood (nats)").is_log_density
    assert not row(kind="overall mean").is_log_density
