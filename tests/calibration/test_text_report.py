"""Test the printed page of a calibration: its words, its width, and both of its tables."""

import numpy as np
import pytest

from jaxgmm.calibration.rows import CoverageRow, rank_row
from jaxgmm.calibration.text_report import coverage_lines, header_lines, rank_lines, verdict

DESIGN = {
    "num_components": 1,
    "num_features": 2,
    "num_observations": 9,
    "covariance_type": "full",
    "dtype": "float32",
    "thin": 3,
}
DESIGN |= {"prior": {"mean": [0.0, 0.5]}, "options": {"num_chains": 2, "num_samples": 57}}
UNIFORM = np.repeat(np.arange(20), 10)


def row_of(name, ranks, *, label_invariant=True):
    return rank_row(name, ranks, np.full(len(ranks), 15.0), label_invariant=label_invariant, num_draws=19, alpha=0.01)


def test_header():
    text = "\n".join(header_lines("gibbs", DESIGN, {"OK": 39, "UNMIXED": 1}, 40, 19))
    for words in (
        "Calibration of gibbs by simulation",
        "40 sets of 9 observations of 2 features",
        "1 component, full",
        "prior  mean [0, 0.5]",
        "19 per data set, every 3rd kept; num_chains=2",
        "OK 39, UNMIXED 1",
    ):
        assert words in text
    assert "num_samples" not in text


def test_verdict_names_what_decided_it():
    rows = [row_of("a", UNIFORM), row_of("b", UNIFORM // 2), row_of("c", np.where(UNIFORM == 0, -1, UNIFORM))]
    text = verdict("Verdict: NOT calibrated.", rows, 0.01, 0.0098)
    assert text.startswith("Verdict: NOT calibrated. ")
    assert "of 3 quantities are outside their bands: b (draws too high)" in text
    assert "In 10 data sets" in text
    assert "at most 0.0098 (alpha=0.01 for all 3 quantities" in text
    assert verdict("No verdict.", [], 0.01, 0.01) == "No verdict."


def test_table_of_ranks():
    rows = [row_of("means[0,0]", UNIFORM // 2, label_invariant=False), row_of("log-likelihood", UNIFORM)]
    lines = "\n".join(rank_lines(rows)).splitlines()
    words = [line.split() for line in lines]
    assert [line[0] for line in words[1:5]] == ["for", "log-likelihood", "components", "means[0,0]"]
    assert words[2][1:] == ["1.0000", "1.0000", "+0.000", f"{rows[1].limit:.3f}", "yes", "15"]
    assert words[4][-2:] == ["NOT", "15"]
    assert "below 15 in one data set of 20" in " ".join(lines).replace("\n", " ")


@pytest.mark.parametrize("count", [1, 2, 9])
def test_the_page_is_at_most_100_columns_wide(count):
    probabilities = np.linspace(0.1, 0.9, count)
    rows = [
        CoverageRow(method, name, p, 0.5, 0.01, 0.0, 0.5)
        for method in ("of_" * 40, "em")
        for name in ("weights[0]", "covariances[10,10,10]")
        for p in probabilities
    ]
    lines = "\n".join(coverage_lines(rows)).splitlines()
    assert max(map(len, lines)) <= 100
    assert sum("covariances[10,10,10]" in line for line in lines) == (1 if count < 9 else 2)


def test_table_of_coverage():
    rows = [CoverageRow("em", "a", p, share, 0.02, 0.25, 0.4) for p, share in ((0.5, 0.475), (0.9, 0.95))]
    lines = "\n".join(coverage_lines(rows)).splitlines()
    assert lines[0].split() == ["EM"]
    assert lines[1].split()[-4:] == ["50", "%", "90", "%"]
    assert lines[2].split() == ["a", "47.5", "95.0"]
    text = " ".join(lines)
    assert "at most 2.0, 2.0 percentage points for intervals of 50, 90 %" in text
    assert "EM: up to 25.0 % of the data sets have no interval" in text
    assert "lowest coverage is 0.44 times the nominal coverage" in text
