"""Test which array of an npy or npz file is loaded; what is refused is tested in test_read_table.py."""

import numpy as np
import pytest

from jaxgmm.io.array_files import load_array


def test_the_array_that_is_asked_for(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", a=np.zeros(3), b=np.eye(2))
    assert load_array(tmp_path / "a.npz", "b").tolist() == [[1, 0], [0, 1]]
    with pytest.raises(ValueError, match="say which with --array"):
        load_array(tmp_path / "a.npz", None)
