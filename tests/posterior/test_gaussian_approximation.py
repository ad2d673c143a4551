"""gaussian_approximation: the mode in unconstrained space, its curvature, and whether the approximation can be trusted."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpyro.infer.util import potential_energy

import jaxgmm
from jaxgmm.posterior import likelihood, standardization
from jaxgmm.posterior.gaussian_approximation import (
    approximate_posterior,
    build_approximation,
    check_density_at_start,
    log_ratios,
    overdispersed_starts,
)
from jaxgmm.posterior.model import model
from jaxgmm.posterior.unconstrained_space import make_unconstrained_space

from helpers import assert_mixtures_close, log_prior, log_prob


def test_mode_is_that_of_the_unconstrained_density(x64):
    """Newton ends where NumPyro's potential has no gradient, the root whitens its Hessian, and the mode is not that of EM."""
    x = jnp.asarray(jaxgmm.datasets.load("faithful")[:, 1:], float)
    prior = jaxgmm.Prior(*(jnp.asarray(v, float) for v in ([1, 1], [70.9], 0.01, 3, [[46.0]])))
    start = jaxgmm.make_mixture([0.36, 0.64], [[54.6], [80.1]], [[[35.0]], [[34.0]]])  # close to the EM solution
    problem = jax.jit(standardization.standardise, static_argnums=3)(x, None, prior, "full")
    standard = jax.jit(standardization.to_standard)(start, problem)
    built = jax.jit(build_approximation)(jax.random.key(1), standard, problem)
    shapes = {"means": (2, 1), "scale_tril": (2, 1), "weights": (1,)}  # in alphabetical order, as NumPyro flattens them

    def potential(z):
        parts = jnp.split(z, [2, 4])
        sites = {name: part.reshape(shape) for (name, shape), part in zip(shapes.items(), parts, strict=True)}
        return potential_energy(model, (problem.y, problem.prior), dict(num_components=2), sites)

    @jax.jit
    def computed(z):
        space = make_unconstrained_space(problem, standard)
        mixture, jacobian = space.unflatten(space.flatten(standard))
        total = likelihood.reference_total(problem, standard)
        at_start = total - space.potential(space.flatten(standard)) - jacobian
        at_mode = standardization.from_standard(space.unflatten(z)[0], problem)
        return (*jax.value_and_grad(potential)(z), jax.hessian(potential)(z)), total, (mixture, at_start), at_mode

    (value, gradient, hessian), total, (mixture, at_start), at_mode = computed(built.mode)
    np.testing.assert_allclose(value, built.value - total, rtol=1e-10)
    assert gradient @ built.root @ built.root.T @ gradient / 2 < 1e-3
    np.testing.assert_allclose(built.root.T @ hessian @ built.root, np.eye(5), atol=1e-8)
    assert_mixtures_close(mixture, standard, 1e-10)
    expected = log_prob(standard, problem.y).sum() + log_prior(standard, problem.prior)
    np.testing.assert_allclose(at_start, expected, rtol=1e-10)
    assert bool(built.sound)
    assert float(built.khat) < 0.7
    np.testing.assert_allclose(built.counts.sum(), 272)
    assert abs(at_mode.means - start.means).max() > 1e-4


def approximate(seed, count):
    """Return problem and approximation of two groups of rows, `count` of the 80 in the first group."""
    x = np.random.default_rng(seed).normal(size=(80, 2))
    x[:count] += 9
    start = jaxgmm.from_labels(x, (np.arange(80) >= count).astype(int), num_components=2)
    prior = jaxgmm.default_prior(x, num_components=2)
    return approximate_posterior(jax.random.key(0), start, jnp.asarray(x), None, prior), (start, x, prior)


def test_a_component_of_few_points_is_not_trusted(x64):
    """Six points in two dimensions do not make a component Gaussian, forty do."""
    (_, few), _ = approximate(0, 6)
    (_, many), _ = approximate(0, 40)
    assert not bool(few.sound)
    assert few.counts.min() < 10
    assert bool(many.sound)


def test_a_stack_of_starts_gives_a_stack_of_approximations(x64):
    """Each start has the approximation that it has alone, up to the random draws behind k-hat."""
    (_, alone), (start, x, prior) = approximate(0, 40)
    starts = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), start)
    _, stack = approximate_posterior(jax.random.key(0), starts, jnp.asarray(x), None, prior)
    np.testing.assert_allclose(stack.mode, np.broadcast_to(alone.mode, stack.mode.shape), atol=1e-6)
    np.testing.assert_allclose(stack.root, np.broadcast_to(alone.root, stack.root.shape), atol=1e-6)
    np.testing.assert_allclose(stack.khat, np.broadcast_to(alone.khat, 2), atol=0.3)


def test_starts_of_chains_are_overdispersed(x64):
    """Their standard deviation is 1.5 in coordinates in which the approximation has 1; the tolerance is 6 standard errors."""
    (_, approximation), _ = approximate(0, 40)
    starts = overdispersed_starts(jax.random.key(0), approximation, 2000)
    assert abs(float(starts.std()) - 1.5) < 6 * 1.5 / np.sqrt(2 * starts.size)


def test_a_start_without_density_is_refused(x64):
    """check_density_at_start raises ValueError where one of a stack of approximations has no finite value."""
    (_, approximation), _ = approximate(0, 40)
    check_density_at_start(approximation)
    stack = approximation._replace(value=jnp.array([0.0, jnp.inf]))
    with pytest.raises(ValueError, match="no finite posterior density and gradient"):
        check_density_at_start(stack)


def test_log_ratios_of_undefined_potentials():
    """A potential of NaN means no density: the ratio is minus infinity."""
    found = log_ratios(jnp.array([[1.0, 1.0], [0.0, 2.0]]), jnp.array([3.0, jnp.nan]))
    np.testing.assert_array_equal(found, [-2.0, -np.inf])
