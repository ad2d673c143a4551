"""The parts of a proposal for an evidence in which some components are empty.

A component that holds no data follows its prior, whose tails are heavier than those of a t distribution: a mean may be far away
if its variance is large, and under a small Dirichlet concentration c the weight may be e^-1000. Such components are therefore
drawn from their prior. A part m of the proposal has a set E_m of empty components. All others, A_m, come from the part's t
distribution:

    weights of E_m:           v s,   v ~ Beta(c_E, N + c_A),   s ~ Dirichlet(c_k, k in E_m)
    means, covariances of E_m ~ the prior
    weights of A_m:           (1 - v) u;   u and the means and covariances of A_m from the t distribution

c_E and c_A are the sums of the concentrations, and N is the number of rows. For tied, the covariance belongs to A_m. In z, the
stick-breaking coordinates of the last components do not depend on the weights of the first. Each part therefore has its own
order of the components, in which the empty ones come first. Permutations do not change volumes (`permute_point`).
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jax.nn import logsumexp
from jax.scipy.special import gammaln

from .. import covariance
from ..covariance_distributions import inverse_wishart_factors
from ..mixture import Mixture
from .standardization import StandardizedProblem
from .unconstrained_space import UnconstrainedSpace, from_sticks, to_sticks

_ABSENT = -1e4  # stick-breaking coordinate of a component that holds no weight


class Parts(NamedTuple):
    """Which components are empty in each of the M parts of a proposal.

    Attributes:
        order: (M, K), the order of the components in the part: entry j is the index of the component at place j.
        empty: (M, K), whether the component at each place is empty. The empty components come first.
        active: (M, P), whether each coordinate of z, after the components were put in the part's order, belongs to the t
            distribution.
        points: (M,), the number of points that an empty component holds: c_k + points takes the place of c_k above.
    """

    order: jax.Array
    empty: jax.Array
    active: jax.Array
    points: jax.Array


def make_parts(space: UnconstrainedSpace, absent: jax.Array) -> Parts:
    """Return the parts in which the components marked in `absent` (M, K) are empty."""
    order = jnp.argsort(~absent, axis=-1, stable=True)
    empty = jnp.take_along_axis(absent, order, -1)

    def active_coordinates(empty: jax.Array) -> jax.Array:
        template = space.unravel(jnp.zeros(space.size))
        return ravel_pytree({name: _mark(~empty, name, part) for name, part in template.items()})[0] > 0

    return Parts(order, empty, jax.vmap(active_coordinates)(empty), jnp.zeros(len(order)))


def _mark(chosen: jax.Array, name: str, part: jax.Array) -> jax.Array:
    """Return 1.0 where an entry of one site's coordinates belongs to a chosen component (K,), or to all of them, else 0.0."""
    if name == "weights":
        chosen = chosen[:-1]
    elif len(part) != len(chosen):  # the covariance that the components of tied share
        return jnp.ones(part.shape)
    return jnp.broadcast_to(chosen.reshape(-1, *[1] * (part.ndim - 1)), part.shape).astype(float)


def permute_point(space: UnconstrainedSpace, z: jax.Array, order: jax.Array) -> jax.Array:
    """Return the point (P,) of the same mixture after the component with index `order[j]` has moved to position j.

    Weights are computed as logarithms throughout. The map does not change volumes: the log-Jacobian of the stick-breaking
    transform is sum_k log w_k, which does not depend on the order, and the log-Jacobians of the other sites do not depend on it
    either.
    """
    parts = space.unravel(z)
    k = len(order)
    moved = {name: part[order] if part.shape[0] == k else part for name, part in parts.items() if name != "weights"}
    moved["weights"] = to_sticks(from_sticks(parts["weights"])[order])
    return ravel_pytree(moved)[0]


def views(space: UnconstrainedSpace, parts: Parts, z: jax.Array) -> jax.Array:
    """Return the point z (P,) in the order of each part, (M, P)."""
    return jax.vmap(lambda order: permute_point(space, z, order))(parts.order)


def log_density_of_empty(
    parts: Parts, log_weights: jax.Array, log_priors: jax.Array, problem: StandardizedProblem
) -> jax.Array:
    """Return, for each part, the log density (M,) of what the part does not draw from its t distribution.

    Args:
        parts: the parts.
        log_weights: (K,), the logarithms of a point's weights.
        log_priors: (K,), the values of `space.log_priors` at the point.
        problem: the problem.
    """
    concentration, total = problem.prior.weight_concentration, _total(problem)

    def one(order: jax.Array, empty: jax.Array, points: jax.Array) -> jax.Array:
        c, weights, priors = concentration[order] + jnp.where(empty, points, 0), log_weights[order], log_priors[order]
        rest = total + jnp.where(empty, 0, c).sum()
        of_rest = logsumexp(jnp.where(empty, -jnp.inf, weights))
        of_empty = jnp.where(empty, c * weights - gammaln(c) + priors, 0).sum()
        value = of_empty + rest * of_rest + gammaln(total + c.sum()) - gammaln(rest)
        return jnp.where(empty.any(), value, 0)

    return jax.vmap(one)(parts.order, parts.empty, parts.points)


