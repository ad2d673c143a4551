"""Compare EM with scikit-learn, from the same starts; peers.py compares it with gmmx, tgmm and mclust.

    python tests/benchmarks/em.py [speed] [types] [gpcm] [accelerate] [memory] [starts] [gpu]     (without a name: all)

speed, types: time per EM step, from ten steps per timing. The two programs take turns; medians and the range of the ratio are
    printed, compile time separately.
gpcm: time per EM step of the other ten volume-shape-orientation models, as a multiple of full's; and `select` over all
    fourteen, nine numbers of components and ten restarts on faithful and wine, beside mclust and tgmm (sweeps.py).
accelerate: number of E-steps of plain over accelerated EM, for two hard cases and random problems.
memory: what a fit adds, at its peak, to a process that holds the data.
starts: time of `initialize`, the log-likelihood that EM reaches from its starts, and the share of keys whose best of ten
    restarts is the best optimum that any method found (starts.py).
gpu: if there is one, times for up to ten million rows, and what TF32 would save and cost.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
import warnings
from functools import partial
from pathlib import Path
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from starts import print_shares

import jaxgmm

SIZES = [(1_000, 2, 3), (10_000, 4, 8), (100_000, 2, 5), (100_000, 8, 16), (50_000, 32, 16), (20_000, 64, 10)]
TARGETS = {np.float64: [20, 14, 15, 15, 4, 2.5], np.float32: [20, 18, 18, 10, 4, None]}
SHAPED_TARGETS = {np.float64: [20, 14, 18, 20, 15, 7], np.float32: [20, 14, 18, 20, 10, None]}
STEPS = 10


def problem(n: int, d: int, k: int, dtype: type, seed: int = 0) -> tuple[np.ndarray, jaxgmm.Mixture]:
    """Return data from overlapping clusters, and a start whose means are random rows."""
    rng = np.random.default_rng(seed)
    centers = rng.normal(size=(k, d)) * 2
    x = (centers[rng.integers(k, size=n)] + rng.normal(size=(n, d))).astype(dtype)
    means = x[rng.choice(n, k, replace=False)]
    return x, jaxgmm.make_mixture(np.full(k, 1 / k, dtype), means, np.stack([np.eye(d, dtype=dtype)] * k))


def shaped_problem(n: int, d: int, k: int, dtype: type, seed: int = 1) -> tuple[np.ndarray, jaxgmm.Mixture]:
    """Return data from clusters of different shapes, and a start near their means with the variances of all data."""
    rng = np.random.default_rng(seed)
    means, factors = 4 * rng.normal(size=(k, d)), rng.normal(size=(k, d, d)) / np.sqrt(d) + np.eye(d)
    labels, noise = rng.integers(k, size=n), rng.normal(size=(n, d))
    x = means[labels]
    for j in range(k):
        x[labels == j] += noise[labels == j] @ factors[j].T
    covariances = np.stack([np.diag(x.var(0))] * k)
    start = (np.full(k, 1 / k), means + 0.5 * rng.normal(size=means.shape), covariances)
    return x.astype(dtype), jaxgmm.make_mixture(*(leaf.astype(dtype) for leaf in start))


def convert(start: jaxgmm.Mixture, covariance_type: str) -> jaxgmm.Mixture:
    """Return the same start in another covariance type, for which its covariances must be unit matrices."""
    if covariance_type == start.covariance_type:
        return start
    k, d = start.num_components, start.num_features
    shape = jaxgmm.covariance.storage_shape(covariance_type, k, d)
    ones = np.broadcast_to(np.eye(d), shape) if jaxgmm.covariance.is_dense(covariance_type) else np.ones(shape)
    return jaxgmm.make_mixture(start.weights, start.means, ones.astype(start.means.dtype), covariance_type=covariance_type)


def sklearn_steps(x: np.ndarray, start: jaxgmm.Mixture, steps: int = STEPS):
    """Return a function that runs some of scikit-learn's E and M steps, without its validation, start and final pass."""
    from sklearn.mixture import GaussianMixture

    kind, k, covariances = start.covariance_type, start.num_components, np.asarray(start.covariances)
    precisions = np.linalg.inv(covariances) if jaxgmm.covariance.is_dense(kind) else 1 / covariances
    precisions = {"tied": precisions[0], "spherical": precisions[:, 0]}.get(kind, precisions)
    model = GaussianMixture(
        k,
        covariance_type=kind,
        weights_init=np.asarray(start.weights),
        means_init=np.asarray(start.means),
        precisions_init=np.ascontiguousarray(precisions.astype(x.dtype)),
    )

    def run() -> None:
        model._initialize(x, np.full((len(x), k), 1 / k, x.dtype))
        for _ in range(steps):
            _, log_resp = model._e_step(x)
            model._m_step(x, log_resp)

    return run


