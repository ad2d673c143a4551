"""Test what `jaxgmm sample` reads, draws and refuses."""

import json

import pytest

from jaxgmm.cli import main


@pytest.fixture
def mixture_file(tmp_path):
    """A file of a mixture of two components, 100 apart, whose columns have names that CSV must quote."""
    path = tmp_path / "mixture.json"
    mixture = {"weights": [0.5, 0.5], "means": [[0.0, 0.0], [100.0, 0.0]], "covariances": [[1.0], [1.0]]}
    record = {"mixture": mixture | {"covariance_type": "spherical"}, "data": {"feature_names": ["a,b", 'say "c"\n']}}
    path.write_text(json.dumps(record))
    return path


def test_names_are_quoted_and_labels_added(capsys, mixture_file):
    assert main(["sample", str(mixture_file), "-n", "20", "--labels"]) == 0
    header = '"a,b","say ""c""\n",component\n'
    out = capsys.readouterr().out
    assert out.startswith(header)
    rows = [line.split(",") for line in out.removeprefix(header).splitlines()]
    assert len(rows) == 20
    assert all((float(row[0]) > 50) == (row[2] == "1") for row in rows)


def test_the_seed_decides(capsys, mixture_file):
    outputs = []
    for seed in ("1", "1", "2"):
        assert main(["sample", str(mixture_file), "-n", "3", "--seed", seed]) == 0
        outputs.append(capsys.readouterr().out)
    assert outputs[0] == outputs[1] != outputs[2]


def test_refused(refused, tmp_path, mixture_file):
    for content in ("{", '{"mixture": 3}', "[]"):
        (tmp_path / "no.json").write_text(content)
        assert "does not hold a mixture" in refused("sample", tmp_path / "no.json", "-n", 1)
    assert "there is no file" in refused("sample", tmp_path / "nowhere.json", "-n", 1)
    assert "num_samples" in refused("sample", mixture_file, "-n", 0)
    assert "would be overwritten" in refused("sample", mixture_file, "-n", 1, "--out", mixture_file)
