"""`coverage_study`: measure how well each method estimates a known truth, and how often its intervals contain the truth.

    bias = E(estimate) - truth,   RMSE = sqrt(E(estimate - truth)^2),   coverage = P(lower <= truth <= upper)

The expectations and the probability refer to new data sets from a fixed truth, so they are long-run properties of the method.
See Morris, White & Crowther (2019), Stat. Med. 38, 2074-2102, section 5. A Bayesian interval need not have its nominal coverage
under a fixed truth. Its coverage is approximately nominal if the prior is weak and N is large.

Label switching is corrected by reordering components (method "kl" of `relabel`), which needs no data. The components of an
estimate are put in the order in which they diverge least from the components of the truth. The components of a draw are put in
the order in which they diverge least from the estimate at which the draws started.
"""

from __future__ import annotations

import math
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..calls import public
from ..checkpoint import Checkpoint, check_target, versions
from ..chunking import COVERAGE_FILE_BATCH
from ..em.result import Status
from ..posterior.result import PosteriorStatus
from ..progress import progress_bar
from ..studies.method_names import POINT_METHODS
from ..studies.serialization import Exported, plain
from ..validation import check_key, check_progress
from .design import Design, StudyCell
from .quantities import describe, values
from .replicates import Batch, padded_size
from .summary import MethodRun, StudyRow
from .text_report import render


@dataclass(frozen=True, eq=False)
class Study(Exported):
    """The result of `coverage_study`. It can be printed, and its attributes hold the numbers.

    Attributes:
        design: the Design.
        meta: a dict with these entries: `key`, the data of the random key; `random_numbers`, the name of the generator;
            `dtype`; `backend`; and `versions`.
        rows: one StudyRow for each cell, method and free parameter. In `to_dict`, JSON, CSV and the data frame, the column
            names of coverages and widths contain the probability of the intervals in percent. For 90 % intervals, examples
            are `coverage_90`, `coverage_90_defined`, `width_90` and `width_90_median`.
    """

    design: Design
    meta: Mapping[str, Any]
    rows: Sequence[StudyRow]

    def to_dict(self) -> dict[str, Any]:
        """Return every number in plain Python types; numbers that are not finite become None."""
        return plain({"design": self.design.to_dict(), "meta": self.meta, "rows": [row.to_dict() for row in self.rows]})

    def _records(self) -> Iterator[Mapping[str, object]]:
        """Return `rows` as the rows of a table, with statuses and features as text."""
        for row in self.rows:
            statuses = "; ".join(f"{name} {count}" for name, count in row.statuses.items())
            yield row.to_dict() | {"statuses": statuses, "features": " ".join(row.features)}

    def _fields(self) -> list[str]:
        """Return the names of the columns of the table."""
        return list(self.rows[0].to_dict())

    def __str__(self) -> str:
        """Return the printed page."""
        return "\n".join(render(self.rows, self.design, self.meta["dtype"]))

    def __repr__(self) -> str:
        """Return the printed page."""
        return str(self)


@public
def coverage_study(
    key: jax.Array, design: Design, *, path: str | os.PathLike[str] | None = None, progress: bool | None = None
) -> Study:
    """Measure bias, error, interval coverage and interval width of EM and of posteriors on data sets from a known truth.

    Each data set has its own random key, which is made from the values of the cell and the number of the data set. Therefore
    the data do not depend on the rest of the design. Fits and posteriors that fail are counted and never left out. The programs
    are compiled once for each number of observations, covariance type and method.

    Args:
        key: a random key.
        design: a Design, for example from `Design()` or `Design.from_toml(path)`.
        path: a file (.npz) that keeps every finished batch. After an interruption, the same call continues the study and gives
            the same numbers, bit for bit, except for the measured seconds. None: no file.
        progress: whether to show a progress bar; None: show it on a terminal.

    Returns:
        A Study.

    Raises:
        ValueError, TypeError: `key` or `design` has a wrong type, no file can be written to `path`, or the file belongs to
            another study.

    Example:
        >>> import jax, jaxgmm
        >>> design = jaxgmm.Design(separations=(4,), num_observations=(60,), num_features=1, methods=("map",), num_datasets=20)
        >>> study = jaxgmm.coverage_study(jax.random.key(0), design)
        >>> [row.name for row in study.rows]
        ['weights[0]', 'weights[1]', 'means[0,0]', 'means[1,0]', 'covariances[0,0,0]', 'covariances[1,0,0]']
    """
    check_key(key)
    if not isinstance(design, Design):
        raise TypeError(f"design is {type(design).__name__}; a jaxgmm.Design was expected, such as Design.from_toml(path).")
    check_target(path)
    check_progress(progress)
    meta = {
        "key": np.asarray(jax.random.key_data(key)).tolist(),
        "random_numbers": str(jax.random.key_impl(key)),
        "dtype": str(jnp.result_type(float)),
        "backend": jax.default_backend(),
        "versions": versions(),
    }
    checkpoint = Checkpoint(path, {"what": "coverage study", **design.to_dict(), **meta})
    compiled: set[tuple[str, str, int]] = set()
    rows: list[StudyRow] = []
    with progress_bar(design.num_cells * design.num_datasets * len(design.methods), " fits", progress) as bar:
        for cell in design.cells():
            truth = design.truth(cell.separation, cell.covariance_type)
            for run in _run_cell(_batches(key, design, cell, compiled), design, cell, checkpoint, bar.update):
                rows += run.rows(describe(truth), np.asarray(values(truth)), design.probabilities)
    return Study(design, meta, rows)


def _batches(key: jax.Array, design: Design, cell: StudyCell, compiled: set[tuple[str, str, int]]) -> Iterator[Batch]:
    """Yield the batches of a cell.

    All batches have the same size. If too few data sets remain for the last batch, it is filled with extra data sets.
    """
    number = math.ceil(design.num_datasets / COVERAGE_FILE_BATCH)
    size = padded_size(math.ceil(design.num_datasets / number))
    key = jax.random.fold_in(key, zlib.crc32(cell.name.encode()))
    for b in range(number):
        keys = jax.vmap(partial(jax.random.fold_in, key))(np.arange(b * size, (b + 1) * size))
        yield Batch(keys, cell, design, compiled)


def _run_cell(
    batches: Iterable[Batch], design: Design, cell: StudyCell, checkpoint: Checkpoint, advance: Callable[[int], object]
) -> list[MethodRun]:
    """Run all methods on one cell, batch by batch. Results that are in the checkpoint are not computed again."""
    parts: dict[str, list[dict[str, np.ndarray]]] = {method: [] for method in design.methods}
    left = design.num_datasets
    for b, batch in enumerate(batches):
        kept = min(left, len(batch.keys))
        left -= kept
        for method in design.methods:
            found = checkpoint.get(f"{cell.name} {method} {b}", partial(batch.run, method))
            parts[method].append({name: value[:kept] for name, value in found.items()})
            advance(kept)
    return [_method_run(cell, method, found) for method, found in parts.items()]


def _method_run(cell: StudyCell, method: str, parts: Sequence[Mapping[str, np.ndarray]]) -> MethodRun:
    """Join the results of one method from all batches of a cell."""
    found = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    members = Status if method in POINT_METHODS else PosteriorStatus
    counts = np.bincount(found["status"], minlength=len(members))
    statuses = {members(code).name: int(count) for code, count in enumerate(counts) if count}
    return MethodRun(cell, method, statuses, found)
