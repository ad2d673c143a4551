"""Test calls with rows on several devices. JAX must have several devices when it starts, hence a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

_QUICK = ["fit", "log_prob", "log_prob observations"]
_SLOW = ["e_step", "fit unweighted", "predict", "responsibilities", "bic", "aic", "icl", "default_prior", "fit_many"]
_SLOW += ["initialize", "initialize unweighted", "fit_restarts", "standard_errors", "laplace", "gibbs"]
_SLOW += ["fit observations", "e_step observations", "default_prior observations", "standard_errors observations"]
_SLOW += ["laplace observations", "gibbs observations"]
_SLOW += ["gibbs unweighted", "nuts", "derivatives", "log_evidence", "gibbs chains", "nuts chains"]


@pytest.mark.parametrize("names", [_QUICK, pytest.param(_SLOW, marks=pytest.mark.slow)], ids=["quick", "slow"])
def test_results_are_those_of_one_device(names, tmp_path):
    """Rows on four devices, with Auto and with Explicit axes, give the numbers of one device, and only small sums move.

    The first device has only rows of weight 0. The compiled programs are read, so that no cache may provide them.
    """
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=4"
    flags += f" --xla_dump_to={tmp_path} --xla_dump_hlo_as_text"
    done = subprocess.run(
        [sys.executable, Path(__file__).parents[1] / "sharded_rows.py", tmp_path, *names],
        env=os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "JAX_ENABLE_COMPILATION_CACHE": "false"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
