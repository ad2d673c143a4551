"""Convert user input, such as arrays, lists and data frames, to NumPy arrays of real numbers, and check ranges of numbers.

If the conversion is impossible, or if numbers are not finite or too large, the error message says why.
"""

from __future__ import annotations

import math
import numbers
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from numpy.typing import ArrayLike

from .devices.processes import over_parts

_ADVICE_BY_KIND = {
    "b": "booleans; real numbers were expected: convert them with .astype(float) if 0/1 is what you mean",
    "c": "complex numbers; real numbers were expected: split real and imaginary parts into columns",
    "M": "dates; real numbers were expected: subtract a reference date and divide by a unit",
    "m": "time differences; real numbers were expected: divide by a unit, as in x / np.timedelta64(1, 's')",
    "U": "strings; real numbers were expected: convert them with .astype(float)",
    "S": "byte strings; real numbers were expected: convert them with .astype(float)",
    "O": "Python objects; real numbers were expected: convert them with .astype(float)",
}
_LEAVE_OUT = ", or leave the column out"


def as_numpy(value: ArrayLike, name: str) -> np.ndarray:
    """Return real numbers of any kind as a NumPy array without checking their values; None and missing values become NaN.

    Boolean columns of a data frame become 0 and 1. If a column does not hold real numbers, the error message names the column.
    """
    if np.ma.isMaskedArray(value):
        raise TypeError(
            f"{name} is a masked array, whose mask would be lost; drop the masked rows, or give them sample_weight 0."
        )
    if hasattr(value, "toarray") and hasattr(value, "nnz"):
        raise TypeError(f"{name} is a sparse matrix; dense data were expected: use {name}.toarray().")
    if hasattr(value, "to_numpy") and hasattr(value, "columns"):
        return _frame_as_numpy(value, name)
    if hasattr(value, "schema") and hasattr(value, "num_columns"):
        return _arrow_as_numpy(value, name)
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ValueError(
            f"{name} is ragged: rows of equal length were expected. For data sets of different "
            "lengths see jaxgmm.pad and jaxgmm.fit_many."
        ) from error
    return _as_real(array, name)


def check_dtype(dtype: np.dtype, name: str) -> None:
    """Raise TypeError if a dtype does not hold real numbers."""
    if jnp.issubdtype(dtype, jax.dtypes.prng_key):
        raise TypeError(f"{name} is a random key; an array of real numbers was expected: is the order of arguments right?")
    if dtype.kind in _ADVICE_BY_KIND:
        raise TypeError(f"{name} holds {_ADVICE_BY_KIND[dtype.kind]}.")
    if dtype.kind not in "fiuV":
        raise TypeError(f"{name} has dtype {dtype}; real numbers were expected.")


def _frame_as_numpy(frame: Any, name: str) -> np.ndarray:
    """Return a data frame as a NumPy array; if it does not convert to one numeric array, convert its columns one by one."""
    if hasattr(frame, "get_columns"):  # a polars frame, which cannot always be converted to one array
        columns = frame.get_columns()
    else:
        array = np.asarray(frame.to_numpy())
        if array.dtype.kind in "fiu" or array.ndim != 2:
            return _as_real(array, name)
        # take columns by position, because two columns of a pandas frame may have the same name
        columns = [frame.iloc[:, i] for i in range(array.shape[1])] if hasattr(frame, "iloc") else array.T
    found = [_column_as_numpy(column, label, name) for label, column in zip(frame.columns, columns, strict=True)]
    return np.stack(found, 1) if found else np.zeros((len(frame), 0))


def _arrow_as_numpy(table: Any, name: str) -> np.ndarray:
    """Return a table or a record batch of Arrow as a NumPy array; missing values become NaN."""
    columns = [table.column(i).to_numpy(zero_copy_only=False) for i in range(table.num_columns)]
    found = [_column_as_numpy(column, label, name) for column, label in zip(columns, table.schema.names, strict=True)]
    return np.stack(found, 1) if found else np.zeros((table.num_rows, 0))


def _column_as_numpy(column: Any, label: object, name: str) -> np.ndarray:
    """Return one column of a data frame as numbers, or raise TypeError with the name of the column."""
    values = np.asarray(column.to_numpy() if hasattr(column, "to_numpy") else column)
    if values.dtype == object and all(_is_missing(v) or isinstance(v, bool | np.bool_ | numbers.Real) for v in values):
        values = np.array([np.nan if _is_missing(v) else float(v) for v in values])
    if values.dtype.kind == "b":
        return values.astype(np.int8)  # int8 is small, so the other columns determine the float type
    try:
        return _as_real(values, f"column {label!r} of {name}")
    except TypeError as error:
        raise TypeError(str(error).removesuffix(".") + _LEAVE_OUT + ".") from None


