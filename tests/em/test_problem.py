"""Test how a problem is prepared: the centre, V, and the start and the prior relative to the centre."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxgmm.em import problem as problems

import oracle
from helpers import OTHER_TWO_COVARIANCE_TYPES, random_data, random_mixture, random_prior, random_weight


def prepared(covariance_type, *, d=3, weight=None, prior=None, reg_covar=None, tol=1e-8):
    """Return a start, data and the centred problem that they make."""
    start, x = random_mixture(0, covariance_type, d=d), jnp.asarray(random_data(0, d=d))
    return start, x, problems.prepare(start, problems.EMProblem(x, weight, prior, reg_covar), jnp.asarray(tol))


@pytest.mark.parametrize("covariance_type", OTHER_TWO_COVARIANCE_TYPES)
def test_prepare_centres_the_problem(covariance_type, x64):
    """The centre is the weighted mean, V the weighted covariance of the data; the start and the prior are relative to it."""
    w, prior = random_weight(0), random_prior(0, covariance_type)
    start, x, problem = prepared(covariance_type, weight=jnp.asarray(w), prior=prior, tol=1e-3)
    mean = w @ np.asarray(x) / w.sum()
    np.testing.assert_allclose(problem.center, mean, rtol=1e-12)
    np.testing.assert_allclose(problem.start.means, start.means - mean, rtol=1e-12)
    np.testing.assert_allclose(problem.prior.mean, prior.mean - mean, rtol=1e-12)
    np.testing.assert_allclose(problem.total, w.sum(), rtol=1e-12)
    np.testing.assert_allclose(problem.tol, 1e-3 * w.sum(), rtol=1e-12)
    expected = oracle.store([oracle.data_covariance(x, w, covariance_type)], covariance_type)
    np.testing.assert_allclose(problem.data_covariance, expected, rtol=1e-10)


def test_negative_weights_make_the_total_nan(x64):
    """Traced weights cannot be refused; their total is NaN, which ends a fit as NONFINITE."""
    _, _, problem = prepared("diag", weight=jnp.ones(60).at[3].set(-1.0))
    assert np.isnan(problem.total)
