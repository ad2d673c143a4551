"""`smc` with observations: a closed form of the evidence, the likelihood of particles by a loop, and labels.

Statistical check: the log evidence is within five standard errors, or 0.3 nats, of the closed form.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from incomplete_rows import LABELS, NOISE, VARIANCES, D, X
from scipy.special import gammaln

import jaxgmm
from jaxgmm.posterior.conditionals import gibbs_state
from jaxgmm.posterior.smc.likelihood import log_likelihood_of_particles, log_likelihood_under_normal

from helpers import log_prior, log_prob, random_mixture

RNG = np.random.default_rng(0)
KNOWN = np.arange(12) % 2
VALUES = RNG.normal(size=(12, 2)) + 3 * KNOWN[:, None]
VALUES = np.where((RNG.random((12, 2)) < 0.25) & (np.arange(2) == RNG.integers(2, size=(12, 1))), np.nan, VALUES)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("kind", ["full", "diag"])
def test_likelihood_of_particles_by_a_loop(kind):
    """Value and gradient are those of the weighted density of the observed values; rows of weight 0 are ignored."""
    weight = 1.0 * (np.arange(len(X)) % 3)
    noise = NOISE if kind == "full" else VARIANCES
    rows = jaxgmm.observations(X, noise=noise, labels=np.where(weight == 0, -1, LABELS))
    mixtures = [random_mixture(seed, kind, d=D) for seed in range(2)]

    def of_particles(means):
        stack = jax.tree.map(lambda *leaves: jnp.stack(leaves), *mixtures)
        states = jax.vmap(gibbs_state)(dataclasses.replace(stack, means=means))
        difference = log_likelihood_of_particles(states, rows, jnp.asarray(weight), kind)
        return difference + log_likelihood_under_normal(rows, jnp.asarray(weight))

    def by_loop(means):
        each = [dataclasses.replace(one, means=mean) for one, mean in zip(mixtures, means, strict=True)]
        return jnp.stack([jnp.asarray(weight) @ jaxgmm.log_prob(one, rows) for one in each])

    def value_and_gradient(function):
        total = lambda means: (function(means).sum(), function(means))  # noqa: E731
        (_, value), gradient = jax.jit(jax.value_and_grad(total, has_aux=True))(jnp.stack([one.means for one in mixtures]))
        return value, gradient

    (value, gradient), (expected, slope) = (value_and_gradient(function) for function in (of_particles, by_loop))
    np.testing.assert_allclose(value, expected, rtol=1e-10)
    np.testing.assert_allclose(gradient, slope, rtol=1e-8, atol=1e-10)


def exact_log_evidence(prior):
    """Return the log evidence if all labels are known and covariances are diagonal: a product over components and features."""
    mean, scale, kappa, nu = (
        np.asarray(v, float) for v in (prior.mean, prior.scale, prior.mean_precision, prior.degrees_of_freedom)
    )
    c, counts = np.asarray(prior.weight_concentration, float), np.bincount(KNOWN, minlength=2)
    total = gammaln(c.sum()) - gammaln(c.sum() + len(KNOWN)) + (gammaln(c + counts) - gammaln(c)).sum()
    for k in range(2):
        for d in range(2):
            y = VALUES[(k == KNOWN) & ~np.isnan(VALUES[:, d]), d]
            n, a, b = len(y), nu / 2, scale[d] / 2
            new = b + ((y - y.mean()) ** 2).sum() / 2 + kappa * n * (y.mean() - mean[d]) ** 2 / (2 * (kappa + n))
            total += gammaln(a + n / 2) - gammaln(a) + a * np.log(b) - (a + n / 2) * np.log(new)
            total += np.log(kappa / (kappa + n)) / 2 - n / 2 * np.log(2 * np.pi)
    return total


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_evidence_has_its_closed_form():
    """Labels fix the components, so that they are never permuted, and the evidence is a product over features."""
    rows = jaxgmm.observations(VALUES, labels=KNOWN)
    prior = jaxgmm.default_prior(rows, num_components=2, covariance_type="diag")
    options = {"num_components": 2, "covariance_type": "diag", "num_samples": 300, "num_chains": 2, "progress": False}
    found = jaxgmm.smc(jax.random.key(0), rows, prior, **options)
    values = np.asarray(found.stats["log_evidence"])
    error = max(5 * float(found.stats["log_evidence_error"]), 0.3)
    assert abs(np.log(np.exp(values - values[0]).mean()) + values[0] - exact_log_evidence(prior)) < error
    assert (found.mixture.means[..., 0, 0] < found.mixture.means[..., 1, 0]).mean() > 0.99
    density = log_prob(found.mixture, rows).sum(-1) + log_prior(found.mixture, prior)
    np.testing.assert_allclose(found.log_density, density, rtol=1e-9)


def test_rows_cannot_enter_one_by_one():
    rows = jaxgmm.observations(VALUES.astype(np.float32), labels=KNOWN)
    prior = jaxgmm.default_prior(rows, num_components=2, covariance_type="diag")
    with pytest.raises(ValueError, match='tempering="data" was given with observations'):
        jaxgmm.smc(jax.random.key(0), rows, prior, num_components=2, covariance_type="diag", tempering="data")
