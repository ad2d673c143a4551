"""Tests of what limits of censored values add to the law of a row. `em/test_incomplete_sums.py` compares it with quadrature."""

import dataclasses

import jax
import numpy as np
import pytest
from incomplete_rows import LIMITS, NOISE, VARIANCES, D, X

import jaxgmm

from helpers import random_mixture, slow_unless


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("kind", slow_unless(["full", "diag"], ["diag"]))
def test_derivatives(kind):
    """The derivative by the covariances is finite, although some limits are infinite, and is that of finite differences."""
    mixture = random_mixture(0, kind, d=D)
    rows = jaxgmm.observations(X, limits=LIMITS, noise=NOISE if kind == "full" else VARIANCES)
    step = np.zeros(mixture.covariances.shape)
    step[0] = 0.2 * np.eye(D) - 0.1 if kind == "full" else [0.2, -0.1, 0.1, 0.3]

    @jax.jit
    def value(size):
        return jaxgmm.log_prob(dataclasses.replace(mixture, covariances=mixture.covariances + size * step), rows).sum()

    expected = (value(1e-4) - value(-1e-4)) / 2e-4
    np.testing.assert_allclose(jax.grad(value)(0.0), expected, rtol=1e-5)
