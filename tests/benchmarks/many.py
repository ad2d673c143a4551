"""Compare fits of many data sets in one call with scikit-learn in a loop, gmm-gpu if it is installed, and the vmapped fit.

    python tests/benchmarks/many.py [batch] [slow] [bad] [ragged] [select] [memory]        (without a name: all)

batch: 1000 data sets of 400 x 2, K=2, float32, tol 1e-3, from the same starts.
slow: the same with clusters 1.5 sd apart and tol 1e-7, against jax.vmap(fit).
bad: the first with ten bad data sets, against the same without them.
ragged: 10 000 data sets of 50 to 2000 rows, D=3, K=3.
select: K = 1 to 9, four covariance types, ten restarts, on faithful.
memory: what the ragged fits add, at their peak, to a process that only holds the data.

Peers run on a sample of the data sets (--peer), and their times are scaled up. Medians of --repeats runs with their range are
printed, compile time separately.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
import warnings

import jax
import jax.numpy as jnp
import numpy as np

import jaxgmm


def clusters(lengths: np.ndarray, d: int, k: int, separation: float, seed: int = 0) -> list[np.ndarray]:
    """Return data sets of k unit normals along the first axis."""
    rng = np.random.default_rng(seed)
    return [
        (rng.normal(size=(n, d)) + separation * rng.integers(k, size=n)[:, None] * np.eye(d)[0]).astype(np.float32)
        for n in lengths
    ]


def first_rows(xs: list[np.ndarray], k: int) -> jaxgmm.Mixture:
    """Return a start for each data set: its first k rows as means, unit covariances."""
    d, size = xs[0].shape[1], len(xs)
    means = np.stack([x[:k] for x in xs])
    covariances = np.broadcast_to(np.eye(d, dtype=np.float32), (size, k, d, d))
    return jaxgmm.make_mixture(np.full((size, k), 1 / k, np.float32), means, covariances)


def median(run, repeats: int) -> tuple[float, str]:
    """Return the median seconds of a call, and the range as text; the caller has made the first call, which compiles."""
    times = []
    for _ in range(repeats):
        time.sleep(0.1)
        begin = time.perf_counter()
        jax.block_until_ready(run())
        times.append(time.perf_counter() - begin)
    return statistics.median(times), f"{min(times):.3f} to {max(times):.3f}"


def first_call(run) -> float:
    """Return the seconds of one call."""
    begin = time.perf_counter()
    jax.block_until_ready(run())
    return time.perf_counter() - begin


def sklearn_seconds(xs: list[np.ndarray], k: int, sample: int, tol: float) -> float:
    """Return the seconds that scikit-learn takes in a loop from the same starts, extrapolated from a sample of data sets."""
    from sklearn.mixture import GaussianMixture

    d = xs[0].shape[1]
    chosen = xs[:: max(1, len(xs) // sample)]
    precisions = np.stack([np.eye(d)] * k)
    begin = time.perf_counter()
    for x in chosen:
        GaussianMixture(
            k, tol=tol, max_iter=1000, weights_init=np.full(k, 1 / k), means_init=x[:k], precisions_init=precisions
        ).fit(x)
    return (time.perf_counter() - begin) * len(xs) / len(chosen)


def report(name: str, peer: str, seconds: float, own: tuple[float, str], target: float, compiled: float) -> None:
    """Print one line."""
    print(
        f"{name}: {peer} {seconds:.2f} s, fit_many {own[0]:.3f} s ({own[1]}), ratio {seconds / own[0]:.1f}, target {target}; "
        f"first call {compiled:.1f} s",
        flush=True,
    )


def batch(options: argparse.Namespace) -> None:
    """Time a thousand easy data sets."""
    xs = clusters(np.full(1000, 400), 2, 2, 4.0)
    starts, x = first_rows(xs, 2), jnp.asarray(np.stack(xs))
    run = lambda: jaxgmm.fit_many(starts, x, tol=1e-3, history=False, progress=False)  # noqa: E731
    compiled = first_call(run)
    own = median(run, options.repeats)
    report("1000 x 400 x 2, K=2", "scikit-learn", sklearn_seconds(xs, 2, options.peer, 1e-3), own, 100, compiled)
    try:
        import torch
        from gmm_gpu.gmm import GMM
    except ImportError:
        print("1000 x 400 x 2, K=2: gmm-gpu is not installed; target 8")
        return
    tensor, means = torch.from_numpy(np.stack(xs)), torch.from_numpy(np.array(starts.means))
    others = {"weights_init": torch.full((1000, 2), 0.5), "precisions_init": torch.eye(2).expand(1000, 2, 2, 2).clone()}

    def peer() -> None:
        GMM(2, device="cpu", dtype=torch.float32, tol=1e-3, means_init=means.clone(), **others).fit(tensor)

    peer()
    times = []
    for _ in range(options.repeats):
        begin = time.perf_counter()
        peer()
        times.append(time.perf_counter() - begin)
    report("1000 x 400 x 2, K=2", "gmm-gpu", statistics.median(times), own, 8, compiled)


def slow(options: argparse.Namespace) -> None:
    """Time a thousand data sets that converge slowly, against the loop that waits for the slowest."""
    xs = clusters(np.full(1000, 400), 2, 2, 1.5)
    starts, x = first_rows(xs, 2), jnp.asarray(np.stack(xs))
    run = lambda: jaxgmm.fit_many(starts, x, tol=1e-7, history=False, progress=False)  # noqa: E731
    peer = jax.jit(jax.vmap(lambda start, x: jaxgmm.fit(start, x, tol=1e-7)))
    compiled = first_call(run)
    steps = run().num_iter
    jax.block_until_ready(peer(starts, x))
    seconds, _ = median(lambda: peer(starts, x), min(3, options.repeats))
    report("1.5 sd apart, tol 1e-7", "vmap(fit)", seconds, median(run, options.repeats), 2.5, compiled)
    print(f"    steps: mean {float(steps.mean()):.1f}, largest {int(steps.max())}")


def bad(options: argparse.Namespace) -> None:
    """Time a thousand data sets of which ten are NaN, infinite, constant or huge, in turn with a thousand good ones."""
    x = np.stack(clusters(np.full(1000, 400), 2, 2, 4.0))
    starts, changed = first_rows(list(x), 2), x.copy()
    for i, value in enumerate([np.nan, np.inf, -np.inf, 3.0, 1e30, -1e30, 1e-30, np.nan, np.inf, 0.0]):
        changed[100 * i] = value
    runs = [
        lambda data=data: jaxgmm.fit_many(starts, data, tol=1e-3, history=False, progress=False)
        for data in (jnp.asarray(x), jnp.asarray(changed))
    ]
    times: list[list[float]] = [[], []]
    for turn in range(3 * options.repeats + 1):
        for run, own in zip(runs, times, strict=True):
            seconds = first_call(run)
            own += [seconds] if turn else []  # the first compiles
    good, with_bad = map(statistics.median, times)
    print(f"ten bad data sets of 1000: {with_bad:.3f} s, none {good:.3f} s, ratio {with_bad / good:.2f}, target at most 1.1")


def ragged_data() -> list[np.ndarray]:
    """Return ten thousand data sets, with lengths log-uniform from 50 to 2000."""
    lengths = np.exp(np.random.default_rng(1).uniform(np.log(50), np.log(2000), 10_000)).astype(int)
    return clusters(lengths, 3, 3, 4.0)


def ragged(options: argparse.Namespace) -> None:
    """Time a list of data sets of many lengths."""
    xs = ragged_data()
    starts = first_rows(xs, 3)
    run = lambda: jaxgmm.fit_many(starts, xs, tol=1e-3, history=False, progress=False)  # noqa: E731
    compiled = first_call(run)
    report(
        "10 000 ragged", "scikit-learn", sklearn_seconds(xs, 3, options.peer, 1e-3), median(run, options.repeats), 60, compiled
    )


def select(options: argparse.Namespace) -> None:
    """Time the sweep over numbers of components and covariance types."""
    from sklearn.mixture import GaussianMixture

    x = jaxgmm.datasets.load("faithful").astype(np.float32)
    run = lambda: [  # noqa: E731
        cell.fit.objective
        for cell in jaxgmm.select(jax.random.key(0), x, tol=1e-3, max_iter=100, progress=False).cells.values()
    ]
    compiled = first_call(run)
    own = median(run, options.repeats)
    begin = time.perf_counter()
    for kind in ("full", "tied", "diag", "spherical"):
        for k in range(1, 10):
            GaussianMixture(k, covariance_type=kind, n_init=10, random_state=0).fit(x).bic(x)
    report("select on faithful", "scikit-learn", time.perf_counter() - begin, own, 10, compiled)


_MEMORY = """
import re, sys
sys.path.insert(0, {path!r})
import many, jax
xs = many.ragged_data()
starts = many.first_rows(xs, 3)
if {fits}:
    many.jaxgmm.fit_many(starts, xs, tol=1e-3, history=False, progress=False)
peak = re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())  # maxrss would be the parent's
print(sum(x.nbytes for x in xs), int(peak[1]) * 1024)
"""


def memory(options: argparse.Namespace) -> None:
    """Measure the peak memory of the ragged fits above that of a process that holds data and starts."""
    peaks = []
    for fits in (False, True):
        script = _MEMORY.format(path=str(__import__("pathlib").Path(__file__).parent), fits=fits)
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        size, peak = map(int, done.stdout.split())
        peaks.append(peak)
    print(
        f"10 000 ragged: {(peaks[1] - peaks[0]) / 2**20:.0f} MiB above the data's {size / 2**20:.0f} MiB, "
        "target at most twice that"
    )


SECTIONS = {"batch": batch, "slow": slow, "bad": bad, "ragged": ragged, "select": select, "memory": memory}


def main() -> None:
    """Run the sections named, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", choices=[*SECTIONS, []], default=[])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument(
        "--peer", type=int, default=200, help="number of data sets that scikit-learn fits; its time is scaled up"
    )
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    for name in options.sections or SECTIONS:
        print(f"# {name}", flush=True)
        SECTIONS[name](options)


if __name__ == "__main__":
    main()
