"""Test checkpoints of a fit over batches: after an interruption at any moment, the result is bitwise the same."""

import subprocess
import sys

import jax
import numpy as np
import pytest
from streamed_problem import OPTIONS, Failing, Interrupted, problem

import jaxgmm
from jaxgmm.em.stream import run

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


def assert_bitwise(found, expected):
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(a, b)


SLOW = [pytest.param({"accelerate": True, "online": flag}, marks=pytest.mark.slow) for flag in (False, True)]


@pytest.mark.parametrize("further", [{}, {"online": True}, *SLOW])
def test_resumed_fits_are_bitwise_equal(further, tmp_path, monkeypatch, x64):
    """The fit is interrupted in the first pass, between two passes and inside a pass; then it continues."""
    monkeypatch.setattr(run, "SECONDS_BETWEEN_WRITES", -1.0)
    start, _, _, batches = problem()
    options = OPTIONS | further
    expected = jaxgmm.fit_batches(start, batches, **options)
    path = tmp_path / "run.npz"
    for place in ((1, 4), (2, 0), (3, 3)):
        with pytest.raises(Interrupted):
            jaxgmm.fit_batches(start, Failing(batches, place), checkpoint=path, **options)
    source = Failing(batches)
    assert_bitwise(jaxgmm.fit_batches(start, source, checkpoint=path, **options), expected)
    assert source.passes < 7, "passes that were finished are not made again"
    assert_bitwise(jaxgmm.fit_batches(start, batches, checkpoint=path, **options), expected)
    other = [(batches[0][0] + 1, batches[0][1]), *batches[1:]]
    with pytest.raises(ValueError, match=r"belongs to a fit of other data: batch 0 is not the batch"):
        jaxgmm.fit_batches(start, other, checkpoint=path, **options)
    with pytest.raises(ValueError, match=r"belongs to another fit: its tol is 0.0, here it is 0.1"):
        jaxgmm.fit_batches(start, batches, checkpoint=path, **options | {"tol": 0.1})
    with pytest.raises(ValueError, match=r"belongs to another fit: its start"):
        jaxgmm.fit_batches(expected, batches, checkpoint=path, **options)


def test_other_files_are_no_checkpoints(tmp_path):
    path = tmp_path / "run.npz"
    path.write_bytes(b"no archive")
    start, _, _, batches = problem()
    with pytest.raises(ValueError, match="is not the file of a fit, or is damaged"):
        jaxgmm.fit_batches(start, batches, checkpoint=path)


KILLED = """
import os, signal, sys
import numpy as np
import jaxgmm
from jaxgmm.em.stream import run
from streamed_problem import OPTIONS, Failing, Interrupted, problem
run.SECONDS_BETWEEN_WRITES = -1.0
start, _, _, batches = problem()
passes = 0
def source():
    global passes
    passes += 1
    for i, batch in enumerate(batches):
        if (passes, i) == (3, 4) and sys.argv[2] == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        yield batch
fit = jaxgmm.fit_batches(start, source, checkpoint=sys.argv[1] or None, **OPTIONS)
np.savez(sys.argv[3], fit.mixture.means, fit.history)
"""


@pytest.mark.slow
def test_killed_processes_continue(tmp_path):
    """A process is killed by SIGKILL inside a pass; the next one ends with the bits of a process that was not killed."""

    def start(checkpoint, mode, result):
        arguments = [sys.executable, "-W", "ignore", "-c", KILLED, str(checkpoint), mode, str(tmp_path / result)]
        return subprocess.run(arguments, cwd="tests", timeout=300).returncode

    assert start(tmp_path / "run.npz", "killed", "a.npz") == -9
    assert start(tmp_path / "run.npz", "whole", "a.npz") == 0
    assert start("", "whole", "b.npz") == 0
    a, b = np.load(tmp_path / "a.npz"), np.load(tmp_path / "b.npz")
    for name in a.files:
        np.testing.assert_array_equal(a[name], b[name])
