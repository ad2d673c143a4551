"""The printed page: its tables show what the rows hold, and every line fits its width."""

import pytest

from jaxgmm.comparison.page_contents import PageContents
from jaxgmm.comparison.report_columns import DensityScores
from jaxgmm.comparison.text_layout import as_html, quantity_table, render, score_lines
from jaxgmm.comparison.verdict import Finding, Verdict
from jaxgmm.tables import WIDTH

from fabricated_comparisons import joint_scores, meta, row, summary


def page(rows=(), label_invariant=None, samplers=None, scores=None):
    """Return the contents of a page."""
    samplers = {"nuts": summary()} if samplers is None else samplers
    free = (
        [row(name="log", kind="log-likelihood (nats)", component=None, features=())]
        if label_invariant is None
        else label_invariant
    )
    scores = {"joint": {}, "density": {}, "clustering": {}} | (scores or {})
    return PageContents(0.95, meta(), samplers, list(rows), free, scores)


def test_one_posterior_has_a_line_for_each_quantity():
    one = row(
        kind="weight", features=(), em=0.5, mean=0.52, sd=0.03, lower=0.46, upper=0.58, z=-0.67, r_hat=1.001, ess_bulk=800.0
    )
    lines = quantity_table("component 0", [one], 0.95).text().splitlines()
    assert lines[0].split() == ["component", "0", "EM", "mean", "sd", "95", "%", "interval", "z", "inside", "R-hat", "ESS"]
    assert lines[1].split() == ["weight", "0.500", "0.520", "0.030", "0.460", "0.580", "-0.67", "yes", "1.001", "800"]
    assert {len(line) for line in lines} == {WIDTH}


def test_parameters_have_their_own_columns():
    lines = quantity_table("component 0", [row(em_se=0.2, sd_ratio=1.1, contraction=0.99, inside=False)], 0.8).text()
    header, line = lines.splitlines()
    assert "80 % interval" in header
    assert header.split()[-2:] == ["Lap./sd", "learned"]
    assert line.split()[-4:] == ["NO", "1.10", "99", "%"]
    assert "its se" in header


def test_several_posteriors_have_a_line_each_below_em():
    rows = [row(method=method, em_se=0.1) for method in ("nuts", "a very long name indeed")]
    lines = quantity_table("component 0", rows, 0.95).text().splitlines()
    assert [line.split()[:2] for line in lines[1:3]] == [["mean", "a"], ["nuts", "0.5"]]
    assert lines[1].split()[2:] == ["EM", "0.5", "0.1"]
    assert "a very long…" in lines[3]
    assert max(map(len, lines)) <= WIDTH


def test_log_densities_are_not_tested():
    lines = quantity_table("whole mixture", [row(kind="log-likelihood (nats)", features=())], 0.95).text()
    assert "yes" not in lines
    assert "0.10" not in lines


@pytest.mark.parametrize("size", [1.0, 1e-7, 1e9, 1e15])
def test_the_page_keeps_its_width(size):
    names = ("a_very_long_name_of_a_measured_quantity", "another_such_name_that_goes_on_and_on")
    numbers = {name: size for name in ("em", "em_se", "mean", "lower", "upper")} | {"sd": size / 3, "z": -12.34}
    rows = [row(kind="covariance", features=names, sd_ratio=1.1, contraction=0.5, **numbers)]
    lines = render(page(rows))
    assert max(map(len, lines)) <= WIDTH
    assert any("cov. " in line for line in lines)


def test_labels_that_are_not_identified_have_no_parameters():
    findings = (Finding(Verdict.LABELS_NOT_IDENTIFIED, "The labels are not identified."),)
    free = [row(name="w", kind="largest weight", component=None, features=())]
    text = "\n".join(render(page([row(em_se=0.1)], free, {"nuts": summary(identified=False, findings=findings)})))
    assert "Labels are NOT identified by nuts" in text
    assert "component 0" not in text
    assert "largest weight" in text
    assert "learned" not in text
    assert "Verdict: labels not identified. The labels are not identified." in text


def test_scores_are_shown_with_their_errors():
    """Scores that no posterior has are left out; posteriors that do not fit beside each other move below."""
    none = dict.fromkeys(["total_variation_error", "hellinger", "hellinger_error", "kl", "kl_error"], 0.0)
    density = DensityScores(
        num_draws=1, num_rows=20, num_points=5, total_variation=0.1, lpd_em=-3.0, elpd_loo=-4.0, elpd_loo_se=0.5, **none
    )
    samplers = {f"method {i}": summary() for i in range(6)}
    shown = page(samplers=samplers, scores={"joint": {"method 0": joint_scores()}, "density": dict.fromkeys(samplers, density)})
    lines = dict((column.name, cells) for column, cells in score_lines(shown, "density", "short"))
    assert lines["elpd_loo"][0] == "-0.2000±0.0250"
    assert lines["total_variation"][0] == "0.100"
    assert "elpd_folds" not in lines
    text = render(shown)
    assert max(map(len, text)) <= WIDTH
    assert sum(line.startswith("predictions (nats") for line in text) == 2
    assert "~2.5" in "\n".join(text)


def test_html_is_escaped():
    text = as_html("\n".join(render(page(samplers={"<script>": summary()}))))
    assert text.startswith("<pre")
    assert "<script>" not in text
