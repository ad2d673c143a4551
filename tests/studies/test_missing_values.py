"""Test which values of simulated data are missing."""

import jax
import numpy as np
import pytest

from jaxgmm.studies.missing_values import check_missing, with_missing_values


def test_each_value_is_missing_with_the_same_probability():
    """The share of 4000 values differs from .2 by more than 6 standard errors with probability 2e-9."""
    x = np.random.default_rng(0).normal(size=(1000, 4)).astype(np.float32)
    rows = jax.jit(with_missing_values, static_argnums=2)(jax.random.key(0), x, 0.2)
    assert np.abs((~np.asarray(rows.mask())).mean(0) - 0.2).max() < 6 * np.sqrt(0.16 / 1000)
    np.testing.assert_array_equal(rows.x, np.where(rows.mask(), x, 0))
    assert with_missing_values(jax.random.key(0), x, 0.0) is x


def test_shares_that_are_refused():
    assert check_missing(0) == 0.0
    with pytest.raises(ValueError, match="missing is 1; a share from 0 to below 1"):
        check_missing(1)
    with pytest.raises(ValueError, match="missing is"):
        check_missing(-0.1)
    with pytest.raises(TypeError, match="missing"):
        check_missing("some")
