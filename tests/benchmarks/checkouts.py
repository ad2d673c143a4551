"""Compare the speed of two checkouts of jaxgmm: the same work in two processes, taking turns.

    python tests/benchmarks/checkouts.py OLD NEW [speed] [batch] [ragged] [select] [ess] [many]        (without a name: all)

OLD and NEW are folders that contain the package. Each section is one kind of work through public names only: `speed` ten EM
steps at six sizes and in two dtypes, `batch` and `ragged` many data sets, `select` a sweep of models, `ess` and `many` the
samplers. A line gives the median seconds of each checkout, the ratio NEW / OLD of the medians with the range of the ratios of
single turns, and the seconds of the first call, which compiles.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial

SIZES = [(1_000, 2, 3), (10_000, 4, 8), (100_000, 2, 5), (100_000, 8, 16), (50_000, 32, 16), (20_000, 64, 10)]
SECTIONS = ("speed", "batch", "ragged", "select", "ess", "many")
Work = tuple[str, Callable[[int], object]]


def speed() -> Iterator[Work]:
    """Yield ten plain EM steps from random rows, at each size and in both dtypes."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    import jaxgmm

    for dtype in (np.float64, np.float32):
        with jax.enable_x64(dtype == np.float64):
            for n, d, k in SIZES:
                rng = np.random.default_rng(0)
                centers = rng.normal(size=(k, d)) * 2
                x = (centers[rng.integers(k, size=n)] + rng.normal(size=(n, d))).astype(dtype)
                identity = np.stack([np.eye(d, dtype=dtype)] * k)
                start = jaxgmm.make_mixture(np.full(k, 1 / k, dtype), x[rng.choice(n, k, replace=False)], identity)
                rows = jnp.asarray(x)
                yield (
                    f"{n} x {d}, K={k}, {dtype.__name__}",
                    lambda _, start=start, rows=rows: jaxgmm.fit(start, rows, tol=0.0, max_iter=10),
                )


def batch() -> Iterator[Work]:
    """Yield a thousand easy data sets of one length."""
    import jax.numpy as jnp
    import numpy as np

    import jaxgmm

    x = jnp.asarray(np.stack(clusters(np.full(1000, 400), 2, 2)))
    starts = first_rows(list(np.asarray(x)), 2)
    yield "1000 x 400 x 2, K=2", lambda _: jaxgmm.fit_many(starts, x, tol=1e-3, history=False, progress=False)


def ragged() -> Iterator[Work]:
    """Yield ten thousand data sets whose lengths are log-uniform from 50 to 2000."""
    import numpy as np

    import jaxgmm

    lengths = np.exp(np.random.default_rng(1).uniform(np.log(50), np.log(2000), 10_000)).astype(int)
    xs = clusters(lengths, 3, 3)
    starts = first_rows(xs, 3)
    yield "10 000 ragged, K=3", lambda _: jaxgmm.fit_many(starts, xs, tol=1e-3, history=False, progress=False)


def select() -> Iterator[Work]:
    """Yield the sweep over K = 1 to 9 and four covariance types on faithful."""
    import jax
    import numpy as np

    import jaxgmm

    x = jaxgmm.datasets.load("faithful").astype(np.float32)

    def run(seed: int) -> list:
        found = jaxgmm.select(jax.random.key(seed), x, tol=1e-3, max_iter=100, progress=False)
        return [cell.fit.objective for cell in found.cells.values()]

    yield "select on faithful", run


def ess() -> Iterator[Work]:
    """Yield `nuts` and `gibbs` on faithful, 1000 draws from each chain; the same key in both checkouts."""
    import jax
    import numpy as np

    import jaxgmm

    x = np.asarray(jaxgmm.datasets.load("faithful"), np.float32)
    prior = jaxgmm.default_prior(x, num_components=2)
    start = jaxgmm.fit_restarts(jax.random.key(0), x, prior, num_components=2).mixture
    for name, chains in (("nuts", 4), ("gibbs", 64)):
        sampler = getattr(jaxgmm, name)
        run = partial(sampler, start=start, x=x, prior=prior, num_chains=chains)
        yield f"{name} {chains} x 1000", lambda seed, run=run: run(jax.random.key(seed))


