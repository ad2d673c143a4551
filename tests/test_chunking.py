"""Sizes of chunks and batches are larger on accelerators, bounded in memory, and few in number."""

import jax
import numpy as np

from jaxgmm import chunking


def test_accelerators_get_larger_chunks(monkeypatch):
    """On a GPU chunks have at least 4 times as many rows as on a CPU, and take at most 256 MiB."""
    cases = [(k, d, dtype) for k in (1, 16, 1000) for d in (1, 8, 64) for dtype in (np.float32, np.float64)]
    small = [chunking.rows_per_chunk(*case) for case in cases]
    assert chunking.on_cpu()
    assert chunking.scale_for_accelerator(8, 4) == 8
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert not chunking.on_cpu()
    assert chunking.scale_for_accelerator(8, 4) == 32
    for case, chunk in zip(cases, small, strict=True):
        k, d, dtype = case
        widest = np.dtype(dtype).itemsize * max((d + 1) * (d + 2) // 2, k * d)
        large = chunking.rows_per_chunk(*case)
        assert large >= 4 * chunk
        assert large * widest <= 2**28 or large == 2**13


def test_batches_of_fits_are_powers_of_two():
    """Numbers of data sets are powers of two, so that few programs are compiled, and no program holds too many rows."""
    for count in (1, 7, 64, 10_000):
        for rows in (16, 400, 2048, 2**20):
            size, width = chunking.batch_of_fits(count, rows)
            assert size & (size - 1) == 0
            assert width & (width - 1) == 0
            assert width <= size
            assert size == width or size * rows <= 2**19


def test_no_batch_is_empty():
    """A batch holds at least one item, however large the item is."""
    huge = 2**60
    assert chunking.draws_per_batch(huge, 10) == 1
    assert chunking.draws_per_batch(1, 10) == 10
    assert chunking.hessian_columns_per_batch(huge) == chunking.potentials_per_batch(huge) == 1
    assert chunking.replicates_per_batch(huge) == chunking.density_rows_per_chunk(huge) == 1
    assert chunking.calibration_batch(10, huge, 1, 1) == 1


def test_data_sets_of_different_lengths_share_programs():
    """Lengths are powers of two; few rows share one length, and padding adds at most half to the rows at powers of two."""
    rng = np.random.default_rng(0)
    few, many = np.array([50, 300, 2000]), rng.integers(50, 4001, 1000) // rng.integers(1, 4, 1000) + 10
    assert chunking.bucket_lengths(few).tolist() == [2048] * 3
    padded, powers = chunking.bucket_lengths(many), 2 ** np.ceil(np.log2(many)).astype(int)
    assert len(set(padded)) < len(set(powers))
    assert (padded >= powers).all()
    assert padded.sum() <= 1.5 * powers.sum()
    short = np.array([100] * 100_000 + [2000])
    assert set(chunking.bucket_lengths(short)) == {128, 2048}  # one long data set does not make all others long
