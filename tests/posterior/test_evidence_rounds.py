"""evidence_rounds: ratios and shares of the points of all rounds."""

import jax
import jax.numpy as jnp
import numpy as np

import jaxgmm
from jaxgmm.posterior.evidence_proposal import choose_seeds
from jaxgmm.posterior.evidence_rounds import ROUNDS, Points, log_ratios
from jaxgmm.posterior.standardization import standardise, to_standard

from helpers import two_groups


def test_ratios_of_draws_do_not_depend_on_the_labels(x64):
    """A draw and its copy with exchanged components have the same ratio. Shares of all parts sum to 1."""
    x, start, prior = two_groups(0, 30, 1, "full", np.float64)
    problem = standardise(jnp.asarray(x), None, prior, "full")
    draws = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf[::-1], 1.02 * leaf]), start)
    posterior = jaxgmm.Posterior(jax.tree.map(lambda leaf: leaf[None], draws), jnp.zeros((1, 3)), prior, jnp.array(0), {})
    standard = jax.vmap(lambda mixture: to_standard(mixture, problem))(draws)

    @jax.jit
    def run(key):
        seeds = choose_seeds(key, posterior, None, problem, 1).mixtures
        return log_ratios(key, Points(seeds, np.arange(len(seeds.weights)), standard), problem, 64)

    found = run(jax.random.key(0))
    assert found.of_samples.shape == (64 * ROUNDS,)
    assert found.of_draws.shape == (3,)
    np.testing.assert_allclose(found.of_draws[0], found.of_draws[1], rtol=1e-9)
    assert found.of_draws[2] != found.of_draws[0]
    np.testing.assert_allclose(found.shares_of_samples.sum(1), 1, rtol=1e-9)
    np.testing.assert_allclose(found.shares_of_draws.sum(1), 1, rtol=1e-9)
