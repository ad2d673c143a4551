"""Checkpoint: results of a long study, kept in a file as they come, so that a killed one goes on where it was."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import numpyro

from ..files import replacing

_HEADER = "design"


def versions() -> dict[str, str]:
    """Versions of what numbers depend on.

    Example:
        >>> sorted(versions())
        ['jax', 'numpy', 'numpyro']
    """
    return {"jax": jax.__version__, "numpy": np.__version__, "numpyro": numpyro.__version__}


class Checkpoint:
    """Arrays by the name of the block they belong to, in one npz file that is replaced as a whole after every block.

    Args:
        path: the file; None keeps nothing. A file that is there must have the same design.
        design: all that the numbers depend on, in JSON's types.

    Raises:
        ValueError: the file is of another design, which is named, or not one of these.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for _ in range(2):  # a second process finds what the first one did
        ...         blocks = Checkpoint(Path(folder) / "study.npz", {"seed": 0})
        ...         found = blocks.get("a", lambda: print("computed") or {"z": np.ones(2)})
        ...     found["z"].tolist()
        computed
        [1.0, 1.0]
    """

    def __init__(self, path: Any, design: Mapping[str, Any]) -> None:
        self.path = None if path is None else Path(path)
        self.design = json.loads(json.dumps(dict(design)))
        self._done: dict[str, dict[str, np.ndarray]] = {}
        if self.path is not None and self.path.exists():
            self._read()

    def __contains__(self, name: str) -> bool:
        return name in self._done

    def get(self, name: str, compute: Callable[[], Mapping[str, Any]]) -> dict[str, np.ndarray]:
        """The arrays of a block: from the file, or computed now and kept."""
        if name not in self._done:
            self._done[name] = {key: np.asarray(value) for key, value in compute().items()}
            self._write()
        return self._done[name]

    def _write(self) -> None:
        if self.path is None:
            return
        arrays = {f"{name}/{key}": value for name, block in self._done.items() for key, value in block.items()}
        with replacing(self.path) as stream:
            np.savez(stream, **{_HEADER: np.array(json.dumps(self.design))}, **arrays)

    def _read(self) -> None:
        try:
            with np.load(self.path, allow_pickle=False) as file:
                design = json.loads(file[_HEADER].item())
                arrays = {name: file[name] for name in file.files if name != _HEADER}
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise ValueError(f"'{self.path}' is not the file of a study; give another path, or none.") from error
        for name in sorted({*design, *self.design}):
            if design.get(name) != self.design.get(name):
                raise ValueError(
                    f"'{self.path}' is of another study: its {name} is {_short(design.get(name))}, here it is "
                    f"{_short(self.design.get(name))}; go on with what it was begun with, or give another path."
                )
        for name, value in arrays.items():
            block, _, key = name.rpartition("/")
            self._done.setdefault(block, {})[key] = value


def check_target(path: Any) -> None:
    """Refuses a path that cannot be written to, before the long work."""
    if path is None:
        return
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"path is {type(path).__name__}; a string or a path was expected.")
    folder = Path(path).resolve().parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise ValueError(f"'{folder}' is no folder that can be written to; give another path.")


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else text[:77] + "..."
