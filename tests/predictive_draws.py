"""Draws of a posterior, and what SciPy computes from them, for the tests of predictive densities and of co-clustering."""

from functools import cache

import jax.numpy as jnp
import numpy as np
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

import jaxgmm

CHAINS, DRAWS, K, D, N = 2, 25, 3, 2, 7


def make_posterior(weights, means, covariances, covariance_type="full", **stats):
    """Return a posterior with the given parameters (C, S, ...) and statistics."""
    mixture = jaxgmm.Mixture(*(jnp.asarray(v, float) for v in (weights, means, covariances)), covariance_type)
    chains = mixture.batch_shape[:2]
    return jaxgmm.Posterior(mixture, jnp.zeros(chains), None, jnp.array(0), {k: jnp.asarray(v) for k, v in stats.items()})


@cache
def arrays():
    """Return weights, means and covariances (C, S, ...) of draws that differ considerably."""
    rng = np.random.default_rng(0)
    root = np.eye(D) + 0.3 * rng.normal(size=(CHAINS, DRAWS, K, D, D))
    means = 2 * rng.normal(size=(K, D)) + 0.7 * rng.normal(size=(CHAINS, DRAWS, K, D))
    return rng.dirichlet(np.full(K, 3.0), (CHAINS, DRAWS)), means, root @ np.swapaxes(root, -1, -2)


@cache
def posterior():
    """Return these draws as a posterior with identified labels."""
    return make_posterior(*arrays(), labels_identified=True)


@cache
def points():
    """Return points (N, D)."""
    return np.random.default_rng(1).normal(scale=2, size=(N, D))


@cache
def joint():
    """Return log w_k N(x_n | k) of every draw, (C S, N, K), computed by SciPy."""
    weights, means, covariances = (v.reshape(-1, *v.shape[2:]) for v in arrays())
    one = [
        [np.log(w[k]) + multivariate_normal(m[k], s[k]).logpdf(points()) for k in range(K)]
        for w, m, s in zip(weights, means, covariances, strict=True)
    ]
    return np.moveaxis(np.array(one), 1, 2)


@cache
def shares():
    """Return the responsibilities of every draw, (C S, N, K)."""
    return np.exp(joint() - logsumexp(joint(), axis=-1, keepdims=True))


def shuffled():
    """Return the same draws with the components of each in a random order."""
    order = np.argsort(np.random.default_rng(2).random((CHAINS, DRAWS, K)), -1)
    weights, means, covariances = arrays()
    return make_posterior(
        np.take_along_axis(weights, order, -1),
        np.take_along_axis(means, order[..., None], -2),
        np.take_along_axis(covariances, order[..., None, None], -3),
    )
