"""Define `Observations`: data with missing values, measurement noise and partly known labels.

Row n observes the values y_n = R_n x_n + e_n. R_n picks the observed features of x_n, and e_n ~ N(0, S_n) is the noise. The
likelihood of a row is then sum_k w_k N(y_n | R_n mu_k, R_n Sigma_k R_n' + S_n), where k runs over the allowed components.
Sources: Ghahramani & Jordan (1994); Bovy, Hogg & Roweis (2011), eq. 16 to 20; Little & Rubin (2002), chapter 11.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from numpy.typing import ArrayLike

from ..calls import OptIn, public
from ..cells import look
from ..devices.host import cast
from ..tables import Printed, Table
from ..validation import as_sample_weight, check_choice, check_static, is_traced, warn_at_caller
from .values import as_labels, as_limits, as_noise, observed_values, warn_of_unseen_pairs

METHODS = ("patterns", "rows")
# the fields with one entry for each row, apart from the weights
BY_ROW = ("x", "observed", "noise", "allowed", "lower", "upper")


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["x", "weight", "observed", "noise", "allowed", "lower", "upper"],
    meta_fields=["method"],
)
@dataclass(frozen=True, eq=False, repr=False)
class Observations(Printed, OptIn):
    """Data with missing or censored values, measurement noise and partly known labels. Use `observations` to make them.

    Attributes:
        x: (N, D), with zeros in place of missing values.
        weight: (N,), or None for weights of 1. Rows without observed values have weight 0.
        observed: (N, D), whether each value is observed; None if all are.
        noise: variances (N, D) or covariances (N, D, D) of the noise; the first axis has length 1 if all rows have the same
            noise. None if there is no noise.
        allowed: labels (N,), with -1 for unknown, or (N, K), whether each component is allowed; None if all are.
        lower: (N, D), lower limits of censored values, -inf where there is none; None if no value is censored.
        upper: (N, D), upper limits, inf where there is none; None if no value is censored.
        method: how the E-step works, "patterns" or "rows"; None if the functions choose.

    Example:
        >>> import jaxgmm, numpy as np
        >>> jaxgmm.observations(np.array([[1.0, np.nan], [2.0, 3.0]]))
        Observations, N=2 rows, D=2 features: 1 value is missing
    """

    x: jax.Array
    weight: jax.Array | None = None
    observed: jax.Array | None = None
    noise: jax.Array | None = None
    allowed: jax.Array | None = None
    lower: jax.Array | None = None
    upper: jax.Array | None = None
    method: str | None = field(default=None, metadata={"static": True})

    def __len__(self) -> int:
        """Return the number of rows N."""
        return self.x.shape[-2]

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the data, (N, D)."""
        return self.x.shape

    @property
    def dtype(self) -> np.dtype:
        """The float type of the data."""
        return self.x.dtype

    @property
    def ndim(self) -> int:
        """The number of axes of the data."""
        return self.x.ndim

    @property
    def is_plain(self) -> bool:
        """Whether the rows are complete, without noise and without labels."""
        return self.observed is None and self.noise is None and self.allowed is None and self.lower is None

    @property
    def shares_noise(self) -> bool:
        """Whether all rows have the same noise."""
        return self.noise is not None and self.noise.shape[0] == 1

    def mask(self) -> jax.Array:
        """Return whether each value is observed, (N, D)."""
        return jnp.ones(self.x.shape, bool) if self.observed is None else self.observed

    def map_rows(self, function: Callable[[Any], Any]) -> Observations:
        """Return the observations after function(array) was applied to each array with one entry for each row."""
        fields = {name: getattr(self, name) for name in (*BY_ROW, "weight")}
        if self.shares_noise:
            del fields["noise"]
        return dataclasses.replace(self, **{name: function(leaf) for name, leaf in fields.items() if leaf is not None})

    def with_own_noise(self) -> Observations:
        """Return the observations with one entry of the noise for each row."""
        if self.noise is None or not self.shares_noise:
            return self
        broadcast = np.broadcast_to if isinstance(self.noise, np.ndarray) else jnp.broadcast_to
        return dataclasses.replace(self, noise=broadcast(self.noise, (len(self), *self.noise.shape[1:])))

    def astype(self, dtype: DTypeLike) -> Observations:
        """Return the observations in another float type."""
        floats = {name: getattr(self, name) for name in ("x", "noise", "weight", "lower", "upper")}
        return dataclasses.replace(self, **{name: cast(leaf, dtype) for name, leaf in floats.items() if leaf is not None})

    def _tables(self) -> list[Table]:
        """Return the table that `repr` shows."""
        n, d = self.x.shape[-2:]
        parts, observed, allowed = [], look(self.observed), look(self.allowed)
        if observed is not None:
            count = int((~observed).sum())
            parts.append(f"{count} value{' is' if count == 1 else 's are'} missing")
        if self.noise is not None:
            parts.append("with noise")
        lower, upper = look(self.lower), look(self.upper)
        if lower is not None and upper is not None:
            parts.append(f"{int((np.isfinite(lower) | np.isfinite(upper)).sum())} of them between limits")
        if allowed is not None:
            known = int((allowed >= 0).sum() if allowed.ndim == 1 else (~allowed).any(-1).sum())
            parts.append(f"{known} row{' has' if known == 1 else 's have'} a label")
        return [Table(f"Observations, N={n} rows, D={d} features: {', '.join(parts) or 'complete'}")]


