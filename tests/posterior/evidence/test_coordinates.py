"""evidence_coordinates: the maps between the systems are inverse to each other, and their slopes are the derivatives."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit, logit
from scipy.stats import beta, logistic

import jaxgmm
from jaxgmm.posterior.evidence.coordinates import Coordinates, _compress, _expand
from jaxgmm.posterior.evidence.importance import choose_coordinates
from jaxgmm.posterior.standardization import StandardizedProblem
from jaxgmm.posterior.unconstrained_space import make_unconstrained_space

from helpers import independent_prior, random_data, random_mixture, random_prior, slow_unless

compress, expand = jax.jit(_compress), jax.jit(_expand)
slopes = jax.jit(jax.vmap(jax.grad(lambda *arguments: _compress(*arguments)[0]), in_axes=(0, None, None)))


NONE_EMPTY, FIRST_EMPTY, LAST_EMPTY = (False, False, False), (True, False, False), (False, False, True)
CASES = [
    (covariance_type, conjugate, empty)
    for covariance_type, conjugate in (("full", True), ("full", False), ("tied", True), ("diag", True))
    for empty in (NONE_EMPTY, FIRST_EMPTY, LAST_EMPTY)
]


@pytest.mark.parametrize(
    ("covariance_type", "conjugate", "empty"),
    slow_unless(
        CASES,
        [
            *(("full", True, NONE_EMPTY), ("full", True, FIRST_EMPTY), ("full", False, LAST_EMPTY)),
            *(("tied", True, FIRST_EMPTY), ("diag", True, LAST_EMPTY)),
        ],
    ),
)
def test_chosen_coordinates_and_their_volume(covariance_type, conjugate, empty, x64):
    """From chosen coordinates to z and back, and log|d chosen / dz| by differentiation."""
    prior = random_prior(0, covariance_type, 3, 2) if conjugate else independent_prior(covariance_type, 3, 2, False)
    prior = dataclasses.replace(prior, weight_concentration=jnp.array([0.1, 1.0, 3.0]))
    problem = StandardizedProblem(jnp.asarray(random_data(0, 20, 2)), None, prior, jnp.zeros(2), jnp.ones(2))
    start, empty = random_mixture(0, covariance_type, 3, 2), np.array(empty)

    @jax.jit
    def there_and_back(chosen):
        coordinates = Coordinates(make_unconstrained_space(problem, start), problem)
        point = coordinates.place(chosen, empty)
        found = coordinates.describe(point)
        jacobian = jax.jacfwd(lambda chosen: coordinates.place(chosen, empty).z)(chosen)
        return point, found, choose_coordinates(found.z, coordinates.systems(empty)), jacobian

    chosen = 0.5 * jnp.asarray(np.random.default_rng(0).normal(size=jaxgmm.num_parameters(start)))
    point, found, back, jacobian = there_and_back(chosen)
    np.testing.assert_allclose(back, chosen, rtol=1e-8, atol=1e-8)
    np.testing.assert_array_equal(found.z[0], point.z)
    slope = np.where(empty, found.log_slope, 0).sum()
    np.testing.assert_allclose(-np.linalg.slogdet(jacobian)[1], slope, rtol=1e-8, atol=1e-8)
    if not empty.any():
        np.testing.assert_array_equal(point.z, chosen)


@pytest.mark.parametrize("concentration", [0.001, 0.01, 1.0, 5.0])
def test_logits_of_weights(concentration):
    """In float32, from logits of -2000 (a weight of e^-2000) to 300 and back; the slope is the derivative, on both branches."""
    t = np.float32([-2000, -300, -10, -1, 0, 5, 12.4, 12.6, 30, 300])
    c, log_points = np.float32(concentration), np.log(np.float32(12))
    y, log_slope = compress(t, c, log_points)
    np.testing.assert_allclose(expand(y, c, log_points), t, rtol=1e-5, atol=1e-4)
    slope = slopes(t, c, log_points)
    np.testing.assert_allclose(slope, np.exp(log_slope), rtol=1e-5)


@pytest.mark.parametrize("concentration", [0.01, 1.0])
def test_weights_of_empty_components_are_nearly_logistic(concentration, x64):
    """The largest ratio of the law of an empty component's weight to the logistic law is below 3, far into both tails."""
    log_fraction = np.log(beta.ppf(np.r_[1e-3:0.999:200j], concentration, 12))
    kept = log_fraction > -700
    t = logit(np.exp(log_fraction[kept]))
    y, log_slope = compress(t, concentration, np.log(12 + 2 * concentration))
    density = beta.logpdf(expit(t), concentration, 12) + np.log(expit(t) * expit(-t))  # of the logit
    assert (density - log_slope - logistic.logpdf(y)).max() < np.log(3)