def ours(x: jax.Array, start: jaxgmm.Mixture, steps: int = STEPS, tol: float = 0.0):
    """Return a function that runs some steps of jaxgmm.fit, with its validation."""

    def run() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            jax.block_until_ready(jaxgmm.fit(start, x, tol=tol, max_iter=steps))

    return run


def steps_made(x: jax.Array, start: jaxgmm.Mixture) -> int:
    """Return the number of steps that `ours` makes. If clusters are well separated, EM reaches a fixed point before `STEPS`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return int(jaxgmm.fit(start, x, tol=0.0, max_iter=STEPS).num_iter)


def timed(run) -> float:
    """Return the seconds of one call."""
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


def steady(run) -> float:
    """Return the seconds per call over a tenth of a second, after a pause that lets the peer's threads come to rest."""
    time.sleep(0.1)
    calls, begin = 0, time.perf_counter()
    while calls == 0 or time.perf_counter() - begin < 0.1:
        run()
        calls += 1
    return (time.perf_counter() - begin) / calls


def take_turns(first, second, repeats: int) -> tuple[list[float], list[float]]:
    """Return the times of two functions that take turns, after one call of each that compiles."""
    first(), second()
    pairs = [(steady(first), steady(second)) for _ in range(repeats)]
    return [p[0] for p in pairs], [p[1] for p in pairs]


def machine(dtype: type) -> tuple[float, float]:
    """Return the machine's rates: GFLOP/s of JAX's product of two large matrices, and GB/s of reading (a sum of 256 MB)."""
    size, count = (2048 if jax.default_backend() == "cpu" else 8192), 2**28 // np.dtype(dtype).itemsize
    matrix, long = jax.random.normal(jax.random.key(0), (size, size), dtype), jnp.ones(count, dtype)
    multiply, total = jax.jit(lambda a: jnp.matmul(a, a, precision="highest")), jax.jit(jnp.sum)
    runs = [lambda: jax.block_until_ready(multiply(matrix)), lambda: jax.block_until_ready(total(long))]
    for run in runs:
        run()
    seconds = [min(timed(run) for _ in range(7)) for run in runs]
    return 2 * size**3 / seconds[0] / 1e9, long.nbytes / seconds[1] / 1e9


def table(dtype: type, types: tuple[str, ...], sizes: list[int], repeats: int, make=problem, targets=TARGETS) -> None:
    """Print the milliseconds per step, the ratio with its range, and the fractions of the machine's rates reached."""
    product, reading = machine(dtype)
    print(
        f"{make.__name__}, {np.dtype(dtype).name}: matrix products at {product:.0f} GFLOP/s, reading at {reading:.1f} GB/s",
        flush=True,
    )
    for i in sizes:
        n, d, k = SIZES[i]
        x, start = make(n, d, k, dtype)
        for kind in types:
            begun = convert(start, kind)
            data = jnp.asarray(x)
            compile_seconds = timed(ours(data, begun))
            steps = steps_made(data, begun)
            peer, own = take_turns(sklearn_steps(x, begun), ours(data, begun), repeats)
            ratios = sorted(a / STEPS / (b / steps) for a, b in zip(peer, own, strict=True))
            flops = n * k * (4 * d * d if kind in ("full", "tied") else 6 * d)
            a_step = statistics.median(own) / steps
            reached = f"{flops / a_step / 1e9 / product:.0%} of the product's rate"
            reached += f", {x.nbytes / a_step / 1e9 / reading:.1%} of reading's"
            target = targets[dtype][i] if kind == "full" else None
            print(
                f"{n:>7} {d:>3} {k:>3} {kind:>9} {np.dtype(dtype).name}: "
                f"sklearn {statistics.median(peer) / STEPS * 1e3:8.2f} ms, jaxgmm {a_step * 1e3:8.3f} ms ({steps} steps), "
                f"ratio {statistics.median(ratios):5.1f} "
                f"({ratios[0]:.1f} to {ratios[-1]:.1f}), target {target}; {reached}; first call {compile_seconds:.2f} s",
                flush=True,
            )


