"""The short page: it has at most 40 lines, it opens with the verdict, and it shows the parameters that matter most."""

import pytest

from jaxgmm.comparison.page_contents import PageContents
from jaxgmm.comparison.summary_page import MOST_LINES, summary_lines
from jaxgmm.comparison.verdict import Finding, Verdict
from jaxgmm.tables import WIDTH

from fabricated_comparisons import meta, row, summary

METHODS = ("nuts", "gibbs", "laplace", "smc", "bootstrap")


def page(rows, samplers=None, free=None, **options):
    """Return the contents of a page; the label-invariant quantity is a log density."""
    samplers = {"nuts": summary()} if samplers is None else samplers
    free = [row(name="log", kind="log-likelihood (nats)", component=None, features=())] if free is None else free
    scores = {"joint": {}, "density": {}, "clustering": {}}
    return PageContents(0.95, options.pop("meta", meta()), samplers, list(rows), free, scores, **options)


def means(num_components, num_features, method="nuts", **changes):
    """Return a row for each mean; the component of a row is in its place."""
    return [
        row(method=method, name=f"means[{k},{d}]", component=k, features=(f"feature {d}",), em_se=0.1, **changes)
        for k in range(num_components)
        for d in range(num_features)
    ]


@pytest.mark.parametrize("num_components", [1, 2, 9, 40])
@pytest.mark.parametrize("methods", [METHODS[:1], METHODS, [f"a posterior with a long name, {i}" for i in range(12)]])
def test_forty_lines_whatever_is_compared(num_components, methods):
    long = Finding(Verdict.AGREE, "This sentence says something about the draws. " * 30)
    samplers = {name: summary(method=name, findings=(long,), notes=("a note",) * 20) for name in methods}
    rows = [one for name in methods for one in means(num_components, 5, name)]
    names = [f"a_column_with_a_long_name_{i}" for i in range(60)]
    lines = summary_lines(page(rows, samplers, meta=meta(feature_names=names)))
    assert len(lines) <= MOST_LINES
    assert max(map(len, lines)) <= WIDTH
    assert lines[2].startswith("Verdict: agree.")
    assert any(line.startswith("What to do: ") for line in lines)
    assert any("mean feature" in line for line in lines)
    assert "comparison.details()" in " ".join(lines)


def test_one_posterior_has_the_columns_of_the_details():
    lines = summary_lines(page(means(2, 1)))
    header = next(line for line in lines if "its se" in line)
    assert header.split() == ["EM", "its", "se", "mean", "sd", "95", "%", "interval", "z", "inside", "Lap./sd", "learned"]
    assert [line.strip() for line in lines if line.strip().startswith("component")] == ["component 0", "component 1"]
    assert "What to do: EM's estimates can be reported" in "\n".join(lines)


def test_several_posteriors_stand_beside_each_other():
    """A star marks an interval without EM, and posteriors that do not fit are in the details."""
    rows = [*means(1, 1), *means(1, 1, "gibbs", inside=False, z=3.0)]
    lines = summary_lines(page(rows, {name: summary(method=name) for name in ("nuts", "gibbs")}))
    line = next(line for line in lines if "mean feature 0" in line)
    assert line.split() == ["mean", "feature", "0", "0.5", "±", "0.1", "0.5", "±", "1.0", "0.5", "±", "1.0*"]
    many = [one for name in METHODS for one in means(1, 1, name, em=123456.0, mean=123456.0, sd=0.01)]
    lines = summary_lines(page(many, {name: summary(method=name) for name in METHODS}))
    assert max(map(len, lines)) <= WIDTH
    assert sum("123456.000 ± 0.010" in line for line in lines) == 1


def test_parameters_outside_their_intervals_are_shown_first():
    rows = means(12, 5)
    hidden = row(name="covariances[11,4,4]", kind="variance", component=11, features=("x",), inside=False, z=4.0)
    text = "\n".join(summary_lines(page([*rows, hidden])))
    assert "variance x" in text
    assert " of 61 quantities: those outside an interval first, then by kind and by distance from EM.\n" in text


def test_labels_that_are_not_identified():
    free = [row(name="w", kind="largest weight", component=None, features=())]
    unclear = summary(identified=False, findings=(Finding(Verdict.LABELS_NOT_IDENTIFIED, "Unclear."),))
    text = "\n".join(summary_lines(page(means(2, 1), {"nuts": unclear}, free)))
    assert "mean feature" not in text
    assert "largest weight" in text


def test_the_command_names_its_options():
    notes = ("There may be several modes, or too few draws; draw more, or use fewer components.",)
    unmixed = summary(findings=(Finding(Verdict.CHAINS_UNMIXED, notes[0]),), notes=notes)
    text = " ".join(" ".join(summary_lines(page(means(1, 1), {"nuts": unmixed}, reader="command"))).split())
    assert "draw more (--num-samples) or use fewer components (-k)" in text
    assert "What to do: Draw more (--num-samples 2000)" in text
    assert "--details" in text
    assert "1 note" in text
