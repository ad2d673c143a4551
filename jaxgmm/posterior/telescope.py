"""telescope: draw from the posterior of mixtures whose number of components is unknown, by the telescoping sampler."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from .. import covariance
from ..calls import public
from ..chunking import gibbs_rows_per_chunk
from ..covariance.types import as_covariance_type, check_uncoupled_type
from ..incomplete.checks import check_match
from ..incomplete.observations import Observations
from ..inputs import as_dtype, as_rows, check_draws, check_sampling_options, shapes_of_mixture
from ..mixture import Mixture
from ..padding import pad_data
from ..priors.functions import log_prior
from ..priors.interface import MixturePrior, check_prior
from ..progress import advance, program_bar
from ..row_sums import Weight, vary_with
from ..validation import as_float_array, check_choice, check_count, check_number, check_progress, is_traced
from .conditionals import GibbsState, LabelledData, are_counts, check_closed_forms, check_integer_weights
from .mixing import Mixing, judge_mixing, measure_mixing
from .random_scale import log_prior_ratio
from .result import Posterior, PosteriorStatus, in_dtype, warn_if_unreliable
from .standardization import StandardizedProblem, from_standard, log_volume_of_present, standardise
from .telescope_moves import NumberPrior, Sweep, first_state, make_sweep, with_concentration

_CONCENTRATIONS = ("static", "dynamic")
# The first number of components of the last chain lies at this share of the way from 1 to max_components. If a chain starts
# from too many components, some of them soon become empty. If it starts from too few, it gains a further component only when
# a draw from the prior happens to fit the data.
_SMALLEST_START = 0.5


@public
def telescope(
    key: jax.Array,
    x: ArrayLike | Observations,
    prior: MixturePrior,
    *,
    max_components: int,
    prior_on_k: ArrayLike | None = None,
    concentration: str = "static",
    scale_degrees_of_freedom: float | None = None,
    covariance_type: str = "full",
    num_samples: int = 4000,
    num_chains: int = 4,
    num_warmup: int = 1000,
    sample_weight: ArrayLike | None = None,
    progress: bool | None = None,
) -> Posterior:
    """Draw from the posterior of mixtures whose number K of components is unknown, by the telescoping sampler.

        p(K, weights, means, covariances | x) proportional to p(K) p(weights, means, covariances | K) p(x | weights, ...)

    Given K, each of the K weights has the same concentration c in the Dirichlet prior, and the means and the covariances have
    the laws of `prior`. Two numbers describe a draw: K, the number of components of the mixture, and K+ <= K, the number of
    occupied components, which have at least one row. Each sweep draws the labels of the rows, then K given the labels, from

        p(K | labels) proportional to p(K) K! / (K - K+)! Gamma(c K) / Gamma(c K + N) prod_k Gamma(c + N_k) / Gamma(c),

    then the parameters given K and the labels. N_k is the number of rows of occupied component k. No proposal is ever rejected.
    The chains start from different numbers of components, around rows that are chosen at random, so the result does not depend
    on a solution of EM.

    p(K | x) depends much on the prior: components without rows cost little, so that K can be larger than the data need. Always
    look at the number of occupied components as well. `condition_on_occupied` returns the draws with the most
    probable K+, relabelled.

    Fruehwirth-Schnatter, Malsiner-Walli & Gruen (2021), Bayesian Analysis 16:1279; Richardson & Green (1997), J. R. Statist.
    Soc. B 59:731.

    Args:
        key: a random key.
        x: (N, D), or `observations` without labels, because labels need a fixed number of components. Missing values and
            true values are drawn together with the component of their row.
        prior: a Prior, or an IndependentPrior whose scale is InverseWishart or InverseGamma; the conditional distributions
            under these priors have closed forms. All its concentrations must be equal; their number does not matter. If the
            prior is `default_prior(x, num_components=k)`, its covariances have the size that suits k components, and this size
            is the same for all K.
        max_components: the largest K.
        prior_on_k: (max_components,), the probabilities p(K) of K = 1, 2, ..., up to a factor; None: all are equal. For
            example, `scipy.stats.poisson.pmf(numpy.arange(max_components), 1)` says that K - 1 is Poisson with mean 1.
        concentration: "static": c is the prior's concentration for every K. "dynamic": c is the prior's concentration divided
            by K; components are then often empty, and the occupied components depend less on the prior of K.
        scale_degrees_of_freedom: None: the scale S of the covariances is S_0, the scale of `prior`. A number f: S is unknown.
            For full and tied, S ~ Wishart(f, S_0 / f) and f > D - 1. For diag and spherical, each entry of S has a gamma law,
            and f > 0. In both cases, the mean of S is S_0. The smaller f is, the less the size of the components depends on
            S_0. Richardson & Green (1997) recommend such a prior.
        covariance_type: "full", "tied", "diag", "spherical", "EEI" or "EII".
        num_samples: S, draws per chain.
        num_chains: C, number of chains, which run at the same time.
        num_warmup: number of discarded sweeps at the beginning of each chain.
        sample_weight: (N,) integers >= 0. A row of weight w counts as w rows, each with its own label, so the number of passes
            over the data in a sweep equals the largest weight. A row of weight 0 is ignored, whatever values it holds. Weights
            that are not integers raise an error, or set the status to NONFINITE if they are traced.
        progress: whether to show a progress bar, outside jit only; None: show it on a terminal.

    Returns:
        A Posterior with mixture (C, S, ...) in data units and x's float dtype. Its mixtures have max_components components, of
        which K have positive weights. The others have weight 0: they are absent, and their means and covariances have no
        meaning. Predictions from these draws, such as `predictive_log_prob`, are averages over K.

        log_density is log p(K) + log p(x, weights, means, covariances | K). Draws with different K have different numbers of
        parameters, so their densities cannot be compared. An unknown scale is integrated out. `prior` has max_components
        concentrations; it is None if the concentration is dynamic or the scale is unknown.

        The status is TRUNCATED if the number of occupied components reaches max_components in at least one draw. Otherwise it
        follows from R-hat and the effective sample size of the number of occupied components, the log-likelihood, and the
        entropy of the shares N_k / N.

        Its stats have these entries:

        | entry | shape | meaning |
        | --- | --- | --- |
        | num_components | (C, S) | K |
        | num_occupied | (C, S) | K+ |
        | counts | (C, S, max_components) | N_k |
        | prob_components | (max_components,) | p(K given x) for K = 1, 2, ...: averages of p(K given labels) over the draws |
        | prob_occupied | (max_components,) | frequencies of num_occupied |
        | rhat | () | largest R-hat; NaN with fewer than 4 draws per chain |
        | ess | () | smallest effective sample size, or NaN |
        | num_warmup | () | number of warm-up sweeps |

        prob_components has smaller errors than the frequencies of num_components.

    Raises:
        ValueError, TypeError: the data, the prior or an option is invalid, the prior's concentrations differ, or its scale is
            HalfNormal. Traced values are not checked; if traced concentrations differ, the status is NONFINITE.

    Warns:
        RuntimeWarning: outside jit, if the status is neither OK nor FEW_DRAWS.

    Example:
        >>> import jax, jaxgmm
        >>> x = jaxgmm.datasets.load("galaxies")
        >>> prior = jaxgmm.default_prior(x, num_components=3)
        >>> options = {"max_components": 5, "num_samples": 4, "num_warmup": 0, "num_chains": 2}
        >>> jax.jit(lambda key: jaxgmm.telescope(key, x, prior, **options))(jax.random.key(0)).stats["num_components"].shape
        (2, 4)
    """
    check_sampling_options(key, num_samples, num_chains)
    check_count(max_components, "max_components")
    check_count(num_warmup, "num_warmup", 0)
    check_choice(concentration, "concentration", _CONCENTRATIONS)
    covariance_type = as_covariance_type(covariance_type)
    check_uncoupled_type(covariance_type, "telescope")
    check_progress(progress)
    rows, weight = as_rows(x, sample_weight)
    if len(rows) == 0:
        raise ValueError(f"x has shape {rows.shape}: no rows; at least one was expected.")
    check_match(rows, max_components, covariance_type)
    if isinstance(rows, Observations) and rows.allowed is not None:
        raise ValueError(
            "x has labels, but telescope adds and removes components, so that no label names one: leave the labels out, or "
            "sample with gibbs for each number of components."
        )
    check_draws(shapes_of_mixture(max_components, rows, covariance_type), num_samples, num_chains)
    check_integer_weights(weight, "telescope")
    prior = _with_equal_concentrations(prior, max_components, rows.shape[1], covariance_type)
    if scale_degrees_of_freedom is not None:
        least = rows.shape[1] - 1 if covariance.is_dense(covariance_type) else 0
        check_number(scale_degrees_of_freedom, "scale_degrees_of_freedom", minimum=least, exclusive=True)
    others = (prior, _as_probabilities(prior_on_k, max_components), scale_degrees_of_freedom)
    others = jax.tree.map(partial(as_dtype, dtype=rows.dtype), others)
    traced = is_traced(key, rows, weight, others)
    problem = _Problem(*pad_data(rows, weight, key, others), *others)
    options = _Options(covariance_type, concentration == "dynamic", num_samples, num_chains, num_warmup)
    with program_bar(1 + num_warmup + num_samples, " sweeps", False if traced else progress) as bar:
        posterior = _sample(key, problem, bar, options)
        if not traced:
            warn_if_unreliable(posterior)
    return posterior


class _Options(NamedTuple):
    """The options of the sampler, which are static under jit.

    If `dynamic` is True, the concentration of the weights is divided by K.
    """

    covariance_type: str
    dynamic: bool
    num_samples: int
    num_chains: int
    num_warmup: int


class _Problem(NamedTuple):
    """The data, and the prior in its parts.

    x: (N, D), or observations. weight: the weights of the rows. prior: a prior with M equal concentrations. prob: (M,), the
    probabilities of K, up to a factor. scale_degrees: (), or None if the scale of the covariances is that of the prior.
    """

    x: Any
    weight: Weight
    prior: MixturePrior
    prob: jax.Array
    scale_degrees: jax.Array | None


def _with_equal_concentrations(prior: Any, max_components: int, num_features: int, covariance_type: str) -> MixturePrior:
    """Return a prior with `max_components` concentrations. Raise ValueError or TypeError if the prior is invalid."""
    given = getattr(prior, "weight_concentration", np.ones(1))
    check_prior(prior, max(np.size(given), 1), num_features, covariance_type)
    check_closed_forms(prior, "telescope")
    if is_traced(given):
        common = jnp.where((given == given[0]).all(), given[0], jnp.nan)
        return dataclasses.replace(prior, weight_concentration=jnp.broadcast_to(common, (max_components,)))
    values = np.asarray(given)
    if (values != values[0]).any():
        raise ValueError(
            f"prior.weight_concentration has entries from {values.min():.4g} to {values.max():.4g}; equal ones were expected, "
            "because telescope gives each weight the same prior."
        )
    return dataclasses.replace(prior, weight_concentration=np.full(max_components, values[0]))


def _as_probabilities(prior_on_k: ArrayLike | None, max_components: int) -> Any:
    """Return the probabilities p(K), up to a factor, (M,). Raise ValueError or TypeError if they are invalid."""
    if prior_on_k is None:
        return np.ones(max_components)
    values = as_float_array(prior_on_k, "prior_on_k", check_values=True)
    if values.shape != (max_components,):
        raise ValueError(
            f"prior_on_k has shape {values.shape}; ({max_components},) was expected: a probability for each K from 1 to "
            f"max_components={max_components}."
        )
    if not is_traced(values) and ((np.asarray(values) < 0).any() or not np.asarray(values).any()):
        raise ValueError("prior_on_k has a negative entry or no positive entry; probabilities up to a factor were expected.")
    return values


@partial(jax.jit, static_argnames="options")
def _sample(key: jax.Array, inputs: _Problem, bar: jax.Array | None, options: _Options) -> Posterior:
    """Run the chains on validated inputs and return the posterior.

    bar: the number that identifies a progress bar for sweeps, or None.
    """
    covariance_type, num_chains = options.covariance_type, options.num_chains
    problem = standardise(inputs.x, inputs.weight, inputs.prior, covariance_type)
    law = _number_prior(inputs, problem, options.dynamic)
    data = LabelledData(problem.y, problem.weight)
    chunk_size = gibbs_rows_per_chunk(len(law.log_prob), problem.y.shape[1], problem.y.dtype, num_chains)
    num_sweeps = 1 + options.num_warmup + options.num_samples

    def sweep(states: GibbsState, inputs: tuple[jax.Array, jax.Array]) -> tuple[GibbsState, Sweep]:
        index, keys = inputs
        advance(bar, index, num_sweeps)
        static = (covariance_type, chunk_size)
        return jax.vmap(lambda key, state: make_sweep(key, state, data, problem.prior, law, static))(keys, states)

    key_start, key = jax.random.split(key)
    shares = jnp.linspace(1, _SMALLEST_START, num_chains, dtype=problem.y.dtype)
    start = jax.vmap(lambda key, share: first_state(key, data, law, share, covariance_type))
    states = start(jax.random.split(key_start, num_chains), shares)
    states, key = vary_with((states, key), inputs, key)
    _, found = jax.lax.scan(sweep, states, (jnp.arange(num_sweeps), jax.random.split(key, (num_sweeps, num_chains))))
    found = jax.tree.map(lambda leaf: jnp.moveaxis(leaf[1 + options.num_warmup :], 0, 1), found)
    posterior = _collect(found, problem, law, covariance_type)
    stats = posterior.stats | {"num_warmup": jnp.array(options.num_warmup)}
    prior = inputs.prior if not options.dynamic and law.scale_degrees is None else None
    return in_dtype(dataclasses.replace(posterior, prior=prior, stats=stats), inputs.x.dtype)


def _number_prior(inputs: _Problem, problem: StandardizedProblem, dynamic: bool) -> NumberPrior:
    """Return the prior of K, with the concentrations given K, in the dtype of the standardised problem."""
    dtype, concentration = problem.y.dtype, problem.prior.weight_concentration
    prob = inputs.prob.astype(dtype)
    if dynamic:
        concentration = concentration / jnp.arange(1, len(prob) + 1)
    degrees = None if inputs.scale_degrees is None else inputs.scale_degrees.astype(dtype)
    return NumberPrior(jnp.log(prob) - jnp.log(prob.sum()), concentration, degrees)


def _collect(found: Sweep, problem: StandardizedProblem, law: NumberPrior, covariance_type: str) -> Posterior:
    """Make a Posterior from the records (C, S, ...) of the sweeps. Its prior is in standardised coordinates."""
    covariances = covariance.from_factor(found.root, covariance_type)
    mixture = Mixture(found.weights, found.means, covariances, covariance_type)
    num_components, num_occupied = (mixture.weights > 0).sum(-1), (found.counts > 0).sum(-1)

    def log_prior_of_draw(mixture: Mixture, number: jax.Array) -> jax.Array:
        prior, present = with_concentration(problem.prior, law.concentration[number - 1]), mixture.weights > 0
        volume = log_volume_of_present(problem, covariance_type, present)
        value = law.log_prob[number - 1] + log_prior(mixture, prior, present=present) + volume
        return value if law.scale_degrees is None else value + log_prior_ratio(mixture, prior, law.scale_degrees)

    log_likelihood = jnp.where(are_counts(problem.weight), found.log_likelihood, jnp.nan)
    log_density = log_likelihood + jax.vmap(jax.vmap(log_prior_of_draw))(mixture, num_components)
    shares = found.counts / jnp.maximum(found.counts.sum(-1, keepdims=True), 1)
    entropy = -jax.scipy.special.xlogy(shares, shares).sum(-1)
    mixing = measure_mixing(jnp.stack([num_occupied.astype(entropy.dtype), log_likelihood, entropy]))
    numbers = jnp.arange(1, len(law.log_prob) + 1)
    stats = {
        "num_components": num_components,
        "num_occupied": num_occupied,
        "counts": found.counts,
        "prob_components": found.prob.mean((0, 1)),
        "prob_occupied": (num_occupied[..., None] == numbers).mean((0, 1), dtype=entropy.dtype),
        "rhat": mixing.rhat,
        "ess": mixing.ess,
    }
    status = _judge(log_density, num_occupied, len(numbers), mixing)
    return Posterior(from_standard(mixture, problem), log_density, problem.prior, status, stats, "telescope")


def _judge(log_density: jax.Array, num_occupied: jax.Array, max_components: int, mixing: Mixing) -> jax.Array:
    """Return, as an array (), the most severe PosteriorStatus that applies."""
    status = judge_mixing(mixing, *log_density.shape)
    status = jnp.where((num_occupied >= max_components).any(), PosteriorStatus.TRUNCATED, status)
    return jnp.where(jnp.isfinite(log_density).all(), status, PosteriorStatus.NONFINITE)
