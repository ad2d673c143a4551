"""Findings: each verdict follows from the numbers that cause it, and the gravest comes first."""

import numpy as np
import pytest

from jaxgmm.comparison.findings import ChainsApart, chains_apart, judge
from jaxgmm.comparison.verdict import Verdict, gravest
from jaxgmm.posterior.pareto import khat_limit
from jaxgmm.studies.parameters import Parameter

from fabricated_comparisons import diagnostics, row

APART = ChainsApart("overall sd a", 12.0)


def verdicts(findings):
    """Return the words of all verdicts, in order."""
    return list(dict.fromkeys(finding.verdict.word for finding in findings if finding.verdict))


def sentences(findings):
    """Return all sentences, joined."""
    return " ".join(finding.sentence for finding in findings)


@pytest.mark.parametrize(
    ("rows", "health", "options", "word", "number"),
    [
        ([row()], {}, {}, "agree", "0.10 posterior sd"),
        ([row(r_hat=1.0099, ess_bulk=400)], {}, {}, "agree", ""),
        ([row(r_hat=1.01)], {}, {}, "chains unmixed", "R-hat is 1.010"),
        ([row(ess_bulk=399.0)], {}, {}, "chains unmixed", "at least 400"),
        ([row()], {}, {"apart": APART}, "several modes", "12 Monte Carlo standard errors"),
        ([row()], {"other_share": 0.3}, {}, "several modes", "30 %"),
        ([row()], {"identified": False}, {}, "labels not identified", "30.0 % of the draws"),
        ([row(inside=False, z=2.5)], {}, {}, "EM outside", "2.50 posterior sd"),
        ([row()], {"khat": 0.697}, {}, "Laplace poor", "k-hat is 0.70, where a value below 0.70"),
        ([row()], {"khat": float("inf")}, {}, "Laplace poor", "k-hat is inf"),
        ([row()], {}, {"laplace_sound": False}, "Laplace poor", "not positive definite"),
        ([row(sd_ratio=0.79)], {}, {}, "Laplace poor", "0.79 times"),
        ([row(sd_ratio=1.26)], {}, {}, "Laplace poor", "1.26 times"),
        ([row(sd_ratio=0.8), row(sd_ratio=1.25)], {}, {}, "agree", ""),
        ([row(sd_ratio=None)], {}, {}, "agree", ""),
        ([row(z=-1.01)], {}, {}, "EM inside", "1.01 posterior sd"),
        ([row(z=1.0)], {}, {}, "agree", ""),
    ],
)
def test_each_verdict_has_its_number(rows, health, options, word, number):
    invariant = [row(kind="overall mean", component=None)]
    findings = judge(rows, invariant, diagnostics(**health), 0.95, **options)
    assert gravest(findings).word == verdicts(findings)[0] == word
    assert number in sentences(findings)


def test_fixed_quantities_are_left_out():
    """A quantity that the model fixes has no posterior sd, so EM is not "inf posterior sd" from it."""
    fixed = row(kind="weight", inside=False, z=-np.inf, sd=0.0)
    findings = judge([row(), fixed], [row(kind="overall mean", component=None)], diagnostics(), 0.95)
    assert gravest(findings).word == "agree"
    assert "inf" not in sentences(findings)
    assert gravest(judge([fixed], [], diagnostics(), 0.95)).word == "EM outside"


def test_the_gravest_comes_first():
    everything = diagnostics(khat=0.9, identified=False)
    free = [row(kind="overall mean", component=None, r_hat=1.3, inside=False, z=4.0)]
    findings = judge([row()], free, everything, 0.95, apart=APART)
    by_search = {Verdict.OTHER_MODES, Verdict.POOR_MODE}  # a search causes these verdicts, not `judge`
    assert verdicts(findings) == [verdict.word for verdict in Verdict if verdict not in by_search][:5]
    assert findings[0].sentence.startswith("The chains do not agree")


def test_draws_without_chains_are_not_judged_by_them():
    bad = [row(r_hat=1.5, ess_bulk=3.0)]
    assert gravest(judge(bad, [], diagnostics(method="bootstrap", khat=None, chains=1), 0.95)) == Verdict.AGREE
    assert gravest(judge(bad, [], diagnostics(method="laplace", chains=1), 0.95)) == Verdict.AGREE
    # for draws by Laplace the approximation is judged first, and their sds are compared with those of chains
    outside = [row(inside=False, z=3.0)]
    findings = judge(outside, [], diagnostics(method="laplace", khat=0.9), 0.95)
    assert verdicts(findings) == ["Laplace poor", "EM outside"]
    findings = judge([row()], [], diagnostics(method="laplace"), 0.95, rows_by_chains=[row(sd_ratio=0.5)])
    assert gravest(findings) == Verdict.LAPLACE_POOR
    # a bootstrap is judged neither by k-hat nor by a ratio of sds
    findings = judge([row(sd_ratio=0.5)], [], diagnostics(method="bootstrap", khat=0.9), 0.95)
    assert gravest(findings) == Verdict.AGREE


