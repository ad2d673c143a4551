"""`log_evidence` of observations: its closed form for one component with diagonal covariances, and labels are refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import gammaln

import jaxgmm

from helpers import log_prior, log_prob

X = np.random.default_rng(0).normal(size=(15, 2))
X[::4, 1] = np.nan


@pytest.mark.usefixtures("x64")
def test_evidence_of_one_component():
    """With diagonal covariances, features are independent, and each has the evidence of its observed values."""
    rows = jaxgmm.observations(X)
    prior = jaxgmm.default_prior(rows, num_components=1, covariance_type="diag")
    x = np.where(np.isnan(X), 0.0, X)
    start = jaxgmm.make_mixture([1.0], x.mean(0, keepdims=True), x.var(0, keepdims=True), covariance_type="diag")
    density = log_prob(start, rows).sum() + log_prior(start, prior)
    draws = jax.tree.map(lambda leaf: leaf[None, None], start)  # a single draw shows where the mode is
    posterior = jaxgmm.Posterior(draws, density[None, None], prior, jnp.array(0), {}, "laplace")
    value, error = jaxgmm.log_evidence(jax.random.key(2), posterior, rows, num_samples=4000)
    names = ("mean", "scale", "mean_precision", "degrees_of_freedom")
    mean, scale, kappa, nu = (np.asarray(getattr(prior, name), float) for name in names)
    exact = 0.0
    for d in range(2):
        y = X[~np.isnan(X[:, d]), d]
        n, a, b = len(y), nu / 2, scale[d] / 2
        new = b + ((y - y.mean()) ** 2).sum() / 2 + kappa * n * (y.mean() - mean[d]) ** 2 / (2 * (kappa + n))
        exact += gammaln(a + n / 2) - gammaln(a) + a * np.log(b) - (a + n / 2) * np.log(new)
        exact += np.log(kappa / (kappa + n)) / 2 - n / 2 * np.log(2 * np.pi)
    assert abs(value - exact) < 5 * error
    assert error < 0.05
    labelled = jaxgmm.observations(X, labels=np.zeros(15, int))
    with pytest.raises(ValueError, match="x has labels"):
        jaxgmm.log_evidence(jax.random.key(2), posterior, labelled)
