"""Test the command as a whole: version, help, exit codes, and errors that become one line."""

import subprocess
import sys

import pytest

import jaxgmm
from jaxgmm import cli
from jaxgmm.cli import main


def test_version_help_and_module(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out == f"jaxgmm {jaxgmm.__version__}\n"
    code = "import sys, jaxgmm.cli; print([m for m in ('matplotlib', 'numpyro', 'scipy.stats', 'pandas') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
    done = subprocess.run([sys.executable, "-m", "jaxgmm", "fit", "nowhere.csv", "-k", "2"], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("command", ["fit", "compare", "select", "calibrate", "study", "sample"])
def test_every_command_has_help(capsys, command):
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    assert f"usage: jaxgmm {command}" in capsys.readouterr().out


def test_the_process_is_set_up_first(monkeypatch, capsys):
    """Without arguments of its own, `main` tunes the process and takes the arguments of the process."""
    calls = []
    monkeypatch.setattr(cli.startup, "tune_startup", lambda: calls.append("tune"))
    monkeypatch.setattr(cli.startup, "use_compilation_cache", lambda: calls.append("cache"))
    monkeypatch.setattr(sys, "argv", ["jaxgmm", "fit", "nowhere.csv", "-k", "2"])
    assert main() == 2
    assert "nowhere.csv" in capsys.readouterr().err
    assert calls == ["tune", "cache"]


def test_commands_are_required(refused):
    assert "required" in refused()
    assert "invalid choice: 'cluster'" in refused("cluster")


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (RuntimeError("odd\nmore"), 1, "RuntimeError: odd"),
        (PermissionError(13, "Permission denied", "x.json"), 2, "x.json: Permission denied"),
        (OSError("no space"), 2, "no space."),
        (ValueError("bad data"), 2, "bad data"),
    ],
)
def test_errors_are_one_line(capsys, monkeypatch, error, code, words):
    def raise_error(*_):
        raise error

    monkeypatch.setattr("jaxgmm.cli.fit.read_data", raise_error)
    assert main(["fit", "faithful", "-k", "2"]) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line


def test_a_closed_pipe_is_no_error():
    """`jaxgmm sample ... | head -1`: the reader leaves early, and nothing is printed about it."""
    code = (
        "import sys, jaxgmm.cli as cli\n"
        "def run(arguments):\n"
        "    raise BrokenPipeError\n"
        "cli.fit.run = run\n"
        "sys.exit(cli.main(['fit', 'faithful', '-k', '2']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == ""
