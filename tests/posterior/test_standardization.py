"""standardization: mixtures and densities in data units and in standardised coordinates."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from jaxgmm.posterior import standardization

from helpers import (
    COVARIANCE_TYPES,
    assert_mixtures_close,
    independent_prior,
    random_data,
    random_mixture,
    random_prior,
    random_weight,
    slow_unless,
)

CASES = [(covariance_type, half_normal) for covariance_type in COVARIANCE_TYPES for half_normal in (None, False, True)]


@pytest.mark.parametrize(
    ("covariance_type", "half_normal"),
    slow_unless(
        CASES,
        [
            ("full", None),
            ("tied", False),
            ("diag", True),
            ("spherical", None),
        ],
    ),
)
def test_standardisation_keeps_the_density(covariance_type, half_normal, x64):
    """A mixture is recovered, and log densities in the two coordinates differ by log_volume, under every family of priors."""
    scales = np.array([1.0, 50.0])
    x = random_data(0, 50, 2) * scales + 1000
    weight = jnp.asarray(random_weight(0, 50))
    mixture = random_mixture(0, covariance_type, 2, 2)
    mixture = dataclasses.replace(mixture, means=mixture.means + 1000)
    prior = (
        random_prior(0, covariance_type, 2, 2) if half_normal is None else independent_prior(covariance_type, 2, 2, half_normal)
    )
    problem = jax.jit(standardization.standardise, static_argnums=3)(jnp.asarray(x), weight, prior, covariance_type)
    standard = standardization.to_standard(mixture, problem)
    assert_mixtures_close(standardization.from_standard(standard, problem), mixture, 1e-12, scale=1000)
    spread = jnp.sqrt(weight @ problem.y**2 / weight.sum())
    np.testing.assert_allclose((spread**2).mean() if covariance_type == "spherical" else spread, 1, rtol=1e-12)
    in_data_units = jaxgmm.log_prob(mixture, x) @ weight + jaxgmm.log_prior(mixture, prior)
    in_standard_units = jaxgmm.log_prob(standard, problem.y) @ weight + jaxgmm.log_prior(standard, problem.prior)
    np.testing.assert_allclose(
        in_standard_units + standardization.log_volume(problem, covariance_type, 2), in_data_units, rtol=1e-10
    )


def test_a_constant_column_is_scaled_by_the_prior():
    """Its scale is positive, and data and prior stay finite."""
    x = np.c_[np.random.default_rng(0).normal(size=30), np.full(30, 7.0)].astype(np.float32)
    prior = jaxgmm.default_prior(x, num_components=1, covariance_type="diag")
    problem = standardization.standardise(jnp.asarray(x), None, prior, "diag")
    assert np.isfinite(problem.y).all()
    assert (np.asarray(problem.scale) > 0).all()
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(problem.prior))
    assert isinstance(problem.prior, jaxgmm.Prior)
