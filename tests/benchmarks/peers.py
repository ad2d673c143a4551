"""Compare EM steps with those of other packages, where they are installed.

    python tests/benchmarks/peers.py [gmmx] [tgmm] [mclust]        (without a name: all)

gmmx and tgmm run in float32, as is usual with them. mclust runs its `me` in float64 from the responsibilities of the same
start, and needs Rscript. Medians and the range of the ratio are printed, compile time separately.
"""

from __future__ import annotations

import argparse
import importlib.util
import shutil
import statistics
import subprocess
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import em
import jax
import jax.numpy as jnp
import numpy as np

import jaxgmm

SIZES = [em.SIZES[2], em.SIZES[4]]
TARGETS = {"gmmx": [6, 2.5], "tgmm": [None, None], "mclust": [None, None]}


def report(name: str, i: int, peer: list[float], own: list[float]) -> None:
    """Print one line."""
    n, d, k = SIZES[i]
    ratios = sorted(a / b for a, b in zip(peer, own, strict=True))
    print(
        f"{n:>7} {d:>3} {k:>3}: {name} {statistics.median(peer) / em.STEPS * 1e3:.2f} ms, jaxgmm "
        f"{statistics.median(own) / em.STEPS * 1e3:.3f} ms a step, ratio {statistics.median(ratios):.1f} ({ratios[0]:.1f} to "
        f"{ratios[-1]:.1f}), target {TARGETS[name][i]}",
        flush=True,
    )


def by_turns(name: str, peer: Callable, options: argparse.Namespace) -> None:
    """Time a peer that runs in this process; peer(x, start) returns the function to time."""
    for i, size in enumerate(SIZES):
        x, start = em.problem(*size, np.float32)
        report(name, i, *em.take_turns(peer(x, start), em.ours(jnp.asarray(x), start), options.repeats))


def gmmx(options: argparse.Namespace) -> None:
    """Time gmmx, another EM in JAX."""
    from gmmx import EMFitter, GaussianMixtureModelJax

    def peer(x: np.ndarray, start: jaxgmm.Mixture) -> Callable:
        model = GaussianMixtureModelJax.from_squeezed(means=start.means, covariances=start.covariances, weights=start.weights)
        fitter, data = EMFitter(max_iter=em.STEPS, tol=0.0), jnp.asarray(x)
        return lambda: jax.block_until_ready(fitter.fit(x=data, gmm=model))

    by_turns("gmmx", peer, options)


def tgmm(options: argparse.Namespace) -> None:
    """Time tgmm, an EM in PyTorch, on a GPU if both packages can use it."""
    import torch
    from tgmm import GaussianMixture

    device = "cuda" if torch.cuda.is_available() and jax.default_backend() == "gpu" else "cpu"
    print(f"on {device}: torch {torch.__version__}, jax {jax.__version__}")

    def peer(x: np.ndarray, start: jaxgmm.Mixture) -> Callable:
        data, *begun = (torch.tensor(np.array(v), device=device) for v in (x, start.weights, start.means, start.covariances))
        begun = dict(zip(("init_weights", "init_means", "init_covariances"), begun, strict=True))

        def run() -> None:  # tgmm raises an error for a tolerance of zero
            GaussianMixture(start.num_components, max_iter=em.STEPS, tol=1e-30, device=device, **begun).fit(data)
            if device == "cuda":
                torch.cuda.synchronize()

        return run

    by_turns("tgmm", peer, options)


_R = """
suppressMessages(library(mclust))
args <- commandArgs(trailingOnly = TRUE)
x <- matrix(readBin(args[1], "double", as.integer(args[2]) * as.integer(args[3])), ncol = as.integer(args[3]), byrow = TRUE)
z <- matrix(readBin(args[4], "double", nrow(x) * as.integer(args[5])), ncol = as.integer(args[5]), byrow = TRUE)
control <- emControl(tol = c(0, 0), itmax = c(as.integer(args[6]), 0))
for (i in 1:as.integer(args[7]))
  cat(system.time(suppressWarnings(me(x, modelName = "VVV", z = z, control = control)))[["elapsed"]], "\\n")
"""


def mclust(options: argparse.Namespace) -> None:
    """Time the EM of mclust, which is written in Fortran and called from R."""
    for i, size in enumerate(SIZES):
        x, start = em.problem(*size, np.float64)
        z = np.asarray(jaxgmm.responsibilities(start, x), float)
        begun = jaxgmm.from_responsibilities(x, z)
        own = [em.steady(em.ours(jnp.asarray(x), begun)) for _ in range(options.repeats + 1)][1:]
        with tempfile.TemporaryDirectory() as folder:
            files = [Path(folder) / name for name in ("x", "z", "run.R")]
            x.tofile(files[0]), z.tofile(files[1]), files[2].write_text(_R)
            arguments = [files[2], files[0], *size[:2], files[1], size[2], em.STEPS, options.repeats]
            done = subprocess.run(["Rscript", *map(str, arguments)], capture_output=True, text=True, check=True)
        report("mclust", i, [float(line) for line in done.stdout.split()], own)


SECTIONS = {"gmmx": gmmx, "tgmm": tgmm, "mclust": mclust}


def installed(chosen: list[str]) -> Iterator[str]:
    """Yield the peers that are installed, and print a line for each that is not."""
    for name in chosen:
        if shutil.which("Rscript") if name == "mclust" else importlib.util.find_spec(name):
            yield name
        else:
            print(f"{name} is not installed")


def main() -> None:
    """Run the sections named, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", choices=[[], *SECTIONS], default=[])
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    for name in installed(options.sections or list(SECTIONS)):
        print(f"# {name}", flush=True)
        if name == "mclust":
            jax.config.update("jax_enable_x64", True)
        SECTIONS[name](options)


if __name__ == "__main__":
    main()
