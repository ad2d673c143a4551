"""to_arviz: a posterior as ArviZ takes it, with the log-likelihood of every observation, so that PSIS-LOO works.

The only file that imports arviz, when called: an extra, jaxgmm[arviz].
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from ..chunking import draws_per_batch
from ..density import log_prob
from ..mixture import Mixture
from ..validation import as_weighted_data, is_traced
from .result import Posterior, check_one_posterior

# stats of draws (C, S), by the names that ArviZ knows
_STATS = {
    "diverging": "diverging",
    "energy": "energy",
    "num_steps": "n_steps",
    "tree_depth": "tree_depth",
    "accept_prob": "acceptance_rate",
    "relabel_margin": "relabel_margin",
}


def to_arviz(posterior: Posterior, x: Any, *, sample_weight: Any = None) -> Any:
    """The draws as ArviZ's InferenceData (0.2x) or xarray's DataTree (ArviZ 1.x), with pointwise log-likelihoods.

    Groups: posterior (weights, means, covariances with dimensions component and feature), log_likelihood and observed_data
    (x, dimension observation), sample_stats (lp = log density, diverging, energy, ... as far as the method has them). Relabel
    first for summaries of components; log-likelihoods, and so `arviz.loo`, are the same in any labelling. (C, S, N) numbers.

    Args:
        posterior: draws (C, S, ...), not traced.
        x: (N, D), the data.
        sample_weight: (N,) whole numbers >= 0: a row of weight w is w observations, as leaving one out counts them; 0 leaves
            a row away, whatever it holds.

    Returns:
        An InferenceData or a DataTree.

    Raises:
        ImportError: arviz is not installed.
        TypeError, ValueError: posterior or data do not fit, or weights are no whole numbers.

    Example:
        >>> import arviz  # doctest: +SKIP
        >>> arviz.loo(jaxgmm.to_arviz(posterior, x))  # doctest: +SKIP
    """
    try:
        import arviz
    except ImportError as error:
        raise ImportError("to_arviz needs ArviZ, an extra: pip install 'jaxgmm[arviz]'.") from error
    x, mixture = _check(posterior, x, sample_weight)
    log_likelihood = np.asarray(_pointwise(mixture, x))
    stats = {"lp": np.asarray(posterior.log_density)}
    stats |= {name: np.asarray(posterior.stats[ours]) for ours, name in _STATS.items() if ours in posterior.stats}
    variables, dims = _variables(mixture)
    groups = {
        "posterior": variables,
        "sample_stats": stats,
        "log_likelihood": {"x": log_likelihood},
        "observed_data": {"x": np.asarray(x)},
    }
    dims["x"] = ["observation"]
    if int(arviz.__version__.partition(".")[0]) >= 1:
        return arviz.from_dict(groups, dims=dims)
    return arviz.from_dict(**groups, dims=dims)


def _check(posterior: Any, x: Any, sample_weight: Any) -> tuple[jax.Array, Mixture]:
    """The rows that count, each as often as it does, and the draws."""
    if is_traced(posterior, x, sample_weight):
        raise TypeError("to_arviz works on the host: call it outside jit and vmap.")
    check_one_posterior(posterior)
    mixture = posterior.mixture
    x, weight = as_weighted_data(x, sample_weight, num_features=mixture.num_features)
    if weight is None:
        return x, mixture
    repeats = np.asarray(weight)
    if (repeats != np.round(repeats)).any():
        raise ValueError(
            f"sample_weight holds {repeats[repeats != np.round(repeats)][0]:g}; whole numbers were expected, for leaving one "
            "out counts observations."
        )
    return x[np.repeat(np.arange(len(x)), repeats.astype(int))], mixture


@jax.jit
def _pointwise(mixture: Mixture, x: jax.Array) -> jax.Array:
    """log p(x_n) under each draw, (C, S, N)."""
    shape = mixture.batch_shape
    draws = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), mixture)
    batch = draws_per_batch(len(x) * mixture.num_components * mixture.num_features, len(draws.means))
    return jax.lax.map(lambda draw: log_prob(draw, x), draws, batch_size=batch).reshape(*shape, -1)


def _variables(mixture: Mixture) -> tuple[dict[str, np.ndarray], dict[str, list[str]]]:
    """Weights, means, covariances, and names of their axes; an axis that is shared (tied, spherical) is dropped."""
    k, d = mixture.num_components, mixture.num_features
    covariances = np.asarray(mixture.covariances)
    names = ["component", "feature", "other_feature"][: covariances.ndim - 2]
    pooled = [axis + 2 for axis, full in enumerate([k, d, d][: len(names)]) if covariances.shape[axis + 2] < full]
    kept = [name for axis, name in enumerate(names) if axis + 2 not in pooled]
    variables = {
        "weights": np.asarray(mixture.weights),
        "means": np.asarray(mixture.means),
        "covariances": covariances.squeeze(tuple(pooled)),
    }
    return variables, {"weights": ["component"], "means": ["component", "feature"], "covariances": kept}
