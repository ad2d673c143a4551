"""Checkpoint of a study: found again, refused under another design, whole after a kill."""

import numpy as np
import pytest

from jaxgmm.studies.checkpoint import Checkpoint, check_target


def refuse():
    raise AssertionError("computed again")


def test_found_again_bit_for_bit(tmp_path):
    value = np.random.default_rng(0).normal(size=(3, 2)).astype(np.float32)
    Checkpoint(tmp_path / "s.npz", {"seed": 0}).get("cell/1", lambda: {"z": value, "n": 3})
    again = Checkpoint(tmp_path / "s.npz", {"seed": 0})
    assert "cell/1" in again
    assert "cell/2" not in again
    found = again.get("cell/1", refuse)
    np.testing.assert_array_equal(found["z"], value)
    assert found["z"].dtype == np.float32
    assert found["n"] == 3


def test_what_fails_is_not_kept(tmp_path):
    blocks = Checkpoint(tmp_path / "s.npz", {"seed": 0})
    blocks.get("a", lambda: {"z": np.zeros(1)})
    with pytest.raises(AssertionError):
        blocks.get("b", refuse)
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


def test_targets_are_refused_before_the_work(tmp_path):
    check_target(None)
    check_target(tmp_path / "s.npz")
    with pytest.raises(ValueError, match="no folder"):
        check_target(tmp_path / "missing" / "s.npz")
    with pytest.raises(TypeError, match="int"):
        check_target(3)
