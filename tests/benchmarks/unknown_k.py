"""Print the posterior probabilities of the number of components K, by methods that must agree.

    python tests/benchmarks/unknown_k.py published [DATA ...]    (telescope beside a sampler in NumPy and a published table)
    python tests/benchmarks/unknown_k.py evidences [DATA ...]    (telescope beside select(criterion="evidence"))

The data are galaxies, acidity, skewed (made data like the enzyme data) and simulated (three groups of normal rows).

published: the hierarchical prior of Richardson & Green (1997), K = 1, ..., 30. Their table is printed for galaxies.
The sampler in NumPy uses nothing of the package. For each K, the line has p(K | x) by both programs, with standard
errors from the differences between chains, and the largest difference in standard errors follows.

evidences: K = 1, ..., 8 under one prior with a fixed scale, mu ~ N(mid-range, (.4 R)^2), variance ~ IG(3, .032 R^2), where R is
the range of the data. For the galaxies, Chib's (1995) prior differs from it only in its mean, 20 in place of 21.7.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from hard import skewed
from scipy.special import gammaln

import jaxgmm

# Richardson & Green (1997), p(K | x) for K = 1, 2, ...
PUBLISHED = {"galaxies": [0, 0, 0.061, 0.128, 0.182, 0.199, 0.160, 0.109, 0.071, 0.040, 0.023, 0.013, 0.006, 0.003]}
MOST = 30  # the largest K of Richardson & Green


def simulated() -> np.ndarray:
    """Return 120 rows of three groups: means 0, 3 and 7, standard deviations 1, 0.5 and 1."""
    rng = np.random.default_rng(4)
    return np.concatenate([rng.normal(0, 1, 50), rng.normal(3, 0.5, 40), rng.normal(7, 1, 30)])[:, None]


DATA: dict[str, Callable[[], np.ndarray]] = {
    "galaxies": lambda: np.asarray(jaxgmm.datasets.load("galaxies")),
    "acidity": lambda: np.asarray(jaxgmm.datasets.load("acidity")),
    "skewed": skewed,
    "simulated": simulated,
}


def independent_prior(x: np.ndarray, k: int, variance_of_mean: float, shape: float, scale: float) -> jaxgmm.IndependentPrior:
    """Return the prior mu ~ N(mid-range, variance_of_mean), variance ~ IG(shape, scale), Dirichlet(1, ..., 1)."""
    array = lambda v: jnp.asarray(v, jnp.float32)  # noqa: E731
    middle = (x.max() + x.min()) / 2
    law = jaxgmm.InverseGamma(array(shape), array([scale]))
    return jaxgmm.IndependentPrior(array(np.ones(k)), array([middle]), array([[variance_of_mean]]), law)


def telescope_in_numpy(x: np.ndarray, num_sweeps: int, seed: int) -> np.ndarray:
    """Return the numbers K (num_sweeps,) of one chain of the telescoping sampler under Richardson & Green's prior."""
    rng, y, n = np.random.default_rng(seed), x[:, 0].astype(float), len(x)
    size, middle = np.ptp(y), (y.max() + y.min()) / 2
    numbers = np.arange(1, MOST + 1)
    k = int(rng.integers(1, 11))
    weights, means, precisions, rate = np.full(k, 1 / k), rng.choice(y, k), np.full(k, 100 / size**2), 0.02 * size**2
    found = np.empty(num_sweeps, int)
    for sweep in range(num_sweeps):
        density = np.log(weights) + np.log(precisions) / 2 - precisions * (y[:, None] - means) ** 2 / 2
        labels = (density + rng.gumbel(size=density.shape)).argmax(1)
        filled, labels = np.unique(labels, return_inverse=True)
        counts, sums = np.bincount(labels), np.bincount(labels, y)
        occupied, precisions = len(filled), precisions[filled]
        of_mean = 1 / size**2 + counts * precisions
        means = (middle / size**2 + precisions * sums) / of_mean + rng.normal(size=occupied) / np.sqrt(of_mean)
        squares = np.bincount(labels, (y - means[labels]) ** 2)
        precisions = rng.gamma(2 + counts / 2) / (rate + squares / 2)
        rate = rng.gamma(0.2 + 2 * occupied) / (10 / size**2 + precisions.sum())
        possible = numbers[numbers >= occupied]
        log_p = gammaln(possible + 1) - gammaln(possible - occupied + 1) + gammaln(possible) - gammaln(possible + n)
        k = int(possible[(log_p + rng.gumbel(size=len(log_p))).argmax()])
        empty = k - occupied
        means = np.concatenate([means, middle + size * rng.normal(size=empty)])
        precisions = np.concatenate([precisions, rng.gamma(2, size=empty) / rate])
        weights = np.maximum(rng.dirichlet(np.concatenate([1.0 + counts, np.ones(empty)])), 1e-300)
        found[sweep] = k
    return found


