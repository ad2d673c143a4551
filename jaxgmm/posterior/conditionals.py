"""The conditionals of a Gaussian mixture that data augmentation draws from in turn: labels, then parameters.

    p(z_n = k | theta, x_n) proportional to w_k N(x_n | mu_k, Sigma_k)                  Diebolt & Robert (1994)
    weights | z ~ Dirichlet(c + counts)
    Prior:             Sigma_k | z ~ InverseWishart(nu + n_k, S + A_k + kappa n_k / (kappa + n_k) (xbar_k - m)(xbar_k - m)'),
                       mu_k | Sigma_k, z ~ N((kappa m + n_k xbar_k) / (kappa + n_k), Sigma_k / (kappa + n_k))
    IndependentPrior:  mu_k | Sigma_k, z normal with precision n_k Sigma_k^-1 + M^-1, then
                       Sigma_k | mu_k, z ~ InverseWishart(nu + n_k, S + A_k + n_k (xbar_k - mu_k)(xbar_k - mu_k)')

with n_k, xbar_k, A_k count, mean and scatter of the rows labelled k; diag and spherical by inverse gammas, tied one Sigma
for the sum of the scatters. Labels are summed up as soon as they are drawn: no N x K array outlives a chunk.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .. import covariance, linalg
from ..density import factors_of, quadratic_coefficients, quadratic_log_joint, safe_log
from ..mixture import Mixture
from ..priors.families import IndependentPrior, Prior, covariance_prior
from ..row_sums import sum_over_rows


class State(NamedTuple):
    """Where one chain is: log_weights (K,), -inf for absent components; means (K, D); factors, of which `lower` is any root."""

    log_weights: jax.Array
    means: jax.Array
    factors: covariance.Factors


class Groups(NamedTuple):
    """The rows by their labels: count (K,), mean (K, D), scatter about it (K, D, D) | (K, D)."""

    count: jax.Array
    mean: jax.Array
    scatter: jax.Array


def state_of(mixture: Mixture) -> State:
    """A mixture as the state of a chain."""
    return State(safe_log(mixture.weights), mixture.means, factors_of(mixture))


def group_rows(
    key: jax.Array, state: State, y: jax.Array, weight: jax.Array | None, home: jax.Array, kind: str, chunk: int
) -> tuple[Groups, jax.Array]:
    """Rows in groups by labels drawn given a state, and the log-likelihood () of the state, labels summed out.

    weight: integers (N,), each the number of labels that a row draws, or None. home (K, D): points near the components, about
    which sums are taken; any would do in exact arithmetic.
    """
    d = y.shape[1]
    coefficients = quadratic_coefficients(state.log_weights, state.means - home, state.factors, kind)  # (K, F)

    def once(key: jax.Array, weight: jax.Array | None) -> tuple[jax.Array, jax.Array]:
        uniform = jax.random.uniform(key, (len(y),), y.dtype)
        return sum_over_rows(_labelled_sums(coefficients, home, kind), (y, uniform), weight, chunk)

    if weight is None:
        sums, log_likelihood = once(key, None)
    else:
        sums, log_likelihood = _repeat(lambda i: once(jax.random.fold_in(key, i), (weight > i).astype(y.dtype)), weight.max())
    second, first, count = covariance.split_quadratic(sums, kind, d)
    safe = jnp.where(count > 0, count, 1)[:, None]
    return Groups(count, home + first / safe, second - covariance.outer(first / jnp.sqrt(safe), kind)), log_likelihood


def _repeat(function: Any, times: jax.Array) -> Any:
    """Sum of function(0), ..., function(times - 1)."""
    zero = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(function, 0))
    step = lambda carry: (carry[0] + 1, jax.tree.map(jnp.add, carry[1], function(carry[0])))  # noqa: E731
    return jax.lax.while_loop(lambda carry: carry[0] < times, step, (0, zero))[1]


def _labelled_sums(coefficients: jax.Array, home: jax.Array, kind: str) -> Any:
    """Sums of quadratic features over the rows of a chunk by label, (K, F), and their log-likelihood."""
    components = range(len(home))

    def chunk_sums(rows: tuple, w: jax.Array) -> tuple[jax.Array, jax.Array]:
        y, uniform = rows
        # a centre for each component keeps the quadratic form good in float32 wherever a row could belong to it; and one
        # plain matrix product a component, with all chains of a vmap in it, measured three times as fast as a batched one
        features = [covariance.quadratic_features((y - home[k]).T, kind) for k in components]  # (F, n)
        joint = [quadratic_log_joint(coefficients[k, None], features[k])[0] for k in components]
        top = jnp.stack(joint).max(0)
        running = [jnp.exp(joint[0] - top)]
        for k in components[1:]:
            running.append(running[-1] + jnp.exp(joint[k] - top))
        log_likelihood = jnp.where(w > 0, w * (jnp.log(running[-1]) + top), 0).sum()
        # by inversion: one uniform a row
        below = [uniform * running[-1] < edge for edge in running[:-1]] + [jnp.ones_like(w, bool)]
        chosen = [below[0]] + [b & ~a for a, b in zip(below, below[1:], strict=False)]
        return jnp.stack([_dot(features[k], jnp.where(chosen[k], w, 0)) for k in components]), log_likelihood

    return chunk_sums


def _dot(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)


def draw_state(
    keys: jax.Array, state: State, groups: Groups, prior: Prior | IndependentPrior, present: jax.Array, kind: str
) -> State:
    """Parameters given labels, by two keys; components not present (K,) keep weight 0."""
    k, d = state.means.shape
    count = groups.count
    nu, scale = covariance_prior(prior)
    shapes = covariance.gamma_shapes(nu + covariance.observed_degrees(count, kind, d), kind, k, d)
    shapes_of_all = jnp.concatenate([prior.weight_concentration + count, shapes.ravel()])
    log_gammas = jax.random.loggamma(keys[0], shapes_of_all, dtype=count.dtype)
    # degrees of freedom too small would pass unseen
    log_gammas = jnp.where(shapes_of_all > 0, log_gammas, jnp.nan)
    more = shapes.size if covariance.is_dense(kind) else 0
    normals = jax.random.normal(keys[1], (k + more, d), count.dtype)
    noise, bartlett = normals[:k], normals[k:].reshape(-1, d, d)
    gammas = jnp.exp(log_gammas[k:]).reshape(shapes.shape)

    def draw_factors(scatter: jax.Array) -> covariance.Factors:
        total = covariance.prior_scale(scale, kind) + covariance.scatter_total(covariance.pool(scatter, kind), kind, d)
        return covariance.inverse_wishart_factors(gammas, bartlett, total, kind, d)

    if isinstance(prior, Prior):
        kappa = prior.mean_precision
        shrinkage = covariance.expand(kappa * count / (kappa + count), kind)
        factors = draw_factors(groups.scatter + shrinkage * covariance.outer(groups.mean - prior.mean, kind))
        precision = (kappa + count)[:, None]
        centre = (count[:, None] * groups.mean + kappa * prior.mean) / precision
        means = centre + covariance.transform(factors.lower, noise, kind) / jnp.sqrt(precision)
    else:
        means = _draw_free_means(noise, state.factors, groups, prior, kind)
        factors = draw_factors(groups.scatter + covariance.expand(count, kind) * covariance.outer(groups.mean - means, kind))
    log_weights = jax.nn.log_softmax(jnp.where(present, log_gammas[:k], -jnp.inf))
    # a weight that would round to 0 stays a weight: 0 means absent
    smallest = math.log(float(jnp.finfo(count.dtype).tiny)) + 1
    return State(jnp.where(present, jnp.maximum(log_weights, smallest), -jnp.inf), means, factors)


def _draw_free_means(
    noise: jax.Array, factors: covariance.Factors, groups: Groups, prior: IndependentPrior, kind: str
) -> jax.Array:
    """mu_k | Sigma_k under a prior that does not depend on Sigma_k: with P = n Sigma^-1 + M^-1 = L L', L^-T (L^-1 b + noise)."""
    k, d = noise.shape
    whitener = covariance.to_dense(factors.whitener, kind, k, d)
    precision = covariance.from_factor(jnp.swapaxes(whitener, -1, -2), "full")
    of_prior = linalg.invert_lower(linalg.cholesky(prior.mean_covariance))
    weighted = groups.count[:, None, None] * precision
    root = linalg.invert_lower(linalg.cholesky(weighted + covariance.from_factor(of_prior.T, "full")))
    z = covariance.transform(root, covariance.transform(weighted, groups.mean - prior.mean, "full"), "full")
    return prior.mean + covariance.transform(jnp.swapaxes(root, -1, -2), z + noise, "full")
