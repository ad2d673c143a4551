"""Compare `select` over the fourteen covariance types, nine numbers of components and ten restarts with mclust and tgmm.

    python tests/benchmarks/sweeps.py [faithful] [wine] [--tgmm PYTHON]        (without a name: both data sets)

mclust runs `Mclust(x, G = 1:9)`, which has one start for each number of components, and needs Rscript. tgmm runs
`select_model(n_components=range(1, 10), n_init=10)` in the interpreter PYTHON, in float64 and with its other defaults. wine is
scikit-learn's. The seconds of wall time and of CPU time are printed for each program, for jaxgmm both for the first call, which
compiles, and for the second. Below are the log-likelihoods of each type at the number of components that jaxgmm chooses for it.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np

import jaxgmm
from jaxgmm.covariance.types import CODES, canonical, code_of

COUNTS = range(1, 10)
_R = """
suppressMessages(library(mclust))
args <- commandArgs(trailingOnly = TRUE)
d <- as.integer(args[3])
x <- matrix(readBin(args[1], "double", as.integer(args[2]) * d), ncol = d, byrow = TRUE)
t <- system.time(b <- mclustBIC(x, G = 1:9, verbose = FALSE))
cat(t[["elapsed"]], t[["user.self"]] + t[["sys.self"]], "\\n")
for (m in colnames(b)) for (k in rownames(b)) {
  p <- nMclustParams(m, d, as.integer(k))
  cat(m, k, sprintf("%.6f", (b[k, m] + p * log(nrow(x))) / 2), "\\n")
}
"""
_TGMM = """
import json, sys, time, warnings
import numpy as np, torch
from tgmm import select_model
warnings.simplefilter("ignore")
x = torch.tensor(np.fromfile(sys.argv[1]).reshape(int(sys.argv[2]), int(sys.argv[3])))
wall, cpu = time.perf_counter(), time.process_time()
found = select_model(x, n_components=range(1, 10), n_init=10, random_state=0)
print(json.dumps([time.perf_counter() - wall, time.process_time() - cpu]))
print(json.dumps([{k: v for k, v in row.items() if isinstance(v, (int, float, str, type(None)))} for row in found.table]))
"""


@dataclass(frozen=True)
class Sweep:
    """The times of a program in seconds, and its log-likelihoods by code and number of components."""

    name: str
    wall: float
    cpu: float
    values: dict[tuple[str, int], float]


def own(x: np.ndarray) -> list[Sweep]:
    """Return the first and the second call of `select`."""
    sweeps = []
    for call in ("first", "second"):
        wall, cpu = time.perf_counter(), time.process_time()
        found = jaxgmm.select(jax.random.key(0), x, num_components=COUNTS, covariance_types="all", progress=False)
        times = time.perf_counter() - wall, time.process_time() - cpu
        # log-likelihoods of fits that are not sound are unbounded
        sound = {cell: value for cell, value in found.cells.items() if value.sound}
        values = {(code_of(name), k): cell.log_likelihood for (name, k), cell in sound.items()}
        sweeps.append(Sweep(f"jaxgmm, {call} call", *times, values))
    return sweeps


def run(command: list[str], x: np.ndarray) -> list[str]:
    """Return the lines that a program prints, given a file with the rows and their numbers as its last arguments."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x"
        x.astype(float).tofile(path)
        done = subprocess.run([*command, str(path), *map(str, x.shape)], capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"{command[0]} failed: {done.stderr.strip().splitlines()[-1:]}", flush=True)
        return []
    return done.stdout.splitlines()


def mclust(x: np.ndarray) -> Sweep | None:
    """Return the sweep of mclust, if Rscript is there."""
    if not shutil.which("Rscript"):
        print("mclust: Rscript is not installed")
        return None
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "run.R"
        script.write_text(_R)
        lines = run(["Rscript", str(script)], x)
    if not lines:
        return None
    wall, cpu = map(float, lines[0].split())
    rows = [line.split() for line in lines[1:]]
    return Sweep("mclust", wall, cpu, {(m, int(k)): float(value) for m, k, value in rows if value != "NA"})


def tgmm(x: np.ndarray, python: str) -> Sweep | None:
    """Return the sweep of tgmm, in another interpreter or, if tgmm is installed, in this one."""
    if not python or (python == sys.executable and not importlib.util.find_spec("tgmm")):
        print("tgmm is left out" if not python else "tgmm is not installed")
        return None
    lines = run([python, "-c", _TGMM], x)
    if not lines:
        return None
    (wall, cpu), rows = json.loads(lines[-2]), json.loads(lines[-1])
    values = {
        (row["covariance_type"].upper(), row["n_components"]): len(x) * row["log_likelihood"]
        for row in rows
        if row["log_likelihood"] is not None
    }
    return Sweep("tgmm", wall, cpu, values)


def compare(name: str, x: np.ndarray, python: str) -> None:
    """Print times, and the log-likelihoods of all programs at the best number of components of each type."""
    sweeps = []
    for program in (lambda: own(x), lambda: [mclust(x)], lambda: [tgmm(x, python)]):
        for sweep in (one for one in program() if one is not None):
            print(f"{name} {x.shape}: {sweep.name} takes {sweep.wall:.1f} s ({sweep.cpu:.1f} s of CPU time)", flush=True)
            sweeps.append(sweep)
    ours, n, d = sweeps[1], *x.shape
    print("type  K " + "".join(f"{sweep.name.split(',')[0]:>14}" for sweep in sweeps[1:]))
    for code in CODES:
        free = {k: jaxgmm.covariance.types.num_free(canonical(code), k, d) + k - 1 + k * d for k in COUNTS}
        scores = {k: free[k] * np.log(n) - 2 * ours.values[code, k] for k in COUNTS if (code, k) in ours.values}
        best = min(scores, key=lambda k: scores[k])
        reached = "".join(f"{sweep.values.get((code, best), np.nan):>14.4f}" for sweep in sweeps[1:])
        print(f"{code} {best:>4} {reached}", flush=True)


def main() -> None:
    """Run the data sets named, or both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="*", choices=[[], "faithful", "wine"], default=[])
    parser.add_argument(
        "--tgmm", default=sys.executable, metavar="PYTHON", help="the interpreter that has tgmm; '' leaves it out"
    )
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    jax.config.update("jax_enable_x64", True)
    for name in options.data or ["faithful", "wine"]:
        if name == "wine":
            from sklearn.datasets import load_wine

            x = load_wine().data
        else:
            x = np.asarray(jaxgmm.datasets.load(name), float)
        compare(name, x, options.tgmm)


if __name__ == "__main__":
    main()
