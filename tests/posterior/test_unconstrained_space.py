"""unconstrained_space: mixtures to points and back, the potential against NumPyro's, and functions over many points."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpyro.infer.util import potential_energy

import jaxgmm
from jaxgmm.posterior import unconstrained_space
from jaxgmm.posterior.likelihood import reference_total
from jaxgmm.posterior.model import model
from jaxgmm.posterior.standardization import StandardizedProblem
from jaxgmm.posterior.unconstrained_space import from_sticks, make_unconstrained_space, map_points, to_sticks

from helpers import (
    OTHER_TWO_COVARIANCE_TYPES,
    assert_mixtures_close,
    independent_prior,
    random_data,
    random_mixture,
    random_prior,
    slow_unless,
)


def make_problem(covariance_type, half_normal):
    """Return a problem in data units, and a start."""
    x = jnp.asarray(random_data(0, 30, 2, 2))
    prior = random_prior(0, covariance_type, 2, 2)
    if half_normal:
        prior = independent_prior(covariance_type, 2, 2, True)
    return StandardizedProblem(x, None, prior, jnp.zeros(2), jnp.ones(2)), random_mixture(0, covariance_type, 2, 2)


@pytest.mark.parametrize("half_normal", [False, True])
@pytest.mark.parametrize("covariance_type", OTHER_TWO_COVARIANCE_TYPES)
def test_unflatten_inverts_flatten(covariance_type, half_normal, x64):
    """A mixture is recovered from its point, under priors with different sites."""
    problem, start = make_problem(covariance_type, half_normal)

    @jax.jit
    def there_and_back(start):
        space = make_unconstrained_space(problem, start)
        z = space.flatten(start)
        assert z.shape == (space.size,)
        return space.unflatten(z)[0]

    assert_mixtures_close(there_and_back(start), start, 1e-10)


def test_weights_that_round_to_zero_keep_their_logarithms():
    """Log weights of -1000 are exact in float32; equal weights, where the branches of the function meet, have the curvature."""
    log_weights = jax.nn.log_softmax(jnp.float32([-1000.0, 0.0, -500.0, -3.0]))
    there_and_back = jax.jit(lambda log_weights: from_sticks(to_sticks(log_weights)))
    np.testing.assert_allclose(there_and_back(log_weights), log_weights, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(jax.jit(from_sticks)(np.zeros(3, np.float32)), -np.log(4) * np.ones(4), rtol=1e-6)
    found, expected = (jax.jit(jax.hessian(lambda z, f=f: f(z)[0]))(jnp.zeros(1)) for f in (from_sticks, jax.nn.log_sigmoid))
    np.testing.assert_allclose(found, expected)


POTENTIALS = [
    (covariance_type, d, half_normal)
    for covariance_type, d in (("full", 5), ("tied", 2), ("diag", 2), ("spherical", 2), ("full", 1))
    for half_normal in (None, False, True)
]


@pytest.mark.parametrize(
    ("covariance_type", "d", "half_normal"),
    slow_unless(POTENTIALS, [("full", 5, None), ("tied", 2, False), ("diag", 2, True)]),
)
def test_the_potential_equals_numpyros(covariance_type, d, half_normal, x64):
    """Value and gradient under every family of priors, up to the log-likelihood at the start."""
    prior = (
        random_prior(4, covariance_type, 2, d) if half_normal is None else independent_prior(covariance_type, 2, d, half_normal)
    )
    start = random_mixture(4, covariance_type, 2, d)
    problem = StandardizedProblem(jnp.asarray(random_data(4, 20, d)), None, prior, jnp.zeros(d), jnp.ones(d))

    @jax.jit
    def both(z):
        space = make_unconstrained_space(problem, start)
        options = {"num_components": 2, "covariance_type": covariance_type}
        numpyros = lambda z: potential_energy(model, (problem.y, prior), options, space.unravel(z))  # noqa: E731
        origin = reference_total(problem, start)
        return [jax.value_and_grad(f)(space.flatten(start) + z) for f in (space.potential, lambda z: numpyros(z) + origin)]

    (value, gradient), (expected, slope) = both(0.1)
    np.testing.assert_allclose(value, expected, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(gradient, slope, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("batch", [1, 3, 7, 100])
def test_functions_of_points_in_batches(batch, monkeypatch):
    """Every point gets its value once and in order, for any batch size; a function may return a tree."""
    problem, start = make_problem("full", False)
    monkeypatch.setattr(unconstrained_space, "potentials_per_batch", lambda numbers: batch)
    points = jnp.arange(14.0).reshape(7, 2)
    total, double = map_points(lambda z: (z.sum(), 2 * z), points, problem, start)
    np.testing.assert_array_equal(total, points.sum(-1))
    np.testing.assert_array_equal(double, 2 * points)


def test_the_log_jacobian_is_that_of_the_transform(x64):
    """It equals the logarithm of the determinant of d(weights, means, covariances) / dz, by automatic differentiation."""
    problem, start = make_problem("diag", False)

    def free_entries(space, z):
        mixture = space.unflatten(z)[0]
        return jnp.concatenate([mixture.weights[:-1], mixture.means.ravel(), mixture.covariances.ravel()])

    @jax.jit
    def both(start):
        space = make_unconstrained_space(problem, start)
        z = space.flatten(start)
        assert jaxgmm.num_parameters(start) == space.size
        return jax.jacobian(partial(free_entries, space))(z), space.unflatten(z)[1]

    jacobian, found = both(start)
    np.testing.assert_allclose(found, np.linalg.slogdet(jacobian)[1], rtol=1e-9)
