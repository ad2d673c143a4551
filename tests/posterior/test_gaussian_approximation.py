"""The bridge: coordinates, lean likelihood against NumPyro's, the unconstrained mode and its judgement."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpyro.infer.util import log_density, potential_energy

import jaxgmm
from jaxgmm import covariance
from jaxgmm.posterior import gaussian_approximation as bridge
from jaxgmm.posterior import likelihood
from jaxgmm.posterior import standardization as coordinates
from jaxgmm.posterior.model import model, root_of, sites_of

from helpers import (
    COVARIANCE_TYPES,
    assert_mixtures_close,
    independent_prior,
    random_data,
    random_mixture,
    random_prior,
    random_weight,
)


def lean_and_numpyros(kind, d):
    """Two functions of the sites: the weighted log-likelihood as samplers take it, and by NumPyro."""
    prior, x, weight = random_prior(0, kind, 2, d), jnp.asarray(random_data(0, 50, d)), jnp.asarray(random_weight(0, 50))
    problem = coordinates.StandardizedProblem(x, weight, prior, jnp.zeros(d), jnp.ones(d))
    options = dict(num_components=2, covariance_type=kind)
    start = random_mixture(1, kind, 2, d)  # where features are about, and what potentials leave out
    log_likelihood, origin = likelihood.make_log_likelihood(problem, start), likelihood.reference_total(problem, start)

    def on_simplex(sites):  # off it the two differ: NumPyro divides by the sum
        return sites | {"weights": sites["weights"] / sites["weights"].sum()}

    def lean(sites):
        sites = on_simplex(sites)
        factors = covariance.complete(root_of(sites, kind), kind, d)
        return log_likelihood(sites["weights"], sites["means"], factors) + origin

    def numpyros(sites):
        sites = on_simplex(sites)
        density = log_density(model, (x, prior), options | {"sample_weight": weight}, sites)[0]
        return density - log_density(model, (x[:1], prior), options | {"sample_weight": jnp.zeros(1)}, sites)[0]

    return lean, numpyros, sites_of(random_mixture(0, kind, 2, d), prior)


@pytest.mark.parametrize("room", ["features", "whitened"])
@pytest.mark.parametrize(("kind", "d"), [(kind, 2) for kind in COVARIANCE_TYPES] + [("full", 5)])
def test_lean_likelihood_is_numpyros(kind, d, room, monkeypatch, x64):
    """Value and gradient in every site, by features made once and without room for them; at D=5 factorisations are not
    written out."""
    if room == "whitened":
        monkeypatch.setattr(likelihood, "can_store_features", lambda numbers: False)
    lean, numpyros, sites = lean_and_numpyros(kind, d)
    a, b = (jax.tree.leaves(jax.jit(jax.value_and_grad(f))(sites)) for f in (lean, numpyros))
    for left, right in zip(a, b, strict=True):
        left, right = (np.tril(v) if v.ndim == 3 else v for v in (left, right))
        np.testing.assert_allclose(left, right, rtol=1e-9, atol=1e-9)


def test_chunks_change_nothing(monkeypatch, x64):
    """A likelihood in pieces, gradients recomputed, is the likelihood."""
    mixture, x, weight = random_mixture(0, "full", 2, 2), jnp.asarray(random_data(0, 50, 2)), jnp.asarray(random_weight(0, 50))
    factors = covariance.factorize(mixture.covariances, "full", 2)
    problem = coordinates.StandardizedProblem(x, weight, None, jnp.zeros(2), jnp.ones(2))

    def value(means):
        return likelihood.log_likelihood(mixture.weights, means, factors, problem, None, "full")

    whole = jax.jit(jax.value_and_grad(value))(mixture.means)
    jax.clear_caches()
    monkeypatch.setattr(likelihood, "GRADIENT_CHUNK", 16)
    for left, right in zip(whole, jax.jit(jax.value_and_grad(value))(mixture.means), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("half_normal", [None, False, True])
@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_coordinates_keep_the_density(kind, half_normal, x64):
    """Standardised there and back; log densities differ by log_volume, under every family of priors."""
    scales = np.array([1.0, 50.0])
    x = random_data(0, 50, 2) * scales + 1000
    weight = jnp.asarray(random_weight(0, 50))
    mixture = random_mixture(0, kind, 2, 2)
    mixture = dataclasses.replace(mixture, means=mixture.means + 1000)
    prior = random_prior(0, kind, 2, 2) if half_normal is None else independent_prior(kind, 2, 2, half_normal)
    problem = jax.jit(coordinates.standardise, static_argnums=3)(jnp.asarray(x), weight, prior, kind)
    standard = coordinates.to_standard(mixture, problem)
    assert_mixtures_close(coordinates.from_standard(standard, problem), mixture, 1e-12, scale=1000)
    spread = jnp.sqrt(weight @ problem.y**2 / weight.sum())
    np.testing.assert_allclose((spread**2).mean() if kind == "spherical" else spread, 1, rtol=1e-12)
    there = jaxgmm.log_prob(mixture, x) @ weight + jaxgmm.log_prior(mixture, prior)
    here = jaxgmm.log_prob(standard, problem.y) @ weight + jaxgmm.log_prior(standard, problem.prior)
    np.testing.assert_allclose(here + coordinates.log_volume(problem, kind, 2), there, rtol=1e-10)


def test_mode_is_the_unconstrained_one(x64):
    """Newton ends where the model's own potential has no gradient; its curvature is the root's; not EM's mode."""
    x = jnp.asarray(jaxgmm.datasets.load("faithful")[:, 1:], float)
    prior = jaxgmm.Prior(*(jnp.asarray(v, float) for v in ([1, 1], [70.9], 0.01, 3, [[46.0]])))
    start = jaxgmm.make_mixture([0.36, 0.64], [[54.6], [80.1]], [[[35.0]], [[34.0]]])  # about EM's solution
    problem = jax.jit(coordinates.standardise, static_argnums=3)(x, None, prior, "full")
    standard = coordinates.to_standard(start, problem)
    built = jax.jit(bridge.build_approximation)(jax.random.key(1), standard, problem)
    space = bridge.make_space(problem, standard)
    shapes = {"means": (2, 1), "scale_tril": (2, 1), "weights": (1,)}  # alphabetical, as NumPyro flattens them

    def potential(z):
        parts = jnp.split(z, [2, 4])
        sites = {name: part.reshape(shape) for (name, shape), part in zip(shapes.items(), parts, strict=True)}
        return potential_energy(model, (problem.y, problem.prior), dict(num_components=2), sites)

    value, gradient = jax.jit(jax.value_and_grad(potential))(built.mode)
    np.testing.assert_allclose(value, built.value - likelihood.reference_total(problem, standard), rtol=1e-10)
    assert gradient @ built.root @ built.root.T @ gradient / 2 < 1e-3
    hessian = jax.jit(jax.hessian(potential))(built.mode)
    np.testing.assert_allclose(built.root.T @ hessian @ built.root, np.eye(5), atol=1e-8)
    mixture, jacobian = jax.jit(lambda m: space.unflatten(space.flatten(m)))(standard)
    assert_mixtures_close(mixture, standard, 1e-10)
    at_start = -space.potential(space.flatten(standard)) - jacobian + likelihood.reference_total(problem, standard)
    expected = jaxgmm.log_prob(standard, problem.y).sum() + jaxgmm.log_prior(standard, problem.prior)
    np.testing.assert_allclose(at_start, expected, rtol=1e-10)
    assert bool(built.sound)
    assert float(built.khat) < 0.7
    np.testing.assert_allclose(built.counts.sum(), 272)
    assert abs(coordinates.from_standard(space.unflatten(built.mode)[0], problem).means - start.means).max() > 1e-4


