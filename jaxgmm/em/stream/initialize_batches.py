"""`initialize_batches` makes a start for EM from a random sample of rows that are read in batches."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from ... import chunking
from ...calls import public
from ...devices.processes import check_same_arguments
from ...incomplete.forms import from_named_arrays, joined, named_arrays
from ...incomplete.observations import Observations
from ...incomplete.rows import rows_at, with_weights
from ...mixture import Mixture
from ..initialization import StartOptions, check_start_options, initialize
from .batches import Batch, Batches, Layout, Source
from .several_processes import are_several, counted, from_process, of_first_process, same_kind, together

_BLOCK = 1 << 16  # the random numbers of this many rows are drawn together, whatever the batches are


@public
def initialize_batches(key: jax.Array, batches: Batches, *, num_components: int, covariance_type: str = "full") -> Mixture:
    """Make a start for EM by `initialize`, from a random sample of the rows of batches. The data are read once.

    The sample holds at most max(2^16, 1024 K) rows, which are drawn without replacement in proportion to their weights. The
    same key gives the same start for the same rows in the same order, however they are divided into batches. If there are no
    more rows than this, the start is that of `initialize` for all rows.

    After `jax.distributed.initialize()`, all processes must call this function with the same key and options. The sample is
    then from the batches of all processes, and all return the same start.

    Args:
        key: a random key.
        batches: as in `fit_batches`. As the data are read once, a generator is accepted too.
        num_components: K.
        covariance_type: as in `initialize`.

    Returns:
        A Mixture in the float dtype of the batches.

    Raises:
        ValueError, TypeError: a batch is invalid (the message names its index), there are fewer rows than components, or an
            option is invalid.

    Example:
        >>> import jax, jaxgmm
        >>> x = jaxgmm.datasets.load("iris")
        >>> jaxgmm.initialize_batches(jax.random.key(0), [x[:100], x[100:]], num_components=3).means.shape
        (3, 4)
    """
    check_start_options(key, StartOptions(num_components, covariance_type, "k-means++"))
    if are_several():
        given = {"key": key, "num_components": num_components, "covariance_type": covariance_type}
        check_same_arguments("initialize_batches", given, None)
    x, weight, _ = sample_batches(key, batches, chunking.sample_rows(num_components))
    x, weight = with_weights(x, weight)
    return initialize(key, x, sample_weight=weight, num_components=num_components, covariance_type=covariance_type)


def sample_batches(key: jax.Array, batches: Batches, size: int) -> tuple[np.ndarray | Observations, np.ndarray | None, int]:
    """Return at most `size` random rows of batches, their weights or None, and the number of all rows.

    If the batches are observations, so are the rows, which then do not hold their weights. With several processes, the rows are
    those of all processes, and each process returns the same.
    """
    sample = _Sample(size, key)

    source = together(lambda: Source(batches, Layout(None)))
    same_kind(together(source.kind))

    def read() -> None:
        for batch in source.read():
            sample.add(batch)

    together(read)
    if are_several():
        sample.share()
    return *sample.rows(), sample.num_rows


class _Sample:
    """A random sample of rows without replacement, in proportion to their weights (Efraimidis & Spirakis 2006).

    Each row gets an exponential random number with its weight as the rate, and the rows with the smallest numbers are kept.
    """

    def __init__(self, size: int, key: jax.Array) -> None:
        """Begin with an empty sample of at most `size` rows."""
        self.size, self.seed = size, np.asarray(jax.random.key_data(key)).ravel().tolist()
        if jax.process_index():  # other random numbers in each of several processes
            self.seed = [*self.seed, jax.process_index()]
        self.num_rows = 0
        self.num_positive = 0
        self.parts: list[tuple[np.ndarray, np.ndarray, Any]] = []  # the exponential numbers, the weights and the rows
        self.latest = np.inf

    def add(self, batch: Batch) -> None:
        """Add the rows of a batch, and keep the first ones of all rows."""
        n, begun = batch.num_rows, self.num_rows
        self.num_rows += n
        if not batch.num_positive:
            return
        self.num_positive += batch.num_positive
        has_weights = isinstance(batch.weight, jax.Array | np.ndarray)
        weight = np.asarray(batch.weight, float)[:n] if has_weights else np.ones(n)
        with np.errstate(divide="ignore"):
            times = self._exponential(begun, n) / weight
        kept = np.flatnonzero((weight > 0) & (times < self.latest))
        self.parts.append((times[kept], weight[kept], rows_at(batch.x, kept)))
        if sum(len(times) for times, *_ in self.parts) > 2 * self.size:
            self._drop()

    def rows(self) -> tuple[Any, np.ndarray | None]:
        """Return the rows of the sample in the order of the data, and their weights."""
        if not self.parts:
            raise ValueError("batches holds no rows of positive weight; at least one was expected.")
        self._drop()
        _, weight, x = self.parts[0]
        # rows that were drawn in proportion to their weights count equally
        return x, weight.astype(x.dtype) if self.num_positive <= self.size and (weight != 1).any() else None

    def share(self) -> None:
        """Exchange the samples of several processes, and keep the first rows of all of them."""
        if self.parts:
            self._drop()
        sample = of_first_process((np.zeros(1, self.parts[0][2].dtype),) if self.parts else None)
        if sample is None:
            return
        own = {"times": np.zeros(0)}
        if self.parts:
            times, weight, x = self.parts[0]
            own = {"times": times, "weight": weight} | named_arrays(x)
        found = [from_process(i, own) for i in range(jax.process_count())]
        self.parts = [(part["times"], part["weight"], from_named_arrays(part)) for part in found if len(part["times"])]
        together(lambda: _check_features([x.shape[1] for *_, x in self.parts]))
        self.num_rows, self.num_positive = counted(self.num_rows), counted(self.num_positive)

    def _drop(self) -> None:
        """Drop all rows but the first ones."""
        times, weight, parts = zip(*self.parts, strict=True)
        times, weight, x = np.concatenate(times), np.concatenate(weight), joined(list(parts))
        if len(times) > self.size:
            kept = np.sort(np.argpartition(times, self.size - 1)[: self.size])
            times, weight, x = times[kept], weight[kept], rows_at(x, kept)
            self.latest = times.max()
        self.parts = [(times, weight, x)]

    def _exponential(self, begun: int, number: int) -> np.ndarray:
        """Return the exponential random numbers of `number` rows from row `begun` on, which depend on the rows alone."""
        first, last = begun // _BLOCK, (begun + number - 1) // _BLOCK
        blocks = [np.random.default_rng([*self.seed, block]).exponential(size=_BLOCK) for block in range(first, last + 1)]
        return np.concatenate(blocks)[begun - first * _BLOCK :][:number]


def _check_features(numbers: list[int]) -> None:
    """Raise ValueError if the batches of processes differ in their numbers of features."""
    if len(set(numbers)) > 1:
        raise ValueError(f"The batches of the processes have {', '.join(map(str, numbers))} features; one number was expected.")
