"""The unconstrained space of a mixture's parameters, in which the samplers work.

A point z (P,) holds the latent sites of the NumPyro model. NumPyro's transforms map each site from its support to real numbers,
and the results are joined to one vector in alphabetical order of the sites' names. The log density of z contains the
log-Jacobian of these maps, so its mode differs from the mode of the density in (weights, means, covariances).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, TypeVar, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jax.scipy.special import gammaln
from numpyro import handlers
from numpyro.distributions import biject_to

from .. import covariance
from ..chunking import GRADIENT_CHUNK, potentials_per_batch
from ..covariance.types import is_coupled
from ..density import safe_log
from ..mixture import Mixture
from ..priors.conjugate import Prior
from ..priors.independent import IndependentPrior
from ..priors.volume_shape_orientation import VolumeShapeOrientation
from .coupled_sites import decode as decode_coupled
from .coupled_sites import encode as encode_coupled
from .likelihood import make_log_likelihood
from .model import mixture_of, parameters, root_of, sites_of
from .standardization import StandardizedProblem

Found = TypeVar("Found")


class Decoded(NamedTuple):
    """The mixture at a point z of the space, with related quantities.

    Attributes:
        log_weights: (K,), logarithms of the weights, which are finite even where the weights round to 0.
        mixture: the mixture.
        factors: the factors of the covariances.
        jacobian: (), log|d(means, covariances) / dz|.
        log_prior_of_covariances: (), the log density of the covariances under the prior.
    """

    log_weights: jax.Array
    mixture: Mixture
    factors: covariance.Factors
    jacobian: jax.Array
    log_prior_of_covariances: jax.Array


class UnconstrainedSpace(NamedTuple):
    """The unconstrained space of one problem.

    Attributes:
        size: P.
        potential: z (P,) -> (), minus log p(y, z) plus a constant, where y are the data. For `jaxgmm.model`, the constant is
            the log-likelihood of the data at the start.
        flatten: a mixture in the problem's coordinates -> z (P,).
        unflatten: z (P,) -> the mixture, and log|d(weights, means, covariances) / dz| ().
        unravel: z (P,) -> a dictionary that maps the name of each site to the site's coordinates in z.
        decode: z (P,) -> the mixture with its factors and the logarithms of its weights. None for a user's own model.
        log_prior: a decoded point -> the log density of z under the prior, (). None for a user's own model.
    """

    size: int
    potential: Callable[[jax.Array], jax.Array]
    flatten: Callable[[Mixture], jax.Array]
    unflatten: Callable[[jax.Array], tuple[Mixture, jax.Array]]
    unravel: Callable[[jax.Array], dict[str, jax.Array]]
    decode: Callable[[jax.Array], Decoded] | None = None
    log_prior: Callable[[Decoded], jax.Array] | None = None


def make_unconstrained_space(problem: StandardizedProblem, start: Mixture) -> UnconstrainedSpace:
    """Make the unconstrained space of `jaxgmm.model` for a problem.

    Log-likelihoods are computed as differences from the log-likelihood at the start. The transforms are NumPyro's, but the
    densities are those of this package. NumPyro's densities have the same values and gradients. They are not used, because they
    would solve linear systems for whole stacks of matrices. The docstring of `linalg` explains why this must be avoided.
    """
    covariance_type, (k, d) = start.covariance_type, start.means.shape
    shape = {"num_components": k, "num_features": d, "covariance_type": covariance_type}
    prior = cast(Prior | IndependentPrior, problem.prior)  # the families that jaxgmm.model describes
    transforms = _transforms_of_sites(partial(parameters, prior, **shape))
    likelihood = make_log_likelihood(problem, start)
    concentration = prior.weight_concentration

    def to_parts(mixture: Mixture) -> dict[str, jax.Array]:
        sites = _encode(mixture, prior, problem.axes)
        parts = {name: transforms[name].inv(value) for name, value in sites.items() if name != "weights"}
        return parts | {"weights": to_sticks(safe_log(mixture.weights))}

    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(to_parts, start))
    flat, unravel = ravel_pytree(zeros)

    def decode(z: jax.Array) -> Decoded:
        parts = unravel(z)
        log_weights = from_sticks(parts.pop("weights"))
        sites = {name: transforms[name](value) for name, value in parts.items()} | {"weights": jnp.exp(log_weights)}
        jacobian = sum(transforms[name].log_abs_det_jacobian(value, sites[name]).sum() for name, value in parts.items())
        mixture, factors, of_covariances, log_det = _decode(sites, prior, problem.axes, covariance_type)
        return Decoded(log_weights, mixture, factors, jacobian + log_det, of_covariances)

    def log_prior(point: Decoded) -> jax.Array:
        log_weights, mixture, factors, jacobian, of_covariances = point
        # The log-Jacobian of the weights is sum_k log w_k. Added to the log density of the Dirichlet law, sum_k (c_k - 1)
        # log w_k, it gives sum_k c_k log w_k.
        value = gammaln(concentration.sum()) - gammaln(concentration).sum() + concentration @ log_weights
        return value + of_covariances + prior.log_density_of_means(mixture, factors).sum() + jacobian

    def potential(z: jax.Array) -> jax.Array:
        point = decode(z)
        return -(likelihood(point.log_weights, point.mixture.means, point.factors) + log_prior(point))

    def unflatten(z: jax.Array) -> tuple[Mixture, jax.Array]:
        point = decode(z)
        return point.mixture, point.log_weights.sum() + point.jacobian

    def flatten(mixture: Mixture) -> jax.Array:
        return ravel_pytree(to_parts(mixture))[0]

    return UnconstrainedSpace(flat.size, potential, flatten, unflatten, unravel, decode, log_prior)


def _encode(mixture: Mixture, prior: Prior | IndependentPrior, axes: jax.Array | None) -> dict[str, jax.Array]:
    """Return the values of the sites of `jaxgmm.model` that give the means and covariances of a mixture."""
    if not is_coupled(mixture.covariance_type):
        return sites_of(mixture, prior)
    law = cast(VolumeShapeOrientation, prior.covariance_law)
    return {"means": mixture.means, **encode_coupled(mixture, law, axes)}


def _decode(
    sites: dict[str, jax.Array], prior: Prior | IndependentPrior, axes: jax.Array | None, covariance_type: str
) -> tuple[Mixture, covariance.Factors, jax.Array, jax.Array]:
    """Return the mixture at values of the sites, and its factors.

    The last two results are the log density () of the covariances under their law, and the log-Jacobian () of the measure to
    which it refers, relative to that of the sites.
    """
    k, d = sites["means"].shape
    if not is_coupled(covariance_type):
        mixture, log_det = mixture_of(sites, covariance_type)
        factors = covariance.complete(root_of(sites, covariance_type), covariance_type, d)
        density = prior.covariance_law.log_density(mixture.covariances, factors, covariance_type, d).sum()
        return mixture, factors, density, log_det
    law = cast(VolumeShapeOrientation, prior.covariance_law)
    factors, density, log_det = decode_coupled(sites, law, axes, covariance_type, (k, d))
    covariances = covariance.from_factor(factors.lower, covariance_type)
    return Mixture(sites["weights"], sites["means"], covariances, covariance_type), factors, density, log_det


def _transforms_of_sites(model: Callable[[], object]) -> dict[str, Any]:
    """Return the transform of each sample site of a model, by name, from real numbers to the support of the site."""
    transforms: dict[str, Any] = {}

    def blank(site: dict) -> jax.Array | None:
        return jnp.zeros(site["fn"].shape()) if site["type"] == "sample" else None

    def record() -> None:
        trace = handlers.trace(handlers.substitute(model, substitute_fn=blank)).get_trace()
        transforms.update({name: biject_to(site["fn"].support) for name, site in trace.items() if site["type"] == "sample"})

    jax.eval_shape(record)  # the supports are constants, so nothing is drawn or compiled
    return transforms


def from_sticks(sticks: jax.Array) -> jax.Array:
    """Return log w (K,) from NumPyro's stick-breaking coordinates (K - 1,), accurately even where w rounds to 0."""
    shifted = sticks - jnp.log(jnp.arange(len(sticks), 0, -1, dtype=sticks.dtype))
    logs, zero = log_sigmoid(shifted), jnp.zeros(1, sticks.dtype)
    return jnp.concatenate([logs, zero]) + jnp.concatenate([zero, jnp.cumsum(logs - shifted)])


