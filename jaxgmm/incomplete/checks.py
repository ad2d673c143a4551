"""Check that observations match the components of a mixture, and that every column has a value."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np
from numpy.typing import ArrayLike

from .. import covariance
from ..validation import is_traced
from .observations import Data, Observations


def as_observed_data(x: Observations, sample_weight: ArrayLike | None, num_features: int | None) -> tuple[Data, Any]:
    """Return the rows without their weights, and the weights. Rows that are not incomplete are returned as an array.

    Raises:
        ValueError: the number of features is not `num_features`, or `sample_weight` is given too.
    """
    if sample_weight is not None:
        raise ValueError("sample_weight was given with Observations; give the weights to jaxgmm.observations.")
    if num_features is not None and x.shape[-1] != num_features:
        raise ValueError(
            f"x has {x.shape[-1]} features, the mixture {num_features}; data of shape (N, {num_features}) were expected."
        )
    rows = dataclasses.replace(x, weight=None)
    return rows.x if rows.is_plain else rows, x.weight


def check_match(x: Data, num_components: int, covariance_type: str) -> None:
    """Raise ValueError if the labels or the limits of observations do not match the components of a mixture."""
    check_labels(x, num_components)
    if not isinstance(x, Observations) or x.lower is None or x.upper is None or is_traced(x.lower, x.upper):
        return
    if is_diagonal(covariance_type, x.noise):
        return
    several = np.flatnonzero((np.isfinite(x.lower) | np.isfinite(x.upper)).sum(1) > 1)
    if several.size:
        raise ValueError(
            f"limits has more than one censored value in {several.size} row{'s' * (several.size > 1)}, the first of them row "
            f"{several[0]}; this is only possible with covariance_type 'diag' or 'spherical', without noise covariances."
        )


def is_diagonal(covariance_type: str, noise: jax.Array | None) -> bool:
    """Return whether the covariances of the components and the noise of the rows are both diagonal."""
    return not covariance.is_dense(covariance_type) and (noise is None or noise.ndim == 2)


def check_labels(x: Data, num_components: int) -> None:
    """Raise ValueError if the labels of observations do not match the number of components."""
    if not isinstance(x, Observations) or x.allowed is None:
        return
    if x.allowed.ndim == 2:
        if x.allowed.shape[1] != num_components:
            raise ValueError(
                f"labels has {x.allowed.shape[1]} columns, and there are {num_components} components; give one column each."
            )
    elif not is_traced(x.allowed) and (largest := int(np.asarray(x.allowed).max(initial=-1))) >= num_components:
        raise ValueError(
            f"labels has the value {largest}; labels from 0 to {num_components - 1}, or -1 for unknown, were expected."
        )


def check_columns(rows: Data, weight: jax.Array | None) -> None:
    """Raise ValueError if a column of concrete observations has no value in the rows of positive weight."""
    if not isinstance(rows, Observations) or rows.observed is None or is_traced(rows, weight):
        return
    kept = np.ones(len(rows), bool) if weight is None else np.asarray(weight) > 0
    empty = np.flatnonzero(~np.asarray(rows.observed)[kept].any(0))
    if empty.size:
        raise ValueError(f"x has no value in column {', '.join(map(str, empty))}; leave the column out, or use a prior.")
