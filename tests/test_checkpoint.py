"""Test the checkpoint of a study: batches are found again, files of other studies and damaged files are refused."""

import gc
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxgmm import files
from jaxgmm.checkpoint import Checkpoint, check_target, versions

BATCHES = {
    "full 50 1.0 em 0": {"z": np.arange(3, dtype=np.float32), "n": np.array(2)},
    "full 50 1.0 em 1": {"z": np.ones((2, 2), np.float32), "n": np.array(3)},
}


def refuse():
    raise AssertionError("computed again")


@pytest.fixture(scope="module")
def intact(tmp_path_factory):
    """The bytes of a file with two finished batches."""
    path = tmp_path_factory.mktemp("intact") / "s.npz"
    checkpoint = Checkpoint(path, {"seed": 0})
    for name, arrays in BATCHES.items():
        checkpoint.get(name, lambda arrays=arrays: arrays)
    return path.read_bytes()


@pytest.fixture(scope="module")
def damaged(tmp_path_factory):
    """The path to which damaged copies are written."""
    return tmp_path_factory.mktemp("damaged") / "s.npz"


def test_batches_are_found_again_bit_for_bit(tmp_path):
    value = np.random.default_rng(0).normal(size=(3, 2)).astype(np.float32)
    Checkpoint(tmp_path / "s.npz", {"seed": 0}).get("cell/1", lambda: {"z": value, "n": 3})
    again = Checkpoint(tmp_path / "s.npz", {"seed": 0})
    assert "cell/1" in again
    assert "cell/2" not in again
    found = again.get("cell/1", refuse)
    np.testing.assert_array_equal(found["z"], value)
    assert found["z"].dtype == np.float32
    assert found["n"] == 3


def test_the_format_of_the_file(tmp_path):
    """Files of earlier versions stay readable: an npz file with the design as JSON and arrays named batch/array."""
    np.savez(tmp_path / "s.npz", design=np.array('{"seed": 0}'), **{"batch/12/z": np.ones(2), "batch/12/n": np.array(3)})
    found = Checkpoint(tmp_path / "s.npz", {"seed": 0}).get("batch/12", refuse)
    assert found["z"].tolist() == [1, 1]
    assert found["n"] == 3
    Checkpoint(tmp_path / "new.npz", {"seed": 0}).get("batch/12", lambda: found)
    assert zipfile.ZipFile(tmp_path / "new.npz").namelist() == ["design.npy", "batch/12/z.npy", "batch/12/n.npy"]


def test_a_batch_that_fails_is_not_kept(tmp_path):
    checkpoint = Checkpoint(tmp_path / "s.npz", {"seed": 0})
    checkpoint.get("a", lambda: {"z": np.zeros(1)})
    with pytest.raises(AssertionError):
        checkpoint.get("b", refuse)
    again = Checkpoint(tmp_path / "s.npz", {"seed": 0})
    assert "a" in again
    assert "b" not in again


def test_without_a_path_nothing_is_written():
    assert Checkpoint(None, {}).get("a", lambda: {"z": 1})["z"] == 1


def test_another_design_is_refused_by_name(tmp_path):
    Checkpoint(tmp_path / "s.npz", {"seed": 0, "num": 3}).get("a", lambda: {"z": 1})
    with pytest.raises(ValueError, match="its num is 3, here it is 4"):
        Checkpoint(tmp_path / "s.npz", {"seed": 0, "num": 4})
    (tmp_path / "other.npz").write_bytes(b"no zip")
    with pytest.raises(ValueError, match="not the file of a study"):
        Checkpoint(tmp_path / "other.npz", {})


@pytest.mark.parametrize("content", [np.zeros(3), np.array("text"), np.zeros((2, 2), int)])
def test_other_files_of_numpy_are_refused(content, tmp_path):
    """An npy file is none of a study, whatever it holds and is called, nor is an npz file without its header."""
    for name, write in [("a.npy", np.save), ("a.npz", np.savez)]:
        with open(tmp_path / name, "wb") as stream:
            write(stream, content)
        with pytest.raises(ValueError, match=rf"{name}' is not the file of a study"):
            Checkpoint(tmp_path / name, {})
    with open(tmp_path / "b.npz", "wb") as stream:
        np.save(stream, content)
    with pytest.raises(ValueError, match="is not the file of a study"):
        Checkpoint(tmp_path / "b.npz", {})
    for header in ("[1, 2]", "5", "null", '"text"', "{", "[" * 10**5):
        np.savez(tmp_path / "c.npz", design=np.array(header))
        with pytest.raises(ValueError, match="is not the file of a study"):
            Checkpoint(tmp_path / "c.npz", {})