def _as_real(array: np.ndarray, name: str) -> np.ndarray:
    """Return an array as real numbers; raise TypeError if an entry is neither a real number nor a missing value."""
    if array.dtype == object and array.size:
        other = next((v for v in array.flat if not _is_missing_or_real(v)), None)
        if other is not None:
            kind = _kind_of_object(other)
            raise TypeError(f"{name} holds {_ADVICE_BY_KIND[kind]}.")
        array = np.array([np.nan if _is_missing(v) else float(v) for v in array.flat]).reshape(array.shape)
    check_dtype(array.dtype, name)
    return array.astype(np.float64) if array.dtype == np.longdouble else array


def _kind_of_object(value: Any) -> str:
    """Return the letter of the NumPy dtype kind for a Python object, or "O" if no such kind exists."""
    if hasattr(value, "total_seconds"):
        return "m"
    if hasattr(value, "isoformat"):
        return "M"
    kind = np.asarray(value).dtype.kind
    return kind if kind in _ADVICE_BY_KIND and np.ndim(value) == 0 else "O"


def _is_missing(value: object) -> bool:
    """Return whether a Python object stands for a missing value."""
    return value is None or type(value).__name__ in ("NAType", "NaTType")


def _is_missing_or_real(value: object) -> bool:
    """Return whether a Python object is a real number or a missing value."""
    return _is_missing(value) or (isinstance(value, numbers.Real) and not isinstance(value, bool))


def check_range(low: float, high: float, array: np.ndarray | jax.Array, name: str, target: DTypeLike) -> None:
    """Raise ValueError if the extremes `low` and `high` of an array are not finite, or if the target dtype cannot hold them."""
    if not (math.isfinite(low) and math.isfinite(high)):
        bad, nan = over_parts(_count_bad_rows, array)
        rows = f" in {bad:.0f} of {len(array)} rows" if array.ndim else ""
        what = "NaN" if nan else "infinity"
        advice = ": drop such rows, or give them sample_weight 0" if name == "x" else ""
        if name == "x" and what == "NaN":
            advice = ": use jaxgmm.observations(x) if these values are missing, drop such rows, or give them sample_weight 0"
        raise ValueError(f"{name} contains {what}{rows}; finite values were expected{advice}.")
    largest = max(abs(low), abs(high))
    if array.dtype.kind in "iu" and jnp.finfo(target).bits == 32 and largest > 2**24:
        raise ValueError(
            f"{name} holds integers up to {largest:.0f}, which float32 cannot hold exactly (limit 2**24); "
            "subtract an offset, or enable float64 with jax.config.update('jax_enable_x64', True)."
        )
    if largest > float(jnp.finfo(target).max):
        raise ValueError(
            f"{name} has values up to {largest:.3g}, beyond {jnp.finfo(target).dtype}; rescale the data, or "
            "enable float64 with jax.config.update('jax_enable_x64', True)."
        )


def _count_bad_rows(array: np.ndarray) -> np.ndarray:
    """Return the number of rows of an array that have values that are not finite, and the number of NaNs, (2,)."""
    values = np.asarray(array, float).reshape(len(array) if array.ndim else 1, -1)
    return np.array([(~np.isfinite(values)).any(1).sum(), np.isnan(values).sum()])


def check_magnitude(low: float, high: float, dtype: DTypeLike, name: str) -> None:
    """Raise ValueError if squares of values between `low` and `high` overflow, or if all of these squares underflow to 0."""
    info = jnp.finfo(dtype)
    largest, limit = max(abs(low), abs(high)), math.sqrt(float(info.max)) * 1e-3
    if largest > limit:
        raise ValueError(
            f"{name} has values up to {largest:.3g}, whose squares overflow {jnp.dtype(dtype)} (limit "
            f"{limit:.1g}); rescale the data."
        )
    smallest = math.sqrt(float(info.tiny)) * 1e4
    if 0 < largest < smallest:
        raise ValueError(
            f"{name} has no value beyond {largest:.3g}, whose squares vanish in {jnp.dtype(dtype)} (limit "
            f"{smallest:.1g}); rescale the data."
        )