def many() -> Iterator[Work]:
    """Yield `nuts` and `gibbs` on 64 data sets of 200 x 2 in one vmapped call."""
    import jax
    import numpy as np

    import jaxgmm

    rng = np.random.default_rng(0)
    xs = (rng.normal(size=(64, 200, 2)) + 4 * rng.integers(2, size=(64, 200, 1))).astype(np.float32)
    keys = jax.random.split(jax.random.key(0), 64)
    priors = jax.vmap(lambda x: jaxgmm.default_prior(x, num_components=2))(xs)
    starts = jaxgmm.fit_many(keys[0], xs, priors, num_components=2, progress=False).mixture
    for name in ("nuts", "gibbs"):
        run = jax.jit(jax.vmap(partial(getattr(jaxgmm, name), num_samples=1000, num_chains=4)))
        yield f"{name} on 64 data sets", lambda _, run=run: run(keys, starts, xs, priors)


def clusters(lengths: object, d: int, k: int) -> list:
    """Return data sets of k unit normals 4 apart along the first axis."""
    import numpy as np

    rng = np.random.default_rng(0)
    return [
        (rng.normal(size=(n, d)) + 4.0 * rng.integers(k, size=n)[:, None] * np.eye(d)[0]).astype(np.float32) for n in lengths
    ]


def first_rows(xs: list, k: int) -> object:
    """Return a start for each data set: its first k rows as means, unit covariances."""
    import numpy as np

    import jaxgmm

    size, d = len(xs), xs[0].shape[1]
    identity = np.broadcast_to(np.eye(d, dtype=np.float32), (size, k, d, d))
    return jaxgmm.make_mixture(np.full((size, k), 1 / k, np.float32), np.stack([x[:k] for x in xs]), identity)


def work(section: str) -> None:
    """Run the work of a section on request: a line with a seed on stdin gives a line with the seconds on stdout."""
    import jax

    warnings.simplefilter("ignore")
    for name, run in globals()[section]():
        print(name, flush=True)
        while (line := sys.stdin.readline().strip()) not in ("", "next"):
            begin = time.perf_counter()
            jax.block_until_ready(run(int(line)))
            print(time.perf_counter() - begin, flush=True)
    print("end", flush=True)


def compare(section: str, folders: list[str], repeats: int) -> None:
    """Print a line for each piece of work of a section."""
    workers = [
        subprocess.Popen(
            [sys.executable, __file__, "--work", section],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": folder},
        )
        for folder in folders
    ]

    def ask(worker: subprocess.Popen, word: str) -> None:
        assert worker.stdin is not None
        worker.stdin.write(f"{word}\n")
        worker.stdin.flush()

    def answer(worker: subprocess.Popen) -> str:
        assert worker.stdout is not None
        return worker.stdout.readline().strip()

    while (names := [answer(worker) for worker in workers])[0] not in ("", "end"):
        times: list[list[float]] = [[], []]
        for turn in range(repeats + 1):
            for worker, own in list(zip(workers, times, strict=True))[:: 1 if turn % 2 else -1]:
                ask(worker, str(turn))
                own.append(float(answer(worker)))
        for worker in workers:
            ask(worker, "next")
        (first_old, *old), (first_new, *new) = times
        ratios = [b / a for a, b in zip(old, new, strict=True)]
        print(
            f"{section}: {names[0]}: old {statistics.median(old):.4g} s, new {statistics.median(new):.4g} s, ratio "
            f"{statistics.median(new) / statistics.median(old):.3f} ({min(ratios):.2f} to {max(ratios):.2f}); first call "
            f"{first_old:.1f} s, {first_new:.1f} s",
            flush=True,
        )


def main() -> None:
    """Compare the sections named, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("arguments", nargs="*", metavar="OLD NEW [SECTION ...]")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--work", choices=SECTIONS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(options.work)
        return
    old, new, *sections = options.arguments
    for section in sections or SECTIONS:
        compare(section, [old, new], options.repeats)


if __name__ == "__main__":
    main()
