"""map_threads: the order of results, the caller's 64-bit setting in every thread, errors, and fits that do not depend on it."""

import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from jaxgmm.em.batch import data_sets
from jaxgmm.em.batch import threads as module
from jaxgmm.em.batch.threads import map_threads

from helpers import enabled_x64, random_data, random_mixture


@pytest.fixture(params=[1, 3])
def threads(request, monkeypatch):
    """Return the number of threads: one, which is the caller's, or several, whatever the machine has."""
    monkeypatch.setattr(module, "num_threads", lambda: request.param)
    return request.param


def test_results_are_in_order(threads):
    """Each job comes with its own result, which is ready; only a few jobs are started before the first result is taken."""
    started, names = [], set()

    def jobs():
        for i in range(20):
            started.append(i)
            yield i

    def work(i):
        names.add(threading.current_thread().name)
        return {"square": jnp.full(2, i) ** 2}

    found = []
    for job, result in map_threads(work, jobs()):
        assert result["square"].is_ready()
        assert len(started) <= job + threads + 1
        found.append((job, int(result["square"][0])))
    assert found == [(i, i * i) for i in range(20)]
    assert (threading.main_thread().name in names) == (threads == 1)


def test_threads_take_the_callers_64_bits(threads):
    """The setting of a context, which JAX keeps per thread, holds in the threads, and ends with the context."""
    third = lambda _: jnp.ones(1) / 3  # noqa: E731
    with enabled_x64():
        assert all(result.dtype == np.float64 for _, result in map_threads(third, range(5)))
    assert all(result.dtype == np.float32 for _, result in map_threads(third, range(5)))


def test_errors_reach_the_caller(threads):
    """An error is raised where the results are taken, and no more jobs are started."""
    started = []

    def work(i):
        started.append(i)
        raise ArithmeticError(f"job {i}")

    with pytest.raises(ArithmeticError, match="job 0"):
        list(map_threads(work, range(100)))
    assert len(started) < 20


def test_fits_do_not_depend_on_the_number_of_threads(monkeypatch):
    """They agree to the last bit, with several programs at a time that factorise matrices by LAPACK (D = 6)."""
    monkeypatch.setattr(data_sets, "batch_of_fits", lambda count, rows: (16, 16))
    xs = np.stack([random_data(seed, 64, 6, 2) for seed in range(64)]).astype(np.float32)
    starts = [random_mixture(seed, "full", 2, 6) for seed in range(64)]
    starts = jax.tree.map(lambda *leaves: np.stack(leaves), *starts)
    fits = []
    for number in (1, 4):
        monkeypatch.setattr(module, "num_threads", lambda number=number: number)
        fits.append(jaxgmm.fit_many(starts, xs, tol=1e-4, max_iter=20, progress=False))
    for one, several in zip(*map(jax.tree.leaves, fits), strict=True):
        np.testing.assert_array_equal(one, several)
