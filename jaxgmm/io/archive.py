"""Save a mixture, a fit, a posterior or a prior in one npz file, and load it, without pickle.

The file holds one array for each leaf of the object. The name of an array is the path of its leaf, such as "mixture/weights".
The entry "jaxgmm" holds JSON text with the number of the file format and the structure of the object. `numpy.load` can read the
file too. `load` looks up types in a fixed table, so that it never executes the content of a file. Arrays are stored without
compression, so that a small file cannot contain a large array. `load` also reads the JSON files of the command; see the module
`json_records`.
"""

from __future__ import annotations

import dataclasses
import json
import os
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..calls import public
from ..devices.host import Tree
from ..em.result import Fit
from ..files import replacing
from ..mixture import Mixture
from ..posterior.result import Posterior
from ..priors.functions import COVARIANCE_LAWS, FAMILIES
from ..priors.interface import MixturePrior
from ..validation import is_traced, warn_at_caller
from .json_records import read_record
from .valid_results import check_mixtures, check_values

_FORMAT = 1
_HEADER = "jaxgmm"
_SAVEABLE = (Mixture, Fit, Posterior, *FAMILIES)
_TYPES: dict[str, Callable[..., object]] = {cls.__name__: cls for cls in (*_SAVEABLE, *COVARIANCE_LAWS)}
_EXPECTED = "a file written by jaxgmm.save was expected, or a json file of the command"


@public
def save(path: str | os.PathLike[str], thing: Mixture | Fit | Posterior | MixturePrior) -> Path:
    """Save a Mixture, Fit, Posterior or prior to a file, from which `load` restores the object bit for bit.

    The object may also be a stack, such as the result of `fit_many`. An existing file at `path` is replaced without
    confirmation, as by numpy.save. The data are first written to a temporary file, so that an existing file is unchanged if
    writing fails.

    Args:
        path: the path of the file; the suffix ".npz" is added if it is missing, as by numpy.savez.
        thing: the object to save. Python numbers in it become arrays.

    Returns:
        The path of the file.

    Raises:
        TypeError: `thing` has another type, is traced, or has an entry that cannot be stored as an array.
        ValueError: the shapes of a mixture do not match each other.
        OSError: the folder does not exist or is not writable.

    Warns:
        RuntimeWarning: `load` will refuse the file, for example because a mixture has negative weights.

    Example:
        >>> import jaxgmm, pathlib, tempfile
        >>> mixture = jaxgmm.make_mixture([0.5, 0.5], [[0.0], [5.0]], [[[1.0]], [[1.0]]])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = jaxgmm.save(pathlib.Path(folder) / "mixture", mixture)
        ...     path.name, jaxgmm.load(path).means.tolist()
        ('mixture.npz', [[0.0], [5.0]])
    """
    if not isinstance(thing, _SAVEABLE):
        raise TypeError(f"thing is {type(thing).__name__}; one of {', '.join(c.__name__ for c in _SAVEABLE)} was expected.")
    if is_traced(thing):
        raise TypeError("thing is traced and has no values to write; call save outside jit, vmap and grad.")
    check_mixtures(thing)
    arrays: dict[str, np.ndarray] = {}
    structure = _encode(thing, "", arrays)
    header = json.dumps({"format": _FORMAT, "thing": structure})
    entries: dict[str, Any] = {_HEADER: np.array(header)} | arrays
    target = _with_suffix(path)
    try:
        check_values(_decode(structure, dict(arrays)))
    except (ValueError, TypeError) as error:
        warn_at_caller(f"'{target}' is written, but jaxgmm.load will refuse it: {error}")
    with replacing(target) as stream:
        np.savez(stream, **entries)
    return target


