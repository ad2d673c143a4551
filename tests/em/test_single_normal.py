"""Tests of the fit of one normal distribution from which a fit of incomplete rows takes V and its origin."""

import jax.numpy as jnp
import numpy as np
import pytest
from incomplete_rows import ALLOWED, APPLE, LABELS, X

import jaxgmm
from jaxgmm.em.single_normal import incomplete_data


@pytest.mark.usefixtures("x64")
def test_covariance_of_one_component():
    """V is close to the maximum likelihood covariance, and the origin is the mean of the observed values."""
    data, _, single = incomplete_data(jaxgmm.observations(APPLE), None, "full", 2)
    np.testing.assert_allclose(data.center, np.nanmean(APPLE, 0))
    np.testing.assert_allclose(data.data_covariance[0], [[89.5, -90.7], [-90.7, 114.7]], atol=1.5)
    assert data.total == 18
    np.testing.assert_allclose(single.means[0], [14.72, 49.33], atol=0.2)


@pytest.mark.usefixtures("x64")
def test_negative_weight():
    """A negative weight makes the total NaN, so that the status of a traced fit becomes NONFINITE."""
    data = incomplete_data(jaxgmm.observations(APPLE), jnp.where(jnp.arange(18) == 2, -1.0, 1.0), "full", 2)[0]
    assert jnp.isnan(data.total)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("labels", [LABELS, ALLOWED])
def test_labels_do_not_change_the_fit_of_one_component(labels):
    """V of the penalty is the covariance of all rows, whatever labels they have, and fits with either form of labels agree."""
    plain, labelled = (jaxgmm.observations(X, labels=given) for given in (None, labels))
    for a, b in zip(incomplete_data(plain, None, "full", 3)[2:], incomplete_data(labelled, None, "full", 3)[2:], strict=True):
        np.testing.assert_array_equal(a.covariances, b.covariances)
