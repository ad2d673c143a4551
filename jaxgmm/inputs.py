"""Validation of a mixture together with data, weights and a prior, shared by every function that takes several of them."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import numpy as np

from . import covariance
from .mixture import Mixture, as_mixture
from .priors.interface import check_prior
from .validation import (
    as_weighted_data,
    check_count,
    check_key,
    is_positive_definite,
    is_traced,
    warn_of_small_weights,
)


class Inputs(NamedTuple):
    """Valid inputs in the data's float type: a mixture, x (N, D), weight (N,) or None, and the prior or None."""

    mixture: Mixture
    x: jax.Array
    weight: jax.Array | None
    prior: Any


def validate_inputs(
    mixture: Any,
    x: Any,
    prior: Any,
    sample_weight: Any,
    *,
    name: str = "mixture",
    prior_is: Literal["required", "optional", "unchecked"] = "optional",
    is_start: bool = False,
) -> Inputs:
    """Return one mixture, data, weights and prior that fit together, in the data's float type; raise if they do not.

    Args:
        mixture: one Mixture, or one Fit.
        x: (N, D) with N >= 1.
        prior: for the parameters of the mixture.
        sample_weight: (N,) >= 0, or None.
        name: what messages call the mixture.
        prior_is: "unchecked" for a prior of the user's own model, which is returned as it is; "required" refuses None.
        is_start: if True, the mixture must have a posterior density where it is concrete: see `check_start`.
    """
    mixture = as_mixture(mixture, name, single=True)
    x, weight = as_weighted_data(x, sample_weight, num_features=mixture.num_features)
    warn_of_small_weights(weight)
    if len(x) == 0:
        raise ValueError(f"x has shape {x.shape}: no rows; at least one was expected.")
    if prior_is == "required" and prior is None:
        raise TypeError(
            "prior is None; a posterior needs a proper prior, as from jaxgmm.default_prior(x, num_components="
            f"{mixture.num_components})."
        )
    if prior_is != "unchecked" and prior is not None:
        check_prior(prior, mixture.num_components, mixture.num_features, mixture.covariance_type)
    if is_start and not is_traced(mixture):
        check_start(mixture)
    cast = partial(jax.tree.map, partial(as_dtype, dtype=x.dtype))
    return Inputs(cast(mixture), x, weight, prior if prior_is == "unchecked" else cast(prior))


def check_sampling_options(key: Any, num_samples: Any, num_chains: Any) -> None:
    """Raise if the options that all samplers share are not a random key and two positive integers."""
    check_key(key)
    check_count(num_samples, "num_samples")
    check_count(num_chains, "num_chains")


def check_start(start: Mixture) -> None:
    """Raise ValueError if a concrete start is what a failed fit leaves: not finite, with empty components, or singular."""
    start = jax.tree.map(np.asarray, start)  # on the host, where nothing needs to be compiled
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
            "collinear columns; start from a fit under the same prior."
        )


def as_dtype(leaf: Any, dtype: Any) -> Any:
    """Return a leaf that jit accepts, in the data's dtype; an array that is on a device already is not transferred again."""
    if isinstance(leaf, jax.Array):
        return leaf if leaf.dtype == dtype else leaf.astype(dtype)
    return np.asarray(leaf, dtype)
