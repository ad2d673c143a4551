"""The free entries of a mixture: names, kinds and values agree with each other and with the mixture."""

import jax
import numpy as np
import pytest

import jaxgmm
from jaxgmm.covariance import types as covariance_types
from jaxgmm.studies.parameters import free_entries, parameter_names, parameters, parse_name, value_at, values

from helpers import random_mixture

CASES = [(covariance_type, d) for covariance_type in covariance_types.CLASSIC for d in (1, 3)]


@pytest.mark.parametrize(("covariance_type", "d"), CASES)
def test_names_lead_to_values(covariance_type, d):
    mixture = random_mixture(0, covariance_type, 2, d)
    found = parameters(mixture, [f"x{j}" for j in range(d)])
    assert [parameter.name for parameter in found] == parameter_names(2, d, covariance_type)
    assert len(found) == 2 + 2 * d + covariance_types.num_free(covariance_type, 2, d)
    assert values(mixture).tolist() == [float(value_at(mixture, parameter.name)) for parameter in found]


@pytest.mark.parametrize(("covariance_type", "d"), CASES)
def test_kinds_and_features(covariance_type, d):
    """A variance has one feature, a covariance two different ones; shared entries have no component."""
    names = [f"x{j}" for j in range(d)]
    mixture = random_mixture(0, covariance_type, 2, d)
    for parameter in parameters(mixture, names):
        field, index = parameter.place
        assert (field, index) == parse_name(parameter.name)
        if field == "covariances" and mixture.covariances.shape[0] == 1:
            assert parameter.component is None
        else:
            assert parameter.component == index[0]
        expected = {"weight": 0, "mean": 1, "variance": 1, "covariance": 2}[parameter.kind]
        assert len(set(parameter.features)) == expected


def test_spherical_variances_belong_to_every_feature():
    mixture = random_mixture(0, "spherical", 2, 3)
    assert parameters(mixture, ["a", "b", "c"])[-1].features == ("every feature",)


def test_stacks_and_traces():
    """Leading axes stay; NumPy in, NumPy out; the same numbers under jit."""
    mixture = random_mixture(0, "full", 2, 2)
    stack = jax.tree.map(lambda leaf: np.stack([np.asarray(leaf)] * 3), mixture)
    assert values(stack).shape == (3, len(parameter_names(2, 2, "full")))
    assert isinstance(free_entries(stack), np.ndarray)
    np.testing.assert_allclose(jax.jit(free_entries)(mixture), values(mixture), rtol=1e-6)
    assert value_at(stack, "means[1,0]").shape == (3,)


def test_feature_names_default_to_numbers():
    assert parameters(jaxgmm.make_mixture([1.0], [[0.0]], [[[1.0]]]))[1].features == ("0",)
