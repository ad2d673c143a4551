"""A Gaussian approximation of the posterior at a mode. The search for the mode starts at an EM solution.

The approximation defines the coordinates u in which a sampler works:

    y = (x - shift) / scale             data and prior are standardised: `standardization`
    theta -> z                          NumPyro's transforms to unconstrained space: `unconstrained_space`
    z -> mode of p(z | y)               damped Newton, started from the EM solution: `newton`
    u = root^-1 (z - mode)              root root' is the inverse of the information at the mode (Louis 1982)

Near the mode, u has approximately the distribution N(0, I). For a sampler that works in u, the inverse information therefore
acts as the mass matrix. Three numbers decide whether a sampler can use the approximation without adapting the mass matrix: the
smallest eigenvalue of the information, Pareto k-hat, and the smallest expected number of points in a component.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from ..covariance import types as covariance_types
from ..density import responsibilities_of_rows
from ..incomplete.observations import Data
from ..mixture import Mixture
from ..priors.interface import MixturePrior
from ..row_sums import Weight, weight_or_ones
from .coupled_sites import axes_of_start
from .newton import MIN_EIGENVALUE, find_mode
from .pareto import honest_khat, khat_limit
from .standardization import StandardizedProblem, standardise, to_standard
from .unconstrained_space import UnconstrainedSpace, make_unconstrained_space, map_points

_NUM_PROPOSALS = 2000  # number of draws from the approximation, from which k-hat is estimated
KHAT_LIMIT = khat_limit(_NUM_PROPOSALS)  # the approximation is close to the posterior if k-hat is below this limit
_OVERDISPERSION = 1.5  # standard deviation of the starts of chains, as a multiple of the approximation's standard deviation
Built = TypeVar("Built")


class GaussianApproximation(NamedTuple):
    """A Gaussian approximation of the posterior in unconstrained space, which has P dimensions.

    In a stack of M approximations, all fields have a leading axis (M,).

    Attributes:
        start: the mixture at which the search for the mode started, in the problem's coordinates. Log-likelihoods are given as
            differences from the log-likelihood at this mixture.
        mode: (P,), the mode.
        root: (P, P), the symmetric root of the inverse information at the mode.
        value: (), the potential at the mode, which is minus the log density.
        gain: (), increase of the log density, in nats, that one more Newton step would bring.
        num_steps: (), number of Newton steps.
        min_eigenvalue: (), the smallest eigenvalue of the information.
        khat: (), Pareto k-hat of the importance ratios, with the approximation as proposal. It is infinite if the effective
            number of draws is below 10.
        counts: (K,), expected number of points in each component at the mode.
        sound: (), whether a sampler can use the approximation without adapting the mass matrix.
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


@jax.jit
def approximate_posterior(
    key: jax.Array, start: Mixture, x: Data, weight: Weight, prior: MixturePrior
) -> tuple[StandardizedProblem, GaussianApproximation]:
    """Standardise data and prior, and approximate the posterior at the mode near the start.

    If the start is a stack (M,), there is one approximation for each start. All methods that need an approximation call this
    function, so that it is compiled only once.
    """
    problem = standardise(x, weight, prior, start.covariance_type)
    # all starts share one space, so that points found from different starts can be compared
    problem = problem._replace(axes=axes_of_start(start[0] if start.batch_shape else start))
    return problem, for_each_start(lambda key, one: build_approximation(key, to_standard(one, problem), problem), key, start)


def for_each_start(build: Callable[[jax.Array, Mixture], Built], key: jax.Array, start: Mixture) -> Built:
    """Return build(key, start) if there is one start, or the stacked results for all starts of a stack (M,)."""
    if not start.batch_shape:
        return build(key, start)
    return jax.vmap(build)(jax.random.split(key, start.batch_shape[0]), start)


def build_approximation(
    key: jax.Array, start: Mixture, problem: StandardizedProblem, space: UnconstrainedSpace | None = None
) -> GaussianApproximation:
    """Approximate the posterior at the mode near a start, which is given in the problem's coordinates.

    space: the unconstrained space of another model, or None for the space of `jaxgmm.model`.
    """
    space = make_unconstrained_space(problem, start) if space is None else space
    newton, root, min_eigenvalue = find_mode(space, space.flatten(start), problem, start)
    draws = jax.random.normal(key, (_NUM_PROPOSALS, space.size), root.dtype)
    potentials = map_points(lambda u: space.potential(newton.z + root @ u), draws, problem, start)
    khat = honest_khat(log_ratios(draws, potentials), xp=jnp)
    counts = expected_counts(space.unflatten(newton.z)[0], problem)
    enough = counts.min() >= max(5, 5 * (covariance_types.fewest_points(start.covariance_type, start.num_features) - 1))
    sound = jnp.isfinite(newton.value) & (min_eigenvalue > MIN_EIGENVALUE) & (khat < KHAT_LIMIT) & enough
    found = (newton.value, newton.gain, newton.num_steps, min_eigenvalue, khat, counts, sound)
    return GaussianApproximation(start, newton.z, root, *found)


def expected_counts(mixture: Mixture, problem: StandardizedProblem) -> jax.Array:
    """Return the expected number of points in each component, sum_n w_n r_nk, (K,). The weight of point n is w_n."""
    table = responsibilities_of_rows(mixture, problem.y, problem.weight)
    weight = weight_or_ones(problem.weight, problem.y.shape[:1], table.dtype)
    return weight @ table


def log_ratios(u: jax.Array, potentials: jax.Array) -> jax.Array:
    """Return the log importance ratios (...) of draws u (..., P), up to a constant: log p(y, z(u)) - log N(u | 0, I).

    Here y are the data, and z(u) are the unconstrained parameters. The potentials (...) are minus log p(y, z(u)). Where a
    potential is NaN, the ratio is -inf.
    """
    return jnp.where(jnp.isnan(potentials), -jnp.inf, 0.5 * (u**2).sum(-1) - potentials)


def check_density_at_start(approximation: GaussianApproximation) -> None:
    """Raise ValueError if the posterior density or its gradient is not finite at a start. Values must not be traced."""
    if not np.isfinite(np.asarray(approximation.value)).all():
        raise ValueError(
            "start has no finite posterior density and gradient: at the start, the density of the prior or of the data is zero "
            "or overflows, or a gradient is NaN; start from a fit under the same prior, or under "
            "jaxgmm.default_prior if fit does not take that prior."
        )


def overdispersed_starts(key: jax.Array, approximation: GaussianApproximation, num_chains: int) -> jax.Array:
    """Draw a start for each of C chains, (C, P), in the coordinates u of the Gaussian approximation.

    The starts are more dispersed than the posterior, so that R-hat is informative. Gelman & Rubin (1992).
    """
    shape = (num_chains, len(approximation.mode))
    return _OVERDISPERSION * jax.random.normal(key, shape, approximation.mode.dtype)
