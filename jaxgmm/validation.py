"""Validate the arguments of public functions, and issue warnings that point to the line of the user's code.

Shapes, types and options are checked for all input, including traced input. Values are checked where this is possible. Values
of NumPy-like input are checked before JAX converts them, because JAX could turn 2**40 into 0 or 1e300 into inf. Values of
concrete JAX arrays are checked only if the calling function requires this check. Values of traced arrays cannot be checked. If
they are invalid, the status of the result says so. Each error message says what was expected, what was given and what to do.
"""

from __future__ import annotations

import math
import sys
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import DTypeLike
from numpy.typing import ArrayLike

from .devices.host import cast, extremes, on_host, to_device
from .devices.processes import is_global, over_parts
from .devices.row_shards import feature_axes, place_rows, row_axes
from .real_numbers import as_numpy, check_dtype, check_magnitude, check_range

# a warning says that weights cannot be counts if their sum is below this fraction of the effective number of observations
_SMALLEST_MEAN_WEIGHT = 0.1


def is_traced(*values: object) -> bool:
    """Return whether any leaf is a tracer, as it is inside jit, vmap and grad."""
    return any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(values))


def warn_at_caller(message: str, category: type[Warning] = RuntimeWarning) -> None:
    """Issue a warning that points to the line of the user's code that called jaxgmm."""
    frame, level = sys._getframe(1), 2
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] == __name__.partition(".")[0]:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)


def as_float_array(value: ArrayLike, name: str, *, check_values: bool = False) -> jax.Array:
    """Return an array, list or data frame as a JAX float array; raise if the values are not finite real numbers.

    Arrays of float32 keep their type, and so do arrays of float64 if float64 is enabled in JAX. Other types become JAX's
    default float type.

    Args:
        value: an array, list, data frame or similar object.
        name: the name of the value in error messages.
        check_values: whether to check the values of concrete JAX arrays; values of NumPy-like input are always checked.
    """
    return _as_float_array(value, name, check_values)[0]


def _as_float_array(value: ArrayLike, name: str, check_values: bool) -> tuple[jax.Array, tuple[float, float] | None]:
    """Return the converted array and the extremes before conversion; the extremes are None if values were not checked."""
    if isinstance(value, list | tuple) and is_traced(value):
        value = jnp.asarray(value)
    if isinstance(value, jax.Array):
        check_dtype(value.dtype, name)
        if not jnp.issubdtype(value.dtype, jnp.floating) or value.dtype.itemsize < 4:
            value = cast(value, jnp.result_type(float))
        if not check_values or not value.size or is_traced(value):
            return value, None
        range_ = extremes(value)
        check_range(*range_, value, name, value.dtype)
        return value, range_
    array = as_numpy(value, name)
    target = jax.dtypes.canonicalize_dtype(array.dtype) if array.dtype in (np.float32, np.float64) else jnp.result_type(float)
    range_ = (float(array.min()), float(array.max())) if array.size else None
    if range_:
        check_range(*range_, array, name, target)
    return to_device(array, target), range_


def as_data(x: ArrayLike, name: str = "x", *, check_values: bool = False, num_features: int | None = None) -> jax.Array:
    """Return data as a float array (N, D) with D >= 1; raise if the data are invalid.

    Args:
        x: the data.
        name: the name of the data in error messages.
        check_values: whether to check that concrete JAX arrays are finite and that concrete values, JAX or NumPy, are not too
            large. NumPy-like input is always checked to be finite.
        num_features: the required D, or None if any D >= 1 is valid.
    """
    x, range_ = _as_float_array(x, name, check_values)
    if check_values and range_:
        check_magnitude(*range_, x.dtype, name)
    if x.ndim == 1:
        raise ValueError(
            f"{name} has shape {x.shape}; (N, D) was expected: use {name}.reshape(-1, 1) for N values of one "
            f"variable, {name}.reshape(1, -1) for one observation."
        )
    if x.ndim != 2:
        raise ValueError(
            f"{name} has shape {x.shape}; (N, D) was expected: for many data sets use jax.vmap or jaxgmm.fit_many."
        )
    if x.shape[1] == 0:
        raise ValueError(f"{name} has shape {x.shape}: no features; at least one column was expected.")
    axes = () if is_traced(x) else feature_axes(x)
    if axes:
        raise ValueError(
            f"{name} has its features divided among devices, over the axes {', '.join(map(repr, axes))} of the mesh; only its "
            f"rows may be divided: use jax.device_put({name}, NamedSharding(mesh, PartitionSpec(...))) with one entry, that of "
            "the rows."
        )
    if num_features is not None and x.shape[1] != num_features:
        raise ValueError(
            f"{name} has {x.shape[1]} features, the mixture {num_features}; give data of shape (N, {num_features})."
        )
    return x


