"""Print and check hyperparameters, both of priors and of covariance laws."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from ..cells import numbers_of
from ..linalg import is_positive_definite
from ..tables import Table
from ..validation import as_float_array


def hyperparameter_table(thing: object, laws: Mapping[str, str], *, least_axes: int = 0) -> Table:
    """Return a table with one row per hyperparameter: its name, shape and value, and the law in which it occurs.

    For a stack of priors or laws, the values are left out. The object is a stack if every hyperparameter has more than
    `least_axes` axes.
    """
    values = {name: getattr(thing, name) for name in laws}
    is_stack = min(map(np.ndim, values.values())) > least_axes
    rows = [[name, str(np.shape(value)), "" if is_stack else numbers_of(value), laws[name]] for name, value in values.items()]
    return Table(type(thing).__name__, ("", "shape", "value", "law"), rows, left=(0, 1, 2, 3))


def host_values(value: ArrayLike, name: str) -> np.ndarray:
    """Convert a hyperparameter to a NumPy array, so that checks need no compilation.

    Raise TypeError or ValueError if the hyperparameter is not real and finite.
    """
    return np.asarray(as_float_array(value, name, check_values=True))


def require_positive(value: ArrayLike, name: str) -> None:
    """Raise ValueError if a concrete hyperparameter has an entry that is not positive."""
    lowest = float(host_values(value, name).min())
    if lowest <= 0:
        raise ValueError(f"{name} has {lowest:.4g}; values > 0 were expected.")


def require_positive_definite(value: ArrayLike, name: str) -> None:
    """Raise ValueError if a concrete matrix is not positive definite, or if a variance is not positive."""
    scale = host_values(value, name)
    if not (is_positive_definite(scale) if scale.ndim == 2 else (scale > 0).all()):
        raise ValueError(
            f"{name} is not positive definite; a covariance matrix (or variances > 0) in data units squared was expected."
        )
