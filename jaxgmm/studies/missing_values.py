"""Make values of simulated data missing completely at random, for `calibrate` and `coverage_study`."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from ..incomplete.observations import Data, observations
from ..validation import check_number


def check_missing(missing: Any) -> float:
    """Return the share of missing values as a Python number, or raise an error if it is not a number from 0 to below 1."""
    check_number(missing, "missing")
    if missing >= 1:
        raise ValueError(f"missing is {missing:g}; a share from 0 to below 1 was expected, such as 0.2.")
    return float(missing)


def with_missing_values(key: jax.Array, x: jax.Array, missing: float) -> Data:
    """Return data (N, D) in which each value is missing with probability `missing`; the data themselves if it is 0."""
    if not missing:
        return x
    return observations(x, missing=jax.random.uniform(key, x.shape) < jnp.asarray(missing))
