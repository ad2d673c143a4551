"""Test fits of batches by several processes, which run on this machine and each read their own batches."""

import json
import time
from pathlib import Path

import numpy as np
import pytest
from devices.test_processes import finish, free_port, start

from jaxgmm.em.stream import several_processes

SLOW = [pytest.param(count, "all", marks=pytest.mark.slow) for count in (2, 3)]


@pytest.mark.parametrize(("count", "extent"), [(2, "quick"), *SLOW])
def test_processes_agree(count, extent, tmp_path):
    """All processes return the fit of all rows, bit for bit, also after an interruption; if one fails, all raise its error."""
    script, port = Path(__file__).parents[2] / "batches_of_processes.py", free_port()
    processes = [start(script, tmp_path, port, count, number, extent) for number in range(count)]
    outputs = finish(processes)
    assert [process.returncode for process in processes] == [0] * count, "\n".join(output[-3000:] for output in outputs)
    found = [json.loads((tmp_path / f"{number}.json").read_text()) for number in range(count)]
    hashes, errors = zip(*found, strict=True)
    assert all(one == hashes[0] for one in hashes)
    fit, *resumed = hashes[0][:3]
    assert all(one == fit for one in resumed)
    parts = [
        f"process {count - 1}: batch",
        "x contains NaN",
        "tol of fit_batches is not the same in all processes",
        "batches holds no rows",
        "which can be read only once",
        "online=True and several processes",
    ]
    for part, *messages in zip(parts, *errors, strict=True):
        assert part in messages[0]
        assert set(messages) == {messages[0]}


@pytest.mark.slow
def test_a_killed_process_continues(tmp_path):
    """One of two processes is killed by SIGKILL in the middle. The other one ends; together, both continue to the same bits."""
    rng = np.random.default_rng(0)
    np.save(tmp_path / "data.npy", rng.normal(size=(3001, 3)) + 2 * rng.integers(0, 3, 3001)[:, None])
    script = Path(__file__).parents[3] / "notebooks" / "cluster" / "fit_files_on_cluster.py"

    def start_both(name):
        shared = (tmp_path / f"{name}.npz", tmp_path / f"{name}-run.npz", tmp_path / "data.npy", "-k", 3, "--rows", 11)
        shared = (*shared, "--max-iter", 15, "--coordinator", f"127.0.0.1:{free_port()}", "--processes", 2)
        return [start(script, *shared, "--process", number) for number in range(2)]

    def passes():
        path = tmp_path / "killed-run-1.npz"
        return np.load(path)["run/counts"][0] if path.exists() else 0

    first, second = start_both("killed")
    while first.poll() is None and passes() < 3:
        time.sleep(0.02)
    second.kill()
    killed = time.monotonic()
    output = finish([first, second])[0]
    assert first.returncode == 1, output
    assert time.monotonic() - killed < 60
    assert not (tmp_path / "killed.npz").exists()
    for name in ("killed", "whole"):
        processes = start_both(name)
        outputs = finish(processes)
        assert [process.returncode for process in processes] == [0, 0], "\n".join(outputs)
    found, expected = np.load(tmp_path / "killed.npz"), np.load(tmp_path / "whole.npz")
    for array in expected.files:
        np.testing.assert_array_equal(found[array], expected[array])


def test_one_process_works_alone(tmp_path):
    """With one process, nothing is exchanged, and errors and paths stay as they are."""
    sums = {"a": np.ones(2)}
    assert several_processes.added(sums) is sums
    assert several_processes.counted(3) == 3
    assert several_processes.own_path(tmp_path / "run.npz") == tmp_path / "run.npz"
    with pytest.raises(OSError, match="gone"):
        several_processes.together(lambda: (_ for _ in ()).throw(OSError("gone")))
