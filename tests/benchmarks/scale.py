"""Fit data on disk by `fit_batches`: peak memory, and seconds a pass beside `fit` in memory and beside scikit-learn.

    python tests/benchmarks/scale.py [SECTION ...] [--rows N] [--folder DIR]        (without a section: all of them)

The data are N x 8 float32 rows in one npy file (default: 5e7 rows, 1.6 GB) in the folder DIR (default: a temporary one), and
there are 16 components. Each measurement runs in a process of its own. The file has just been written or read, so timings read
from the page cache.

memory: how much the peak of the resident memory of six passes over batches exceeds the memory of the process before, for N and
    for N / 5 rows. Target: under 400 MB, and the same for both.
speed: seconds of a pass over the file, and of the same number of rows in steps of `fit` on a million rows in memory. Target: at
    most 1.15 times as long.
sklearn: seconds of one E-step and M-step of scikit-learn on the memory map, and its peak memory. Target: at least 10 times as
    long as a pass of `fit_batches`.
passes: the number of passes over a million rows (or N, if fewer) of overlapping clusters until the log-likelihood is within
    1e-6 nats a row of that with which plain EM ends, for plain EM, `accelerate`, `online` and both. Target: a third of plain
    EM's. These numbers do not depend on the load of the machine.
processes: seconds of an EM step of 1, 2 and 4 processes that share the cores of this machine, over a million rows (or N, if
    fewer), and the bytes of the sums that they exchange in a step, also for a tenth of the rows: see `processes.py`. Target: at
    most 1.2 times the time of one process, and the bytes of `Moments` for any number of rows.
plan: the time of a step for 1e9 x 32 float32 rows on 64 hosts of 32 cores, calculated from the rows per second of processor
    time that are measured here, and from the assumptions that are printed.
observations: seconds of processor time of a pass over N / 50 rows with a tenth of the values missing, beside a pass over
    complete rows, and beside a step of `fit` in memory, where rows with the same missing values share work.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np

D, K, BATCH, IN_MEMORY = 8, 16, 500_000, 1_000_000
SECTIONS = ("memory", "speed", "sklearn", "passes", "processes", "plan", "observations")
OVERLAPPING = 1.5  # standard deviation of the means of clusters of unit variance


def write_data(path: Path, rows: int) -> None:
    """Write overlapping clusters into an npy file, a million rows at a time."""
    if path.exists():
        return
    rng = np.random.default_rng(0)
    centers = rng.normal(size=(K, D)) * 2
    out = np.lib.format.open_memmap(path, "w+", np.float32, (rows, D))
    for begin in range(0, rows, IN_MEMORY):
        n = min(IN_MEMORY, rows - begin)
        out[begin : begin + n] = centers[rng.integers(K, size=n)] + rng.normal(size=(n, D))
    out.flush()


def memory(name: str) -> float:
    """Return an entry of the status of this process, in MB; the system must be Linux."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024


