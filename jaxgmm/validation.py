"""What is refused at the door, and the sentence it gets: what was expected, what came, what to do.

Shapes, types and options are checked for all input, traced too. Values are checked where they can be looked at:
NumPy-like input on the NumPy side, before JAX could turn 2**40 into 0 or 1e300 into inf, and concrete JAX arrays
where a function asks for it. Traced values are never checked: there the status carries what happened.
"""

from __future__ import annotations

import math
import numbers
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .chunking import LARGE_COPY_BYTES, on_cpu
from .covariance import TYPES

_ALIGNED = 64  # bytes, as XLA likes its buffers on a CPU


def is_traced(*values: Any) -> bool:
    """True if any leaf is a tracer: inside jit, vmap or grad."""
    return any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(values))


def warn_at_caller(message: str) -> None:
    """A warning that points at the first frame outside jaxgmm."""
    import sys

    frame, level = sys._getframe(1), 2
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] == __name__.partition(".")[0]:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, RuntimeWarning, stacklevel=level)


def as_float_array(value: Any, name: str, *, check_values: bool = False) -> jax.Array:
    """Any real array-like as a JAX float array: float32 and float64 kept (as x64 allows), the rest default float.

    check_values: look at concrete JAX arrays too (one fused check); NumPy-like input is always looked at.
    """
    return _as_float_array(value, name, check_values)[0]


def _as_float_array(value: Any, name: str, check_values: bool) -> tuple[jax.Array, tuple[float, float] | None]:
    """The array, and its smallest and largest value as given where they were looked at."""
    if isinstance(value, list | tuple) and is_traced(value):
        value = jnp.asarray(value)
    if isinstance(value, jax.Array):
        _check_kind(value.dtype, name)
        if not jnp.issubdtype(value.dtype, jnp.floating) or value.dtype.itemsize < 4:
            value = value.astype(jnp.result_type(float))
        if not check_values or not value.size or is_traced(value):
            return value, None
        seen = extremes(value)
        _check_range(*seen, value, name, value.dtype)
        return value, seen
    array = as_numpy(value, name)
    target = jax.dtypes.canonicalize_dtype(array.dtype) if array.dtype in (np.float32, np.float64) else jnp.result_type(float)
    seen = (float(array.min()), float(array.max())) if array.size else None
    if seen:
        _check_range(*seen, array, name, target)
    return _from_host(array, target), seen


def _from_host(array: np.ndarray, target: Any) -> jax.Array:
    """A host's array on the device, in one copy where it is large: jnp.asarray makes two (jax 0.10).

    The caller may write to the memory afterwards. device_put would share it where it happens to be aligned, so it gets a copy there;
    elsewhere it copies in the background, so that is waited for.
    """
    cast = np.asarray(array, target)
    if cast.nbytes < LARGE_COPY_BYTES:
        return jnp.asarray(cast)
    if cast.ctypes.data % _ALIGNED == 0 and np.may_share_memory(cast, array):
        cast = cast.copy()
    return jax.block_until_ready(jax.device_put(cast))


def extremes(array: jax.Array) -> tuple[float, float]:
    """Smallest and largest value of a concrete array, also where it is a constant inside somebody's jit."""
    host = on_host(array)  # where subnormal numbers are not flushed to zero
    if isinstance(host, np.ndarray):
        return float(host.min()), float(host.max())
    with jax.ensure_compile_time_eval():
        low, high = np.asarray(_extremes(array))
    return float(low), float(high)


@jax.jit
def _extremes(array: jax.Array) -> jax.Array:
    return jnp.stack([array.min(), array.max()])


def on_host(array: jax.Array) -> np.ndarray | jax.Array:
    """A concrete array as NumPy sees the same memory, if it lies in the host's; else the array itself: nothing is copied."""
    local = array.is_fully_addressable and all(device.platform == "cpu" for device in array.devices())
    return np.asarray(array) if local and len(array.devices()) == 1 else array


