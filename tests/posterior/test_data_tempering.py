"""Rows enter particles: order, padding, effective size, exponents."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from jaxgmm.posterior.conditionals import gibbs_state
from jaxgmm.posterior.data_tempering import Effort, _in_random_order, _let_rows_enter, _start, log_likelihoods
from jaxgmm.posterior.particle_moves import Problem
from jaxgmm.posterior.particles import effective_size
from jaxgmm.row_sums import FirstRows

let_rows_enter = jax.jit(_let_rows_enter, static_argnums=2)  # eagerly, its loops compile anew in each call
M = 50
X = jnp.asarray(np.random.default_rng(0).normal(size=(40, 1)), jnp.float32)
PRIOR = jaxgmm.Prior(*(jnp.asarray(v, jnp.float32) for v in ([1.0, 1.0], [0.0], 0.5, 4.0, [[2.0]])))


def problem(y=X, weight=None):
    return Problem(y, weight, PRIOR, jnp.ones(2, bool))


def particles():
    """Return draws from the prior."""
    draws = jaxgmm.sample_prior(jax.random.key(1), PRIOR, num_components=2, covariance_type="full", num_samples=M)
    return draws, jax.vmap(gibbs_state)(draws)


def test_order_does_not_depend_on_padding():
    """Rows of weight 0 come last, so rows of padding never come before rows of data."""
    padded = jnp.concatenate([X, jnp.full((8, 1), 9.0)])
    key = jax.random.key(0)
    in_random_order = jax.jit(_in_random_order)
    one = in_random_order(key, problem()).y
    two = in_random_order(key, problem(padded, FirstRows(jnp.array(40)))).y
    np.testing.assert_array_equal(one, two[:40])
    assert (two[40:] == 9).all()
    weight = (jnp.arange(40) % 2).astype(jnp.float32)
    three = in_random_order(key, problem(X, weight))
    assert (three.weight[:20] == 1).all()
    assert (three.weight[20:] == 0).all()


@pytest.mark.parametrize("weights", [None, 3.0])
def test_as_many_rows_enter_as_keep_half_of_the_size(weights):
    """The weights are the likelihoods of these rows; one row more would take the size below one half."""
    draws, state = particles()
    weight = None if weights is None else jnp.full(40, weights)
    run = _start(problem(X, weight), "full", Effort(M, 10, 2, 0.5))._replace(state=state)
    log_weights, entered, exponent = let_rows_enter(run, problem(X, weight), "full")
    count = int(entered)
    terms = np.asarray(jaxgmm.log_prob(draws, X)) * (1 if weights is None else weights)  # (M, N)
    assert effective_size(log_weights) >= M / 2 * (1 - 1e-5)  # up to rounding
    if count:
        np.testing.assert_allclose(log_weights, terms[:, :count].sum(1), rtol=1e-4, atol=1e-4)
        assert exponent == 0
        assert effective_size(jnp.asarray(terms[:, : count + 1].sum(1))) < M / 2
    else:
        assert 0 < exponent < 1


def test_a_far_row_enters_by_powers():
    """The exponents increase until the row has entered, and the weights add up to its likelihood."""
    draws, state = particles()
    far = jnp.full((1, 1), 30.0)
    run = _start(problem(far), "full", Effort(M, 10, 2, 0.5))._replace(state=state)
    total, exponents = 0, []
    while int(run.entered) == 0:
        log_weights, entered, exponent = let_rows_enter(run, problem(far), "full")
        run, total = run._replace(entered=entered, exponent=exponent), total + log_weights
        exponents.append(float(exponent))
    assert len(exponents) > 2
    assert exponents[:-1] == sorted(exponents[:-1])
    assert exponents[-1] == 0
    np.testing.assert_allclose(total, jaxgmm.log_prob(draws, far)[:, 0], rtol=1e-3)


def test_log_likelihoods_of_particles():
    draws, state = particles()
    weight = jnp.arange(40.0) % 3
    found = log_likelihoods(state, problem(X, weight), "full")
    np.testing.assert_allclose(found, jaxgmm.log_prob(draws, X) @ weight, rtol=1e-4)
