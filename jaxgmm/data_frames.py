"""Read the names of the columns of a data frame, and convert mixtures to pandas data frames.

Pandas is imported when a data frame is made. The names of columns are never stored in a Mixture, a Fit or a Posterior. These
classes are pytrees, and names would become a part of the structure of the pytree.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from . import covariance
from .validation import is_traced

if TYPE_CHECKING:
    import pandas


def column_names(x: Any) -> list[str] | None:
    """Return the names of the columns of a pandas or polars data frame; None for other data, and for columns without names.

    Example:
        >>> column_names(np.zeros((3, 2))) is None
        True
    """
    labels = getattr(x, "columns", None)
    if labels is None or not hasattr(x, "to_numpy"):
        return None
    labels = list(labels)
    if all(isinstance(label, int | np.integer) for label in labels):  # pandas numbers the columns of an array
        return None
    return [str(label) for label in labels]


def check_names(feature_names: Sequence[str] | None, num_features: int) -> list[str]:
    """Return D feature names, by default "feature 0" and so on; raise ValueError if the number of given names is not D.

    Example:
        >>> check_names(None, 2), check_names("height", 1)
        (['feature 0', 'feature 1'], ['height'])
    """
    if feature_names is None:
        return [f"feature {i}" for i in range(num_features)]
    names = [feature_names] if isinstance(feature_names, str) else [str(name) for name in feature_names]
    if len(names) != num_features:
        raise ValueError(f"feature_names has {len(names)} names; one for each column of x was expected: {num_features}.")
    return names


def parameter_values(mixture: Any, feature_names: Sequence[str] | None = None) -> dict[str, np.ndarray]:
    """Return the parameters (..., K) of a mixture or stack by name: weights, means, variances and covariances.

    Args:
        mixture: a mixture or a stack of mixtures, not traced.
        feature_names: D names; None: "feature 0" and so on.

    Returns:
        A dict such as {"weight": (..., K), "mean height": (..., K), "variance height": (..., K)}. Each pair of
        features has one covariance. Covariances that are 0 for the covariance type are left out.

    Raises:
        TypeError: the mixture is traced.
        ValueError: the number of names is not D.
    """
    if is_traced(mixture):
        raise TypeError("to_dataframe works on the host: call it outside jit and vmap.")
    k, d = mixture.num_components, mixture.num_features
    names = check_names(feature_names, d)
    weights, means, stored = (np.asarray(v, float) for v in (mixture.weights, mixture.means, mixture.covariances))
    found = {"weight": weights} | {f"mean {name}": means[..., i] for i, name in enumerate(names)}
    variances = np.broadcast_to(covariance.variances(stored, mixture.covariance_type, d), means.shape)
    found |= {f"variance {name}": variances[..., i] for i, name in enumerate(names)}
    if covariance.is_dense(mixture.covariance_type):
        dense = np.broadcast_to(stored, (*means.shape, d))
        pairs = [(i, j) for i in range(d) for j in range(i + 1, d)]
        found |= {f"covariance {names[i]}, {names[j]}": dense[..., i, j] for i, j in pairs}
    assert all(values.shape[-1] == k for values in found.values())
    return found


def mixture_frame(mixture: Any, feature_names: Sequence[str] | None = None, **others: np.ndarray) -> pandas.DataFrame:
    """Return a mixture or a stack as a pandas data frame with one row for each component.

    Args:
        mixture: a mixture or a stack of mixtures.
        feature_names: D names; None: "feature 0" and so on.
        **others: additional columns, which broadcast to (..., K).

    Returns:
        A data frame. The columns "axis 0", ... are the places in the leading axes of a stack. The column "component" follows,
        then the parameters and the additional columns.
    """
    import pandas

    values = parameter_values(mixture, feature_names)
    shape = values["weight"].shape
    places = np.indices(shape).reshape(len(shape), -1)
    columns: dict[str, Any] = {f"axis {i}": place for i, place in enumerate(places[:-1])}
    columns |= {"component": places[-1]} | {name: column.ravel() for name, column in values.items()}
    columns |= {name: np.broadcast_to(column, shape).ravel() for name, column in others.items()}
    return pandas.DataFrame(columns)


def with_groups(frame: pandas.DataFrame, groups: ArrayLike, batch_shape: tuple[int, ...]) -> pandas.DataFrame:
    """Replace the index of each fit of a stack by the label of the group of rows to which it was fitted.

    Args:
        frame: a data frame by `mixture_frame`, for a stack of fits (B,) in the order of the sorted labels.
        groups: (N,), the labels of the rows, one different label for each fit.
        batch_shape: the leading axes of the stack.
    """
    labels = np.unique(np.asarray(groups))
    if batch_shape != (len(labels),):
        raise ValueError(
            f"groups has {len(labels)} different labels, but the fits have the shape {batch_shape}; give the labels that "
            "fit_many received as groups."
        )
    places = frame.pop("axis 0")
    frame.insert(0, "group", labels[places.to_numpy()])
    return frame
