"""Functions of posteriors that take observations: each result by a loop over rows or by a fit of the same replicate."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from incomplete_rows import ALLOWED, LABELS, VARIANCES, D, X

import jaxgmm
from jaxgmm.incomplete.replicates import as_design, draw_like
from jaxgmm.posterior.bootstrap import SCHEMES, _dirichlet_weights, _multinomial_counts

from helpers import random_data, random_mixture, slow_unless

ROWS = {"missing": {}, "noise": {"noise": VARIANCES, "labels": ALLOWED}}


def some_posterior(kind="full", num_draws=4):
    """Return draws near one mixture, in one chain, and this mixture."""
    center = random_mixture(0, kind, d=D)
    draws = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (1, num_draws, *leaf.shape)), center)
    shift = 0.1 * jnp.arange(num_draws, dtype=center.means.dtype)[None, :, None, None]
    draws = dataclasses.replace(draws, means=draws.means + shift)
    return jaxgmm.Posterior(draws, jnp.zeros((1, num_draws)), None, jnp.array(0), {}, "gibbs"), center


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("kind", slow_unless(ROWS, ("noise",)))
def test_averages_over_draws_by_a_loop(kind):
    """Predictive densities, co-clustering, responsibilities and entropies are averages of the functions of one mixture."""
    rows, (posterior, center) = jaxgmm.observations(X, **ROWS[kind]), some_posterior()
    posterior = jaxgmm.relabel(posterior, center, rows)
    draws = [posterior.mixture[0, s] for s in range(4)]
    densities = np.stack([jaxgmm.log_prob(draw, rows) for draw in draws])
    np.testing.assert_allclose(jaxgmm.predictive_log_prob(posterior, rows), np.log(np.exp(densities).mean(0)), rtol=1e-10)
    r = np.stack([jaxgmm.responsibilities(draw, rows) for draw in draws])
    np.testing.assert_allclose(jaxgmm.predictive_responsibilities(posterior, rows), r.mean(0), atol=1e-12)
    together = np.einsum("sik,sjk->ij", r, r) / 4
    np.fill_diagonal(together, 1)
    np.testing.assert_allclose(jaxgmm.coclustering(posterior, rows), together, atol=1e-12)
    within = -(r * np.log(np.where(r > 0, r, 1))).sum(-1).mean(0)
    np.testing.assert_allclose(jaxgmm.assignment_entropy(posterior, rows, kind="within"), within, atol=1e-12)
    if kind == "noise":
        found = jaxgmm.partition(posterior, rows).labels
        np.testing.assert_array_equal(found[LABELS == 0], found[np.argmax(LABELS == 0)])


@pytest.mark.usefixtures("x64")
def test_labels_identify_components():
    """Swapped draws return to the order of the reference, unless labels of rows tell the components apart."""
    posterior, center = some_posterior()
    mixture = jax.tree.map(lambda leaf: jnp.take(leaf, jnp.array([1, 0, 2]), axis=2), posterior.mixture)
    swapped = dataclasses.replace(posterior, mixture=mixture)
    plain, labelled = jaxgmm.observations(X), jaxgmm.observations(X, labels=np.where(LABELS > 1, -1, LABELS))
    np.testing.assert_array_equal(jaxgmm.relabel(swapped, center, plain).mixture.means, posterior.mixture.means)
    for method in ("assignment", "kl"):
        np.testing.assert_array_equal(jaxgmm.relabel(swapped, center, labelled, method=method).mixture.means, mixture.means)


@pytest.mark.usefixtures("x64")
def test_arviz_has_the_densities_of_the_observed_values():
    """The log-likelihoods are those of the rows, a row of weight 2 is two observations, and missing values are NaN."""
    pytest.importorskip("arviz")
    weight = 1.0 + (np.arange(len(X)) == 3)
    rows, (posterior, _) = jaxgmm.observations(X, noise=VARIANCES, sample_weight=weight), some_posterior()
    found = jaxgmm.to_arviz(posterior, rows)
    index = np.repeat(np.arange(len(X)), weight.astype(int))
    expected = np.asarray(jaxgmm.log_prob(posterior.mixture, rows))[..., index]
    np.testing.assert_allclose(found.log_likelihood["x"], expected, rtol=1e-12)
    np.testing.assert_array_equal(np.isnan(found.observed_data["x"]), np.isnan(X[index]))
    assert "posterior_predictive" not in found


def two_clusters(dtype=float, *, noise=True):
    """Return 40 rows of two clusters, in which a fifth of the second column is missing."""
    rng = np.random.default_rng(0)
    x = random_data(0, n=40, d=2) + 9 * (np.arange(40) % 2)[:, None]
    x[rng.random(40) < 0.2, 1] = np.nan
    return jaxgmm.observations(x.astype(dtype), noise=np.full(2, 0.1) if noise else None)


@pytest.mark.slow  # test_replicates.py and test_bootstrap.py have its parts
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("scheme", SCHEMES)
def test_bootstrap_fits_each_replicate(scheme):
    """Each draw is the fit of its replicate, made here from the same random numbers, and its density is that of the data."""
    rows = two_clusters()
    start = jaxgmm.make_mixture([0.5, 0.5], [[0.0, 0.0], [9.0, 9.0]], [[1.0, 1.0]] * 2, covariance_type="diag")
    options = {"tol": 1e-6, "max_iter": 200}
    draws = jaxgmm.bootstrap(jax.random.key(1), start, rows, kind=scheme, num_samples=3, **options)
    own = rows.with_own_noise()
    for s, key in enumerate(jax.random.split(jax.random.key(1), 3)):
        if scheme == "parametric":
            replicate = draw_like(key, start, as_design(rows, None, "test"))
        else:
            count = jnp.array(40)
            weight = (
                _multinomial_counts(key[None], own, None, count, 40)
                if scheme == "nonparametric"
                else _dirichlet_weights(key[None], own, None)
            )[0]
            replicate = dataclasses.replace(own, weight=weight)
        fit = jaxgmm.fit(start, replicate, **options)
        order = np.asarray(draws.stats["permutation"])[0, s]
        np.testing.assert_allclose(draws.mixture.means[0, s], fit.mixture.means[order], rtol=1e-6)
        np.testing.assert_allclose(draws.log_density[0, s], jaxgmm.log_prob(draws.mixture[0, s], rows).sum(), rtol=1e-10)


@pytest.mark.slow
def test_bootstrap_in_float32():
    """The draws are in float32."""
    rows = two_clusters(np.float32, noise=False)
    start = jaxgmm.make_mixture([0.5, 0.5], [[0.0, 0.0], [9.0, 9.0]], [[1.0, 1.0]] * 2, covariance_type="diag")
    draws = jaxgmm.bootstrap(jax.random.key(0), start, rows, num_samples=2, tol=1e-4)
    assert draws.mixture.means.dtype == np.float32
