"""The race between candidates for a start: short runs, their order, and variants in which one component begins anew."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from jaxgmm.em.initialization import StartOptions
from jaxgmm.em.problem import EMProblem, prepare
from jaxgmm.em.restart_starts import restart_starts
from jaxgmm.em.start_race import _order, _Runs, _short_run, _swap_component, race

from helpers import TWO_COVARIANCE_TYPES, assert_mixtures_close, log_prior, log_prob, random_data, random_prior

X = random_data(0, n=60, d=2, k=3)


def starts_of(covariance_type="full"):
    """Four starts for the data."""
    options = StartOptions(3, covariance_type, "k-means++")
    return restart_starts(jax.random.key(0), jnp.asarray(X), jnp.ones(60), options, 4)


@jax.jit
def winner_of(stack, x):
    """The start that wins the race between the starts of a stack."""
    problem = prepare(stack, EMProblem(x, jnp.ones(len(x)), None, None), jnp.asarray(1e-5))
    winner = race(jax.random.key(0), problem.start, problem, 1)
    winner = jax.tree.map(lambda leaf: leaf[0], winner)
    return dataclasses.replace(winner, means=winner.means + problem.center)


def test_the_race_keeps_the_best_sound_start(x64):
    """A start at a sound optimum wins against worse ones and against a spike, whose likelihood is larger."""
    starts = starts_of()
    fits = [jaxgmm.fit(starts[i], X) for i in range(4)]
    best = jax.tree.map(np.array, max(fits, key=lambda fit: float(fit.objective)).mixture)
    spike = jax.tree.map(np.copy, best)
    spike.means[0], spike.covariances[0] = X[0], 1e-9 * np.eye(2)
    poor = dataclasses.replace(best, means=best.means[:, ::-1])
    stack = jax.tree.map(lambda *leaves: np.stack(leaves), spike, poor, poor, spike, poor, poor, best, spike)

    assert_mixtures_close(winner_of(stack, jnp.asarray(X)), best, 1e-2)


def test_the_race_takes_the_prior_into_account(x64):
    """Runs are ranked by the objective of the fits, which is the log-likelihood plus the log prior density."""
    prior = random_prior(1, "full", k=3, d=2)
    starts = starts_of()

    @jax.jit
    def run(starts, x):
        problem = prepare(starts, EMProblem(x, jnp.ones(60), prior, None), jnp.asarray(1e-5))
        return jax.vmap(lambda start: _short_run(start, jnp.array(1), problem))(problem.start)

    expected = log_prob(starts, X).sum(1) + log_prior(starts, prior)
    np.testing.assert_allclose(run(starts, X).objective, expected, rtol=1e-10)


def test_order_of_runs():
    """Sound runs come first, and of several with the same end only the first; then repeats, those left out, unsound runs."""
    score = jnp.array([3.0, 5.0, 5.1, jnp.nan, 9.0, 4.0, 7.0])
    degenerate = (jnp.arange(7) // 3 == 1).at[5].set(False)[:, None] & jnp.array([False, True])
    order = _order(_Runs(None, score, degenerate), jnp.arange(7) < 6, jnp.asarray(0.2))
    np.testing.assert_array_equal(order, [1, 5, 0, 2, 6, 4, 3])


def test_variants_lead_from_a_poor_solution_to_the_best(x64):
    """If all starts are at one poor optimum, a variant in which one component begins anew reaches the best."""
    rng = np.random.default_rng(0)
    x = jnp.asarray(np.concatenate([rng.normal(center, 1, (20, 1)) for center in (0, 8, 30)]))
    labels = np.repeat([0, 0, 1], 20)
    labels[40:50] = 2  # two components share the third cluster
    poor = jaxgmm.fit(jaxgmm.from_labels(x, labels, num_components=3), x)
    best = jaxgmm.fit(jaxgmm.from_labels(x, np.repeat([0, 1, 2], 20), num_components=3), x)
    assert poor.objective < best.objective - 5
    stack = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (8, *leaf.shape)), poor.mixture)
    assert log_prob(winner_of(stack, x), x).sum() > best.objective - 0.1


@pytest.mark.parametrize("covariance_type", [*TWO_COVARIANCE_TYPES, "tied"])
def test_a_component_begins_anew_at_a_row(covariance_type, x64):
    """One component moves to a row and shares the weight there; another one, or a shared covariance, does not change."""
    start = jaxgmm.initialize(jax.random.key(0), X, num_components=3, covariance_type=covariance_type)
    start = dataclasses.replace(start, weights=jnp.array([0.5, 0.3, 0.2]))
    problem = prepare(start, EMProblem(jnp.asarray(X), jnp.ones(60), None, None), jnp.asarray(1e-5))
    old = problem.start
    swap = jax.jit(lambda degenerate, numbers: _swap_component(_Runs(old, jnp.array(0.0), degenerate), numbers, problem))
    none = jnp.zeros(3, bool)
    for numbers in np.random.default_rng(0).uniform(size=(20, 3)):
        new = swap(none, jnp.asarray(numbers))
        (moved,) = np.flatnonzero((new.means != old.means).any(-1))
        row = X[int(60 * numbers[0])]
        np.testing.assert_allclose(new.means[moved] + problem.center, row)
        np.testing.assert_allclose(new.weights.sum(), 1)
        split = int(jaxgmm.predict(start, row[None])[0])
        assert moved != split
        assert new.weights[moved] == new.weights[split]
        if covariance_type == "tied":
            np.testing.assert_array_equal(new.covariances, old.covariances)
        else:
            ratio = new.covariances[moved] / old.covariances[split]
            np.testing.assert_allclose(ratio, jnp.exp(-3 * numbers[2]))
        other = next(j for j in range(3) if j != split)
        chosen = swap(none.at[jnp.array([other, split])].set(True), jnp.asarray(numbers))
        np.testing.assert_allclose(chosen.means[other] + problem.center, row)


def test_absent_and_single_components_stay():
    """A component of weight 0 never moves, and nothing changes if no component may move."""
    x = jnp.asarray(X, jnp.float32)
    start = jaxgmm.make_mixture([0.0, 1.0], x[:2], np.eye(2) * np.ones((2, 1, 1)))
    problem = prepare(start, EMProblem(x, jnp.ones(60), None, None), jnp.asarray(1e-5))
    run = _Runs(problem.start, jnp.array(0.0), jnp.ones(2, bool))
    assert_mixtures_close(_swap_component(run, jnp.array([0.3, 0.6, 0.9]), problem), problem.start, 0)
