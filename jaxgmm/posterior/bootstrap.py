"""bootstrap: the fit's own variability, by fitting again what might have been observed. Efron (1979), Ann. Stat. 7, 1-26.

Every replicate starts where the fit ended and keeps its labels, so that the draws spread around one optimum. They are no draws
from a posterior, whatever the container: no prior is averaged over, and their log density plays no part.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..chunking import replicates_per_batch
from ..density import log_prob, sample
from ..em.batch.fit_many import fit_many, has_spike
from ..em.result import Fit, Status
from ..inputs import check_sampling_options, validate_inputs
from ..mixture import Mixture
from ..priors.functions import log_prior
from ..priors.interface import MixturePrior
from ..validation import check_choice, is_traced, warn_at_caller
from .relabel import relabel
from .result import Posterior, PosteriorStatus

KINDS = ("nonparametric", "parametric", "weighted-likelihood")


def bootstrap(
    key: jax.Array,
    start: Mixture,
    x: Any,
    prior: MixturePrior | None = None,
    *,
    kind: str = "nonparametric",
    num_samples: int = 1000,
    num_chains: int = 1,
    sample_weight: Any = None,
    **options: Any,
) -> Posterior:
    """Fits of replicated data, aligned to the start.

    nonparametric: rows drawn with replacement (Efron 1979). parametric: data drawn from the start. weighted-likelihood: rows
    weighed by a Dirichlet(w), the smooth version, which never loses a row (Newton & Raftery 1994, JRSS B 56, 3-26).

    Args:
        key: a random key.
        start: the fit's mixture, where each replicate's EM begins; no empty component.
        x: (N, D).
        prior: that of the fit, for MAP; None for maximum likelihood.
        kind: one of the three.
        num_samples: S, replicates a chain.
        num_chains: C; replicates are independent, so chains only give the shape that other methods have.
        sample_weight: (N,) >= 0: an integer weight counts as repetition; a replicate has round(sum of weights) rows.
        **options: `fit_many`'s: tol, max_iter, reg_covar, accelerate, chunk_size, progress.

    Returns:
        A Posterior with mixture (C, S, ...); log_density is that of x itself at each replicate's parameters, nats (without a
        prior the log-likelihood). stats: fit_status, num_iter and spike (C, S), and those of `relabel`.

    Raises:
        ValueError, TypeError: start, data, prior or options that make no sense; traced values are not looked at.

    Warns:
        RuntimeWarning: eager only: replicates that did not converge, or that hold a spike.

    Example:
        >>> import jax, jaxgmm
        >>> x = jaxgmm.datasets.load("acidity")
        >>> fit = jaxgmm.fit(jaxgmm.initialize(jax.random.key(0), x, num_components=2), x)
        >>> draws = jaxgmm.bootstrap(jax.random.key(1), fit.mixture, x, num_samples=20, tol=1e-4)
        >>> draws.mixture.means.shape, bool(draws.mixture.means.std() > 0)
        ((1, 20, 2, 1), True)
    """
    check_choice(kind, "kind", KINDS)
    check_sampling_options(key, num_samples, num_chains)
    start, x, weight, prior = validate_inputs(start, x, prior, sample_weight, name="start", is_start=True)
    total = len(x) if weight is None or is_traced(weight) else round(float(weight.sum()))
    size = num_chains * num_samples
    batch = replicates_per_batch(total * (x.shape[1] if kind == "parametric" else 1))
    keys = jax.random.split(key, size)
    parts = [
        _fits(keys[lo : lo + batch], start, x, weight, prior, kind=kind, total=total, options=options)
        for lo in range(0, size, batch)
    ]
    fits = jax.tree.map(lambda *leaves: jnp.concatenate(leaves).reshape(num_chains, num_samples, *leaves[0].shape[1:]), *parts)
    log_density = _log_density(fits.mixture, x, weight, prior)
    stats = {
        "fit_status": fits.status,
        "num_iter": fits.num_iter,
        "spike": jnp.broadcast_to(has_spike(fits, jnp.asarray(total, x.dtype)), fits.status.shape),
    }
    if not is_traced(fits):
        _warn_of(stats)
    status = jnp.where(jnp.isfinite(log_density).all(), PosteriorStatus.OK, PosteriorStatus.NONFINITE)
    posterior = Posterior(fits.mixture, log_density, prior, status, stats, "bootstrap")
    return relabel(posterior, start, x, sample_weight=weight)


def _fits(
    keys: jax.Array, start: Mixture, x: jax.Array, weight: jax.Array | None, prior: Any, *, kind: str, total: int, options: dict
) -> Fit:
    starts = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (len(keys), *leaf.shape)), start)
    options = {"history": False} | options
    if kind == "parametric":
        return fit_many(starts, jax.vmap(lambda key: sample(key, start, total)[0])(keys), prior, **options)
    draw = _counts if kind == "nonparametric" else _dirichlet
    weights = draw(keys, jnp.ones(len(x), x.dtype) if weight is None else weight, total)
    return fit_many(starts, x, prior, sample_weight=weights, **options)


@partial(jax.jit, static_argnums=2)
def _counts(keys: jax.Array, weight: jax.Array, total: int) -> jax.Array:
    """How often each row is drawn (B, N), of `total` draws with probability proportional to weight (N,)."""
    cumulative = jnp.cumsum(weight)

    def one(key: jax.Array) -> jax.Array:
        uniform = jax.random.uniform(key, (total,), weight.dtype) * cumulative[-1]
        # a row's count: sorted numbers up to its end, less those up to its beginning; rows of weight 0 get none
        ends = jnp.searchsorted(jnp.sort(uniform), cumulative, side="left")
        ends = ends.at[-1].set(total)
        return jnp.diff(ends, prepend=0).astype(weight.dtype)

    return jnp.where(weight > 0, jax.vmap(one)(keys), 0)


@partial(jax.jit, static_argnums=2)
def _dirichlet(keys: jax.Array, weight: jax.Array, total: int) -> jax.Array:
    """total times Dirichlet(weight), (B, N): a row repeated w times has the sum of w exponential numbers."""
    shape = jnp.where(weight > 0, weight, 1)
    gammas = jax.vmap(lambda key: jax.random.gamma(key, shape, dtype=weight.dtype))(keys)
    gammas = jnp.where(weight > 0, gammas, 0)
    return gammas * (weight.sum() / gammas.sum(-1, keepdims=True))


def _log_density(mixture: Mixture, x: jax.Array, weight: jax.Array | None, prior: Any) -> jax.Array:
    """log p(x, theta) (C, S) of the data themselves."""
    if weight is not None:
        x = jnp.where((weight > 0)[:, None], x, x[jnp.argmax(weight > 0)])
    densities = log_prob(mixture, x)  # (C, S, N)
    log_likelihood = densities.sum(-1) if weight is None else jnp.where(weight > 0, weight * densities, 0).sum(-1)
    return log_likelihood if prior is None else log_likelihood + log_prior(mixture, prior)


def _warn_of(stats: dict[str, jax.Array]) -> None:
    unfinished, spikes = int((np.asarray(stats["fit_status"]) != Status.CONVERGED).sum()), int(np.asarray(stats["spike"]).sum())
    size = math.prod(stats["spike"].shape)
    if unfinished:
        warn_at_caller(f"{unfinished} of {size} replicates did not converge (stats: fit_status): raise max_iter or tol.")
    if spikes:
        warn_at_caller(
            f"{spikes} of {size} replicates hold a spike, a component on too few points or at the floor (stats: spike): leave them "
            "out, or fit with a prior or fewer components."
        )
