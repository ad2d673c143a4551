"""Test calls with arrays whose parts several processes hold. The processes run on this machine, with one device each."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import jaxgmm
from jaxgmm.devices.processes import is_global, over_parts

_QUICK = ["fit", "log_prob", "bic"]
_POSTERIOR = ["laplace", "gibbs", "nuts", "log_evidence"]
_SLOW = ["initialize", "default_prior", "e_step", "fit", "responsibilities", "predict", "icl", "aic"]
_SLOW += ["initialize unweighted", "fit_restarts", "standard_errors"]
_SLOW += ["explicit fit", "explicit responsibilities", "explicit default_prior", "fit_many"]
_RUNS = {"two": (2, _QUICK), "posterior": (2, _POSTERIOR), "four": (4, _SLOW)}


def free_port():
    """Return the number of a port that no process uses."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def start(script, *arguments, **environment):
    """Start a Python script with one device in a process of its own."""
    env = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": os.pathsep.join(sys.path)} | environment
    command = [sys.executable, str(script), *map(str, arguments)]
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(processes, seconds=300):
    """Wait for processes and return their outputs; afterwards, none of them runs."""
    try:
        return [process.communicate(timeout=seconds)[0] for process in processes]
    finally:
        for process in processes:
            with process:
                process.kill()


@pytest.fixture(scope="module", params=[pytest.param(run, marks=[pytest.mark.slow] * (run != "two")) for run in _RUNS])
def found(request, tmp_path_factory):
    """Return the hashes of results and the messages of errors of each process."""
    (count, names), folder, port = _RUNS[request.param], tmp_path_factory.mktemp("processes"), free_port()
    script = Path(__file__).parents[1] / "global_rows.py"
    processes = [start(script, folder, port, count, number, *names) for number in range(count)]
    outputs = finish(processes)
    assert [process.returncode for process in processes] == [0] * count, "\n".join(output[-3000:] for output in outputs)
    return [json.loads((folder / f"{number}.json").read_text()) for number in range(count)]


def test_results(found):
    """All processes end with the same bits; the script itself compares them with the results of one process."""
    assert all(results == found[0][0] for results, _ in found)
    assert len(found[0][0]) > 0


def test_errors(found):
    """If one process holds invalid rows, or makes another call, all raise the same error."""
    parts = [
        "x contains NaN in 1 of 240 rows",
        "sample_weight has a negative value, -1",
        "mixture of fit is not the same in all processes: process 0 and",
        "tol and max_iter of fit are not the same in all processes",
        "The processes call different functions: process 0 log_prob",
        "select was called with an array whose parts are held by several processes",
        "fit has no option steps",
        "sample_weight sums to 0.24 over 240 rows",
        "Columns 0, 2 of x are collinear",
    ]
    for part, *messages in zip(parts, *(errors for _, errors in found), strict=True):
        assert part in messages[0]
        assert set(messages) == {messages[0]}


@pytest.mark.slow
def test_one_process_is_killed(tmp_path):
    """If one process dies, the others end with an error within a minute, and the same command continues from the saved fit."""
    rng = np.random.default_rng(0)
    np.save(tmp_path / "data.npy", rng.normal(size=(2001, 3)) + 1.6 * rng.integers(0, 3, 2001)[:, None])
    script, result = Path(__file__).parents[2] / "notebooks" / "cluster" / "fit_on_cluster.py", tmp_path / "fit.npz"

    def start_both(*options):
        shared = (script, tmp_path / "data.npy", result, "-k", 3, *options, "--coordinator", f"127.0.0.1:{free_port()}")
        return [start(*shared, "--processes", 2, "--process", number) for number in range(2)]

    first, second = start_both("--steps", 2, "--rounds", 100_000)
    while first.poll() is None and not result.exists():
        time.sleep(0.1)
    second.kill()
    killed = time.monotonic()
    output = finish([first, second])[0]
    assert time.monotonic() - killed < 60
    assert first.returncode != 0
    saved = jaxgmm.load(result)
    assert saved.status == jaxgmm.Status.MAX_ITER, output
    again = start_both("--rounds", 1)
    output = finish(again)[0]
    assert [process.returncode for process in again] == [0, 0], output
    assert jaxgmm.load(result).log_likelihood > saved.log_likelihood


def test_arrays_of_one_process():
    """Without several processes, no array is global, and functions of parts see all rows."""
    values = np.arange(6.0).reshape(3, 2)
    assert not is_global(values)
    assert over_parts(lambda rows: rows.sum(0), values).tolist() == [6, 9]
