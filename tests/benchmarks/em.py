"""EM iterations against scikit-learn and gmmx, from the same start, in one run.

    python tests/benchmarks/em.py [--sizes 0 1 2 ...] [--types] [--gmmx] [--iterations] [--memory] [--starts]

Ten iterations a timing, medians of several, peer and jaxgmm by turns; ratios with their range. Compile time apart.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings

import jax
import numpy as np

jax.config.update("jax_enable_x64", True)
import jax.numpy as jnp  # noqa: E402

import jaxgmm  # noqa: E402

SIZES = [(1_000, 2, 3), (10_000, 4, 8), (100_000, 2, 5), (100_000, 8, 16), (50_000, 32, 16), (20_000, 64, 10)]
TARGETS = {np.float64: [20, 14, 15, 15, 4, 2.5], np.float32: [20, 18, 18, 10, 4, None]}
STEPS = 10


def problem(n: int, d: int, k: int, dtype: type, seed: int = 0) -> tuple[np.ndarray, jaxgmm.Mixture]:
    """Overlapping clusters and a start from random rows."""
    rng = np.random.default_rng(seed)
    centers = rng.normal(size=(k, d)) * 2
    x = (centers[rng.integers(k, size=n)] + rng.normal(size=(n, d))).astype(dtype)
    means = x[rng.choice(n, k, replace=False)]
    return x, jaxgmm.make_mixture(np.full(k, 1 / k, dtype), means, np.stack([np.eye(d, dtype=dtype)] * k))


def convert(start: jaxgmm.Mixture, kind: str) -> jaxgmm.Mixture:
    """The same start (unit covariances) in another type."""
    k, d = start.num_components, start.num_features
    shape = jaxgmm.covariance.storage_shape(kind, k, d)
    ones = np.broadcast_to(np.eye(d), shape) if jaxgmm.covariance.is_dense(kind) else np.ones(shape)
    return jaxgmm.make_mixture(start.weights, start.means, ones.astype(start.means.dtype), covariance_type=kind)


def sklearn_steps(x: np.ndarray, start: jaxgmm.Mixture):
    """Ten of scikit-learn's own E and M steps, without its door, start and final pass."""
    from sklearn.mixture import GaussianMixture

    kind, k, d = start.covariance_type, start.num_components, start.num_features
    ones = np.ones(jaxgmm.covariance.storage_shape(kind, k, d)) if not jaxgmm.covariance.is_dense(kind) else \
        np.broadcast_to(np.eye(d), (k, d, d) if kind == "full" else (d, d))
    precisions = ones[:, 0] if kind == "spherical" else ones
    model = GaussianMixture(k, covariance_type=kind, weights_init=np.asarray(start.weights), means_init=np.asarray(start.means),
                            precisions_init=np.ascontiguousarray(precisions.astype(x.dtype)))

    def run() -> None:
        model._initialize(x, np.full((len(x), k), 1 / k, x.dtype))
        for _ in range(STEPS):
            _, log_resp = model._e_step(x)
            model._m_step(x, log_resp)

    return run


def ours(x: jax.Array, start: jaxgmm.Mixture):
    """Ten steps of jaxgmm.fit, with its door."""
    def run() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            jax.block_until_ready(jaxgmm.fit(start, x, tol=0, max_iter=STEPS))

    return run


def timed(run) -> float:
    """Seconds of one call."""
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


def side_by_side(first, second, repeats: int) -> tuple[list[float], list[float]]:
    """Times of two calls, by turns, after one call each."""
    first(), second()
    pairs = [(timed(first), timed(second)) for _ in range(repeats)]
    return [p[0] for p in pairs], [p[1] for p in pairs]


def table(dtype: type, kinds: tuple[str, ...], sizes: list[int], repeats: int) -> None:
    """Milliseconds an iteration and the ratio with its range."""
    for i in sizes:
        n, d, k = SIZES[i]
        x, start = problem(n, d, k, dtype)
        for kind in kinds:
            begun = convert(start, kind)
            data = jnp.asarray(x)
            compile_seconds = timed(ours(data, begun))
            peer, own = side_by_side(sklearn_steps(x, begun), ours(data, begun), repeats)
            ratios = sorted(a / b for a, b in zip(peer, own, strict=True))
            flops = n * k * (4 * d * d if kind in ("full", "tied") else 6 * d)
            rate = flops * STEPS / statistics.median(own) / 1e9
            target = TARGETS[dtype][i] if kind == "full" else None
            print(f"{n:>7} {d:>3} {k:>3} {kind:>9} {np.dtype(dtype).name}: sklearn {statistics.median(peer) / STEPS * 1e3:8.2f} ms, "
                  f"jaxgmm {statistics.median(own) / STEPS * 1e3:8.3f} ms, ratio {statistics.median(ratios):5.1f} "
                  f"({ratios[0]:.1f} to {ratios[-1]:.1f}), target {target}; {rate:.1f} GFLOP/s; first call {compile_seconds:.2f} s",
                  flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="*", default=list(range(len(SIZES))))
    parser.add_argument("--types", nargs="*", default=["full"])
    parser.add_argument("--dtypes", nargs="*", default=["float64", "float32"])
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    for dtype in options.dtypes:
        table(np.dtype(dtype).type, tuple(options.types), options.sizes, options.repeats)


if __name__ == "__main__":
    main()
