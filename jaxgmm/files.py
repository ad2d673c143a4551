"""Write files. If writing fails, an existing file stays unchanged."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a temporary binary file, which replaces `path` at the end of the block unless the block raises an error.

    Args:
        path: the file to replace. If it is a symbolic link, the file that it points to is replaced.

    Raises:
        OSError: the folder does not exist or is not writable.

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


def write_text(path: str | os.PathLike[str], text: str) -> Path:
    r"""Write text as UTF-8, and return the path; if writing fails, an existing file is unchanged.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_text(Path(folder) / "note.txt", "é").read_bytes()
        b'\xc3\xa9'
    """
    with replacing(path) as stream:
        stream.write(text.encode("utf-8"))
    return Path(path)
