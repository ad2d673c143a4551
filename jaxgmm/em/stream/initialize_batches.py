"""`initialize_batches` makes a start for EM from a random sample of rows that are read in batches."""

from __future__ import annotations

import jax
import numpy as np

from ... import chunking
from ...calls import public
from ...mixture import Mixture
from ..initialization import StartOptions, check_start_options, initialize
from .batches import Batch, Batches, Layout, Source

_BLOCK = 1 << 16  # the random numbers of this many rows are drawn together, whatever the batches are


@public
def initialize_batches(key: jax.Array, batches: Batches, *, num_components: int, covariance_type: str = "full") -> Mixture:
    """Make a start for EM by `initialize`, from a random sample of the rows of batches. The data are read once.

    The sample holds at most max(2^16, 1024 K) rows, which are drawn without replacement in proportion to their weights. The
    same key gives the same start for the same rows in the same order, however they are divided into batches. If there are no
    more rows than this, the start is that of `initialize` for all rows.

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
    x, weight, _ = sample_batches(key, batches, chunking.sample_rows(num_components))
    options = {"num_components": num_components, "covariance_type": covariance_type}
    return initialize(key, x, sample_weight=weight, **options)


def sample_batches(key: jax.Array, batches: Batches, size: int) -> tuple[np.ndarray, np.ndarray | None, int]:
    """Return at most `size` random rows of batches, their weights or None, and the number of all rows."""
    sample = _Sample(size, key)
    for batch in Source(batches, Layout(None)).read():
        sample.add(batch)
    return *sample.rows(), sample.num_rows


class _Sample:
    """A random sample of rows without replacement, in proportion to their weights (Efraimidis & Spirakis 2006).

    Each row gets an exponential random number with its weight as the rate, and the rows with the smallest numbers are kept.
    """

    def __init__(self, size: int, key: jax.Array) -> None:
        """Begin with an empty sample of at most `size` rows."""
        self.size, self.seed = size, np.asarray(jax.random.key_data(key)).ravel().tolist()
        self.num_rows = 0
        self.num_positive = 0
        self.parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []  # the exponential numbers, the weights and the rows
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
        self.parts.append((times[kept], weight[kept], np.asarray(batch.x)[:n][kept]))
        if sum(len(times) for times, *_ in self.parts) > 2 * self.size:
            self._drop()

    def rows(self) -> tuple[np.ndarray, np.ndarray | None]:
        """Return the rows of the sample in the order of the data, and their weights."""
        if not self.parts:
            raise ValueError("batches holds no rows of positive weight; at least one was expected.")
        self._drop()
        _, weight, x = self.parts[0]
        # rows that were drawn in proportion to their weights count equally
        return x, weight.astype(x.dtype) if self.num_positive <= self.size and (weight != 1).any() else None

    def _drop(self) -> None:
        """Drop all rows but the first ones."""
        times, weight, x = (np.concatenate(leaves) for leaves in zip(*self.parts, strict=True))
        if len(times) > self.size:
            kept = np.sort(np.argpartition(times, self.size - 1)[: self.size])
            times, weight, x = times[kept], weight[kept], x[kept]
            self.latest = times.max()
        self.parts = [(times, weight, x)]

    def _exponential(self, begun: int, number: int) -> np.ndarray:
        """Return the exponential random numbers of `number` rows from row `begun` on, which depend on the rows alone."""
        first, last = begun // _BLOCK, (begun + number - 1) // _BLOCK
        blocks = [np.random.default_rng([*self.seed, block]).exponential(size=_BLOCK) for block in range(first, last + 1)]
        return np.concatenate(blocks)[begun - first * _BLOCK :][:number]
