"""Name the output files of a command, refuse to overwrite existing files, and write the output files."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..files import replacing
from ..io.text import STDIN
from ..studies.serialization import json_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def output_paths(arguments: argparse.Namespace, source: str | Path, *suffixes: str) -> list[Path]:
    """Return one path per suffix in the output folder, or raise ValueError if a file cannot be written there.

    A command calls this function before its computations, so that no results are lost if a file cannot be written.
    """
    folder, stem = arguments.out, "stdin" if source == STDIN else Path(source).stem
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"--out {folder} is a file; a folder was expected.")
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):
        raise ValueError(f"--out {folder} is not writable; give another folder.")
    paths = [folder / f"{stem}-{arguments.command}.{suffix}" for suffix in suffixes]
    for path in paths:
        _check_name(path)
    _refuse_existing(paths, arguments.force)
    return paths


def check_output_file(path: Path, option: str, *, force: bool) -> None:
    """Raise ValueError if the file named by an option cannot be written. Commands call this function before they compute."""
    folder = path.absolute().parent
    if os.path.isdir(path):
        raise ValueError(f"{option} {path} is a folder; a file was expected.")
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise ValueError(f"{option} is {path}, but '{folder}' is not a writable folder; give another path.")
    _check_name(path)
    _refuse_existing([path], force)


def _check_name(path: Path) -> None:
    """Raise ValueError if the system does not accept the name of a file, for example because it is too long."""
    try:
        with replacing(path, keep=True):
            pass
    except OSError as error:
        raise ValueError(f"{path} cannot be written: {error.strerror}; give another name or folder.") from error


def write_lines(path: Path | None, lines: Iterable[str]) -> None:
    """Write lines as UTF-8, or print them on stdout if the path is None; if writing fails, an existing file is unchanged."""
    if path is None:
        sys.stdout.writelines(lines)
        return
    with replacing(path) as stream:
        stream.writelines(line.encode("utf-8") for line in lines)


def write_json(path: Path, record: Mapping[str, object]) -> None:
    """Write a record as JSON; if writing fails, an existing file is unchanged."""
    json_text(record, path)


def write_figure(path: Path, figure: Figure) -> None:
    """Write a figure as PNG; if writing fails, an existing file is unchanged."""
    with replacing(path) as stream:
        figure.savefig(stream, format="png")


def _refuse_existing(paths: Sequence[Path], force: bool) -> None:
    """Raise ValueError if one of the files exists and --force was not given."""
    existing = [str(path) for path in paths if os.path.lexists(path)]  # lexists is true even for a link without a target
    if existing and not force:
        raise ValueError(f"{' and '.join(existing)} would be overwritten; give --force to allow it, or another --out.")