def to_host(tree: Any) -> Any:
    """Small arrays as NumPy's; from an accelerator every transfer is under way before the first is waited for."""
    if not on_cpu():
        for leaf in jax.tree.leaves(tree):
            if isinstance(leaf, jax.Array):
                leaf.copy_to_host_async()
    return jax.tree.map(np.asarray, tree)


def is_positive_definite(matrices: Any) -> bool:
    """Whether concrete matrices (..., D, D) all have a Cholesky factor in their own float type; on the host."""
    try:
        return bool(np.isfinite(np.linalg.cholesky(np.asarray(matrices))).all())
    except np.linalg.LinAlgError:
        return False


def as_numpy(value: Any, name: str) -> np.ndarray:
    """Real numbers of any kind as NumPy has them, values not looked at; None and missing ones are NaN."""
    if np.ma.isMaskedArray(value):
        raise TypeError(
            f"{name} is a masked array, whose mask would be lost; drop the masked rows, or give them sample_weight 0."
        )
    if hasattr(value, "toarray") and hasattr(value, "nnz"):
        raise TypeError(f"{name} is a sparse matrix; dense data were expected: use {name}.toarray().")
    if hasattr(value, "to_numpy") and hasattr(value, "columns"):
        value = value.to_numpy()
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ValueError(
            f"{name} is ragged: rows of equal length were expected. For data sets of different "
            "lengths see jaxgmm.pad and jaxgmm.fit_many."
        ) from error
    if array.dtype == object and array.size and all(_is_missing_or_real(v) for v in array.flat):
        array = np.array([np.nan if _is_missing(v) else float(v) for v in array.flat]).reshape(array.shape)
    _check_kind(array.dtype, name)
    if array.dtype == np.longdouble:
        array = array.astype(np.float64)
    return array


def _is_missing(value: Any) -> bool:
    return value is None or type(value).__name__ in ("NAType", "NaTType")


def _is_missing_or_real(value: Any) -> bool:
    return _is_missing(value) or (isinstance(value, numbers.Real) and not isinstance(value, bool))


def _check_kind(dtype: np.dtype, name: str) -> None:
    advice = {
        "b": "booleans; real numbers were expected: convert them with .astype(float) if 0/1 is what you mean",
        "c": "complex numbers; real numbers were expected: split real and imaginary parts into columns",
        "M": "dates; real numbers were expected: subtract a reference date and divide by a unit",
        "m": "time differences; real numbers were expected: divide by a unit, as in x / np.timedelta64(1, 's')",
        "U": "strings; real numbers were expected: convert them with .astype(float)",
        "S": "byte strings; real numbers were expected: convert them with .astype(float)",
        "O": "Python objects; real numbers were expected: convert them with .astype(float)",
    }
    if jnp.issubdtype(dtype, jax.dtypes.prng_key):
        raise TypeError(f"{name} is a random key; an array of real numbers was expected: is the order of arguments right?")
    if dtype.kind in advice:
        raise TypeError(f"{name} holds {advice[dtype.kind]}.")
    if dtype.kind not in "fiuV":
        raise TypeError(f"{name} has dtype {dtype}; real numbers were expected.")


def _check_range(low: float, high: float, array: Any, name: str, target: Any) -> None:
    if not (math.isfinite(low) and math.isfinite(high)):
        bad = ~np.isfinite(np.asarray(array, float))
        rows = f" in {bad.reshape(len(bad), -1).any(1).sum()} of {len(bad)} rows" if bad.ndim else ""
        what = "NaN" if np.isnan(np.asarray(array, float)).any() else "infinity"
        advice = ": drop such rows, impute them, or give them sample_weight 0" if name == "x" else ""
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


def as_data(x: Any, name: str = "x", *, check_values: bool = False, num_features: int | None = None) -> jax.Array:
    """Data as a float array (N, D) with D >= 1."""
    x = as_float_array(x, name) if not check_values else _data_values(x, name)
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
    if num_features is not None and x.shape[1] != num_features:
        raise ValueError(
            f"{name} has {x.shape[1]} features, the mixture {num_features}; give data of shape (N, {num_features})."
        )
    return x


