"""Test `jaxgmm fit --batch-rows`: what is refused, and that its fit is the one in memory."""

import pytest

import jaxgmm
from jaxgmm.cli import main


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
