"""laplace: draw from the Gaussian approximation of the posterior at its mode. Tierney & Kadane (1986), JASA 81, 82-86.

    z | x  is approximately  N(mode, H^-1)          z: unconstrained parameters, H: information at the mode

The mode is the maximum of the density in NumPyro's unconstrained space (logits of weights, means, logarithms of scales). A
Gaussian fits better there than in the space of (weights, means, covariances). Because the density contains the Jacobian of the
transforms, its mode differs from the optimum that EM finds. The method costs as much as one Newton descent.
"""

from __future__ import annotations

import math
from functools import partial

import jax
import jax.numpy as jnp
from numpy.typing import ArrayLike

from ..calls import public
from ..incomplete.observations import Observations
from ..inputs import check_draws, check_sampling_options, pad_inputs, validate_inputs
from ..mixture import Mixture, MixtureLike
from ..priors.interface import MixturePrior, check_normalised
from ..progress import progress_bar
from ..validation import check_progress, is_traced
from .gaussian_approximation import (
    KHAT_LIMIT,
    GaussianApproximation,
    approximate_posterior,
    check_density_at_start,
    log_ratios,
)
from .likelihood import reference_total
from .newton import MIN_EIGENVALUE
from .result import Posterior, PosteriorStatus, in_dtype, warn_if_unreliable
from .standardization import StandardizedProblem, from_standard, log_volume
from .unconstrained_space import make_unconstrained_space, map_points


@public
def laplace(
    key: jax.Array,
    start: MixtureLike,
    x: ArrayLike | Observations,
    prior: MixturePrior,
    *,
    num_samples: int = 1000,
    num_chains: int = 1,
    sample_weight: ArrayLike | None = None,
    progress: bool | None = None,
) -> Posterior:
    """Make independent draws from the Gaussian approximation at the posterior mode, each with an importance ratio.

    A damped Newton method descends from the start to the mode in NumPyro's unconstrained space. Draws from N(mode, H^-1), where
    H is the information at the mode, are mapped back to (weights, means, covariances). Pareto k-hat of the importance ratios
    tells whether the approximation can be trusted. If k-hat is below 0.7, the approximation is close to the posterior around
    this mode, and weighting the draws by exp(log_ratio) corrects the difference. k-hat says nothing about other modes. All
    draws have the start's labelling, except where components overlap.

    If the information matrix is singular, the approximation is not valid, and the status is SINGULAR. The draws then only show
    in which directions the data and the prior leave the parameters undetermined. Eigenvalues of the information below 0.01 are
    replaced by 0.01, which corresponds to a standard deviation of 10 in logits or logarithms.

    Args:
        key: a random key.
        start: a Fit, or a Mixture, without empty components, ideally fitted under the same prior.
        x: (N, D), in the units of the means, or `observations`.
        prior: a proper Prior or IndependentPrior.
        num_samples: S, draws per chain.
        num_chains: C. All draws are independent: the division into chains only gives the result the same shape as the results
            of other methods.
        sample_weight: (N,) >= 0. A row with an integer weight w counts as w equal rows. A row of weight 0 is ignored, whatever
            values it holds.
        progress: whether to show a progress bar (two steps: the approximation and the draws), outside jit only; None: show it
            on a terminal.

    Returns:
        A Posterior with mixture (C, S, ...) in data units and x's float dtype. Its stats have these entries:

        | entry | shape | meaning |
        | --- | --- | --- |
        | log_ratio | (C, S) | log posterior density minus that of the approximation, in nats, up to a constant |
        | counts | (K,) | expected number of points in each component at the mode |
        | khat | () | Pareto k-hat of the importance ratios |
        | min_eigenvalue | () | smallest eigenvalue of the information at the mode |
        | newton_steps | () | number of Newton steps from the start to the mode |
        | newton_gain | () | increase of the log density that one more Newton step would bring, in nats |

    Raises:
        ValueError, TypeError: the start, the data, the prior or an option is invalid, or the posterior density at the start is
            not finite. Traced values are not checked.

    Warns:
        RuntimeWarning: outside jit, if the status is not OK.

    Example:
        >>> import jax, jaxgmm
        >>> x = jaxgmm.datasets.load("galaxies")
        >>> prior = jaxgmm.default_prior(x, num_components=1)
        >>> fit = jaxgmm.fit(jaxgmm.initialize(jax.random.key(0), x, num_components=1), x, prior)
        >>> jaxgmm.laplace(jax.random.key(1), fit.mixture, x, prior, num_samples=500).mixture.means.shape
        (1, 500, 1, 1)
    """
    check_sampling_options(key, num_samples, num_chains)
    check_progress(progress)
    inputs = validate_inputs(start, x, prior, sample_weight, name="start", prior_is="required", is_start=True)
    check_normalised(inputs.prior, inputs.mixture.covariance_type, "laplace")
    check_draws(inputs.mixture, num_samples, num_chains)
    traced = is_traced(key, inputs)
    start, rows, weight, prior = pad_inputs(inputs, key)
    key_approximation, key_draws = jax.random.split(key)
    with progress_bar(2, " steps", False if traced else progress) as bar:
        problem, approximation = approximate_posterior(key_approximation, start, rows, weight, prior)
        if not traced:
            check_density_at_start(approximation)
            bar.update(1)
        posterior = _draw(key_draws, approximation, problem, prior, shape=(num_chains, num_samples))
        posterior = in_dtype(posterior, rows.dtype)
        if not traced:
            warn_if_unreliable(posterior)
            bar.update(1)
    return posterior


