"""Test how a command finds and checks its data. How files are read is tested in tests/io/test_read_table.py."""

import argparse

import numpy as np
import pytest

import jaxgmm
from jaxgmm.cli.data import check_rows, read_data


def arguments(data, **options):
    defaults = dict.fromkeys(("columns", "drop", "array", "delimiter", "decimal")) | {"restarts": 1}
    return argparse.Namespace(data=str(data), **defaults | options)


def test_data_sets_of_the_package():
    x, names, _ = read_data(arguments("faithful", columns=" waiting "))
    assert names == ["waiting"]
    assert x.tolist() == jaxgmm.datasets.load("faithful")[:, 1:].tolist()
    with pytest.raises(ValueError, match="no column 'length'"):
        read_data(arguments("faithful", columns="length"))


def test_files(tmp_path):
    np.savez(tmp_path / "a.npz", a=np.zeros(3), b=np.eye(2))
    x, names, _ = read_data(arguments(tmp_path / "a.npz", array="b", columns="1"))
    assert x.tolist() == [[0], [1]]
    assert names == ["column 1"]
    with pytest.raises(ValueError, match="there is no file and no data set called"):
        read_data(arguments(tmp_path / "nowhere.csv"))


def test_columns_are_chosen_and_remarks_are_lines(tmp_path, capsys):
    (tmp_path / "a.csv").write_text("id;x;y;group\n1;1,5;2;low\n2;2,5;7;high\n3;2,5;3;low\n")
    assert read_data(arguments(tmp_path / "a.csv"))[1] == ["x", "y"]
    (line,) = capsys.readouterr().err.splitlines()
    assert "left out: id (it counts or identifies the rows), group (without numbers, as in 'low')" in line
    assert read_data(arguments(tmp_path / "a.csv", columns="id-y"))[1] == ["id", "x", "y"]
    assert read_data(arguments(tmp_path / "a.csv", drop="0,group,y"))[1] == ["x"]
    assert read_data(arguments("iris", drop="petal_length-petal_width"))[0].shape == (150, 2)
    assert capsys.readouterr().err == ""
    with pytest.raises(ValueError, match="did you mean 'group'"):
        read_data(arguments(tmp_path / "a.csv", drop="gruop"))


def test_the_whole_table_is_kept(tmp_path):
    (tmp_path / "a.csv").write_text('id;x;y;group\n001;1,5;2;"a;b"\n002;2,5;;low\n003;3,5;3;\n')
    data = read_data(arguments(tmp_path / "a.csv", columns="x"))
    assert data.table.names == ["id", "x", "y", "group"]
    assert list(data.table.cells()) == [["001", "1,5", "2", "a;b"], ["002", "2,5", "", "low"], ["003", "3,5", "3", ""]]
    assert read_data(arguments(tmp_path / "a.csv", columns="x"), keep_table=False).table is None
    iris = read_data(arguments("iris", columns="petal_width"))
    assert next(iter(iris.table.cells())) == ["5.1", "3.5", "1.4", "0.2", "setosa"]
    assert iris.table.names[-1] == "species"
    np.save(tmp_path / "a.npy", np.eye(2))
    assert list(read_data(arguments(tmp_path / "a.npy", drop="0")).table.cells()) == [[1, 0], [0, 1]]


def test_values_that_float32_cannot_tell_apart(tmp_path):
    np.save(tmp_path / "far.npy", np.stack([np.arange(20.0), 1.7e9 + np.arange(20)], 1))
    with pytest.raises(ValueError, match="the values of column 1 are too large for float32"):
        read_data(arguments(tmp_path / "far.npy"))


@pytest.mark.parametrize("value", [0.1, 1 / 3, 1e-9, 123456.789])
def test_constant_columns_are_taken(value, tmp_path):
    """Their standard deviation may be rounding alone; whether a column is constant is decided by its range."""
    np.save(tmp_path / "flat.npy", np.stack([np.arange(20.0), np.full(20, value)], 1))
    assert read_data(arguments(tmp_path / "flat.npy"))[0][0, 1] == value


def test_64_bits_hold_them(tmp_path, x64):
    np.save(tmp_path / "far.npy", 1.7e9 + np.arange(20))
    assert len(read_data(arguments(tmp_path / "far.npy"))[0]) == 20


def test_fewer_rows_than_components():
    assert check_rows(np.zeros((3, 1)), 3, "a.csv") is None
    with pytest.raises(ValueError, match=r"a\.csv has 3 rows and -k asks for 4 components"):
        check_rows(np.zeros((3, 1)), 4, "a.csv")
