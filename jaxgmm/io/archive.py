"""save and load: one npz file for a mixture, a fit, a posterior or a prior, and no pickle.

The file holds an array for each leaf, named by its place ("mixture/weights"), and one more, "jaxgmm", a text in JSON: the
number of the format, and how the arrays make up the thing. `numpy.load` reads it too. What is read is looked up in a fixed
table of types: nothing in a file is ever executed, and arrays are stored as they are, so none is larger than its file.
"""

from __future__ import annotations

import dataclasses
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..em.result import Fit
from ..files import replacing
from ..mixture import Mixture, check_shapes
from ..posterior.result import Posterior
from ..priors.functions import COVARIANCE_LAWS, FAMILIES
from ..priors.interface import MixturePrior
from ..validation import check_covariance_type, is_traced, warn_at_caller

_FORMAT = 1
_HEADER = "jaxgmm"
_THINGS = (Mixture, Fit, Posterior, *FAMILIES)
_KINDS = {kind.__name__: kind for kind in (*_THINGS, *COVARIANCE_LAWS)}
_EXPECTED = "one written by jaxgmm.save was expected"


def save(path: Any, thing: Mixture | Fit | Posterior | MixturePrior) -> Path:
    """A file of a Mixture, Fit, Posterior or prior, or of a stack of them, that `load` reads back to the last bit.

    The file is written beside its place and then moved there: what was at `path` is replaced as a whole, as by numpy.save
    without a question, or is still whole if writing fails.

    Args:
        path: where to; ".npz" is added where it is missing, as numpy.savez does.
        thing: what to keep. Python numbers in it become arrays.

    Returns:
        The path of the file.

    Raises:
        TypeError: another type, traced values, or an entry that no array can hold.
        ValueError: a mixture whose shapes do not go together.
        OSError: the folder is not there or cannot be written to.

    Example:
        >>> import jaxgmm, pathlib, tempfile
        >>> mixture = jaxgmm.make_mixture([0.5, 0.5], [[0.0], [5.0]], [[[1.0]], [[1.0]]])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = jaxgmm.save(pathlib.Path(folder) / "mixture", mixture)
        ...     path.name, jaxgmm.load(path).means.tolist()
        ('mixture.npz', [[0.0], [5.0]])
    """
    if not isinstance(thing, _THINGS):
        raise TypeError(f"thing is {type(thing).__name__}; one of {', '.join(k.__name__ for k in _THINGS)} was expected.")
    if is_traced(thing):
        raise TypeError("thing is traced, and has no numbers to write; call save outside jit, vmap and grad.")
    _check_mixtures(thing)
    arrays: dict[str, np.ndarray] = {}
    header = {"format": _FORMAT, "thing": _encode(thing, "", arrays)}
    target = _with_suffix(path)
    with replacing(target) as stream:
        np.savez(stream, **{_HEADER: np.array(json.dumps(header))}, **arrays)
    return target


def load(path: Any) -> Any:
    """What `save` wrote: the same type, fields, shapes and dtypes, as JAX arrays.

    float64 is kept where JAX keeps it (jax_enable_x64). Otherwise numbers are rounded to float32 with a warning, and refused
    where float32 cannot hold them; 64-bit integers become 32-bit ones, which must hold them. float32 stays float32.

    Args:
        path: as given to `save`, with or without ".npz".

    Returns:
        A Mixture, Fit, Posterior, Prior or IndependentPrior.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: not a file of `save`'s, from a newer jaxgmm, or damaged; numbers that 32 bits cannot hold.

    Warns:
        RuntimeWarning: float64 numbers were rounded to float32.

    Example:
        >>> import jaxgmm, pathlib, tempfile
        >>> x = jaxgmm.datasets.load("galaxies")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = jaxgmm.save(pathlib.Path(folder) / "prior.npz", jaxgmm.default_prior(x, num_components=3))
        ...     jaxgmm.load(path).weight_concentration.tolist()
        [1.0, 1.0, 1.0]
    """
    whole = _with_suffix(path)
    path = whole if whole.is_file() else Path(path)
    if not path.exists():
        raise FileNotFoundError(f"there is no file '{path}'; {_EXPECTED}.")
    header, arrays = _read(path)
    try:
        thing = _decode(header["thing"], arrays)
        if arrays or not isinstance(thing, _THINGS) or not all(map(_is_storable, jax.tree.leaves(thing))):
            raise ValueError
        _check_mixtures(thing)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        why = f": {error}" if str(error).endswith(".") else "."
        raise ValueError(f"'{path}' is damaged: its arrays and its description do not go together{why}") from error
    return _as_jax(thing, path)


def _with_suffix(path: Any) -> Path:
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"path is {type(path).__name__}; a string or a path was expected.")
    path = os.fspath(path)
    return Path(path if path.endswith(".npz") else path + ".npz")


