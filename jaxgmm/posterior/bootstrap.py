"""bootstrap: the variability of a fit, from fits to replicated data. Source: Efron (1979), Ann. Stat. 7, 1-26.

Every replicate starts where the fit ended and keeps its labels, so that the draws spread around one optimum. They are not draws
from a posterior, although they come in the same container: no prior is averaged over, and the log density has no part in them.
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
from ..em.batch.fit_many import fit_many
from ..em.batch.restarts import has_degenerate_component
from ..em.result import Fit, Status
from ..mixture import Mixture
from ..priors.families import IndependentPrior, Prior, log_prior
from ..validation import check_choice, is_traced, warn_at_caller
from .relabel import relabel
from .result import Posterior, PosteriorStatus, validate_sampler_inputs

SCHEMES = ("nonparametric", "parametric", "weighted-likelihood")


def bootstrap(
    key: jax.Array,
    start: Mixture,
    x: Any,
    prior: Prior | IndependentPrior | None = None,
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
    start, x, weight, prior = validate_sampler_inputs(
        key, start, x, prior, sample_weight, num_samples, num_chains, any_prior=prior is None
    )
    total = len(x) if weight is None or is_traced(weight) else round(float(weight.sum()))
    size = num_chains * num_samples
    batch = replicates_per_batch(total * (x.shape[1] if kind == "parametric" else 1))
    keys = jax.random.split(key, size)
    fit_options = {"history": False} | options
    parts = []
    for begin in range(0, size, batch):
        data, weights = _replicates(keys[begin : begin + batch], kind, start, (x, weight), total)
        starts = jax.tree.map(lambda leaf, n=len(keys[begin : begin + batch]): jnp.broadcast_to(leaf, (n, *leaf.shape)), start)
        parts.append(fit_many(starts, data, prior, sample_weight=weights, **fit_options))
    return _aligned(parts, start, (x, weight), prior, (num_chains, num_samples, total))
