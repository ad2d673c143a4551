"""The waist of the hourglass: what data say of a mixture (E-step), and the mixture that this makes (M-step).

With z_nk = L_k^-1 (x_n - mu_k), responsibilities r_nk and weights w_n:

    count_k = sum_n w r,   first_k = sum_n w r z,   second_k = sum_n w r z z',   log_likelihood = sum_n w log p(x_n)

The coordinates are fixed by the mixture alone, so moments of chunks, streams, shards and batches add; and numbers stay
of order one, so float32 survives. Bishop (2006), section 9.2.2; M-step eq. 9.24 to 9.26.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import covariance
from ..mixture import Mixture, check_mixture
from ..tables import Printed, Table, elided, look, number, numbers
from ..validation import as_data, as_sample_weight, check_count
from .kernels import Rows, moment_sums


@partial(jax.tree_util.register_dataclass, data_fields=["count", "first", "second", "log_likelihood"], meta_fields=[])
@dataclass(frozen=True, eq=False, repr=False)
class Moments(Printed):
    """Sums over data in the whitened coordinates of one mixture; add those of disjoint data with `+`.

    Attributes:
        count: (K,), in units of weight.
        first: (K, D), whitened: free of units.
        second: (K, D, D) for full and tied; its diagonal (K, D) for diag and spherical.
        log_likelihood: (), nats.

    Example:
        >>> import jaxgmm, numpy as np
        >>> mixture, x = jaxgmm.make_mixture([1.0], [[0.0]], [[[4.0]]]), np.array([[2.0], [4.0], [6.0]])
        >>> moments = jaxgmm.e_step(mixture, x[:1]) + jaxgmm.e_step(mixture, x[1:])
        >>> moments.count.tolist(), jaxgmm.m_step(mixture, moments).means.tolist()
        ([3.0], [[4.0]])
    """

    count: jax.Array
    first: jax.Array
    second: jax.Array
    log_likelihood: jax.Array

    def __add__(self, other: Moments) -> Moments:
        return jax.tree.map(jnp.add, self, other)

    def _tables(self) -> list[Table]:
        *batch, k, d = self.first.shape
        title = f"Moments, K={k} components, D={d} features, {self.first.dtype}"
        if batch:
            return [Table(f"{title}, stacked {tuple(batch)}")]
        count, first, second = look(self.count), look(self.first), look(self.second)
        if count is None or first is None or second is None:
            return [Table(f"{title}, traced")]
        square = second if second.ndim == 2 else second.diagonal(axis1=-2, axis2=-1)  # (K, D)
        safe = np.where(count > 0, count, 1)[:, None]
        rows = [
            ["..."] * 4 if i is None else [str(i), number(count[i]), numbers(first[i] / safe[i]), numbers(square[i] / safe[i])]
            for i in elided(k)
        ]
        title += f": total weight {number(count.sum(dtype=float))}, log-likelihood {float(self.log_likelihood):.4f} nats"
        note = "in standard deviations of each component: 0 and 1 where EM has settled"
        return [Table(title, ("k", "count", "first / count", "second / count"), rows, [note])]


def e_step(mixture: Mixture, x: Any, *, sample_weight: Any = None, chunk_size: int | None = None) -> Moments:
    """Expected sufficient statistics of data under a mixture. Bishop (2006), eq. 9.23, 9.27, 9.28.

    Args:
        mixture: one mixture; vmap for several.
        x: (N, D).
        sample_weight: (N,) >= 0: an integer weight counts as repetition, 0 silences a row, whatever it holds.
        chunk_size: rows worked through at a time; by default what fits a CPU's cache, or 256 MiB of an accelerator's memory.

    Returns:
        Moments in the mixture's whitened coordinates. Where a row's squares overflow for every component, log_likelihood is
        -inf and the row counts nowhere.

    Raises:
        ValueError, TypeError: wrong shapes or kinds of data.

    Example:
        >>> import jaxgmm, numpy as np
        >>> mixture = jaxgmm.make_mixture([1.0], [[0.0]], [[[4.0]]])
        >>> float(jaxgmm.e_step(mixture, np.array([[2.0], [4.0]])).first[0, 0])
        3.0
    """
    check_mixture(mixture)
    x = as_data(x, num_features=mixture.num_features)
    weight = as_sample_weight(sample_weight, len(x), x.dtype)
    if chunk_size is not None:
        check_count(chunk_size, "chunk_size")
    dtype = jnp.result_type(x.dtype, mixture.means.dtype)
    mixture, x = jax.tree.map(lambda leaf: leaf.astype(dtype), mixture), x.astype(dtype)
    # a centre near the data keeps the products small; any would do in exact arithmetic
    shift = covariance.einsum("k,kd->d", mixture.weights, mixture.means)
    shifted = dataclasses.replace(mixture, means=mixture.means - shift)
    factors = covariance.factorize(mixture.covariances, mixture.covariance_type, mixture.num_features)
    return Moments(*moment_sums(shifted, factors, Rows(x, weight, shift), chunk_size))
