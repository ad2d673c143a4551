"""Measure how time and memory grow with each size of a problem, and EM with many components against scikit-learn and k-means.

    python tests/benchmarks/growth.py [growth] [components]        (without a name: both)

growth: seconds of an EM step for N, D and K, of a fit for B data sets, and of a call for draws and chains of Gibbs and NUTS,
    with the memory that a call adds at its peak (Linux only) and the exponent from one size to the next.
components: an EM step with K=1024 and D=128, as for embeddings, beside scikit-learn's step and beside one assignment of k-means
    in NumPy, which is a lower bound for the arithmetic.
"""

from __future__ import annotations

import argparse
import math
import time
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path

import em
import jax
import jax.numpy as jnp
import numpy as np

import jaxgmm

BASE = {"N": 100_000, "D": 8, "K": 16}
SIZES = {
    "N": [1_000, 10_000, 100_000, 1_000_000, 10_000_000],
    "D": [1, 2, 4, 8, 16, 32, 64, 128],
    "K": [1, 4, 16, 64, 256, 1024],
    "B": [1, 10, 100, 1_000, 10_000, 100_000],
    "draws": [100, 1_000, 10_000],
    "chains": [1, 4, 16, 64],
}


def added_memory(run: Callable[[], object]) -> float:
    """Return the MiB that a call adds at its peak to the memory of this process; NaN if the system does not tell."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
        before = _memory("VmRSS")
        run()
        return _memory("VmHWM") - before
    except OSError:
        return math.nan


def _memory(word: str) -> float:
    """Return an entry of /proc/self/status in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(word))


def steps(n: int, d: int, k: int, dtype: type, covariance_type: str, repeats: int) -> tuple[float, float]:
    """Return the seconds of an EM step and the MiB that a fit adds at its peak."""
    x, start = em.problem(n, d, k, dtype)
    data, start = jnp.asarray(x), em.convert(start, covariance_type)
    run = em.ours(data, start, 4)
    _, a_step, _ = em.steps_alone(data, start, repeats) if n * k * d < 1e9 else (0, _few_steps(data, start), 0)
    return a_step, added_memory(run)


def _few_steps(data: jax.Array, start: jaxgmm.Mixture) -> float:
    """Return the seconds of an EM step of a large problem, from one call with one step and one call with three steps."""
    one, three = em.ours(data, start, 1), em.ours(data, start, 3)
    one()  # `max_iter` is part of the program, so both calls compile
    three()
    return (em.timed(three) - em.timed(one)) / 2


def data_sets(count: int) -> tuple[float, float]:
    """Return the seconds of `fit_many` for a number of data sets of 200 x 2, K=2, and the MiB that it adds at its peak."""
    rng = np.random.default_rng(0)
    xs = (rng.normal(size=(count, 200, 2)) + 3 * rng.integers(2, size=(count, 200, 1))).astype(np.float32)

    def run() -> None:
        jax.block_until_ready(jaxgmm.fit_many(jax.random.key(0), xs, num_components=2, progress=False))

    run()
    return em.timed(run), added_memory(run)


def draws(method: str, num_samples: int, num_chains: int) -> tuple[float, float]:
    """Return the seconds of a call of a sampler on `faithful` with K=2, and the MiB that it adds at its peak."""
    x = jaxgmm.datasets.load("faithful")
    prior = jaxgmm.default_prior(x, num_components=2)
    start = jaxgmm.fit(jaxgmm.initialize(jax.random.key(0), x, num_components=2), x, prior)
    sampler, warm_up = getattr(jaxgmm, method), {"num_warmup": 200}

    def run() -> None:
        options = {"num_samples": num_samples, "num_chains": num_chains, **warm_up}
        jax.block_until_ready(sampler(jax.random.key(1), start, x, prior, progress=False, **options).log_density)

    run()
    return em.timed(run), added_memory(run)


