"""Test how text is decoded and divided into lines; more is in test_read_table.py."""

import pytest

from jaxgmm.io.text import check_unpacked, read_text, split_lines


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"])
def test_encodings(tmp_path, encoding):
    text = "l\u00e4nge,b\n1.5,2\n" * 20
    (tmp_path / "a.csv").write_bytes(text.encode(encoding))
    assert read_text(tmp_path / "a.csv") == text


@pytest.mark.parametrize("data", [b"\x00\x01", b"\x89PNG\r\n\x1a\n", b"\xff\xfe1,2", b"1,2\x00"])
def test_what_is_not_text(tmp_path, data):
    (tmp_path / "a.csv").write_bytes(data)
    with pytest.raises(ValueError, match="is not text"):
        read_text(tmp_path / "a.csv")


def test_lines_and_comments():
    found = split_lines("# one\n# two\n\nx,y\r\n1,2 # more\n% out\n#N/A,3\n")
    assert found.lines == ["x,y", "1,2", "#N/A,3"]
    assert found.numbers == [4, 5, 7]
    assert (found.comment, found.inner_comments, found.delimiter) == ("two", 1, None)


def test_large_files_that_are_hardly_packed_are_fine():
    check_unpacked("a.gz", 2 * 10**9, 9 * 10**9)
    check_unpacked("a.gz", 10**3, 10**8)
    with pytest.raises(ValueError, match=r"unpacks from 2 MB to 4\.5 GB"):
        check_unpacked("a.npz", 2 * 10**6, 45 * 10**8)
