"""Test `read_batches`: files and arrays give their rows in order, at each pass, and damaged files are refused."""

import numpy as np
import pandas
import pytest

import jaxgmm

X = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)


def assert_rows(batches, expected, lengths):
    for _ in range(2):
        parts = list(batches)
        assert [len(part) for part in parts] == lengths
        np.testing.assert_array_equal(np.concatenate(parts), expected)


@pytest.fixture
def npy(tmp_path):
    np.save(tmp_path / "x.npy", X)
    return tmp_path / "x.npy"


def test_npy_files(npy):
    """Batches are arrays, not memory maps: the file is mapped anew for each batch."""
    batches = jaxgmm.read_batches(npy, 3)
    assert_rows(batches, X, [3, 3, 1])
    assert type(next(iter(batches))) is np.ndarray
    assert next(iter(batches)).dtype == np.float32
    assert batches.names == ["column 0", "column 1", "column 2"]
    assert_rows(jaxgmm.read_batches([str(npy), npy], 5, columns=[2, 0]), np.tile(X[:, [2, 0]], (2, 1)), [5, 2, 5, 2])


def test_text_files(tmp_path):
    """Delimiter and header are found; columns come in the requested order; integers become floats."""
    path = tmp_path / "x.csv"
    path.write_text("a;b;c\n" + "".join(f"{i};{i / 2};x\n" for i in range(5)))
    expected = np.stack([np.arange(5) / 2, np.arange(5)], 1)
    assert_rows(jaxgmm.read_batches(path, 2, columns=["b", "a"]), expected, [2, 2, 1])
    with pytest.raises(ValueError, match="is not numeric in rows 0 to 1"):
        list(jaxgmm.read_batches(path, 2))
    path.write_text("1 2\n3 4\n")
    assert_rows(jaxgmm.read_batches(path, 2), [[1, 2], [3, 4]], [2])


def test_arrays_that_can_be_sliced(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "x.h5", "w") as file:
        assert_rows(jaxgmm.read_batches(file.create_dataset("x", data=X), 4), X, [4, 3])
    assert_rows(jaxgmm.read_batches(X, 7), X, [7])


def test_parquet_files(tmp_path):
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = arrow.table({name: X[:, i] for i, name in enumerate("abc")})
    parquet.write_table(table, tmp_path / "x.parquet")
    for source in (tmp_path / "x.parquet", tmp_path, table):
        assert_rows(jaxgmm.read_batches(source, 4, columns="c,a"), X[:, [2, 0]], [4, 3])
    whole = (tmp_path / "x.parquet").read_bytes()
    (tmp_path / "x.parquet").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="is not a parquet file, or is damaged"):
        jaxgmm.read_batches(tmp_path / "x.parquet", 4)


def test_other_files_are_no_npy_files(tmp_path):
    """The message does not repeat NumPy's advice to load pickled objects."""
    (tmp_path / "x.npy").write_bytes(b"garbage")
    with pytest.raises(ValueError, match=r"x\.npy' is not an npy file, or is truncated: NumPy finds no array in it\."):
        jaxgmm.read_batches(tmp_path / "x.npy", 3)


def test_damaged_files_are_refused(npy, tmp_path):
    batches = jaxgmm.read_batches(npy, 3)
    whole = npy.read_bytes()
    npy.write_bytes(whole[:-8])
    for read in (lambda: list(batches), lambda: jaxgmm.read_batches(npy, 3)):
        with pytest.raises(ValueError, match=r"x\.npy' is not an npy file, or is truncated"):
            read()
    np.save(npy, X[:5])
    with pytest.raises(ValueError, match="had 7 rows and now has 5"):
        list(batches)
    (tmp_path / "y.csv").write_text("")
    np.save(tmp_path / "z.npy", X[:, :2])
    for source, message in (
        (tmp_path / "none.npy", "there is no file"),
        (tmp_path / "y.csv", "is empty"),
        (X[0], r"has shape \(3,\)"),
        ([npy, tmp_path / "z.npy"], "files with the same columns were expected"),
        ([], "source is empty"),
    ):
        with pytest.raises(ValueError, match=message):
            jaxgmm.read_batches(source, 3)
    for source in (3, pandas.DataFrame(X)):
        with pytest.raises(TypeError, match="source is"):
            jaxgmm.read_batches(source, 3)
    with pytest.raises(ValueError, match="rows is 0"):
        jaxgmm.read_batches(X, 0)
    with pytest.raises(ValueError, match="no column '7'"):
        jaxgmm.read_batches(X, 3, columns=[7])
