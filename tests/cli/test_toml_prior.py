"""Test the sampling prior that `jaxgmm calibrate` reads from a TOML file."""

import numpy as np
import pytest

from jaxgmm.cli.toml_prior import read_prior


def test_defaults():
    prior = read_prior(None, 3, None, "full")
    assert prior.weight_concentration.tolist() == [3, 3, 3]
    assert prior.mean.tolist() == [0]
    assert float(prior.mean_precision) == np.float32(0.1)
    assert float(prior.degrees_of_freedom) == 5
    assert prior.scale.tolist() == [[3]]


@pytest.mark.parametrize(
    ("covariance_type", "scale"), [("full", [[3, 0], [0, 3]]), ("tied", [[3, 0], [0, 3]]), ("diag", [4, 4]), ("spherical", 4)]
)
def test_the_scale_has_the_shape_of_the_type(covariance_type, scale):
    assert read_prior(None, 2, 2, covariance_type).scale.tolist() == scale


@pytest.mark.parametrize(("code", "scale"), [("VEI", [2, 2]), ("EVV", [[2, 0], [0, 2]]), ("EEV", 2)])
def test_covariances_that_share_parameters(code, scale):
    """Their prior is normalised. Volumes have the inverse gamma law that the variances of diag have."""
    prior = read_prior(None, 2, 2, code)
    assert float(prior.scale.volume_shape) == 3
    assert prior.scale.scale.tolist() == scale
    np.testing.assert_allclose(prior.mean_covariance, 4 / 6 / 0.1 * np.eye(2), rtol=1e-6)


def test_numbers_and_lists(tmp_path):
    path = tmp_path / "prior.toml"
    path.write_text("mean = [1.0, 2.0]\nweight_concentration = 4\nscale = [[2, 1], [1, 2]]\n")
    prior = read_prior(path, 2, None, "full")
    assert prior.mean.tolist() == [1, 2]
    assert prior.weight_concentration.tolist() == [4, 4]
    assert prior.scale.tolist() == [[2, 1], [1, 2]]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("mean = [1.0", "is not TOML"),
        ("mean = " + "[" * 10**5, "nested too deeply"),
        ("men = 0", "an entry 'men'"),
        ('mean = "zero"', "a number or a list of numbers"),
        ("scale = [[1.0], [1.0, 2.0]]", "a number or a list of numbers"),
        ("mean = [0, 0]\nscale = [1.0, 2.0]", r"shape \(2,\); \(2, 2\)"),
    ],
)
def test_refused(tmp_path, text, words):
    (tmp_path / "prior.toml").write_text(text)
    with pytest.raises(ValueError, match=words):
        read_prior(tmp_path / "prior.toml", 2, None, "full")
