"""Several processes that each read their own batches of one data set: they agree on errors, and add their sums.

All processes run the same script after `jax.distributed.initialize()`, and call these functions in the same order. With one
process, the functions do nothing.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np

from ...devices.processes import of_all_processes

Result = TypeVar("Result")
Tree = TypeVar("Tree")
_LONGEST = 400  # bytes of the message of an error that other processes show


def are_several() -> bool:
    """Return whether several processes work together."""
    return jax.process_count() > 1


def own_path(path: str | os.PathLike[str]) -> str | os.PathLike[str]:
    """Return the path of the checkpoint of this process: with several, run.npz becomes run-0.npz, run-1.npz and so on."""
    if not are_several() or not isinstance(path, str | os.PathLike):
        return path
    path = Path(path)
    return path.with_name(f"{path.stem}-{jax.process_index()}{path.suffix}")


def together(compute: Callable[[], Result]) -> Result:
    """Return the result of compute() in this process; if it raises an error in one process, all processes raise an error."""
    if not are_several():
        return compute()
    error, result = None, None
    try:
        result = compute()
    except Exception as caught:  # whatever the error is, the other processes must not wait for this one
        error = caught
    message = "" if error is None else f"{type(error).__name__} in process {jax.process_index()}: {error}"
    code = message.encode()[:_LONGEST].ljust(_LONGEST, b"\0")
    every = of_all_processes(np.frombuffer(code, np.uint8), None)
    texts = [bytes(row).rstrip(b"\0").decode(errors="ignore") for row in every]
    if any(texts):
        kind, _, rest = next(filter(None, texts)).partition(" in ")
        raise (TypeError if kind == TypeError.__name__ else ValueError)(rest) from error
    return result  # pyright: ignore[reportReturnType] (there was no error)


def added(sums: Tree) -> Tree:
    """Return sums (a pytree of arrays) added over all processes, bitwise the same in each."""
    if not are_several():
        return sums

    def add(leaf: Any) -> np.ndarray:
        leaf = np.asarray(leaf)
        return np.asarray(of_all_processes(leaf, None).sum(0, dtype=np.promote_types(leaf.dtype, np.float64)), leaf.dtype)

    return jax.tree.map(add, sums)


def counted(number: int) -> int:
    """Return a number of rows added over all processes."""
    return number if not are_several() else int(of_all_processes(np.array([number], np.int64), None).sum())


def of_each(number: int) -> np.ndarray:
    """Return the numbers of all processes."""
    return of_all_processes(np.array([number], np.int64), None)[:, 0]


def same_kind(kind: int) -> int:
    """Return the kind of batches that all processes have, where 0 stands for no batches; raise ValueError if kinds differ."""
    if not are_several():
        return kind
    kinds = of_each(kind)
    if {1, 2} <= set(kinds.tolist()):
        raise ValueError(
            f"The batches of process {(kinds == 2).argmax()} are Observations, and those of process {(kinds == 1).argmax()} "
            "are not; one kind was expected: give all batches as jaxgmm.observations."
        )
    return int(kinds.max())


def from_process(index: int, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the named arrays of one process; those that the other processes give are ignored."""
    stream = io.BytesIO()
    if jax.process_index() == index:
        np.savez(stream, allow_pickle=False, **arrays)
    length = int(of_each(stream.tell())[index])
    content = stream.getvalue().ljust(-(-length // 4) * 4, b"\0")
    found = of_all_processes(np.frombuffer(content, np.uint8), None)[index].tobytes()
    with np.load(io.BytesIO(found[:length])) as file:
        return {name: file[name] for name in file.files}


def of_first_process(arrays: tuple[np.ndarray, ...] | None) -> tuple[np.ndarray, ...] | None:
    """Return the arrays of the first process that has some; the result is None if no process has any.

    Raises:
        ValueError: the arrays of two processes have different dtypes, as those of their data.
    """
    if not are_several():
        return arrays
    sizes = of_each(0 if arrays is None else arrays[0].dtype.itemsize)
    if not sizes.any():
        return None
    if len(set(sizes[sizes > 0])) > 1:
        bits = ", ".join(str(8 * size) for size in sizes)
        raise ValueError(f"The batches of the processes have floats of different sizes ({bits} bits); one dtype was expected.")
    named = {} if arrays is None else {str(i): array for i, array in enumerate(arrays)}
    found = from_process(int((sizes > 0).argmax()), named)
    return tuple(found[str(i)] for i in range(len(found)))
