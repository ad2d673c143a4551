"""Every chunk and batch size of the package, by device.

A chunk is the number of rows worked through at a time; a batch is the number of data sets, draws or columns worked through
at a time. Sizes only trade memory for speed: results do not depend on them beyond rounding. The CPU figures were measured on
two cores with 1 to 2 MiB of cache per core; accelerators take larger pieces, because small ones are dominated by overhead.
"""

from __future__ import annotations

import os

import jax
import numpy as np

LARGE_COPY_BYTES = 1 << 20  # from here on an array is moved to a device in one copy rather than two
GRADIENT_CHUNK = 8192  # rows; beyond it the samplers recompute gradients chunk by chunk instead of storing them
STEPS_PER_ROUND = 8  # EM steps between two sortings of a batch; 4 to 16 were equally fast
SMALLEST_BUCKET = 16  # rows; shorter data sets are padded to this length
JACOBIAN_COLUMNS = 16  # columns of I - dM/dtheta at a time; more gained nothing and took more memory
PSIS_ROWS = 256  # rows smoothed at a time by PSIS, on the host
COMPARISON_DRAWS = 1000  # draws evaluated at a time by `compare`, so that all posteriors share one compiled program
COVERAGE_FILE_BATCH = 256  # data sets between two writes of a coverage study's file
_COVERAGE_RUN = 64  # data sets in one run of a coverage program
_CALIBRATION_DATA_SETS = 128  # data sets of a calibration in one program
_DENSITY_NUMBERS = 1 << 22  # numbers in the largest intermediate of a density: 32 MiB in float64
_DRAW_NUMBERS = 1 << 22  # the same for functions of many draws
_LABELLING_NUMBERS = 1 << 23  # numbers in one batch of labellings of importance proposals
_HESSIAN_NUMBERS = 1 << 25  # numbers in one batch of Hessian columns
_POTENTIAL_NUMBERS = 1 << 16  # numbers in one batch of potentials: what the cache holds; three times as fast as all at once
_REPLICATE_NUMBERS = 1 << 24  # weights or data that bootstrap replicates hold at once
_SCORE_NUMBERS = 1 << 24  # draws x points x components scored by `compare`
_STORED_FEATURES = 1 << 22  # numbers that the quadratic features of all rows may take; beyond it they are not stored


def on_cpu() -> bool:
    """Return whether programs run on a CPU by default."""
    return jax.default_backend() == "cpu"


def scale_for_accelerator(size: int, factor: int) -> int:
    """Return `size` on a CPU and `factor` times as much on a GPU or TPU."""
    return size if on_cpu() else size * factor


