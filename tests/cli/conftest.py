"""Fixtures for the tests of the command."""

import json

import numpy as np
import pytest

from jaxgmm.cli import main


@pytest.fixture
def points(tmp_path):
    """A csv file of two clusters in 30 rows, with a header and a column of words."""
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(0, 1, (15, 2)), rng.normal(9, 1, (15, 2))])
    path = tmp_path / "points.csv"
    rows = [f"{a:.6g},{b:.6g},{'low' if a < 5 else 'high'}" for a, b in x]
    path.write_text("\n".join(["height,weight,group", *rows]) + "\n")
    return path


@pytest.fixture
def mixture_record(tmp_path):
    """A json file like those of the commands, with a mixture of the two clusters of `points`."""
    mixture = {"weights": [0.25, 0.75], "means": [[0, 0], [9, 9]], "covariances": [[1], [1]], "covariance_type": "spherical"}
    path = tmp_path / "mixture.json"
    path.write_text(json.dumps({"mixture": mixture, "data": {"feature_names": ["height", "weight"]}}))
    return path


@pytest.fixture
def refused(capsys):
    """A function that runs a command, asserts that it exits with code 2, and returns the one sentence on stderr."""

    def run(*arguments):
        assert main([str(a) for a in arguments]) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        (line,) = captured.err.splitlines()
        assert line.startswith("jaxgmm: ")
        assert "Traceback" not in line
        return line

    return run
