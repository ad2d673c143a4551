"""Rows enter particles: order, padding, effective size, exponents."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from jaxgmm.posterior.conditionals import gibbs_state
from jaxgmm.posterior.smc import data_tempering
from jaxgmm.posterior.smc.data_tempering import Place, _in_random_order, _let_rows_enter, _log_density_of_rows
from jaxgmm.posterior.smc.moves import Problem
from jaxgmm.posterior.smc.particles import effective_size
from jaxgmm.row_sums import FirstRows

let_rows_enter = jax.jit(_let_rows_enter, static_argnums=3)  # eagerly, its loops compile anew in each call
log_density_of_rows = jax.jit(_log_density_of_rows, static_argnums=4)
log_likelihoods = jax.jit(data_tempering.log_likelihoods, static_argnums=2)
BEGIN = Place(jnp.array(0), jnp.zeros(()))
M = 50
X = jnp.asarray(np.random.default_rng(0).normal(size=(40, 1)), jnp.float32)
PRIOR = jaxgmm.Prior(*(jnp.asarray(v, jnp.float32) for v in ([1.0, 1.0], [0.0], 0.5, 4.0, [[2.0]])))


def problem(y=X, weight=None):
    return Problem(y, weight, PRIOR, jnp.ones(2, bool))


def particles():
    """Return draws from the prior."""
    draws = jaxgmm.sample_prior(jax.random.key(1), PRIOR, num_components=2, covariance_type="full", num_samples=M)
    return draws, jax.jit(jax.vmap(gibbs_state))(draws)


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
    log_weights, (entered, exponent) = let_rows_enter(state, BEGIN, problem(X, weight), "full")
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
    place, total, exponents = BEGIN, 0, []
    while int(place.entered) == 0:
        log_weights, new = let_rows_enter(state, place, problem(far), "full")
        increase = log_density_of_rows(state, place, new, problem(far), "full")
        np.testing.assert_allclose(increase, log_weights, rtol=1e-3, atol=1e-3)
        place, total = new, total + log_weights
        exponents.append(float(place.exponent))
    assert len(exponents) > 2
    assert exponents[:-1] == sorted(exponents[:-1])
    assert exponents[-1] == 0
    np.testing.assert_allclose(total, jaxgmm.log_prob(draws, far)[:, 0], rtol=1e-3)


def test_log_density_of_rows_between_two_places():
    """Of the rows after the first five, and of parts of the sixth and of the 31st row."""
    draws, state = particles()
    weight = jnp.arange(40.0) % 3 + 1
    start, end = (Place(jnp.array(n), jnp.float32(phi)) for n, phi in ((5, 0.3), (30, 0.6)))
    found = log_density_of_rows(state, start, end, problem(X, weight), "full")
    powers = log_joint_of_parts(draws, X)
    part = lambda n, phi: weight[n] * jax.nn.logsumexp(powers(n, phi), -1)  # noqa: E731
    expected = jaxgmm.log_prob(draws, X)[:, 5:30] @ weight[5:30] - part(5, 0.3) + part(30, 0.6)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def log_joint_of_parts(draws, x):
    """Return a function of a row and an exponent phi that returns log(w_k N(x | k)^phi) for each draw, (M, 2)."""
    variance = draws.covariances[..., 0, 0]
    return lambda n, phi: jnp.log(draws.weights) + phi * jax.scipy.stats.norm.logpdf(x[n], draws.means[..., 0], variance**0.5)


def test_log_likelihoods_of_particles():
    draws, state = particles()
    weight = jnp.arange(40.0) % 3
    found = log_likelihoods(state, problem(X, weight), "full")
    np.testing.assert_allclose(found, jaxgmm.log_prob(draws, X) @ weight, rtol=1e-4)
