"""The default prior against its formula, on singular data, and how it is recognised later."""

import copy

import jax
import numpy as np
import pytest

import jaxgmm
from jaxgmm.priors.defaults import is_data_scaled
from jaxgmm.priors.interface import check_prior

from helpers import OTHER_TWO_COVARIANCE_TYPES, random_data, random_prior


@pytest.mark.parametrize("kind", OTHER_TWO_COVARIANCE_TYPES)
def test_default_prior(kind, x64):
    """Hyperparameters follow their formula, integer weights count as repetition, and units change the prior too."""
    x, d = random_data(0), 3
    prior = jaxgmm.default_prior(x, num_components=4, covariance_type=kind)
    covariance = np.cov(x.T, ddof=0)
    v = {"full": covariance, "tied": covariance, "diag": np.diag(covariance), "spherical": np.trace(covariance) / d}[kind]
    np.testing.assert_allclose(prior.weight_concentration, np.ones(4))
    np.testing.assert_allclose(prior.mean, x.mean(0))
    assert (float(prior.mean_precision), float(prior.degrees_of_freedom)) == (0.01, d + 2)
    np.testing.assert_allclose(prior.scale, v / 4 ** (2 / d), rtol=1e-6)
    w = np.random.default_rng(0).integers(0, 3, 60)
    weighted = jaxgmm.default_prior(
        np.where(w[:, None] > 0, x, np.nan), num_components=4, covariance_type=kind, sample_weight=w
    )
    repeated = jaxgmm.default_prior(np.repeat(x, w, axis=0), num_components=4, covariance_type=kind)
    for a, b in zip(jax.tree.leaves(weighted), jax.tree.leaves(repeated), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)
    units = np.array([1e-3, 1.0, 1e3]) if kind != "spherical" else np.full(3, 1e3)
    scaled = jaxgmm.default_prior(x * units + 7, num_components=4, covariance_type=kind)
    back = {"full": np.outer(units, units), "tied": np.outer(units, units), "diag": units**2, "spherical": 1e6}[kind]
    np.testing.assert_allclose(scaled.scale / back, prior.scale, rtol=1e-9)


@pytest.mark.parametrize("kind", ["full", "spherical"])
def test_default_prior_of_singular_data_is_proper(kind):
    """Constant and collinear columns, one row, identical rows, in float32: the prior is valid."""
    line = np.linspace(0, 1, 20)[:, None]
    for x in (
        np.hstack([line, np.full((20, 1), 7.0)]),
        np.hstack([line, 2 * line]),
        np.ones((1, 2)),
        np.zeros((5, 2)),
        np.full((5, 2), 1e4),
    ):
        prior = jaxgmm.default_prior(x, num_components=2, covariance_type=kind)
        check_prior(prior, 2, 2, kind, mode=True)


def test_is_data_scaled():
    """Only the object that default_prior returned is recognised, no copy; a prior written by hand is the same pytree."""
    prior, by_hand = jaxgmm.default_prior(random_data(0), num_components=3), random_prior(0, "full")
    assert is_data_scaled(prior)
    for other in (by_hand, copy.copy(prior), jax.tree.map(lambda leaf: leaf, prior), jax.jit(lambda p: p)(prior), None, 3):
        assert not is_data_scaled(other)
    assert jax.tree.structure(prior) == jax.tree.structure(by_hand)
