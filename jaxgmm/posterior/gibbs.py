"""gibbs: draws from the posterior by data augmentation, labels and parameters in turn. Diebolt & Robert (1994).

One `lax.scan` over sweeps; a sweep is one pass over the data for all chains at once, and needs no gradient and no tuning.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import covariance
from ..chunking import gibbs_rows_per_chunk
from ..mixture import Mixture
from ..priors.families import HalfNormal, IndependentPrior, Prior, log_prior
from ..validation import check_count, check_flag, is_traced
from .conditionals import Groups, State, draw_state, group_rows, state_of
from .diagnostics import rhat_limit, split_rhat
from .result import Posterior, PosteriorStatus, in_dtype, validate_sampler_inputs, warn_if_unreliable
from .standardization import StandardizedProblem, from_standard, log_volume, standardise, to_standard

_OVERDISPERSION = 2.0  # of the chains' starts, in standard deviations of the parameters given the labels
_TICKS = 50  # of the progress bar


def gibbs(
    key: jax.Array,
    start: Mixture,
    x: Any,
    prior: Prior | IndependentPrior,
    *,
    num_samples: int = 1000,
    num_chains: int = 4,
    num_warmup: int = 200,
    sample_weight: Any = None,
    progress: bool = False,
) -> Posterior:
    """Draws from p(weights, means, covariances | x) by Gibbs sampling, chains started around an EM solution.

    In turn the label of each row given the parameters and the parameters given the labels, both exactly; the density is the one
    that `nuts` draws from. A sweep costs about one E-step, and nothing is tuned, so many chains side by side are cheap; where
    components overlap, draws follow each other slowly, and `nuts` may do better. Chains start from parameters drawn given the
    start's responsibilities, twice as widely; they carry its labelling until they switch: see `relabel` before summaries
    of single components.

    Args:
        key: a random key.
        start: one mixture with no empty component, as `fit(...).mixture`; under jit a component of weight 0 stays absent.
        x: (N, D).
        prior: a Prior, or an IndependentPrior with InverseWishart or InverseGamma scales: both have conditionals in closed form.
        num_samples: S, draws a chain.
        num_chains: C, run side by side.
        num_warmup: sweeps before.
        sample_weight: (N,) integers >= 0: a row counts that often, each time with a label of its own, so that a sweep costs as many
            passes as the largest; 0 silences a row, whatever it holds. A power of a mixture's density that is no integer has no
            labels to draw: fractions are refused (traced: NONFINITE), and `nuts` takes them.
        progress: a progress bar, eager only; compiles anew each time.

    Returns:
        A Posterior with mixture (C, S, ...) in data units and x's float dtype. stats: counts (C, S, K), how many rows were
        labelled k given each draw; rhat of the log density and of the sizes of components, num_warmup ().

    Raises:
        ValueError, TypeError: start, data, prior or options that make no sense, a half-normal prior; traced values are not
            looked at.

    Warns:
        RuntimeWarning: eager only: the status is not OK.

    Example:
        >>> import jax, jaxgmm
        >>> x = jaxgmm.datasets.load("galaxies")
        >>> prior = jaxgmm.default_prior(x, num_components=1)
        >>> fit = jaxgmm.fit(jaxgmm.initialize(jax.random.key(0), x, num_components=1), x, prior)
        >>> jaxgmm.gibbs(jax.random.key(1), fit.mixture, x, prior, num_samples=100).mixture.means.shape
        (4, 100, 1, 1)
    """
    start, x, weight, prior = validate_sampler_inputs(key, start, x, prior, sample_weight, num_samples, num_chains)
    _check_options(prior, weight, num_warmup, progress)
    traced = is_traced(key, start, x, weight, prior)
    options = {"num_samples": num_samples, "num_chains": num_chains, "num_warmup": num_warmup}
    if progress and not traced:
        with _bar(1 + num_warmup + num_samples) as bar:
            # a new bar is a new program: not to be kept
            posterior = _sample.__wrapped__(key, start, x, weight, prior, tick=bar.update, **options)
            jax.block_until_ready(posterior.status)
            jax.effects_barrier()
    else:
        posterior = _sample(key, start, x, weight, prior, tick=None, **options)
    if not traced:
        warn_if_unreliable(posterior)
    return posterior


def _check_options(prior: Prior | IndependentPrior, weight: jax.Array | None, num_warmup: Any, progress: Any) -> None:
    check_count(num_warmup, "num_warmup", 0)
    check_flag(progress, "progress")
    if isinstance(prior, IndependentPrior) and isinstance(prior.scale, HalfNormal):
        raise TypeError(
            "prior.scale is HalfNormal, under which covariances have no conditional to draw from in closed form; for "
            "gibbs use InverseWishart or InverseGamma, or sample with nuts."
        )
    if weight is not None and not is_traced(weight):
        values = np.asarray(weight)
        if (values != np.floor(values)).any():
            raise ValueError(
                f"sample_weight has {values[values != np.floor(values)][0]:.4g}; integers were expected, for gibbs draws a label "
                "each time that a row counts: round them, or sample with nuts, which takes fractions."
            )


def _bar(total: int) -> Any:
    from tqdm import tqdm

    return tqdm(total=total, desc="gibbs", unit="sweep")


@partial(jax.jit, static_argnames=("num_samples", "num_chains", "num_warmup", "tick"))
def _sample(
    key: jax.Array,
    start: Mixture,
    x: jax.Array,
    weight: jax.Array | None,
    prior: Prior | IndependentPrior,
    *,
    num_samples: int,
    num_chains: int,
    num_warmup: int,
    tick: Callable | None,
) -> Posterior:
    kind, present = start.covariance_type, start.weights > 0
    problem = standardise(x, weight, prior, kind)
    home = to_standard(start, problem)
    chunk = gibbs_rows_per_chunk(start.num_components, start.num_features, problem.y.dtype, num_chains)
    steps = 1 + num_warmup + num_samples

    def step(state: State, keys: jax.Array, share: jax.Array) -> tuple[State, tuple]:
        groups, log_likelihood = group_rows(keys[0], state, problem.y, problem.weight, home.means, kind, chunk)
        wide = Groups(share * groups.count, groups.mean, share * groups.scatter)
        found = (jnp.exp(state.log_weights), state.means, state.factors.lower, log_likelihood, groups.count)
        return draw_state(keys[1:], state, wide, problem.prior, present, kind), found

    def sweep(states: State, now: tuple[jax.Array, jax.Array]) -> tuple[State, tuple]:
        index, keys = now
        if tick is not None:
            _tick(tick, index, steps)
        # the first sweep leaves the start; a share of the data's weight makes its draws wider
        share = jnp.where(index == 0, 1 / _OVERDISPERSION**2, 1).astype(problem.y.dtype)
        return jax.vmap(step, in_axes=(0, 0, None))(states, keys, share)

    states = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (num_chains, *leaf.shape)), state_of(home))
    _, found = jax.lax.scan(sweep, states, (jnp.arange(steps), jax.random.split(key, (steps, num_chains, 3))))
    value = found[3][0].sum()  # of the start, not finite if it has no density
    draws = jax.tree.map(lambda leaf: jnp.moveaxis(leaf[1 + num_warmup :], 0, 1), found)
    posterior = _collect(draws, problem, prior, present, kind, value, num_warmup)
    return in_dtype(posterior, x.dtype)


def _collect(
    draws: tuple,
    problem: StandardizedProblem,
    prior: Prior | IndependentPrior,
    present: jax.Array,
    kind: str,
    start_value: jax.Array,
    num_warmup: int,
) -> Posterior:
    """A Posterior of draws (C, S, ...): weights, means, roots of covariances, log-likelihoods, counts."""
    weights, means, root, log_likelihood, counts = draws
    mixture = Mixture(weights, means, covariance.from_factor(root, kind), kind)
    log_likelihood = jnp.where(_countable(problem.weight), log_likelihood, jnp.nan)
    log_density = log_likelihood + log_prior(mixture, problem.prior, present=present) + _volume(problem, kind, present)
    sizes = [(weights**2).sum(-1)] if weights.shape[-1] > 1 else []
    rhat = split_rhat(jnp.stack([log_density, *sizes])).max()
    stats = {"counts": counts, "rhat": rhat, "num_warmup": jnp.array(num_warmup)}
    status = _judge(start_value, log_density, rhat)
    return Posterior(from_standard(mixture, problem), log_density, prior, status, stats, "gibbs")


def _tick(tick: Callable, index: jax.Array, steps: int) -> None:
    every = -(-steps // _TICKS)
    done = jnp.where(index == steps - 1, steps - index // every * every, every)
    jax.lax.cond(
        ((index + 1) % every == 0) | (index == steps - 1),
        lambda: jax.debug.callback(lambda n: tick(int(n)), done),
        lambda: None,
    )


def _countable(weight: jax.Array | None) -> jax.Array | bool:
    """Weights can be numbers of labels."""
    return True if weight is None else ((weight == jnp.floor(weight)) & (weight >= 0)).all()


def _volume(problem: StandardizedProblem, covariance_type: str, present: jax.Array) -> jax.Array:
    """`log_volume` of the components that are there: it is linear in their number."""
    one, two = (log_volume(problem, covariance_type, k) for k in (1, 2))
    return one + (present.sum() - 1) * (two - one)


def _judge(start_value: jax.Array, log_density: jax.Array, rhat: jax.Array) -> jax.Array:
    """The gravest finding."""
    status = jnp.where(rhat < rhat_limit(log_density.shape[1]), PosteriorStatus.OK, PosteriorStatus.UNMIXED)
    finite = jnp.isfinite(log_density).all() & jnp.isfinite(start_value)
    return jnp.where(finite, status, PosteriorStatus.NONFINITE)
