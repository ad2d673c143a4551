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
    for content in ("{", '{"mixture": 3}', "[]", "[" * 10**5):
        (tmp_path / "no.json").write_text(content)
        assert "does not hold a mixture" in refused("sample", tmp_path / "no.json", "-n", 1)
    assert "there is no file" in refused("sample", tmp_path / "nowhere.json", "-n", 1)
    assert "num_samples" in refused("sample", mixture_file, "-n", 0)
    assert "from 1 to 2147483647 was expected" in refused("sample", mixture_file, "-n", 10**12)
    assert "seed is" in refused("sample", mixture_file, "-n", 1, "--seed", 10**20)
    assert "too long" in refused("sample", mixture_file, "-n", 1, "--out", tmp_path / ("n" * 300))
    assert "would be overwritten" in refused("sample", mixture_file, "-n", 1, "--out", mixture_file)


def test_sizes_that_cannot_be_allocated(refused, monkeypatch, mixture_file):
    monkeypatch.setattr("jaxgmm.memory.free_memory", lambda: 1e9)
    assert "num_samples=2000000000 takes at least 40 GB" in refused("sample", mixture_file, "-n", 2 * 10**9)


def test_a_link_to_nowhere_needs_force(refused, capsys, tmp_path, mixture_file):
    (tmp_path / "link.csv").symlink_to(tmp_path / "secret.csv")
    assert "would be overwritten" in refused("sample", mixture_file, "-n", 1, "--out", tmp_path / "link.csv")
    assert not (tmp_path / "secret.csv").exists()
    assert main(["sample", str(mixture_file), "-n", "1", "--out", str(tmp_path / "link.csv"), "--force"]) == 0
    assert (tmp_path / "secret.csv").exists()


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({"data": {"feature_names": ["a"]}}, "1 feature_names for 2 features"),
        ({"data": {"feature_names": [1, 2]}}, "one name for each was expected"),
        ({"mixture": {"weights": [-1.0, 2.0]}}, "does not hold a valid mixture: weights"),
        ({"mixture": {"covariances": [[-1.0], [1.0]]}}, "does not hold a valid mixture: covariances"),
        ({"mixture": {"means": {}}}, "does not hold a valid mixture"),
    ],
)
def test_records_that_are_refused(refused, mixture_file, record, words):
    given = json.loads(mixture_file.read_text())
    mixture_file.write_text(json.dumps({name: given[name] | record.get(name, {}) for name in given}))
    assert words in refused("sample", mixture_file, "-n", 1)


def test_names_that_are_formulas_are_quoted(capsys, mixture_file):
    """A spreadsheet evaluates an unquoted cell that begins with one of these signs."""
    given = json.loads(mixture_file.read_text())
    given["data"]["feature_names"] = ["=1+1", "@sum"]
    mixture_file.write_text(json.dumps(given))
    assert main(["sample", str(mixture_file), "-n", "1"]) == 0
    assert capsys.readouterr().out.startswith('"=1+1","@sum"\n')
