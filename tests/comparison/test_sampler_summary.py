"""Summaries of samplers hold the worst diagnostics, and notes say what does not match."""

import dataclasses

import numpy as np
import pytest

import jaxgmm
from jaxgmm.comparison.findings import judge
from jaxgmm.comparison.inputs import ComparisonInputs, ComparisonOptions, Subject
from jaxgmm.comparison.sampler_summary import (
    describe_prior,
    describe_setting,
    diagnose_sampler,
    maximised_prior,
    notes,
)
from jaxgmm.comparison.summaries import log_priors
from jaxgmm.comparison.verdict import Finding, Verdict, gravest
from jaxgmm.posterior.relabel import relabel

from fabricated_comparisons import at_the_mode_of, fabricate_fit, make_posterior, meta, row, summary, two_clusters


@pytest.fixture(scope="module")
def compared():
    """Return the inputs of a comparison and a relabelled posterior, under whose prior EM found a mode."""
    x = two_clusters()
    fit = fabricate_fit(x)
    posterior = make_posterior(fit, x, swap_chain=1)
    fit = at_the_mode_of(fit, posterior)
    subject = Subject("nuts", relabel(posterior, fit.mixture, x), *log_priors(fit, posterior))
    return ComparisonInputs(fit, x, None, ["a", "b"], ComparisonOptions(seed=5)), subject


def test_diagnostics_are_the_worst_of_all_quantities(compared):
    _, subject = compared
    rows = [row(r_hat=1.2, ess_bulk=50.0, ess_tail=70.0), row(r_hat=1.0, ess_bulk=20.0), row(r_hat=np.nan, ess_bulk=np.nan)]
    found = diagnose_sampler(subject.posterior, rows, 0.4)
    assert (found.r_hat_max, found.ess_min, found.ess_tail_min) == (1.2, 20.0, 70.0)
    assert (found.chains, found.draws, found.switched_chains, found.divergences) == (4, 500, 1, 0)
    assert found.identified
    assert found.khat == 0.4
    assert found.khat_limit == pytest.approx(1 - 1 / np.log10(2000))
    assert diagnose_sampler(subject.posterior, rows, None).khat_limit is None
    assert np.isnan(diagnose_sampler(subject.posterior, [], None).r_hat_max)


def test_the_prior_under_which_em_found_a_mode(compared):
    inputs, subject = compared
    assert maximised_prior(inputs, [subject]) is subject.posterior.prior
    likeliest = inputs._replace(fit=dataclasses.replace(inputs.fit, objective=inputs.fit.log_likelihood))
    assert maximised_prior(likeliest, [subject]) is None
    assert describe_setting(inputs, None).em.prior is None
    assert describe_setting(inputs, subject.posterior.prior).em.prior["name"] == "Prior"


def test_notes_name_what_does_not_match(compared):
    inputs, subject = compared
    assert notes(inputs, subject) == ()
    (other_data,) = notes(inputs._replace(x=inputs.x + 1), subject)
    assert other_data.startswith("The fit was not made on these data")
    stopped = dataclasses.replace(inputs.fit, status=np.array(jaxgmm.Status.MAX_ITER), objective=inputs.fit.log_likelihood)
    found = notes(inputs._replace(fit=stopped), subject)
    assert jaxgmm.Status.MAX_ITER.sentence in found
    assert any("fit with prior=posterior.prior" in note for note in found)


@pytest.mark.parametrize("kind", ["sparse weights", "half-normal", "sound", "sound independent"])
def test_notes_advise_only_priors_that_fit_accepts(compared, kind):
    inputs, subject = compared
    x, prior = inputs.x, subject.posterior.prior
    if kind == "sparse weights":
        prior = dataclasses.replace(prior, weight_concentration=np.array([0.5, 0.5], np.float32))
    elif kind != "sound":
        scale = jaxgmm.HalfNormal(np.ones(2, np.float32), np.float32(2.0))
        if kind == "sound independent":
            scale = jaxgmm.InverseWishart(np.float32(5.0), np.eye(2, dtype=np.float32))
        prior = jaxgmm.IndependentPrior(np.ones(2, np.float32), np.zeros(2, np.float32), np.eye(2, dtype=np.float32), scale)
    other = subject._replace(posterior=dataclasses.replace(subject.posterior, prior=prior), em_log_prior=-50.0)
    (note,) = notes(inputs, other)
    advised = "prior=posterior.prior" in note
    assert advised == ("EM cannot maximise that density" not in note) == kind.startswith("sound")
    try:
        jaxgmm.fit(inputs.fit.mixture, x, prior)
    except (TypeError, ValueError):
        assert not advised
    else:
        assert advised


@pytest.mark.parametrize(("khat", "known"), [(np.nan, None), (np.inf, np.inf), (0.4, 0.4)])
def test_a_khat_that_was_not_measured_is_not_poor(compared, khat, known):
    """A model without an approximation has k-hat NaN; hopeless ratios have an infinite one."""
    _, subject = compared
    posterior = dataclasses.replace(subject.posterior, stats=subject.posterior.stats | {"khat": np.array(khat)})
    found = diagnose_sampler(posterior, [row()], None)
    assert found.khat == known
    assert (found.khat_limit is None) == (known is None)
    word = gravest(judge([row()], [], found, 0.95)).word
    assert word == ("Laplace poor" if khat == np.inf else "agree")


def test_priors_are_described_in_plain_types():
    prior = jaxgmm.IndependentPrior(np.ones(2), np.zeros(1), np.eye(1), jaxgmm.InverseGamma(np.array(2.0), np.array([3.0])))
    found = describe_prior(prior)
    assert found["name"] == "IndependentPrior"
    assert found["weight_concentration"] == [1.0, 1.0]
    assert found["scale"] == {"name": "InverseGamma", "shape": 2.0, "rate": [3.0]}
    assert describe_prior(None) is None


def test_verdicts_of_a_summary():
    findings = (
        Finding(None, "a"),
        Finding(Verdict.EM_OUTSIDE, "b"),
        Finding(Verdict.EM_OUTSIDE, "c"),
        Finding(Verdict.LAPLACE_POOR, "d"),
    )
    found = summary(findings=findings)
    assert found.verdict == Verdict.EM_OUTSIDE
    assert found.verdicts == (Verdict.EM_OUTSIDE, Verdict.LAPLACE_POOR)
    record = found.to_dict()
    assert record["verdict"] == {"word": "EM outside", "words": ["EM outside", "Laplace poor"], "sentences": list("abcd")}
    assert "findings" not in record


def test_setting_in_sentences():
    sentences = meta().sentences()
    assert sentences["data"] == "20 observations of a"
    assert sentences["model"] == "2 components, full covariances, 5 free parameters, float32"
    assert sentences["EM"] == "converged after 3 steps, log-likelihood -10.000 nats, objective -12.000 nats"
