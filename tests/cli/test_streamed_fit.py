"""Test `jaxgmm fit --batch-rows`: what is refused, and that its fit is the one in memory."""

import json

import numpy as np
import pytest

import jaxgmm
from jaxgmm import make_mixture, read_batches
from jaxgmm.cli import main
from jaxgmm.cli.memberships import sizes_in_batches


def test_options_of_batches_that_are_refused(refused, tmp_path, points):
    common = ("fit", points, "-k", 2, "--out", tmp_path)
    assert "--checkpoint was given without --batch-rows" in refused(*common, "--checkpoint", tmp_path / "run.npz")
    assert "--batch-rows is 0" in refused(*common, "--batch-rows", 0)
    assert "--label-column needs all data in memory" in refused(*common, "--batch-rows", 9, "--label-column", "sex")
    assert "is not numeric in rows 0 to 8" in refused(*common, "--batch-rows", 9)


@pytest.mark.slow
def test_batches_give_the_fit_in_memory(tmp_path, points, capsys):
    """The sample holds all rows, so prior and start are those of all rows, and so is the fit; a second run continues it."""
    common = ["fit", str(points), "-k", "2", "--columns", "0,1", "--restarts", "2"]
    assert main([*common, "--out", str(tmp_path / "a")]) == 0
    for _ in range(2):
        options = ["--batch-rows", "9", "--checkpoint", str(tmp_path / "run.npz"), "--force"]
        options += ["--labels", str(tmp_path / "labels.csv")]
        assert main([*common, "--out", str(tmp_path / "b"), *options]) == 0
    a, b = (jaxgmm.load(tmp_path / name / "points-fit.json") for name in "ab")
    assert float(abs(a.log_likelihood - b.log_likelihood)) < 1e-3
    text = capsys.readouterr().out
    assert "Fit CONVERGED" in text
    sizes = [json.loads((tmp_path / name / "points-fit.json").read_text())["cluster_sizes"] for name in "ab"]
    assert sizes == [[15, 15], [15, 15]]
    header, *lines = (tmp_path / "labels.csv").read_text().splitlines()
    assert header == "height,weight,component,probability_0,probability_1"
    labels = np.loadtxt(lines, delimiter=",")
    np.testing.assert_array_equal(labels[:, :2], np.loadtxt(points, delimiter=",", skiprows=1, usecols=(0, 1)))
    np.testing.assert_array_equal(labels[:, 2], jaxgmm.predict(b, labels[:, :2]))


@pytest.mark.slow
def test_missing_values_in_batches(tmp_path, capsys):
    """With --missing, empty cells are missing values, as without batches."""
    x = np.random.default_rng(0).normal(size=(60, 2)) + 6 * (np.arange(60) % 2)[:, None]
    cells = np.where(np.random.default_rng(1).random((60, 2)) < 0.2, "", x.astype(str)).tolist()
    path = tmp_path / "gaps.csv"
    path.write_text("a,b\n" + "\n".join(",".join(row) for row in cells if any(row)) + "\n")
    common = ["fit", str(path), "-k", "2", "--missing", "--restarts", "2", "--force"]
    assert main([*common, "--out", str(tmp_path / "a")]) == 0
    options = ["--batch-rows", "25", "--labels", str(tmp_path / "labels.csv")]
    assert main([*common, "--out", str(tmp_path / "b"), *options]) == 0
    a, b = (jaxgmm.load(tmp_path / name / "gaps-fit.json") for name in "ab")
    assert float(abs(a.log_likelihood - b.log_likelihood)) < 1e-3
    sizes = [json.loads((tmp_path / name / "gaps-fit.json").read_text())["cluster_sizes"] for name in "ab"]
    assert sizes[0] == sizes[1]
    lines = (tmp_path / "labels.csv").read_text().splitlines()[1:]
    assert [line.split(",")[:2] for line in lines].count(["", ""]) == 0
    assert sum(line.startswith(",") for line in lines) == sum(row[0] == "" for row in cells if any(row))


def test_columns_and_delimiter_of_batches(tmp_path):
    """Columns can be left out by name, and the delimiter of a text can be given."""
    path = tmp_path / "points.txt"
    path.write_text("a;b;c\n1;2;x\n3;4;y\n")
    batches = read_batches(path, 1, drop="c", delimiter=";")
    assert batches.names == ["a", "b"]
    assert [batch.tolist() for batch in batches] == [[[1, 2]], [[3, 4]]]
    with pytest.raises(ValueError, match="delimiter is ';;'; one character was expected"):
        read_batches(path, 1, delimiter=";;")


def test_sizes_and_labels_in_batches(tmp_path):
    """The rows of all batches are counted and written, with names that the data do not have."""
    mixture = make_mixture([0.5, 0.5], [[0.0], [8.0]], [[1.0], [1.0]], covariance_type="diag")
    x = np.array([[0.1], [8.0], [7.5], [-1.0], [8.5]], np.float32)
    batches = read_batches(x, 2)
    assert sizes_in_batches(mixture, batches, None) == [2, 3]
    assert sizes_in_batches(mixture, batches, tmp_path / "labels.csv") == [2, 3]
    header, first, *_ = (tmp_path / "labels.csv").read_text().splitlines()
    assert header == "column 0,component,probability_0,probability_1"
    assert first.startswith("0.1,0,1,")
