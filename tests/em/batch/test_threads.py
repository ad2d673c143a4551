"""Programs side by side: order, the caller's 64 bits in every thread, errors, and fits that are the same on one thread."""

import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from jaxgmm.em.batch import fit_many as many
from jaxgmm.em.batch import threads as workers

from helpers import enabled_x64, random_data, random_mixture


@pytest.fixture(params=[1, 3])
def threads(request, monkeypatch):
    """On one thread, the caller's, and on several, whatever the machine has."""
    monkeypatch.setattr(workers, "num_threads", lambda: request.param)
    return request.param


def test_jobs_come_back_in_order(threads):
    """Each with its own result, on the host, some from other threads; few are begun before the first is taken."""
    begun, names = [], set()

    def jobs():
        for i in range(20):
            begun.append(i)
            yield i

    def work(i):
        names.add(threading.current_thread().name)
        return {"square": jnp.full(2, i) ** 2}

    found = []
    for job, result in workers.map_threads(work, jobs()):
        assert isinstance(result["square"], np.ndarray)
        assert len(begun) <= job + threads + 1
        found.append((job, int(result["square"][0])))
    assert found == [(i, i * i) for i in range(20)]
    assert (threading.main_thread().name in names) == (threads == 1)


def test_threads_take_the_callers_64_bits(threads):
    """Inside a context, which jax keeps by thread, and outside."""
    dtype = lambda _: jnp.ones(1) / 3  # noqa: E731
    with enabled_x64():
        assert all(result.dtype == np.float64 for _, result in workers.map_threads(dtype, range(5)))
    assert all(result.dtype == np.float32 for _, result in workers.map_threads(dtype, range(5)))


def test_an_error_is_the_callers(threads):
    """It is raised where the results are taken, and no more jobs are begun."""
    begun = []

    def work(i):
        begun.append(i)
        raise ArithmeticError(f"job {i}")

    with pytest.raises(ArithmeticError, match="job 0"):
        list(workers.map_threads(work, range(100)))
    assert len(begun) < 20


def test_fits_are_the_same_on_any_number_of_threads(monkeypatch):
    """To the last bit, where matrices are factorised by LAPACK (D = 6), several programs at a time."""
    monkeypatch.setattr(many, "batch_of_fits", lambda count, rows: (16, 16))
    xs = np.stack([random_data(seed, 64, 6, 2) for seed in range(64)]).astype(np.float32)
    starts = [random_mixture(seed, "full", 2, 6) for seed in range(64)]
    starts = jax.tree.map(lambda *leaves: np.stack(leaves), *starts)
    fits = []
    for number in (1, 4):
        monkeypatch.setattr(workers, "num_threads", lambda number=number: number)
        fits.append(jaxgmm.fit_many(starts, xs, tol=1e-4, max_iter=20, progress=False))
    for one, several in zip(*map(jax.tree.leaves, fits), strict=True):
        np.testing.assert_array_equal(one, several)
