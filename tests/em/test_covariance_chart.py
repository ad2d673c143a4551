"""Free coordinates of coupled covariances."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxgmm.covariance import types as covariance_types
from jaxgmm.covariance.estimates import departure, estimate
from jaxgmm.em.covariance_chart import make_chart

from helpers import slow_unless

COUPLED = [code for code in covariance_types.CODES if covariance_types.is_coupled(code)]


@pytest.mark.parametrize("code", slow_unless(COUPLED, ("VEI", "EVV", "VEV", "VVE")))
def test_coordinates(code, x64):
    """There are as many coordinates as parameters; the origin gives the covariances, and every point is of the type."""
    rng, k, d = np.random.default_rng(0), 3, 2
    roots = rng.normal(size=(k, d, d))
    given = roots @ np.swapaxes(roots, 1, 2) + np.eye(d)
    given = given if covariance_types.is_dense(code) else np.diagonal(given, axis1=1, axis2=2)
    covariances = estimate(jnp.asarray(given), jnp.ones(k), code, num_steps=50)
    chart = make_chart(covariances, code, jnp.ones(k, bool))
    owners = chart.components()
    assert len(owners) == covariance_types.num_free(code, k, d)
    np.testing.assert_allclose(chart.covariances(jnp.zeros(len(owners))), covariances, rtol=1e-10, atol=1e-12)
    point = 1e-3 * rng.normal(size=len(owners))
    elsewhere = np.asarray(chart.covariances(jnp.asarray(point)))
    assert departure(elsewhere, code) < 1e-10
    moved = point + np.where(owners == 1, 1e-3, 0.0)  # coordinates of the second component change only its covariance
    np.testing.assert_allclose(np.asarray(chart.covariances(jnp.asarray(moved)))[[0, 2]], elsewhere[[0, 2]])
