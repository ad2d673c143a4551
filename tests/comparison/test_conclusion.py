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
    found = conclude(samplers)
    assert found.verdict is UNMIXED
    assert found.sentence.startswith("No sampler mixed (nuts: R-hat 1.420, ESS 9 and gibbs: ")
    assert "does not tell whether EM agrees" in found.sentence
    assert "laplace and bootstrap cannot tell" in found.sentence
    assert "num_samples=2000" in found.next_step
    assert str(found) == f"{found.sentence} What to do: {found.next_step}"
    assert "--num-samples 2000" in conclude(samplers, "command").next_step


def test_what_is_believed():
    """The gravest verdict of the posteriors that are believed is the verdict of all."""
    assert conclude(judged(("nuts", AGREE), ("gibbs", AGREE))).sentence == "EM agrees with the posterior, by nuts and gibbs."
    assert conclude(judged(("nuts", MODES))).verdict is MODES
    inside = conclude(judged(("nuts", Verdict.EM_INSIDE), ("gibbs", UNMIXED), ("smc", AGREE), ("bootstrap", AGREE)))
    assert inside.verdict is Verdict.EM_INSIDE
    assert inside.sentence == (
        "EM lies inside every interval of the posterior, but not everywhere near its mean, by nuts. By smc: agree. The chains "
        "of gibbs did not mix, so they are not counted. From one bootstrap replicate of the data to another: EM stable."
    )
    bootstrap = conclude(judged(("bootstrap", Verdict.UNCONFIRMED)))
    assert bootstrap.sentence.startswith("No posterior was sampled")
    assert "confidence intervals" in bootstrap.next_step
    alone = conclude(judged(("laplace", AGREE), ("bootstrap", AGREE)))
    assert alone.sentence.startswith("EM agrees with the posterior, by laplace. No chains were run")


@pytest.mark.parametrize("verdict", [v for v in Verdict if v not in (UNMIXED, MODES)])
def test_every_verdict_has_a_sentence(verdict):
    assert conclude(judged(("nuts", verdict))).sentence.endswith(", by nuts.")
