"""Measure the first calls: each Python block of README in a process of its own, without and with stored programs.

    python tests/benchmarks/first_calls.py FOLDER [FOLDER ...] [--blocks 1,2] [--names]

FOLDER contains a checkout of the package. The blocks are those of the README beside this script, and two more: `fit_many` of 64
data sets with 50 to 2000 rows, and the command. A block runs twice with a compilation cache that is empty at first.
A line gives, for both runs, the seconds of CPU time (of all threads), the seconds of wall-clock time and the number of
programs that were compiled, or read from the cache. `--names` also lists these programs with the seconds that each one took.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

README = Path(__file__).parents[2] / "README.md"
RAGGED = """
import jax, numpy as np
import jaxgmm
rng = np.random.default_rng(0)
lengths = np.exp(rng.uniform(np.log(50), np.log(2000), 64)).astype(int)
xs = [(rng.normal(size=(n, 2)) + 4 * rng.integers(2, size=(n, 1))).astype(np.float32) for n in lengths]
print(jaxgmm.fit_many(jax.random.key(0), xs, num_components=2))
"""
COMMAND = """
import os, sys, tempfile
from jaxgmm.cli import main
assert main(["compare", "faithful", "-k", "2", "--out", tempfile.mkdtemp()]) == 0
"""
# Code that runs a block, given on stdin, and prints what it took as the last line.
CHILD = """
import json, sys, time
import jax
programs = []
def listen(event, seconds, **details):
    if event.endswith("backend_compile_duration"):
        programs.append((str(details.get("fun_name")), round(seconds, 3)))
jax.monitoring.register_event_duration_secs_listener(listen)
begin = time.perf_counter()
exec(sys.stdin.read(), {})
wall = time.perf_counter() - begin
print(json.dumps({"cpu": time.process_time(), "wall": wall, "programs": programs}))
"""


def blocks() -> dict[str, str]:
    """Return the code of each block by its number, and that of the other two."""
    found = re.findall(r"```python\n(.*?)```", README.read_text(), re.S)
    return {str(i + 1): code for i, code in enumerate(found)} | {"ragged": RAGGED, "command": COMMAND}


def measure(code: str, folder: str, cache: str) -> dict:
    """Run the code in a new process that imports the package from the folder; return what it took."""
    settings = {
        "PYTHONPATH": str(Path(folder).resolve()),
        "JAX_COMPILATION_CACHE_DIR": cache,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", CHILD],
        input=code,
        capture_output=True,
        text=True,
        env=os.environ | settings,
        cwd=cache,
    )
    if done.returncode:
        return {"error": (done.stderr.strip().splitlines() or ["no output"])[-1]}
    return json.loads(done.stdout.splitlines()[-1])


def line(found: dict) -> str:
    """Return the numbers of one run."""
    if "error" in found:
        return found["error"]
    return f"{found['cpu']:6.1f} s CPU {found['wall']:6.1f} s wall {len(found['programs']):4d} programs"


def main() -> None:
    """Measure all blocks, or those that are named, in each folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", metavar="FOLDER")
    parser.add_argument("--blocks", help="numbers of README's blocks, or the words ragged and command; default: all")
    parser.add_argument("--names", action="store_true", help="list the programs of the first run")
    options = parser.parse_args()
    for name, code in blocks().items():
        if options.blocks and name not in options.blocks.split(","):
            continue
        for folder in options.folders:
            with tempfile.TemporaryDirectory() as cache:
                cold, warm = measure(code, folder, cache), measure(code, folder, cache)
            print(f"block {name}, {folder}: first {line(cold)}; again {line(warm)}", flush=True)
            if options.names and "programs" in cold:
                seconds: dict[str, list[float]] = collections.defaultdict(list)
                for program, value in cold["programs"]:
                    seconds[program].append(value)
                for program, values in sorted(seconds.items(), key=lambda item: -sum(item[1])):
                    print(f"    {sum(values):6.2f} s {len(values):3d} x {program}")


if __name__ == "__main__":
    main()
