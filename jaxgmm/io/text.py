"""Read the lines of a text file or of stdin. The text may be compressed, and may have one of several encodings."""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import re
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeAlias

from .number_formats import is_missing

Opener: TypeAlias = Callable[[io.BytesIO], gzip.GzipFile | bz2.BZ2File | lzma.LZMAFile]
STDIN = "-"
_OPENERS: dict[bytes, Opener] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}
_BOMS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
_CONTROL = re.compile("[\0-\x08\x0e-\x1f\x7f]")
# A compressed file is refused if it unpacks to more than this number of bytes and to more than this multiple of its own size.
# Tables of measurements seldom compress to less than a twentieth of their size.
_LARGE, _LARGEST_RATIO = 1 << 30, 100


class Lines(NamedTuple):
    """The lines of a text without blank lines and comments, their line numbers, and the delimiter if the text specifies it.

    Attributes:
        lines: the lines.
        numbers: the number of each line in the file, counted from 1.
        delimiter: the delimiter that a line such as "sep=;" specifies, or None if there is no such line.
        comment: the last comment before the first line, without its comment sign.
        inner_comments: the number of comments after the first line.
    """

    lines: list[str]
    numbers: list[int]
    delimiter: str | None
    comment: str
    inner_comments: int


def read_text(path: Path) -> str:
    """Return the text in a file, or on stdin if the path is "-"; raise ValueError if it is not text."""
    data = sys.stdin.buffer.read() if str(path) == STDIN else path.read_bytes()
    opener = next((opener for magic, opener in _OPENERS.items() if data.startswith(magic)), None)
    if opener is not None:
        data = _unpack(path, data, opener)
    text = _decode(data)
    if text is None or _CONTROL.search(text):
        raise ValueError(f"'{path}' is not text; a table of numbers as text, such as a csv file, was expected.")
    return text


def _unpack(path: Path, data: bytes, opener: Opener) -> bytes:
    """Return the unpacked content of a compressed file, or raise ValueError if it is damaged or much too large."""
    try:
        with opener(io.BytesIO(data)) as stream:
            unpacked = stream.read(max(_LARGE, _LARGEST_RATIO * len(data)) + 1)
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise ValueError(f"'{path}' is a damaged compressed file: {error}; pack it again.") from error
    check_unpacked(path, len(data), len(unpacked))
    return unpacked


def check_unpacked(path: Path, packed: int, unpacked: int) -> None:
    """Raise ValueError if a file is too large after unpacking.

    A file is too large if its unpacked size exceeds two limits: a number of bytes, and a multiple of its packed size.
    """
    if unpacked > max(_LARGE, _LARGEST_RATIO * packed):
        raise ValueError(
            f"'{path}' unpacks from {packed / 1e6:.3g} MB to {unpacked / 1e9:.3g} GB or more; at most {_LARGEST_RATIO} times "
            "its size was expected: unpack it first if this is intended."
        )


def _decode(data: bytes) -> str | None:
    """Return bytes as text, or None if they are not text.

    A byte order mark determines the encoding. Without this mark, the encoding can be UTF-8, UTF-16 or Windows-1252.
    """
    marked = next((encoding for mark, encoding in _BOMS.items() if data.startswith(mark)), None)
    even, odd = data[:1000:2].count(0), data[1:1000:2].count(0)
    if marked is None and max(even, odd) > len(data[:1000]) / 4:  # in UTF-16 text, nearly every second byte is zero
        marked = "utf-16-be" if even > odd else "utf-16-le"
    for encoding in [marked] if marked else ["utf-8", "cp1252", "latin-1"]:
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            continue
    return None


def split_lines(text: str) -> Lines:
    r"""Return the `Lines` of a text, without blank lines and comments; a comment begins with #, % or //.

    Example:
        >>> split_lines("sep=;\n# by hand\na;b\n\n1;2  # a good one\n")[:3]
        (['a;b', '1;2'], [3, 5], ';')
    """
    lines: list[str] = []
    numbers: list[int] = []
    delimiter, comment, inner = None, "", 0
    for number, line in enumerate(text.replace("\r\n", "\n").replace("\r", "\n").split("\n"), 1):
        start = line.lstrip()
        named = re.fullmatch(r"(?i)\"?sep=(.)\"?\s*", line) if not lines else None
        if named:
            delimiter = named[1]
        elif start.startswith(("#", "%", "//")) and not is_missing(re.split(r"[,;|\s]", start)[0]):
            comment, inner = (comment, inner + 1) if lines else (start.lstrip("#%/ "), 0)
        elif start:
            lines.append(re.sub(r"\s+#\s.*$", "", line) if lines and " #" in line and '"' not in line else line)
            numbers.append(number)
    return Lines(lines, numbers, delimiter, comment, inner)