def report(name: str, sizes: Iterable[int], measure: Callable[[int], tuple[float, float]], longest: float) -> None:
    """Print time, memory and exponents for each size; stop before a size that would take more than `longest` seconds."""
    last, begun = None, time.perf_counter()
    for size in sizes:
        if time.perf_counter() - begun > longest:
            print(f"{name}: {size} and larger sizes left out, because smaller ones took {longest:.0f} s")
            return
        seconds, memory = measure(size)
        exponent = "" if last is None else f", exponent {math.log(seconds / last[1]) / math.log(size / last[0]):5.2f}"
        print(f"{name} = {size:>9}: {seconds * 1e3:10.3f} ms, adds {memory:7.0f} MiB{exponent}", flush=True)
        last = size, seconds


def growth(options: argparse.Namespace) -> None:
    """Print how time and memory grow with N, D, K, the number of data sets, draws and chains."""
    dtype = np.dtype(options.dtype).type
    for name in ("N", "D", "K"):

        def step(size: int, name: str = name) -> tuple[float, float]:
            n, d, k = {**BASE, name: size}.values()
            return steps(n, d, k, dtype, "full", options.repeats)

        report(f"one EM step, full, {options.dtype}, others of {BASE}: {name}", SIZES[name], step, options.longest)
    report("fit_many, 200 x 2, K=2, float32: B", SIZES["B"], data_sets, options.longest)
    for method in ("gibbs", "nuts"):
        report(f"{method}, 4 chains: draws", SIZES["draws"], lambda size, m=method: draws(m, size, 4), options.longest)
        report(f"{method}, 1000 draws: chains", SIZES["chains"], lambda size, m=method: draws(m, 1000, size), options.longest)


def components(options: argparse.Namespace) -> None:
    """Time K=1024, D=128 with spherical and diag covariances, beside scikit-learn and an assignment of k-means in NumPy."""
    n, d, k = options.rows, 128, 1024
    x, start = em.problem(n, d, k, np.float32)

    def assign() -> None:
        centers, half = np.asarray(start.means), 0.5 * (np.asarray(start.means) ** 2).sum(1)
        for begin in range(0, n, 4096):
            (x[begin : begin + 4096] @ centers.T - half).argmax(1)

    print(f"{n} x {d}, K={k}, float32: one assignment of k-means in NumPy {min(em.timed(assign) for _ in range(3)):.2f} s")
    for name in ("spherical", "diag"):
        begun = em.convert(start, name)
        a_step = _few_steps(jnp.asarray(x), begun)
        added = added_memory(em.ours(jnp.asarray(x), begun, 1))
        peer = em.sklearn_steps(x, begun, 1)
        beside = min(em.timed(peer) for _ in range(2))
        print(
            f"{name}: jaxgmm {a_step:.2f} s a step, adds {added:.0f} MiB at its peak (an array N x K takes "
            f"{n * k * 4 / 2**20:.0f} MiB); sklearn {beside:.2f} s a step, adds {added_memory(peer):.0f} MiB; "
            f"ratio {beside / a_step:.1f}",
            flush=True,
        )
    key, data = jax.random.key(0), jnp.asarray(x)
    for call in (jaxgmm.initialize, jaxgmm.fit_restarts):
        more = {"num_restarts": 2, "max_iter": 2} if call is jaxgmm.fit_restarts else {}

        def run(call: Callable = call, more: dict = more) -> None:
            jax.block_until_ready(call(key, data, num_components=k, covariance_type="diag", **more))

        first = em.timed(run)
        print(f"{call.__name__}, diag: first call {first:.1f} s, second {em.timed(run):.1f} s", flush=True)


SECTIONS = {"growth": growth, "components": components}


def main() -> None:
    """Run the sections named, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", choices=[[], *SECTIONS], default=[])
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--rows", type=int, default=100_000, help="number of rows of `components`")
    parser.add_argument("--longest", type=float, default=60, help="seconds after which larger sizes are left out")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    for name in options.sections or SECTIONS:
        print(f"# {name}", flush=True)
        SECTIONS[name](options)


if __name__ == "__main__":
    main()
