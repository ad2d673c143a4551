"""Test that Ctrl-C during the import of the libraries ends the command quietly, and no other process."""

import os
import signal
import subprocess
import sys

import pytest

from jaxgmm import command_interrupt

INTERRUPTED = """
import os, signal, sys
sys.argv = {argv}
signal.signal(signal.SIGINT, signal.default_int_handler)  # a parent may have told its children to ignore it
class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == "jax":  # a person presses Ctrl-C while JAX is imported
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupt())
import jaxgmm.cli
"""


@pytest.mark.skipif(os.name == "nt", reason="no such signals")
@pytest.mark.parametrize("argv", [["/usr/bin/jaxgmm", "fit"], ["-c"]])
def test_during_import(argv):
    code = INTERRUPTED.format(argv=argv)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    if argv[0] == "-c":
        assert "Traceback" in done.stderr
    else:
        assert (done.returncode, done.stderr) == (130, "jaxgmm: interrupted: no more files were written.\n")


@pytest.mark.parametrize(
    ("argv", "original", "answer"),
    [
        (["/usr/bin/jaxgmm", "fit"], ["python", "/usr/bin/jaxgmm", "fit"], True),
        (["C:/jaxgmm.exe"], ["python"], True),
        (["-m", "fit"], ["python", "-m", "jaxgmm", "fit"], True),
        (["-m"], ["python", "-m", "pytest"], False),
        (["-c"], ["python", "-c", "import jaxgmm"], False),
        ([], ["python"], False),
    ],
)
def test_which_process_is_the_command(monkeypatch, argv, original, answer):
    monkeypatch.setattr(sys, "argv", argv)
    monkeypatch.setattr(sys, "orig_argv", original)
    assert command_interrupt.is_command() is answer


def test_nothing_changes_in_a_library():
    assert signal.getsignal(signal.SIGINT) is not command_interrupt.exit_quietly
