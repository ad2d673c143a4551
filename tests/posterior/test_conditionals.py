"""The conditionals of Gibbs sampling: each against its closed form, and the joint law that their sweeps must keep.

Statistical checks: z-scores under 5 (5.7e-7 each, a few hundred of them: false failure under 2e-4 a run), Kolmogorov-Smirnov
p-values over 1e-6, all with fixed keys.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import jaxgmm
from jaxgmm import covariance
from jaxgmm.posterior.conditionals import LabelledData, draw_state, gibbs_state, sum_by_labels
from jaxgmm.priors.interface import ComponentSums

import oracle
from helpers import COVARIANCE_TYPES, independent_prior, random_data, random_mixture, random_prior

K, D, M = 3, 2, 20000


def prior_for(kind, independent, k=K, d=D):
    prior = independent_prior(kind, k, d, False) if independent else random_prior(0, kind, k, d)
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, float), prior)


def assert_means(draws, expected, limit=5.0):
    """Assert that the mean of independent draws (M, ...) is as expected, within `limit` standard errors."""
    draws = np.asarray(draws, float)
    error = draws.std(0, ddof=1) / np.sqrt(len(draws))
    z = (draws.mean(0) - expected) / np.where(error > 0, error, 1e-6)
    assert abs(z).max() < limit, z


def expected_moments(sums, mixture, prior, kind):
    """Return E mu (K, D), var mu (K, D) and E Sigma (K, D, D | stored) given labels, computed component by component."""
    count, mean = (np.asarray(v, float) for v in (sums.count, sums.mean))
    scatter = np.asarray(sums.scatter, float)
    if not covariance.is_dense(kind):
        scatter = np.stack([np.diag(s) for s in scatter])
    m, independent = np.asarray(prior.mean, float), isinstance(prior, jaxgmm.IndependentPrior)
    centre, spread, total = np.zeros((K, D)), np.zeros((K, D, D)), np.zeros((K, D, D))
    for k in range(K):
        if independent:
            precision = np.linalg.inv(oracle.dense(mixture, k))
            inverse = np.linalg.inv(np.asarray(prior.mean_covariance, float))
            spread[k] = np.linalg.inv(count[k] * precision + inverse)
            centre[k] = spread[k] @ (count[k] * precision @ mean[k] + inverse @ m)
            total[k] = scatter[k] + count[k] * (spread[k] + np.outer(mean[k] - centre[k], mean[k] - centre[k]))
        else:
            kappa = float(prior.mean_precision)
            centre[k] = (count[k] * mean[k] + kappa * m) / (count[k] + kappa)
            shrunk = kappa * count[k] / (kappa + count[k])
            total[k] = scatter[k] + shrunk * np.outer(mean[k] - m, mean[k] - m)
    nu, scale = (np.asarray(v, float) for v in prior.covariance_law.inverse_wishart_parameters())
    if kind == "full":
        sigma = (scale + total) / (nu + count - D - 1)[:, None, None]
    elif kind == "tied":
        sigma = (scale + total.sum(0, keepdims=True)) / (nu + count.sum() - D - 1)
    elif kind == "diag":
        sigma = (scale + np.diagonal(total, axis1=1, axis2=2)) / (nu + count - 2)[:, None]
    else:
        sigma = (scale + np.trace(total, axis1=1, axis2=2)[:, None]) / (nu + D * count - 2)[:, None]
    if not independent:
        dense = np.asarray(covariance.to_dense(jnp.asarray(sigma), kind, K, D))
        spread = dense / (count + float(prior.mean_precision))[:, None, None]
    return centre, np.diagonal(spread, axis1=1, axis2=2), sigma


EVERY = [
    pytest.param(kind, independent, marks=() if (kind, independent) == ("full", True) else pytest.mark.slow)
    for kind in COVARIANCE_TYPES
    for independent in (False, True)
]


@pytest.mark.parametrize(("kind", "independent"), EVERY)
def test_parameters_given_labels(kind, independent):
    """Means of weights, means and covariances and variances of means have their closed forms, with an empty component."""
    prior, mixture = prior_for(kind, independent), random_mixture(0, kind, K, D)
    mixture = jax.tree.map(lambda leaf: jnp.asarray(leaf, float), mixture)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3, 12, D)) @ np.array([[1.0, 0.4], [0, 0.7]]) + rng.normal(size=(3, 1, D))
    scatter = np.stack([(rows - rows.mean(0)).T @ (rows - rows.mean(0)) for rows in x])
    scatter = scatter if covariance.is_dense(kind) else np.diagonal(scatter, axis1=1, axis2=2)
    count = np.array([12.0, 12.0, 0.0])
    scatter = scatter * (count > 0).reshape(-1, *[1] * (scatter.ndim - 1))
    sums = ComponentSums(*(jnp.asarray(v, float) for v in (count, x.mean(1), scatter)))

    @jax.jit
    def draw(keys):
        def one(key):
            state = draw_state(jax.random.split(key), gibbs_state(mixture), sums, prior, jnp.ones(K, bool), kind)
            found = covariance.from_factor(state.factors.lower, kind)
            again = covariance.factorize(found, kind, D)
            return jnp.exp(state.log_weights), state.means, found, again.half_log_det - state.factors.half_log_det

        return jax.vmap(one)(keys)

    weights, means, covariances, difference = draw(jax.random.split(jax.random.key(0), M))
    centre, variance, sigma = expected_moments(sums, mixture, prior, kind)
    concentration = np.asarray(prior.weight_concentration) + count
    assert_means(weights, concentration / concentration.sum())
    # the covariance of the empty component has too few degrees of freedom for its draws to have a variance
    kept = count > 0 if sigma.shape[0] == K else np.ones(1, bool)
    assert_means(covariances[:, kept], sigma[kept])
    assert_means(means[:, :2], centre[:2])
    assert_means((means[:, :2] - centre[:2]) ** 2, variance[:2])
    np.testing.assert_allclose(difference, 0, atol=1e-3)


@pytest.mark.parametrize("kind", ["full", *(pytest.param(kind, marks=pytest.mark.slow) for kind in COVARIANCE_TYPES[1:])])
def test_rows_by_label(kind):
    """Sums by label are those of the data, and their counts follow the responsibilities.

    The labels of a repeated row are independent, chunks change nothing, and the log-likelihood has the labels summed out.
    """
    n = 40
    x = random_data(0, n, D, spread=1.0).astype(np.float32)
    mixture = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), random_mixture(0, kind, K, D, spread=1.0))
    weight = np.where(np.arange(n) < 8, 0, 1 + np.arange(n) % 3).astype(np.float32)

    @partial(jax.jit, static_argnames="chunk")
    def sums_of(keys, weight, chunk):
        center = mixture.means + 0.3
        return jax.vmap(lambda key: sum_by_labels(key, gibbs_state(mixture), LabelledData(x, weight), center, kind, chunk))(
            keys
        )

    keys = jax.random.split(jax.random.key(0), 4000)
    sums, log_likelihood = sums_of(keys, weight, 64)
    share = np.asarray(jaxgmm.responsibilities(mixture, x), float)
    np.testing.assert_allclose(log_likelihood, weight @ np.asarray(jaxgmm.log_prob(mixture, x), float), rtol=1e-5)
    assert_means(sums.count, weight @ share)
    # one label with weight w would have w^2 here
    assert_means((np.asarray(sums.count, float) - weight @ share) ** 2, weight @ (share * (1 - share)))
    np.testing.assert_allclose(sums.count.sum(-1), weight.sum(), rtol=1e-6)
    np.testing.assert_allclose((sums.count[..., None] * sums.mean).sum(1), (weight @ x)[None].repeat(4000, 0), atol=2e-3)
    means, count = np.asarray(sums.mean, float), np.asarray(sums.count, float)
    diagonal = np.asarray(covariance.variances(sums.scatter, kind, D), float) + count[..., None] * means**2
    np.testing.assert_allclose(diagonal.sum(1), (weight @ x**2)[None].repeat(4000, 0), rtol=1e-4)
    if kind == "full":
        own = jax.jit(lambda key: sum_by_labels(key, gibbs_state(mixture), LabelledData(x, weight), None, kind, 64))(keys[0])
        for one, other in zip(jax.tree.leaves(own), jax.tree.leaves((sums, log_likelihood)), strict=True):
            np.testing.assert_allclose(one, other[0], rtol=1e-3, atol=1e-3)  # the same labels, with the means as centres
        pieces, again = sums_of(keys[:5], weight, 16)
        np.testing.assert_array_equal(pieces.count, sums.count[:5])
        np.testing.assert_allclose(pieces.scatter, sums.scatter[:5], rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(again, log_likelihood[:5], rtol=1e-6)


def draw_prior(rng, prior, kind, size):
    """Return mixtures drawn from a prior by NumPy and SciPy."""
    nu, scale = (np.asarray(leaf, float) for leaf in prior.covariance_law.inverse_wishart_parameters())
    shape = (size, *covariance.storage_shape(kind, K, D))
    if covariance.is_dense(kind):
        covariances = stats.invwishart(float(nu), scale).rvs(size * shape[1], random_state=rng).reshape(shape)
    else:
        covariances = scale / 2 / rng.gamma(nu / 2, size=shape)
    if isinstance(prior, jaxgmm.IndependentPrior):
        spread = np.broadcast_to(np.asarray(prior.mean_covariance, float), (size, K, D, D))
    else:
        spread = np.asarray(covariance.to_dense(covariances, kind, K, D), float) / float(prior.mean_precision)
    noise = rng.normal(size=(size, K, D, 1))
    means = np.asarray(prior.mean) + (np.linalg.cholesky(spread) @ noise)[..., 0]
    weights = rng.dirichlet(np.asarray(prior.weight_concentration, float), size)
    return [np.asarray(leaf, np.float32) for leaf in (weights, means, covariances)]


def geweke(kind, independent, chains, steps, n=6):
    """Move prior draws of parameters and data by sweeps of the sampler; assert that they stay prior draws."""
    prior = prior_for(kind, independent)
    drawn, fresh = (draw_prior(np.random.default_rng(seed), prior, kind, chains * more) for seed, more in ((0, 1), (1, 4)))

    def step(state, key):
        keys = jax.random.split(key, 5)
        edges = jnp.cumsum(jnp.exp(state.log_weights))[:-1]
        labels = (jax.random.uniform(keys[0], (n, 1)) > edges).sum(-1)
        root = jnp.broadcast_to(state.factors.lower, (K, *state.factors.lower.shape[1:]))
        noise = jax.random.normal(keys[1], (n, D))
        x = state.means[labels] + covariance.transform(root[labels], noise, kind)
        sums, _ = sum_by_labels(keys[2], state, LabelledData(x, None), jnp.broadcast_to(prior.mean, (K, D)), kind, 64)
        return draw_state(keys[3:], state, sums, prior, jnp.ones(K, bool), kind), None

    @jax.jit
    @jax.vmap
    def move(key, *mixture):
        state, _ = jax.lax.scan(step, gibbs_state(jaxgmm.Mixture(*mixture, kind)), jax.random.split(key, steps))
        return jnp.exp(state.log_weights), state.means, covariance.from_factor(state.factors.lower, kind)

    moved = move(jax.random.split(jax.random.key(0), chains), *drawn)
    values = []
    for a, b in zip(moved, fresh, strict=True):
        a, b = np.asarray(a).reshape(chains, -1), b.reshape(4 * chains, -1)
        values += [stats.ks_2samp(a[:, i], b[:, i]).pvalue for i in range(a.shape[1])]
    assert min(values) > 1e-6, values


def test_joint_law_is_kept():
    """Geweke (2004): 21 entries at 1e-6 each."""
    geweke("full", True, 1000, 6)


@pytest.mark.slow
@pytest.mark.parametrize("independent", [False, True])
@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_joint_law_is_kept_in_every_type(kind, independent):
    """The same with ten times as many chains, five times as long."""
    geweke(kind, independent, 20000, 40)
