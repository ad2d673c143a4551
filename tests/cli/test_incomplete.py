"""Test the options of `jaxgmm fit` for incomplete rows."""

import json

import numpy as np
import pytest

from jaxgmm.cli import main


@pytest.fixture
def table(tmp_path):
    """A csv file of two clusters in 30 rows with holes, standard errors, and the group of a third of the rows."""
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(0, 1, (15, 2)), rng.normal(9, 1, (15, 2))])
    rows = []
    for i, (a, b) in enumerate(x):
        group = ("low" if a < 5 else "high") if i % 3 == 0 else ""
        rows.append(f"{a:.6g},{'' if i % 5 == 1 else f'{b:.6g}'},0.1,{'' if i % 5 == 1 else 0.2},{group}")
    path = tmp_path / "table.csv"
    path.write_text("\n".join(["height,weight,e1,e2,group", *rows]) + "\n")
    return path


def test_fit(capsys, table, tmp_path):
    """Holes, noise and labels in one call: the words of the labels are the components, in their order."""
    options = ["-k", "2", "--missing", "--noise-columns", "e1,e2", "--label-column", "group", "--restarts", "1"]
    labels = tmp_path / "labels.csv"
    assert main(["fit", str(table), *options, "--out", str(tmp_path), "--labels", str(labels)]) == 0
    captured = capsys.readouterr()
    assert "the labels of column group are the components 0 (high), 1 (low)" in captured.err
    record = json.loads((tmp_path / "table-fit.json").read_text())
    assert record["component_labels"] == ["high", "low"]
    assert record["data"]["feature_names"] == ["height", "weight"]
    np.testing.assert_allclose(record["mixture"]["means"], [[9, 9], [0, 0]], atol=1)
    assert [line.split(",")[5] for line in labels.read_text().splitlines()[1:]] == ["1"] * 15 + ["0"] * 15


def test_refused(refused, table):
    assert "has gaps" in refused("fit", table, "-k", 2, "--columns", "height,weight")
    assert "--noise-columns names 1 columns, and there are 2 columns of data" in refused(
        "fit", table, "-k", 2, "--missing", "--columns", "height,weight", "--noise-columns", "e1"
    )
    assert "column group has 2 different labels, and -k asks for 1" in refused(
        "fit", table, "-k", 1, "--missing", "--columns", "height,weight", "--label-column", "group"
    )
