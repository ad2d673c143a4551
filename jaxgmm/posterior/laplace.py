"""laplace: draws from the normal approximation of the posterior at its mode. Tierney & Kadane (1986), JASA 81, 82-86.

    z | x  is about  N(mode, H^-1),   H the information at the mode, z unconstrained

The mode is that of the density in NumPyro's unconstrained space (logits of weights, means, logarithms of scales), where a normal
fits better than in (weights, means, covariances), and the Jacobian puts it elsewhere than EM's. It costs one Newton ascent.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from ..inputs import check_sampling_options, validate_inputs
from ..mixture import Mixture
from ..priors.interface import MixturePrior
from ..validation import is_traced
from .gaussian_approximation import (
    MAX_KHAT,
    MIN_EIGENVALUE,
    GaussianApproximation,
    log_ratios,
    make_space,
    map_points,
    prepare,
    refuse_without_density,
)
from .likelihood import reference_total
from .result import Posterior, PosteriorStatus, in_dtype, warn_of
from .standardization import StandardizedProblem, from_standard, log_volume


def laplace(
    key: jax.Array,
    start: Mixture,
    x: Any,
    prior: MixturePrior,
    *,
    num_samples: int = 1000,
    num_chains: int = 1,
    sample_weight: Any = None,
) -> Posterior:
    """Independent draws from the normal approximation at the posterior mode, each with its importance ratio.

    From the start damped Newton goes to the mode in NumPyro's unconstrained space; z = mode + H^(-1/2) N(0, I) is mapped back to
    (weights, means, covariances). Pareto k-hat of importance ratios says how far to trust it: under 0.7 it is near the posterior
    where it looks, and `log_ratio` would correct the rest; other modes it cannot see. All draws carry the start's labelling,
    except where components overlap.

    Where the information is singular there is no approximation: the status is SINGULAR, and the draws only show the directions
    that nothing pins down (eigenvalues are held at 0.01: a standard deviation of 10 in logits or logarithms).

    Args:
        key: a random key.
        start: one mixture with no empty component, as `fit(...).mixture`, best under the same prior.
        x: (N, D).
        prior: a Prior or IndependentPrior, proper.
        num_samples: S, draws a chain.
        num_chains: C; draws are independent, so chains only give the shape that other methods have.
        sample_weight: (N,) >= 0: an integer weight counts as repetition, 0 silences a row, whatever it holds.

    Returns:
        A Posterior with mixture (C, S, ...) in data units and x's float dtype. stats: log_ratio (C, S), log of posterior over
        approximation, nats, up to a constant; counts at the mode (K,); khat, min_eigenvalue, newton_steps and newton_gain,
        the nats that one more step would gain, ().

    Raises:
        ValueError, TypeError: start, data, prior or options that make no sense; traced values are not looked at.

    Warns:
        RuntimeWarning: eager only: the status is not OK.

    Example:
        >>> import jax, jaxgmm
        >>> x = jaxgmm.datasets.load("galaxies")
        >>> prior = jaxgmm.default_prior(x, num_components=1)
        >>> fit = jaxgmm.fit(jaxgmm.initialize(jax.random.key(0), x, num_components=1), x, prior)
        >>> jaxgmm.laplace(jax.random.key(1), fit.mixture, x, prior, num_samples=500).mixture.means.shape
        (1, 500, 1, 1)
    """
    check_sampling_options(key, num_samples, num_chains)
    inputs = validate_inputs(start, x, prior, sample_weight, name="start", prior_is="required", is_start=True)
    start, x, weight, prior = inputs
    traced = is_traced(key, start, x, weight, prior)
    key_bridge, key_draws = jax.random.split(key)
    problem, bridge = prepare(key_bridge, start, x, weight, prior)
    if not traced:
        refuse_without_density(bridge)
    posterior = _draw(key_draws, bridge, problem, prior, num_samples=num_samples, num_chains=num_chains)
    posterior = in_dtype(posterior, x.dtype)
    if not traced:
        warn_of(posterior)
    return posterior


@partial(jax.jit, static_argnames=("num_samples", "num_chains"))
def _draw(
    key: jax.Array,
    bridge: GaussianApproximation,
    problem: StandardizedProblem,
    prior: MixturePrior,
    *,
    num_samples: int,
    num_chains: int,
) -> Posterior:
    space = make_space(problem, bridge.start)
    kind, k = bridge.start.covariance_type, bridge.start.num_components
    u = jax.random.normal(key, (num_chains * num_samples, space.size), bridge.root.dtype)

    def one(u: jax.Array) -> tuple[jax.Array, Mixture, jax.Array]:
        z = bridge.mode + bridge.root @ u
        return space.potential(z), *space.unflatten(z)

    potentials, mixture, jacobian = map_points(one, u, problem, bridge.start)
    potentials = jnp.where(jnp.isnan(potentials), jnp.inf, potentials)  # factors that underflow: no density
    log_density = reference_total(problem, bridge.start) - potentials - jacobian + log_volume(problem, kind, k)
    ratios = log_ratios(u, potentials)
    mixture, log_density, ratios = jax.tree.map(
        lambda leaf: leaf.reshape(num_chains, num_samples, *leaf.shape[1:]),
        (from_standard(mixture, problem), log_density, ratios),
    )
    stats = {
        "log_ratio": ratios,
        "khat": bridge.khat,
        "min_eigenvalue": bridge.min_eigenvalue,
        "newton_steps": bridge.num_steps,
        "newton_gain": bridge.gain,
        "counts": bridge.counts,
    }
    return Posterior(mixture, log_density, prior, _judge(bridge, mixture), stats, "laplace")


def _judge(bridge: GaussianApproximation, mixture: Mixture) -> jax.Array:
    """The gravest finding."""
    finite = jnp.isfinite(bridge.value) & jnp.isfinite(sum(leaf.sum() for leaf in jax.tree.leaves(mixture)))
    status = jnp.where(bridge.khat < MAX_KHAT, PosteriorStatus.OK, PosteriorStatus.FAR_FROM_NORMAL)
    status = jnp.where(bridge.min_eigenvalue > MIN_EIGENVALUE, status, PosteriorStatus.SINGULAR)
    return jnp.where(finite, status, PosteriorStatus.NONFINITE)
