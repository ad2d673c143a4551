"""Read the mixture or the fit in a JSON file that the command wrote."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..em.result import ComponentStatus, Fit, Status
from ..files import parse_file
from ..mixture import Mixture
from .valid_results import check_mixtures, check_values

EXPECTED = "a json file written by jaxgmm fit, compare or select was expected"
_FLOATS = ("log_likelihood", "objective", "history")  # the fields of a fit that have the dtype of its mixture


def read_record(path: Path) -> tuple[Mixture | Fit, list[str]]:
    """Return the fit in a JSON file of the command, with NumPy arrays, and the names of its features.

    The result is a Mixture if the file describes no fit. The numbers are float32 if float32 holds all of them exactly.

    Raises:
        ValueError: the file does not hold a mixture, or holds one that `make_mixture` would refuse.
    """
    try:
        record = parse_file(path, json.loads)
        names, fields = list(record["data"]["feature_names"]), record["mixture"]
        arrays = {name: fields[name] for name in ("weights", "means", "covariances")}
        covariance_type, fit = fields["covariance_type"], _fit_fields(record["fit"]) if "fit" in record else None
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise ValueError(f"'{path}' does not hold a mixture; {EXPECTED}.") from error
    try:
        thing = mixture = Mixture(**_floats(arrays), covariance_type=covariance_type)
        if fit is not None:
            dtype = mixture.means.dtype
            thing = Fit(mixture, **{n: value.astype(dtype if n in _FLOATS else np.int32) for n, value in fit.items()})
        check_mixtures(thing)
        check_values(thing)
    except (ValueError, TypeError) as error:
        raise ValueError(f"'{path}' does not hold a valid mixture: {error}") from error
    if len(names) != mixture.num_features or not all(isinstance(name, str) for name in names):
        raise ValueError(
            f"'{path}' has {len(names)} feature_names for {mixture.num_features} features; one name for each was expected."
        )
    return thing, names


def _fit_fields(record: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a Fit without its mixture; the history ends with the last step."""
    fields: dict[str, Any] = {name: record[name] for name in (*_FLOATS, "num_iter")}
    fields["status"] = Status[record["status"]]
    fields["component_status"] = [ComponentStatus[name] for name in record["component_status"]]
    arrays = {name: np.asarray(value) for name, value in fields.items()}
    if any(array.dtype.kind not in "if" for array in arrays.values()) or arrays["history"].ndim != 1:
        raise ValueError("a field is not numeric.")
    return arrays


def _floats(lists: Mapping[str, object]) -> dict[str, Any]:
    """Return nested lists of numbers as arrays, in float32 if float32 represents all numbers exactly, else in float64."""
    wide: dict[str, np.ndarray] = {}
    for name, values in lists.items():
        try:
            wide[name] = np.asarray(values, float)
        except (ValueError, TypeError) as error:
            raise ValueError(f"{name} is not an array of numbers.") from error
    with np.errstate(over="ignore", under="ignore"):
        narrow = {name: array.astype(np.float32) for name, array in wide.items()}
    is_exact = all(np.array_equal(narrow[name], array, equal_nan=True) for name, array in wide.items())
    return narrow if is_exact else wide
