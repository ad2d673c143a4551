"""The tables of a report hold the rows and scores of a comparison, and every heading is explained."""

import dataclasses

from jaxgmm.comparison.result import Comparison
from jaxgmm.report.number_tables import glossary, number_tables, samplers_table

from fabricated_comparisons import joint_scores, meta, row, summary

LOG = row(name="log", kind="log-likelihood (nats)", component=None, features=(), sd_ratio=None)


def comparison(**changes):
    """Return a comparison of two parameters and a log density by one method."""
    rows = [row(em_se=0.1, contraction=0.5), row(name="means[1,0]", component=1, em_se=float("nan"), contraction=float("nan"))]
    found = Comparison(0.95, meta(), rows, [LOG], {"nuts": summary()}, {}, joint={"nuts": joint_scores()})
    return dataclasses.replace(found, **changes)


def test_every_method_has_a_line():
    table = samplers_table(comparison(samplers={"nuts": summary(), "mine": summary(identified=False, khat=None)}))
    assert table.header[:3] == ("method", "chains", "draws a chain")
    assert [line[0] for line in table.rows] == ["NUTS", "mine"]
    identified = table.header.index("labels identified")
    assert [line[identified] for line in table.rows] == ["yes", "NO"]


def test_parameters_are_grouped_by_component():
    """Columns of parameters come last, and only if they are known."""
    parameters, whole, scores = number_tables(comparison())
    assert parameters.title == "Parameters, by NUTS"
    assert list(parameters.row_groups) == [("component 0", 1), ("component 1", 1)]
    assert parameters.header[:6] == ("quantity", "EM", "mean", "sd", "95 % from", "95 % to")
    assert parameters.header[-3:] == ("EM's se", "sd ratio", "learned")
    assert parameters.rows[0][-1] == "50 %"
    assert parameters.rows[1][-1] == "-"
    assert whole.header[-1] == "ESS"
    assert whole.rows[0][0] == "log-likelihood (nats)"
    assert scores.header == ("what", "NUTS")
    assert ["log joint density: EM above the draws' mean (nats)", "2.5"] in [list(line) for line in scores.rows]


def test_labels_that_are_not_identified():
    """Parameters are left out, and all label-invariant quantities are shown."""
    invariant = [LOG, row(name="w", kind="largest weight", component=None, features=())]
    tables = number_tables(comparison(samplers={"nuts": summary(identified=False)}, label_invariant=invariant, joint={}))
    (whole,) = tables
    assert [line[0] for line in whole.rows] == ["log-likelihood (nats)", "largest weight"]


def test_every_heading_is_explained():
    words = glossary(comparison())
    parameters, *_ = number_tables(comparison())
    units = {"quantity", "EM", "mean", "sd", "95 % from", "95 % to"}
    assert set(parameters.header) - units <= set(words)
    assert all(text[0].isupper() or not text[0].isalpha() for text in words.values())
    assert all(text.endswith(".") for text in words.values())
