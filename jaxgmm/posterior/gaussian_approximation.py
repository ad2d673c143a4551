"""From an EM solution to a sampler: mode, curvature, starts, and whether to believe them.

    data and prior, standardised        see `coordinates`
    theta -> z, unconstrained           by NumPyro's transforms; the Jacobian moves the mode
    z -> mode of p(z | y)               damped Newton, entered at EM's solution
    u = root^-1 (z - mode)              root root' = inverse of the information there (Louis 1982): u is about N(0, I)

A sampler works in u, where the information's inverse as mass matrix is the identity. Whether the normal approximation
is good enough to do without adaptation is judged by the smallest eigenvalue, by Pareto k-hat and by the counts.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from numpyro import handlers
from numpyro.distributions import biject_to

from .. import covariance, linalg
from ..chunking import GRADIENT_CHUNK, hessian_columns_per_batch, potentials_per_batch
from ..density import responsibilities
from ..mixture import Mixture
from ..priors.interface import MixturePrior
from .diagnostics import pareto_k
from .likelihood import make_log_likelihood
from .model import mixture_of, parameters, root_of, sites_of
from .standardization import StandardizedProblem, standardise, to_standard

MIN_EIGENVALUE = 1e-2  # of the information: a standard deviation of 10 in logits or logarithms is none
MAX_KHAT = 0.7  # Vehtari et al. (2024)
_NEWTON_STEPS = 60
_NEWTON_TOLERANCE = 1e-3  # nats still to be gained: far below what moves the metric
_PROPOSALS = 2000  # draws that k-hat is taken from
_OVERDISPERSION = 1.5  # of the chains' starts


class GaussianApproximation(NamedTuple):
    """Where a sampler starts, and in which coordinates. P: unconstrained parameters.

    start: standardised, the origin of log-likelihoods; mode (P,); root (P, P); counts (K,) at the mode; value: the potential
    at the mode relative to it; gain: nats that one more Newton step would gain; sound: believed without adaptation.
    """

    start: Mixture
    mode: jax.Array
    root: jax.Array
    value: jax.Array
    gain: jax.Array
    num_steps: jax.Array
    min_eigenvalue: jax.Array
    khat: jax.Array
    counts: jax.Array
    sound: jax.Array


class Space(NamedTuple):
    """The unconstrained space of one problem: z is a flat vector (P,), sites in NumPyro's order of names."""

    size: int
    potential: Callable  # z -> (), minus log p(y, z) plus that of the data under the start
    flatten: Callable  # mixture, standardised -> z
    unflatten: Callable  # z -> mixture, log|d(weights, means, covariances) / dz|
    unravel: Callable  # z -> its parts by name of site


def make_space(problem: StandardizedProblem, start: Mixture) -> Space:
    """NumPyro's transforms of its model's sites, and the model's potential in our own densities, equal in value and gradient.

    NumPyro's own densities solve with several stacks of matrices at a time: see `linalg`.
    """
    kind, (k, d) = start.covariance_type, start.means.shape
    shape = {"num_components": k, "num_features": d, "covariance_type": kind}
    prior = problem.prior
    trace = handlers.trace(handlers.seed(partial(parameters, prior, **shape), jax.random.key(0))).get_trace()
    transforms = {name: biject_to(site["fn"].support) for name, site in trace.items() if site["type"] == "sample"}
    likelihood = make_log_likelihood(problem, start)

    def to_z(mixture: Mixture) -> dict[str, jax.Array]:
        return {name: transforms[name].inv(value) for name, value in sites_of(mixture, prior).items()}

    flat, unravel = ravel_pytree(jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(to_z, start)))

    def decode(z: jax.Array) -> tuple[Mixture, jax.Array, dict[str, jax.Array]]:
        parts = unravel(z)
        sites = {name: transforms[name](value) for name, value in parts.items()}
        jacobian = sum(transforms[name].log_abs_det_jacobian(parts[name], sites[name]).sum() for name in sites)
        mixture, log_det = mixture_of(sites, kind)
        return mixture, jacobian + log_det, sites

    def potential(z: jax.Array) -> jax.Array:
        mixture, jacobian, sites = decode(z)
        factors = covariance.complete(root_of(sites, kind), kind, d)
        value = likelihood(mixture.weights, mixture.means, factors)
        return -(value + prior.log_density(mixture, factors, jnp.ones(k, bool)) + jacobian)

    return Space(
        flat.size,
        potential,
        lambda m: ravel_pytree(to_z(m))[0],
        lambda z: decode(z)[:2],
        unravel,
    )


class _Newton(NamedTuple):
    step: jax.Array
    halvings: jax.Array
    z: jax.Array
    value: jax.Array
    gradient: jax.Array
    hessian: jax.Array
    direction: jax.Array
    gain: jax.Array


