"""Test `jaxgmm select`: its table, its files, and the arguments that it refuses."""

import json

import pytest

from jaxgmm.cli import main


def test_select(capsys, refused, tmp_path, points):
    arguments = ["select", points, "-k", "1,2", "--covariance-types", "tied", "--columns", "0,1", "--restarts", 1]
    labels = tmp_path / "labels.csv"
    assert main([str(a) for a in [*arguments, "--out", tmp_path, "--labels", labels]]) == 0
    given, written = points.read_text().splitlines(), labels.read_text().splitlines()
    assert [line.split(",")[:3] for line in written] == [line.split(",") for line in given]
    assert written[0].endswith(",group,component,probability_0,probability_1")
    assert {tuple(line.split(",")[2:4]) for line in written[1:]} in ({("low", k), ("high", j)} for k, j in ("01", "10"))
    out = capsys.readouterr().out
    assert "BIC, lower is better" in out
    assert "* best" in out
    record = json.loads((tmp_path / "points-select.json").read_text())
    assert record["best"] == {"covariance_type": "tied", "num_components": 2}
    first, second = (cell["criterion"] for cell in record["cells"])
    assert first > second
    assert f"{second:.2f}*" in out
    assert (tmp_path / "points-select.png").read_bytes().startswith(b"\x89PNG")
    assert main(["sample", str(tmp_path / "points-select.json"), "-n", "3"]) == 0
    assert capsys.readouterr().out.startswith("height,weight\n")
    assert "would be overwritten" in refused(*arguments, "--out", tmp_path)


@pytest.mark.slow
def test_evidence(capsys, tmp_path, points):
    arguments = ["select", points, "-k", "1,2", "--covariance-types", "tied,full", "--columns", "0,1", "--restarts", 1]
    assert main([str(a) for a in [*arguments, "--criterion", "evidence", "--out", tmp_path]]) == 0
    out, progress = capsys.readouterr()
    assert "Evidence under default_prior for 2 components" in progress
    assert "p(type, K | x)" in out
    record = json.loads((tmp_path / "points-select.json").read_text())
    assert sum(cell["probability"] for cell in record["cells"]) == pytest.approx(1)


def test_refused(refused, tmp_path, points):
    rest = ["--columns", "0,1", "--out", tmp_path]
    for text in ("0", "3-1", "two", "1,,2", ""):
        assert "integers from 1 were expected" in refused("select", points, "-k", text, *rest)
    assert "31 components" in refused("select", points, "-k", "1-31", *rest)
    assert "'round'" in refused("select", points, "--covariance-types", "full,round", *rest)
    assert "invalid choice" in refused("select", points, "--criterion", "dic", *rest)
    assert "folds" in refused("select", points, "--folds", 1, *rest)
    assert {path.name for path in tmp_path.iterdir()} == {"points.csv"}