def as_sample_weight(
    sample_weight: ArrayLike | None, num_observations: int, dtype: DTypeLike, *, check_values: bool = False
) -> jax.Array | None:
    """Return weights as an array (N,) in the dtype of the data, or None for weights of 1; raise if the weights are invalid."""
    if sample_weight is None:
        return None
    weight = cast(as_float_array(sample_weight, "sample_weight", check_values=check_values), dtype)
    if weight.shape != (num_observations,):
        raise ValueError(f"sample_weight has shape {weight.shape}; one weight per row was expected: ({num_observations},).")
    if not is_traced(weight) and (check_values or not isinstance(sample_weight, jax.Array)) and weight.size:
        low, high = extremes(weight)
        if low < 0:
            raise ValueError(
                f"sample_weight has a negative value, {low:.4g}; weights >= 0 were expected, 0 to leave a row out."
            )
        if high == 0:
            raise ValueError("sample_weight is 0 for every row: no data are left; give at least one row a positive weight.")
    return weight


def as_weighted_data(
    x: ArrayLike, sample_weight: ArrayLike | None, *, check_values: bool = True, num_features: int | None = None
) -> tuple[jax.Array, jax.Array | None]:
    """Return data (N, D) and their weights (N,) or None; in concrete data, rows of weight 0 are replaced by zeros."""
    x = as_data(zero_ignored_rows(x, sample_weight), check_values=check_values, num_features=num_features)
    weight = as_sample_weight(sample_weight, len(x), x.dtype, check_values=check_values)
    return x, place_rows(weight, x) if weight is not None and is_global(x) and row_axes(x) else weight


def warn_of_small_weights(weight: jax.Array | None) -> None:
    """Warn if the sum of concrete weights is so small that the weights cannot be counts of observations."""
    message = small_weights_message(weight)
    if message:
        warn_at_caller(message)


def small_weights_message(weight: jax.Array | None) -> str | None:
    """Return the text of a warning if the sum of concrete weights is too small for counts of observations, else None.

    The sum is too small if it is at most 1, or less than a tenth of the effective number of observations (Kish 1965). Weights
    with fewer than two positive entries cause no warning.
    """
    if weight is None or is_traced(weight):
        return None
    total, rows = over_parts(lambda values: np.array([values.sum(dtype=float), (values > 0).sum()]), weight)
    if not (total > 0 and rows > 1):
        return None
    effective = 1 / float(over_parts(lambda values: ((values.astype(float) / total) ** 2).sum(), weight))
    if total >= _SMALLEST_MEAN_WEIGHT * effective and total > 1 + 1e-3:
        return None
    return (
        f"sample_weight sums to {total:.4g} over {rows:.0f} rows, but weights count observations: multiply them by "
        f"{effective / total:.6g} to count the effective number of observations, {effective:.1f}, or by {rows / total:.6g} to "
        f"count all {rows:.0f}."
    )


def zero_ignored_rows(x: ArrayLike, sample_weight: ArrayLike | None, name: str = "x") -> ArrayLike:
    """Return x with zeros in rows of weight 0, so that checks ignore these rows; leave x unchanged if an argument is traced."""
    if sample_weight is None or is_traced(x, sample_weight):
        return x
    if isinstance(x, jax.Array) and is_global(x):
        return _zero_ignored_global_rows(x, sample_weight)
    if is_global(sample_weight):
        raise ValueError(
            f"sample_weight is divided among processes, but {name} is not; divide both, as with "
            "jax.make_array_from_process_local_data, or none."
        )
    array = x if isinstance(x, jax.Array) else as_numpy(x, name)
    weight = np.asarray(sample_weight) if isinstance(sample_weight, jax.Array) else as_numpy(sample_weight, "sample_weight")
    if array.ndim != 2 or weight.shape != array.shape[:1] or (weight > 0).all():
        return x
    kept = (weight > 0)[:, None]
    view = on_host(array) if isinstance(array, jax.Array) and not array.committed else array
    if isinstance(view, jax.Array):
        return jax.device_put(jnp.where(kept, view, 0), view.sharding)
    zeroed = np.where(kept, view, np.zeros((), view.dtype))
    return to_device(zeroed, array.dtype) if isinstance(array, jax.Array) else zeroed


