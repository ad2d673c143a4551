"""coverage_study: data sets from a known truth, every method on each, and how often its intervals hold the truth.

    bias = E(estimate) - truth,   RMSE = sqrt(E(estimate - truth)^2),   coverage = P(lower <= truth <= upper)

over data sets drawn anew with the truth fixed: what a user of a method meets in the long run. A Bayesian interval need not
cover so, and where the prior is weak and N large it does. Morris, White & Crowther (2019), Stat. Med. 38, 2074-2102, section 5.

Labels: an estimate is put in the order of components in which it diverges least from the truth, draws in the order in which
they diverge least from the estimate that they started from ("kl" of `relabel`): one rule, which needs no data.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..chunking import COVERAGE_FILE_BATCH
from ..em.result import Status
from ..posterior.result import PosteriorStatus
from ..progress import progress_bar
from ..studies.checkpoint import Checkpoint, check_target, versions
from ..studies.parameters import free_entries, parameters
from ..studies.serialization import csv_text, json_text, plain
from ..validation import check_key
from .design import ESTIMATES, Design
from .replicates import Batch, whole_runs
from .summary import render, rows_of


@dataclass(frozen=True, eq=False)
class Study:
    """What a coverage study found: `print` it, or take its numbers.

    Attributes:
        design: the Design.
        meta: key (its data), dtype, backend, versions.
        rows: one dict for each cell, method and free parameter: covariance_type, num_observations, separation, method,
            seconds_per_dataset (compilation apart; of the run that made it), statuses (counts by name), name, kind, component,
            features, truth, num_datasets, num_estimates (finite ones), bias, rmse, share_undefined (no interval), share_failed
            (EM not converged or with a spike; draws not to be used), and at each probability, as 90 %: coverage_90 (an
            undefined interval is a miss), coverage_90_defined (of those there are), width_90 (mean of those there are) and
            width_90_median. Each with its Monte Carlo standard error, `_se`. Weights are shares, means in data units, variances
            and covariances in their squares.
    """

    design: Design
    meta: dict[str, Any]
    rows: list[dict[str, Any]]

    def to_dict(self) -> dict[str, Any]:
        """Every number in plain Python types, None for what is not defined."""
        return plain({"design": self.design.to_dict(), "meta": self.meta, "rows": self.rows})

    def to_json(self, path: Any = None) -> str:
        """`to_dict` as JSON text; written to `path` too, if given."""
        return json_text(self.to_dict(), path)

    def to_csv(self, path: Any = None) -> str:
        """`rows` as CSV text, a header first; written to `path` too, if given."""
        words = [
            {
                **row,
                "statuses": "; ".join(f"{name} {n}" for name, n in row["statuses"].items()),
                "features": " ".join(row["features"]),
            }
            for row in self.rows
        ]
        return csv_text(words, list(self.rows[0]), path)

    def __str__(self) -> str:
        return "\n".join(render(self.rows, self.design.to_dict() | self.meta, self.design.probabilities))

    def __repr__(self) -> str:
        return str(self)


def coverage_study(key: jax.Array, design: Design, *, path: Any = None, progress: bool | None = None) -> Study:
    """Bias, error, and coverage and width of intervals, of EM and of posteriors, over data sets from a known truth.

    Every data set has its own key, made of the cell's values and its number, so the same data come whatever else the design
    holds. A fit or posterior that failed is counted; it leaves no cell. Compilation is once for each number of observations,
    covariance type and method.

    Args:
        key: a random key.
        design: a Design, as `Design()` or `Design.from_toml(path)`.
        path: a file (.npz) that keeps every finished block: the same call goes on where a killed one was, and ends with the
            same numbers to the last bit, but for the seconds. None keeps nothing.
        progress: a progress bar; None: on a terminal.

    Returns:
        A Study.

    Raises:
        ValueError, TypeError: key, design or path that make no sense, or a file of another study.

    Example:
        >>> import jax, jaxgmm
        >>> design = jaxgmm.Design(separations=(4,), num_observations=(60,), num_features=1, methods=("map",), num_datasets=20)
        >>> study = jaxgmm.coverage_study(jax.random.key(0), design)
        >>> [row["name"] for row in study.rows]
        ['weights[0]', 'weights[1]', 'means[0,0]', 'means[1,0]', 'covariances[0,0,0]', 'covariances[1,0,0]']
    """
    check_key(key)
    if not isinstance(design, Design):
        raise TypeError(f"design is {type(design).__name__}; a jaxgmm.Design was expected, as from Design.from_toml(path).")
    check_target(path)
    meta = {
        "key": np.asarray(jax.random.key_data(key)).tolist(),
        "random_numbers": str(jax.random.key_impl(key)),
        "dtype": str(jnp.result_type(float)),
        "backend": jax.default_backend(),
        "versions": versions(),
    }
    blocks = Checkpoint(path, {"what": "coverage study", **design.to_dict(), **meta})
    warm: set = set()
    rows: list[dict[str, Any]] = []
    with progress_bar(design.num_cells * design.num_datasets * len(design.methods), " fits", progress) as bar:
        for cell in _cells(design):
            rows += _run_cell(key, design, cell, warm, blocks, bar.update)
    return Study(design, meta, rows)


def _cells(design: Design) -> Iterator[dict[str, Any]]:
    """By type and number of observations, so that what is compiled serves its cells one after the other."""
    for kind in design.covariance_types:
        for count in design.num_observations:
            for separation in design.separations:
                yield {"covariance_type": kind, "num_observations": count, "separation": float(separation)}


def _run_cell(
    key: jax.Array, design: Design, cell: dict[str, Any], warm: set, blocks: Checkpoint, advance: Callable[[int], Any]
) -> list[dict[str, Any]]:
    """The rows of one cell, block by block from the file or computed."""
    truth = design.truth(cell["separation"], cell["covariance_type"])
    name = " ".join(map(str, cell.values()))
    parts: dict[str, list] = {method: [] for method in design.methods}
    num_blocks = math.ceil(design.num_datasets / COVERAGE_FILE_BATCH)
    size = whole_runs(math.ceil(design.num_datasets / num_blocks))
    for b in range(num_blocks):
        wanted = np.arange(b * size, (b + 1) * size)
        kept = int((wanted < design.num_datasets).sum())
        batch = Batch(_keys(key, name, wanted), cell["num_observations"], truth, design, warm)
        for method in design.methods:
            block = blocks.get(f"{name} {method} {b}", partial(batch.run, method))
            parts[method].append({field: value[:kept] for field, value in block.items()})
            advance(kept)
    described = [asdict(parameter) for parameter in parameters(truth)]
    rows = []
    for method, some in parts.items():
        found = {field: np.concatenate([part[field] for part in some]) for field in some[0]}
        names = Status if method in ESTIMATES else PosteriorStatus
        counts = np.bincount(found["status"], minlength=len(names))
        begin = cell | {"method": method, "seconds_per_dataset": float(found["seconds"].mean())}
        begin["statuses"] = {names(s).name: int(n) for s, n in enumerate(counts) if n}
        rows += rows_of(described, np.asarray(free_entries(truth)), found, design.probabilities, begin)
    return rows


def _keys(key: jax.Array, cell: str, numbers: np.ndarray) -> jax.Array:
    """A key for each data set of a cell."""
    return jax.vmap(partial(jax.random.fold_in, jax.random.fold_in(key, zlib.crc32(cell.encode()))))(numbers)
