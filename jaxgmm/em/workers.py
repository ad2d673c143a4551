"""Programs side by side on a CPU, where one program of many small operations keeps little more than one core busy."""

from __future__ import annotations

import os
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any, TypeVar

import jax
import numpy as np

_MOST = 4  # threads; two on two cores measured 1.8 times as fast as one
Job = TypeVar("Job")


def side_by_side(work: Callable[[Job], Any], jobs: Iterable[tuple[Hashable, Job]]) -> Iterator[tuple[Job, Any]]:
    """Each job and work(job), arrays as NumPy's, in the order of the jobs; few more at a time than there are threads.

    jobs: (shape, job): of those of one shape the first compiles, and the others wait for its program. Elsewhere than on a CPU
    all are sent off from the caller's thread.
    """
    threads = min(_MOST, os.cpu_count() or 1) if jax.default_backend() == "cpu" else 1
    locks: defaultdict[Hashable, threading.Lock] = defaultdict(threading.Lock)
    context = _context()
    under_way: deque[tuple[Job, Callable[[], Any]]] = deque()

    def in_thread(lock: threading.Lock, job: Job) -> Any:
        with context():
            with lock:
                result = work(job)  # sent off, not waited for
            return jax.tree.map(np.asarray, result)

    with ThreadPoolExecutor(threads) as pool:
        try:
            for shape, job in jobs:
                if threads > 1:
                    under_way.append((job, pool.submit(in_thread, locks[shape], job).result))
                else:
                    under_way.append((job, lambda result=work(job): jax.tree.map(np.asarray, result)))
                if len(under_way) > threads:
                    done, result = under_way.popleft()
                    yield done, result()
            while under_way:
                done, result = under_way.popleft()
                yield done, result()
        finally:
            pool.shutdown(cancel_futures=True)


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
