"""modes: masses of made posteriors, one mode for all labellings, weights of chains, errors of masses, refusals."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from jaxgmm.posterior.modes import _Shares, find_among

KEY = jax.random.key(0)


def square():
    """Return four tight groups at the corners of a square: two components split them by the first or by the second feature."""
    rng = np.random.default_rng(0)
    corners = np.array([[-3.0, -3.0], [-3.0, 3.0], [3.0, -3.0], [3.0, 3.0]])
    half = np.repeat(corners, 10, 0) + 0.3 * rng.normal(size=(40, 2))
    return np.concatenate([half, half[:, ::-1]]).astype(np.float32)  # exchanging the features leaves the data as they are


X = square()
PRIOR = jaxgmm.Prior(
    *(jnp.asarray(v, jnp.float32) for v in ([1.0, 1.0], [0.0, 0.0], 0.1, 6.0, np.eye(2) * 2.0)),
)


def draws(shares, num_draws=100, num_chains=2):
    """Return a posterior whose chains have given shares of draws near the first solution, with labels in random order."""
    rng = np.random.default_rng(1)
    solutions = [jaxgmm.from_labels(X, (X[:, d] > 0).astype(int), num_components=2) for d in (0, 1)]
    which = np.stack([np.arange(num_draws) >= share * num_draws for share in shares]).astype(int)
    which = rng.permuted(which, axis=1)
    order = np.stack([rng.permutation(2) for _ in range(which.size)]).reshape(*which.shape, 2)
    stack = jax.tree.map(lambda *leaves: np.stack(leaves)[which], *solutions)
    take = lambda leaf: np.take_along_axis(leaf, order.reshape(*order.shape, *[1] * (leaf.ndim - 3)), 2)  # noqa: E731
    stack = jax.tree.map(take, stack)
    means = stack.means + 0.1 * rng.normal(size=stack.means.shape)
    mixture = dataclasses.replace(stack, means=means.astype(np.float32))
    mixture = jax.tree.map(jnp.asarray, mixture)
    return jaxgmm.Posterior(mixture, jnp.zeros(which.shape), PRIOR, jnp.array(0), {}, "gibbs")


def test_masses_are_shares_of_draws():
    """Two symmetric solutions, 70 % and 30 % of the draws, in all labellings: two modes of the same objective."""
    found = jaxgmm.modes(draws([0.7, 0.7]), X, num_starts=200)
    np.testing.assert_allclose(found.mass, [0.7, 0.3], atol=1e-6)
    np.testing.assert_allclose(found.mass_error, np.sqrt(0.21 / 200), rtol=1e-4)
    np.testing.assert_allclose(found.objective[0], found.objective[1], atol=0.01)
    assert (np.asarray(found.status) == jaxgmm.Status.CONVERGED).all()
    assert abs(found.mixture.means[0, :, 0]).min() > 2
    assert abs(found.mixture.means[1, :, 1]).min() > 2
    fit = jaxgmm.fit(jax.tree.map(lambda leaf: leaf[0], found.mixture), X, PRIOR)
    np.testing.assert_allclose(found.objective[0], fit.objective, atol=0.01)
    text = repr(found)
    assert "2 found" in text
    assert "70.0 %" in text


def test_weights_of_chains_count():
    posterior = draws([1.0, 0.0])
    posterior = dataclasses.replace(posterior, stats={"chain_weight": jnp.array([0.2, 0.8])})
    found = jaxgmm.modes(posterior, X, num_starts=200)
    np.testing.assert_allclose(found.mass, [0.8, 0.2], atol=1e-6)
    assert found.mass_error[0] > 0.1
    assert abs(found.mixture.means[0, :, 1]).min() > 2


def test_error_of_a_mass_is_the_larger_of_two():
    """That of independent draws if chains agree, and that between chains if they do not."""
    chain = np.repeat([0, 1], 50)
    same, apart = np.tile([True, False], 50), chain == 0
    shares = _Shares(chain, np.array([0.5, 0.5]))
    assert shares.mass(same) == pytest.approx((0.5, 0.05))
    assert shares.mass(apart) == pytest.approx((0.5, 0.5))
    one = _Shares(np.zeros(100, int), np.ones(1))
    assert one.mass(same) == pytest.approx((0.5, 0.05))


@pytest.mark.slow
def test_one_component_has_one_mode():
    prior = jaxgmm.default_prior(X, num_components=1)
    start = jaxgmm.from_labels(X, [0] * len(X), num_components=1)
    stack = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (2, 100, *leaf.shape)), start)
    stack = dataclasses.replace(stack, means=stack.means + jax.random.normal(KEY, stack.means.shape))
    posterior = jaxgmm.Posterior(stack, jnp.zeros((2, 100)), prior, jnp.array(0), {}, "gibbs")
    found = jaxgmm.modes(posterior, X)
    assert found.mass.tolist() == [1.0]
    assert found.mixture.means.shape == (1, 1, 2)


def test_an_estimate_is_found_among_modes():
    """An estimate near a mode is found without EM."""
    found = jaxgmm.modes(draws([0.7, 0.7]), X, num_starts=200)
    first = jax.tree.map(lambda leaf: leaf[0], found.mixture)
    assert find_among(found, first, float(found.objective[0]) - 0.05, X, None, PRIOR) == (0, float(found.objective[0]))


@pytest.mark.slow
def test_em_starts_from_another_estimate():
    found = jaxgmm.modes(draws([0.7, 0.7]), X, num_starts=200)
    first = jax.tree.map(lambda leaf: leaf[0], found.mixture)
    moved = dataclasses.replace(first, means=first.means + 0.3)
    place, objective = find_among(found, moved, float(found.objective[0]) - 40, X, None, PRIOR)
    assert place == 0
    assert objective == pytest.approx(float(found.objective[0]), abs=0.01)
    others = jax.tree.map(lambda leaf: leaf[1:], found)
    assert find_among(others, moved, float(found.objective[0]) - 40, X, None, PRIOR)[0] is None


def refused(case):
    """Return a posterior, the prior that is passed, and the message."""
    posterior = draws([1.0, 1.0], num_draws=4)
    if case == "no prior":
        return dataclasses.replace(posterior, prior=None), None, "posterior has no prior"
    if case == "sparse":
        return posterior, dataclasses.replace(PRIOR, weight_concentration=jnp.array([0.5, 1.0])), "0.5; MAP needs values >= 1"
    scale = jaxgmm.HalfNormal(jnp.ones(2), jnp.float32(1.0))
    prior = jaxgmm.IndependentPrior(jnp.ones(2), jnp.zeros(2), jnp.eye(2), scale)
    return posterior, prior, "HalfNormal"


@pytest.mark.parametrize("case", ["no prior", "sparse", "not conjugate"])
def test_refusals(case):
    posterior, prior, message = refused(case)
    with pytest.raises((TypeError, ValueError), match=message):
        jaxgmm.modes(posterior, X, prior)


def test_traced_draws_are_refused():
    with pytest.raises(TypeError, match="cannot be traced"):
        jax.jit(lambda posterior: jaxgmm.modes(posterior, X).mass)(draws([1.0, 1.0], num_draws=4))


@pytest.mark.slow
def test_symmetric_solutions_have_equal_mass():
    """By symmetry, each solution has half of the mass; the difference is within 5 errors, by chance outside in 6e-7."""
    posterior = jaxgmm.smc(KEY, X, PRIOR, num_components=2, num_chains=8)
    found = jaxgmm.modes(posterior, X, num_starts=2000)
    print(found)
    others = float(1 - found.mass[:2].sum())
    assert others < 0.05
    assert abs(found.mass[0] - found.mass[1]) < 5 * np.hypot(*found.mass_error[:2])
