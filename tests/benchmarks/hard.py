"""Print, for data on which chains do not mix, whether the runs of `smc` agree, and the modes with their masses.

    python tests/benchmarks/hard.py [CASE ...] [--tempering data likelihood] [--particles 1000] [--runs 6] [--chains gibbs nuts]

One line for each case and tempering: the largest R-hat over runs of the label-invariant quantities, the log evidences of the
runs and their spread (goal: R-hat under 1.01, evidences within 0.1), wall and CPU seconds of the first and of the second call
(with and without compilation), the status, and the masses of the modes that EM climbs to from the draws. With --chains, R-hat
of long runs of other samplers follows. Without a case, all are run, which takes an hour on two cores.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np

import jaxgmm


def skewed() -> np.ndarray:
    """Return 245 rows like the enzyme data: a narrow group near 0.2, and a wide, skewed group from 0.5 to 3."""
    rng = np.random.default_rng(1)
    return np.concatenate([rng.lognormal(np.log(0.18), 0.35, 150), rng.lognormal(np.log(1.2), 0.4, 95)])[:, None]


def overlapping() -> np.ndarray:
    """Return 30 rows of two groups that are 2 standard deviations apart."""
    rng = np.random.default_rng(2)
    return (rng.normal(size=30) + 2.0 * (np.arange(30) < 12))[:, None]


def two_modes() -> np.ndarray:
    """Return four far groups on a square, for K=2 with a shared covariance: two equal modes, by rows and by columns."""
    corner = 3 + np.random.default_rng(3).normal(size=(5, 2))
    corner = np.concatenate([corner, corner[:, ::-1]])
    return np.concatenate([corner * signs for signs in ([1, 1], [1, -1], [-1, 1], [-1, -1])])


def load(name: str, columns: Any = slice(None)) -> np.ndarray:
    """Return columns of a data set of the package."""
    return np.asarray(jaxgmm.datasets.load(name))[:, columns]


CASES: dict[str, tuple[Callable[[], np.ndarray], int, str]] = {
    "iris petal and sepal length, K=3": (lambda: load("iris", [0, 2]), 3, "full"),
    "iris, K=3": (lambda: load("iris"), 3, "full"),
    **{f"galaxies, K={k}": (lambda: load("galaxies"), k, "diag") for k in (3, 4, 5, 6)},
    **{f"faithful, K={k}": (lambda: load("faithful"), k, "full") for k in (3, 4, 5)},
    "skewed, K=3": (skewed, 3, "diag"),
    "30 rows that overlap, K=2": (overlapping, 2, "diag"),
    "two equal modes, K=2": (two_modes, 2, "tied"),
}


def seconds_of(run: Callable[[], jaxgmm.Posterior]) -> tuple[jaxgmm.Posterior, str]:
    """Run a sampler, and return its posterior with the wall and CPU seconds as text."""
    wall, cpu = time.perf_counter(), time.process_time()
    found = jax.block_until_ready(run())
    return found, f"{time.perf_counter() - wall:.1f} s wall, {time.process_time() - cpu:.1f} s CPU"


def describe(name: str, posterior: jaxgmm.Posterior, x: np.ndarray, seconds: list[str]) -> None:
    """Print the line of one posterior."""
    stats, status = posterior.stats, jaxgmm.PosteriorStatus(int(posterior.status)).name
    size, rhat, ess = posterior.log_density.shape, float(stats["rhat"]), float(stats["ess"])
    line = f"{name}: {size[0]} x {size[1]} draws, {status}, R-hat {rhat:.4f}, ESS {ess:.0f}"
    if "log_evidence" in stats:
        runs = np.asarray(stats["log_evidence"], float)
        mean = np.logaddexp.reduce(runs) - np.log(len(runs))
        line += (
            f", log evidence {mean:.3f} +- {float(stats['log_evidence_error']):.3f} (runs {runs.round(2).tolist()}, spread "
            f"{np.ptp(runs):.2f}), moves {stats['sweeps'].sum(1).tolist()} in {stats['num_stages'].tolist()} stages"
        )
    found = jaxgmm.modes(posterior, x, progress=False)
    masses = [f"{100 * m:.1f} +- {100 * e:.1f} %" for m, e in zip(found.mass[:4], found.mass_error[:4], strict=True)]
    print(f"{line}; {len(found.mass)} modes, masses {', '.join(masses)}; {'; then '.join(seconds)}", flush=True)


def run_case(name: str, options: argparse.Namespace) -> None:
    """Run all samplers on one case."""
    make, k, kind = CASES[name]
    x = make().astype(np.float32)
    shape = {"num_components": k, "covariance_type": kind}
    prior = jaxgmm.default_prior(x, **shape)
    size = {"num_samples": options.particles, "num_chains": options.runs, "progress": False}
    for tempering in options.tempering:
        run = partial(jaxgmm.smc, x=x, prior=prior, tempering=tempering, max_error=options.max_error, **shape, **size)
        calls = [seconds_of(partial(run, jax.random.key(seed))) for seed in range(options.calls)]
        describe(f"{name}, smc over {tempering}", calls[-1][0], x, [seconds for _, seconds in calls])
    start = jaxgmm.fit_restarts(jax.random.key(0), x, prior, **shape, progress=False).mixture if options.chains else None
    for method in options.chains:
        sampler = partial(getattr(jaxgmm, method), num_samples=options.samples, progress=False)
        found, seconds = seconds_of(partial(sampler, jax.random.key(1), start, x, prior))
        describe(f"{name}, {method} 4 x {options.samples}", found, x, [seconds])


def main() -> None:
    """Run the cases named, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", help="the first letters of names: " + "; ".join(CASES))
    parser.add_argument("--tempering", nargs="*", default=["data", "likelihood"])
    parser.add_argument("--particles", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=6)
    parser.add_argument("--max-error", type=float, help="nats; smc adds particles until its log evidence is as precise")
    parser.add_argument("--calls", type=int, default=2)
    parser.add_argument("--chains", nargs="*", default=[])
    parser.add_argument("--samples", type=int, default=5000, help="draws a chain of the other samplers")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    for name in CASES:
        if not options.cases or any(name.startswith(case) for case in options.cases):
            run_case(name, options)


if __name__ == "__main__":
    main()
