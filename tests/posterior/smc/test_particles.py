"""Particles: effective sample size, systematic resampling, exponents by bisection, and random orders of components."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgmm.posterior.smc import particles

# whole: operation by operation they compile a hundred programs
effective_size = jax.jit(particles.effective_size)
systematic_parents = jax.jit(particles.systematic_parents)


def test_effective_size():
    """The size is M for equal weights and 1 if one weight is everything; a common factor has no effect."""
    log_weights = jnp.array([[0.0, 0.0, -jnp.inf], [0.0, -jnp.inf, -jnp.inf]]).T
    assert effective_size(log_weights - 1000).tolist() == [2.0, 1.0]
    assert effective_size(jnp.full(3, -jnp.inf)) == 0


@pytest.mark.parametrize("seed", range(5))
def test_each_particle_gets_floor_or_ceil_of_its_share_of_children(seed):
    weights = np.random.default_rng(seed).gamma(0.3, size=50)
    parents = systematic_parents(jax.random.key(seed), jnp.asarray(np.log(weights)))
    children, expected = np.bincount(parents, minlength=50), 50 * weights / weights.sum()
    assert (children >= np.floor(expected - 1e-4)).all()
    assert (children <= np.ceil(expected + 1e-4)).all()
    assert jax.jit(particles.number_of_parents)(parents) == (children > 0).sum()


def test_resampling_is_unbiased():
    """Over 4000 keys, each mean number of children is within 5 standard errors: false failure under 3e-6."""
    log_weights = jnp.log(jnp.array([0.05, 0.3, 0.15, 0.5]))
    keys = jax.random.split(jax.random.key(0), 4000)
    children = jax.jit(jax.vmap(lambda key: jnp.bincount(particles.systematic_parents(key, log_weights), length=4)))(keys)
    share = np.array(4 * jnp.exp(log_weights))
    error = np.sqrt((share % 1) * (1 - share % 1) / 4000) + 1e-6
    assert (np.abs(children.mean(0) - share) < 5 * error).all()


def test_exponent_keeps_half_of_the_effective_size():
    """The exponent is the largest with this effective size; it is 1 if a whole step keeps the size."""
    log_weights = 10 * jax.random.normal(jax.random.key(0), (1000,))
    step = lambda scale, low: lambda phi: (phi - low) * scale * log_weights  # noqa: E731
    low = jnp.float32(0.01)
    found = particles.largest_exponent(step(1.0, low), low, 500)
    assert effective_size(step(1.0, low)(found)) >= 500
    assert effective_size(step(1.0, low)(found + 1e-3)) < 500
    assert particles.largest_exponent(step(1e-3, low), low, 500) == 1


def test_exponent_increases_even_if_no_step_keeps_the_size():
    found = particles.largest_exponent(lambda phi: jnp.where(jnp.arange(10) == 0, 0.0, -jnp.inf), jnp.float32(0.0), 5)
    assert 0 < found <= 1


def test_order_permutes_only_equal_concentrations():
    """Every order within the groups appears, and no component leaves its group."""
    concentration, present = jnp.array([1.0, 2.0, 1.0, 2.0, 1.0]), jnp.array([True, True, True, True, False])
    keys = jax.random.split(jax.random.key(1), 200)
    orders = np.array(jax.jit(jax.vmap(lambda key: particles.random_order(key, concentration, present)))(keys))
    assert (np.sort(orders, 1) == np.arange(5)).all()
    assert (np.array(concentration)[orders] == np.array(concentration)).all()
    assert (orders[:, 4] == 4).all()
    assert len({tuple(order) for order in orders}) == 4


def test_correlations():
    first = jnp.array([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0], [1.0, 1.0, 1.0]])
    now = jnp.array([[2.0, 4.0, 6.0], [1.0, 0.0, 1.0], [1.0, 2.0, 3.0]])
    np.testing.assert_allclose(jax.jit(particles._correlations)(first, now), [1, 0, 0], atol=1e-6)


def test_moves_end_when_no_quantity_is_correlated_or_after_the_largest_number():
    first = jnp.asarray(np.random.default_rng(0).normal(size=(2, 200)))
    effort = particles.Effort(200, 10, 3, 0.5)
    compiled = jax.jit(lambda now, count: particles.Moves(first, count).suffice(now, effort))
    suffice = lambda now, count: bool(compiled(now, count))  # noqa: E731
    assert not suffice(first, 1)
    assert not suffice(first.at[0].set(0), 1)  # one quantity is still the same
    assert suffice(first[::-1], 1)
    assert suffice(first, 3)
    assert suffice(jnp.nan * first, 1)


class Run(NamedTuple):
    moves: jax.Array
    stage: jax.Array
    finished: jax.Array
    total: jax.Array


def test_each_run_advances_by_itself():
    """Runs need 1, 2 and 3 moves a stage; the counts are those of each run alone, and finished runs do not change.

    If the runs that are ahead wait, each run gets the same random keys as if no run waited.
    """
    needed = jnp.array([1, 2, 3])

    def move(keys, runs):
        moved = runs._replace(moves=runs.moves + 1, total=runs.total + jax.vmap(jax.random.uniform)(keys))
        return moved, moved.moves % needed == 0

    def advance(keys, runs):
        return runs._replace(stage=runs.stage + 1, finished=runs.stage + 1 >= 4)

    def first_wait(runs):
        return runs.stage == jnp.where(runs.finished, 9, runs.stage).min()

    none, keys = jnp.zeros(3, int), jax.random.split(jax.random.key(0), 3)
    start = Run(none, none, jnp.zeros(3, bool), jnp.zeros(3))
    found = [particles.repeat_stages(move, advance, keys, start, lambda *_: None, turn) for turn in (None, first_wait)]
    for runs in found:
        assert runs.moves.tolist() == [4, 8, 12]
        assert runs.stage.tolist() == [4, 4, 4]
    assert found[0].total.tolist() == found[1].total.tolist()
