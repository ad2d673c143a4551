"""Bring several sets of observations into one form, so that one compiled program serves all of them.

`observations` leaves out what the rows do not need: for example, it stores no mask if no value is missing. Here, rows get parts
that other rows have. What is added changes nothing: noise of 0, for example, or labels of -1.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import numpy as np

from .observations import BY_ROW, Observations


class Form(NamedTuple):
    """The parts that rows of observations have. An entry is 0 if rows lack the part.

    A form with larger entries can also express rows of a form with smaller entries.

    Attributes:
        observed: 1 if there is a mask of observed values.
        noise: 1 if the noise of a row is given by variances, 2 if by a matrix.
        allowed: 1 if rows have labels, K + 1 if they have a list of K components that are allowed.
        limits: 1 if missing values have limits.
    """

    observed: int = 0
    noise: int = 0
    allowed: int = 0
    limits: int = 0


def form_of(rows: Observations) -> Form:
    """Return the form of rows."""
    noise = 0 if rows.noise is None else rows.noise.ndim - 1
    allowed = 0 if rows.allowed is None else 1 if rows.allowed.ndim == 1 else rows.allowed.shape[1] + 1
    return Form(int(rows.observed is not None), noise, allowed, int(rows.lower is not None))


def joint_form(*forms: Form) -> Form:
    """Return the form that can express the rows of all the given forms."""
    return Form(*map(max, zip(*forms, strict=True)))


def in_form(rows: Observations, form: Form) -> Observations:
    """Return concrete rows without weights in a form that can express them; all arrays are on the host.

    Raises:
        ValueError: the rows have lists of allowed components, and the form is for another number of components.
    """
    n, d = rows.shape
    rows = dataclasses.replace(rows.with_own_noise(), weight=None, method=None).map_rows(np.asarray)
    added: dict[str, Any] = {}
    if form.observed and rows.observed is None:
        added["observed"] = np.ones((n, d), bool)
    if form.noise and rows.noise is None:
        added["noise"] = np.zeros((n, d, d)[: form.noise + 1], rows.dtype)
    elif form.noise == 2 and rows.noise is not None and rows.noise.ndim == 2:
        added["noise"] = rows.noise[:, :, None] * np.eye(d, dtype=rows.dtype)
    if form.allowed:
        added["allowed"] = _allowed_in_form(rows, form.allowed - 1)
    if form.limits and rows.lower is None:
        added |= {side: np.full((n, d), limit, rows.dtype) for side, limit in (("lower", -np.inf), ("upper", np.inf))}
    return dataclasses.replace(rows, **added)


def _allowed_in_form(rows: Observations, num_components: int) -> np.ndarray:
    """Return labels (N,), or the allowed components (N, K) if `num_components` is not 0."""
    labels: np.ndarray = np.full(len(rows), -1, np.int32) if rows.allowed is None else np.asarray(rows.allowed)
    if num_components == 0:
        return labels
    if labels.ndim == 1:
        return (labels[:, None] < 0) | (labels[:, None] == np.arange(num_components))
    if labels.shape[1] != num_components:
        raise ValueError(f"labels has {labels.shape[1]} columns, and those of other batches have {num_components}.")
    return labels


def joined(parts: list[Any]) -> Any:
    """Return the rows of several parts, which are all arrays or all observations without weights, as one."""
    if not isinstance(parts[0], Observations):
        return np.concatenate(parts)
    form = joint_form(*map(form_of, parts))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *(in_form(part, form) for part in parts))


def named_arrays(rows: Any) -> dict[str, np.ndarray]:
    """Return the arrays of rows by name. `from_named_arrays` makes the rows of them again."""
    if not isinstance(rows, Observations):
        return {"rows": np.asarray(rows)}
    found = in_form(rows, form_of(rows))
    return {name: getattr(found, name) for name in BY_ROW if getattr(found, name) is not None}


def from_named_arrays(arrays: dict[str, np.ndarray]) -> Any:
    """Return the rows that `named_arrays` has converted; other arrays are ignored."""
    if "rows" in arrays:
        return arrays["rows"]
    parts: dict[str, Any] = {name: arrays[name] for name in BY_ROW if name in arrays}
    return Observations(**parts)
