"""Test that files are either complete or unchanged."""

import pytest

from jaxgmm.files import replacing, write_text


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
