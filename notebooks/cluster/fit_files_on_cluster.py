"""Fit a Gaussian mixture to data on disk, with several processes that each read their own part, a batch at a time.

Use this script if the rows of a machine do not fit into its memory. If they do, `fit_on_cluster.py` is faster, because it reads
the data only once. Copy this file and change it. All processes run it with the same arguments. Of several files, each process
reads every H-th one, where H is the number of processes. Of a single npy file, each process reads a range of rows. One pass
over the data is one EM step. Each process saves its state; with the checkpoint run.npz, process 0 writes run-0.npz. If a
process dies, the others end with an error. Start all of them again: they continue where they were, and the fit has the same
bits.

Slurm, one process on each of 8 nodes:

    srun --nodes=8 --ntasks-per-node=1 python fit_files_on_cluster.py fit.npz run.npz -k 8 part-*.parquet

Open MPI, which also starts processes on the machines of a file with --hostfile:

    mpirun -n 8 --map-by node --bind-to none python fit_files_on_cluster.py fit.npz run.npz -k 8 part-*.parquet

Kubernetes, in each pod of an Indexed Job named `mixture` with 8 completions and a headless service, also named `mixture`:

    python fit_files_on_cluster.py fit.npz run.npz -k 8 part-*.parquet --coordinator mixture-0.mixture:8476 --processes 8 \
        --process $JOB_COMPLETION_INDEX

Two processes on this machine:

    python fit_files_on_cluster.py fit.npz run.npz -k 8 data.npy --coordinator 127.0.0.1:8476 --processes 2 --process 0 &
    python fit_files_on_cluster.py fit.npz run.npz -k 8 data.npy --coordinator 127.0.0.1:8476 --processes 2 --process 1
"""

import argparse
import os
import sys
import traceback
from pathlib import Path

import jax
import numpy as np
from jax.experimental import multihost_utils

import jaxgmm


def own_batches(files, rows):
    """Return the batches of this process."""
    number, count = jax.process_index(), jax.process_count()
    if len(files) > 1:
        own = files[number::count]
        return jaxgmm.read_batches(own, rows) if own else []
    table = np.load(files[0], mmap_mode="r")
    begin, end = (len(table) * i // count for i in (number, number + 1))
    return jaxgmm.read_batches(table[begin:end], rows)


def main():
    """Make a start from a sample of the rows of all processes, fit, and save the fit."""
    parser = argparse.ArgumentParser()
    parser.add_argument("result", type=Path, help="npz file for the fit")
    parser.add_argument("checkpoint", type=Path, help="npz file for the state of the fit; processes add their numbers")
    parser.add_argument("files", nargs="+", help="npy, csv, parquet or feather files with the same columns; or one npy file")
    parser.add_argument("-k", type=int, required=True, help="number of components")
    parser.add_argument("--rows", type=int, default=1_000_000, help="number of rows of a batch")
    parser.add_argument("--max-iter", type=int, default=1000, help="largest number of passes after the first one")
    parser.add_argument("--coordinator", help="address and port of process 0; Slurm and Open MPI tell JAX themselves")
    parser.add_argument("--processes", type=int)
    parser.add_argument("--process", type=int)
    args = parser.parse_args()

    is_here = (args.coordinator or "").startswith("127.0.0.1")  # other machines need no access then
    bind = args.coordinator if is_here else None
    jax.distributed.initialize(args.coordinator, args.processes, args.process, coordinator_bind_address=bind)
    multihost_utils.sync_global_devices("start")  # on CPUs, processes must first meet within 30 seconds of each other

    batches = own_batches(args.files, args.rows)
    start = jaxgmm.initialize_batches(jax.random.key(0), batches, num_components=args.k)
    fit = jaxgmm.fit_batches(start, batches, accelerate=True, max_iter=args.max_iter, checkpoint=args.checkpoint)
    if jax.process_index() == 0:
        jaxgmm.save(args.result, fit)
        print(fit)


if __name__ == "__main__":
    try:
        main()
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)  # an ordinary exit would wait for the other processes, of which one may be dead
