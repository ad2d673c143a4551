"""Compare EM by several processes with EM by one process on the same cores, and print what moves between processes.

    python tests/benchmarks/processes.py [--rows 1000000] [--processes 1 2 4]

Each run has the same number of rows x 8 (float32), K=16, full. With P processes, each holds 1/P of the rows and runs on its own
part of the cores; with more processes than cores, some share a core. The time of a step comes from the difference between fits
of 22 and 2 steps; the shortest of three counts. One process has no global arrays.
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import time

STEPS = (2, 22)
TARGET = 1.2


def run(number: int, count: int, port: int, num_rows: int) -> None:
    """Fit in one of the processes; the first one prints the seconds of a step and the bytes of the sums."""
    cores = sorted(os.sched_getaffinity(0))
    own = [core for i, core in enumerate(cores) if i * count // len(cores) == number] or [cores[number % len(cores)]]
    os.sched_setaffinity(0, own)
    import jax
    import numpy as np
    from jax.sharding import AxisType, NamedSharding, PartitionSpec

    import jaxgmm
    from jaxgmm.memory import tree_bytes

    rng = np.random.default_rng(number)
    size = num_rows // count
    x = (rng.normal(size=(size, 8)) + 2 * rng.integers(0, 3, (size, 8))).astype(np.float32)
    if count > 1:
        address = f"127.0.0.1:{port}"
        jax.distributed.initialize(address, count, number, coordinator_bind_address=address)
        rows = NamedSharding(jax.make_mesh((count,), ("rows",), axis_types=(AxisType.Auto,)), PartitionSpec("rows"))
        x = jax.make_array_from_process_local_data(rows, x)
    else:
        x = jax.device_put(x)
    start = jaxgmm.initialize(jax.random.key(0), x, num_components=16)
    times = {steps: [] for steps in STEPS}
    for repeat in range(4):
        for steps in STEPS:
            begin = time.perf_counter()
            jax.block_until_ready(jaxgmm.fit(start, x, tol=0, max_iter=steps))
            if repeat:  # the first one compiles
                times[steps].append(time.perf_counter() - begin)
    if number == 0:
        seconds = (min(times[STEPS[1]]) - min(times[STEPS[0]])) / (STEPS[1] - STEPS[0])
        print(seconds, tree_bytes(jaxgmm.e_step(start, x)), flush=True)
    elif count > 1:
        jaxgmm.e_step(start, x)


def main() -> None:
    """Start the processes of each run, and print a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--run", type=int, nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        run(*options.run, options.rows)
        return
    first = None
    for count in options.processes:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = [sys.executable, __file__, "--rows", str(options.rows), "--run"]
        numbers = [map(str, (number, count, port)) for number in range(count)]
        started = [subprocess.Popen([*command, *number], stdout=subprocess.PIPE, text=True) for number in numbers]
        outputs = [process.communicate()[0] for process in started]
        seconds, moved = map(float, outputs[0].splitlines()[-1].split())
        first = first or seconds
        print(
            f"{count} processes, {options.rows} rows: {seconds:.4f} s a step, {seconds / first:.2f} times the first "
            f"(target {TARGET}); sums of a step {moved:.0f} bytes",
            flush=True,
        )


if __name__ == "__main__":
    main()
