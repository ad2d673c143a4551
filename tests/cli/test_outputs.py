"""Test that output files are chosen, refused before any work, and written as a whole."""

import argparse
import json
import os
from pathlib import Path

import pytest

from jaxgmm.cli.outputs import check_output_file, output_paths, write_json, write_lines


def arguments(out, *, force=False):
    return argparse.Namespace(out=Path(out), force=force, command="fit")


def test_paths_are_named_after_source_and_command(tmp_path):
    folder = tmp_path / "new" / "folder"
    assert output_paths(arguments(folder), "data/points.csv", "json", "png") == [
        folder / "points-fit.json",
        folder / "points-fit.png",
    ]
    assert folder.is_dir()


def test_existing_files_need_force(tmp_path):
    (tmp_path / "points-fit.json").write_text("{}")
    with pytest.raises(ValueError, match=r"points-fit\.json would be overwritten; give --force"):
        output_paths(arguments(tmp_path), "points.csv", "json")
    assert output_paths(arguments(tmp_path, force=True), "points.csv", "json") == [tmp_path / "points-fit.json"]


def test_folders_that_are_refused(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="is a file; a folder was expected"):
        output_paths(arguments(tmp_path / "file"), "points.csv", "json")
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(ValueError, match="is not writable"):
        output_paths(arguments(tmp_path), "points.csv", "json")


def test_a_file_named_by_an_option(tmp_path):
    path = tmp_path / "page.html"
    check_output_file(path, "--report", force=False)
    path.write_text("")
    check_output_file(path, "--report", force=True)
    for bad, words in [
        (path, "would be overwritten"),
        (tmp_path, "is a folder"),
        (tmp_path / "no" / "a", "not a writable folder"),
    ]:
        with pytest.raises(ValueError, match=words):
            check_output_file(bad, "--report", force=False)


@pytest.mark.parametrize("force", [False, True])
def test_names_that_no_system_takes(tmp_path, force):
    """They are refused before the fit; names of which only the temporary file would be too long are taken."""
    assert output_paths(arguments(tmp_path), "n" * 240, "json")
    check_output_file(tmp_path / ("n" * 250), "--report", force=force)
    for check in (
        lambda: output_paths(arguments(tmp_path, force=force), "n" * 250, "json"),
        lambda: check_output_file(tmp_path / ("n" * 256), "--report", force=force),
    ):
        with pytest.raises(ValueError, match="cannot be written: File name too long"):
            check()
    assert not list(tmp_path.iterdir())


def test_links_to_nowhere_need_force(tmp_path):
    (tmp_path / "points-fit.json").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="would be overwritten"):
        output_paths(arguments(tmp_path), "points.csv", "json")
    with pytest.raises(ValueError, match="would be overwritten"):
        check_output_file(tmp_path / "points-fit.json", "--report", force=False)


def test_data_from_stdin(tmp_path):
    assert output_paths(arguments(tmp_path), "-", "json") == [tmp_path / "stdin-fit.json"]


def test_json_has_no_infinities(tmp_path):
    write_json(tmp_path / "a.json", {"name": "é", "value": float("inf")})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"name": "é", "value": None}


def test_lines_go_to_a_file_or_to_stdout(tmp_path, capsys):
    """A file is whole or unchanged, although its lines are written one by one."""

    def broken():
        yield "é\n"
        raise KeyboardInterrupt

    write_lines(tmp_path / "a.csv", iter(["é\n", "b\n"]))
    with pytest.raises(KeyboardInterrupt):
        write_lines(tmp_path / "a.csv", broken())
    assert (tmp_path / "a.csv").read_bytes() == "é\nb\n".encode()
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]
    write_lines(None, ["é\n"])
    assert capsys.readouterr().out == "é\n"
