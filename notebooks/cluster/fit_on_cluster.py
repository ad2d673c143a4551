"""Fit a Gaussian mixture to the rows of one npy file, with several processes on one machine or on many.

Copy this file and change it. All processes run it with the same arguments, and each reads only its own rows. The fit is saved
after every few steps. If a process dies, the others end with an error. Start all of them again: they continue from the file.

Slurm, one process on each of 8 nodes:

    srun --nodes=8 --ntasks-per-node=1 python fit_on_cluster.py data.npy fit.npz -k 8

Open MPI, which also starts processes on the machines of a file with --hostfile:

    mpirun -n 8 --map-by node --bind-to none python fit_on_cluster.py data.npy fit.npz -k 8

Kubernetes, in each pod of an Indexed Job named `mixture` with 8 completions and a headless service, also named `mixture`:

    python fit_on_cluster.py data.npy fit.npz -k 8 --coordinator mixture-0.mixture:8476 --processes 8 \
        --process $JOB_COMPLETION_INDEX

Two processes on this machine:

    python fit_on_cluster.py data.npy fit.npz -k 8 --coordinator 127.0.0.1:8476 --processes 2 --process 0 &
    python fit_on_cluster.py data.npy fit.npz -k 8 --coordinator 127.0.0.1:8476 --processes 2 --process 1
"""

import argparse
import os
import sys
import traceback
import warnings
from pathlib import Path

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import jaxgmm


def read_rows(path, rows):
    """Return the rows of the file and their weights as arrays over all processes; each process reads its own part.

    Each device holds the same number of rows. The last rows are padding of weight 0.
    """
    table = np.load(path, mmap_mode="r")
    per_device = -(-len(table) // jax.device_count())
    size = per_device * jax.local_device_count()
    own = np.asarray(table[jax.process_index() * size :][:size], np.float32)
    x, weight = np.zeros((size, table.shape[1]), np.float32), np.zeros(size, np.float32)
    x[: len(own)], weight[: len(own)] = own, 1
    return tuple(jax.make_array_from_process_local_data(rows, array) for array in (x, weight))


def main():
    """Fit in rounds of a few steps, and save the fit after each round."""
    parser = argparse.ArgumentParser()
    parser.add_argument("data", help="npy file with an array (N, D)")
    parser.add_argument("result", type=Path, help="npz file for the fit; if it exists, the fit continues from it")
    parser.add_argument("-k", type=int, required=True, help="number of components")
    parser.add_argument("--steps", type=int, default=20, help="number of EM steps before the fit is saved")
    parser.add_argument("--rounds", type=int, default=50, help="largest number of rounds")
    parser.add_argument("--coordinator", help="address and port of process 0; Slurm and Open MPI tell JAX themselves")
    parser.add_argument("--processes", type=int)
    parser.add_argument("--process", type=int)
    args = parser.parse_args()

    is_here = (args.coordinator or "").startswith("127.0.0.1")  # other machines need no access then
    bind = args.coordinator if is_here else None
    jax.distributed.initialize(args.coordinator, args.processes, args.process, coordinator_bind_address=bind)
    # The processes connect here, where they arrive together. On CPUs, a first meeting later could fail: they may then be more
    # than 30 seconds apart, because they have read files of different sizes.
    multihost_utils.sync_global_devices("start")

    mesh = jax.make_mesh((jax.device_count(),), ("rows",), axis_types=(AxisType.Auto,))
    x, weight = read_rows(args.data, NamedSharding(mesh, PartitionSpec("rows")))
    if args.result.exists():
        mixture = jaxgmm.load(args.result).mixture
    else:
        mixture = jaxgmm.initialize(jax.random.key(0), x, num_components=args.k, sample_weight=weight)

    warnings.filterwarnings("ignore", "EM reached max_iter", RuntimeWarning)  # a round need not converge
    for number in range(1, args.rounds + 1):
        fit = jaxgmm.fit(mixture, x, sample_weight=weight, max_iter=args.steps)
        if jax.process_index() == 0:
            jaxgmm.save(args.result, fit)
            print(f"round {number}: {int(fit.num_iter)} steps, log-likelihood {float(fit.log_likelihood):.6f}", flush=True)
        if int(fit.status) != jaxgmm.Status.MAX_ITER:
            break
        mixture = fit.mixture
    if jax.process_index() == 0:
        print(fit)


if __name__ == "__main__":
    try:
        main()
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)  # an ordinary exit would wait for the other processes, of which one may be dead
