"""`log_evidence` of observations: its closed form for one component with diagonal covariances, and labels are refused."""

import jax
import numpy as np
import pytest
from scipy.special import gammaln

import jaxgmm

X = np.random.default_rng(0).normal(size=(15, 2))
X[::4, 1] = np.nan


@pytest.mark.usefixtures("x64")
def test_evidence_of_one_component():
    """With diagonal covariances, features are independent, and each has the evidence of its observed values."""
    rows = jaxgmm.observations(X)
    prior = jaxgmm.default_prior(rows, num_components=1, covariance_type="diag")
    fit = jaxgmm.fit(jaxgmm.initialize(jax.random.key(0), rows, num_components=1, covariance_type="diag"), rows, prior)
    posterior = jaxgmm.laplace(jax.random.key(1), fit, rows, prior, num_samples=200)
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
