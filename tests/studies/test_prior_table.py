"""Test the prior from a table: numbers and arrays in the shapes of each covariance type, defaults, refused entries."""

import numpy as np
import pytest

from jaxgmm.studies.prior_table import HYPERPARAMETERS, check_table, prior_from_table, read_prior_table

from helpers import COVARIANCE_TYPES

WEAK = {"weight_concentration": 1, "mean": 0, "mean_precision": 0.01, "degrees_of_freedom": 4, "scale": 1}


def prior_of(table, covariance_type="full"):
    return prior_from_table(table, defaults=WEAK, num_components=3, num_features=2, covariance_type=covariance_type)


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_numbers_hold_for_all_entries(covariance_type):
    prior = prior_of({"scale": 2.5, "weight_concentration": 4}, covariance_type)
    expected = {"full": 2.5 * np.eye(2), "tied": 2.5 * np.eye(2), "diag": [2.5, 2.5], "spherical": 2.5}[covariance_type]
    np.testing.assert_array_equal(prior.scale, expected)
    assert prior.weight_concentration.tolist() == [4, 4, 4]
    assert prior.mean.tolist() == [0, 0]
    assert float(prior.degrees_of_freedom) == 4
    assert float(prior.mean_precision) == pytest.approx(0.01)


def test_arrays_are_taken_as_they_are():
    prior = prior_of({"mean": [1, 2], "scale": [[2.0, 1.0], [1.0, 2.0]], "weight_concentration": [1, 2, 3]})
    assert prior.mean.tolist() == [1, 2]
    assert prior.scale.tolist() == [[2, 1], [1, 2]]
    assert prior.weight_concentration.tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"kappa": 1}, "prior has an entry 'kappa'; only weight_concentration, mean"),
        ({"mean": "zero"}, "sets mean to 'zero'; a number or a list of numbers"),
        ({"scale": [[1.0], [1.0, 2.0]]}, "a number or a list of numbers"),
        ({"scale": [1.0, 2.0]}, r"scale in the prior has shape \(2,\); \(2, 2\)"),
        ({"mean_precision": [1.0]}, r"mean_precision in the prior has shape \(1,\); \(\)"),
    ],
)
def test_entries_that_are_refused(table, words):
    with pytest.raises(ValueError, match=words):
        prior_of(table)


def test_files(tmp_path):
    path = tmp_path / "prior.toml"
    path.write_text("mean = [1.0, 2.0]\nscale = 3\n")
    assert read_prior_table(path) == {"mean": [1.0, 2.0], "scale": 3}
    path.write_text("men = 0")
    with pytest.raises(ValueError, match=r"prior\.toml' has an entry 'men'"):
        read_prior_table(path)
    path.write_text("mean = [1.0")
    with pytest.raises(ValueError, match="is not TOML"):
        read_prior_table(path)
    with pytest.raises(ValueError, match="there is no file"):
        read_prior_table(tmp_path / "nothing.toml")


def test_every_hyperparameter_of_a_prior_may_be_set():
    check_table(dict.fromkeys(HYPERPARAMETERS, 1.0), "prior")
    assert set(vars(prior_of({}))) == set(HYPERPARAMETERS)
