"""Test that Ctrl-C ends the command soon, whatever it is doing, without a traceback."""

import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

import jaxgmm.cli.interruption as interruption


def stopped(code, after):
    """Start the command with code in place of one of its parts, interrupt it, and return the process, stderr and seconds."""
    # a test run in the background of a shell ignores interrupts, and its children would ignore them too
    code = "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n" + code
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == after + "\n"
    start = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    return process.returncode, err, time.monotonic() - start


@pytest.mark.skipif(os.name == "nt", reason="no such signals")
@pytest.mark.parametrize("work", ["change()", "hang()"])
def test_it_ends_soon(work):
    """In Python at once, even if a library changes the error; in code that does not return to Python, after a few seconds.

    No process waits for a rehearsal, here one that never ends. The sentence names the file from which the command
    continues.
    """
    code = f"""
import ctypes, pathlib, sys, time, threading
import jaxgmm.cli as cli
from jaxgmm.cli.rehearsal import Rehearsal
cli.interruption._GRACE = 0.3
def hang():
    while True:  # like compiled code, which returns to Python only at its end
        ctypes.CDLL(None).sleep(60)
def change():
    try:
        time.sleep(60)
    except KeyboardInterrupt:  # like a callback of a compiled program
        raise RuntimeError("a callback failed")
def run(arguments):
    Rehearsal(threading.Event().wait)
    cli.interruption.remember_file(pathlib.Path({__file__!r}))
    print("started", flush=True)
    {work}
cli.fit.run = run
sys.argv = ["jaxgmm", "fit", "faithful", "-k", "2"]
sys.exit(cli.main())
"""
    returncode, err, seconds = stopped(code, "started")
    assert returncode == 130
    assert err == f"jaxgmm: interrupted: no more files were written, but the same command continues from '{__file__}'.\n"
    assert seconds < 20


@pytest.mark.skipif(os.name == "nt", reason="no such signals")
def test_interrupts_that_are_ignored_stay_ignored(monkeypatch):
    monkeypatch.setattr(signal, "getsignal", lambda _: signal.SIG_IGN)
    monkeypatch.setattr(signal, "set_wakeup_fd", lambda *_, **__: 1 / 0)
    interruption.stop_soon()


def test_an_interrupt_that_python_ignores_ends_the_process(monkeypatch):
    """Python ignores errors that are raised while it deletes an object; errors other than an interrupt are shown as usual."""
    ends = []
    monkeypatch.setattr(interruption, "_end", lambda: ends.append(1))
    monkeypatch.setattr(sys, "__unraisablehook__", ends.append)
    for value in (KeyboardInterrupt(), ValueError()):
        interruption._end_if_interrupted(SimpleNamespace(exc_value=value))
    assert [type(end) for end in ends] == [int, SimpleNamespace, SimpleNamespace]


def test_output_is_flushed(monkeypatch):
    """Also if one of the streams cannot be written to."""
    calls = []
    monkeypatch.setattr(os, "_exit", calls.append)
    monkeypatch.setattr(sys, "stdout", SimpleNamespace(flush=lambda: os.mkdir("")))
    monkeypatch.setattr(sys, "stderr", SimpleNamespace(flush=lambda: calls.append("stderr")))
    interruption.exit_now(3)
    assert calls == ["stderr", 3]


def test_after_the_last_line_of_output():
    """The command ends the process itself. During a normal exit of Python, Ctrl-C would end it without a sentence."""
    code = """
import atexit, sys, jaxgmm.cli as cli
atexit.register(print, "a normal exit")
cli.fit.run = lambda arguments: print("end")
sys.argv = ["jaxgmm", "fit", "faithful", "-k", "2"]
sys.exit(cli.main())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "end\n", "")
