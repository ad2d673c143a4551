"""The log-likelihood of each row under each draw, for models whose likelihood is not the density of the drawn mixtures.

The likelihood of a user's NumPyro model may differ from the density of the mixture with its weights, means and covariances. An
example is a mixture of regressions. Leave-one-out then needs the likelihood of that model. `nuts` stores it for each row and
draw, unless this takes too much memory. The limit is defined in `chunking`.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from ..density import log_prob
from ..incomplete.observations import Data, Observations
from ..mixture import Mixture
from ..padding import pad_data
from ..row_sums import Weight, repeat_valid_row, weight_or_ones
from .result import Posterior

_COMPARED = 8  # number of draws at which the model's likelihood is compared with the density of the drawn mixtures


def has_own_likelihood(posterior: Posterior, x: Data, weight: jax.Array | None) -> bool:
    """Return whether the log-likelihood of the sampled model differs from the log density of the drawn mixtures.

    Args:
        posterior: draws (C, S, ...), not traced.
        x: (N, D), the data, or observations, which a user's model never has.
        weight: (N,), or None.
    """
    if isinstance(x, Observations) or posterior.prior is not None or "log_likelihood" not in posterior.stats:
        return False
    size = posterior.log_density.size
    chosen = np.unique(np.linspace(0, size - 1, _COMPARED).round().astype(int))
    draws = jax.tree.map(lambda leaf: np.asarray(leaf).reshape(size, *leaf.shape[2:])[chosen], posterior.mixture)
    own = np.asarray(posterior.stats["log_likelihood"], float).reshape(size)[chosen]
    plain, absolute = (np.asarray(value, float) for value in _totals(draws, *pad_data(x, weight)))
    return not (abs(own - plain) <= _tolerance(x, absolute)).all()


def own_pointwise(posterior: Posterior, weight: np.ndarray) -> np.ndarray | None:
    """Return the log-likelihood (C, S, N) of each row under the sampled model, in nats.

    A row of weight w counts once, not w times. Return None if the log-likelihoods of the rows were not stored. Return None also
    if their sum differs from the log-likelihood of the model, because then a part of the model's log-likelihood does not belong
    to single rows.

    Args:
        posterior: draws (C, S, ...) of a user's model.
        weight: (N,), the number of copies of each row. Rows of weight 0 get 0.
    """
    stored = posterior.stats.get("pointwise_log_likelihood")
    if stored is None or stored.shape[-1] != len(weight):
        return None
    rows = np.where(weight > 0, np.asarray(stored, float), 0)
    total = np.asarray(posterior.stats["log_likelihood"], float)
    if not (abs(rows.sum(-1) - total) <= _tolerance(stored, abs(rows).sum(-1))).all():
        return None
    return rows / np.where(weight > 0, weight, 1)


def _tolerance(like: jax.Array, size: np.ndarray) -> np.ndarray:
    """Return the largest difference that rounding can cause between two sums of the same terms; `size` is sum |term|."""
    return 1e-3 + 64 * float(np.finfo(like.dtype).eps) * size


@jax.jit
def _totals(draws: Mixture, x: jax.Array, weight: Weight) -> tuple[jax.Array, jax.Array]:
    """Return the weighted log-likelihood of the data under each of M mixtures, (M,), and a bound of its absolute value, (M,).

    The log-likelihood is a sum over the rows. The bound is the sum of the absolute values of the same terms.
    """
    terms = log_prob(draws, repeat_valid_row(x, weight))
    terms = weight_or_ones(weight, x.shape[:1], x.dtype) * terms
    return terms.sum(-1), jnp.abs(terms).sum(-1)