@partial(jax.jit, static_argnames="shape")
def _draw(
    key: jax.Array,
    approximation: GaussianApproximation,
    problem: StandardizedProblem,
    prior: MixturePrior,
    *,
    shape: tuple[int, int],
) -> Posterior:
    """Draw mixtures (C, S, ...) from the approximation, and compute their log densities and importance ratios."""
    start = approximation.start
    space = make_unconstrained_space(problem, start)
    u = jax.random.normal(key, (math.prod(shape), space.size), approximation.root.dtype)

    def evaluate(u: jax.Array) -> tuple[jax.Array, Mixture, jax.Array]:
        z = approximation.mode + approximation.root @ u
        return space.potential(z), *space.unflatten(z)

    potentials, mixture, jacobian = map_points(evaluate, u, problem, start)
    # A potential is NaN if Cholesky factors underflow. Such a draw gets density 0.
    potentials = jnp.where(jnp.isnan(potentials), jnp.inf, potentials)
    log_density = reference_total(problem, start) - potentials - jacobian
    log_density += log_volume(problem, start.covariance_type, start.num_components)
    ratios = log_ratios(u, potentials)
    mixture, log_density, ratios = jax.tree.map(
        lambda leaf: leaf.reshape(*shape, *leaf.shape[1:]), (from_standard(mixture, problem), log_density, ratios)
    )
    stats = {
        "log_ratio": ratios,
        "khat": approximation.khat,
        "min_eigenvalue": approximation.min_eigenvalue,
        "newton_steps": approximation.num_steps,
        "newton_gain": approximation.gain,
        "counts": approximation.counts,
    }
    return Posterior(mixture, log_density, prior, _status(approximation, mixture), stats, "laplace")


def _status(approximation: GaussianApproximation, mixture: Mixture) -> jax.Array:
    """Return, as an array (), the most severe PosteriorStatus that applies."""
    finite = jnp.isfinite(approximation.value) & jnp.isfinite(sum(leaf.sum() for leaf in jax.tree.leaves(mixture)))
    status = jnp.where(approximation.khat < KHAT_LIMIT, PosteriorStatus.OK, PosteriorStatus.FAR_FROM_NORMAL)
    status = jnp.where(approximation.min_eigenvalue > MIN_EIGENVALUE, status, PosteriorStatus.SINGULAR)
    return jnp.where(finite, status, PosteriorStatus.NONFINITE)
