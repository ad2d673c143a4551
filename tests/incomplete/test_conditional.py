"""Tests of densities and conditional laws of incomplete rows."""

import jax.numpy as jnp
import numpy as np
import pytest
from incomplete_rows import ALLOWED, DIAGONAL, LABELS, NOISE, VARIANCES, D, X

import jaxgmm
from jaxgmm.incomplete.conditional import eliminate

import oracle
from helpers import COVARIANCE_TYPES, random_mixture, slow_unless


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("kind", slow_unless(COVARIANCE_TYPES, ("tied", "diag")))
def test_log_prob_by_direct_marginalisation(kind):
    """Every pattern of four features, with labels and with the noise of each row."""
    mixture, noise, matrices = (
        random_mixture(1, kind, d=D),
        *((NOISE, NOISE) if kind in ("full", "diag") else (VARIANCES, DIAGONAL)),
    )
    found = jaxgmm.observations(X, noise=noise, labels=LABELS)
    joint = oracle.observed_log_joint(mixture, X, matrices, ALLOWED)
    density = np.logaddexp.reduce(joint, 1)
    np.testing.assert_allclose(jaxgmm.log_prob(mixture, found), density, rtol=0, atol=1e-10)
    if kind == "full":
        r = np.exp(joint - density[:, None])
        np.testing.assert_allclose(jaxgmm.responsibilities(mixture, found), r, rtol=0, atol=1e-10)
        np.testing.assert_array_equal(jaxgmm.predict(mixture, found), r.argmax(1))


def test_underflow():
    """Where all densities underflow, the nearest of the allowed components has responsibility 1."""
    mixture = jaxgmm.make_mixture(np.full(3, 1 / 3), [[0.0, 0.0], [1.0, 0.0], [5.0, 0.0]], [np.eye(2) * 1e-6] * 3)
    found = jaxgmm.observations([[4.0, np.nan], [4.0, np.nan]], labels=np.array([[True] * 3, [True, True, False]]))
    np.testing.assert_array_equal(jaxgmm.responsibilities(mixture, found), [[0, 0, 1], [0, 1, 0]])


@pytest.mark.usefixtures("x64")
def test_eliminate():
    """The right sides are multiplied by the inverse Cholesky factor."""
    matrix = jnp.asarray(NOISE[:1] + np.eye(D))
    right = jnp.eye(D)[:, :, None]
    half_log_det, solved = eliminate(jnp.moveaxis(matrix, 0, -1), right)
    lower = np.linalg.cholesky(matrix[0])
    np.testing.assert_allclose(solved[..., 0], np.linalg.inv(lower), atol=1e-12)
    np.testing.assert_allclose(half_log_det, [np.log(np.diag(lower)).sum()], rtol=1e-12)