@pytest.mark.parametrize("half_normal", [None, False, True])
@pytest.mark.parametrize(("kind", "d"), [("full", 5), ("tied", 2), ("diag", 2), ("spherical", 2), ("full", 1)])
def test_potential_is_numpyros(kind, d, half_normal, x64):
    """The whole potential in unconstrained space, with every family of priors: value and gradient, up to the reference."""
    prior = random_prior(4, kind, 2, d) if half_normal is None else independent_prior(kind, 2, d, half_normal)
    start = random_mixture(4, kind, 2, d)
    problem = coordinates.StandardizedProblem(jnp.asarray(random_data(4, 20, d)), None, prior, jnp.zeros(d), jnp.ones(d))

    @jax.jit
    def both(z):
        space = bridge.make_space(problem, start)
        options = {"num_components": 2, "covariance_type": kind}
        theirs = lambda z: potential_energy(model, (problem.y, prior), options, space.unravel(z))  # noqa: E731
        origin = likelihood.reference_total(problem, start)
        return [jax.value_and_grad(f)(space.flatten(start) + z) for f in (space.potential, lambda z: theirs(z) + origin)]

    (value, gradient), (expected, slope) = both(0.1)
    np.testing.assert_allclose(value, expected, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(gradient, slope, rtol=1e-8, atol=1e-8)


def test_constant_column_takes_the_priors_size():
    """Nothing divides by zero."""
    x = np.c_[np.random.default_rng(0).normal(size=30), np.full(30, 7.0)].astype(np.float32)
    prior = jaxgmm.default_prior(x, num_components=1, covariance_type="diag")
    problem = coordinates.standardise(jnp.asarray(x), None, prior, "diag")
    assert np.isfinite(problem.y).all()
    assert (np.asarray(problem.scale) > 0).all()
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(problem.prior))
    assert dataclasses.is_dataclass(problem.prior)
