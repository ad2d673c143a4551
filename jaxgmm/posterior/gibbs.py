"""gibbs: draw from the posterior by Gibbs sampling, which draws labels and parameters in turn. Diebolt & Robert (1994).

The sampler is one `lax.scan` over sweeps. A sweep passes once over the data, for all chains at the same time. It needs neither
gradients nor tuning.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from numpy.typing import ArrayLike

from .. import covariance
from ..calls import public
from ..chunking import gibbs_rows_per_chunk
from ..covariance.types import check_uncoupled_type
from ..devices.chain_shards import chain_mesh, over_chains
from ..incomplete.observations import Observations
from ..inputs import Inputs, check_draws, check_sampling_options, pad_inputs, validate_inputs
from ..mixture import Mixture, MixtureLike
from ..priors.functions import log_prior
from ..priors.interface import ComponentSums, MixturePrior
from ..progress import advance, program_bar
from ..row_sums import vary_with
from ..validation import check_count, check_progress, is_traced
from .conditionals import (
    GibbsState,
    LabelledData,
    are_counts,
    check_closed_forms,
    check_integer_weights,
    draw_state,
    gibbs_state,
    sum_by_labels,
)
from .mixing import Mixing, judge_mixing, label_invariant_draws, measure_mixing
from .result import Posterior, PosteriorStatus, in_dtype, warn_if_unreliable
from .standardization import StandardizedProblem, from_standard, log_volume_of_present, standardise, to_standard

# Approximate standard deviation of the first parameters of the chains, as a multiple of their conditional standard deviation
# given the labels. A number above 1 makes the starts over-dispersed, so that R-hat is informative.
_OVERDISPERSION = 2.0


@public
def gibbs(
    key: jax.Array,
    start: MixtureLike,
    x: ArrayLike | Observations,
    prior: MixturePrior,
    *,
    num_samples: int = 1000,
    num_chains: int = 4,
    num_warmup: int = 200,
    sample_weight: ArrayLike | None = None,
    progress: bool | None = None,
) -> Posterior:
    """Draw from p(weights, means, covariances | x) by Gibbs sampling, in chains that start around an EM solution.

    Each sweep draws the label of every row given the parameters, then the parameters given the labels. Both are exact draws
    from their conditional distributions. The posterior density is the same as for `nuts`. A sweep costs about as much as one
    E-step and nothing is tuned, so many parallel chains are cheap. If components overlap, successive draws are highly
    correlated, and `nuts` may be more efficient. For each chain, labels are first drawn given the start. The first parameters
    are then drawn given these labels, with a quarter of the weight of the data. Their standard deviation given the labels is
    therefore about twice as large as in later sweeps. A chain keeps the start's labelling until label switching occurs: call
    `relabel` before you summarise single components.

    Args:
        key: a random key.
        start: a Fit, or a Mixture, without empty components, of the covariance type full, tied, diag, spherical, EEI or EII.
            Under jit, a component of weight 0 is allowed and stays absent.
        x: (N, D), or `observations`: missing, censored and true values are then drawn with the labels.
        prior: a Prior, or an IndependentPrior whose scale is InverseWishart or InverseGamma; the conditional distributions
            under these priors have closed forms.
        num_samples: S, draws per chain.
        num_chains: C, number of chains, which run at the same time.
        num_warmup: number of discarded sweeps at the beginning of each chain.
        sample_weight: (N,) integers >= 0. A row of weight w counts as w rows, each with its own label, so the number of passes
            over the data in a sweep equals the largest weight. A row of weight 0 is ignored, whatever values it holds. Weights
            that are not integers raise an error, or set the status to NONFINITE if they are traced. `nuts` accepts such
            weights.
        progress: whether to show a progress bar, outside jit only; None: show it on a terminal. The program that advances a bar
            is compiled once in each process: a compilation cache on disk does not keep it.

    Returns:
        A Posterior with mixture (C, S, ...) in data units and x's float dtype. Its stats have these entries:

        | entry | shape | meaning |
        | --- | --- | --- |
        | counts | (C, S, K) | number of rows with label k when labels are drawn given each draw |
        | rhat | () | largest R-hat of label-invariant quantities; NaN with fewer than 4 draws per chain |
        | ess | () | smallest effective sample size of these quantities, or NaN |
        | num_warmup | () | number of warm-up sweeps |

    Raises:
        ValueError, TypeError: the start, the data, the prior or an option is invalid, or the prior's scale is HalfNormal.
            Traced values are not checked.

    Warns:
        RuntimeWarning: outside jit, if the status is neither OK nor FEW_DRAWS.

    Example:
        >>> import jax, jaxgmm
        >>> x = jaxgmm.datasets.load("galaxies")
        >>> prior = jaxgmm.default_prior(x, num_components=1)
        >>> fit = jaxgmm.fit(jaxgmm.initialize(jax.random.key(0), x, num_components=1), x, prior)
        >>> jaxgmm.gibbs(jax.random.key(1), fit.mixture, x, prior, num_samples=100).mixture.means.shape
        (4, 100, 1, 1)
    """
    check_sampling_options(key, num_samples, num_chains)
    inputs = validate_inputs(start, x, prior, sample_weight, name="start", prior_is="required", is_start=True)
    check_uncoupled_type(inputs.mixture.covariance_type, "gibbs")
    check_draws(inputs.mixture, num_samples, num_chains)
    _check_options(inputs, num_warmup, progress)
    traced = is_traced(key, inputs)
    mesh = None if traced else chain_mesh(inputs.x)
    inputs = pad_inputs(inputs, key)
    options = {"num_samples": num_samples, "num_chains": num_chains, "num_warmup": num_warmup, "mesh": mesh}
    with program_bar(1 + num_warmup + num_samples, " sweeps", False if traced or mesh else progress) as bar:
        posterior = _sample(key, inputs, bar, **options)
        if not traced:
            warn_if_unreliable(posterior)
    return posterior


def _check_options(inputs: Inputs, num_warmup: object, progress: object) -> None:
    """Raise an error if an option is invalid, or if Gibbs sampling does not support the prior or the weights.

    The prior's conditional distributions must have closed forms. Weights must be integers; traced weights are not checked.
    """
    check_count(num_warmup, "num_warmup", 0)
    check_progress(progress)
    check_closed_forms(inputs.prior, "gibbs")
    check_integer_weights(inputs.weight, "gibbs")


class _Draws(NamedTuple):
    """The records of all sweeps: the parameters at the beginning of each sweep, their log-likelihood, and the label counts.

    The leading axes are (C, S).
    """

    weights: jax.Array
    means: jax.Array
    root: jax.Array
    log_likelihood: jax.Array
    counts: jax.Array


@partial(jax.jit, static_argnames=("num_samples", "num_chains", "num_warmup", "mesh"))
def _sample(
    key: jax.Array,
    inputs: Inputs,
    bar: jax.Array | None,
    *,
    num_samples: int,
    num_chains: int,
    num_warmup: int,
    mesh: Mesh | None,
) -> Posterior:
    """Run the chains on validated inputs and return the posterior.

    bar: the number that identifies a progress bar for sweeps, or None. mesh: the devices that run the chains, or None.
    """
    start, x, weight, prior = inputs
    problem = standardise(x, weight, prior, start.covariance_type)
    start = to_standard(start, problem)
    chunk_size = gibbs_rows_per_chunk(start.num_components, start.num_features, problem.y.dtype, num_chains)
    keys = jnp.moveaxis(jax.random.split(key, (1 + num_warmup + num_samples, num_chains, 3)), 0, 1)
    found = over_chains(partial(_run_chains, chunk_size), mesh, (keys,), (problem, start, bar))
    draws = jax.tree.map(lambda leaf: leaf[:, 1 + num_warmup :], found)
    posterior = _collect(draws, problem, start, found.log_likelihood[:, 0].sum())
    stats = posterior.stats | {"num_warmup": jnp.array(num_warmup)}
    return in_dtype(dataclasses.replace(posterior, prior=prior, stats=stats), x.dtype)


def _run_chains(
    chunk_size: int, keys: jax.Array, problem: StandardizedProblem, start: Mixture, bar: jax.Array | None
) -> _Draws:
    """Return the records (C, number of sweeps, ...) of all sweeps of chains, given the keys (C, number of sweeps, 3)."""
    covariance_type, present = start.covariance_type, start.weights > 0
    data, (num_chains, num_sweeps) = LabelledData(problem.y, problem.weight), keys.shape[:2]

    def step(state: GibbsState, keys: jax.Array, share: jax.Array) -> tuple[GibbsState, _Draws]:
        sums, log_likelihood = sum_by_labels(keys[0], state, data, start.means, covariance_type, chunk_size)
        found = _Draws(jnp.exp(state.log_weights), state.means, state.factors.lower, log_likelihood, sums.count)
        part = ComponentSums(share * sums.count, sums.mean, share * sums.scatter)
        return draw_state(keys[1:], state, part, problem.prior, present, covariance_type), found

    def sweep(states: GibbsState, inputs: tuple[jax.Array, jax.Array]) -> tuple[GibbsState, _Draws]:
        index, keys = inputs
        advance(bar, index, num_sweeps)
        # The first sweep gives the data only a fraction of their weight, so that the first parameters are over-dispersed.
        share = jnp.where(index == 0, 1 / _OVERDISPERSION**2, 1).astype(problem.y.dtype)
        return jax.vmap(step, in_axes=(0, 0, None))(states, keys, share)

    states = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (num_chains, *leaf.shape)), gibbs_state(start))
    states, keys = vary_with((states, keys), problem, start, keys)
    _, found = jax.lax.scan(sweep, states, (jnp.arange(num_sweeps), jnp.moveaxis(keys, 1, 0)))
    return jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, 1), found)


def _collect(draws: _Draws, problem: StandardizedProblem, start: Mixture, start_value: jax.Array) -> Posterior:
    """Make a Posterior from draws (C, S, ...). The prior of the Posterior is in standardised coordinates.

    start: the standardised start. It defines the shapes, and which components are present. start_value: the log-likelihood of
    the start. It is not finite if the density of a row at the start is 0.
    """
    covariance_type, present = start.covariance_type, start.weights > 0
    covariances = covariance.from_factor(draws.root, covariance_type)
    mixture = Mixture(draws.weights, draws.means, covariances, covariance_type)
    log_likelihood = jnp.where(are_counts(problem.weight), draws.log_likelihood, jnp.nan)
    volume = log_volume_of_present(problem, covariance_type, present)
    log_density = log_likelihood + log_prior(mixture, problem.prior, present=present) + volume
    mixing = measure_mixing(label_invariant_draws(mixture, log_density))
    status = _judge(start_value, log_density, mixing)
    stats = {"counts": draws.counts, "rhat": mixing.rhat, "ess": mixing.ess}
    return Posterior(from_standard(mixture, problem), log_density, problem.prior, status, stats, "gibbs")


def _judge(start_value: jax.Array, log_density: jax.Array, mixing: Mixing) -> jax.Array:
    """Return, as an array (), the most severe PosteriorStatus that applies."""
    status = judge_mixing(mixing, *log_density.shape)
    finite = jnp.isfinite(log_density).all() & jnp.isfinite(start_value)
    return jnp.where(finite, status, PosteriorStatus.NONFINITE)
