"""`log_evidence` of observations: a sum over all allocations that the labels allow, for diagonal covariances."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from exact_evidence import allocation_terms

import jaxgmm

from helpers import log_prior, log_prob

X = np.random.default_rng(0).normal(size=(9, 2)) + 2 * (np.arange(9) % 2)[:, None]
X[::4, 1] = np.nan
LABELS = np.array([0, 1, -1, -1, -1, -1, -1, 1, -1])


@pytest.mark.usefixtures("x64")
@pytest.mark.filterwarnings("ignore:The draws come from the normal approximation")  # nine rows; only the mode is needed
def test_evidence_of_labelled_rows_with_missing_values():
    """With diagonal covariances, each feature has its own factor; the labels leave one order of the components."""
    rows = jaxgmm.observations(X, labels=LABELS)
    prior = jaxgmm.Prior(*map(jnp.asarray, (np.full(2, 2.0), np.ones(2), 0.2, 6.0, 4 * np.ones(2))))
    start = jaxgmm.make_mixture([0.5, 0.5], [[0.0, 0.0], [2.0, 2.0]], np.ones((2, 2)), covariance_type="diag")
    density = log_prob(start, rows).sum() + log_prior(start, prior)
    draws = jax.tree.map(lambda leaf: leaf[None, None], start)  # a single draw shows where the mode is
    posterior = jaxgmm.Posterior(draws, density[None, None], prior, jnp.array(0), {}, "laplace")
    value, error = jaxgmm.log_evidence(jax.random.key(2), posterior, rows, num_samples=4000)
    terms, _ = allocation_terms(X, prior, "diag")
    allocations = np.stack(np.unravel_index(np.arange(2**9), (2,) * 9), 1)  # in the order of itertools.product
    exact = np.logaddexp.reduce(terms[((LABELS < 0) | (allocations == LABELS)).all(1)])
    assert abs(value - exact) < 5 * error
    assert error < 0.05
