"""Test the validation of loaded objects beyond what test_archive.py tests."""

import jax
import numpy as np
import pytest

import jaxgmm
from jaxgmm.io.valid_results import check_mixtures, check_values

from helpers import TWO_COVARIANCE_TYPES, fitted, random_data


def on_host(thing):
    return jax.tree.map(np.asarray, thing)


@pytest.mark.parametrize("covariance_type", TWO_COVARIANCE_TYPES)
def test_what_functions_return_is_valid(covariance_type):
    fit, prior = fitted(random_data(0, 40, 2, 2).astype(np.float32), 2, covariance_type)
    for thing in (fit, fit.mixture, prior):
        check_mixtures(thing)
        check_values(on_host(thing))


def test_stacks_of_priors():
    prior = jaxgmm.default_prior(random_data(0, 40, 2, 2), num_components=2)
    check_values(on_host(jax.tree.map(lambda leaf: np.stack([leaf, leaf]), prior)))
    bad = jax.tree.map(lambda leaf: np.stack([leaf, -leaf]), prior)
    with pytest.raises(ValueError, match="prior"):
        check_values(on_host(bad))