def fill_empty(
    key: jax.Array, space: UnconstrainedSpace, parts: Parts, chosen: jax.Array, z: jax.Array, problem: StandardizedProblem
) -> jax.Array:
    """Draw the empty components of points (S, P), and return the points in the original order of the components.

    Args:
        key: a random key.
        space: the unconstrained space.
        parts: the parts.
        chosen: (S,), the part from which each point was drawn.
        z: (S, P), draws from the t distributions of these parts, in the order of the part.
        problem: the problem.
    """
    prior, (count, k) = problem.prior, (len(z), parts.order.shape[1])
    order, empty = parts.order[chosen], parts.empty[chosen]
    c = prior.weight_concentration[order] + jnp.where(empty, parts.points[chosen][:, None], 0)
    rest = _total(problem) + jnp.where(empty, 0, c).sum(-1, keepdims=True)
    key_gamma, key_prior = jax.random.split(key)
    log_gammas, covariances = _draw_gammas_and_covariances(key_gamma, jnp.concatenate([c, rest], 1), problem, space, z)
    noise = jax.random.normal(key_prior, (count, k, len(prior.mean)), z.dtype)

    def fill(
        z: jax.Array, order: jax.Array, empty: jax.Array, log_gammas: jax.Array, covariances: jax.Array, noise: jax.Array
    ) -> jax.Array:
        mixture, _ = space.unflatten(z)
        covariance_type, d = mixture.covariance_type, mixture.num_features
        covariances = covariances if len(covariances) == k else mixture.covariances  # one for all components of tied
        root = covariance.factorize(covariances, covariance_type, d).lower
        means = prior.mean + prior.deviations_of_means(root, noise, covariance_type)
        drawn = space.unravel(space.flatten(Mixture(mixture.weights, means, covariances, covariance_type)))
        kept = space.unravel(z)
        filled = {name: jnp.where(_mark(empty, name, part) > 0, drawn[name], part) for name, part in kept.items()}
        sticks = jnp.where(empty[:-1], _ABSENT, kept["weights"])
        gammas = jnp.where(jnp.append(empty, True), log_gammas, -jnp.inf)
        logs = gammas - logsumexp(gammas)
        filled["weights"] = to_sticks(jnp.where(empty, logs[:-1], logs[-1] + from_sticks(sticks)))
        return permute_point(space, ravel_pytree(filled)[0], jnp.argsort(order))

    filled = jax.vmap(fill)(z, order, empty, log_gammas, covariances, noise)
    return jnp.where(empty.any(-1, keepdims=True), filled, z)


def _draw_gammas_and_covariances(
    key: jax.Array, shapes: jax.Array, problem: StandardizedProblem, space: UnconstrainedSpace, z: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Draw logarithms of gamma variables with given shapes (S, G), and the prior's covariances (S, K | 1, ...)."""
    law, count = problem.prior.covariance_law, len(z)
    example = jax.eval_shape(space.unflatten, z[0])[0]
    covariance_type, (k, d) = example.covariance_type, example.means.shape
    key_gamma, key_normal = jax.random.split(key)
    if not law.has_closed_forms:
        keys = jax.random.split(key_normal, count)
        covariances = jax.vmap(lambda key: law.sample(key, covariance_type, k, d))(keys)
        return jax.random.loggamma(key_gamma, shapes), covariances
    # one call draws all gamma variables, because each call takes seconds to compile
    of_prior = problem.prior.gamma_shapes_given_counts(jnp.zeros(k, z.dtype), covariance_type)
    together = jnp.concatenate([shapes, jnp.broadcast_to(of_prior.ravel(), (count, of_prior.size))], 1)
    log_gammas = jax.random.loggamma(key_gamma, together)
    _, scale = law.inverse_wishart_parameters()
    scale = jnp.broadcast_to(scale, covariance.storage_shape(covariance_type, k, d))
    gammas = jnp.exp(log_gammas[:, shapes.shape[1] :]).reshape(count, *of_prior.shape)
    bartlett = jax.random.normal(key_normal, (count, len(of_prior), d, d), z.dtype)

    def covariances_of(gammas: jax.Array, bartlett: jax.Array) -> jax.Array:
        root = inverse_wishart_factors(gammas, bartlett, scale, covariance_type, d).lower
        return covariance.from_factor(root, covariance_type)

    return log_gammas[:, : shapes.shape[1]], jax.vmap(covariances_of)(gammas, bartlett)


def _total(problem: StandardizedProblem) -> jax.Array:
    """Return the total weight of the rows, ()."""
    return jnp.asarray(float(len(problem.y))) if problem.weight is None else problem.weight.sum()
