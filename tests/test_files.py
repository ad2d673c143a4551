"""Test that files are either complete or unchanged."""

import json
import subprocess
import sys
import tomllib

import pytest

from jaxgmm import files
from jaxgmm.files import parse_file, replacing, write_text


def test_a_failed_write_leaves_what_was_there(tmp_path):
    path = write_text(tmp_path / "a.txt", "old")
    with pytest.raises(TypeError, match="bytes-like"), replacing(path) as stream:
        stream.write("new")
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["a.txt"]


def test_a_link_is_written_through(tmp_path):
    write_text(tmp_path / "a.txt", "old")
    (tmp_path / "b.txt").symlink_to(tmp_path / "a.txt")
    write_text(tmp_path / "b.txt", "new")
    assert (tmp_path / "a.txt").read_text() == "new"
    assert (tmp_path / "b.txt").is_symlink()


@pytest.mark.parametrize("name", ["a.txt", "[a]*?.txt", "n" * 240, "é" * 120])
def test_names_of_all_kinds(tmp_path, name):
    """The name of the temporary file is not longer than a system takes."""
    assert write_text(tmp_path / name, "text").read_text() == "text"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_name_that_is_too_long_is_refused_before_the_block(tmp_path):
    with pytest.raises(OSError, match="too long"), replacing(tmp_path / ("n" * 300)):
        raise AssertionError
    assert not list(tmp_path.iterdir())


def test_a_trial_changes_nothing(tmp_path):
    path = write_text(tmp_path / "a.txt", "old")
    with replacing(path, keep=True):
        pass
    with replacing(tmp_path / "b.txt", keep=True):
        pass
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(files.fcntl is None, reason="no locks here")
@pytest.mark.parametrize("name", ["a.npz", "[a].npz", "n" * 240])
def test_what_killed_processes_leave_behind_is_removed(tmp_path, name):
    """At the next write to the same target; files of living processes and of other targets stay."""
    code = (
        "import os, sys\n"
        "from jaxgmm.files import replacing\n"
        "with replacing(sys.argv[1]) as stream:\n"
        "    stream.write(b'half'); stream.flush(); os.kill(os.getpid(), 9)\n"
    )
    for target in (name, "other"):
        assert subprocess.run([sys.executable, "-c", code, tmp_path / target]).returncode == -9
    assert len(list(tmp_path.iterdir())) == 2
    with replacing(tmp_path / name) as first, replacing(tmp_path / name) as second:
        first.write(b"first")
        second.write(b"second")
        assert len(list(tmp_path.iterdir())) == 3
    assert sorted(path.name[:7] for path in tmp_path.iterdir()) == sorted([".other.", name[:7]])
    assert (tmp_path / name).read_bytes() == b"first"


@pytest.mark.parametrize("parse", [json.loads, tomllib.loads])
def test_parsing(tmp_path, parse):
    start = "a = " if parse is tomllib.loads else ""
    with pytest.raises(ValueError, match="nested too deeply"):
        parse_file(write_text(tmp_path / "a", start + "[" * 10**5 + "]" * 10**5), parse)
    (tmp_path / "a").write_bytes(b"\xff")
    with pytest.raises(ValueError, match="utf-8"):
        parse_file(tmp_path / "a", parse)
    with pytest.raises(FileNotFoundError):
        parse_file(tmp_path / "b", parse)
