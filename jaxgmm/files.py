"""Files that are written whole, or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO


@contextmanager
def replacing(path: Any) -> Iterator[BinaryIO]:
    """A binary stream to a new file beside `path`, moved there at the end; what was there stays whole until then.

    Args:
        path: where to, through a link, not over it.

    Raises:
        OSError: the folder is not there or cannot be written to.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with replacing(Path(folder) / "note.txt") as stream:
        ...         _ = stream.write(b"whole")
        ...     [file.name for file in Path(folder).iterdir()]
        ['note.txt']
    """
    target = Path(os.path.realpath(path))
    part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        with open(part, "xb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)


def write_text(path: Any, text: str) -> Path:
    """The text as UTF-8 in a file, whole or not at all.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_text(Path(folder) / "note.txt", "σ").read_bytes()
        b'\\xcf\\x83'
    """
    with replacing(path) as stream:
        stream.write(text.encode("utf-8"))
    return Path(path)
