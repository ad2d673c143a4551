"""evidence_proposal: seeds from draws and given modes, and the proposal at the modes found from them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from jaxgmm.posterior.evidence.coordinates import Coordinates
from jaxgmm.posterior.evidence.labellings import make_labellings
from jaxgmm.posterior.evidence.proposal import choose_seeds, first_proposal
from jaxgmm.posterior.standardization import from_standard, standardise
from jaxgmm.posterior.unconstrained_space import make_unconstrained_space

from helpers import two_groups

choose = jax.jit(choose_seeds, static_argnums=4)


@pytest.fixture
def groups(x64):
    """Return the problem of two groups, and a posterior of three draws, of which the second has the largest density."""
    x, start, prior = two_groups(0, 60, 1, "full", np.float64)
    draws = jax.tree.map(lambda leaf: jnp.stack([leaf, 1.01 * leaf, leaf])[None], start)
    posterior = jaxgmm.Posterior(draws, jnp.array([[-5.0, -1.0, jnp.nan]]), prior, jnp.array(0), {})
    return jax.jit(standardise, static_argnums=3)(jnp.asarray(x), None, prior, "full"), posterior, start


def test_seeds_are_the_best_draw_others_modes_and_emptied_ones(groups):
    """The best draw comes first; a given mode and one seed for each component, which has weight 0 there, are added."""
    problem, posterior, start = groups
    mode = jax.tree.map(lambda leaf: leaf[None], start)
    seeds = choose(jax.random.key(0), posterior, mode, problem, 3)
    assert seeds.mixtures.batch_shape == (3 + 1 + 2,)
    assert float(seeds.log_density) == -1
    best = jax.jit(lambda mixtures, problem: from_standard(mixtures[0], problem))(seeds.mixtures, problem)
    np.testing.assert_allclose(best.means, posterior.mixture.means[0, 1])
    np.testing.assert_allclose(seeds.checked.means, posterior.mixture.means[0, 1])
    assert (seeds.mixtures.weights[:4] > 0).all()
    np.testing.assert_allclose(seeds.mixtures.weights.sum(-1), 1)
    for k, seed in enumerate((4, 5)):
        assert float(seeds.mixtures.weights[seed, k]) == 0


@jax.jit
def proposed(seeds, problem):
    """Return the first proposal, and the gradient of the potential at the centre of its first part."""
    space = make_unconstrained_space(problem, seeds[0])
    coordinates = Coordinates(space, problem)
    labellings = make_labellings(space, coordinates, seeds[0], problem.prior.weight_concentration)
    proposal = first_proposal(space, coordinates, labellings, seeds, problem)
    return proposal, jax.grad(space.potential)(proposal.center[0])


def test_parts_are_at_the_modes(groups):
    """The gradient of the potential vanishes at the centre of the part that the best draw leads to."""
    problem, posterior, _ = groups
    seeds = choose(jax.random.key(0), posterior, None, problem, 1).mixtures
    proposal, gradient = proposed(seeds, problem)
    assert proposal.center.shape == (3, jaxgmm.num_parameters(seeds))
    step = proposal.scale[0] @ gradient
    assert float(gradient @ step) / 2 < 1e-3  # nats that another Newton step would gain
    np.testing.assert_allclose(jnp.exp(proposal.log_weight).sum(), 1)


def test_a_seed_without_density_gets_almost_no_weight(groups):
    """It keeps its part of the evenly spread tenth, at the origin and with scale I."""
    problem, posterior, _ = groups
    seeds = choose(jax.random.key(0), posterior, None, problem, 1).mixtures
    broken = jax.tree.map(lambda leaf: leaf.at[1].set(jnp.nan), seeds)
    proposal, _ = proposed(broken, problem)
    np.testing.assert_allclose(jnp.exp(proposal.log_weight[1]), 0.1 / 3, rtol=1e-6)
    np.testing.assert_array_equal(proposal.center[1], 0)
    np.testing.assert_array_equal(proposal.scale[1], np.eye(proposal.center.shape[1]))
