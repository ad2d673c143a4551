"""Posteriors of incomplete rows: densities, the draws of Gibbs sampling, and the agreement of the methods.

Statistical checks: z-scores under 5 (5.7e-7 each, some forty of them), with fixed keys.
"""

import jax
import numpy as np
import pytest
from incomplete_rows import LABELS, LIMITS, NOISE, VARIANCES, D, X
from numpyro.infer.util import log_density

import jaxgmm
from jaxgmm.posterior import standardization
from jaxgmm.posterior.conditionals import LabelledData, gibbs_state, sum_by_labels
from jaxgmm.posterior.model import mixture_of, sites_of

from helpers import log_prior, log_prob, random_mixture, random_prior, slow_unless


def observed(kind):
    """Return incomplete rows with labels, limits and noise, whose covariances are as dense as those of the components."""
    weight, noise = np.where(np.arange(len(X)) % 5, 1.0, 2.0), NOISE if kind == "full" else VARIANCES
    return jaxgmm.observations(X, sample_weight=weight, labels=LABELS, noise=noise, limits=LIMITS)


def density(mixture, prior, rows):
    """Return the log density of rows and parameters."""
    return rows.weight @ jaxgmm.log_prob(mixture, rows) + jaxgmm.log_prior(mixture, prior)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("kind", slow_unless(("full", "diag"), ("full",)))
def test_the_numpyro_model_has_our_density(kind):
    """The model is written from NumPyro's distributions over masked covariances; derivatives agree, too."""
    rows, prior, mixture = observed(kind), random_prior(0, kind, d=D), random_mixture(0, kind, d=D)

    @jax.jit
    def both(mixture):
        sites = sites_of(mixture, prior)

        def theirs(sites):
            return log_density(jaxgmm.model, (rows, prior), {"num_components": 3, "covariance_type": kind}, sites)[0]

        def ours(sites):
            found, log_det = mixture_of(sites, kind)
            return density(found, prior, rows) + log_det

        return [jax.value_and_grad(function)(sites) for function in (theirs, ours)]

    (theirs, gradient_there), (ours, gradient) = both(mixture)
    np.testing.assert_allclose(theirs, ours, rtol=1e-11)
    for name, there in gradient_there.items():  # weights sum to 1, and factors are triangular
        found = [
            leaf - leaf.mean() if name == "weights" else np.tril(leaf) if name == "scale_tril" else leaf
            for leaf in (there, gradient[name])
        ]
        np.testing.assert_allclose(*found, rtol=1e-8, atol=1e-8, err_msg=name)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("kind", slow_unless(("full", "diag"), ("diag",)))
def test_standardisation_keeps_the_density(kind):
    """Log densities in data units and in standardised coordinates differ by log_volume, which counts only observed values."""
    rows, prior, mixture = observed(kind), random_prior(0, kind, d=D), random_mixture(0, kind, d=D)

    @jax.jit
    def both(mixture):
        problem = standardization.standardise(rows, rows.weight, prior, kind)
        standard = standardization.to_standard(mixture, problem)
        inside = problem.weight @ jaxgmm.log_prob(standard, problem.y) + jaxgmm.log_prior(standard, problem.prior)
        return density(mixture, prior, rows), inside + standardization.log_volume(problem, kind, 3)

    given, standard = both(mixture)
    np.testing.assert_allclose(given, standard, rtol=1e-11)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("kind", slow_unless(("full", "diag"), ("full",)))
def test_gibbs_sums_have_the_means_of_em(kind):
    """The mean over draws of the counts and of the sums by label is what the E-step computes."""
    rows, mixture = observed(kind), random_mixture(0, kind, d=D)
    data = LabelledData(rows.with_own_noise(), rows.weight)

    @jax.jit
    @jax.vmap
    def draw(key):
        sums, log_likelihood = sum_by_labels(key, gibbs_state(mixture), data, None, kind, 1000)
        return sums.count, sums.count[:, None] * sums.mean, log_likelihood

    count, first, log_likelihood = (np.asarray(leaf) for leaf in draw(jax.random.split(jax.random.key(0), 1000)))
    moments = jaxgmm.e_step(mixture, rows)
    roots = np.linalg.cholesky if kind == "full" else lambda variances: np.sqrt(variances)[:, :, None] * np.eye(D)
    lower = roots(np.asarray(mixture.covariances))
    expected = moments.count[:, None] * mixture.means + np.einsum("kij,kj->ki", lower, moments.first)
    np.testing.assert_allclose(log_likelihood, moments.log_likelihood, rtol=1e-10)
    for found, mean in ((count, moments.count), (first, expected)):
        assert (abs(found.mean(0) - mean) <= 5 * found.std(0) / np.sqrt(1000) + 1e-9).all()


@pytest.mark.slow  # the density and the change of units above are its parts
@pytest.mark.usefixtures("x64")
def test_laplace_density_is_that_of_the_rows():
    """The log densities of a posterior's draws belong to the observed values in data units."""
    rows = jaxgmm.observations(X, noise=np.full(D, 0.1))
    prior = jaxgmm.default_prior(rows, num_components=1, covariance_type="spherical")
    start = jaxgmm.initialize(jax.random.key(0), rows, num_components=1, covariance_type="spherical")
    posterior = jaxgmm.laplace(jax.random.key(1), start, rows, prior, num_samples=200)
    found = log_prob(posterior.mixture, rows).sum(-1) + log_prior(posterior.mixture, prior)
    np.testing.assert_allclose(posterior.log_density, found, rtol=1e-9)
    with pytest.raises(TypeError, match="your own model receives x as an array"):
        jaxgmm.nuts(jax.random.key(1), start, rows, prior, model=jaxgmm.model)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_the_methods_agree():
    """NUTS, Gibbs sampling and Laplace's approximation have the same means, within a tenth of a standard deviation.

    Some values are missing, and some are censored.
    """
    x = np.asarray(jaxgmm.datasets.load("faithful"))
    rng = np.random.default_rng(0)
    x = np.where((rng.random(x.shape) < 0.2) & np.array([False, True]), np.nan, x)
    low = (x < 52) & np.array([False, True])
    rows = jaxgmm.observations(np.where(low, np.nan, x), noise=[0.01, 4.0], limits=(None, np.where(low, 52, np.inf)))
    prior = jaxgmm.default_prior(rows, num_components=2)
    fit = jaxgmm.fit(jaxgmm.initialize(jax.random.key(0), rows, num_components=2), rows, prior)
    options = {"num_samples": 1000, "progress": False}
    draws = [
        jaxgmm.laplace(jax.random.key(1), fit, rows, prior, **options),
        jaxgmm.nuts(jax.random.key(1), fit, rows, prior, **options),
        jaxgmm.gibbs(jax.random.key(1), fit, rows, prior, **options),
    ]
    for posterior in draws:
        found = jaxgmm.log_prob(posterior.mixture[0], rows).sum(-1) + jaxgmm.log_prior(posterior.mixture[0], prior)
        np.testing.assert_allclose(posterior.log_density[0], found, rtol=1e-8)
    means = [np.asarray(posterior.mixture.means) for posterior in draws]
    for other in (means[0], means[2]):
        assert (abs(other.mean((0, 1)) - means[1].mean((0, 1))) < 0.1 * means[1].std((0, 1))).all()
