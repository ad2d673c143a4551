"""What the checkpoint of a fit over batches holds: the design of the fit, and its state."""

from __future__ import annotations

import hashlib
from typing import Any

import jax
import numpy as np

from ...checkpoint import versions
from ...mixture import Mixture
from ..loop import Options
from ..problem import EMProblem
from .several_processes import from_process, of_each

_FORMAT = 3  # the number of the format of checkpoints
COUNTS = ("pass", "next_batch", "num_rows", "num_positive", "length", "total_rows")


def caught_up(held: dict[str, np.ndarray] | None, *, is_whole: bool = True) -> dict[str, np.ndarray] | None:
    """Return the saved state of this process at the latest pass that any process had reached, or None if nothing was saved.

    If this process had not reached this pass, it had at least read all its rows in the pass before. The result then holds its
    own marks and number of rows. All else is equal in all processes, and comes from a process that had reached the pass.

    If only some processes have a saved state, raise ValueError. If the run is only a part of a fit (`is_whole` is False),
    return None instead; all processes then repeat this part.
    """
    passes = of_each(-1 if held is None else int(held["counts"][0]))
    if passes.max() < 0 or (passes.min() < 0 and not is_whole):
        return None
    if held is None or passes.min() < 0:
        raise ValueError(
            f"process {int(passes.argmin())} has no checkpoint, but process {int(passes.argmax())} has one; delete the "
            "checkpoints of all processes, or give all of them."
        )
    counts = dict(zip(COUNTS, held["counts"].tolist(), strict=True))
    latest = from_process(int(passes.argmax()), held)
    if counts["pass"] == passes.max():
        return held
    is_first = counts["pass"] == 0
    total = counts["num_rows"] if is_first else counts["total_rows"]
    own = {"counts": np.array([passes.max(), 0, 0, 0, counts["length"], total]), "marks": held["marks"][:0]}
    own["first marks"] = held["marks" if is_first else "first marks"]
    return latest | own | {name: np.zeros_like(array) for name, array in latest.items() if name.startswith("sums ")}


def design(
    start: Mixture, problem: EMProblem, tol: Any, options: Options, *, online: bool, observed: bool
) -> dict[str, object]:
    """Return everything except the data on which the numbers of a fit depend, in types that JSON has."""
    k, d = start.means.shape
    libraries = {name: version for name, version in versions().items() if name in ("jax", "numpy")}
    return {
        "format": _FORMAT,
        "shape": [k, d],
        "covariance_type": start.covariance_type,
        "tol": float(tol),
        "max_iter": options.max_iter,
        "accelerate": options.accelerate,
        "online": online,
        "observations": observed,
        "reg_covar": None if problem.reg_covar is None else float(problem.reg_covar),
        "prior": None if problem.prior is None else _digest(problem.prior),
        "start": _digest(start),
        "float type": str(jax.dtypes.canonicalize_dtype(float)),
        "backend": jax.default_backend(),
        "process": [jax.process_index(), jax.process_count()],
        "versions": libraries,
    }


def _digest(tree: Any) -> str:
    """Return a short checksum of the structure and the arrays of a pytree."""
    leaves, structure = jax.tree.flatten(tree)
    digest = hashlib.sha256(str(structure).encode())
    for leaf in leaves:
        digest.update(np.asarray(leaf).tobytes())
    return digest.hexdigest()[:12]


def restored(like: Any, held: dict[str, np.ndarray], name: str) -> Any:
    """Return the pytree with the structure of `like` whose leaves a checkpoint holds under a name."""
    structure = jax.tree.structure(like)
    return jax.tree.unflatten(structure, [held[f"{name} {i}"] for i in range(structure.num_leaves)])