def _data_values(x: Any, name: str) -> jax.Array:
    array, seen = _as_float_array(x, name, True)
    if seen:
        check_scale(*seen, array.dtype, name)
    return array


def check_scale(low: float, high: float, dtype: Any, name: str) -> None:
    """Refuses magnitudes whose squares overflow or vanish in the data's float type."""
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


def as_sample_weight(sample_weight: Any, num_observations: int, dtype: Any, *, check_values: bool = False) -> jax.Array | None:
    """Weights (N,) >= 0 in the data's dtype, or None for all ones."""
    if sample_weight is None:
        return None
    weight = as_float_array(sample_weight, "sample_weight", check_values=check_values).astype(dtype)
    if weight.shape != (num_observations,):
        raise ValueError(f"sample_weight has shape {weight.shape}; one weight a row was expected: ({num_observations},).")
    if not is_traced(weight) and (check_values or not isinstance(sample_weight, jax.Array)) and weight.size:
        low, high = extremes(weight)
        if low < 0:
            raise ValueError(
                f"sample_weight has a negative value, {low:.4g}; weights >= 0 were expected, 0 to leave a row out."
            )
        if high == 0:
            raise ValueError("sample_weight is 0 for every row: no data are left; give at least one row a positive weight.")
    return weight


def zero_ignored_rows(x: Any, sample_weight: Any, name: str = "x") -> Any:
    """x with rows of weight 0 set to zero (they may hold anything) where both are concrete, so that the rest can be checked."""
    if sample_weight is None or is_traced(x, sample_weight):
        return x
    array = x if isinstance(x, jax.Array) else as_numpy(x, name)
    weight = np.asarray(sample_weight) if isinstance(sample_weight, jax.Array) else as_numpy(sample_weight, "sample_weight")
    if array.ndim != 2 or weight.shape != array.shape[:1] or (weight > 0).all():
        return x
    kept = (weight > 0)[:, None]
    return jnp.where(kept, array, 0) if isinstance(array, jax.Array) else np.where(kept, array, np.zeros((), array.dtype))


def check_covariance_type(covariance_type: Any) -> None:
    """Refuses unknown names."""
    if not isinstance(covariance_type, str) or covariance_type not in TYPES:
        raise ValueError(f"covariance_type is {covariance_type!r}; one of {', '.join(map(repr, TYPES))} was expected.")


def check_choice(value: Any, name: str, choices: tuple[str, ...]) -> None:
    """Refuses a value that is not among the choices."""
    if value not in choices:
        raise ValueError(f"{name} is {value!r}; one of {', '.join(map(repr, choices))} was expected.")


def check_flag(value: Any, name: str) -> None:
    """Refuses what is not True or False."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} is {value!r}; True or False was expected.")


def check_count(value: Any, name: str, minimum: int = 1) -> None:
    """Refuses what is not a Python or NumPy integer >= minimum; True and 2.0 are not."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name} is {value!r} ({type(value).__name__}); an integer >= {minimum} was expected.")
    if value < minimum:
        raise ValueError(f"{name} is {value}; an integer >= {minimum} was expected.")


def check_number(value: Any, name: str, *, minimum: float = 0.0, exclusive: bool = False) -> None:
    """Refuses what is not a finite number >= minimum (> if exclusive); traced numbers pass."""
    if is_traced(value):
        return
    sign = ">" if exclusive else ">="
    if value is None or isinstance(value, bool | str) or np.ndim(value) != 0 or np.asarray(value).dtype.kind not in "fiuV":
        raise TypeError(f"{name} is {value!r}; a number {sign} {minimum:g} was expected.")
    number = float(value)
    if not math.isfinite(number) or number < minimum or (exclusive and number == minimum):
        raise ValueError(f"{name} is {number:g}; a finite number {sign} {minimum:g} was expected.")


def check_key(key: Any) -> None:
    """Refuses what is not one random key (typed, or legacy uint32)."""
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
