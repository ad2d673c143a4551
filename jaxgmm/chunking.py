"""Define all chunk and batch sizes of the package. Some of them depend on the device.

A chunk consists of rows that are processed together; a batch consists of data sets, draws or columns that are processed
together. The sizes affect memory and speed. Apart from rounding, results do not depend on them. The sizes for CPUs come from
measurements on two cores with 1 to 2 MiB of cache per core. The sizes for accelerators are larger, because the overhead of
small chunks and batches is large there.
"""

from __future__ import annotations

import math
import os
from itertools import pairwise

import jax
import numpy as np

GRADIENT_CHUNK = 8192  # rows; for larger data, a gradient recomputes the arrays of each chunk instead of storing them
# number of EM steps of a batch after which the data sets that have converged are set aside; 4 to 16 steps were equally fast
STEPS_PER_ROUND = 8
SMALLEST_BUCKET = 16  # rows; data sets with fewer rows are padded to this length
# Data sets of different lengths are padded to one length, and share a program, if the number of all rows grows at most by this
# factor, compared with padding to powers of two. Below `_FREE_ROWS` rows, the limit is that for `_FREE_ROWS` rows.
_MOST_PADDING, _FREE_ROWS = 1.5, 1 << 17
SMALLEST_BATCH = 256  # rows; shorter batches of a fit over batches are padded to this length
# with this many components or more, operations on arrays (K, D, N) are replaced by matrix products where that is possible
MANY_COMPONENTS = 64
LARGEST_PADDED = 1 << 17  # rows; longer data sets are not padded
_MANY_ROWS = 2048  # rows; with more rows, the time of an EM step is nearly proportional to the number of rows
_LENGTHS_PER_OCTAVE = (8, 12)  # a padded length is about 2^(i / 8) for an integer i, and 2^(i / 12) above `_MANY_ROWS` rows
# number of columns of the matrix I - dM/dtheta in `em.implicit` that are computed together; larger batches took more memory and
# were not faster
JACOBIAN_COLUMNS = 16
PSIS_ROWS = 256  # rows per batch of Pareto-smoothed importance sampling (PSIS), which runs on the host
COMPARISON_DRAWS = 1000  # largest number of draws in a batch of `compare`; all posteriors share the batch size and one program
COVERAGE_FILE_BATCH = 256  # number of data sets after which a coverage study updates its file
_COVERAGE_RUN = 64  # in one run of a program, a coverage study processes at most this many data sets
_CALIBRATION_DATA_SETS = 128  # in one run of a program, a calibration processes at most this many data sets
# the next constants limit the sizes of arrays
# a posterior stores the log-likelihoods of rows under a user's model only if draws x rows is at most this number
_POINTWISE_NUMBERS = 1 << 24
_DENSITY_NUMBERS = 1 << 22  # an intermediate array of a density has at most this many entries (32 MiB in float64)
_DRAW_NUMBERS = 1 << 22  # an intermediate array of a function of many draws has at most this many entries
_LABELLING_NUMBERS = 1 << 23  # an array for averages over labellings (orders of the components) has at most this many entries
_HESSIAN_NUMBERS = 1 << 25  # a batch of Hessian columns has at most this many entries
# a batch of potentials (negative log-densities) has at most this many entries, so that it fits in the cache; such batches are
# three times as fast as one batch of all points
_POTENTIAL_NUMBERS = 1 << 16
# candidates for a start take their short EM runs at the same time if rows x components x features, summed over these runs, is
# at most this number
_SHORT_RUN_NUMBERS = 1 << 16
# with many components, candidates for a start are compared only if rows x components x features is at most this number
_CANDIDATE_NUMBERS = 1 << 24
_REPLICATE_NUMBERS = 1 << 24  # the weights or simulated data of a batch of bootstrap replicates have at most this many entries
_SCORE_NUMBERS = 1 << 24  # limit of draws x points x components; above it, `compare` scores fewer draws
_STORED_FEATURES = 1 << 22  # the quadratic features of all rows are stored only if they have at most this many entries


def on_cpu() -> bool:
    """Return whether programs run on a CPU by default."""
    return jax.default_backend() == "cpu"


def scale_for_accelerator(size: int, factor: int) -> int:
    """Return `size` on a CPU, and `factor` times `size` on a GPU or TPU."""
    return size if on_cpu() else size * factor


