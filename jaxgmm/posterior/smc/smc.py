"""smc: draw from the posterior by sequential Monte Carlo, which starts from the prior and uses no solution of EM."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from ...calls import public
from ...covariance.types import as_covariance_type
from ...incomplete.checks import check_match
from ...incomplete.observations import Observations
from ...inputs import as_dtype, as_rows, check_draws, check_sampling_options, shapes_of_mixture
from ...mixture import MixtureLike, as_mixture
from ...padding import pad_data
from ...priors.functions import log_prior
from ...priors.interface import MixturePrior, check_normalised, check_prior
from ...progress import program_bar
from ...row_sums import Weight
from ...validation import check_choice, check_count, check_progress, is_traced
from ..conditionals import check_closed_forms, check_integer_weights
from ..result import Posterior, in_dtype, warn_if_unreliable
from ..standardization import from_standard, log_volume_of_present, standardise
from .accuracy import check_max_error, run_until_accurate
from .data_tempering import run_data_tempering
from .particles import Effort, Particles
from .summary import summarise_runs

TEMPERINGS = ("data", "likelihood")  # the values of the option `tempering`
_FEWEST_PARTICLES = 100  # smallest number of particles; with fewer, effective sample sizes are not informative
_MAX_STAGES = 1000  # largest number of stages; if not all data have entered then, the status is DEGENERATE
_MAX_SWEEPS = 30  # number of moves after which a stage ends even if the particles have moved little
_CORRELATION = 0.5  # moves end when the correlation of each quantity with its value before the moves is below this number
_PERCENT = 100  # steps of the progress bar of likelihood tempering; each step is an increase of the exponent by 0.01


@public
def smc(
    key: jax.Array,
    x: ArrayLike | Observations,
    prior: MixturePrior,
    *,
    num_components: int,
    covariance_type: str = "full",
    num_samples: int = 1000,
    num_chains: int = 4,
    sample_weight: ArrayLike | None = None,
    present: ArrayLike | None = None,
    tempering: str | None = None,
    max_error: float | None = None,
    progress: bool | None = None,
) -> Posterior:
    """Draw from p(weights, means, covariances | x) by sequential Monte Carlo from the prior to the posterior.

    Particles start as draws from the prior, so the result does not depend on a solution of EM, and all modes of the posterior
    can be reached. The data enter in stages. Each stage ends when the effective sample size of the importance weights has
    fallen to one half of the number of particles. The particles are then resampled and moved. The option `tempering` decides
    how the data enter:

    tempering="data": the rows enter one after another. Their order is random, but rows that enter in succession lie in
    different parts of the data. The particles are moved by Gibbs sweeps, as in `gibbs`. If a single row takes the effective
    sample size below one half of the number of particles, it enters in several stages, as sum_k w_k N(x | k)^phi, where phi
    rises from 0 to 1. Observations cannot enter in this way: the power phi of the density of the observed part of a row is not
    a marginal of the power of the density of the whole row. Once missing values have been drawn, the conditional distribution
    of the covariances therefore has no closed form.

    tempering="likelihood": the likelihood of all rows has an exponent, which rises from 0 to 1, and the particles are moved by
    Hamiltonian trajectories in the unconstrained space of `nuts`. Scales of the coordinates and the step size are adapted to
    the particles. With this option, every prior is accepted, and weights of the rows need not be integers.

    The evidence p(x) = integral of p(x | theta) p(theta) d theta is the product over stages of ratios of normalising constants.
    Each ratio is estimated by bridge sampling from the particles before the resampling and from the particles after the moves.

    The sorted weights and, for each feature, the sorted means and variances of the components determine the number of moves in
    a stage. The correlation of each of these quantities with its value before the moves is computed over the particles. The
    moves end when all these correlations are below 0.5, or after 30 moves. A move is one Gibbs sweep, or one trajectory for
    each particle. More moves would hardly reduce the error of the evidence. More particles reduce it, and `max_error` chooses
    their number.

    After each move, components with the same prior concentration are permuted at random in each particle. All equivalent
    labellings are therefore equally likely: call `relabel` before you summarise single components. Averages over draws must
    weight the runs by stats["chain_weight"], as the functions of this package do.

    Chopin (2002), Biometrika 89:539; Del Moral, Doucet & Jasra (2006), J. R. Statist. Soc. B 68:411; Meng & Wong (1996),
    Statistica Sinica 6:831.

    Args:
        key: a random key.
        x: (N, D), or `observations`, with which only tempering="likelihood" is possible. Components that labels of rows
            distinguish are not permuted.
        prior: a proper Prior or IndependentPrior. A prior that is scaled to the data, as by `default_prior`, is accepted. The
            evidence then depends on a prior that was chosen with the same data, and may be compared only between models with
            the same prior.
        num_components: K.
        covariance_type: "full", "tied", "diag", "spherical", or a code such as "VEE": see `Mixture`. If components share
            volumes, shapes or orientations, the prior must be an IndependentPrior whose scale is VolumeShapeOrientation.
        num_samples: S, number of particles in each run, at least 100.
        num_chains: C, number of independent runs. All runs are computed at the same time.
        sample_weight: (N,) >= 0. A row of weight w counts as w rows. A row of weight 0 is ignored, whatever values it holds.
            With tempering="data", weights that are not integers raise an error, or set the status to NONFINITE if they are
            traced.
        present: (K,) booleans, True for the components that may have a positive weight; None: all components. The other
            components keep weight 0, and are left out of the prior of the weights.
        tempering: "data" or "likelihood", as described above; None: "data" if x is an array and the conditional distributions
            under the prior have closed forms, else "likelihood". They have closed forms unless the prior's scale is HalfNormal
            or VolumeShapeOrientation.
        max_error: largest accepted value of log_evidence_error, the standard error described below, in nats. If the error is
            larger, the runs are repeated with as many particles as it requires, but with at most 64 S; the posterior then has
            more than S draws in each run. Outside jit only, and for two or more runs. None: the runs are not repeated.
        progress: whether to show a progress bar, outside jit only; None: show it on a terminal.

    Returns:
        A Posterior with mixture (C, S, ...) in data units and x's float dtype. Within a run, the draws have equal weights and
        are in random order. The status is DEGENERATE if fewer than a tenth of the particles of a run survived a stage, or if
        not all data have entered after 1000 stages. It is UNMIXED if the log evidences of the runs have a standard deviation of
        1 nat or more. Otherwise, it follows from R-hat and the effective sample size between runs, as in
        `jaxgmm.posterior.mixing`. For a single run, which cannot be compared with others, it is FEW_DRAWS unless the run is
        degenerate.

        Its stats have these entries. The stages are numbered from 1 to at most T = 1000. log_evidence_error is computed from
        the differences between the runs, but it is never smaller than the error for independent particles.

        | entry | shape | meaning |
        | --- | --- | --- |
        | log_evidence | (C,) | estimate of log p(x) from each run, in nats |
        | log_evidence_error | () | standard error of log(mean of exp(log_evidence)); NaN for one run |
        | chain_weight | (C,) | share of each run in averages over all draws: exp(log_evidence) divided by its sum |
        | rhat | () | largest R-hat of label-invariant quantities; NaN for one run |
        | ess | () | smallest effective sample size of these quantities; NaN for one run |
        | num_stages | (C,) | number of stages of each run |
        | effective_size | (C, T) | effective sample size before the resampling at each stage; NaN after the last stage |
        | parents | (C, T) | number of particles that survived each stage |
        | sweeps | (C, T) | number of moves of all particles at each stage |
        | accept_prob | (C, T) | mean acceptance probability of the moves, 1 for Gibbs sweeps |

    Raises:
        ValueError, TypeError: the data, the prior or an option is invalid, or tempering="data" does not accept the prior or the
            weights. Traced values are not checked.

    Warns:
        RuntimeWarning: outside jit, if the status is neither OK nor FEW_DRAWS.

    Example:
        >>> import jax, jaxgmm
        >>> x = jaxgmm.datasets.load("galaxies")
        >>> prior = jaxgmm.default_prior(x, num_components=1)
        >>> posterior = jaxgmm.smc(jax.random.key(0), x, prior, num_components=1, num_samples=200, num_chains=2)
        >>> posterior.mixture.means.shape
        (2, 200, 1, 1)
    """
    check_sampling_options(key, num_samples, num_chains)
    check_count(num_samples, "num_samples", _FEWEST_PARTICLES)
    check_count(num_components, "num_components")
    covariance_type = as_covariance_type(covariance_type)
    check_progress(progress)
    data, weight = as_rows(x, sample_weight)
    check_match(data, num_components, covariance_type)
    if len(data) == 0:
        raise ValueError(f"x has shape {data.shape}: no rows; at least one was expected.")
    check_prior(prior, num_components, data.shape[1], covariance_type)
    check_normalised(prior, covariance_type, "smc")
    tempering = _check_tempering(tempering, prior, weight, is_incomplete=isinstance(data, Observations))
    present = _as_present(present, num_components)
    prior = jax.tree.map(partial(as_dtype, dtype=data.dtype), prior)
    traced = is_traced(key, data, weight, prior, present)
    check_max_error(max_error, num_chains, key, data, weight, prior, present)
    rows = len(data) if traced or weight is None else int((np.asarray(weight) > 0).sum())
    total, unit = (rows, " rows") if tempering == "data" else (_PERCENT, " percent of a run")
    padded, weight = pad_data(data, weight, key, prior, present)
    options = {"covariance_type": covariance_type, "num_chains": num_chains, "tempering": tempering}

    def run(key: jax.Array, num_samples: int) -> Posterior:
        check_draws(shapes_of_mixture(num_components, data, covariance_type), num_samples, num_chains)
        with program_bar(num_chains * total, unit, False if traced else progress) as bar:
            posterior = _sample(key, (padded, weight, prior, present), bar, **options, num_samples=num_samples)
            return posterior if traced else jax.block_until_ready(posterior)

    posterior = run_until_accurate(run, key, num_samples, max_error)
    if not traced:
        warn_if_unreliable(posterior)
    return posterior


def smc_like_start(
    key: jax.Array,
    start: MixtureLike,
    x: ArrayLike | Observations,
    prior: MixturePrior,
    *,
    num_samples: int = 1000,
    num_chains: int = 4,
    sample_weight: ArrayLike | None = None,
    tempering: str | None = None,
    progress: bool | None = None,
) -> Posterior:
    """Call `smc` with the same arguments as the other samplers, so that a function can accept any sampler.

    From the start, `smc` takes only K, the covariance type, and which components are absent (weight 0).
    """
    start = as_mixture(start, "start", single=True)
    return smc(
        key,
        x,
        prior,
        num_components=start.num_components,
        covariance_type=start.covariance_type,
        num_samples=num_samples,
        num_chains=num_chains,
        sample_weight=sample_weight,
        present=start.weights > 0,
        tempering=tempering,
        progress=progress,
    )


def _check_tempering(tempering: Any, prior: MixturePrior, weight: Weight, *, is_incomplete: bool) -> str:
    """Return "data" or "likelihood"; raise an error if `tempering` is invalid, or does not suit the other arguments."""
    if tempering is None:
        tempering = "data" if prior.has_closed_forms and not is_incomplete else "likelihood"
    check_choice(tempering, "tempering", TEMPERINGS)
    if tempering == "data" and is_incomplete:
        raise ValueError(
            'tempering="data" was given with observations, whose rows cannot enter one after another: use '
            'tempering="likelihood".'
        )
    if tempering == "data":
        check_closed_forms(prior, "smc", remedy='use tempering="likelihood"')
        check_integer_weights(weight, "smc", remedy='use tempering="likelihood"')
    return tempering


def _as_present(present: ArrayLike | None, num_components: int) -> jax.Array | np.ndarray:
    """Return booleans (K,), True for the components that may have a positive weight. Raise ValueError for invalid input."""
    if present is None:
        return np.ones(num_components, bool)
    flags: Any = present if is_traced(present) else np.asarray(present)
    if flags.shape != (num_components,) or flags.dtype != bool:
        raise ValueError(
            f"present has shape {flags.shape} and type {flags.dtype}; booleans of shape ({num_components},) were expected."
        )
    if not is_traced(flags) and not flags.any():
        raise ValueError("present is False for all components; at least one True was expected.")
    return flags


@partial(jax.jit, static_argnames=("covariance_type", "num_samples", "num_chains", "tempering"))
def _sample(
    key: jax.Array,
    inputs: tuple,
    bar: jax.Array | None,
    *,
    covariance_type: str,
    num_samples: int,
    num_chains: int,
    tempering: str,
) -> Posterior:
    """Make all runs, and return the posterior; `inputs` are the validated x, weight, prior and present.

    bar: the number that identifies a progress bar, or None.
    """
    x, weight, prior, present = inputs
    present = jnp.asarray(present)
    standard = standardise(x, weight, prior, covariance_type)
    effort = Effort(num_samples, _MAX_STAGES, _MAX_SWEEPS, _CORRELATION)
    key_runs, key_order = jax.random.split(key)
    keys = jax.random.split(key_runs, num_chains)
    runs = _run_function(tempering)(keys, standard, present, covariance_type, effort, bar)
    order = jax.vmap(lambda key: jax.random.permutation(key, num_samples))(jax.random.split(key_order, num_chains))
    draws = (runs.mixture, runs.log_likelihood)
    mixture, log_likelihood = jax.tree.map(lambda leaf: jax.vmap(lambda one, i: one[i])(leaf, order), draws)
    volume = log_volume_of_present(standard, covariance_type, present)
    log_density = log_likelihood + log_prior(mixture, standard.prior, present=present) + volume
    stats, status = summarise_runs(runs, mixture, log_density, standard)
    posterior = Posterior(from_standard(mixture, standard), log_density, prior, status, stats, "smc")
    return in_dtype(posterior, x.dtype)


def _run_function(tempering: str) -> Callable[..., Particles]:
    """Return the function that makes all runs."""
    if tempering == "data":
        return run_data_tempering
    # imported on first use, because this module imports NumPyro, which takes a second
    from .likelihood_tempering import run_likelihood_tempering

    return run_likelihood_tempering
