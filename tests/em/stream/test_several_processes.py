"""Test fits of batches by several processes, which run on this machine and each read their own batches."""

import json
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


def test_one_process_works_alone(tmp_path):
    """With one process, nothing is exchanged, and errors and paths stay as they are."""
    sums = {"a": np.ones(2)}
    assert several_processes.added(sums) is sums
    assert several_processes.counted(3) == 3
    assert several_processes.own_path(tmp_path / "run.npz") == tmp_path / "run.npz"
    with pytest.raises(OSError, match="gone"):
        several_processes.together(lambda: (_ for _ in ()).throw(OSError("gone")))