def speed(options: argparse.Namespace) -> None:
    """Time all sizes with full covariances in both dtypes, for round clusters and for clusters of different shapes."""
    for dtype in options.dtypes:
        for make, targets in ((problem, TARGETS), (shaped_problem, SHAPED_TARGETS)):
            table(np.dtype(dtype).type, ("full",), options.sizes, options.repeats, make, targets)


def types(options: argparse.Namespace) -> None:
    """Time the other covariance types at two sizes, against scikit-learn and against full."""
    for dtype in options.dtypes:
        table(np.dtype(dtype).type, jaxgmm.covariance.types.CLASSIC, [2, 3], options.repeats)
        for size in (SIZES[2], SIZES[3]):
            x, start = problem(*size, np.dtype(dtype).type)
            data = jnp.asarray(x)
            full = ours(data, start)
            for kind in jaxgmm.covariance.types.CLASSIC[1:]:
                taken, other = take_turns(full, ours(data, convert(start, kind)), 2 * options.repeats)
                ratios = sorted(b / a for a, b in zip(taken, other, strict=True))
                print(
                    f"{size} {dtype}: {kind} takes {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f}) "
                    "of full's time",
                    flush=True,
                )


def gpcm(options: argparse.Namespace) -> None:
    """Time the models that have only a code at 1e5 x 8, K=8, against full; then compare `select` over all fourteen."""
    closed = {"EII", "EEI", "EVI", "EEV", "EVV"}
    for dtype in options.dtypes:
        x, start = shaped_problem(100_000, 8, 8, np.dtype(dtype).type)
        start = jaxgmm.make_mixture(start.weights, start.means, np.broadcast_to(np.eye(8, dtype=dtype), (8, 8, 8)))
        data = jnp.asarray(x)
        full = ours(data, start)
        for kind in (name for name in jaxgmm.covariance.types.TYPES if not jaxgmm.covariance.types.is_classic(name)):
            taken, other = take_turns(full, ours(data, convert(start, kind)), options.repeats)
            ratios = sorted(b / a for a, b in zip(taken, other, strict=True))
            target = 1.15 if kind in closed else 1.5
            print(
                f"{x.shape}, K=8, {dtype}: {kind} takes {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f}) "
                f"of full's time, target {target}",
                flush=True,
            )
    # a process of its own, so that the first call compiles everything
    command = [sys.executable, str(Path(__file__).with_name("sweeps.py")), "--tgmm", options.tgmm]
    subprocess.run(command, check=True)


