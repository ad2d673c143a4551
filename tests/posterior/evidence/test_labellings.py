"""labellings: permutations of points in unconstrained space, and averages of a proposal over labellings."""

import dataclasses
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.nn import logsumexp

import jaxgmm
from jaxgmm.posterior.evidence import labellings as labellings
from jaxgmm.posterior.evidence.coordinates import Coordinates
from jaxgmm.posterior.evidence.importance import log_parts, make_proposal
from jaxgmm.posterior.evidence.labellings import make_labellings, permute_point
from jaxgmm.posterior.standardization import StandardizedProblem, standardise, to_standard
from jaxgmm.posterior.unconstrained_space import make_unconstrained_space

from helpers import random_data, random_mixture, random_prior


def test_permuting_a_point_permutes_the_components():
    """The log-Jacobian is the same in every order, so volumes are kept."""
    prior = random_prior(0, "diag", 3, 1)
    mixture = jaxgmm.make_mixture([0.2, 0.799, 0.001], [[1.0], [0.0], [2.0]], [[1.0], [2.0], [3.0]], covariance_type="diag")
    orders = jnp.array(list(itertools.permutations(range(3))))

    @jax.jit
    def moved(start, x, prior):
        problem = standardise(x, None, prior, "diag")
        start = to_standard(start, problem)
        space = make_unconstrained_space(problem, start)
        z = space.flatten(start)
        return start, jax.vmap(lambda order: space.unflatten(permute_point(space, z, order)))(orders)

    start, (mixtures, jacobians) = moved(mixture, jnp.asarray(random_data(0, 10, 1)), prior)
    for name in (
        "weights",
        "means",
        "covariances",
    ):  # NumPyro computes the last weight as 1 - the sum of the others, which leaves five digits of 0.001
        np.testing.assert_allclose(getattr(mixtures, name), getattr(start, name)[orders], rtol=2e-4, atol=1e-6)
    np.testing.assert_allclose(jacobians, jacobians[0], rtol=1e-4)


@pytest.fixture
def three(x64):
    """Return problem, start and proposal of three components, of which the first and the last are exchangeable."""
    prior = dataclasses.replace(random_prior(0, "diag", 3, 2), weight_concentration=jnp.array([2.0, 1.0, 2.0]))
    problem = StandardizedProblem(jnp.asarray(random_data(0, 20, 2)), None, prior, jnp.zeros(2), jnp.ones(2))
    start = random_mixture(0, "diag", 3, 2)
    empty = jnp.array([[False, True, False]])  # in the only part

    @jax.jit
    def proposed(start, empty):
        space = make_unconstrained_space(problem, start)
        coordinates = Coordinates(space, problem)
        center, systems = space.flatten(start)[None], coordinates.systems(empty[0])[None]
        return make_proposal(jnp.zeros(1), center, 4 * jnp.eye(space.size)[None], empty, systems)

    return problem, start, proposed(start, empty)


def test_the_average_over_labellings_is_written_out(three):
    """It is the mean of the proposal's density over the two labellings that the prior allows."""
    problem, start, proposal = three
    noise = 0.5 * np.random.default_rng(0).normal(size=(4, jaxgmm.num_parameters(start)))

    @jax.jit
    def average_and_terms(start, proposal, noise):
        space = make_unconstrained_space(problem, start)
        coordinates = Coordinates(space, problem)

        def measure(z):
            return coordinates.place_means(z, jnp.zeros(3, bool))[0]

        def log_density(z):
            return logsumexp(log_parts(proposal, coordinates.describe(measure(z)))[0])

        z, orders = space.flatten(start) + noise, jnp.array([[0, 1, 2], [2, 1, 0]])
        log_parts_of = make_labellings(space, coordinates, start, problem.prior.weight_concentration).log_parts
        permuted = jax.vmap(lambda point: jax.vmap(lambda order: permute_point(space, point, order))(orders))(z)
        return logsumexp(log_parts_of(proposal, jax.vmap(measure)(z)), -1), jax.vmap(jax.vmap(log_density))(permuted)

    found, terms = average_and_terms(start, proposal, noise)
    np.testing.assert_allclose(found, np.logaddexp(*np.asarray(terms).T) - math.log(2), rtol=1e-9)


def test_one_labelling_is_kept_beyond_the_limit(three, monkeypatch):
    """The two labellings of each point get the density over 2 and infinity; the canonical labelling is the one that counts."""
    problem, start, proposal = three
    monkeypatch.setattr(labellings, "_ENUMERATED", 2)

    @jax.jit
    def run(start, proposal):
        space = make_unconstrained_space(problem, start)
        coordinates = Coordinates(space, problem)

        def measure(z):
            return coordinates.place_means(z, jnp.zeros(3, bool))[0]

        def log_density(z):
            return logsumexp(log_parts(proposal, coordinates.describe(measure(z)))[0])

        found = make_labellings(space, coordinates, start, problem.prior.weight_concentration)
        z = space.flatten(start)
        both = jnp.stack([z, permute_point(space, z, jnp.array([2, 1, 0]))])
        values = logsumexp(found.log_parts(proposal, jax.vmap(measure)(both)), -1)
        canonical = jax.vmap(lambda point: space.flatten(found.canonical(space.unflatten(point)[0])))(both)
        return both, values, canonical, jax.vmap(log_density)(both)

    both, values, canonical, densities = map(np.asarray, run(start, proposal))
    assert np.isinf(values).sum() == 1
    place = int(np.isfinite(values).argmax())
    kept, expected = both[place], densities[place] - math.log(2)
    np.testing.assert_allclose(values[np.isfinite(values)][0], expected, rtol=1e-9)
    np.testing.assert_allclose(canonical, [kept, kept], rtol=1e-6, atol=1e-8)