def _check_mixtures(thing: Any) -> None:
    for part in jax.tree.leaves(thing, is_leaf=lambda part: isinstance(part, Mixture)):
        if isinstance(part, Mixture):
            check_covariance_type(part.covariance_type)
            check_shapes(*(np.asarray(leaf) for leaf in (part.weights, part.means, part.covariances)), part.covariance_type)


def _encode(value: Any, name: str, arrays: dict[str, np.ndarray]) -> Any:
    """A description in JSON of a tree; its leaves go into arrays, by name. Text stands for itself."""
    if value is None or isinstance(value, str):
        return value
    if type(value).__name__ in _KINDS:
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return {"kind": type(value).__name__, "fields": _encode_items(fields, name, arrays)}
    if isinstance(value, dict):
        return {"dict": _encode_items(value, name, arrays)}
    if isinstance(value, list | tuple):
        return {"list": [_encode(v, f"{name}/{i}", arrays) for i, v in enumerate(value)]}
    name = name.removeprefix("/")
    if isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        raise TypeError(f"{name} is a random key, which is not kept in files; keep the seed, or jax.random.key_data of it.")
    array = np.asarray(value if isinstance(value, np.ndarray | np.generic) else jnp.asarray(value))
    if not _is_storable(array):
        raise TypeError(f"{name} has dtype {array.dtype}; integers, booleans, or floats of 16, 32 or 64 bits were expected.")
    if name in arrays or name == _HEADER:
        raise ValueError(f"{name} is the name of two entries; different names were expected.")
    arrays[name] = array
    return {"array": name}


def _is_storable(array: Any) -> bool:
    """Not bfloat16 and its like: they are no types of NumPy's own, and would come back as bytes."""
    return isinstance(array, np.ndarray) and array.dtype.kind in "biuf" and array.dtype.itemsize <= 8


def _encode_items(items: dict[str, Any], name: str, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    for key in items:
        if not isinstance(key, str):
            raise TypeError(f"{name.removeprefix('/')} has an entry called {key!r}; names that are strings were expected.")
    return {key: _encode(value, f"{name}/{key}", arrays) for key, value in items.items()}


def _decode(node: Any, arrays: dict[str, np.ndarray]) -> Any:
    """The tree of a description; what it takes leaves `arrays`."""
    if node is None or isinstance(node, str):
        return node
    if "array" in node:
        return arrays.pop(node["array"])
    if "list" in node:
        return [_decode(part, arrays) for part in node["list"]]
    if "dict" in node:
        return {key: _decode(part, arrays) for key, part in node["dict"].items()}
    return _KINDS[node["kind"]](**{key: _decode(part, arrays) for key, part in node["fields"].items()})


def _read(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Header and arrays of a file, or a sentence why not."""
    foreign = f"'{path}' is not a file of jaxgmm's; {_EXPECTED}."
    with open(path, "rb") as stream:
        try:
            file = np.load(stream, allow_pickle=False)
        except (EOFError, ValueError, zipfile.BadZipFile) as error:
            raise ValueError(foreign) from error
        if isinstance(file, np.ndarray) or _HEADER not in file.files:
            raise ValueError(foreign)
        try:
            if any(member.compress_type != zipfile.ZIP_STORED for member in file.zip.infolist()):
                raise ValueError("it is compressed, which save does not do")
            header = json.loads(file[_HEADER].item())
            written = header["format"]
            if isinstance(written, int) and written <= _FORMAT:
                return header, {name: file[name] for name in file.files if name != _HEADER}
        except Exception as error:  # zip, NumPy and JSON have a dozen names for broken bytes
            raise ValueError(f"'{path}' is damaged: {error}.") from error
    raise ValueError(f"'{path}' has format {written}; up to {_FORMAT} was expected: a newer jaxgmm wrote it, upgrade this one.")


def _as_jax(thing: Any, path: Path) -> Any:
    """Leaves as JAX arrays, in 32 bits where JAX has no more."""
    rounded = False

    def convert(array: np.ndarray) -> jax.Array:
        nonlocal rounded
        target = jax.dtypes.canonicalize_dtype(array.dtype)
        if target == array.dtype:
            return jnp.asarray(array)
        with np.errstate(over="ignore", under="ignore"):
            narrow = array.astype(target)
        floating = target.kind == "f"
        if (np.isinf(narrow) & ~np.isinf(array)).any() if floating else (narrow != array).any():
            raise ValueError(
                f"'{path}' has {array.dtype} numbers that {target} cannot hold; enable 64 bits with "
                "jax.config.update('jax_enable_x64', True)."
            )
        rounded |= floating
        return jnp.asarray(narrow)

    thing = jax.tree.map(convert, thing)
    if rounded:
        warn_at_caller(
            f"'{path}' holds float64 numbers, which were rounded to float32; to have them whole, enable 64 bits with "
            "jax.config.update('jax_enable_x64', True)."
        )
    return thing
