"""Read the sampling prior of `jaxgmm calibrate` from a TOML file."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..covariance import prior_scale_shape
from ..priors.conjugate import Prior
from ..validation import check_count

_FIELDS = ("weight_concentration", "mean", "mean_precision", "degrees_of_freedom", "scale")


def read_prior(path: Path | None, num_components: int, num_features: int | None, covariance_type: str) -> Prior:
    """Return a Prior from a TOML file of numbers or lists of numbers; fields that it does not set have defaults.

    Args:
        path: the file; None takes every default.
        num_components: K.
        num_features: D; None takes the length of the file's mean, or 1.
        covariance_type: decides the shape of the scale.
    """
    given = {} if path is None else _read_numbers(path)
    mean = np.asarray(given.get("mean", 0.0))
    d = num_features or (len(mean) if mean.ndim else 1)
    check_count(d, "num_features")
    scale_shape = prior_scale_shape(covariance_type, d)
    is_matrix = len(scale_shape) == 2
    scale = np.asarray(given.get("scale", 3.0 if is_matrix else d + 2.0))
    return Prior(
        _as_array("weight_concentration", given.get("weight_concentration", 3.0), (num_components,)),
        _as_array("mean", mean, (d,)),
        _as_array("mean_precision", given.get("mean_precision", 0.1), ()),
        _as_array("degrees_of_freedom", given.get("degrees_of_freedom", d + 4.0), ()),
        _as_array("scale", scale * np.eye(d) if is_matrix and scale.ndim == 0 else scale, scale_shape),
    )


def _as_array(name: str, value: Any, shape: tuple[int, ...]) -> jax.Array:
    """Return a hyperparameter in its shape, from one number for all entries or from an array of that shape."""
    value = np.asarray(value)
    if value.ndim and value.shape != shape:
        raise ValueError(f"{name} in the prior has shape {value.shape}; {shape}, or one number, was expected.")
    return jnp.asarray(np.broadcast_to(value, shape), float)


def _read_numbers(path: Path) -> dict[str, Any]:
    """Return the entries of a TOML file whose names are fields of a Prior and whose values are numeric."""
    if not path.is_file():
        raise ValueError(f"there is no file '{path}'; a TOML file with {', '.join(_FIELDS)} was expected.")
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"'{path}' is not TOML: {error}.") from error
    for name, value in given.items():
        if name not in _FIELDS:
            raise ValueError(f"'{path}' has an entry '{name}'; only {', '.join(_FIELDS)} were expected.")
        if not _is_numeric(value):
            raise ValueError(f"'{path}' sets {name} to {value!r}; a number or a list of numbers was expected.")
    return given


def _is_numeric(value: Any) -> bool:
    """Return whether a TOML value is a number or a rectangular list of numbers."""
    try:
        return np.asarray(value).dtype.kind in "fi"
    except ValueError:  # lists of different lengths
        return False
