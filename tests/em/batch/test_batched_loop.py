"""The batched loop: every width of sub-batches, batches that are not full, and histories agree with single fits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from jaxgmm.em.batch.batched_loop import batch_axes, fit_batch
from jaxgmm.em.loop import Options
from jaxgmm.em.problem import EMProblem

from helpers import enabled_x64, slow_unless

SIZE, N, TOL, MAX_ITER = 8, 40, 1e-6, 150


@pytest.fixture(scope="module")
def problems():
    """Return starts and data sets that need different numbers of steps, and their single fits, in float64."""
    with enabled_x64():
        rng = np.random.default_rng(0)
        gaps = np.array([4, 1, 3, 2, 0.5, 2.5, 1.5, 3.5])[:, None, None]  # small enough that EM reaches no fixed point
        x = jnp.asarray(rng.normal(size=(SIZE, N, 1)) + gaps * rng.integers(2, size=(SIZE, N, 1)))
        starts = [jaxgmm.from_labels(one, (one[:, 0] > one.mean()).astype(int), num_components=2) for one in x]
        starts = jax.tree.map(lambda *leaves: jnp.stack(leaves), *starts)
        single = jax.jit(lambda start, one: jaxgmm.fit(start, one, tol=TOL, max_iter=MAX_ITER))
        fits = [single(starts[b], x[b]) for b in range(SIZE)]
    return starts, EMProblem(x, None, None, None), fits


@pytest.mark.parametrize("width", slow_unless((1, 4, 8), (1, 4)))
@pytest.mark.parametrize("count", [3, 8])
def test_every_width_gives_the_single_fits(problems, width, count, x64):
    """The first `count` results have the status, steps, parameters and history of single fits."""
    starts, problem, fits = problems
    found = fit_batch(starts, problem, jnp.array(TOL), jnp.array(count), Options(MAX_ITER, False, None), width)
    assert len(set(np.asarray(found.num_iter[:count]).tolist())) > 2
    for b, alone in enumerate(fits[:count]):
        assert (int(found.status[b]), int(found.num_iter[b])) == (int(alone.status), int(alone.num_iter))
        np.testing.assert_allclose(found.mixture.means[b], alone.mixture.means, rtol=1e-10)
        np.testing.assert_allclose(found.history[b], alone.history, rtol=1e-10)


@pytest.mark.parametrize("max_iter", slow_unless((0, 1, 7, 8, 9, 17), (9,)))
def test_any_number_of_steps(problems, max_iter, x64):
    """max_iter is reached exactly, whether or not it is a multiple of the steps of a round."""
    starts, problem, _ = problems
    found = fit_batch(starts, problem, jnp.array(0.0), jnp.array(SIZE), Options(max_iter, False, None), 4)
    assert found.history.shape == (SIZE, max_iter + 1)
    np.testing.assert_array_equal(found.num_iter, max_iter)
    assert bool(jnp.isfinite(found.history).all())
    np.testing.assert_array_equal(found.history[:, -1], found.objective)


@pytest.mark.slow
def test_history_can_be_omitted(problems, x64):
    """Without a history the other fields do not change; by default, `test_inside_jit` of fit_many omits it."""
    starts, problem, _ = problems
    both = [
        fit_batch(starts, problem, jnp.array(TOL), jnp.array(SIZE), Options(MAX_ITER, False, None, history), 8)
        for history in (True, False)
    ]
    assert both[1].history.shape == (SIZE, 0)
    np.testing.assert_array_equal(both[0].num_iter, both[1].num_iter)
    # the two programs may round differently
    np.testing.assert_allclose(both[0].mixture.means, both[1].mixture.means, rtol=1e-12)


def test_axes():
    """Fields that are stacked and fields that are shared are told apart by their number of axes."""
    x, weight = jnp.ones((3, 5, 2)), jnp.ones((3, 5))
    prior = jaxgmm.default_prior(np.random.default_rng(0).normal(size=(9, 2)), num_components=2)
    stacked = jax.tree.map(lambda leaf: jnp.stack([leaf] * 3), prior)
    assert batch_axes(EMProblem(x, weight, stacked, None)) == (0, 0, 0, None, None)
    assert batch_axes(EMProblem(x[0], weight[0], prior, jnp.array(0.1))) == (None, None, None, None, None)
    assert batch_axes(EMProblem(x[0], weight, None, None)) == (None, 0, None, None, None)
    assert batch_axes(EMProblem(x, None, None, None)) == (0, None, None, None, None)