def rows_per_chunk(num_components: int, num_features: int, dtype: jax.typing.DTypeLike) -> int:
    """Return the number of rows in a chunk of the E-step.

    On a CPU, the largest array of a chunk, which holds features or whitened rows, fits in the cache. Chunks of half or twice
    this size are equally fast. An array with one number for each row of a chunk takes at most 8 KiB. XLA would split operations
    on larger arrays over threads, and at these sizes, the splitting costs more time than it saves. On a GPU, the largest array
    takes 256 MiB, and the speed is within a tenth of the speed of a single chunk.
    """
    item = np.dtype(dtype).itemsize
    widest = item * max((num_features + 1) * (num_features + 2) // 2, num_components * num_features)
    if not on_cpu():
        return max(2**13, 2**28 // widest)
    return max(128, min(2**13 // item, 10 * 2**20 // widest // 128 * 128))


def rows_per_block(
    num_rows: int, num_patterns: int, num_components: int, num_features: int, dtype: jax.typing.DTypeLike
) -> int | None:
    """Return the number of rows in a block of rows with the same missing features, or None if each row is treated alone.

    A block has at least 64 rows, because one factorisation for each row is faster than many small blocks. Half a block for each
    pattern is padding, so there are at least four times as many rows.
    """
    size = min(num_rows // (4 * num_patterns), rows_per_chunk(num_components, num_features, dtype))
    return _power_of_two(size) if size >= 64 else None


def gibbs_rows_per_chunk(num_components: int, num_features: int, dtype: jax.typing.DTypeLike, num_chains: int) -> int:
    """Return the number of rows in a chunk of a Gibbs sweep; all chains run at the same time and share the cache."""
    return max(512, 4 * rows_per_chunk(num_components, num_features, dtype) // num_chains)


def particle_rows_per_chunk(num_components: int, num_features: int, num_particles: int) -> int:
    """Return the number of rows in a chunk of a Gibbs sweep of particles. Each particle needs its own arrays for these rows."""
    return max(16, scale_for_accelerator(1 << 18, 16) // (num_particles * num_components * (num_features + 1)))


def tempering_rows() -> int:
    """Return the number of rows whose densities `smc` computes together before it adds these rows one after another."""
    return 16


def density_rows_per_chunk(numbers_per_row: int) -> int:
    """Return the number of rows per chunk for densities such as `log_prob`; `numbers_per_row` is batch size x K x D."""
    return max(1, scale_for_accelerator(_DENSITY_NUMBERS, 16) // max(1, numbers_per_row))


def derivative_rows_per_chunk() -> int:
    """Return the number of rows per chunk of second derivatives, which are arrays (rows, P, P)."""
    return scale_for_accelerator(256, 16)


def start_rows(num_components: int) -> int:
    """Return the number of rows from which starts are computed; more rows did not lead to better optima."""
    return max(2048, 64 * num_components)


def sample_rows(num_components: int) -> int:
    """Return the number of rows of a stream that are kept in memory to make a start from them."""
    return max(1 << 16, 16 * start_rows(num_components))


def short_run_rows(num_parameters: int) -> int:
    """Return the number of rows on which all candidates for a start take their first EM steps."""
    return max(512, 8 * num_parameters)


def short_runs_per_batch(numbers_per_run: int) -> int:
    """Return the number of short EM runs at the same time: a power of two, on a CPU at most 8 so that the cache holds them."""
    scale = scale_for_accelerator(1, 64)
    return _power_of_two(min(8 * scale, _SHORT_RUN_NUMBERS * scale // numbers_per_run))


def can_compare_starts(num_components: int, numbers: int) -> bool:
    """Return whether candidates for a start are compared; `numbers` is rows x components x features of one candidate.

    With fewer than `MANY_COMPONENTS` components they always are, because better starts are then worth the time.
    """
    return num_components < MANY_COMPONENTS or numbers <= scale_for_accelerator(_CANDIDATE_NUMBERS, 16)


def can_store_features(numbers: int) -> bool:
    """Return whether the quadratic features of all rows are few enough to be stored."""
    return numbers <= _STORED_FEATURES


def draws_per_batch(numbers_per_draw: int, num_draws: int) -> int:
    """Return the number of draws in a batch if the arrays for one draw have `numbers_per_draw` entries."""
    return max(1, min(num_draws, _DRAW_NUMBERS // max(1, numbers_per_draw)))


def points_per_batch(numbers_per_point: int, num_points: int) -> int:
    """Return the number of points in a batch if the arrays for one point and all draws have `numbers_per_point` entries."""
    return max(1, min(num_points, _DRAW_NUMBERS // max(1, numbers_per_point)))


def labellings_per_batch(numbers_per_point: int, num_points: int) -> int:
    """Return the number of points in a batch when a proposal is averaged over labellings (orders of the components)."""
    return min(max(1, _LABELLING_NUMBERS // max(1, numbers_per_point)), num_points)


def hessian_columns_per_batch(numbers_per_column: int) -> int:
    """Return the number of columns of a Hessian that are computed together."""
    return max(1, _HESSIAN_NUMBERS // max(1, numbers_per_column))


def potentials_per_batch(numbers_per_potential: int) -> int:
    """Return the number of points whose potentials (negative log-densities) are evaluated together."""
    return max(1, _POTENTIAL_NUMBERS // max(1, numbers_per_potential))


def replicates_per_batch(numbers_per_replicate: int) -> int:
    """Return the number of bootstrap replicates that are fitted together."""
    return max(1, _REPLICATE_NUMBERS // max(1, numbers_per_replicate))


def stores_pointwise(num_draws: int, num_rows: int) -> bool:
    """Return whether a posterior stores the log-likelihood of each row under a user's model for each draw."""
    return num_draws * num_rows <= _POINTWISE_NUMBERS


def scored_draws(num_points: int, num_components: int) -> int:
    """Return the number of draws that `compare` uses for scores. With more draws, the Monte Carlo error is hardly smaller."""
    return max(200, _SCORE_NUMBERS // max(1, num_points * num_components))


def calibration_batch(num_datasets: int, num_draws: int, num_observations: int, num_components: int) -> int:
    """Return the number of data sets that one run of a calibration's program processes."""
    numbers = num_draws * num_observations * num_components
    return max(1, min(_CALIBRATION_DATA_SETS, num_datasets, _DRAW_NUMBERS // max(1, numbers)))


def coverage_runs(num_datasets: int) -> int:
    """Return how often a coverage study with `num_datasets` data sets runs each of its compiled programs."""
    return -(-num_datasets // _COVERAGE_RUN)


def coverage_batch() -> int:
    """Return the number of data sets in a coverage study whose posteriors are sampled together. Each needs many draws."""
    return scale_for_accelerator(8, 4)


def batch_of_fits(num_datasets: int, num_rows: int) -> tuple[int, int]:
    """Return two numbers of data sets for `fit_many`. Each data set has `num_rows` rows.

    The first number says how many data sets one run of a program processes. The second number says how many data sets take EM
    steps together. Both numbers are powers of two, so that few programs are compiled. On a CPU, groups of 16 data sets were
    fastest (groups of 8 to 32 were almost as fast). A group has at most 2^14 rows, so that these rows fit into the cache. One
    run holds at most 512 data sets and 2^19 rows, which limits its memory. On accelerators, each of these limits is 64 times as
    large.
    """
    scale = scale_for_accelerator(1, 64)
    width = _power_of_two(min(16 * scale, 2**14 * scale // num_rows))
    largest = max(width, _power_of_two(min(512 * scale, 2**19 * scale // num_rows)))
    return min(largest, max(width, 2 ** (num_datasets - 1).bit_length())), width


def padded_length(num_rows: int) -> int:
    """Return the number of rows to which a data set of `num_rows` rows is padded, so that few programs are compiled.

    The smallest length is 16. For up to 2048 rows, every length is 2^(i / 8) for an integer i, rounded up to a multiple of 8.
    For more rows, every length is 2^(i / 12), rounded up in the same way. Padding adds less than a tenth of the rows to data
    sets of at least 600 rows, and at most 6 % to data sets of more than 2048 rows. In smaller data sets, the number of rows
    hardly affects the time of an EM step.
    """
    if num_rows > LARGEST_PADDED:
        return num_rows
    per_octave = _LENGTHS_PER_OCTAVE[int(num_rows > _MANY_ROWS)]
    octaves = math.ceil(math.log2(max(num_rows, SMALLEST_BUCKET)) * per_octave)
    lengths = (8 * math.ceil(2 ** (i / per_octave) / 8) for i in (octaves - 1, octaves))
    return max(SMALLEST_BUCKET, next(length for length in lengths if length >= num_rows))


def bucket_lengths(lengths: np.ndarray) -> np.ndarray:
    """Return the padded length of each data set: a power of two, at least `SMALLEST_BUCKET`.

    Two programs are compiled for each padded length, which takes seconds, while padding costs time only in proportion to the
    rows. Therefore, each data set is first padded to the next power of two, and then the shortest lengths are raised to the
    next longer one, as long as all data sets together have at most `_MOST_PADDING` times as many rows as before.
    """
    padded = 2 ** np.ceil(np.log2(np.maximum(lengths, SMALLEST_BUCKET))).astype(int)
    limit = _MOST_PADDING * max(padded.sum(), _FREE_ROWS)
    used = np.unique(padded)
    for length, longer in pairwise(used):
        raised = np.where(padded == length, longer, padded)
        if raised.sum() > limit:
            break
        padded = raised
    return padded


def num_threads() -> int:
    """Return the number of threads that run programs at the same time.

    On a CPU, a program of many small operations uses little more than one core. On two cores, two threads were 1.8 times as
    fast as one.
    """
    return min(4, os.cpu_count() or 1) if on_cpu() else 1


def _power_of_two(number: int) -> int:
    """Return the largest power of two that is at most `number`, or 1 if `number` is below 1."""
    return 2 ** (max(number, 1).bit_length() - 1)
