"""The E-step computes expected sufficient statistics of data under a mixture. Statistics of disjoint data can be added.

With z_nk = L_k^-1 (x_n - mu_k), responsibilities r_nk and weights w_n:

    count_k = sum_n w r,   first_k = sum_n w r z,   second_k = sum_n w r z z',   log_likelihood = sum_n w log p(x_n)

The coordinate system of z depends only on the mixture, so moments of chunks, streams, shards and batches can be added. Moments
divided by the count are of order one, so float32 is accurate enough. Source: Bishop (2006), section 9.2.2; for the M-step, see
eq. 9.24 to 9.26.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from .. import covariance
from ..calls import public
from ..cells import look, number, numbers
from ..devices.host import cast
from ..incomplete.checks import as_observed_data, check_match
from ..incomplete.observations import Data, Observations
from ..mixture import Mixture, MixtureLike, as_mixture
from ..padding import pad_data
from ..rounding import positive_factors
from ..row_sums import Weight
from ..tables import Printed, Table, elided
from ..validation import as_data, as_sample_weight, check_count
from .incomplete_sums import Blocks, IncompleteRows, as_blocks, incomplete_sums
from .kernels import Rows, moment_sums


@partial(jax.tree_util.register_dataclass, data_fields=["count", "first", "second", "log_likelihood"], meta_fields=[])
@dataclass(frozen=True, eq=False, repr=False)
class Moments(Printed):
    """Sums over data in the whitened coordinates of one mixture. Use `+` to add the moments of disjoint data.

    Attributes:
        count: (K,), sums of weight times responsibility.
        first: (K, D), first moments; they have no unit because the coordinates are whitened.
        second: second moments, (K, D, D) for full and tied; for diag and spherical, only their diagonals, (K, D).
        log_likelihood: (), the weighted log-likelihood of the data, nats.

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
        """Return the moments of two data sets combined; both must be computed under the same mixture."""
        return jax.tree.map(jnp.add, self, other)

    def carried(self, old: Mixture, new: Mixture) -> Moments:
        """Return these moments, which are in the whitened coordinates of `old`, in those of `new`.

        With A = L_new^-1 L_old and b = L_new^-1 (mu_old - mu_new), exactly:

            first' = A first + count b,    second' = A second A' + A first b' + b (A first)' + count b b'

        Stochastic EM needs this: moments under different mixtures can be averaged only in the same coordinates.
        Responsibilities and log_likelihood remain those under `old`.

        Args:
            old: the Mixture under which the moments were computed.
            new: a Mixture with the same numbers of components and features and the same covariance type.

        Returns:
            Moments in the coordinates of `new`.

        Raises:
            ValueError: the two mixtures differ in shape or covariance type.

        Example:
            >>> import jaxgmm, numpy as np
            >>> old, new = (jaxgmm.make_mixture([1.0], [[mean]], [[[4.0]]]) for mean in (0.0, 2.0))
            >>> jaxgmm.e_step(old, np.array([[4.0]])).carried(old, new).first.tolist()
            [[1.0]]
        """
        if (old.means.shape, old.covariance_type) != (new.means.shape, new.covariance_type):
            raise ValueError(
                f"old has means {old.means.shape} and covariance_type {old.covariance_type!r}, new has means {new.means.shape} "
                f"and {new.covariance_type!r}; two mixtures of one form were expected."
            )
        return carried(self, old, positive_factors(old), new, positive_factors(new))

    def _tables(self) -> list[Table]:
        """Return the table that `repr` shows. It contains the first and second moments, divided by the counts."""
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


def carried(
    moments: Moments, old: Mixture, factors: covariance.Factors, new: Mixture, new_factors: covariance.Factors
) -> Moments:
    """Return moments in the whitened coordinates of `new`, given those of `old` and the factors of both."""
    name = old.covariance_type
    change = covariance.compose(new_factors.whitener, factors.lower, name)
    shift = covariance.transform(new_factors.whitener, old.means - new.means, name)
    first = covariance.transform(change, moments.first, name)
    second = covariance.transform_scatter(change, moments.second, name) + covariance.symmetric_outer(first, shift, name)
    second += covariance.expand(moments.count, name) * covariance.outer(shift, name)
    first += moments.count[..., None] * shift
    return Moments(moments.count, first, second, moments.log_likelihood)


@public
def e_step(
    mixture: MixtureLike, x: ArrayLike | Observations, *, sample_weight: ArrayLike | None = None, chunk_size: int | None = None
) -> Moments:
    """Return the expected sufficient statistics of data under a mixture. Bishop (2006), eq. 9.23, 9.27, 9.28.

    Args:
        mixture: one Mixture or one Fit; for several mixtures, use `jax.vmap`.
        x: (N, D), or `observations`. The first and second moments of missing or noisy values are their expectations given the
            observed values of the row.
        sample_weight: (N,) >= 0, or None. A row of integer weight w counts as w copies of the row. A row of weight 0 is
            ignored, whatever values it holds.
        chunk_size: the number of rows that are processed at a time; by default as many as fit into the cache of a CPU, or into
            256 MiB of an accelerator's memory.

    Returns:
        Moments in the whitened coordinates of the mixture. The variances of singular covariances are raised as in `log_prob`.
        If the squares of a row overflow for every component, log_likelihood is -inf, and the row does not contribute to the
        other sums.

    Raises:
        ValueError, TypeError: an argument has the wrong shape or type, or values that are not finite.

    Example:
        >>> import jaxgmm, numpy as np
        >>> mixture = jaxgmm.make_mixture([1.0], [[0.0]], [[[4.0]]])
        >>> float(jaxgmm.e_step(mixture, np.array([[2.0], [4.0]])).first[0, 0])
        3.0
    """
    given = as_mixture(mixture, single=True)
    if chunk_size is not None:
        check_count(chunk_size, "chunk_size")
    weight = None
    if isinstance(x, Observations):
        x, weight = as_observed_data(x, sample_weight, given.num_features)
        check_match(x, given.num_components, given.covariance_type)
    else:
        x = as_data(x, num_features=given.num_features)
        weight = as_sample_weight(sample_weight, len(x), x.dtype)
    dtype = jnp.result_type(x.dtype, given.means.dtype)
    given = jax.tree.map(lambda leaf: leaf.astype(dtype), given)
    if isinstance(x, Observations):
        rows = x.astype(dtype)
        blocks = as_blocks(rows, weight, given.num_components)
        padded = pad_data(rows, weight, given) if blocks is None else (blocks, None)
        return e_step_of_rows(given, *padded, chunk_size)
    x = cast(x, dtype)
    return e_step_of_rows(given, *pad_data(x, weight, given), chunk_size)


@partial(jax.jit, static_argnums=3)
def e_step_of_rows(given: Mixture, x: Data | Blocks, weight: Weight, chunk_size: int | None = None) -> Moments:
    """Return the expected sufficient statistics of validated data, or of observations without weights, under a mixture."""
    # a centre near the data keeps the products small; without rounding, every centre would give the same result
    center = covariance.einsum("k,kd->d", given.weights, given.means)
    centered = dataclasses.replace(given, means=given.means - center[None])
    if isinstance(x, Observations | Blocks):
        return Moments(*incomplete_sums(centered, positive_factors(given), IncompleteRows(x, weight, center), chunk_size))
    return Moments(*moment_sums(centered, positive_factors(given), Rows(x, weight, center), chunk_size))
