"""Read the mixture or the fit in a JSON file that the command wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from ..em.result import ComponentStatus, Fit, Status
from ..files import parse_file
from ..mixture import Mixture
from .valid_results import check_mixtures, check_values

EXPECTED = "a json file written by jaxgmm fit, compare or select was expected"


def read_record(path: Path) -> tuple[Mixture | Fit, list[str]]:
    """Return the fit in a JSON file of the command, with NumPy arrays, and the names of its features.

    The result is a Mixture if the file describes no fit. The numbers are float32 if float32 holds all of them exactly.

    Raises:
        ValueError: the file does not hold a mixture, or holds one that `make_mixture` would refuse.
    """
    try:
        record = parse_file(path, json.loads)
        names = list(record["data"]["feature_names"])
        thing = _fit(record) if "fit" in record else _mixture(record)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(f"'{path}' does not hold a mixture; {EXPECTED}.") from error
    try:
        check_mixtures(thing)
        check_values(thing)
    except (ValueError, TypeError) as error:
        raise ValueError(f"'{path}' does not hold a valid mixture: {error}") from error
    num_features = (thing.mixture if isinstance(thing, Fit) else thing).num_features
    if len(names) != num_features or not all(isinstance(name, str) for name in names):
        raise ValueError(
            f"'{path}' has {len(names)} feature_names for {num_features} features; one name for each was expected."
        )
    return thing, names


def _mixture(record: dict[str, Any]) -> Mixture:
    """Return the mixture in a record."""
    fields = record["mixture"]
    weights, means, covariances = _floats(*(fields[name] for name in ("weights", "means", "covariances")))
    return Mixture(weights, means, covariances, fields["covariance_type"])


def _fit(record: dict[str, Any]) -> Fit:
    """Return the fit in a record; its history ends with its last step."""
    fields, mixture = record["fit"], _mixture(record)
    numbers = [np.asarray(fields[name], mixture.means.dtype) for name in ("log_likelihood", "objective", "history")]
    components = [ComponentStatus[name] for name in fields["component_status"]]
    codes = [np.asarray(value, np.int32) for value in (fields["num_iter"], Status[fields["status"]], components)]
    return Fit(mixture, *numbers, *codes)


def _floats(*values: Any) -> list[np.ndarray]:
    """Return nested lists of numbers as arrays: in float32 if it holds all numbers exactly, else in float64."""
    arrays = [np.asarray(value, float) for value in values]
    with np.errstate(over="ignore", under="ignore"):
        narrow = [array.astype(np.float32) for array in arrays]
    is_exact = all(np.array_equal(a, b, equal_nan=True) for a, b in zip(narrow, arrays, strict=True))
    return narrow if is_exact else arrays
