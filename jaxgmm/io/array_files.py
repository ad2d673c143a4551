"""Read one array from a NumPy file (npy or npz)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from .text import check_unpacked


@contextmanager
def _numpy_errors(path: Path) -> Iterator[None]:
    """Convert NumPy's errors about a file to a ValueError with a message of one sentence."""
    try:
        yield
    except Exception as error:  # NumPy and zipfile raise many types of errors for damaged files
        content = "Python objects" if "Object arrays" in str(error) else "nothing that NumPy can read"
        raise ValueError(
            f"'{path}' holds {content}; an array of numbers was expected, written by numpy.save or numpy.savez."
        ) from error


def load_array(path: Path, name: str | None) -> np.ndarray:
    """Return the array of an npy file, or one array of an npz file."""
    # open the file here: if np.load opens a file and cannot read it, the file stays open
    with open(path, "rb") as stream:
        with _numpy_errors(path):
            loaded = np.load(stream, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            if name is not None:
                raise ValueError(f"'{path}' holds one array without a name; a name can be given for npz files only.")
            return loaded
        if name is not None and name not in loaded.files:
            raise ValueError(f"'{path}' has no array '{name}'; it holds {', '.join(loaded.files)}.")
        names = loaded.files if name is None else [name]
        _check_members(path, loaded, names)
        with _numpy_errors(path):
            arrays = {key: loaded[key] for key in names}
    if len(arrays) != 1:
        held = ", ".join(f"{key} {array.shape}" for key, array in arrays.items()) or "no array"
        raise ValueError(f"'{path}' holds {held}; one array was expected: say which with --array NAME.")
    return next(iter(arrays.values()))


def _check_members(path: Path, loaded: Any, names: Sequence[str]) -> None:
    """Raise ValueError if an array of an npz file becomes much larger when it is unpacked."""
    for member in loaded.zip.infolist():
        if member.filename.removesuffix(".npy") in names:
            check_unpacked(path, member.compress_size, member.file_size)
