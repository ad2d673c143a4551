"""Run several compiled programs at the same time on a CPU, with one thread for each program.

A program of small operations uses little more than one CPU core. If several programs run at the same time, they use all cores.
"""

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
    """Yield each job with its finished result work(job), in the order of the jobs.

    The number of jobs in progress exceeds the number of threads by at most one. Only one thread at a time calls `work`, because
    this call may compile a program, which takes memory. `work` returns before its program has finished, so the programs of
    several jobs run at the same time. Devices other than a CPU need no threads: there the caller's thread calls `work` for all
    jobs.
    """
    threads = num_threads()
    dispatching, context = threading.Lock(), caller_context()

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


def caller_context() -> Callable[[], ExitStack]:
    """Return a function that sets the caller's 64-bit mode and device in another thread, because JAX stores both by thread."""
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