def log_sigmoid(x: jax.Array) -> jax.Array:
    """Return -log(1 + exp(-x)) with exact derivatives, also at 0. The gradient of JAX's function is several times slower."""
    positive = x > 0
    return jnp.where(positive, 0, x) - jnp.log1p(jnp.exp(jnp.where(positive, -x, x)))


def to_sticks(log_weights: jax.Array) -> jax.Array:
    """Return NumPyro's stick-breaking coordinates (K - 1,) from log w (K,)."""
    after = jax.lax.cumlogsumexp(log_weights[::-1])[::-1][1:]
    return log_weights[:-1] - after + jnp.log(jnp.arange(len(after), 0, -1, dtype=log_weights.dtype))


def potential_size(problem: StandardizedProblem, start: Mixture) -> int:
    """Return the size of the largest intermediate array in the computation of one potential."""
    return min(len(problem.y), GRADIENT_CHUNK) * start.num_components * start.num_features


def map_points(
    function: Callable[[jax.Array], Found], points: jax.Array, problem: StandardizedProblem, start: Mixture
) -> Found:
    """Apply a function that evaluates a potential to points (M, ...), in batches that fit into the processor's cache."""
    count = len(points)
    batches = -(-count // potentials_per_batch(potential_size(problem, start)))
    batch = -(-count // batches)
    # The last point is repeated to fill the last batch, because a smaller batch would be compiled as a separate program.
    filled = points[np.minimum(np.arange(batches * batch), count - 1)]
    found = jax.lax.map(jax.vmap(function), filled.reshape(batches, batch, *points.shape[1:]))
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[:count], found)
