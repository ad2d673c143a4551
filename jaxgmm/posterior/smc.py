"""smc: draw from the posterior by sequential Monte Carlo, which starts from the prior and uses no solution of EM."""

from __future__ import annotations

from functools import partial
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from .. import covariance
from ..calls import public
from ..inputs import as_dtype, check_draws, check_sampling_options
from ..mixture import Mixture, MixtureLike, as_mixture
from ..padding import pad_data
from ..priors.functions import log_prior
from ..priors.interface import MixturePrior, check_prior
from ..progress import program_bar
from ..row_sums import has_weights, total_weight, weight_or_ones
from ..validation import as_weighted_data, check_count, check_covariance_type, check_progress, is_traced
from .conditionals import are_counts, check_closed_forms, check_integer_weights
from .data_tempering import Effort, Run, log_likelihoods, run_data_tempering
from .mixing import Mixing, judge_mixing, label_invariant_draws, measure_mixing
from .particle_moves import Problem
from .result import Posterior, PosteriorStatus, in_dtype, warn_if_unreliable
from .standardization import StandardizedProblem, from_standard, log_volume_of_present, standardise

_FEWEST_PARTICLES = 100  # smallest number of particles; with fewer, effective sample sizes are not informative
_MAX_STAGES = 1000  # largest number of stages; if rows are left over then, the status is DEGENERATE
_MAX_SWEEPS = 30  # number of Gibbs sweeps after which a stage ends even if the particles have moved little
_CORRELATION = 0.5  # sweeps end when the correlation of each quantity with its value before the sweeps is below this number
_FEWEST_PARENTS = 0.1  # the status is DEGENERATE if a smaller share of the particles of a run survived a stage
_EVIDENCE_SPREAD = 1.0  # nats; the status is UNMIXED if the log evidences of the runs have at least this standard deviation