def _zero_ignored_global_rows(x: jax.Array, sample_weight: ArrayLike) -> jax.Array:
    """Return a global array with zeros in rows of weight 0."""
    weight = sample_weight if isinstance(sample_weight, jax.Array) else as_numpy(sample_weight, "sample_weight")
    if x.ndim != 2 or weight.shape != x.shape[:1]:
        return x
    weight = place_rows(weight, x) if row_axes(x) else jnp.asarray(weight)
    return x if extremes(weight)[0] > 0 else jax.device_put(jnp.where((weight > 0)[:, None], x, 0), x.sharding)


def check_choice(value: object, name: str, choices: tuple[str, ...]) -> None:
    """Raise ValueError if a value is not one of the choices."""
    if value not in choices:
        raise ValueError(f"{name} is {value!r}; one of {', '.join(map(repr, choices))} was expected.")


def check_static(value: object, name: str) -> None:
    """Raise TypeError if a value is traced. This check is for options whose values must be known at compilation."""
    if is_traced(value):
        raise TypeError(
            f"{name} is traced, but compiled programs depend on its value: mark it as static, as in jax.jit(f, "
            f"static_argnames={name!r}), and do not map over it."
        )


def check_flag(value: object, name: str) -> None:
    """Raise TypeError if a value is not True or False."""
    check_static(value, name)
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} is {value!r}; True or False was expected.")


def check_progress(value: object) -> None:
    """Raise TypeError if the option `progress` is not None, True or False."""
    check_static(value, "progress")
    if value is not None and not isinstance(value, bool | np.bool_):
        raise TypeError(f"progress is {value!r}; None, True or False was expected.")


def check_count(value: object, name: str, minimum: int = 1, maximum: int = 2**31 - 1) -> None:
    """Raise TypeError or ValueError unless a value is a Python or NumPy integer in the given range; True and 2.0 are invalid.

    The default maximum is the largest 32-bit integer, because JAX counts with 32-bit integers.
    """
    check_static(value, name)
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | np.integer):
        advice = f": use int({name})" if isinstance(value, jax.Array | np.ndarray) and np.ndim(value) == 0 else ""
        raise TypeError(f"{name} is {value!r} ({type(value).__name__}); an integer >= {minimum} was expected{advice}.")
    if value < minimum:
        raise ValueError(f"{name} is {value}; an integer >= {minimum} was expected.")
    if value > maximum:
        raise ValueError(f"{name} is {value}; an integer from {minimum} to {maximum} was expected.")


def check_seed(value: object, name: str = "seed") -> None:
    """Raise TypeError or ValueError if a value is not the seed of a random key: an integer >= 0 that fits into 63 bits."""
    check_count(value, name, 0, 2**63 - 1)


def check_number(value: Any, name: str, *, minimum: float = 0.0, exclusive: bool = False) -> None:
    """Raise TypeError or ValueError if a concrete value is not a finite number >= minimum (> minimum if `exclusive`)."""
    if is_traced(value):
        return
    sign = ">" if exclusive else ">="
    if value is None or isinstance(value, bool | str) or np.ndim(value) != 0 or np.asarray(value).dtype.kind not in "fiuV":
        raise TypeError(f"{name} is {value!r}; a number {sign} {minimum:g} was expected.")
    number = float(value)
    if not math.isfinite(number) or number < minimum or (exclusive and number == minimum):
        raise ValueError(f"{name} is {number:g}; a finite number {sign} {minimum:g} was expected.")


def check_key(key: object) -> None:
    """Raise TypeError if a value is not one random key, either a typed key or a legacy uint32 key."""
    if isinstance(key, jax.Array):
        if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) and key.ndim == 0:
            return
        if key.dtype == jnp.uint32 and key.shape == (2,):
            return
        raise TypeError(
            f"key has dtype {key.dtype} and shape {key.shape}; one random key was expected, as from "
            "jax.random.key(0): for several, use jax.vmap."
        )
    raise TypeError(f"key is {type(key).__name__}; a random key was expected, as from jax.random.key(0).")
