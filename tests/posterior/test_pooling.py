"""pool: equal chains one after another, unequal chains in proportion to their weights, the same inside jit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from jaxgmm.posterior.pooling import pool


def test_chains_without_weights_are_joined():
    draws = {"a": np.arange(12.0).reshape(2, 3, 2)}
    np.testing.assert_array_equal(pool(draws, {})["a"], np.arange(12.0).reshape(6, 2))


@pytest.mark.parametrize("seed", range(5))
def test_number_of_draws_is_the_weight_rounded_up_or_down(seed):
    weight = np.random.default_rng(seed).dirichlet(np.ones(4))
    pooled = pool(np.repeat(np.arange(4)[:, None], 50, 1), {"chain_weight": weight})
    counts = np.bincount(pooled, minlength=4)
    assert counts.sum() == 200
    assert (abs(counts - 200 * weight) < 1 + 1e-9).all()


def test_draws_of_a_chain_appear_equally_often():
    """Repetitions of two draws of a chain differ by at most one."""
    numbers = np.arange(200).reshape(4, 50)
    pooled = pool(numbers, {"chain_weight": np.array([0.7, 0.0, 0.1, 0.2])})
    counts = np.bincount(pooled, minlength=200).reshape(4, 50)
    assert (np.ptp(counts, axis=1) <= 1).all()
    traced = jax.jit(lambda draws, weight: pool(draws, {"chain_weight": weight}))(numbers, jnp.array([0.7, 0.0, 0.1, 0.2]))
    np.testing.assert_array_equal(np.bincount(traced, minlength=200).reshape(4, 50), counts)


def test_averages_over_draws_use_the_weights():
    """The predictive density and the printed table are those of the only chain that has weight."""
    one = jaxgmm.make_mixture([1.0], [[0.0]], [[[1.0]]])
    two = jaxgmm.make_mixture([1.0], [[5.0]], [[[1.0]]])
    mixture = jax.tree.map(lambda *leaves: jnp.broadcast_to(jnp.stack(leaves)[:, None], (2, 4, *leaves[0].shape)), one, two)
    stats = {"chain_weight": jnp.array([0.0, 1.0])}
    posterior = jaxgmm.Posterior(mixture, jnp.zeros((2, 4)), None, jnp.array(0), stats)
    expected = float(jaxgmm.log_prob(two, [[5.0]])[0])
    assert float(jaxgmm.predictive_log_prob(posterior, [[5.0]])[0]) == pytest.approx(expected, abs=1e-5)
    assert float(jaxgmm.diagnose(posterior)["label_invariant"]["overall_mean"]["mean"][0]) == 5