@public
def smc(
    key: jax.Array,
    x: ArrayLike,
    prior: MixturePrior,
    *,
    num_components: int,
    covariance_type: str = "full",
    num_samples: int = 1000,
    num_chains: int = 4,
    sample_weight: ArrayLike | None = None,
    present: ArrayLike | None = None,
    progress: bool | None = None,
) -> Posterior:
    """Draw from p(weights, means, covariances | x) by sequential Monte Carlo over the rows of the data.

    Particles start as draws from the prior, so the result does not depend on a solution of EM, and all modes of the posterior
    can be reached. The rows enter in a random order that spreads them over the data. When the next row would take the effective
    sample size of the importance weights below one half of the number of particles, a stage ends: the particles are resampled,
    and then moved by Gibbs sweeps, as in `gibbs`. The evidence

        p(x) = integral of p(x | theta) p(theta) d theta

    is estimated without bias by the product over stages t of mean_m prod_(rows n of stage t) p(x_n | theta_m), where theta_m is
    particle m before the resampling of the stage.

    The sorted weights and, for each feature, the sorted means and variances of the components determine the number of sweeps in
    a stage. The correlation of each of these quantities with its value before the sweeps is computed over the particles. The
    sweeps end when all these correlations are below 0.5, or after 30 sweeps. If a single row takes the effective sample size
    below one half of the number of particles, it enters in several stages, as sum_k w_k N(x | k)^phi. In these stages, phi
    rises from 0 to 1.

    After each sweep, components with the same prior concentration are permuted at random in each particle. All equivalent
    labellings are therefore equally likely: call `relabel` before you summarise single components. Averages over draws must
    weight the runs by stats["chain_weight"], as the functions of this package do.

    Chopin (2002), Biometrika 89:539; Del Moral, Doucet & Jasra (2006), J. R. Statist. Soc. B 68:411.

    Args:
        key: a random key.
        x: (N, D).
        prior: a Prior, or an IndependentPrior whose scale is InverseWishart or InverseGamma; the conditional distributions
            under these priors have closed forms. A prior that is scaled to the data, as by `default_prior`, is accepted. The
            evidence then depends on a prior that was chosen with the same data, and may be compared only between models with
            the same prior.
        num_components: K.
        covariance_type: "full", "tied", "diag" or "spherical".
        num_samples: S, number of particles in each run, at least 100.
        num_chains: C, number of independent runs. All runs are computed at the same time.
        sample_weight: (N,) integers >= 0. A row of weight w counts as w rows. A row of weight 0 is ignored, whatever values it
            holds. Weights that are not integers raise an error, or set the status to NONFINITE if they are traced. `nuts`
            accepts such weights.
        present: (K,) booleans, True for the components that may have a positive weight; None: all components. The other
            components keep weight 0, and are left out of the prior of the weights.
        progress: whether to show a progress bar, outside jit only; None: show it on a terminal.

    Returns:
        A Posterior with mixture (C, S, ...) in data units and x's float dtype. Within a run, the draws have equal weights and
        are in random order. The status is DEGENERATE if fewer than a tenth of the particles of a run survived a stage, or if
        rows are left over after 1000 stages. It is UNMIXED if the log evidences of the runs have a standard deviation of 1 nat
        or more. Otherwise, it follows from R-hat and the effective sample size between runs, as in `jaxgmm.posterior.mixing`.
        For a single run, which cannot be compared with others, it is FEW_DRAWS unless the run is degenerate.

        stats: log_evidence (C,), an estimate of log p(x) in nats from each run; log_evidence_error (), the standard error of
        log(mean of exp(log_evidence)), NaN for one run; chain_weight (C,), the share of each run in an average over all draws,
        which is exp(log_evidence) divided by its sum; rhat () and ess (), the largest R-hat and the smallest effective sample
        size of the label-invariant quantities, NaN for one run; num_stages (C,), the number of stages of each run. Three arrays
        (C, T), T = 1000, describe the stages: effective_size, the effective sample size before resampling (NaN after the last
        stage); parents, the number of particles that survived; and sweeps, the number of Gibbs sweeps.

    Raises:
        ValueError, TypeError: the data, the prior or an option is invalid, or the prior's scale is HalfNormal. Traced values
            are not checked.

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
    check_covariance_type(covariance_type)
    check_progress(progress)
    x, weight = as_weighted_data(x, sample_weight)
    if len(x) == 0:
        raise ValueError(f"x has shape {x.shape}: no rows; at least one was expected.")
    check_prior(prior, num_components, x.shape[1], covariance_type)
    check_closed_forms(prior, "smc")
    check_integer_weights(weight, "smc")
    present = _as_present(present, num_components)
    check_draws(_shapes(num_components, x, covariance_type), num_samples, num_chains)
    prior = jax.tree.map(partial(as_dtype, dtype=x.dtype), prior)
    traced = is_traced(key, x, weight, prior, present)
    total = num_chains * len(x) if traced or not has_weights(weight) else num_chains * int((np.asarray(weight) > 0).sum())
    x, weight = pad_data(x, weight, key, prior, present)
    with program_bar(total, " rows", False if traced else progress) as bar:
        problem = (x, weight, prior, present)
        posterior = _sample(key, problem, bar, covariance_type=covariance_type, num_samples=num_samples, num_chains=num_chains)
        if not traced:
            warn_if_unreliable(posterior)
    return posterior


def smc_like_start(
    key: jax.Array,
    start: MixtureLike,
    x: ArrayLike,
    prior: MixturePrior,
    *,
    num_samples: int = 1000,
    num_chains: int = 4,
    sample_weight: ArrayLike | None = None,
    progress: bool | None = None,
) -> Posterior:
    """Call `smc` with the arguments of the other samplers, for functions that take any sampler.

    Only the number of components, the covariance type and the absent components of the start are used.
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
        progress=progress,
    )


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


def _shapes(num_components: int, x: jax.Array, covariance_type: str) -> Mixture:
    """Return a mixture whose leaves are shapes with the dtype of the data, instead of arrays."""
    d = x.shape[1]
    shapes = ((num_components,), (num_components, d), covariance.storage_shape(covariance_type, num_components, d))
    weights, means, covariances = (jax.eval_shape(partial(jnp.zeros, shape, x.dtype)) for shape in shapes)
    return Mixture(cast(Any, weights), cast(Any, means), cast(Any, covariances), covariance_type)


