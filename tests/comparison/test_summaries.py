"""Rows: the summaries of draws are those of NumPy, and every quantity is what its name says."""

import math

import numpy as np
import pytest

import jaxgmm
from jaxgmm.comparison.inputs import ComparisonInputs, ComparisonOptions, Subject
from jaxgmm.comparison.summaries import (
    Quantities,
    invariant_quantities,
    log_density_quantities,
    log_priors,
    parameter_quantities,
    summarise,
)
from jaxgmm.studies.parameters import Parameter

from fabricated_comparisons import fabricate_fit, make_posterior, two_clusters


def quantities(draws, em):
    """Return one mean with given draws (C, S) and EM estimate."""
    return Quantities([Parameter("means[0,0]", "mean", 0, ("a",))], np.array([em]), draws[..., None], {})


@pytest.fixture(scope="module")
def compared():
    """Return the inputs of a comparison and a posterior."""
    x = two_clusters()
    fit = fabricate_fit(x)
    posterior = make_posterior(fit, x)
    return ComparisonInputs(fit, x, None, ["a", "b"], ComparisonOptions()), Subject(
        "nuts", posterior, *log_priors(fit, posterior)
    )


def test_summaries_of_draws():
    draws = np.random.default_rng(0).normal(size=(4, 100))
    (found,) = summarise(quantities(draws, 0.5), "nuts", 0.9, {"em_se": np.array([0.1]), "laplace_sd": np.array([2.0])})
    assert (found.method, found.kind, found.features) == ("nuts", "mean", ("a",))
    assert found.mean == pytest.approx(draws.mean())
    assert found.sd == pytest.approx(draws.std(ddof=1))
    assert (found.lower, found.upper) == pytest.approx(tuple(np.quantile(draws, [0.05, 0.95])))
    assert found.z == pytest.approx((0.5 - draws.mean()) / draws.std(ddof=1))
    assert found.tail == pytest.approx((draws < 0.5).mean())
    assert found.inside
    assert found.em_se == 0.1
    assert found.sd_ratio == pytest.approx(2.0 / found.sd)
    assert found.contraction is None
    (bare,) = summarise(quantities(draws, 0.5), "nuts", 0.9)
    assert bare.sd_ratio is bare.laplace_sd is bare.em_se is None


def test_constants():
    """A weight of 1 agrees with itself; a different constant is infinitely far away."""
    (same,) = summarise(quantities(np.ones((4, 10)), 1.0), "nuts", 0.9, {"laplace_sd": np.array([0.0])})
    assert (same.sd, same.z, same.inside) == (0.0, 0.0, True)
    assert math.isnan(same.sd_ratio)
    (other,) = summarise(quantities(np.ones((4, 10)), 2.0), "nuts", 0.9)
    assert other.z == math.inf
    assert not other.inside


def test_rounding_errors_are_no_spread():
    """The draws of a constant differ by rounding: the sd is 0, R-hat and effective sample sizes are NaN."""
    noise = np.finfo(np.float32).eps * np.random.default_rng(0).integers(-2, 3, (4, 50))
    (found,) = summarise(quantities((0.5 * (1 + noise)).astype(np.float32).astype(float), 0.5), "nuts", 0.9)
    assert (found.sd, found.z, found.inside) == (0.0, 0.0, True)
    assert math.isnan(found.r_hat)
    assert math.isnan(found.ess_bulk)


def test_few_draws_have_no_diagnostics():
    (found,) = summarise(quantities(np.array([[1.0, 2.0, 3.0]]), 2.0), "nuts", 0.9)
    assert math.isnan(found.r_hat)
    assert math.isnan(found.mcse)


def test_quantities_of_a_comparison(compared):
    inputs, subject = compared
    mixture = inputs.fit.mixture
    parameters = parameter_quantities(inputs, subject)
    assert parameters.draws.shape == (4, 500, len(parameters.described))
    assert parameters.described[0].name == "weights[0]"
    invariant = invariant_quantities(inputs, subject)
    assert [entry.name for entry in invariant.described] == [
        "largest weight",
        "2nd-largest weight",
        "overall mean a",
        "overall mean b",
        "overall sd a",
        "overall sd b",
    ]
    assert invariant.em[:2] == pytest.approx([0.6, 0.4])
    assert invariant.em[2] == pytest.approx(float(mixture.weights @ mixture.means[:, 0]))
    log_densities = log_density_quantities(inputs, subject)
    difference = log_densities.draws[..., 1] - log_densities.draws[..., 0]
    np.testing.assert_allclose(difference, subject.log_prior, rtol=1e-6)
    assert log_densities.em[1] - log_densities.em[0] == pytest.approx(subject.em_log_prior)


def test_log_priors(compared):
    inputs, subject = compared
    em, draws = log_priors(inputs.fit, subject.posterior)
    assert em == pytest.approx(float(jaxgmm.log_prior(inputs.fit.mixture, subject.posterior.prior)), rel=1e-5)
    assert draws.shape == (4, 500)
