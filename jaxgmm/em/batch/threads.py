"""Programs side by side on a CPU, where one program of many small operations keeps little more than one core busy."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from typing import Any, TypeVar

import jax
import numpy as np

from ...chunking import num_threads

Job = TypeVar("Job")


def map_threads(work: Callable[[Job], Any], jobs: Iterable[Job]) -> Iterator[tuple[Job, Any]]:
    """Each job and work(job), arrays as NumPy's, in the order of the jobs; few more at a time than there are threads.

    One thread at a time sends off, and so compiles, which takes memory; none holds the others up while its program runs.
    Elsewhere than on a CPU all are sent off from the caller's thread.
    """
    threads = num_threads()
    sending, context = threading.Lock(), _context()

    def in_thread(job: Job) -> Any:
        with context():
            with sending:
                result = work(job)
            return _on_host(result)

    with ThreadPoolExecutor(threads) as pool:

        def start(job: Job) -> Callable[[], Any]:
            return pool.submit(in_thread, job).result if threads > 1 else partial(_on_host, work(job))

        under_way: deque[tuple[Job, Callable[[], Any]]] = deque()
        try:
            for job in jobs:
                under_way.append((job, start(job)))
                if len(under_way) > threads:
                    done, result = under_way.popleft()
                    yield done, result()
            for done, result in under_way:
                yield done, result()
        finally:
            pool.shutdown(cancel_futures=True)


def _on_host(result: Any) -> Any:
    return jax.tree.map(np.asarray, result)


def _context() -> Callable[[], ExitStack]:
    """The caller's own choices of 64 bits and device, which jax keeps by thread, for another thread."""
    enable_x64 = getattr(jax, "enable_x64", None)
    if enable_x64 is None:
        from jax.experimental import enable_x64
    wide, device = jax.config.jax_enable_x64, jax.config.jax_default_device

    def enter() -> ExitStack:
        stack = ExitStack()
        stack.enter_context(enable_x64(wide))
        stack.enter_context(jax.default_device(device))
        return stack

    return enter