def rows_per_chunk(num_components: int, num_features: int, dtype: jax.typing.DTypeLike) -> int:
    """Return the rows per chunk of an E-step.

    On a CPU the largest array of a chunk, of features or of whitened rows, fits the cache; speed is flat within a factor of
    two of this size. Beyond 8 KiB per row of numbers XLA splits single operations over threads, which at these sizes costs
    more than it gains. On a GPU 256 MiB is within a tenth of the speed of a single chunk.
    """
    item = np.dtype(dtype).itemsize
    widest = item * max((num_features + 1) * (num_features + 2) // 2, num_components * num_features)
    if not on_cpu():
        return max(2**13, 2**28 // widest)
    return max(128, min(2**13 // item, 10 * 2**20 // widest // 128 * 128))


def gibbs_rows_per_chunk(num_components: int, num_features: int, dtype: jax.typing.DTypeLike, num_chains: int) -> int:
    """Return the rows per chunk of a Gibbs sweep, in which all chains share the cache."""
    return max(512, 4 * rows_per_chunk(num_components, num_features, dtype) // num_chains)


def density_rows_per_chunk(numbers_per_row: int) -> int:
    """Return the rows per chunk of `log_prob` and its relatives; `numbers_per_row` is batch x K x D."""
    return max(1, scale_for_accelerator(_DENSITY_NUMBERS, 16) // max(1, numbers_per_row))


def derivative_rows_per_chunk() -> int:
    """Return the rows per chunk of second derivatives, which hold (rows, P, P) numbers."""
    return scale_for_accelerator(256, 16)


def start_rows(num_components: int) -> int:
    """Return the number of rows on which starts are searched; more rows did not find better optima."""
    return max(2048, 64 * num_components)


def can_store_features(numbers: int) -> bool:
    """Return whether the quadratic features of all rows may be computed once and stored."""
    return numbers <= _STORED_FEATURES


def draws_per_batch(numbers_per_draw: int, num_draws: int) -> int:
    """Return how many draws to evaluate at a time when each takes `numbers_per_draw` numbers."""
    return max(1, min(num_draws, _DRAW_NUMBERS // max(1, numbers_per_draw)))


def labellings_per_batch(numbers_per_point: int, num_points: int) -> int:
    """Return how many points to evaluate at a time when a proposal is averaged over labellings."""
    return min(max(1, _LABELLING_NUMBERS // max(1, numbers_per_point)), num_points)


def hessian_columns_per_batch(numbers_per_column: int) -> int:
    """Return how many columns of a Hessian to compute at a time."""
    return max(1, _HESSIAN_NUMBERS // max(1, numbers_per_column))


def potentials_per_batch(numbers_per_potential: int) -> int:
    """Return how many potentials to evaluate at a time."""
    return max(1, _POTENTIAL_NUMBERS // max(1, numbers_per_potential))


def replicates_per_batch(numbers_per_replicate: int) -> int:
    """Return how many bootstrap replicates to fit at a time."""
    return max(1, _REPLICATE_NUMBERS // max(1, numbers_per_replicate))


def scored_draws(num_points: int, num_components: int) -> int:
    """Return how many draws of a posterior `compare` scores; more add little to the Monte Carlo error of the scores."""
    return max(200, _SCORE_NUMBERS // max(1, num_points * num_components))


def calibration_batch(num_datasets: int, num_draws: int, num_observations: int, num_components: int) -> int:
    """Return how many data sets of a calibration run in one program."""
    numbers = num_draws * num_observations * num_components
    return max(1, min(_CALIBRATION_DATA_SETS, num_datasets, _DRAW_NUMBERS // max(1, numbers)))


def coverage_runs(num_datasets: int) -> int:
    """Return the number of runs of one program that a coverage study needs for `num_datasets` data sets."""
    return -(-num_datasets // _COVERAGE_RUN)


def coverage_batch() -> int:
    """Return how many data sets of a coverage study are sampled side by side: each holds thousands of draws."""
    return scale_for_accelerator(8, 4)


def batch_of_fits(num_datasets: int, num_rows: int) -> tuple[int, int]:
    """Return (data sets per program, data sets side by side) of `fit_many`, for data sets padded to `num_rows` rows.

    Both are powers of two, so that few programs are compiled. On a CPU 16 data sets side by side were fastest (8 to 32 are
    close), as long as their rows, at most 2^14, fit the cache. A program holds at most 512 data sets and 2^19 rows, which
    bounds memory. Accelerators take 64 times as much of each.
    """
    scale = scale_for_accelerator(1, 64)
    width = _power_of_two(min(16 * scale, 2**14 * scale // num_rows))
    largest = max(width, _power_of_two(min(512 * scale, 2**19 * scale // num_rows)))
    return min(largest, max(width, 2 ** (num_datasets - 1).bit_length())), width


def bucket_lengths(lengths: np.ndarray) -> np.ndarray:
    """Return the padded length of each data set: the next power of two, at least `SMALLEST_BUCKET`."""
    return 2 ** np.ceil(np.log2(np.maximum(lengths, SMALLEST_BUCKET))).astype(int)


def num_threads() -> int:
    """Return the number of threads that run programs side by side.

    A CPU program of many small operations keeps little more than one core busy: two threads on two cores were 1.8 times as
    fast as one.
    """
    return min(4, os.cpu_count() or 1) if on_cpu() else 1


def _power_of_two(number: int) -> int:
    """Return the largest power of two that is at most `number`, at least 1."""
    return 2 ** (max(number, 1).bit_length() - 1)
