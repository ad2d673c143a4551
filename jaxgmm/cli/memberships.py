"""Memberships: the component of each row of the data, with the probabilities of all components and their uncertainty."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ..chunking import points_per_batch
from ..density import responsibilities
from ..incomplete.observations import Observations
from ..incomplete.rows import rows_at
from ..io.read_batches import RowBatches
from ..mixture import Mixture
from ..posterior.pooling import pool
from ..posterior.result import Posterior
from ..spread import mean_and_sd
from ..studies.serialization import csv_line
from ..tables import Table, elided
from .data import Data
from .messages import print_remark
from .outputs import check_output_file, write_lines


class Memberships(NamedTuple):
    """The probabilities of the components for each row of the data.

    Attributes:
        probabilities: (N, K), at a point estimate, or averaged over posterior draws.
        sd: (N, K), the posterior standard deviations of the probabilities; None for a point estimate, or if the labels of the
            posterior are not identified.
        entropy: (N,), the entropy of each row's probabilities in nats, computed for each posterior draw and then averaged over
            the draws; None for a point estimate.
    """

    probabilities: np.ndarray
    sd: np.ndarray | None = None
    entropy: np.ndarray | None = None

    @property
    def labels(self) -> np.ndarray:
        """The most probable component of each row, (N,)."""
        return self.probabilities.argmax(1)

    @property
    def sizes(self) -> list[int]:
        """The number of rows whose most probable component is k, for each component k."""
        return np.bincount(self.labels, minlength=self.probabilities.shape[1]).tolist()


def memberships_at(mixture: Mixture, x: np.ndarray | Observations) -> Memberships:
    """Return the memberships at a point estimate."""
    return Memberships(np.asarray(responsibilities(mixture, x)))


def posterior_memberships(posterior: Posterior, estimate: Mixture | None, x: np.ndarray | Observations) -> Memberships:
    """Return the memberships from relabelled posterior draws.

    If the labels are not identified, an average over the draws does not describe single components. The probabilities are then
    those at the point estimate, and the entropies, which do not depend on the labels, describe the uncertainty.
    """
    from ..posterior.coclustering import assignment_entropy

    entropy = np.asarray(assignment_entropy(posterior, x, kind="within"))
    if not bool(posterior.stats.get("labels_identified", posterior.mixture.num_components == 1)):
        if estimate is None:
            raise ValueError(
                "the labels of the posterior are not identified, so its components have no probabilities; use a fit instead."
            )
        print_remark(
            "the labels of the posterior are not identified, so the probabilities of the components are those of EM, without "
            "standard deviations; the column entropy does not depend on the labels."
        )
        return memberships_at(estimate, x)._replace(entropy=entropy)
    draws = pool(posterior.mixture, posterior.stats)
    size, rows = points_per_batch(draws.weights.size * x.shape[1], len(x)), np.arange(len(x))
    parts = [rows_at(x, rows[i : i + size]) for i in range(0, len(x), size)]
    moments = [mean_and_sd(np.asarray(responsibilities(draws, part))) for part in parts]
    mean, sd = (np.concatenate(parts) for parts in zip(*moments, strict=True))
    return Memberships(mean, sd, entropy)


def size_table(sizes: list[int], weights: ArrayLike) -> Table:
    """Return a table of the sizes of the clusters beside the weights of the components."""
    weights = np.asarray(weights)
    total = max(sum(sizes), 1)
    rows = [
        ["..."] * 4 if k is None else [str(k), str(sizes[k]), f"{100 * sizes[k] / total:.1f} %", f"{weights[k]:.4f}"]
        for k in elided(len(sizes))
    ]
    return Table("Clusters, by the most probable component of each row", ("k", "rows", "share", "weight"), rows)


def check_labels_file(arguments: argparse.Namespace) -> None:
    """Raise ValueError if --labels names a file that cannot be written, or the file from which the data are read."""
    if arguments.labels is not None:
        check_table_file(arguments.labels, "--labels", arguments)


def check_table_file(path: Path, option: str, arguments: argparse.Namespace) -> None:
    """Raise ValueError if an option names a file that cannot be written, or the file from which the data are read."""
    check_output_file(path, option, force=arguments.force)
    if path.exists() and Path(arguments.data).exists() and path.samefile(arguments.data):
        raise ValueError(f"{option} {path} is the file that the data are read from; give another file.")


def write_labels(arguments: argparse.Namespace, memberships: Memberships, data: Data) -> list[Path]:
    """Write the memberships to the file named by --labels, if it was given. Return the list of files that were written."""
    if arguments.labels is None:
        return []
    write_memberships(arguments.labels, memberships, data)
    return [arguments.labels]


def write_memberships(path: Path | None, memberships: Memberships, data: Data) -> None:
    """Write the columns of the input and the memberships as CSV; if the path is None, print them on stdout."""
    write_lines(path, _lines(memberships, data))


def _lines(memberships: Memberships, data: Data) -> Iterator[str]:
    """Yield the lines of a CSV file with all columns of the input, followed by the memberships."""
    table = data.table
    assert table is not None
    yield csv_line([*table.names, *_names(memberships.probabilities.shape[1], table.names, memberships)])
    used = {table.names.index(name): i for i, name in enumerate(data.names)}
    numbers = [memberships.probabilities, memberships.sd, memberships.entropy]
    columns = np.column_stack([part for part in numbers if part is not None])
    for label, row, cells, values in zip(
        memberships.labels.tolist(), columns.tolist(), table.cells(), data.x.tolist(), strict=True
    ):
        given = [_as_number(cell, values[used[j]]) if j in used else cell for j, cell in enumerate(cells)]
        yield csv_line([*given, label, *(f"{value:.6g}" for value in row)])


def sizes_in_batches(
    mixture: Mixture,
    batches: RowBatches,
    path: Path | None,
    rows_of: Callable[[np.ndarray], np.ndarray | Observations] = np.asarray,
) -> list[int]:
    """Return the sizes of the clusters of rows that are read in batches, and write the memberships to a file.

    If the path is None, no file is written. The file has the columns that the batches have, followed by the memberships.
    `rows_of` makes the data of the mixture from a batch; missing values become empty cells of the file.
    """
    sizes = np.zeros(mixture.num_components, int)

    def parts() -> Iterator[tuple[np.ndarray, Memberships]]:
        for x in batches:
            found = memberships_at(mixture, rows_of(x))
            sizes[:] += found.sizes
            yield x, found

    def lines() -> Iterator[str]:
        yield csv_line([*batches.names, *_names(mixture.num_components, batches.names)])
        for x, found in parts():
            cells = np.where(np.isnan(x), "", x.astype(str)).tolist()  # text of float32 is shorter than that of float64
            columns = zip(cells, found.labels.tolist(), found.probabilities.tolist(), strict=True)
            for values, label, row in columns:
                yield ",".join([*values, str(label), *(f"{value:.6g}" for value in row)]) + "\n"

    if path is None:
        for _ in parts():
            pass
    else:
        write_lines(path, lines())
    return sizes.tolist()


def _names(num_components: int, given: list[str], memberships: Memberships | None = None) -> list[str]:
    """Return the names of the columns of the memberships, which differ from the names of the given columns."""
    names = ["component", *(f"probability_{i}" for i in range(num_components))]
    if memberships is not None and memberships.sd is not None:
        names += [f"probability_sd_{i}" for i in range(num_components)]
    if memberships is not None and memberships.entropy is not None:
        names.append("entropy")
    while not set(names).isdisjoint(given):
        names = [f"jaxgmm_{name}" for name in names]
    return names


def _as_number(cell: Any, value: float) -> Any:
    """Return a cell of the table unchanged if Python reads it as the number `value`. Otherwise, return `value`.

    For example, if the cell is 1.234,5, the result is 1234.5.
    """
    try:
        return cell if float(cell) == value else value
    except (TypeError, ValueError):
        return value
