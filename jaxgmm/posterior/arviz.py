"""to_arviz: convert a posterior to ArviZ's format, with the log-likelihood of every observation for PSIS-LOO.

Only this module imports arviz, and only when `to_arviz` is called. ArviZ is an optional dependency: install jaxgmm[arviz].
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from ..calls import public
from ..chunking import draws_per_batch
from ..data_frames import check_names, column_names
from ..density import log_prob
from ..incomplete.checks import check_match
from ..incomplete.observations import Data, Observations
from ..inputs import as_rows
from ..mixture import Mixture
from ..padding import pad_data
from ..sampling import sample_from_stack
from ..validation import check_seed, is_traced, warn_at_caller
from .pointwise import has_own_likelihood, own_pointwise
from .result import Posterior, check_one_posterior

_MOST_PREDICTED = 1 << 28  # largest size of the group posterior_predictive, in bytes
# Each key is the name of a statistic (C, S) in Posterior.stats. Its value is ArviZ's name for the same statistic.
_STATS = {
    "diverging": "diverging",
    "energy": "energy",
    "num_steps": "n_steps",
    "tree_depth": "tree_depth",
    "accept_prob": "acceptance_rate",
    "relabel_margin": "relabel_margin",
}


@public
def to_arviz(
    posterior: Posterior,
    x: ArrayLike | Observations,
    *,
    sample_weight: ArrayLike | None = None,
    feature_names: Sequence[str] | None = None,
    seed: int = 0,
) -> Any:
    """Convert the draws to ArviZ's InferenceData (ArviZ 0.2x) or xarray's DataTree (ArviZ 1.x), with pointwise log-likelihoods.

    The result has up to five groups. The group posterior holds weights, means and covariances, with dimensions component and
    feature, whose coordinates are the numbers of the components and the names of the features. The groups log_likelihood,
    observed_data and posterior_predictive each hold a variable x, with dimension observation. The group posterior_predictive
    holds a data set of N points from each draw, and is left out if it would need more than 256 MiB. The group sample_stats
    holds lp (the log density) and, if the method reports them, diverging, energy and other statistics. Call `relabel` before
    you summarise single components. Log-likelihoods, and therefore `arviz.loo`, are label-invariant. The result needs memory
    for all C x S x N log-likelihoods.

    The package arviz-base alone is enough; the result is then a DataTree.

    The draws may come from your own model, with a likelihood that is not the density of the drawn mixtures. In this case, the
    log-likelihoods are those of your model. `nuts` stores them in `posterior.stats`, unless there are too many. If they were
    not stored, or are not those of single rows, the group log_likelihood is left out and a warning is issued.

    Args:
        posterior: draws (C, S, ...), not traced.
        x: (N, D), the data, or `observations`. The log-likelihoods are then those of the observed values, NaN stands for
            missing values, and the group posterior_predictive is left out, because missing values have no prediction to check.
        sample_weight: (N,) whole numbers >= 0. A row of weight w becomes w observations, each of which can be left out. A row
            of weight 0 is ignored, whatever values it holds.
        feature_names: D names of the features; None: the names of the columns of x if it is a data frame.
        seed: seed for the points of the group posterior_predictive.

    Returns:
        An InferenceData or a DataTree.

    Warns:
        RuntimeWarning: the group log_likelihood is left out.

    Raises:
        ImportError: neither arviz nor arviz-base is installed.
        TypeError, ValueError: the posterior or the data are invalid or do not match, or weights are not whole numbers.

    Example:
        >>> import arviz  # doctest: +SKIP
        >>> arviz.loo(jaxgmm.to_arviz(posterior, x))  # doctest: +SKIP
    """
    arviz, takes_groups = _import_arviz()
    names = column_names(x) if feature_names is None else feature_names
    check_seed(seed)
    data, weight, rows = _check(posterior, x, sample_weight)
    names = check_names(names, posterior.mixture.num_features)
    log_likelihood, mixture = _log_likelihood(posterior, data, weight, rows), posterior.mixture
    x = _values(data)[rows]
    stats = {"lp": np.asarray(posterior.log_density)}
    stats |= {name: np.asarray(posterior.stats[ours]) for ours, name in _STATS.items() if ours in posterior.stats}
    variables, dims = _variables(mixture)
    coords = {"component": list(range(mixture.num_components)), "feature": names, "other_feature": names}
    groups = {"posterior": variables, "sample_stats": stats, "observed_data": {"x": x}}
    if posterior.log_density.size * x.size * x.itemsize <= _MOST_PREDICTED and not isinstance(data, Observations):
        groups["posterior_predictive"] = {"x": np.asarray(_predict(jax.random.key(seed), mixture, len(x)))}
    if log_likelihood is not None:
        groups["log_likelihood"] = {"x": log_likelihood}
    dims["x"] = ["observation"]
    if takes_groups:
        return arviz.from_dict(groups, dims=dims, coords=coords)
    return arviz.from_dict(**groups, dims=dims, coords=coords)


def _import_arviz() -> tuple[Any, bool]:
    """Return the module arviz or arviz_base, and whether its `from_dict` takes one dict of all groups (from version 1.0 on)."""
    # If ArviZ is not installed, type checkers would resolve `import arviz` to this module, which has the same name.
    for name in ("arviz", "arviz_base"):
        try:
            arviz = importlib.import_module(name)
        except ImportError:
            continue
        return arviz, name == "arviz_base" or int(getattr(arviz, "__version__", "0").partition(".")[0]) >= 1
    raise ImportError("to_arviz needs ArviZ or arviz-base, optional dependencies: pip install 'jaxgmm[arviz]'.")


@partial(jax.jit, static_argnums=2)
def _predict(key: jax.Array, mixture: Mixture, num_points: int) -> jax.Array:
    """Return a data set (C, S, N, D) of N points from each draw."""
    shape = mixture.batch_shape
    draws = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), mixture)
    index = jnp.repeat(jnp.arange(len(draws.means)), num_points)
    return sample_from_stack(jax.random.split(key), draws, index)[0].reshape(*shape, num_points, -1)


def _check(
    posterior: Posterior, x: ArrayLike | Observations, sample_weight: ArrayLike | None
) -> tuple[Data, jax.Array | None, np.ndarray]:
    """Return the data, the weights (or None), and the row index of each observation. Raise an error if an input is invalid."""
    if is_traced(posterior, x, sample_weight):
        raise TypeError("to_arviz works on the host: call it outside jit and vmap.")
    check_one_posterior(posterior)
    rows, weight = as_rows(x, sample_weight, num_features=posterior.mixture.num_features)
    check_match(rows, posterior.mixture.num_components, posterior.mixture.covariance_type)
    if weight is None:
        return rows, weight, np.arange(len(rows))
    repeats = np.asarray(weight)
    if (repeats != np.round(repeats)).any():
        raise ValueError(
            f"sample_weight holds {repeats[repeats != np.round(repeats)][0]:g}; whole numbers were expected, because "
            "leave-one-out counts observations: round the weights."
        )
    return rows, weight, np.repeat(np.arange(len(rows)), repeats.astype(int))


def _values(x: Data) -> np.ndarray:
    """Return data on the host, (N, D), with NaN in place of missing values."""
    if not isinstance(x, Observations):
        return np.asarray(x)
    return np.where(np.asarray(x.mask()), np.asarray(x.x), np.nan).astype(x.dtype)


def _log_likelihood(posterior: Posterior, x: Data, weight: jax.Array | None, rows: np.ndarray) -> np.ndarray | None:
    """Return the log-likelihoods (C, S, O) of O observations. The argument `rows` holds the row index of each observation.

    If the log-likelihoods are not known, issue a warning and return None.
    """
    if isinstance(x, Observations):
        x = x.with_own_noise()
        return np.asarray(_pointwise(posterior.mixture, pad_data(x, None).x))[..., rows]
    if not has_own_likelihood(posterior, x, weight):
        return np.asarray(_pointwise(posterior.mixture, pad_data(np.asarray(x)[rows], None).x))[..., : len(rows)]
    own = own_pointwise(posterior, np.ones(len(x)) if weight is None else np.asarray(weight, float))
    if own is not None:
        return own[..., rows]
    warn_at_caller(
        "the likelihood of the model that was sampled is not the density of the drawn mixtures, and its values for single rows "
        "are not stored (stats: pointwise_log_likelihood), so the group log_likelihood is left out; compute it from your model "
        "by numpyro.infer.log_likelihood."
    )
    return None


@jax.jit
def _pointwise(mixture: Mixture, x: Data) -> jax.Array:
    """Return log p(x_n) under each draw, (C, S, N)."""
    shape = mixture.batch_shape
    draws = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), mixture)
    batch = draws_per_batch(len(x) * mixture.num_components * mixture.num_features, len(draws.means))
    return jax.lax.map(lambda draw: log_prob(draw, x), draws, batch_size=batch).reshape(*shape, -1)


def _variables(mixture: Mixture) -> tuple[dict[str, np.ndarray], dict[str, list[str]]]:
    """Return weights, means and covariances by name, and the names of their axes.

    Some axes of the covariances have length 1, because all components or features share the values. These axes are removed.
    """
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
