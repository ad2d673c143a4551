"""Validate a mixture, data, weights and a prior together. All functions that take several of these use this module."""

from __future__ import annotations

from functools import partial
from typing import Any, Generic, Literal, NamedTuple, TypeVar, cast, overload

import jax
import numpy as np
from jax.typing import DTypeLike
from numpy.typing import ArrayLike

from . import covariance
from .incomplete.checks import as_observed_data, check_match
from .incomplete.observations import Observations
from .linalg import is_positive_definite
from .memory import check_memory, tree_bytes
from .mixture import Mixture, MixtureLike, as_mixture
from .padding import pad_data
from .priors.interface import check_prior
from .row_sums import Weight
from .validation import as_weighted_data, check_count, check_key, is_traced, warn_of_small_weights

Rows = TypeVar("Rows")


class Inputs(NamedTuple, Generic[Rows]):
    """Valid inputs in the float type of the data: a mixture, x (N, D), the weights of the rows, and the prior or None."""

    mixture: Mixture
    x: Rows
    weight: Weight
    prior: Any


@overload
def validate_inputs(
    mixture: MixtureLike,
    x: ArrayLike,
    prior: Any,
    sample_weight: ArrayLike | None,
    *,
    name: str = ...,
    prior_is: Literal["required", "optional", "unchecked"] = ...,
    is_start: bool = ...,
) -> Inputs[jax.Array]: ...
@overload
def validate_inputs(
    mixture: MixtureLike,
    x: ArrayLike | Observations,
    prior: Any,
    sample_weight: ArrayLike | None,
    *,
    name: str = ...,
    prior_is: Literal["required", "optional", "unchecked"] = ...,
    is_start: bool = ...,
) -> Inputs[Any]: ...
def validate_inputs(
    mixture: MixtureLike,
    x: ArrayLike | Observations,
    prior: Any,
    sample_weight: ArrayLike | None,
    *,
    name: str = "mixture",
    prior_is: Literal["required", "optional", "unchecked"] = "optional",
    is_start: bool = False,
) -> Inputs[Any]:
    """Return all inputs in the float type of the data; raise ValueError or TypeError if they are invalid or do not match.

    Args:
        mixture: one Mixture, or one Fit.
        x: (N, D) with N >= 1, or observations.
        prior: the prior of the parameters of the mixture, or None.
        sample_weight: (N,) >= 0, or None.
        name: the name of the mixture in error messages.
        prior_is: with "optional", the prior may be None; with "required", it may not; with "unchecked", it is not checked.
        is_start: whether the mixture is the start of a sampler. A start that is not traced is then checked by `check_start`.
    """
    mixture = as_mixture(mixture, name, single=True)
    rows, weight = as_rows(x, sample_weight, num_features=mixture.num_features)
    check_match(rows, mixture.num_components, mixture.covariance_type)
    warn_of_small_weights(weight)
    if len(rows) == 0:
        raise ValueError(f"x has shape {rows.shape}: no rows; at least one was expected.")
    if prior_is == "required" and prior is None:
        raise TypeError(
            "prior is None; a posterior needs a proper prior, as from jaxgmm.default_prior(x, num_components="
            f"{mixture.num_components})."
        )
    if prior_is != "unchecked" and prior is not None:
        check_prior(prior, mixture.num_components, mixture.num_features, mixture.covariance_type)
    if is_start and not is_traced(mixture):
        check_start(mixture)
    cast = partial(jax.tree.map, partial(as_dtype, dtype=rows.dtype))
    return Inputs(cast(mixture), rows, weight, prior if prior_is == "unchecked" else cast(prior))


def as_rows(
    x: ArrayLike | Observations, sample_weight: ArrayLike | None, *, check_values: bool = True, num_features: int | None = None
) -> tuple[Any, jax.Array | None]:
    """Return data (N, D), or observations without weights, and the weights (N,) or None; raise if they are invalid."""
    if isinstance(x, Observations):
        return as_observed_data(x, sample_weight, num_features)
    return as_weighted_data(x, sample_weight, check_values=check_values, num_features=num_features)


def pad_inputs(inputs: Inputs[Rows], *others: object) -> Inputs[Rows]:
    """Return inputs whose data are padded as by `pad_data`; `others` are the other arguments of the compiled function."""
    return inputs._replace(**pad_data(inputs.x, inputs.weight, inputs, *others)._asdict())


def check_sampling_options(key: object, num_samples: object, num_chains: object) -> None:
    """Raise TypeError or ValueError unless `key` is a random key and the other arguments are positive integers."""
    check_key(key)
    check_count(num_samples, "num_samples")
    check_count(num_chains, "num_chains")


def check_draws(mixture: Mixture, num_samples: int, num_chains: int) -> None:
    """Raise ValueError if the memory cannot hold `num_samples` draws of a mixture for each of `num_chains` chains."""
    what = f"num_samples={num_samples} in {num_chains} chain{'s' * (num_chains > 1)}"
    check_memory(float(num_samples) * num_chains * tree_bytes(mixture), what)


def shapes_of_mixture(num_components: int, x: jax.Array | Observations, covariance_type: str) -> Mixture:
    """Return a mixture that holds no arrays, but their shapes and the dtype of the data x (N, D)."""
    d = x.shape[1]
    shapes = ((num_components,), (num_components, d), covariance.storage_shape(covariance_type, num_components, d))
    weights, means, covariances = (jax.ShapeDtypeStruct(shape, x.dtype) for shape in shapes)
    return Mixture(cast(Any, weights), cast(Any, means), cast(Any, covariances), covariance_type)


def check_start(start: Mixture) -> None:
    """Raise ValueError if a concrete start is not finite, has empty components or is singular.

    The result of a failed fit can have these defects.
    """
    start = jax.tree.map(np.asarray, start)  # checks on the host need no compilation
    if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(start)):
        raise ValueError(
            "start holds NaN or infinity: the fit that it came from failed; look at its status, and start from "
            "one that converged."
        )
    weights = start.weights
    if (weights <= 0).any():
        empty = ", ".join(map(str, np.flatnonzero(weights <= 0)))
        raise ValueError(
            f"start has an empty component (weight 0): {empty}; every component must have a positive weight to be "
            "sampled: use fewer components, or another start."
        )
    dense = covariance.is_dense(start.covariance_type)
    if not (is_positive_definite(start.covariances) if dense else (start.covariances > 0).all()):
        raise ValueError(
            "start has a covariance that is not positive definite: the fit that it came from failed, or x has "
            "collinear columns; start from a fit under the same prior, or under jaxgmm.default_prior if fit does not take it."
        )


def as_dtype(leaf: ArrayLike, dtype: DTypeLike) -> jax.Array | np.ndarray:
    """Return a leaf of a pytree as an array of the given dtype that jit accepts; a JAX array stays on its device."""
    if isinstance(leaf, jax.Array):
        return leaf if leaf.dtype == dtype else leaf.astype(dtype)
    return np.asarray(leaf, dtype)
