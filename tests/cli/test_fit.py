"""Test the arguments that `jaxgmm fit` refuses. Its results are tested in test_readme.py, where they compile anyway."""

import pytest

import jaxgmm
from jaxgmm.cli import main


def test_counts_and_seed(refused, points):
    assert "integer >= 1" in refused("fit", points, "-k", 0, "--columns", "0")
    assert "invalid int value: 'two'" in refused("fit", points, "-k", "two")
    assert "seed" in refused("fit", points, "-k", 2, "--seed", -1)
    assert "restarts" in refused("fit", points, "-k", 2, "--restarts", 0)


def test_more_components_than_rows(refused, tmp_path, points):
    assert "31 components" in refused("fit", points, "-k", 31, "--columns", "0", "--out", tmp_path)


def test_output_folder_that_is_a_file(refused, points):
    assert "is a file" in refused("fit", points, "-k", 2, "--columns", "0", "--out", points)


def test_options_of_batches_that_are_refused(refused, tmp_path, points):
    common = ("fit", points, "-k", 2, "--out", tmp_path)
    assert "--checkpoint was given without --batch-rows" in refused(*common, "--checkpoint", tmp_path / "run.npz")
    assert "--batch-rows is 0" in refused(*common, "--batch-rows", 0)
    assert "--labels needs all data in memory" in refused(*common, "--batch-rows", 9, "--labels", tmp_path / "l.csv")
    assert "is not numeric in rows 0 to 8" in refused(*common, "--batch-rows", 9)


@pytest.mark.slow
def test_batches_give_the_fit_in_memory(tmp_path, points, capsys):
    """The sample holds all rows, so prior and start are those of all rows, and so is the fit; a second run continues it."""
    common = ["fit", str(points), "-k", "2", "--columns", "0,1", "--restarts", "2"]
    assert main([*common, "--out", str(tmp_path / "a")]) == 0
    for _ in range(2):
        options = ["--batch-rows", "9", "--checkpoint", str(tmp_path / "run.npz"), "--force"]
        assert main([*common, "--out", str(tmp_path / "b"), *options]) == 0
    a, b = (jaxgmm.load(tmp_path / name / "points-fit.json") for name in "ab")
    assert float(abs(a.log_likelihood - b.log_likelihood)) < 1e-3
    assert "Fit CONVERGED" in capsys.readouterr().out