@partial(jax.jit, static_argnames=("covariance_type", "num_samples", "num_chains"))
def _sample(
    key: jax.Array, inputs: tuple, bar: jax.Array | None, *, covariance_type: str, num_samples: int, num_chains: int
) -> Posterior:
    """Make all runs, and return the posterior; `inputs` are the validated x, weight, prior and present.

    bar: the number that identifies a progress bar for rows, or None.
    """
    x, weight, prior, present = inputs
    standard = standardise(x, weight, prior, covariance_type)
    problem = Problem(standard.y, standard.weight, standard.prior, jnp.asarray(present))
    effort = Effort(num_samples, _MAX_STAGES, _MAX_SWEEPS, _CORRELATION)
    key_runs, key_order = jax.random.split(key)
    runs = run_data_tempering(jax.random.split(key_runs, num_chains), problem, covariance_type, effort, bar)
    order = jax.vmap(lambda key: jax.random.permutation(key, num_samples))(jax.random.split(key_order, num_chains))
    state = jax.tree.map(lambda leaf: jax.vmap(lambda one, i: one[i])(leaf, order), runs.state)
    covariances = covariance.from_factor(state.factors.lower, covariance_type)
    mixture = Mixture(jnp.exp(state.log_weights), state.means, covariances, covariance_type)
    found = jax.vmap(lambda state: log_likelihoods(state, problem, covariance_type))(state)
    found = jnp.where(are_counts(standard.weight), found, jnp.nan)
    volume = log_volume_of_present(standard, covariance_type, problem.present)
    log_density = found + log_prior(mixture, standard.prior, present=problem.present) + volume
    stats, status = _summarise(runs, mixture, log_density, standard)
    posterior = Posterior(from_standard(mixture, standard), log_density, prior, status, stats, "smc")
    return in_dtype(posterior, x.dtype)


def _summarise(
    runs: Run, mixture: Mixture, log_density: jax.Array, standard: StandardizedProblem
) -> tuple[dict[str, jax.Array], jax.Array]:
    """Return the statistics and the status of several runs. The mixture holds the draws (C, S, ...), standardised."""
    total = total_weight(standard.weight, len(standard.y), standard.y.dtype)
    log_evidence = runs.log_evidence - total * jnp.log(standard.scale).sum()
    mixing = measure_mixing(label_invariant_draws(mixture, log_density), in_time=False)
    rows = weight_or_ones(standard.weight, standard.y.shape[:1], standard.y.dtype) > 0
    incomplete = (runs.entered < rows.sum()).any()
    stats = {
        "log_evidence": log_evidence,
        "chain_weight": jax.nn.softmax(log_evidence),
        "log_evidence_error": _relative_error(log_evidence),
        "rhat": mixing.rhat,
        "ess": mixing.ess,
        "num_stages": runs.stage,
        "effective_size": runs.records.size,
        "parents": runs.records.parents,
        "sweeps": runs.records.sweeps,
    }
    return stats, _judge(log_density, log_evidence, mixing, incomplete | _is_degenerate(runs, log_density.shape[1]))


def _relative_error(log_evidence: jax.Array) -> jax.Array:
    """Return the standard error of the mean evidence over runs (C,), relative to this mean. For one run, the result is NaN."""
    evidence = jnp.exp(log_evidence - log_evidence.max())
    count = len(evidence)
    return jnp.nan * evidence[0] if count == 1 else evidence.std(ddof=1) / count**0.5 / evidence.mean()


def _is_degenerate(runs: Run, num_particles: int) -> jax.Array:
    """Return whether only a small share of the particles survived in at least one stage of at least one run, ()."""
    parents = jnp.where(jnp.isnan(runs.records.size), num_particles, runs.records.parents)
    return (parents < _FEWEST_PARENTS * num_particles).any()


def _judge(log_density: jax.Array, log_evidence: jax.Array, mixing: Mixing, degenerate: jax.Array) -> jax.Array:
    """Return the most severe PosteriorStatus that applies, (). For one run, it is FEW_DRAWS or more severe."""
    status = jnp.asarray(PosteriorStatus.FEW_DRAWS)
    if len(log_density) > 1:
        status = judge_mixing(mixing, *log_density.shape)
        status = jnp.where(log_evidence.std(ddof=1) < _EVIDENCE_SPREAD, status, PosteriorStatus.UNMIXED)
    status = jnp.where(degenerate, PosteriorStatus.DEGENERATE, status)
    finite = jnp.isfinite(log_density).all() & jnp.isfinite(log_evidence).all()
    return jnp.where(finite, status, PosteriorStatus.NONFINITE)
