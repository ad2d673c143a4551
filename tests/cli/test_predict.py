"""Test what `jaxgmm predict` writes, prints and refuses."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from jaxgmm.cli import main


def test_labels_of_new_rows(capsys, refused, tmp_path, points, mixture_record):
    out = tmp_path / "new.csv"
    arguments = ["predict", mixture_record, points, "-o", out]
    assert main([str(a) for a in arguments]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert captured.out.splitlines()[2:] == ["  0    15  50.0 %  0.2500", "  1    15  50.0 %  0.7500", f"Written: {out}"]
    lines = out.read_text().splitlines()
    assert lines[0] == "height,weight,group,component,probability_0,probability_1"
    assert [line.split(",")[:3] for line in lines] == [line.split(",") for line in points.read_text().splitlines()]
    assert [line.split(",")[3] for line in lines[1:]] == ["0"] * 15 + ["1"] * 15
    assert "would be overwritten" in refused(*arguments)
    assert main([str(a) for a in ["predict", mixture_record, points, "--columns", "height,weight"]]) == 0
    assert capsys.readouterr().out == out.read_text()


def test_refused(refused, tmp_path, points, mixture_record):
    assert "is the file that the data are read from" in refused("predict", mixture_record, points, "-o", points, "--force")
    assert "there is no file" in refused("predict", tmp_path / "nowhere.json", points)
    assert "no file and no data set called" in refused("predict", mixture_record, tmp_path / "nowhere.csv")
    record = json.loads(mixture_record.read_text())
    record["data"]["feature_names"][0] = "Height"
    mixture_record.write_text(json.dumps(record))
    assert "did you mean 'height'" in refused("predict", mixture_record, points)


def test_a_posterior(capsys, tmp_path, points):
    """Its file has no names, so the order of the columns counts; the labels are those of the relabelled draws."""
    x = np.loadtxt(points, delimiter=",", skiprows=1, usecols=(0, 1))
    draws = jaxgmm.make_mixture([[[0.5, 0.5]]], [[[[0.0, 0.0], [9.0, 9.0]]]], [[[[1.0], [1.0]]]], covariance_type="spherical")
    posterior = jaxgmm.Posterior(draws, jnp.zeros((1, 1)), None, jnp.array(0), {}, "laplace")
    path = jaxgmm.save(tmp_path / "posterior.npz", jaxgmm.relabel(posterior, draws[0, 0], x))
    assert main(["predict", str(path), str(points), "--columns", "0,1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("component,probability_0,probability_1,probability_sd_0,probability_sd_1,entropy")
    assert float(lines[1].split(",")[4]) == pytest.approx(1.0)
