"""Compare eager fits of padded data with the same fits without padding, and count the programs that a loop of lengths compiles.

    python tests/benchmarks/padding.py [speed] [loop]        (without a name: both)

speed: ten EM steps at lengths that need most padding, float32 and float64. Calls with and without padding alternate.
loop: initialize and fit at the lengths 1000, 1007, ..., 2000. The number of compiled programs, and the memory maps and the
memory of the process, after the first length, half of the lengths and all of them.

The ratio is the median, over pairs of calls, of the time with padding over the time without; its quartiles are printed too.
"""

from __future__ import annotations

import argparse
import logging
import time
from pathlib import Path

import jax
import numpy as np

import jaxgmm
from jaxgmm import chunking

PADDED = chunking.LARGEST_PADDED
SIZES = [(1025, 2, 2), (1025, 8, 4), (1117, 2, 2), (4097, 2, 2), (4097, 8, 4), (16385, 8, 4), (65537, 4, 8)]


def clusters(n: int, d: int, k: int, dtype: type) -> np.ndarray:
    """Return rows of k unit normals along the first axis."""
    rng = np.random.default_rng(0)
    return (rng.normal(size=(n, d)) + 3 * rng.integers(k, size=n)[:, None] * np.eye(d)[0]).astype(dtype)


def ratio(n: int, d: int, k: int, pairs: int) -> tuple[np.ndarray, float]:
    """Return the quartiles of the ratio of times (3,), and the median time without padding in seconds."""
    x = jax.numpy.asarray(clusters(n, d, k, np.float64 if jax.config.read("jax_enable_x64") else np.float32))
    start = jaxgmm.initialize(jax.random.key(0), x, num_components=k)
    times = np.zeros((pairs + 2, 2))
    for pair in times:
        for way, largest in enumerate((PADDED, 0)):
            chunking.LARGEST_PADDED = largest
            begin = time.perf_counter()
            jax.block_until_ready(jaxgmm.fit(start, x, tol=0.0, max_iter=10))
            pair[way] = time.perf_counter() - begin
    chunking.LARGEST_PADDED = PADDED
    times = times[2:]  # the first calls compile
    return np.quantile(times[:, 0] / times[:, 1], [0.25, 0.5, 0.75]), float(np.median(times[:, 1]))


def speed(pairs: int) -> None:
    """Print a line per size and dtype."""
    print("     N  D  K  dtype    padded to  ms without  ratio (quartiles)")
    for n, d, k in SIZES:
        for enabled in (False, True):
            with jax.enable_x64(enabled):
                (low, middle, high), seconds = ratio(n, d, k, pairs)
            dtype = "float64" if enabled else "float32"
            to = chunking.padded_length(n)
            print(
                f"{n:6} {d:2} {k:2}  {dtype}  {to:9}  {seconds * 1e3:10.2f}  {middle:.3f} ({low:.3f} to {high:.3f})", flush=True
            )


class Compiled(logging.Handler):
    """Count the programs that JAX compiles."""

    count = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.count += "Finished XLA compilation" in record.getMessage()


def usage() -> str:
    """Return the number of memory maps and the resident memory of this process (Linux)."""
    maps = len(Path("/proc/self/maps").read_text().splitlines())
    resident = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS"))
    return f"{maps} maps, {int(resident.split()[1]) // 1024} MB"


def loop() -> None:
    """Print the number of programs, and what a loop over lengths adds to the process."""
    compiled = Compiled()
    logger = logging.getLogger("jax._src.dispatch")
    logger.addHandler(compiled)
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    x = clusters(2000, 2, 2, np.float32)
    begin = time.perf_counter()
    for n in range(1000, 2001, 7):
        start = jaxgmm.initialize(jax.random.key(n), x[:n], num_components=2)
        jaxgmm.fit(start, x[:n], tol=1e-4)
        if n in (1000, 1497, 1994):
            print(f"up to {n} rows: {compiled.count} programs, {usage()}, {time.perf_counter() - begin:.1f} s", flush=True)


def main() -> None:
    """Run the benchmarks that are named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="name", help="speed or loop")
    parser.add_argument("--pairs", type=int, default=60, help="number of pairs of calls per line of speed")
    options = parser.parse_args()
    for name in options.names or ["loop", "speed"]:
        print(f"{name}:")
        loop() if name == "loop" else speed(options.pairs)


if __name__ == "__main__":
    main()
