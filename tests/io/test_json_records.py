"""Test that load reads the JSON files of the command. What such files must hold is tested in tests/cli/test_sample.py."""

import argparse
import json

import numpy as np
import pytest

import jaxgmm
from jaxgmm.cli.records import data_record, fit_record, mixture_record
from jaxgmm.io.json_records import read_record
from jaxgmm.studies.serialization import json_text

from helpers import COVARIANCE_TYPES, fitted, random_data


def written(path, fit, names):
    """Write the record of a fit as the command does, and return its path."""
    arguments = argparse.Namespace(command="fit", seed=0, data="points.csv")
    parts = {"mixture": mixture_record(fit.mixture), "fit": fit_record(fit)}
    json_text(data_record(arguments, np.zeros((5, 1)), names, {}) | parts, path)
    return path


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_a_fit_is_restored(tmp_path, covariance_type):
    fit, _ = fitted(random_data(0, 40, 2, 2).astype(np.float32), 2, covariance_type)
    loaded = jaxgmm.load(written(tmp_path / "a.json", fit, ["a", "b"]))
    assert isinstance(loaded, jaxgmm.Fit)
    for name in ("log_likelihood", "objective", "num_iter", "status", "component_status"):
        assert np.array_equal(getattr(loaded, name), getattr(fit, name))
        assert getattr(loaded, name).dtype == getattr(fit, name).dtype
    assert loaded.history.tolist() == fit.history[: int(fit.num_iter) + 1].tolist()
    for name in ("weights", "means", "covariances"):
        assert np.array_equal(getattr(loaded.mixture, name), getattr(fit.mixture, name))
        assert getattr(loaded.mixture, name).dtype == np.float32
    assert loaded.mixture.covariance_type == covariance_type
    again = jaxgmm.load(jaxgmm.save(tmp_path / "a.npz", loaded))
    assert again.mixture.means.tolist() == fit.mixture.means.tolist()


def record(means):
    mixture = {"weights": [1.0], "means": [means], "covariances": [[1.0]], "covariance_type": "spherical"}
    return {"mixture": mixture, "data": {"feature_names": ["a", "b"]}}


def test_a_mixture_and_its_names(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(record([0.5, 2.0])))
    mixture, names = read_record(tmp_path / "a.json")
    assert isinstance(mixture, jaxgmm.Mixture)
    assert names == ["a", "b"]
    assert mixture.means.dtype == np.float32
    (tmp_path / "a.json").write_text(json.dumps(record([0.1, 2.0])))
    assert read_record(tmp_path / "a.json")[0].means.dtype == np.float64
    with pytest.warns(RuntimeWarning, match="rounded to float32"):
        assert jaxgmm.load(tmp_path / "a.json").means.dtype == np.float32


def test_64_bits_are_kept(tmp_path, x64):
    (tmp_path / "a.json").write_text(json.dumps(record([0.1, 2.0])))
    assert jaxgmm.load(tmp_path / "a.json").means.tolist() == [[0.1, 2.0]]


@pytest.mark.parametrize("change", [{"status": "GOOD"}, {"component_status": 3}, {"objective": "high"}, {"history": None}])
def test_a_damaged_fit_is_refused(tmp_path, change):
    fields = {"status": "CONVERGED", "num_iter": 1, "log_likelihood": -1.0, "objective": -1.0, "history": [-2.0, -1.0]}
    fit = fields | {"component_status": ["OK"]} | change
    (tmp_path / "a.json").write_text(json.dumps(record([0.5, 2.0]) | {"fit": fit}))
    with pytest.raises(ValueError, match=r"a\.json' does not hold a"):
        jaxgmm.load(tmp_path / "a.json")
