"""Several compiled programs at a time on a CPU, where one program of small operations keeps little more than one core busy."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from typing import TypeVar

import jax

from ...chunking import num_threads

Job = TypeVar("Job")
Result = TypeVar("Result")


def map_threads(work: Callable[[Job], Result], jobs: Iterable[Job]) -> Iterator[tuple[Job, Result]]:
    """Yield each job and work(job), whose arrays are ready, in the order of the jobs.

    Only a few more jobs are started than there are threads. One thread at a time dispatches, because dispatching may compile,
    which takes memory; programs then run at the same time. On devices other than a CPU, which need no threads, all jobs are
    dispatched from the caller's thread.
    """
    threads = num_threads()
    dispatching, context = threading.Lock(), _caller_context()

    def in_thread(job: Job) -> Result:
        with context():
            with dispatching:
                result = work(job)
            return jax.block_until_ready(result)

    with ThreadPoolExecutor(threads) as pool:

        def start(job: Job) -> Callable[[], Result]:
            return pool.submit(in_thread, job).result if threads > 1 else partial(jax.block_until_ready, work(job))

        started: deque[tuple[Job, Callable[[], Result]]] = deque()
        try:
            for job in jobs:
                started.append((job, start(job)))
                if len(started) > threads:
                    done, result = started.popleft()
                    yield done, result()
            for done, result in started:
                yield done, result()
        finally:
            pool.shutdown(cancel_futures=True)


def _caller_context() -> Callable[[], ExitStack]:
    """Return a context manager with the caller's 64-bit setting and default device, which JAX keeps per thread."""
    enable_x64 = getattr(jax, "enable_x64", None)
    if enable_x64 is None:
        from jax.experimental import enable_x64  # pyright: ignore[reportAttributeAccessIssue] (jax before 0.8)
    wide: bool = jax.config.jax_enable_x64  # pyright: ignore[reportAttributeAccessIssue] (defined at run time)
    device = jax.config.jax_default_device  # pyright: ignore[reportAttributeAccessIssue]

    def enter() -> ExitStack:
        stack = ExitStack()
        stack.enter_context(enable_x64(wide))
        stack.enter_context(jax.default_device(device))
        return stack

    return enter
