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
    done = subprocess.run([sys.executable, "-m", "jaxgmm", "fit", "nowhere.csv", "-k", "2"], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("command", ["fit", "compare", "select", "predict", "plot", "calibrate", "study", "sample"])
def test_every_command_has_help(capsys, command):
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    assert f"usage: jaxgmm {command}" in capsys.readouterr().out


def test_the_process_is_set_up_first(monkeypatch, capsys):
    """Without arguments of its own, `main` tunes the process, takes the arguments of the process, and ends it."""
    calls, codes = [], []
    monkeypatch.setattr(cli.startup, "tune_startup", lambda: calls.append("tune"))
    monkeypatch.setattr(cli.startup, "use_compilation_cache", lambda: calls.append("cache"))
    monkeypatch.setattr(cli.interruption, "stop_soon", lambda: calls.append("interrupts"))
    monkeypatch.setattr(sys, "argv", ["jaxgmm", "fit", "nowhere.csv", "-k", "2"])
    monkeypatch.setattr(cli, "exit_now", codes.append)
    main()
    assert codes == [2]
    assert "nowhere.csv" in capsys.readouterr().err
    assert calls == ["tune", "cache", "interrupts"]


def test_commands_are_required(refused):
    assert "required" in refused()
    assert "invalid choice: 'cluster'" in refused("cluster")


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (MemoryError(), 2, "not enough memory"),
        (PermissionError(13, "Permission denied", "x.json"), 2, "x.json: Permission denied"),
        (OSError("no space"), 2, "no space."),
        (ValueError("bad data"), 2, "bad data"),
    ],
)
def test_errors_are_one_line(capsys, monkeypatch, error, code, words):
    def raise_error(*_, **__):
        raise error

    monkeypatch.setattr("jaxgmm.cli.fit.read_rows", raise_error)
    assert main(["fit", "faithful", "-k", "2"]) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line


@pytest.mark.parametrize("error", [RuntimeError("odd\nmore"), TypeError("odd"), KeyError("odd"), AssertionError("odd")])
def test_errors_inside_jaxgmm_have_a_traceback(capsys, monkeypatch, error):
    """They are never dressed as refusals of the input, and ask for a report."""

    def raise_error(*_, **__):
        raise error

    monkeypatch.setattr("jaxgmm.cli.fit.read_rows", raise_error)
    assert main(["fit", "faithful", "-k", "2"]) == 1
    first, *_, last = capsys.readouterr().err.splitlines()
    assert first.startswith("Traceback")
    assert last.startswith(f"jaxgmm: this is an error inside jaxgmm: {type(error).__name__}")
    assert "please report it" in last


def test_a_traceback_of_a_refusal(capsys):
    assert main(["fit", "faithful", "-k", "0", "--traceback"]) == 2
    first, *_, last = capsys.readouterr().err.splitlines()
    assert first.startswith("Traceback")
    assert last == "jaxgmm: num_components is 0; an integer >= 1 was expected."


HUGE = "99999999999999999999"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["fit", "faithful", "-k", "2", "--seed", HUGE], f"seed is {HUGE}"),
        (["fit", "faithful", "-k", "2", "--restarts", HUGE], f"restarts is {HUGE}"),
        (["fit", "faithful", "-k", "2", "--restarts", "2000000000"], "num_restarts=2000000000 takes at least"),
        (["select", "faithful", "--restarts", "2000000000"], "num_restarts=2000000000 takes at least"),
        (["compare", "faithful", "-k", "2", "--num-samples", HUGE], f"num_samples is {HUGE}"),
        (["compare", "faithful", "-k", "2", "--num-chains", HUGE], f"num_chains is {HUGE}"),
        (["calibrate", "laplace", "--num-datasets", "1000000000000000"], "num_datasets is 1000000000000000"),
        (["calibrate", "laplace", "--num-datasets", "2000000000", "-k", "50"], "num_datasets=2000000000 takes at least"),
        (["calibrate", "laplace", "--num-draws", HUGE], f"num_draws is {HUGE}"),
    ],
)
def test_sizes_that_cannot_be_allocated(refused, monkeypatch, tmp_path, arguments, words):
    monkeypatch.setattr("jaxgmm.memory.free_memory", lambda: 1e9)
    assert words in refused(*arguments, "--out", tmp_path)


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
