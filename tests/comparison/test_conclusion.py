"""The conclusion: only chains that mixed, or a good approximation, say whether EM agrees with the posterior."""

import pytest

from jaxgmm.comparison.conclusion import conclude, doubt_about
from jaxgmm.comparison.verdict import Finding, Verdict

from fabricated_comparisons import summary


def judged(*members):
    """Return summaries by method, each with one verdict."""
    return {method: summary(method=method, findings=(Finding(verdict, "a"),)) for method, verdict in members}


AGREE, UNMIXED, MODES, POOR = Verdict.AGREE, Verdict.CHAINS_UNMIXED, Verdict.SEVERAL_MODES, Verdict.LAPLACE_POOR


@pytest.mark.parametrize(
    ("method", "before", "in_doubt"),
    [
        ("nuts", (), False),
        ("laplace", (), False),
        ("bootstrap", (), True),
        ("bootstrap", (("laplace", AGREE),), False),
        ("bootstrap", (("laplace", POOR),), True),
        ("bootstrap", (("nuts", AGREE),), False),
        ("bootstrap", (("nuts", Verdict.EM_OUTSIDE),), False),
        ("bootstrap", (("nuts", UNMIXED), ("gibbs", AGREE)), False),
        ("bootstrap", (("nuts", UNMIXED), ("gibbs", UNMIXED), ("laplace", POOR)), True),
        ("bootstrap", (("nuts", MODES), ("laplace", AGREE)), True),
        ("laplace", (("nuts", UNMIXED),), True),
        ("laplace", (("nuts", MODES), ("gibbs", AGREE)), False),
        ("gibbs", (("nuts", UNMIXED),), False),
    ],
)
def test_which_draws_are_in_doubt(method, before, in_doubt):
    assert (doubt_about(method, judged(*before)) is not None) == in_doubt


def test_no_sampler_mixed():
    """This is what iris, petal and sepal length with three components, gave: only the bootstrap looked good."""
    samplers = judged(("nuts", UNMIXED), ("gibbs", UNMIXED), ("laplace", POOR), ("bootstrap", AGREE))
    samplers["nuts"] = summary(findings=samplers["nuts"].findings, r_hat_max=1.42, ess_min=9.0)
    sentence = conclude(samplers)
    assert sentence.startswith("No sampler mixed (nuts: R-hat 1.420, ESS 9 and gibbs: ")
    assert "does not tell whether EM agrees" in sentence
    assert "laplace and bootstrap cannot tell" in sentence


def test_what_is_believed():
    assert conclude(judged(("nuts", AGREE), ("gibbs", AGREE))) == "By nuts and gibbs: agree."
    assert "several modes" in conclude(judged(("nuts", MODES)))
    assert conclude(judged(("nuts", Verdict.EM_INSIDE), ("gibbs", UNMIXED), ("bootstrap", AGREE))) == (
        "By nuts: EM inside. The chains of gibbs did not mix, so they are not counted."
    )
    assert conclude(judged(("bootstrap", Verdict.UNCONFIRMED))).startswith("No posterior was sampled")
    alone = conclude(judged(("laplace", AGREE), ("bootstrap", AGREE)))
    assert alone.startswith("By laplace: agree. No chains were run")
