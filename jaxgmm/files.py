"""Write files completely or not at all, remove temporary files left behind by killed processes, and read structured text."""

from __future__ import annotations

import errno
import glob
import hashlib
import os
import secrets
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, TypeVar

try:
    import fcntl
except ImportError:  # Windows does not have these locks: on Windows, files are not locked and leftover files are not removed
    fcntl = None

Parsed = TypeVar("Parsed")
# bytes; the name of a temporary file contains at most this much of its target's name, because names have at most 255 bytes
_LONGEST_STEM = 200


@contextmanager
def replacing(path: str | os.PathLike[str], *, keep: bool = False) -> Iterator[BinaryIO]:
    """Open a temporary binary file, which replaces `path` at the end of the block unless the block raises an error.

    The temporary file is locked while it is open. If another temporary file of the same target is not locked, then a killed
    process left it, and it is removed.

    Args:
        path: the file to replace. If it is a symbolic link, the file that it points to is replaced.
        keep: if True, `path` is not replaced. The block then only tests whether a file can be written there.

    Raises:
        OSError: the folder does not exist or is not writable, or the name is too long.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with replacing(Path(folder) / "note.txt") as stream:
        ...         _ = stream.write(b"whole")
        ...     [file.name for file in Path(folder).iterdir()]
        ['note.txt']
    """
    target = Path(os.path.realpath(path))
    stem = _stem(target.name)
    _remove_left_behind(target.parent, stem)
    part = target.with_name(f"{stem}.{secrets.token_hex(4)}.part")
    with suppress(FileNotFoundError):
        os.lstat(target)  # this call raises OSError if the name is too long
    try:
        with open(part, "xb") as stream:
            lock(stream)
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        if not keep:
            os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)


def _stem(name: str) -> str:
    """Return the prefix of the names of a target's temporary files; if a name is long, a digest replaces its end."""
    encoded = os.fsencode(name)
    if len(encoded) <= _LONGEST_STEM:
        return f".{name}"
    return f".{os.fsdecode(encoded[: _LONGEST_STEM - 20])}.{hashlib.sha256(encoded).hexdigest()[:16]}"


def _remove_left_behind(folder: Path, stem: str) -> None:
    """Remove those temporary files of a target that no process has locked."""
    if fcntl is None:
        return
    for name in glob.glob(f"{glob.escape(str(folder / stem))}.*.part"):
        with suppress(OSError), open(name, "rb") as stream:
            if lock(stream):
                os.unlink(name)


def lock(stream: BinaryIO) -> bool:
    """Lock an open file until it is closed or the process ends; return False if another process holds a lock."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in (errno.EAGAIN, errno.EACCES)  # file systems without locks raise other errors
    return True


class _Hold:
    """A locked file that reserves another file in the same folder for this process, until this object or the process ends."""

    def __init__(self, path: Path) -> None:
        """Create and lock the lock file; raise ValueError if another process has locked it."""
        name = path.with_name(f"{_stem(path.name)}.lock")
        while True:
            stream = open(name, "a+b")  # noqa: SIM115
            if not lock(stream):
                with stream:
                    stream.seek(0)
                    owner = stream.read(20).decode("ascii", "replace") or "that has just started"
                raise ValueError(f"'{path}' is in use by process {owner}; wait until it ends, or give another path.")
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(stream.fileno()), os.stat(name)):
                    break
            stream.close()  # the previous owner has removed the lock file since it was opened
        stream.truncate(0)
        stream.write(str(os.getpid()).encode())
        stream.flush()
        weakref.finalize(self, _release, stream, name)


def _release(stream: BinaryIO, name: Path) -> None:
    """Remove a lock file and end its lock."""
    with suppress(OSError), stream:
        os.unlink(name)


_held: weakref.WeakValueDictionary[Path, _Hold] = weakref.WeakValueDictionary()


def hold(path: str | os.PathLike[str]) -> object | None:
    """Return an object that reserves a file for this process as long as the object exists.

    Return None if the system has no file locks, or if the folder of the file is not writable.

    Raises:
        ValueError: another process has reserved the file; the message contains the number of that process.
    """
    target = Path(os.path.realpath(path))
    if fcntl is None or not os.access(target.parent, os.W_OK):
        return None
    held = _held.get(target)
    if held is None:
        held = _held[target] = _Hold(target)
    return held


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


def parse_file(path: str | os.PathLike[str], parse: Callable[[str], Parsed]) -> Parsed:
    """Return the content of a file after parsing it with a function such as json.loads or tomllib.loads.

    Raises:
        ValueError: the file is not UTF-8, is nested too deeply, or makes `parse` raise ValueError.
        OSError: the file cannot be read.

    Example:
        >>> import json, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     parse_file(write_text(Path(folder) / "a.json", "[" * 10**5), json.loads)
        Traceback (most recent call last):
        ...
        ValueError: it is nested too deeply
    """
    try:
        return parse(Path(path).read_text(encoding="utf-8"))
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