def test_independent_draws_in_doubt_do_not_agree():
    """Draws that look mixed by construction are not green if nothing else was found to mix."""
    for method, khat in (("bootstrap", None), ("laplace", 0.3)):
        findings = judge([row()], [], diagnostics(method=method, khat=khat), 0.95, doubt="No sampler with chains mixed.")
        assert verdicts(findings) == ["unconfirmed"]
        assert "EM lies inside" in sentences(findings)
    assert verdicts(judge([row()], [], diagnostics(), 0.95, doubt="for chains there is none")) == ["agree"]
    outside = judge([row(inside=False, z=3.0)], [], diagnostics(method="bootstrap", khat=None), 0.95, doubt="a")
    assert verdicts(outside) == ["EM outside", "unconfirmed"]


def test_a_bootstrap_has_no_posterior():
    for one in (row(), row(z=1.5), row(inside=False, z=3.0)):
        assert "posterior" not in sentences(judge([one], [], diagnostics(method="bootstrap", khat=None), 0.95))


@pytest.mark.parametrize(("method", "word"), [("nuts", "chains unmixed"), ("laplace", "Laplace poor")])
@pytest.mark.parametrize("status", ["ALL_DIVERGENT", "NONFINITE", "SINGULAR"])
def test_draws_that_are_not_the_posteriors(method, word, status):
    """A status that says so is a verdict, even if R-hat and k-hat look good."""
    assert gravest(judge([row()], [], diagnostics(method=method, status=status), 0.95)).word == word


def test_an_undefined_r_hat_is_no_constant():
    """R-hat is NaN for constants, which are left out, and for draws that are not finite, which are not."""
    nan = float("nan")
    constant = row(name="weights[0]", r_hat=nan, ess_bulk=nan, sd=0.0)
    assert verdicts(judge([row(), constant], [], diagnostics(), 0.95)) == ["agree"]
    broken = row(name="means[1,0]", r_hat=nan, ess_bulk=nan, sd=nan)
    assert gravest(judge([row(), broken], [], diagnostics(), 0.95)) == Verdict.CHAINS_UNMIXED


def test_log_densities_are_not_compared():
    """The log density of EM, at a mode, is above that of the draws, which is no finding."""
    invariant = [row(kind="log-likelihood (nats)", inside=False, z=9.0), row(kind="overall mean", component=None)]
    findings = judge([row()], invariant, diagnostics(identified=False), 0.95)
    assert verdicts(findings) == ["labels not identified"]


def test_too_few_draws_tell_nothing():
    """R-hat is NaN for fewer than four draws a chain."""
    findings = judge([row(r_hat=float("nan"))], [row(component=None, r_hat=float("nan"))], diagnostics(), 0.95)
    assert gravest(findings) == Verdict.CHAINS_UNMIXED
    assert "too few draws" in findings[0].sentence


def test_divergences_and_switching_cause_no_verdict():
    findings = judge([row()], [], diagnostics(divergences=3, switched_chains=2, switch_rate=0.1), 0.95)
    assert verdicts(findings) == ["agree"]
    text = sentences(findings)
    assert "3 draws are divergent" in text
    assert "2 of 4 chains" in text
    assert "10.0 % of the draws switch order" in text
    assert "no failure" in text


def test_limit_of_khat():
    """The limit is that of Vehtari et al. (2024), eq. 11."""
    assert khat_limit(2000) == pytest.approx(1 - 1 / np.log10(2000))
    assert khat_limit(10**5) == 0.7
    assert khat_limit(1) < 0.1


def quantity(name):
    """Return a quantity of the given name."""
    return Parameter(name, "mean", None, ())


def test_chains_apart_are_told_from_chains_that_wander():
    """Of 20 sets of good chains none is apart: 5 standard errors have probability 1e-6 for each pair."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        assert chains_apart(rng.normal(size=(4, 200, 3)), [quantity(name) for name in "abc"]) is None
    settled = rng.normal(size=(4, 400, 2)) + np.array([0, 0, 0, 2.0])[:, None, None] * [0, 1]
    found = chains_apart(settled, [quantity("a"), quantity("b")])
    assert found.name == "b"
    assert 15 < found.distance < 45
    wandering = np.cumsum(rng.normal(size=(4, 400, 2)), axis=1)
    assert chains_apart(wandering, [quantity("a"), quantity("b")]) is None
    assert chains_apart(rng.normal(size=(1, 400, 1)), [quantity("a")]) is None