def find_mode(space: Space, z: jax.Array, work: int) -> _Newton:
    """Damped Newton down the potential, with directions of descent at saddles too; the loop holds one traced Hessian.

    work: numbers that one column of the Hessian takes.
    """
    batch = hessian_columns_per_batch(work)

    def derivatives(z: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        both = jax.value_and_grad(space.potential)

        def column(unit: jax.Array) -> tuple:
            (value, gradient), (_, column) = jax.jvp(both, (z,), (unit,))
            return value, gradient, column

        units = jnp.eye(space.size, dtype=z.dtype)
        if batch >= space.size:
            value, gradient, hessian = jax.vmap(column, out_axes=(None, None, 0))(units)
        else:
            values, gradients, hessian = jax.lax.map(column, units, batch_size=batch)
            value, gradient = values[0], gradients[0]
        return value, gradient, (hessian + hessian.T) / 2

    def step(state: _Newton) -> _Newton:
        proposal = state.z - 0.5**state.halvings * state.direction
        value, gradient, hessian = derivatives(proposal)
        finite = jnp.isfinite(value) & jnp.isfinite(hessian.sum() + gradient.sum())
        accept = finite & (value <= state.value)
        values, vectors = linalg.eigh(jnp.where(finite, hessian, jnp.eye(space.size, dtype=z.dtype)))
        along = vectors.T @ gradient
        direction = vectors @ (along / jnp.maximum(abs(values), MIN_EIGENVALUE))
        new = _Newton(
            state.step + 1,
            jnp.zeros_like(state.halvings),
            proposal,
            value,
            gradient,
            hessian,
            direction,
            gradient @ direction / 2,
        )
        old = state._replace(step=state.step + 1, halvings=state.halvings + 1)
        return jax.tree.map(lambda a, b: jnp.where(accept, a, b), new, old)

    def running(state: _Newton) -> jax.Array:
        begun = (state.step < 1) | jnp.isfinite(state.value)
        return begun & (state.step < _NEWTON_STEPS) & (state.halvings < 12) & (state.gain > _NEWTON_TOLERANCE)

    infinite = jnp.asarray(jnp.inf, z.dtype)
    zero = jnp.zeros_like(z)
    count = jnp.array(0)
    first = _Newton(count, count, z, infinite, zero, jnp.eye(space.size, dtype=z.dtype), zero, infinite)
    return jax.lax.while_loop(running, step, first)


def mode_and_curvature(
    space: Space, z: jax.Array, problem: StandardizedProblem, start: Mixture
) -> tuple[_Newton, jax.Array, jax.Array]:
    """Newton from z; the root (P, P) of the inverse information there, held off infinity; the smallest eigenvalue ()."""
    newton = find_mode(space, z, space.size * _work(problem, start))
    values, vectors = linalg.eigh(newton.hessian)
    # the symmetric root: no sign or order of eigenvectors is in it
    root = covariance.einsum("ij,kj->ik", vectors / jnp.sqrt(jnp.maximum(abs(values), MIN_EIGENVALUE)), vectors)
    return newton, root, values.min(initial=jnp.inf)


def map_points(function: Callable, points: jax.Array, problem: StandardizedProblem, start: Mixture) -> jax.Array:
    """A function of potentials at points (M, ...), as many at once as the cache likes."""
    count = len(points)
    batches = -(-count // potentials_per_batch(_work(problem, start)))
    batch = -(-count // batches)
    # whole batches: a remainder would be compiled as a program of its own
    filled = points[np.minimum(np.arange(batches * batch), count - 1)]
    found = jax.lax.map(jax.vmap(function), filled.reshape(batches, batch, *points.shape[1:]))
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[:count], found)


def _work(problem: StandardizedProblem, start: Mixture) -> int:
    """Numbers that one potential takes."""
    return min(len(problem.y), GRADIENT_CHUNK) * start.num_components * start.num_features


def build_approximation(
    key: jax.Array, start: Mixture, problem: StandardizedProblem, space: Any = None
) -> GaussianApproximation:
    """Mode, curvature and judgement from a start in standardised coordinates, or in those of another model's space."""
    space = make_space(problem, start) if space is None else space
    newton, root, smallest = mode_and_curvature(space, space.flatten(start), problem, start)
    draws = jax.random.normal(key, (_PROPOSALS, space.size), root.dtype)
    potentials = map_points(lambda u: space.potential(newton.z + root @ u), draws, problem, start)
    khat = pareto_k(log_ratios(draws, potentials), xp=jnp)
    mode = space.unflatten(newton.z)[0]
    share = responsibilities(mode, problem.y)
    weight = jnp.ones(len(problem.y), share.dtype) if problem.weight is None else problem.weight
    counts = weight @ share
    enough = counts.min() >= max(5, 5 * (covariance.fewest_points(start.covariance_type, start.num_features) - 1))
    sound = jnp.isfinite(newton.value) & (smallest > MIN_EIGENVALUE) & (khat < MAX_KHAT) & enough
    return GaussianApproximation(start, newton.z, root, newton.value, newton.gain, newton.step, smallest, khat, counts, sound)


def log_ratios(u: jax.Array, potentials: jax.Array) -> jax.Array:
    """log p(y, z) - log N(u | 0, I) up to a constant, (...), of draws u (..., P); no density where it is not a number."""
    return jnp.where(jnp.isnan(potentials), -jnp.inf, 0.5 * (u**2).sum(-1) - potentials)


@jax.jit
def prepare(
    key: jax.Array, start: Mixture, x: jax.Array, weight: jax.Array | None, prior: MixturePrior
) -> tuple[StandardizedProblem, GaussianApproximation]:
    """Coordinates and bridge from data, start and prior in data units: compiled once for every method that enters here."""
    problem = standardise(x, weight, prior, start.covariance_type)
    return problem, build_approximation(key, to_standard(start, problem), problem)


def refuse_without_density(bridge: GaussianApproximation) -> None:
    """For concrete bridges, one or a stack: a start where the posterior has no density is no start."""
    if not bool(jnp.isfinite(bridge.value).all()):
        raise ValueError(
            "start has no finite posterior density and gradient: the prior's density or the data's is zero or overflows there, or "
            "a gradient is NaN; start from jaxgmm.fit(start, x, prior).mixture under the same prior."
        )


def chain_starts(key: jax.Array, bridge: GaussianApproximation, num_chains: int) -> jax.Array:
    """Over-dispersed starts in u, (C, P), so that R-hat stays informative; Gelman & Rubin (1992)."""
    return _OVERDISPERSION * jax.random.normal(key, (num_chains, len(bridge.mode)), bridge.mode.dtype)