def start_of(path: Path):
    """Return a start whose means are rows of the file."""
    import jaxgmm

    x = np.load(path, mmap_mode="r")
    means = np.array(x[np.random.default_rng(1).choice(IN_MEMORY // 10, K, replace=False)])
    return jaxgmm.make_mixture(np.full(K, 1 / K, np.float32), means, np.stack([np.eye(D, dtype=np.float32)] * K))


def seconds_a_step(run, repeats: int = 1) -> float:
    """Return the seconds of the second and third step of run(steps), without what runs once, such as compilation.

    The steps are the same for all measurements, because later steps can take a slower kernel.
    """
    few, many = 1, 3
    for steps in (few, many):
        run(steps)  # compiles
    times = {few: math.inf, many: math.inf}
    for _ in range(repeats):
        for steps in times:
            begin = time.perf_counter()
            run(steps)
            times[steps] = min(times[steps], time.perf_counter() - begin)
    return (times[many] - times[few]) / (many - few)


def measure(work: str, path: Path) -> dict[str, float]:
    """Run one measurement in this process."""
    warnings.simplefilter("ignore")
    if work == "sklearn":
        return measure_sklearn(path)
    import jax

    import jaxgmm

    start = start_of(path)
    if work == "fit":
        x = jax.device_put(np.array(np.load(path, mmap_mode="r")[:IN_MEMORY]))
        seconds = seconds_a_step(lambda n: jax.block_until_ready(jaxgmm.fit(start, x, tol=0.0, max_iter=n)), 5)
        return {"seconds": seconds, "rows": len(x)}
    batches, before = jaxgmm.read_batches(path, BATCH), memory("VmRSS")
    if work == "peak":
        jaxgmm.fit_batches(start, batches, tol=0.0, max_iter=5, progress=False)
        return {"peak": memory("VmHWM") - before}
    return {"seconds": seconds_a_step(lambda n: jaxgmm.fit_batches(start, batches, tol=0.0, max_iter=n, progress=False))}


def measure_sklearn(path: Path) -> dict[str, float]:
    """Return the seconds of one iteration of scikit-learn on a memory map, and its peak memory."""
    from sklearn.mixture import GaussianMixture

    x, before = np.load(path, mmap_mode="r"), memory("VmRSS")
    means = np.array(x[np.random.default_rng(1).choice(IN_MEMORY // 10, K, replace=False)])
    unit = np.stack([np.eye(D, dtype=np.float32)] * K)
    model = GaussianMixture(K, weights_init=np.full(K, 1 / K), means_init=means, precisions_init=unit)
    model._initialize(x[: 2 * K], np.full((2 * K, K), 1 / K, np.float32))
    begin = time.perf_counter()
    _, log_resp = model._e_step(x)
    model._m_step(x, log_resp)
    return {"seconds": time.perf_counter() - begin, "peak": memory("VmHWM") - before}


def print_passes(rows: int) -> None:
    """Print the number of passes that each kind of EM needs for the log-likelihood of plain EM."""
    import jax

    import jaxgmm

    warnings.simplefilter("ignore")
    rng = np.random.default_rng(0)
    centers = OVERLAPPING * rng.normal(size=(K, D))
    x = (centers[rng.integers(K, size=rows)] + rng.normal(size=(rows, D))).astype(np.float32)
    batches = jaxgmm.read_batches(x, BATCH // 5)
    start = jaxgmm.initialize_batches(jax.random.key(1), batches, num_components=K)
    kinds = {"plain": {}, "accelerate": {"accelerate": True}, "online": {"online": True}}
    kinds |= {"online and accelerate": kinds["accelerate"] | kinds["online"]}
    goal, plain = None, 0
    for name, options in kinds.items():
        begin = time.process_time()
        fit = jaxgmm.fit_batches(start, batches, max_iter=3000, progress=False, **options)
        seconds = time.process_time() - begin
        history = np.asarray(fit.history, float)[: int(fit.num_iter) + 1] / rows
        goal = float(fit.log_likelihood) / rows - 1e-6 if goal is None else goal
        reached = np.flatnonzero(history >= goal)
        passes = int(reached[0]) + 1 if len(reached) else None
        plain = plain or passes or 0
        ratio = f"{plain / passes:.1f} times fewer (target 3)" if passes else "does not reach it"
        print(
            f"{name}: {passes} passes to the log-likelihood of plain EM less 1e-6 nats a row, {ratio}; {len(history)} passes "
            f"to the end at {float(fit.log_likelihood) / rows - goal - 1e-6:+.1e}; {seconds:.0f} s of processor time",
            flush=True,
        )


def print_processes(rows: int) -> None:
    """Print the seconds of a step of several processes, and the bytes that they exchange."""
    script = Path(__file__).with_name("processes.py")
    for number, counts in ((rows, "124"), (rows // 10, "12")):
        subprocess.run([sys.executable, str(script), "--rows", str(number), "--processes", *counts], check=True)


def print_plan() -> None:
    """Print the time of a step beyond one machine, calculated from a measurement on one core."""
    import jax

    import jaxgmm

    warnings.simplefilter("ignore")
    hosts, cores, rows, features = 64, 32, 1e9, 32
    latency, bandwidth, disk = 50e-6, 1.25e9, 2e9  # seconds a message, bytes a second, bytes a second
    rng = np.random.default_rng(0)
    x = jax.device_put(rng.normal(size=(100_000, features)).astype(np.float32))
    start = jaxgmm.initialize(jax.random.key(0), x, num_components=K)
    times = []
    for steps in (2, 2, 12):  # the first one compiles
        begin = time.process_time()
        jax.block_until_ready(jaxgmm.fit(start, x, tol=0.0, max_iter=steps))
        times.append(time.process_time() - begin)
    speed = 10 * len(x) / (times[2] - times[1])
    step = rows / hosts / (cores * speed)
    sums = 4 * K * (1 + features + features**2)
    adding = 2 * (hosts - 1) * (latency + sums / hosts / bandwidth)
    reading = rows / hosts * 4 * features / disk
    print(
        f"plan, {rows:.0e} x {features} float32 on {hosts} hosts of {cores} cores, K={K} full: a step {step + adding:.2f} s "
        f"with rows in memory, {max(step, reading) + adding:.2f} s from disk\n"
        f"  E-step {step:.2f} s at {speed:.2g} rows per second of processor time (measured here), if all cores are as fast\n"
        f"  adding {sums / 1e3:.0f} kB in a ring {1e3 * adding:.1f} ms at {1e6 * latency:.0f} us a message (assumed)\n"
        f"  reading {reading:.1f} s at {disk / 1e9:.0f} GB/s a host (assumed), at the same time as the E-step"
    )


def print_observations(rows: int) -> None:
    """Print how many times as long a pass over rows with missing values takes as one over complete rows, and as in memory."""
    import jax

    import jaxgmm

    warnings.simplefilter("ignore")
    rng = np.random.default_rng(0)
    centers, size = 2 * rng.normal(size=(K, D)), max(rows // 10, 1000)
    x = (centers[rng.integers(K, size=rows)] + rng.normal(size=(rows, D))).astype(np.float32)
    gaps = np.where(rng.random(x.shape) < 0.1, np.nan, x).astype(np.float32)
    start = jaxgmm.initialize(jax.random.key(0), x[:10_000], num_components=K)
    prior = jaxgmm.default_prior(x[:10_000], num_components=K)  # so that no passes for V are needed
    parts = [gaps[i : i + size] for i in range(0, rows, size)]
    kinds = {
        "complete rows in batches": lambda n: jaxgmm.fit_batches(
            start, jaxgmm.read_batches(x, size), prior, tol=0.0, max_iter=n, progress=False
        ),
        "missing values in batches": lambda n: jaxgmm.fit_batches(
            start, lambda: map(jaxgmm.observations, parts), prior, tol=0.0, max_iter=n, progress=False
        ),
        "missing values in memory": lambda n: jax.block_until_ready(
            jaxgmm.fit(start, jaxgmm.observations(gaps), prior, tol=0.0, max_iter=n)
        ),
    }
    seconds = {}
    for name, run in kinds.items():
        times = []
        for steps in (1, 1, 3):  # the first one compiles
            begin = time.process_time()
            run(steps)
            times.append(time.process_time() - begin)
        seconds[name] = (times[2] - times[1]) / 2
        first = next(iter(seconds.values()))
        print(f"{name}: {seconds[name]:.3f} s of processor time a step over {rows} rows, {seconds[name] / first:.1f} times")


def in_process(work: str, path: Path) -> dict[str, float]:
    """Run one measurement in a new process."""
    command = [sys.executable, __file__, "--measure", work, "--path", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Write the data, and print each figure beside its target."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=", ".join(SECTIONS))
    parser.add_argument("--rows", type=float, default=5e7)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    parser.add_argument("--path", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    sections = set(options.sections or SECTIONS)
    if not sections <= set(SECTIONS):
        parser.error(f"one of {', '.join(SECTIONS)} was expected")
    if options.measure:
        print(json.dumps(measure(options.measure, options.path)))
        return
    if "passes" in sections:
        print_passes(min(int(options.rows), IN_MEMORY))
    if "processes" in sections:
        print_processes(min(int(options.rows), IN_MEMORY))
    if "plan" in sections:
        print_plan()
    if "observations" in sections:
        print_observations(int(options.rows) // 50)
    if not {"memory", "speed", "sklearn"} & sections:
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder, rows = options.folder or Path(temporary), int(options.rows)
        path, fewer = folder / f"rows-{rows}.npy", folder / f"rows-{rows // 5}.npy"
        write_data(path, rows)
        if "memory" in sections:
            write_data(fewer, rows // 5)
            peaks = [in_process("peak", data)["peak"] for data in (fewer, path)]
            shown = f"{peaks[0]:.0f} MB at {rows // 5:.0e} rows, {peaks[1]:.0f} MB at {rows:.0e}"
            print(f"peak memory: {shown} (target: under 400 MB, and equal)")
        if not {"speed", "sklearn"} & sections:
            return
        ours = in_process("batches", path)["seconds"]
        print(f"fit_batches: {ours:.2f} s a pass over {rows:.0e} rows, {rows / ours:.3g} rows/s")
        if "speed" in sections:
            found = in_process("fit", path)
            same = found["seconds"] * rows / found["rows"]
            print(f"fit in memory: {same:.2f} s for as many rows; ratio {ours / same:.2f} (target at most 1.15)")
        if "sklearn" in sections:
            found = in_process("sklearn", path)
            ratio = found["seconds"] / ours
            print(f"scikit-learn: {found['seconds']:.1f} s, {ratio:.1f} times as long (target 10); peak {found['peak']:.0f} MB")


if __name__ == "__main__":
    main()
