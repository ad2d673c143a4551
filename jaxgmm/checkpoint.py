"""Checkpoints: a file stores the finished parts of a long computation, so that it can be continued after an interruption.

The computation is a study, whose finished batches are kept, or a fit over batches, whose present state is kept.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, BinaryIO

import jax
import numpy as np
from numpy.lib.npyio import NpzFile
from numpy.typing import ArrayLike

from .cells import shortened
from .files import hold, replacing

_HEADER = "design"
_CONTENTS = "contents of the file"  # name of the header's entry that lists all arrays in the file


def versions() -> dict[str, str]:
    """Return the versions of the libraries on which the numbers of a study depend.

    Example:
        >>> sorted(versions())
        ['jax', 'numpy', 'numpyro']
    """
    return {"jax": jax.__version__, "numpy": np.__version__, "numpyro": metadata.version("numpyro")}


class Checkpoint:
    """A store for finished batches. Each batch has a name and is a dict of arrays.

    All batches are kept in one npz file. After every batch, the whole file is written again.

    Args:
        path: the file; None keeps the batches in memory only. An existing file must hold results of the same design.
        design: everything on which the numbers depend, in types that JSON has.
        kind: what the computation is called in error messages.

    Raises:
        ValueError: the file belongs to another design, is damaged, or is not a checkpoint.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for _ in range(2):  # the second checkpoint finds the batch of the first
        ...         checkpoint = Checkpoint(Path(folder) / "study.npz", {"seed": 0})
        ...         found = checkpoint.get("a", lambda: print("computed") or {"z": np.ones(2)})
        ...     found["z"].tolist()
        computed
        [1.0, 1.0]
    """

    def __init__(self, path: str | os.PathLike[str] | None, design: Mapping[str, object], kind: str = "study") -> None:
        """Lock the file, so that no other process uses it at the same time, and read the batches that it contains."""
        self.path = None if path is None else Path(path)
        self.kind = kind
        self.design = json.loads(json.dumps(dict(design)))
        self._batches: dict[str, dict[str, np.ndarray]] = {}
        if self.path is not None:
            self._lock = hold(self.path)  # the file stays locked as long as this object exists
            if self.path.exists():
                self._read(self.path)

    def __contains__(self, name: str) -> bool:
        """Return whether a batch is finished."""
        return name in self._batches

    def get(self, name: str, compute: Callable[[], Mapping[str, ArrayLike]]) -> dict[str, np.ndarray]:
        """Return the arrays of a batch. If the batch is not finished, compute it and write it to the file first."""
        if name not in self._batches:
            self.put(name, compute())
        return self._batches[name]

    def put(self, name: str, arrays: Mapping[str, ArrayLike]) -> None:
        """Store the arrays of a batch in place of its earlier arrays, and write the file."""
        self._batches[name] = {key: np.asarray(value) for key, value in arrays.items()}
        self._write()

    def _write(self) -> None:
        """Write all batches that are finished so far to the file, in place of its earlier contents."""
        if self.path is None:
            return
        arrays: dict[str, Any] = {
            f"{name}/{key}": value for name, batch in self._batches.items() for key, value in batch.items()
        }
        entries: dict[str, Any] = {_HEADER: np.array(json.dumps(self.design | {_CONTENTS: sorted(arrays)}))}
        with replacing(self.path) as stream:
            np.savez(stream, **entries, **arrays)

    def _read(self, path: Path) -> None:
        """Read the batches from a file; raise ValueError if the file holds results of another design or is damaged."""
        try:
            # The file is opened here, not by np.load. If np.load cannot read a file that it opened, it does not close the file.
            with open(path, "rb") as stream, _open_archive(stream) as file:
                design = json.loads(file[_HEADER].item())
                arrays = {name: file[name] for name in file.files if name != _HEADER}
                # Damage to an array changes its checksum, but a damaged archive directory could hide whole arrays. The header
                # therefore lists all arrays. Files written by earlier versions have no such list.
                if len(arrays) != len(file.files) - 1 or sorted(arrays) != design.pop(_CONTENTS, sorted(arrays)):
                    raise ValueError
        except Exception as error:  # zipfile, NumPy and JSON raise a dozen types of errors for damaged bytes
            raise ValueError(
                f"'{path}' is not the file of a {self.kind}, or is damaged; give another path, or none."
            ) from error
        for name in sorted({*design, *self.design}):
            if design.get(name) != self.design.get(name):
                raise ValueError(
                    f"'{path}' belongs to another {self.kind}: its {name} is {_as_text(design.get(name))}, here it is "
                    f"{_as_text(self.design.get(name))}; continue with the values it was begun with, or give another path."
                )
        for place, value in arrays.items():
            name, _, key = place.rpartition("/")
            self._batches.setdefault(name, {})[key] = value


def _open_archive(stream: BinaryIO) -> NpzFile:
    """Return the npz archive in a stream. Raise ValueError if the stream holds another NumPy format, such as npy."""
    file = np.load(stream, allow_pickle=False)
    if not isinstance(file, NpzFile):
        raise ValueError
    return file


def check_target(path: str | os.PathLike[str] | None) -> None:
    """Raise an error if no file can be written to `path`. Without this check, a study would fail only at its first batch."""
    if path is None:
        return
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"path is {type(path).__name__}; a string or a path was expected.")
    folder = Path(path).resolve().parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise ValueError(f"'{folder}' is no folder that can be written to; give another path.")
    try:
        with replacing(path, keep=True):
            pass
    except OSError as error:
        raise ValueError(f"'{path}' cannot be written: {error.strerror}; give another path.") from error


def _as_text(value: object) -> str:
    """Return a value as JSON text, cut to 80 characters."""
    return shortened(json.dumps(value), 80)
