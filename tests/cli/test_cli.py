"""The command, in process: what it prints and refuses. What it fits and samples: test_readme.py, where that is compiled anyway."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

import jaxgmm
from jaxgmm import cli
from jaxgmm.cli import main
from jaxgmm.io.read_table import read_table

from helpers import study_of


@pytest.fixture
def points(tmp_path):
    """A csv of two clusters with a header and a column of words; 30 rows."""
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(0, 1, (15, 2)), rng.normal(9, 1, (15, 2))])
    path = tmp_path / "points.csv"
    rows = [f"{a:.6g},{b:.6g},{'low' if a < 5 else 'high'}" for a, b in x]
    path.write_text("\n".join(["height,weight,group", *rows]) + "\n")
    return path


def refused(capsys, *arguments):
    """The one sentence on stderr of a command that exits 2."""
    assert main([str(a) for a in arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert line.startswith("jaxgmm: ")
    assert "Traceback" not in line
    return line


def test_version_help_and_module(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out == f"jaxgmm {jaxgmm.__version__}\n"
    code = "import sys, jaxgmm.cli; print([m for m in ('matplotlib', 'numpyro', 'scipy.stats') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
    done = subprocess.run([sys.executable, "-m", "jaxgmm", "fit", "nowhere.csv", "-k", "2"], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("\n \n", "is empty"),
        ("a,b\n", "no rows"),
        ("1,2\n3\n", "ragged: line 2 has 1 values where 2"),
        ("1,2\n\n3,4,5\n", "ragged: line 3"),
        ("a,b\n1,2\n3,x\n", "not numeric: b holds 'x' in line 3"),
        ("1,2\n3,NA\n5,\n", "gaps (missing or infinite values) in 2 rows, the first in line 2, column 1"),
        ("1,2\n3,inf\n", "gaps"),
        ("a,a\n1,2\n", "same name"),
        ("\x00\x01", "not text"),
    ],
)
def test_files_that_are_refused(capsys, tmp_path, text, words):
    path = tmp_path / "bad.csv"
    path.write_text(text)
    assert words in refused(capsys, "fit", path, "-k", 1, "--out", tmp_path)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("words.npy", np.array(["a", "b"]), "real numbers"),
        ("cube.npy", np.zeros((2, 2, 2)), "(2, 2, 2)"),
        ("none.npy", np.zeros((0, 2)), "(0, 2)"),
        ("flags.npy", np.array([True, False]), "real numbers"),
        ("gaps.npy", np.array([[1.0], [np.nan]]), "row 1"),
        ("two.npz", {"a": np.zeros(3), "b": np.zeros((3, 2))}, "say which with --array"),
        ("empty.npz", {}, "no array"),
    ],
)
def test_arrays_that_are_refused(capsys, tmp_path, name, value, words):
    path = tmp_path / name
    np.savez(path, **value) if isinstance(value, dict) else np.save(path, value)
    assert words in refused(capsys, "fit", path, "-k", 1, "--out", tmp_path)


def test_more_that_is_refused(capsys, tmp_path, points):
    objects = tmp_path / "objects.npy"
    np.save(objects, np.array([{}, 1], object), allow_pickle=True)
    assert "Python objects" in refused(capsys, "fit", objects, "-k", 1)
    broken = tmp_path / "broken.npy"
    broken.write_text("hello")
    assert "nothing that NumPy can read" in refused(capsys, "fit", broken, "-k", 1)
    assert "there is no file" in refused(capsys, "fit", tmp_path / "nowhere.csv", "-k", 2)
    assert "is not a file" in refused(capsys, "fit", tmp_path, "-k", 2)
    assert "--columns" in refused(capsys, "fit", points, "-k", 2)  # the column of words
    assert "no column 'length'" in refused(capsys, "fit", points, "-k", 2, "--columns", "length")
    assert "no column 'length'" in refused(capsys, "fit", "faithful", "-k", 2, "--columns", "length")
    assert "named twice" in refused(capsys, "fit", points, "-k", 2, "--columns", "0,height")
    assert "integer >= 1" in refused(capsys, "fit", points, "-k", 0, "--columns", "0")
    assert "31 components" in refused(capsys, "fit", points, "-k", 31, "--columns", "0", "--out", tmp_path)
    assert "invalid int value: 'two'" in refused(capsys, "fit", points, "-k", "two")
    assert "required" in refused(capsys, "compare", points)
    assert "required" in refused(capsys)
    assert "seed" in refused(capsys, "fit", points, "-k", 2, "--seed", -1)
    assert "invalid choice" in refused(capsys, "compare", points, "-k", 2, "--covariance-type", "round")
    assert "between 0 and 1" in refused(capsys, "compare", points, "-k", 2, "--interval", 95)
    assert "num_samples is 0" in refused(capsys, "compare", points, "-k", 2, "--num-samples", 0)
    assert "is a file" in refused(capsys, "fit", points, "-k", 2, "--columns", "0", "--out", points)
    far = tmp_path / "far.csv"
    far.write_text("time\n" + "\n".join(str(1.7e9 + i) for i in range(20)))
    assert "float32" in refused(capsys, "fit", far, "-k", 2, "--out", tmp_path)


@pytest.mark.parametrize(
    ("name", "text", "columns", "names", "x"),
    [
        ("a.csv", "u,v\n1,2\n3,4\n", None, ["u", "v"], [[1, 2], [3, 4]]),
        ("a.csv", "\ufeffu, v\r\n1, 2\r\n\r\n", None, ["u", "v"], [[1, 2]]),
        ("a.csv", "1\n2\n", None, ["column 0"], [[1], [2]]),
        ("a.csv", '"u, first";v\n1;2\n', ["u, first"], ["u, first"], [[1]]),
        ("a.tsv", "u\tv\tw\n1\tx\t3\n", ["2", "u"], ["w", "u"], [[3, 1]]),
        ("a.txt", "  1.5  2e1\n -3 4\n", None, ["column 0", "column 1"], [[1.5, 20], [-3, 4]]),
    ],
)
def test_text_that_is_read(tmp_path, name, text, columns, names, x):
    (tmp_path / name).write_bytes(text.encode())
    got, got_names = read_table(tmp_path / name, columns=columns)
    assert got.tolist() == x
    assert got_names == names


def test_arrays_that_are_read(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(3))
    assert read_table(tmp_path / "a.npy")[0].tolist() == [[0], [1], [2]]
    np.savez(tmp_path / "one.npz", values=np.eye(2))
    assert read_table(tmp_path / "one.npz")[0].tolist() == np.eye(2).tolist()
    np.savez(tmp_path / "two.npz", a=np.zeros(3), b=np.eye(2))
    assert read_table(tmp_path / "two.npz", array="b", columns=["1"])[0].tolist() == [[0], [1]]
    for name in ("a.npy", "two.npz"):
        with pytest.raises(ValueError, match="c|name"):
            read_table(tmp_path / name, array="c")


def test_sample_refuses(capsys, tmp_path):
    for content, words in [("{", "does not hold a mixture"), ('{"mixture": 3}', "does not hold a mixture")]:
        (tmp_path / "no.json").write_text(content)
        assert words in refused(capsys, "sample", tmp_path / "no.json", "-n", 1)
    assert "there is no file" in refused(capsys, "sample", tmp_path / "nowhere.json", "-n", 1)


def test_interrupts_and_surprises_are_a_line(capsys, monkeypatch, tmp_path):
    def stop(error):
        def raiser(*_):
            raise error

        return raiser

    for error, code, words in [
        (KeyboardInterrupt(), 130, "interrupted"),
        (RuntimeError("odd\nmore"), 1, "RuntimeError: odd"),
        (PermissionError(13, "Permission denied", "x.json"), 2, "x.json: Permission denied"),
    ]:
        monkeypatch.setattr("jaxgmm.cli.fit.read_data", stop(error))
        assert main(["fit", "faithful", "-k", "2"]) == code
        (line,) = capsys.readouterr().err.splitlines()
        assert words in line


def test_select(capsys, tmp_path, points):
    arguments = ["select", points, "-k", "1,2", "--covariance-types", "tied", "--columns", "0,1", "--restarts", 2]
    assert main([str(a) for a in [*arguments, "--out", tmp_path]]) == 0
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
    assert "would be overwritten" in refused(capsys, *arguments, "--out", tmp_path)


def test_select_and_compare_refuse(capsys, tmp_path, points):
    rest = ["--columns", "0,1", "--out", tmp_path]
    for text in ("0", "3-1", "two", "1,,2", ""):
        assert "numbers from 1 were expected" in refused(capsys, "select", points, "-k", text, *rest)
    assert "31 components" in refused(capsys, "select", points, "-k", "1-31", *rest)
    assert "'round'" in refused(capsys, "select", points, "--covariance-types", "full,round", *rest)
    assert "invalid choice" in refused(capsys, "select", points, "--criterion", "dic", *rest)
    assert "folds" in refused(capsys, "select", points, "--folds", 1, *rest)
    assert "'vb'" in refused(capsys, "compare", points, "-k", 2, "--methods", "nuts,vb", *rest)
    assert "names one twice" in refused(capsys, "compare", points, "-k", 2, "--methods", "nuts,nuts", *rest)
    assert "is a folder" in refused(capsys, "compare", points, "-k", 2, "--report", tmp_path, *rest)
    assert "no folder" in refused(capsys, "compare", points, "-k", 2, "--report", tmp_path / "no" / "a.html", *rest)
    assert {path.name for path in tmp_path.iterdir()} == {"points.csv"}


@pytest.fixture
def made_up_calibration(monkeypatch):
    """Calibrates at once, whatever the method; what it was called with."""
    from jaxgmm.calibration.result import Calibration

    calls = []

    def calibrate(key, prior, method, **options):
        calls.append((prior, method, options))
        ranks, about = np.repeat(np.arange(10), 4)[:, None], {"key": [0, 0], "num_components": 2, "num_features": 1, "thin": 1}
        about |= {"num_observations": 9, "covariance_type": "full", "dtype": "float32", "prior": {"mean": [0.0]}, "options": {}}
        row = {"method": method, "name": "weights[0]", "probability": 0.9, "coverage": 0.8, "error": 0.1, "undefined": 0.0}
        row["coverage_with_misses"] = 0.8
        one = np.ones(1, bool)
        return Calibration(method, about, ["log-likelihood"], one, ranks, 9, np.ones(ranks.shape), [row], {"OK": 40}, {}, 0.01)

    monkeypatch.setattr("jaxgmm.calibration.calibrate.calibrate", calibrate)
    return calls


def test_calibrate(capsys, tmp_path, made_up_calibration):
    prior = tmp_path / "prior.toml"
    prior.write_text("mean = [1.0, 2.0]\nweight_concentration = 4\n")
    arguments = ["calibrate", "gibbs", "--prior", str(prior), "--out", str(tmp_path), "--resume", str(tmp_path / "kept.npz")]
    assert main([*arguments, "--num-datasets", "40", "--thin", "3"]) == 0
    captured = capsys.readouterr()
    assert "Calibration of gibbs" in captured.out
    assert captured.err == ""
    ((given, method, options),) = made_up_calibration
    assert given.mean.tolist() == [1, 2]
    assert given.weight_concentration.tolist() == [4, 4]
    assert method == "gibbs"
    assert float(given.degrees_of_freedom) == 6
    assert given.scale.tolist() == [[3, 0], [0, 3]]
    assert (options["num_datasets"], options["thin"], options["num_draws"]) == (40, 3, 127)
    assert options["path"].name == "kept.npz"
    record = json.loads((tmp_path / "gibbs-calibrate.json").read_text())
    assert record["calibration"]["passed"] is True
    assert record["options"]["thin"] == 3
    assert (tmp_path / "gibbs-calibrate.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "gibbs-calibrate.csv").read_text().startswith("kind,")
    assert "would be overwritten" in refused(capsys, *arguments)
    assert main(["calibrate", "laplace", "--covariance-type", "spherical", "-d", "2", "--out", str(tmp_path)]) == 0
    assert made_up_calibration[-1][0].scale.tolist() == 4


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("mean = [1.0", "is not toml"),
        ("men = 0", "has 'men'"),
        ('mean = "zero"', "a number or a list of numbers"),
        ("scale = [[1.0], [1.0, 2.0]]", "a number or a list of numbers"),
        ("mean = [0, 0]\nscale = [1.0, 2.0]", "shape (2,); (2, 2)"),
    ],
)
def test_priors_that_are_refused(capsys, tmp_path, made_up_calibration, text, words):
    (tmp_path / "prior.toml").write_text(text)
    assert words in refused(capsys, "calibrate", "nuts", "--prior", tmp_path / "prior.toml", "--out", tmp_path)
    assert not made_up_calibration


def test_calibrate_refuses(capsys, tmp_path):
    assert "there is no file" in refused(capsys, "calibrate", "nuts", "--prior", tmp_path / "no.toml")
    assert "invalid choice" in refused(capsys, "calibrate", "vb")
    assert "num_datasets" in refused(capsys, "calibrate", "nuts", "--num-datasets", 0)
    assert "thin" in refused(capsys, "calibrate", "nuts", "--thin", 0, "--out", tmp_path)
    assert "alpha" in refused(capsys, "calibrate", "nuts", "--alpha", 2, "--out", tmp_path)
    assert "no folder" in refused(capsys, "calibrate", "nuts", "--resume", tmp_path / "no" / "a.npz", "--out", tmp_path)
    (tmp_path / "other.npz").write_text("hello")
    assert "not the file of a study" in refused(
        capsys, "calibrate", "laplace", "--resume", tmp_path / "other.npz", "--out", tmp_path
    )


def test_study(capsys, monkeypatch, tmp_path):
    calls = []

    def coverage_study(key, design, *, path, progress):
        calls.append((design, path, progress))
        return study_of(design)

    monkeypatch.setattr("jaxgmm.coverage.study.coverage_study", coverage_study)
    (tmp_path / "small.toml").write_text('separations = [1, 4]\nnum_observations = [50]\nmethods = ["map"]\n')
    arguments = ["study", str(tmp_path / "small.toml"), "--out", str(tmp_path / "new")]
    assert main(arguments) == 0
    captured = capsys.readouterr()
    assert "Coverage study" in captured.out
    assert captured.err == ""
    ((design, path, progress),) = calls
    assert design.separations == (1, 4)
    assert path == tmp_path / "new" / "small-study.npz"
    assert not progress
    record = json.loads((tmp_path / "new" / "small-study.json").read_text())
    assert len(record["study"]["rows"]) == 4
    assert record["study"]["design"]["methods"] == ["map"]
    assert (tmp_path / "new" / "small-study.png").read_bytes().startswith(b"\x89PNG")
    assert len((tmp_path / "new" / "small-study.csv").read_text().splitlines()) == 5
    assert "would be overwritten" in refused(capsys, *arguments)
    assert main([*arguments, "--force", "--resume", str(tmp_path / "kept.npz")]) == 0
    assert calls[1][1] == tmp_path / "kept.npz"


def test_study_refuses(capsys, tmp_path):
    assert "there is no file" in refused(capsys, "study", tmp_path / "no.toml")
    for text, words in [("[", "not a TOML file"), ("wide = 3", "wide"), ("num_datasets = 0", "num_datasets")]:
        (tmp_path / "bad.toml").write_text(text)
        assert words in refused(capsys, "study", tmp_path / "bad.toml", "--out", tmp_path)
    (tmp_path / "good.toml").write_text("num_datasets = 2")
    (tmp_path / "other.npz").write_text("hello")
    other = ["--resume", tmp_path / "other.npz", "--out", tmp_path]
    assert "not the file of a study" in refused(capsys, "study", tmp_path / "good.toml", *other)
    assert not list(tmp_path.glob("good-*"))


@pytest.mark.parametrize(
    ("plugins", "given", "flags"),
    [([], None, "--xla_backend_optimization_level=1"), ([], "--own", "--own"), (["a GPU's"], None, None)],
)
def test_the_command_compiles_with_fewer_passes(monkeypatch, plugins, given, flags):
    """On a CPU, and where the person has no flags of their own."""
    monkeypatch.setattr(cli.gc, "set_threshold", lambda *_: None)
    monkeypatch.setattr(cli.importlib.metadata, "entry_points", lambda group: plugins)
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    if given:
        monkeypatch.setenv("XLA_FLAGS", given)
    cli._hurry()
    assert os.environ.get("XLA_FLAGS") == flags
