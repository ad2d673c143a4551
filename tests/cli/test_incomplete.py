"""Test the options of `jaxgmm fit`, `select` and `compare` for incomplete rows."""

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


@pytest.mark.slow
def test_select_and_compare(capsys, table, tmp_path):
    """Holes, noise and labels reach the selection, the draws, the table of memberships and the report."""
    options = ["--missing", "--noise-columns", "e1,e2", "--label-column", "group", "--restarts", "1", "--out", str(tmp_path)]
    assert main(["select", str(table), "-k", "2-3", "--covariance-types", "diag", *options]) == 0
    record = json.loads((tmp_path / "table-select.json").read_text())
    assert record["component_labels"] == ["high", "low"]
    assert record["best"]["num_components"] == 2
    few = ["--methods", "gibbs", "--num-samples", "50", "--num-chains", "2", "--no-search"]
    files = {name: str(tmp_path / name) for name in ("labels.csv", "report.html")}
    output = ["--labels", files["labels.csv"], "--report", files["report.html"]]
    assert main(["compare", str(table), "-k", "2", "--covariance-type", "diag", *few, *options, *output]) == 0
    assert "30 observations" in capsys.readouterr().out
    rows = [line.split(",") for line in (tmp_path / "labels.csv").read_text().splitlines()]
    assert [row[rows[0].index("component")] for row in rows[1:]] == ["1"] * 15 + ["0"] * 15
    assert "of 30 points" in (tmp_path / "report.html").read_text()


def test_refused(refused, table):
    assert "has gaps" in refused("fit", table, "-k", 2, "--columns", "height,weight")
    assert "--noise-columns names 1 columns, and there are 2 columns of data" in refused(
        "fit", table, "-k", 2, "--missing", "--columns", "height,weight", "--noise-columns", "e1"
    )
    assert "column group has 2 different labels, and -k asks for 1" in refused(
        "fit", table, "-k", 1, "--missing", "--columns", "height,weight", "--label-column", "group"
    )
    for command, k in (("select", "1-2"), ("compare", 1)):
        assert "-k asks for 1 component; at" in refused(command, table, "-k", k, "--missing", "--label-column", "group")