Data: TypeAlias = "jax.Array | Observations"


@public
def observations(
    x: ArrayLike,
    *,
    sample_weight: ArrayLike | None = None,
    missing: ArrayLike | None = None,
    noise: ArrayLike | None = None,
    labels: ArrayLike | None = None,
    limits: tuple[ArrayLike | None, ArrayLike | None] | None = None,
    method: str | None = None,
) -> Observations:
    """Make data with missing or censored values, measurement noise or partly known labels, for `fit` and other functions.

    Row n observes y_n = R_n x_n + e_n with e_n ~ N(0, S_n), where R_n picks the observed features. Its likelihood is sum_k w_k
    N(y_n | R_n mu_k, R_n Sigma_k R_n' + S_n), over the components k that its label allows. Values must be missing at random:
    whether a value is missing may depend on the observed values of its row, but not on the missing value itself. Sources:
    Little & Rubin (2002); Bovy, Hogg & Roweis (2011).

    Args:
        x: (N, D). NaN, or an empty cell of a data frame, marks a missing value.
        sample_weight: (N,) >= 0, or None. Rows of weight 0 are ignored, whatever values they hold.
        missing: (N, D) booleans, True for values of x that count as missing; None: only NaN does.
        noise: the variances of the noise, (D,) for all rows or (N, D), or its covariances, (D, D) for all rows or (N, D, D).
        labels: (N,) integers, the component of each row, or -1 if it is unknown; or (N, K) booleans, the components that are
            allowed.
        limits: (lower, upper), each of a shape that broadcasts to (N, D), or None; the limits between which missing values are
            known to lie, such as the detection limits of an instrument. NaN and infinity mean no limit. The limits apply to the
            values without noise. With full and tied covariances, one value of a row may have limits; with diag and spherical
            covariances, any number may.
        method: "patterns" groups the rows by their missing values, "rows" treats each row alone. None chooses the faster one.
            Inside jit and vmap, and if rows have their own noise or limits, only "rows" is possible.

    Returns:
        Observations. Rows without observed values have weight 0.

    Raises:
        ValueError, TypeError: shapes do not match, x or the noise is infinite, a noise covariance is not positive semidefinite,
            or a label is invalid. The values of traced arguments are not checked.

    Warns:
        RuntimeWarning: outside jit, if a row has no observed value, or two columns are never observed in the same row.

    Example:
        >>> import jaxgmm, numpy as np
        >>> data = jaxgmm.observations(np.array([[1.0, np.nan], [2.0, 3.0], [4.0, 5.0]]), noise=[0.1, 0.1])
        >>> one = jaxgmm.make_mixture([1.0], [[0.0, 0.0]], [np.eye(2)])
        >>> jaxgmm.log_prob(one, data).shape
        (3,)
    """
    check_static(method, "method")
    if method is not None:
        check_choice(method, "method", METHODS)
    weights = None if sample_weight is None or is_traced(sample_weight) else np.asarray(sample_weight)
    kept = None if weights is None or weights.ndim != 1 or weights.dtype.kind not in "fiu" else weights > 0
    values, observed = observed_values(x, missing, kept)
    weight = as_sample_weight(sample_weight, len(values), values.dtype, check_values=True)
    noise = as_noise(noise, observed, values.dtype)
    allowed = as_labels(labels, len(values), kept)
    lower, upper = as_limits(limits, observed, values.dtype)
    if is_traced(observed, weight, allowed, lower):
        return Observations(values, weight, jnp.asarray(observed), noise, allowed, lower, upper, method)
    observed, kept = np.asarray(observed), np.ones(len(values), bool) if kept is None else kept
    if kept.any():
        columns = getattr(x, "columns", range(values.shape[1]))
        warn_of_unseen_pairs(observed[kept], list(columns))
    known = observed if lower is None or upper is None else observed | np.isfinite(lower) | np.isfinite(upper)
    weight = _without_empty_rows(weight, known, allowed, kept)
    complete = (observed | ~kept[:, None]).all()
    return Observations(values, weight, None if complete else jax.device_put(observed), noise, allowed, lower, upper, method)


def _without_empty_rows(
    weight: jax.Array | None, observed: np.ndarray, allowed: jax.Array | None, kept: np.ndarray
) -> jax.Array | None:
    """Return weights that are 0 for rows with neither a value (or limit) nor a label, and warn if there are such rows."""
    informative = observed.any(1)
    if allowed is not None:
        labels = np.asarray(allowed)
        informative |= (labels >= 0) if labels.ndim == 1 else ~labels.all(1)
    empty = kept & ~informative
    if not empty.any():
        return weight
    if not (kept & informative).any():
        raise ValueError("x has no observed value; at least one was expected.")
    rows = (
        "1 row in which nothing is observed, which is"
        if empty.sum() == 1
        else f"{empty.sum()} rows in which nothing is observed, which are"
    )
    warn_at_caller(f"x has {rows} ignored and not counted: leave such rows out.")
    ones = np.ones(len(observed)) if weight is None else np.asarray(weight)
    return jax.device_put(np.where(empty, 0, ones).astype(jax.dtypes.canonicalize_dtype(ones.dtype)))