@public
def load(path: str | os.PathLike[str]) -> Any:
    """Load an object that `save` wrote. Its type, fields, shapes and dtypes are those of the saved object.

    A JSON file of the commands `jaxgmm fit`, `compare` and `select` is loaded as the Fit that it describes. The history of this
    Fit ends with the last EM step. All arrays of the loaded object are JAX arrays.

    Arrays of 64 bits keep their dtype if jax_enable_x64 is set. Otherwise, float64 numbers are rounded to float32 with a
    warning, and 64-bit integers become 32-bit integers; if a value is outside the range of 32 bits, an error is raised.

    Args:
        path: the path that was given to `save`, with or without ".npz"; or a file that ends with ".json".

    Returns:
        A Mixture, Fit, Posterior, Prior or IndependentPrior.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: neither `save` nor the command wrote the file, a newer jaxgmm wrote it, the file is damaged, a value is
            outside the range of 32 bits, or the file holds a mixture or a prior that `make_mixture` or the samplers would
            refuse. If the status of a Fit or a Posterior says that it failed, its numbers are not checked.

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
    return load_with_names(path)[0]


def load_with_names(path: str | os.PathLike[str]) -> tuple[Any, list[str] | None]:
    """Return the object that `load` returns, and the names of its features or None. Only JSON files have such names."""
    whole = _with_suffix(path)
    path = whole if whole.is_file() else Path(path)
    if not path.exists():
        raise FileNotFoundError(f"there is no file '{path}'; {_EXPECTED}.")
    if not path.is_file():
        raise ValueError(f"'{path}' is not a file; {_EXPECTED}.")
    if path.suffix.lower() == ".json":
        thing, names = read_record(path)
        return _as_jax(thing, path), names
    header, arrays = _read(path)
    try:
        thing = _decode(header["thing"], arrays)
        if arrays or not isinstance(thing, _SAVEABLE) or not all(map(_is_storable, jax.tree.leaves(thing))):
            raise ValueError
        check_mixtures(thing)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        why = f": {error}" if str(error).endswith(".") else "."
        raise ValueError(f"'{path}' is damaged: its arrays and its header do not match{why}") from error
    try:
        check_values(thing)
    except (ValueError, TypeError) as error:
        raise ValueError(f"'{path}' is not valid: {error}") from error
    return _as_jax(thing, path), None


def _with_suffix(path: str | os.PathLike[str]) -> Path:
    """Return the path of a file, with ".npz" added if this suffix is missing."""
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"path is {type(path).__name__}; a string or a path was expected.")
    path = os.fspath(path)
    return Path(path if path.endswith(".npz") else path + ".npz")


def _encode(value: Any, name: str, arrays: dict[str, np.ndarray]) -> object:
    """Return the structure and the strings of a pytree in JSON types; add its numbers and arrays to `arrays` by name."""
    if value is None or isinstance(value, str):
        return value
    if type(value).__name__ in _TYPES:
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return {"kind": type(value).__name__, "fields": _encode_items(fields, name, arrays)}
    if isinstance(value, dict):
        return {"dict": _encode_items(value, name, arrays)}
    if isinstance(value, list | tuple):
        return {"list": [_encode(v, f"{name}/{i}", arrays) for i, v in enumerate(value)]}
    name = name.removeprefix("/")
    if isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        raise TypeError(f"{name} is a random key, which cannot be saved; save the seed, or jax.random.key_data(key), instead.")
    array = np.asarray(value if isinstance(value, np.ndarray | np.generic) else jnp.asarray(value))
    if not _is_storable(array):
        raise TypeError(f"{name} has dtype {array.dtype}; integers, booleans, or floats of 16, 32 or 64 bits were expected.")
    if name in arrays or name == _HEADER:
        raise ValueError(f"{name} is the name of two entries; distinct names were expected.")
    arrays[name] = array
    return {"array": name}


def _is_storable(array: object) -> bool:
    """Return whether the dtype of an array belongs to NumPy; other dtypes, such as bfloat16, would be loaded as bytes."""
    return isinstance(array, np.ndarray) and array.dtype.kind in "biuf" and array.dtype.itemsize <= 8


def _encode_items(items: Mapping[str, object], name: str, arrays: dict[str, np.ndarray]) -> dict[str, object]:
    """Return the structures of the values of a dict, or raise TypeError if a key is not a string."""
    for key in items:
        if not isinstance(key, str):
            raise TypeError(f"{name.removeprefix('/')} has an entry called {key!r}; names that are strings were expected.")
    return {key: _encode(value, f"{name}/{key}", arrays) for key, value in items.items()}


def _decode(node: Any, arrays: dict[str, np.ndarray]) -> Any:
    """Rebuild a pytree from its structure, and remove the arrays of the pytree from `arrays`."""
    if node is None or isinstance(node, str):
        return node
    if "array" in node:
        return arrays.pop(node["array"])
    if "list" in node:
        return [_decode(part, arrays) for part in node["list"]]
    if "dict" in node:
        return {key: _decode(part, arrays) for key, part in node["dict"].items()}
    fields = {key: _decode(part, arrays) for key, part in node["fields"].items()}
    absent = [key for key, value in fields.items() if value is None and (node["kind"], key) != ("Posterior", "prior")]
    if absent:
        raise ValueError(f"{absent[0]} is missing.")
    return _TYPES[node["kind"]](**fields)


def _read(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return the header and the arrays of a file, or raise ValueError if `save` did not write the file or it is damaged."""
    foreign = f"'{path}' is not a file of jaxgmm; {_EXPECTED}."
    with open(path, "rb") as stream:
        try:
            file = np.load(stream, allow_pickle=False)
        except (EOFError, ValueError, zipfile.BadZipFile) as error:
            raise ValueError(foreign) from error
        if isinstance(file, np.ndarray) or _HEADER not in file.files:
            raise ValueError(foreign)
        try:
            if any(member.compress_type != zipfile.ZIP_STORED for member in file.zip.infolist()):
                raise ValueError("it is compressed, which save never does")
            names = [name.removesuffix(".npy") for name in file.zip.namelist()]
            if len(set(names)) < len(names):
                raise ValueError("it holds two arrays of one name")
            text = file[_HEADER].item()
            header = json.loads(text)
            version = header["format"]
            if isinstance(version, int) and version <= _FORMAT:
                # check this before reading the arrays, because a damaged file may hold very many
                if len(names) - 1 > text.count('"array"'):
                    raise ValueError("it holds arrays that its header does not name")
                return header, {name: _read_array(file, name) for name in names if name != _HEADER}
        except Exception as error:  # zipfile, NumPy and json raise many types of errors for damaged files
            raise ValueError(f"'{path}' is damaged: {error}.") from error
    raise ValueError(
        f"'{path}' has format {version}; up to {_FORMAT} was expected: a newer jaxgmm wrote it, so upgrade jaxgmm to read it."
    )


def _read_array(file: Any, name: str) -> np.ndarray:
    """Return one array of an npz file.

    The expression `file[name]` would search all names. For a file with 10^5 arrays, these searches took half a minute.
    """
    with file.zip.open(f"{name}.npy") as stream:
        return np.lib.format.read_array(stream, allow_pickle=False)


def _as_jax(thing: Tree, path: Path) -> Tree:
    """Return a pytree with JAX arrays as leaves; the numbers have 32 bits unless 64-bit types are enabled in JAX."""
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
            f"'{path}' holds float64 numbers, which were rounded to float32; to keep every digit, enable 64 bits with "
            "jax.config.update('jax_enable_x64', True)."
        )
    return thing