def random_problems(count: int) -> list[tuple[str, jax.Array, jaxgmm.Mixture]]:
    """Return stacks of data sets and starts of all covariance types, from overlapping to well separated."""
    shapes = [("full", 200, 2, 3), ("tied", 300, 2, 3), ("diag", 300, 4, 4), ("full", 200, 1, 2), ("spherical", 200, 2, 4)]
    out = []
    for j, (kind, n, d, k) in enumerate(shapes):
        keys = jax.random.split(jax.random.key(j), count // len(shapes))

        def data(key: jax.Array, n: int = n, d: int = d, k: int = k) -> jax.Array:
            k1, k2, k3, k4 = jax.random.split(key, 4)
            centers = jax.random.uniform(k4, (), minval=0.7, maxval=3.0) * jax.random.normal(k1, (k, d))
            return centers[jax.random.randint(k2, (n,), 0, k)] + jax.random.normal(k3, (n, d))

        xs = jax.vmap(data)(keys)
        begin = jax.vmap(lambda q, x, k=k, kind=kind: jaxgmm.initialize(q, x, num_components=k, covariance_type=kind))
        out.append((kind, xs, begin(keys, xs)))
    return out


def accelerate(options: argparse.Namespace) -> None:
    """Count the E-steps of plain and accelerated EM, for two hard cases and 200 random problems."""
    x = jaxgmm.datasets.load("faithful")
    start = jaxgmm.from_labels(x, np.digitize(x[:, 1], [60, 75]), num_components=3, covariance_type="tied")
    rng = np.random.default_rng(0)
    pair = (rng.normal(size=10_000) + 1.5 * rng.integers(2, size=10_000))[:, None]
    close = jaxgmm.from_labels(pair, (pair[:, 0] > 0.75).astype(int), num_components=2)
    for name, begun, data in [("faithful tied K=3", start, x), ("two Gaussians 1.5 sd apart, N=1e4", close, pair)]:
        plain, fast = (jaxgmm.fit(begun, data, tol=1e-17, max_iter=100_000, accelerate=a) for a in (False, True))
        best = max(float(plain.objective), float(fast.objective))
        there = [np.flatnonzero(np.asarray(fit.history) >= best - 1e-8) for fit in (plain, fast)]
        steps = [int(found[0]) if len(found) else int(fit.num_iter) for found, fit in zip(there, (plain, fast), strict=True)]
        print(
            f"{name}: E-steps to within 1e-8 nats of the maximum: {steps[0]}{'' if len(there[0]) else ' or more'} plain, "
            f"{steps[1]} accelerated, ratio {steps[0] / steps[1]:.1f}; the final log-likelihoods differ by "
            f"{float(fast.log_likelihood - plain.log_likelihood):.1e}",
            flush=True,
        )
    ratios = []
    for kind, xs, starts in random_problems(200):

        def run(flag: bool, xs: jax.Array = xs, starts: jaxgmm.Mixture = starts) -> jaxgmm.Fit:
            return jax.jit(jax.vmap(lambda s, x: jaxgmm.fit(s, x, max_iter=10_000, accelerate=flag)))(starts, xs)

        plain, fast = run(False), run(True)
        better = np.asarray(fast.log_likelihood - plain.log_likelihood)
        ratio = np.asarray(plain.num_iter) / np.asarray(fast.num_iter)
        same = abs(better) < 1e-3
        ratios.append(ratio[same])
        print(
            f"{kind:>9}: ratio of E-steps median {np.median(ratio[same]):.2f}, least {ratio[same].min():.2f}, "
            f"most {ratio[same].max():.1f}; other optimum in {(~same).sum()} of {len(same)} "
            f"(higher in {(better > 1e-3).sum()})",
            flush=True,
        )
    every = np.concatenate(ratios)
    print(
        f"all, same optimum: {len(every)} problems, median {np.median(every):.2f}, 5 % {np.quantile(every, 0.05):.2f}, least "
        f"{every.min():.2f}; more than 1.2 times as many E-steps: {(every < 1 / 1.2).sum()}",
        flush=True,
    )


def memory(options: argparse.Namespace) -> None:
    """Measure what fits add at their peak to a process that holds the data (N = 5e6, D = 8, K = 16, float32); Linux only."""
    script = """
import sys, warnings
import numpy as np, jax, jax.numpy as jnp, jaxgmm
warnings.simplefilter("ignore")
def memory(word):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(word))
x = np.random.default_rng(0).standard_normal((int(sys.argv[2]), 8), np.float32)
start = jaxgmm.make_mixture(np.full(16, 1 / 16, np.float32), x[:16], np.stack([np.eye(8, dtype=np.float32)] * 16))
if sys.argv[1] == "JAX":
    x = jax.block_until_ready(jnp.asarray(x))
jax.block_until_ready(jnp.zeros(3) + 1)
for _ in range(3):
    with open("/proc/self/clear_refs", "w") as peak:
        peak.write("5")
    before = memory("VmRSS")
    jax.block_until_ready(jaxgmm.fit(start, x, tol=0, max_iter=2))
    print(memory("VmHWM") - before)
"""
    for holder, rows in [("NumPy", 5_000_000), ("JAX", 5_000_000), ("JAX", 10_000)]:
        call = [sys.executable, "-c", script, holder, str(rows)]
        added = [float(line) for line in subprocess.run(call, capture_output=True, text=True, check=True).stdout.split()]
        print(
            f"{rows} x 8 of {holder}'s ({rows * 32 / 2**20:.0f} MiB): a first fit, with its compilation, adds "
            f"{added[0]:.0f} MiB, later ones {added[-1]:.0f} MiB (target 200)",
            flush=True,
        )


def starts(options: argparse.Namespace) -> None:
    """Time starts against scikit-learn's seeding, and compare the mean final log-likelihood over 50 seeds with its default."""
    from sklearn.cluster import kmeans_plusplus
    from sklearn.mixture import GaussianMixture

    x, _ = problem(100_000, 8, 16, np.float32)
    data, key = jnp.asarray(x), jax.random.key(0)
    for method in ("k-means++", "k-means"):

        def own(method: str = method) -> None:
            jax.block_until_ready(jaxgmm.initialize(key, data, num_components=16, method=method))

        peer, mine = take_turns(lambda: kmeans_plusplus(x, 16, random_state=0), own, options.repeats)
        ratios = sorted(a / b for a, b in zip(peer, mine, strict=True))
        print(
            f"start at 1e5, 8, 16, float32: sklearn kmeans_plusplus {statistics.median(peer) * 1e3:.0f} ms, "
            f"initialize({method!r}) {statistics.median(mine) * 1e3:.0f} ms, ratio {statistics.median(ratios):.2f} "
            f"({ratios[0]:.2f} to {ratios[-1]:.2f})",
            flush=True,
        )
    faithful, iris = (jaxgmm.datasets.load(name) for name in ("faithful", "iris"))
    cases = [("faithful K=2", faithful, 2), ("faithful K=3", faithful, 3), ("iris K=3", iris, 3)]
    for seed, (n, d, k, spread) in enumerate([(500, 2, 5, 3.0), (500, 4, 4, 2.0), (1000, 3, 8, 4.0)]):
        rng = np.random.default_rng(seed)
        centers = rng.normal(size=(k, d)) * spread
        cases.append((f"synthetic {n}x{d} K={k}", centers[rng.integers(k, size=n)] + rng.normal(size=(n, d)), k))
    for name, data, k in cases:
        keys = jax.random.split(jax.random.key(1), 50)
        line = f"{name}: mean final log-likelihood over 50 seeds:"
        for method in ("k-means++", "k-means"):
            fits = jax.jit(
                jax.vmap(
                    lambda q, data=data, k=k, method=method: jaxgmm.fit(
                        jaxgmm.initialize(q, data, num_components=k, method=method), data, tol=1e-7
                    )
                )
            )(keys)
            line += f" {method} {float(fits.log_likelihood.mean()):.3f} (sd {float(fits.log_likelihood.std()):.2f}),"
        peer = [
            GaussianMixture(k, tol=1e-7, max_iter=2000, random_state=s).fit(data).score(data) * len(data) for s in range(50)
        ]
        print(f"{line} sklearn {np.mean(peer):.3f} (sd {np.std(peer):.2f})", flush=True)
    print_shares(options.data, options.keys, options.problem)


def gpu(options: argparse.Namespace) -> None:
    """Time a step and the rest of a call; then compare `highest` precision, which jaxgmm uses, with TF32 and three TF32s."""
    if jax.default_backend() == "cpu":
        print("no accelerator")
        return
    for dtype in map(np.dtype, options.dtypes):
        product, reading = machine(dtype.type)
        kind = jax.devices()[0].device_kind
        print(f"{kind}, {dtype.name}: products at {product / 1e3:.1f} TFLOP/s, reading at {reading:.0f} GB/s", flush=True)
        for n, d, k in [*SIZES, (1_000_000, 8, 16), (10_000_000, 2, 5), (10_000_000, 8, 16)]:
            x, start = problem(n, d, k, dtype.type)
            data = jnp.asarray(x)
            first, a_step, beside = steps_alone(data, start, options.repeats)
            print(
                f"{n:>8} {d:>3} {k:>3} {dtype.name}: {a_step * 1e3:8.3f} ms a step, {beside * 1e3:6.2f} ms a call beside them, "
                f"{n * k * 4 * d * d / a_step / 1e9 / product:.0%} of the product's rate, "
                f"{x.nbytes / a_step / 1e9 / reading:.1%} of reading's; first call {first:.1f} s",
                flush=True,
            )
    for size in [SIZES[4], (1_000_000, 8, 16)]:
        x, start = problem(*size, np.float32)
        wide = jax.tree.map(lambda leaf: leaf.astype(np.float64), start)
        true = jaxgmm.fit(wide, x.astype(np.float64), tol=0, max_iter=STEPS)
        data = jnp.asarray(x)
        for name, precision in [("highest", "highest"), ("TF32", "default"), ("three TF32", "TF32_TF32_F32_X3")]:
            jax.clear_caches()
            with mock.patch.object(jaxgmm.covariance, "einsum", partial(jnp.einsum, precision=precision)):
                found = jaxgmm.fit(start, data, tol=0, max_iter=STEPS)
                _, a_step, _ = steps_alone(data, start, options.repeats)
            errors = [
                abs(a - b).max() / abs(b).max()
                for a, b in zip(*map(jax.tree.leaves, (found.mixture, true.mixture)), strict=True)
            ]
            print(
                f"{size} float32, {name}: {a_step * 1e3:.3f} ms a step; after ten, relative errors of weights, means, "
                f"covariances {', '.join(f'{float(error):.0e}' for error in errors)}, of the log-likelihood "
                f"{float(abs(found.log_likelihood / true.log_likelihood - 1)):.0e}",
                flush=True,
            )
    jax.clear_caches()


def steps_alone(data: jax.Array, start: jaxgmm.Mixture, repeats: int) -> tuple[float, float, float]:
    """Return the seconds of a first call, of a step, and of the rest of a call, from calls that stop early and late."""
    early, late = (ours(data, start, 4 * STEPS, tol=tol) for tol in (1e9, 0.0))
    first = timed(early)
    few, all_steps = (min(timed(run) for _ in range(repeats)) for run in (early, late))
    a_step = (all_steps - few) / (4 * STEPS - 1)
    return first, a_step, few - 2 * a_step  # the start is evaluated, and one step is taken


SECTIONS = {
    "speed": speed,
    "types": types,
    "gpcm": gpcm,
    "accelerate": accelerate,
    "memory": memory,
    "starts": starts,
    "gpu": gpu,
}


def main() -> None:
    """Run the sections named, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", choices=[[], *SECTIONS], default=[])
    parser.add_argument("--sizes", type=int, nargs="*", default=list(range(len(SIZES))), help="which rows of the speed table")
    parser.add_argument("--dtypes", nargs="*", default=["float64", "float32"])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--tgmm", default=sys.executable, metavar="PYTHON", help="the interpreter that has tgmm, for `gpcm`")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of the classic data of `starts`")
    parser.add_argument("--keys", type=int, default=20, help="number of keys of `starts`")
    parser.add_argument("--problem", default="", help="problems of `starts` whose name contains this; default: all")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    jax.config.update("jax_enable_x64", True)
    for name in options.sections or SECTIONS:
        print(f"# {name}", flush=True)
        SECTIONS[name](options)


if __name__ == "__main__":
    main()
