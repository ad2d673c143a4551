"""bootstrap: the variability of a fit, from fits to replicated data. Source: Efron (1979), Ann. Stat. 7, 1-26.

Every replicate starts where the fit ended and keeps its labels, so that the draws spread around one optimum. They are not draws
from a posterior, although they come in the same container: no prior is averaged over, and the log density has no part in them.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..chunking import replicates_per_batch
from ..density import log_prob, sample
from ..em.batch.fit_many import fit_many
from ..em.result import Fit, Status, has_degenerate_component, unsoundness
from ..inputs import check_sampling_options, validate_inputs
from ..mixture import Mixture
from ..priors.functions import log_prior
from ..priors.interface import MixturePrior
from ..row_sums import repeat_valid_row, weight_or_ones
from ..validation import check_choice, is_traced, warn_at_caller
from .relabel import relabel
from .result import Posterior, PosteriorStatus

SCHEMES = ("nonparametric", "parametric", "weighted-likelihood")


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
    """Fit replicates of the data, and relabel the fits by the start.

    nonparametric: rows are drawn with replacement (Efron 1979). parametric: data are drawn from the start.
    weighted-likelihood: rows are weighted by a Dirichlet(w) draw, a smooth version that never loses a row (Newton & Raftery
    1994, JRSS B 56, 3-26).

    Args:
        key: a random key.
        start: the mixture of a fit, where EM on each replicate starts; it must have no empty component.
        x: (N, D).
        prior: the prior of the fit, for MAP; None for maximum likelihood.
        kind: "nonparametric", "parametric" or "weighted-likelihood".
        num_samples: S, replicates per chain.
        num_chains: C. Replicates are independent, so that chains only give the shape that other methods have.
        sample_weight: (N,) >= 0: an integer weight counts as repetition; a replicate has round(sum of weights) rows.
        **options: of `fit_many`: tol, max_iter, reg_covar, accelerate, chunk_size, progress.

    Returns:
        A Posterior with mixture (C, S, ...). log_density is that of x itself at the parameters of each replicate, nats (without
        a prior the log-likelihood). stats: fit_status, num_iter and spike (C, S), which marks replicates with a degenerate
        component, and the statistics of `relabel`.

    Raises:
        ValueError: shapes do not match, a value is invalid or an option is unknown; traced values are not validated.
        TypeError: an argument has the wrong type.

    Warns:
        RuntimeWarning: outside jit: replicates did not converge, or have a degenerate component.

    Example:
        >>> import jax, jaxgmm
        >>> x = jaxgmm.datasets.load("acidity")
        >>> fit = jaxgmm.fit(jaxgmm.initialize(jax.random.key(0), x, num_components=2), x)
        >>> draws = jaxgmm.bootstrap(jax.random.key(1), fit.mixture, x, num_samples=20, tol=1e-4)
        >>> draws.mixture.means.shape, bool(draws.mixture.means.std() > 0)
        ((1, 20, 2, 1), True)
    """
    check_choice(kind, "kind", SCHEMES)
    check_sampling_options(key, num_samples, num_chains)
    start, x, weight, prior = validate_inputs(start, x, prior, sample_weight, name="start", is_start=True)
    total = len(x) if weight is None or is_traced(weight) else round(float(weight.sum()))
    data = _Data(x, weight, total)
    size = num_chains * num_samples
    batch = replicates_per_batch(total * (x.shape[1] if kind == "parametric" else 1))
    keys = jax.random.split(key, size)
    options = {"history": False} | options
    parts = [_fit_replicates(keys[i : i + batch], start, data, prior, kind, options) for i in range(0, size, batch)]
    fits = jax.tree.map(lambda *leaves: jnp.concatenate(leaves).reshape(num_chains, num_samples, *leaves[0].shape[1:]), *parts)
    log_density = _log_density(fits.mixture, data, prior)
    degenerate = has_degenerate_component(fits, jnp.asarray(total, x.dtype))
    stats = {
        "fit_status": fits.status,
        "num_iter": fits.num_iter,
        "spike": jnp.broadcast_to(degenerate, fits.status.shape),
    }
    if not is_traced(fits):
        _emit_warnings(stats)
    status = jnp.where(jnp.isfinite(log_density).all(), PosteriorStatus.OK, PosteriorStatus.NONFINITE)
    posterior = Posterior(fits.mixture, log_density, prior, status, stats, "bootstrap")
    return relabel(posterior, start, x, sample_weight=weight)


class _Data(NamedTuple):
    """Data (N, D), their weights (N,) or None, and the number of rows of a replicate."""

    x: jax.Array
    weight: jax.Array | None
    total: int


def _fit_replicates(
    keys: jax.Array, start: Mixture, data: _Data, prior: MixturePrior | None, scheme: str, options: dict[str, Any]
) -> Fit:
    """Return the fits of one replicate for each key."""
    starts = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (len(keys), *leaf.shape)), start)
    if scheme == "parametric":
        return fit_many(starts, jax.vmap(lambda key: sample(key, start, data.total)[0])(keys), prior, **options)
    draw = _multinomial_counts if scheme == "nonparametric" else _dirichlet_weights
    weights = draw(keys, weight_or_ones(data.weight, data.x.shape[:1], data.x.dtype), data.total)
    return fit_many(starts, data.x, prior, sample_weight=weights, **options)


@partial(jax.jit, static_argnums=2)
def _multinomial_counts(keys: jax.Array, weight: jax.Array, total: int) -> jax.Array:
    """Return how often each row is drawn (B, N) in `total` draws with probability proportional to weight (N,)."""
    cumulative = jnp.cumsum(weight)

    def one(key: jax.Array) -> jax.Array:
        uniform = jax.random.uniform(key, (total,), weight.dtype) * cumulative[-1]
        # a row's count is the number of sorted draws up to its cumulative weight, less those up to that of the row before
        ends = jnp.searchsorted(jnp.sort(uniform), cumulative, side="left")
        ends = ends.at[-1].set(total)
        return jnp.diff(ends, prepend=0).astype(weight.dtype)

    return jnp.where(weight > 0, jax.vmap(one)(keys), 0)


@partial(jax.jit, static_argnums=2)
def _dirichlet_weights(keys: jax.Array, weight: jax.Array, total: int) -> jax.Array:
    """Return draws (B, N) of Dirichlet(weight) times the sum of the weights.

    A row of integer weight w gets the sum of w exponential numbers, like w rows of weight 1.
    """
    shape = jnp.where(weight > 0, weight, 1)
    gammas = jax.vmap(lambda key: jax.random.gamma(key, shape, dtype=weight.dtype))(keys)
    gammas = jnp.where(weight > 0, gammas, 0)
    return gammas * (weight.sum() / gammas.sum(-1, keepdims=True))


def _log_density(mixture: Mixture, data: _Data, prior: MixturePrior | None) -> jax.Array:
    """Return log p(x, theta) (C, S) of the data themselves at the parameters of each replicate."""
    weight = data.weight
    densities = log_prob(mixture, repeat_valid_row(data.x, weight))  # (C, S, N)
    log_likelihood = densities.sum(-1) if weight is None else jnp.where(weight > 0, weight * densities, 0).sum(-1)
    return log_likelihood if prior is None else log_likelihood + log_prior(mixture, prior)


def _emit_warnings(stats: dict[str, jax.Array]) -> None:
    """Warn if replicates did not converge or have a degenerate component."""
    status, degenerate = np.asarray(stats["fit_status"]), int(np.asarray(stats["spike"]).sum())
    failed, size = int((unsoundness(status, False, True) > 0).sum()), status.size
    unfinished = int((status != Status.CONVERGED).sum()) - failed
    if failed:
        warn_at_caller(f"{failed} of {size} replicates failed (stats: fit_status): leave them out, or fit with a prior.")
    if unfinished:
        warn_at_caller(f"{unfinished} of {size} replicates did not converge (stats: fit_status): raise max_iter or tol.")
    if degenerate:
        warn_at_caller(
            f"{degenerate} of {size} replicates have a degenerate component, on too few points or held up by the regularisation"
            " (stats: spike): leave them out, or fit with a prior or fewer components."
        )
