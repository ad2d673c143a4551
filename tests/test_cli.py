"""The command, in process: what it prints and refuses. What it fits and samples: test_readme.py, where that is compiled anyway."""

import subprocess
import sys

import numpy as np
import pytest

import jaxgmm
from jaxgmm.cli import main
from jaxgmm.reading import read_table


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
    assert line.startswith("jaxgmm: ") and "Traceback" not in line
    return line


def test_version_help_and_module(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0 and capsys.readouterr().out == f"jaxgmm {jaxgmm.__version__}\n"
    code = "import sys, jaxgmm.cli; print([m for m in ('matplotlib', 'numpyro', 'scipy.stats') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
    done = subprocess.run([sys.executable, "-m", "jaxgmm", "fit", "nowhere.csv", "-k", "2"], capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout == "" and len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "text, words",
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
    "name, value, words",
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
    "name, text, columns, names, x",
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
    assert got.tolist() == x and got_names == names


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
