"""Test that annotated code of a user passes pyright. The package itself is checked by `.ci/run`."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent


@pytest.mark.skipif(importlib.util.find_spec("pyright") is None, reason="needs pyright, of the extra lint")
def test_pyright_finds_no_error():
    command = [sys.executable, "-m", "pyright", str(TESTS / "typed_user_code.py")]
    done = subprocess.run(command, cwd=TESTS.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