def shares(numbers: np.ndarray, largest: int) -> tuple[np.ndarray, np.ndarray]:
    """Return p(K) for K = 1, ..., largest from the numbers (C, S) of C chains, and the standard errors."""
    hits = (numbers[..., None] == np.arange(1, largest + 1)).mean(1)
    return hits.mean(0), hits.std(0, ddof=1) / len(hits) ** 0.5


def show(name: str, columns: dict[str, tuple[np.ndarray, np.ndarray]], published: list[float], seconds: list[str]) -> None:
    """Print the probabilities by several methods, and the largest difference between the first two in standard errors."""
    (first, first_error), (second, second_error) = columns.values()
    print(f"{name}: {'; '.join(seconds)}")
    for i in range(len(first)):
        line = "  ".join(f"{column} {p[i]:.4f} +- {error[i]:.4f}" for column, (p, error) in columns.items())
        print(f"  K={i + 1:2d}  {line}" + (f"  published {published[i]:.3f}" if i < len(published) else ""))
    matters = (first + second) / 2 > 1e-3
    error = np.hypot(first_error, second_error)
    off = np.abs(first - second)[matters]
    print(f"  largest difference {off.max():.4f}, largest in standard errors {(off / error[matters]).max():.1f}", flush=True)
    if published:
        off = np.abs(first[: len(published)] - published)
        print(f"  largest difference from the published table {off.max():.4f}, at K={off.argmax() + 1}", flush=True)


def timed(run: Callable[[], np.ndarray]) -> tuple[np.ndarray, str]:
    """Return a result, and the processor seconds that it took."""
    begin = time.process_time()
    found = run()
    return found, f"{time.process_time() - begin:.0f} s CPU"


def compare_with_published(name: str, options: argparse.Namespace) -> None:
    """Print p(K | x) under Richardson & Green's prior."""
    x = DATA[name]().astype(np.float32)
    size = float(np.ptp(x))
    prior = independent_prior(x, 1, size**2, 2.0, 0.02 * size**2)
    recipe = dict(max_components=MOST, covariance_type="diag", scale_degrees_of_freedom=0.4, progress=False)
    size_of_run = dict(num_samples=options.sweeps, num_chains=options.chains)
    ours, first = timed(
        lambda: np.asarray(jaxgmm.telescope(jax.random.key(0), x, prior, **recipe, **size_of_run).stats["num_components"])
    )
    peer, second = timed(
        lambda: np.stack([telescope_in_numpy(x, 5 * options.sweeps + 1000, seed)[1000:] for seed in range(options.peers)])
    )
    columns = {"telescope": shares(ours, 14), "NumPy": shares(peer, 14)}
    show(name, columns, PUBLISHED.get(name, []), [f"telescope {first}", f"NumPy {second}"])


def compare_with_evidences(name: str, options: argparse.Namespace) -> None:
    """Print p(K | x) for K = 1, ..., 8 under a prior with a fixed scale."""
    x = DATA[name]().astype(np.float32)
    size, most = float(np.ptp(x)), 8
    prior = independent_prior(x, most, (0.4 * size) ** 2, 3.0, 0.032 * size**2)
    size_of_run = dict(num_samples=options.sweeps, num_chains=options.chains)
    recipe = dict(max_components=most, covariance_type="diag", progress=False)
    ours, first = timed(
        lambda: np.asarray(jaxgmm.telescope(jax.random.key(0), x, prior, **recipe, **size_of_run).stats["num_components"])
    )
    model = dict(num_components=range(1, most + 1), covariance_types="diag", num_restarts=1, progress=False)
    effort = dict(num_samples=options.particles, num_chains=options.runs)
    begin = time.process_time()
    found = jaxgmm.select(jax.random.key(1), x, prior=prior, criterion="evidence", **model, **effort)
    second = f"{time.process_time() - begin:.0f} s CPU"
    cells = [found.cells["diag", k].evidence for k in range(1, most + 1)]
    probability = np.array([cell.probability for cell in cells]), np.array([cell.probability_error for cell in cells])
    print([f"{cell.log_evidence:.3f} +- {cell.log_evidence_error:.3f} {cell.smc_status.name}" for cell in cells])
    show(name, {"telescope": shares(ours, most), "evidence": probability}, [], [f"telescope {first}", f"select {second}"])


def main() -> None:
    """Run one comparison for the data named, or for all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("comparison", choices=["published", "evidences"])
    parser.add_argument("data", nargs="*", default=list(DATA), help=", ".join(DATA))
    parser.add_argument("--sweeps", type=int, default=10000, help="draws a chain")
    parser.add_argument("--chains", type=int, default=16, help="chains of telescope")
    parser.add_argument(
        "--peers", type=int, default=6, help="chains of the sampler in NumPy, each with five times as many draws"
    )
    parser.add_argument("--particles", type=int, default=1000, help="particles in a run of smc")
    parser.add_argument("--runs", type=int, default=8, help="runs of smc for each K")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    run = compare_with_published if options.comparison == "published" else compare_with_evidences
    for name in options.data:
        run(name, options)


if __name__ == "__main__":
    main()
