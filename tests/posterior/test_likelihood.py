"""likelihood: the samplers' log-likelihood equals NumPyro's, whole and in chunks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpyro.infer.util import log_density

from jaxgmm import covariance
from jaxgmm.posterior import likelihood, standardization
from jaxgmm.posterior.model import model, root_of, sites_of

from helpers import COVARIANCE_TYPES, random_data, random_mixture, random_prior, random_weight, slow_unless


def log_likelihoods_of_sites(covariance_type, d):
    """Return two functions of the sites, the weighted log-likelihood of the samplers and NumPyro's, and values of the sites."""
    prior, x, weight = (
        random_prior(0, covariance_type, 2, d),
        jnp.asarray(random_data(0, 50, d)),
        jnp.asarray(random_weight(0, 50)),
    )
    problem = standardization.StandardizedProblem(x, weight, prior, jnp.zeros(d), jnp.ones(d))
    options = dict(num_components=2, covariance_type=covariance_type)
    start = random_mixture(
        1, covariance_type, 2, d
    )  # the features are centred on its means, and log-likelihoods are relative to it

    def on_simplex(sites):  # elsewhere the two differ, because NumPyro divides by the sum
        return sites | {"weights": sites["weights"] / sites["weights"].sum()}

    def of_samplers(sites):
        sites = on_simplex(sites)
        factors = covariance.complete(root_of(sites, covariance_type), covariance_type, d)
        log_likelihood, origin = likelihood.make_log_likelihood(problem, start), likelihood.reference_total(problem, start)
        return log_likelihood(jnp.log(sites["weights"]), sites["means"], factors) + origin

    def of_numpyro(sites):
        sites = on_simplex(sites)
        density = log_density(model, (x, prior), options | {"sample_weight": weight}, sites)[0]
        return density - log_density(model, (x[:1], prior), options | {"sample_weight": jnp.zeros(1)}, sites)[0]

    return of_samplers, of_numpyro, sites_of(random_mixture(0, covariance_type, 2, d), prior)


METHODS = ("features", "whitened")


@pytest.mark.parametrize(
    ("covariance_type", "d", "method"),
    slow_unless(
        [(*case, method) for method in METHODS for case in (*((name, 2) for name in COVARIANCE_TYPES), ("full", 5))],
        [("tied", 2, "features"), ("diag", 2, "whitened"), ("full", 5, "features")],
    ),
)
def test_log_likelihood_equals_numpyros(covariance_type, d, method, monkeypatch, x64):
    """Value and gradient in every site equal NumPyro's, by stored features and by whitened products.

    D=5 is included because factorisations are not written out there.
    """
    if method == "whitened":
        monkeypatch.setattr(likelihood, "can_store_features", lambda numbers: False)
    of_samplers, of_numpyro, sites = log_likelihoods_of_sites(covariance_type, d)
    a, b = (jax.tree.leaves(jax.jit(jax.value_and_grad(f))(sites)) for f in (of_samplers, of_numpyro))
    for left, right in zip(a, b, strict=True):
        left, right = (np.tril(v) if v.ndim == 3 else v for v in (left, right))
        np.testing.assert_allclose(left, right, rtol=1e-9, atol=1e-9)


def test_chunks_give_the_same_total(monkeypatch, x64):
    """A log-likelihood in chunks, with recomputed gradients, equals that of all rows at once."""
    mixture, x, weight = random_mixture(0, "full", 2, 2), jnp.asarray(random_data(0, 50, 2)), jnp.asarray(random_weight(0, 50))
    factors = covariance.factorize(mixture.covariances, "full", 2)
    problem = standardization.StandardizedProblem(x, weight, None, jnp.zeros(2), jnp.ones(2))

    def value(means):
        return likelihood.log_likelihood(jnp.log(mixture.weights), means, factors, problem, None, "full")

    whole = jax.jit(jax.value_and_grad(value))(mixture.means)
    jax.clear_caches()
    monkeypatch.setattr(likelihood, "GRADIENT_CHUNK", 16)
    for left, right in zip(whole, jax.jit(jax.value_and_grad(value))(mixture.means), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-12, atol=1e-12)
