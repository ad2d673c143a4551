"""Time EM on incomplete rows, in ten steps from the same start, in float64.

    python tests/benchmarks/incomplete.py [complete] [tgmm] [xd] [astroml]      (without a name: all that are installed)

complete: 1e5 x 4, K=4, without holes, with holes in 8 patterns, with holes in all patterns, and with a noise matrix for each
    row; the ratios to the time without holes are printed.
tgmm: the rows with holes in 8 patterns, against tgmm with missing="em" (target: 5 times faster).
xd: 1e5 x 3, K=4, with a full noise matrix for each row, against the C code of extreme deconvolution (target: 2 times faster).
astroml: the same against XDGMM of astroML, which factorises one matrix at a time; it takes one step in place of ten.
The programs take turns, and medians are printed: of the time that passed, or with --cpu of the CPU time of all threads.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import time
import warnings
from collections.abc import Callable

import jax
import numpy as np

import jaxgmm

STEPS = 10


def problem(n: int, d: int, k: int, num_patterns: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, jaxgmm.Mixture]:
    """Return complete rows, the same rows with holes in a number of patterns, and a start."""
    rng = np.random.default_rng(seed)
    centers = rng.normal(size=(k, d)) * 2
    x = centers[rng.integers(k, size=n)] + rng.normal(size=(n, d))
    patterns = np.array([[(code >> j) & 1 for j in range(d)] for code in range(2**d)], bool)[: -1 if num_patterns > 1 else 1]
    holes = patterns[:num_patterns][rng.integers(min(num_patterns, len(patterns)), size=n)]
    start = jaxgmm.make_mixture(np.full(k, 1 / k), centers + 0.3 * rng.normal(size=(k, d)), np.stack([np.eye(d)] * k))
    return x, np.where(holes, np.nan, x), start


def noise_matrices(n: int, d: int) -> np.ndarray:
    """Return a covariance matrix of noise for each row."""
    roots = np.random.default_rng(1).normal(size=(n, d, d)) / np.sqrt(4 * d)
    return roots @ np.swapaxes(roots, 1, 2)


def ours(data: object, start: jaxgmm.Mixture) -> Callable[[], object]:
    """Return a function that takes ten EM steps."""
    return lambda: jax.block_until_ready(jaxgmm.fit(start, data, tol=0, max_iter=STEPS))


def take_turns(programs: dict[str, Callable[[], object]], options: argparse.Namespace) -> dict[str, float]:
    """Return the median time of each program in seconds; all run once before, to compile."""
    clock = time.process_time if options.cpu else time.perf_counter
    times = {name: [] for name in programs}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for turn in range(options.repeats + 1):
            for name, program in programs.items():
                begin = clock()
                program()
                if turn:
                    times[name].append(clock() - begin)
    return {name: statistics.median(values) for name, values in times.items()}


def report(title: str, found: dict[str, float], reference: str) -> None:
    """Print the time of a step and the ratio to a reference program."""
    print(title)
    for name, seconds in found.items():
        print(f"  {name:<24} {seconds / STEPS * 1e3:9.2f} ms a step, {seconds / found[reference]:6.2f} x {reference}")


def complete(options: argparse.Namespace) -> None:
    """Compare incomplete with complete rows."""
    n, d, k = options.rows, 4, 4
    x, few, start = problem(n, d, k, 8)
    many = problem(n, d, k, 16)[1]
    programs = {
        "array": ours(x, start),
        "complete observations": ours(jaxgmm.observations(x), start),
        "8 patterns": ours(jaxgmm.observations(few), start),
        "8 patterns, by row": ours(jaxgmm.observations(few, method="rows"), start),
        "15 patterns": ours(jaxgmm.observations(many), start),
        "noise variances by row": ours(jaxgmm.observations(x, noise=np.full(x.shape, 0.1) + 0.1 * x**2), start),
        "noise matrices by row": ours(jaxgmm.observations(x, noise=noise_matrices(n, d)), start),
    }
    report(f"{n} x {d}, K={k}, float64, with the fit of one component for V", take_turns(programs, options), "array")


def tgmm(options: argparse.Namespace) -> None:
    """Compare rows with holes in 8 patterns with tgmm."""
    import torch
    from tgmm import GaussianMixture

    n, d, k = options.rows, 4, 4
    _, few, start = problem(n, d, k, 8)
    data = torch.tensor(few)
    first = {f"init_{name}": torch.tensor(np.array(getattr(start, name))) for name in ("weights", "means", "covariances")}

    def peer() -> GaussianMixture:
        return GaussianMixture(n_components=k, n_features=d, max_iter=STEPS, tol=1e-300, missing="em", **first).fit(data)

    steps = int(peer().n_iter_) + 1  # tgmm counts from 0
    if steps != STEPS:
        raise RuntimeError(f"tgmm took {steps} steps; {STEPS} were expected.")
    programs = {
        "jaxgmm": ours(jaxgmm.observations(few), start),
        "tgmm": peer,
    }
    report(f"{n} x {d}, K={k}, 8 patterns", take_turns(programs, options), "jaxgmm")


def xd(options: argparse.Namespace) -> None:
    """Compare rows with a noise matrix each with the C code of extreme deconvolution."""
    from extreme_deconvolution import extreme_deconvolution

    n, d, k = options.rows, 3, 4
    x, _, start = problem(n, d, k, 1)
    noise = noise_matrices(n, d)

    def peer() -> None:
        parameters = [np.array(leaf) for leaf in (start.weights, start.means, start.covariances)]
        extreme_deconvolution(x, noise, *parameters, tol=0.0, maxiter=STEPS)

    programs = {"jaxgmm": ours(jaxgmm.observations(x, noise=noise), start), "extreme deconvolution": peer}
    report(f"{n} x {d}, K={k}, noise matrices", take_turns(programs, options), "jaxgmm")


def astroml(options: argparse.Namespace) -> None:
    """Compare rows with a noise matrix each with the Python code of astroML."""
    from astroML.density_estimation import XDGMM

    n, d, k = options.rows, 3, 4
    x, _, start = problem(n, d, k, 1)
    noise = noise_matrices(n, d)

    def peer() -> None:
        model = XDGMM(k)
        model.alpha, model.mu, model.V = (np.array(leaf) for leaf in (start.weights, start.means, start.covariances))
        model._EMstep(x, noise)  # its method fit does not take a start
        model.logL(x, noise)  # its fit computes the log-likelihood after each step

    programs = {"jaxgmm": ours(jaxgmm.observations(x, noise=noise), start), "astroML": peer, "complete rows": ours(x, start)}
    found = take_turns(programs, options)
    report(f"{n} x {d}, K={k}, noise matrices", found | {"astroML": found["astroML"] * STEPS}, "jaxgmm")


def main() -> None:
    """Run the measurements that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[[], "complete", "tgmm", "xd", "astroml"])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--cpu", action="store_true", help="measure CPU time, for a machine that does other work")
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    modules = {"complete": "jaxgmm", "tgmm": "tgmm", "xd": "extreme_deconvolution", "astroml": "astroML"}
    for name, function in {"complete": complete, "tgmm": tgmm, "xd": xd, "astroml": astroml}.items():
        installed = importlib.util.find_spec(modules[name]) is not None
        if name in options.names or (not options.names and installed):
            function(options)
        elif not options.names:
            print(f"{name}: {modules[name]} is not installed")


if __name__ == "__main__":
    main()
