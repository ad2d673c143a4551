"""Define and validate `Mixture`, which holds the parameters of a Gaussian mixture or of a stack of Gaussian mixtures.

    p(x) = sum_k w_k N(x | mu_k, Sigma_k)                                        Bishop (2006), eq. 9.7

Shape comments, docstrings and einsum strings use the same letters everywhere in jaxgmm:

    N observations    D features    K components    B data sets    C chains    S draws
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from types import EllipsisType
from typing import TYPE_CHECKING, Protocol, TypeAlias

import jax
import numpy as np
from numpy.typing import ArrayLike

from . import covariance
from .calls import public
from .cells import MAX_SIZE, REACH, look, numbers, reach
from .covariance import types as covariance_types
from .covariance.types import as_covariance_type
from .data_frames import mixture_frame
from .mixture_checks import check_covariances, check_shapes, check_shared, check_weights
from .tables import Printed, Table, elided
from .validation import as_float_array, is_traced

if TYPE_CHECKING:
    import pandas

Index: TypeAlias = "int | np.integer | slice | EllipsisType | np.ndarray | jax.Array | tuple[Index, ...] | None"


@partial(jax.tree_util.register_dataclass, data_fields=["weights", "means", "covariances"], meta_fields=["covariance_type"])
@dataclass(frozen=True, eq=False, repr=False)
class Mixture(Printed):
    """A Gaussian mixture with K components in D dimensions, or a stack of such mixtures with leading axes.

    A fit returns one mixture. A vmapped fit to B data sets returns a stack with a leading axis (B,), and a posterior holds a
    stack with leading axes (C, S). A Mixture is a pytree, so `jax.tree.map`, jit, vmap and grad can be applied to it. The class
    does not validate its fields, so that they can be tracers or gradients; use `make_mixture` for validation.

    The covariances have one of fourteen types. Each covariance is Sigma_k = lambda_k D_k A_k D_k' with a volume lambda_k, a
    shape A_k (a diagonal matrix with determinant 1) and an orientation D_k (an orthogonal matrix). The code of a type has one
    letter for each of these: E if it is equal for all components, V if it varies, I for spheres and for the axes of the data.
    The types VVV, EEE, VVI and VII are called full, tied, diag and spherical. EM, `select`, `bootstrap` and `standard_errors`
    take all types, and so do `nuts`, `laplace` and `smc`. `gibbs`, `telescope` and `log_evidence` take only these four, EII and
    EEI. Source: Celeux & Govaert (1995), Pattern Recognition 28, 781-793.

    Attributes:
        weights: (..., K), non-negative, summing to one. A weight of exactly 0 means that the component is absent.
        means: (..., K, D), in the units of the data.
        covariances: in data units squared. Matrices for full (..., K, D, D) and tied (..., 1, D, D), variances for diag
            (..., K, D) and spherical (..., K, 1). The other types are stored like diag (VEI, EVI), like full (VEE, EVE, VVE,
            EEV, VEV, EVV), or with one covariance: EEI (..., 1, D) and EII (..., 1, 1).
        covariance_type: "full", "tied", "diag", "spherical", "EII", "EEI", "VEI", "EVI", "VEE", "EVE", "VVE", "EEV", "VEV" or
            "EVV".

    Example:
        >>> import jax, jaxgmm
        >>> mixture = jaxgmm.make_mixture([0.5, 0.5], [[0.0], [5.0]], [[[1.0]], [[1.0]]])
        >>> stack = jax.tree.map(lambda leaf: leaf[None].repeat(3, 0), mixture)
        >>> stack.batch_shape, stack.num_components, stack[0].means.shape
        ((3,), 2, (2, 1))
    """

    weights: jax.Array
    means: jax.Array
    covariances: jax.Array
    covariance_type: str = field(default="full", metadata={"static": True})

    @property
    def num_components(self) -> int:
        """The number of components K."""
        return self.means.shape[-2]

    @property
    def num_features(self) -> int:
        """The number of features D."""
        return self.means.shape[-1]

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """The leading axes: () for one mixture, (B,) for a batch, (C, S) for a posterior."""
        return self.means.shape[:-2]

    def __getitem__(self, index: Index) -> Mixture:
        """Return one member of a stack, or a smaller stack; the index applies to the leading axes."""
        if not self.batch_shape:
            raise IndexError("this is one mixture, not a stack of them; only the leading axes of a stack can be indexed.")
        return jax.tree.map(lambda leaf: leaf[index], self)

    def to_dataframe(self, feature_names: Sequence[str] | None = None) -> pandas.DataFrame:
        """Return the parameters as a pandas data frame with one row for each component. A stack has such rows for each mixture.

        Args:
            feature_names: D names for the columns; None: "feature 0" and so on.
        """
        return mixture_frame(self, feature_names)

    def _tables(self) -> list[Table]:
        """Return the table that `repr` shows."""
        return [mixture_table(self)]


def mixture_title(mixture: Mixture) -> str:
    """Return one line with the covariance type, sizes and dtype of a mixture."""
    *batch, k, d = mixture.means.shape
    stacked = f", stacked {tuple(batch)}" if batch else ""
    return f"Mixture {mixture.covariance_type}, K={k} components, D={d} features, {mixture.means.dtype}{stacked}"


def mixture_table(mixture: Mixture) -> Table:
    """Return a table with the components of one mixture, or with the ranges of values in a stack.

    For a traced mixture, the table has only a title.
    """
    title, k = mixture_title(mixture), mixture.num_components
    weights, means, sds = look(mixture.weights), look(mixture.means), standard_deviations(mixture)
    if weights is None or means is None or sds is None:
        return Table(title)
    if mixture.batch_shape:
        fields = {"weight": weights, "mean": means, "sd": sds}
        return Table(title, ("", *REACH), [[name, *reach(values)] for name, values in fields.items()], left=(0,))
    rows = [
        ["..."] * 4 if i is None else [str(i), f"{float(weights[i]):.4f}", numbers(means[i]), numbers(sds[i])]
        for i in elided(k)
    ]
    return Table(title, ("k", "weight", "mean", "sd"), rows)


def standard_deviations(mixture: Mixture) -> np.ndarray | None:
    """Return the standard deviations (..., K, D) for a printed table, without compilation.

    Return None if the mixture is traced, or if there are too many numbers to print.
    """
    covariances = look(mixture.covariances)
    if covariances is None:
        return None
    variances = covariance.variances(covariances, mixture.covariance_type, mixture.num_features)
    return None if mixture.means.size > MAX_SIZE else np.broadcast_to(np.sqrt(variances), mixture.means.shape)


@public
def num_parameters(mixture: MixtureLike) -> int:
    """Return the number of free parameters: K - 1 weights, K D means and the free covariance entries.

    The parameters of absent components (weight 0) are counted; `jaxgmm.bic` counts only those of present components.

    Args:
        mixture: a Mixture or a Fit. For a stack, the number of parameters of one member is returned.

    Returns:
        A Python integer.

    Raises:
        TypeError: `mixture` is neither a Mixture nor a Fit.

    Example:
        >>> import jaxgmm, numpy as np
        >>> jaxgmm.num_parameters(jaxgmm.make_mixture([0.5, 0.5], np.zeros((2, 2)), np.stack([np.eye(2)] * 2)))
        11
    """
    mixture = as_mixture(mixture)
    k, d = mixture.num_components, mixture.num_features
    return k - 1 + k * d + covariance_types.num_free(mixture.covariance_type, k, d)


@public
def make_mixture(weights: ArrayLike, means: ArrayLike, covariances: ArrayLike, *, covariance_type: str = "full") -> Mixture:
    """Make a Mixture from array-likes, after validation.

    Args:
        weights: (..., K), non-negative, summing to one (within 1e-6 in float64, 1e-4 in float32).
        means: (..., K, D), in the units of the data.
        covariances: matrices for full (..., K, D, D) and tied (..., 1, D, D), variances (not standard deviations) for diag
            (..., K, D) and spherical (..., K, 1), in data units squared; other types as in `Mixture`.
        covariance_type: "full", "tied", "diag", "spherical", or one of the fourteen codes of `Mixture`.

    Returns:
        A Mixture in the float dtype of `means` (JAX's default float type if `means` holds integers). The weights are divided by
        their sum.

    Raises:
        ValueError, TypeError: arrays have the wrong shape or hold NaN, weights are negative or do not sum to one, or
            covariances are not symmetric and positive definite, or do not share what the covariance type says. The values of
            traced arrays are not checked.

    Example:
        >>> import jaxgmm
        >>> jaxgmm.make_mixture([0.3, 0.7], [[0.0], [5.0]], [[1.0], [4.0]], covariance_type="diag")
        Mixture diag, K=2 components, D=1 features, float32
          k  weight  mean   sd
          0  0.3000   [0]  [1]
          1  0.7000   [5]  [2]
    """
    covariance_type = as_covariance_type(covariance_type)
    means = as_float_array(means, "means", check_values=True)
    weights = as_float_array(weights, "weights", check_values=True).astype(means.dtype)
    covariances = as_float_array(covariances, "covariances", check_values=True).astype(means.dtype)
    check_shapes(weights, means, covariances, covariance_type)
    if is_traced(weights, means, covariances):
        return Mixture(weights, means, covariances, covariance_type)
    check_weights(np.asarray(weights))
    check_covariances(np.asarray(covariances, float), covariance_type)
    if (np.asarray(weights) > 0).all():  # absent components share nothing
        check_shared(np.asarray(covariances, float), covariance_type)
    return Mixture(weights / weights.sum(-1, keepdims=True), means, covariances, covariance_type)


class HasMixture(Protocol):
    """An object with a field `mixture`, such as a Fit."""

    @property
    def mixture(self) -> Mixture:
        """The mixture."""
        ...


MixtureLike = Mixture | HasMixture


def as_mixture(value: object, name: str = "mixture", *, single: bool = False) -> Mixture:
    """Return a mixture, or the mixture of a Fit. Raise TypeError if the value is neither of the two.

    Args:
        value: a Mixture, or an object with a field `mixture`, such as a Fit.
        name: the name of the value in error messages.
        single: whether exactly one mixture is expected; if True, raise ValueError for a stack of mixtures.
    """
    mixture = value if isinstance(value, Mixture) else getattr(value, "mixture", None)
    if not isinstance(mixture, Mixture):
        raise TypeError(
            f"{name} is {type(value).__name__}; a jaxgmm.Mixture or a Fit was expected, as from jaxgmm.make_mixture, "
            "jaxgmm.initialize or jaxgmm.fit: is the order of arguments right?"
        )
    if single and mixture.batch_shape:
        first = f"{name}{'' if mixture is value else '.mixture'}[{', '.join('0' * len(mixture.batch_shape))}]"
        raise ValueError(
            f"{name} is a stack of shape {mixture.batch_shape}; one mixture was expected: take one, as {first}, or use "
            "jax.vmap for all of them."
        )
    return mixture