@settings(deadline=None)
@given(data=st.data())
def test_a_truncated_file_is_refused(intact, damaged, data):
    damaged.write_bytes(intact[: data.draw(st.integers(0, len(intact) - 1))])
    with pytest.raises(ValueError, match=r"s\.npz' is not the file of a study, or is damaged"):
        Checkpoint(damaged, {"seed": 0})


@settings(deadline=None)
@given(data=st.data())
def test_a_flipped_bit_never_changes_a_number(intact, damaged, data):
    """Either the file is refused in one way, or every array is there and is the one that was written."""
    place = data.draw(st.integers(0, 8 * len(intact) - 1))
    content = bytearray(intact)
    content[place // 8] ^= 1 << place % 8
    damaged.write_bytes(content)
    try:
        checkpoint = Checkpoint(damaged, {"seed": 0})
    except ValueError as error:
        assert "s.npz' is not the file of a study, or is damaged" in str(error)  # noqa: PT017
    else:
        for name, arrays in BATCHES.items():
            found = checkpoint.get(name, refuse)
            assert found.keys() == arrays.keys()
            for key, value in found.items():
                np.testing.assert_array_equal(value, arrays[key])
    assert damaged.read_bytes() == content


@settings(deadline=None)
@given(order=st.permutations(list(BATCHES)))
def test_the_order_of_the_batches_does_not_matter(damaged, order):
    damaged.unlink(missing_ok=True)
    for name in order:  # each by a process of its own
        Checkpoint(damaged, {"seed": 0}).get(name, lambda name=name: BATCHES[name])
    again = Checkpoint(damaged, {"seed": 0})
    for name, arrays in BATCHES.items():
        found = again.get(name, refuse)
        assert all(np.array_equal(found[key], value) for key, value in arrays.items())


def test_targets_are_refused_before_the_work(tmp_path):
    check_target(None)
    check_target(tmp_path / "s.npz")
    with pytest.raises(ValueError, match="no folder"):
        check_target(tmp_path / "missing" / "s.npz")
    with pytest.raises(TypeError, match="int"):
        check_target(3)


def test_names_that_are_too_long_are_refused_before_the_work(tmp_path):
    with pytest.raises(ValueError, match="cannot be written: File name too long"):
        check_target(tmp_path / ("n" * 300))
    assert not list(tmp_path.iterdir())


def test_batches_that_are_lost_are_noticed(tmp_path):
    """A file from which an array was removed is refused, although each of its other arrays is whole."""
    checkpoint = Checkpoint(tmp_path / "s.npz", {"seed": 0})
    for name, arrays in BATCHES.items():
        checkpoint.get(name, lambda arrays=arrays: arrays)
    with np.load(tmp_path / "s.npz") as file:
        kept = {name: file[name] for name in file.files if not name.endswith("em 1/z")}
    np.savez(tmp_path / "s.npz", **kept)
    with pytest.raises(ValueError, match="or is damaged"):
        Checkpoint(tmp_path / "s.npz", {"seed": 0})


OTHER = """
import sys
from jaxgmm import files
from jaxgmm.checkpoint import Checkpoint
checkpoint = Checkpoint(sys.argv[1], {"seed": 0})
checkpoint.get("a", lambda: {"z": 1})
print("has it", flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(files.fcntl is None, reason="no locks here")
def test_a_file_is_used_by_one_process_at_a_time(tmp_path):
    """The other process is named; when it ends, even if it is killed, the file is free. One process may open it twice."""
    path = tmp_path / "s.npz"
    for end in ("communicate", "kill"):
        with subprocess.Popen([sys.executable, "-c", OTHER, path], stdin=-1, stdout=-1, text=True) as other:
            assert other.stdout.readline() == "has it\n"
            with pytest.raises(ValueError, match=rf"s\.npz' is in use by process {other.pid}; wait until it ends"):
                Checkpoint(path, {"seed": 0})
            getattr(other, end)()
        first, second = Checkpoint(path, {"seed": 0}), Checkpoint(path, {"seed": 0})
        assert ("a" in first, "a" in second) == (True, True)
        assert sorted(path.name for path in tmp_path.iterdir()) == [".s.npz.lock", "s.npz"]
        del first, second
        gc.collect()
        assert [path.name for path in tmp_path.iterdir()] == ["s.npz"]


def test_versions_are_those_that_numbers_depend_on():
    assert set(versions()) == {"jax", "numpy", "numpyro"}
