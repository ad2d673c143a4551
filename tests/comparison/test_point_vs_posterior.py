"""What EM is compared with: rows to score, Laplace's approximation, standard errors, joint scores."""

import dataclasses
import math

import numpy as np
import pytest

import jaxgmm
from jaxgmm.comparison.inputs import ComparisonInputs, ComparisonOptions, Subject
from jaxgmm.comparison.point_vs_posterior import (
    LaplaceReference,
    choose_rows,
    contraction_of,
    find_laplace,
    flat_draws,
    information_errors,
    score_jointly,
    standard_deviations,
)
from jaxgmm.comparison.summaries import log_priors
from jaxgmm.studies.parameters import values

from fabricated_comparisons import fabricate_fit, make_posterior, two_clusters


@pytest.fixture(scope="module")
def compared():
    """Return the inputs of a comparison without Laplace's approximation, and a posterior."""
    x = two_clusters()
    fit = fabricate_fit(x)
    posterior = make_posterior(fit, x)
    options = ComparisonOptions(laplace=False, num_folds=4)
    return ComparisonInputs(fit, x, None, ["a", "b"], options), Subject("nuts", posterior, *log_priors(fit, posterior))


def test_rows_and_folds(compared):
    inputs, _ = compared
    scored = choose_rows(inputs)
    assert scored.rows.tolist() == list(range(100))
    assert np.bincount(scored.folds).tolist() == [25] * 4
    weight = np.r_[np.zeros(97), 1.0, 2.0, 1.0]
    few = choose_rows(inputs._replace(weight=weight))
    assert few.rows.tolist() == [97, 98, 99]
    assert few.weight.tolist() == [1.0, 2.0, 1.0]
    assert sorted(few.folds) == [0, 1, 2]
    assert choose_rows(inputs._replace(options=inputs.options._replace(num_folds=1))).folds is None
    many = choose_rows(inputs._replace(x=np.zeros((5000, 2), np.float32)))
    assert len(set(many.rows)) == 2000
    assert many.folds is None


def test_what_is_not_wanted_is_not_computed(compared):
    inputs, subject = compared
    assert np.isnan(information_errors(inputs, subject.posterior.prior)).all()
    assert find_laplace(inputs, [subject]) is None


def test_standard_deviations_over_all_draws(compared):
    _, subject = compared
    sd, invariant_sd = standard_deviations(subject.posterior.mixture)
    np.testing.assert_allclose(sd, values(subject.posterior.mixture).reshape(2000, -1).std(0, ddof=1), rtol=1e-6)
    assert invariant_sd.shape == (2 + 2 * 2,)
    one = jaxgmm.make_mixture([1.0], [[0.0]], [[[1.0]]])
    same = jaxgmm.Mixture(*(np.stack([np.asarray(leaf)] * 5) for leaf in (one.weights, one.means, one.covariances)), "full")
    assert standard_deviations(same)[0].tolist() == [0.0, 0.0, 0.0]
    assert flat_draws(subject.posterior).means.shape == (2000, 2, 2)


def test_an_approximation_goes_with_its_prior(compared):
    _, subject = compared
    prior = subject.posterior.prior
    reference = LaplaceReference(None, prior, np.zeros(1), np.zeros(1))
    assert reference.is_for(subject.posterior)
    other = dataclasses.replace(prior, mean=prior.mean + 1)
    assert not reference.is_for(dataclasses.replace(subject.posterior, prior=other))
    assert not reference.is_for(dataclasses.replace(subject.posterior, prior=None))
    assert reference.is_for(dataclasses.replace(subject.posterior, prior=None, method="bootstrap"))


def test_joint_scores_without_an_approximation(compared):
    inputs, subject = compared
    found = score_jointly(inputs, subject, None, 500)
    em = float(inputs.fit.log_likelihood) + subject.em_log_prior
    assert found.log_joint_gap == pytest.approx(em - np.asarray(subject.posterior.log_density, float).mean(), abs=1e-3)
    assert math.isnan(found.laplace_kl)
    unknown = subject._replace(posterior=dataclasses.replace(subject.posterior, prior=None))
    assert math.isnan(score_jointly(inputs, unknown, None, 500).log_joint_gap)


def test_contraction_needs_a_prior(compared):
    inputs, subject = compared
    assert np.isnan(contraction_of(inputs, dataclasses.replace(subject.posterior, prior=None))).all()
    found = contraction_of(inputs, subject.posterior)
    assert (found[:6] > 0.9).all()
