"""Work with global arrays: arrays whose parts are held by several processes, as after `jax.distributed.initialize()`.

All processes run the same script, so each of them calls the same functions with the same global arrays. A process can read only
its own parts. Decisions that depend on values are therefore made from numbers that all processes have exchanged. Then all
processes decide the same: for example, all raise the same error, or none.

If processes passed different starts or options, they would wait for each other forever, or end with different results. At the
beginning of each call with a global array, they therefore compare hashes of all arguments.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from functools import lru_cache
from typing import Any, TypeGuard

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from .copies import arrays_in, copy_arrays

# names of the public functions that take global arrays
_FUNCTIONS = {"e_step", "fit", "initialize", "fit_restarts", "fit_many", "default_prior", "standard_errors"}
_FUNCTIONS |= {"bic", "aic", "icl", "log_prob", "responsibilities", "predict", "laplace", "gibbs", "nuts", "log_evidence"}
_BYTES = 32  # length of a hash or of a name that processes exchange
_is_inside: ContextVar[bool] = ContextVar("whether a public function has called the present one", default=False)


def is_global(value: object) -> TypeGuard[jax.Array]:
    """Return whether a value is a concrete array of which this process does not hold all entries."""
    if not isinstance(value, jax.Array) or isinstance(value, Tracer):
        return False
    return not (value.is_fully_addressable or value.is_fully_replicated)


def of_all_processes(values: np.ndarray, array: jax.Array | None) -> np.ndarray:
    """Return the values (...) of all processes that hold a part of a global array, (H, ...); all of them must call this.

    If the array is None, the values are those of all processes.
    """
    devices = jax.devices() if array is None else array.sharding.device_set
    devices = sorted(devices, key=lambda device: (device.process_index, device.id))
    mesh = Mesh(np.array(devices), ("device",), axis_types=(AxisType.Auto,))
    words = np.ascontiguousarray(values).reshape(-1).view(np.uint32)
    with jax.ensure_compile_time_eval():
        rows = NamedSharding(mesh, PartitionSpec("device"))
        own = jax.make_array_from_callback((mesh.size, len(words)), rows, lambda index: words[None])
        found = np.asarray(_copy_to_all(mesh)(own))
    # indices of one device of each process
    first = np.unique([device.process_index for device in devices], return_index=True)[1]
    return found[first].view(values.dtype).reshape(-1, *values.shape)


@lru_cache
def _copy_to_all(mesh: Mesh) -> Callable[[jax.Array], jax.Array]:
    """Return a compiled function that copies an array to all devices of a mesh."""
    return jax.jit(lambda array: array, out_shardings=NamedSharding(mesh, PartitionSpec()))


def own_parts(*arrays: jax.Array | np.ndarray) -> list[tuple[Any, ...]]:
    """Return the parts of arrays that this process holds. Each part holds the same rows of all arrays.

    The first array is global. Each of the others is divided in the same way, or this process holds all its rows. If several
    devices hold the same rows, only one of them counts, so that each row is in one part of one process.
    """
    first = arrays[0]
    assert isinstance(first, jax.Array)
    shards = [shard for shard in first.addressable_shards if shard.replica_id == 0]
    columns = []
    for array in arrays:
        if is_global(array):
            by_device = {shard.device: shard.data for shard in array.addressable_shards}
            columns.append([by_device[shard.device] for shard in shards])
        else:
            whole = np.asarray(array)
            columns.append([whole[shard.index[0]] for shard in shards])
    return list(zip(*columns, strict=True))


def over_parts(function: Callable[..., Any], *arrays: jax.Array | np.ndarray, combine: np.ufunc = np.add) -> np.ndarray:
    """Return function(*arrays), computed by NumPy. If the first array is global, each process computes it for its own parts.

    The numbers of all parts are then combined, by default added, so that all processes return the same. The function must take
    parts without rows.
    """
    first = arrays[0]
    if not is_global(first):
        return np.asarray(function(*map(np.asarray, arrays)), float)
    parts = own_parts(*arrays) or [tuple(np.zeros((0, *array.shape[1:]), array.dtype) for array in arrays)]
    own = [np.asarray(function(*map(np.asarray, part)), float) for part in parts]
    return combine.reduce(of_all_processes(combine.reduce(own), first))


def call_across_processes(
    call: Callable[..., Any], function: Callable[..., Any], further: tuple[str, ...], args: tuple, kwargs: dict[str, Any]
) -> Any:
    """Return call(*args, **kwargs), where `call` is the public form of `function`, in one of several processes.

    If there is a global array among the arguments, the processes first agree that all make the same call. A result that all
    devices hold is returned as an array of this process alone, so that one process can use it without the others. Without a
    global array, the call concerns only this process.

    `further` are the names of the options that the function accepts as **options.
    """
    found = next(filter(is_global, arrays_in((*args, *kwargs.values()))), None)
    if found is None:
        args, kwargs = copy_arrays((args, kwargs), _local_copy)
    else:
        if function.__name__ not in _FUNCTIONS:
            raise ValueError(
                f"{function.__name__} was called with an array whose parts are held by several processes; an array of this "
                f"process was expected: only {', '.join(sorted(_FUNCTIONS))} take arrays of several processes."
            )
        check_same_arguments(function.__name__, _named_arguments(function, further, args, kwargs), found)
        args, kwargs = copy_arrays((args, kwargs), _uncommitted_copy)
        if "progress" in {*inspect.signature(function).parameters, *further}:
            kwargs = kwargs | {"progress": False}  # a bar would change the compiled program
    token = _is_inside.set(True)
    try:
        result = call(*args, **kwargs)
    finally:
        _is_inside.reset(token)
    return result if found is None else copy_arrays(result, _local_copy)


def is_inside() -> bool:
    """Return whether a public function is running, so that the processes have already compared their arguments."""
    return _is_inside.get()


def _local_copy(array: jax.Array) -> jax.Array:
    """Return an array that the devices of several processes hold as an array of this process."""
    return array if array.is_fully_addressable or is_global(array) else jax.device_put(np.asarray(array))


def _uncommitted_copy(array: jax.Array) -> jax.Array:
    """Return an array that is bound to devices of this process as an array that JAX may copy to all devices of a mesh."""
    if is_global(array) or not array.committed or jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
        return array
    return jax.device_put(np.asarray(array))


def check_same_arguments(function: str, given: Mapping[str, object], array: jax.Array | None) -> None:
    """Raise ValueError, in all processes, unless all processes call the same function with the same arguments.

    The processes are those that hold a part of the array, or all processes if it is None.
    """
    software = f"{jax.__version__}, {'64' if jax.config.read('jax_enable_x64') else '32'} bits"
    hashes = {name: _hash(value) for name, value in given.items()}
    own = np.stack([_as_bytes(function), _as_bytes(software), _as_bytes(_hash(tuple(hashes.items())))])
    every = of_all_processes(own, array)
    if (every == every[0]).all():
        return
    names = [bytes(row).rstrip(b"\0").decode() for row in every[:, 0]]
    settings = [bytes(row).rstrip(b"\0").decode() for row in every[:, 1]]
    for what, texts in (("call different functions", names), ("use different settings of JAX", settings)):
        if len(set(texts)) > 1:
            other = next(i for i, text in enumerate(texts) if text != texts[0])
            raise ValueError(
                f"The processes {what}: process 0 {texts[0]}, process {other} {texts[other]}; every process must run the same "
                "script in the same environment, and make the same calls in the same order."
            )
    every = of_all_processes(np.stack(list(map(_as_bytes, hashes.values()))), array)
    differs = (every != every[0]).any(-1)  # (H, arguments)
    which = [name for name, flag in zip(hashes, differs.any(0), strict=True) if flag]
    others = ", ".join(map(str, np.flatnonzero(differs.any(1))))
    are = "is" if len(which) == 1 else "are"
    raise ValueError(
        f"{' and '.join(which)} of {function} {are} not the same in all processes: process 0 and {others} differ; "
        "every process must pass the same start, options and random key, and only x and sample_weight may be divided among "
        "processes, as by jax.make_array_from_process_local_data."
    )


def _named_arguments(
    function: Callable[..., Any], further: tuple[str, ...], args: tuple, kwargs: dict[str, Any]
) -> dict[str, object]:
    """Return the arguments of a call by name, with defaults. The names depend only on the function."""
    parameters = inspect.signature(function).parameters.values()
    values = {p.name: p.default for p in parameters if p.kind is not p.VAR_KEYWORD} | dict.fromkeys(further)
    values |= dict(zip(values, args, strict=False))
    values |= {name: value for name, value in kwargs.items() if name in values}
    unknown = sorted(kwargs.keys() - values.keys())  # the call will raise an error, in all processes or in none
    return values | {"progress": None, "other arguments": (len(args), unknown)}


def _hash(value: object) -> bytes:
    """Return a hash of an argument; for a global array, it is a hash of its shape and of its sharding."""
    found = hashlib.blake2b(digest_size=_BYTES)
    try:
        leaves, structure = jax.tree.flatten(value)
    except (TypeError, ValueError):  # the keys of a dictionary cannot be sorted
        leaves, structure = [repr(value)], None
    found.update(str(structure).encode())
    for leaf in leaves:
        if is_global(leaf):
            sharding = leaf.sharding
            devices = [device.id for device in sharding.device_set]
            found.update(repr((leaf.shape, str(leaf.dtype), str(getattr(sharding, "spec", None)), sorted(devices))).encode())
        elif isinstance(leaf, jax.Array) or hasattr(leaf, "__array__"):
            if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
                leaf = jax.random.key_data(leaf)
            array = np.asarray(leaf)
            found.update(repr((array.shape, str(array.dtype))).encode())
            found.update(repr(array.tolist()).encode() if array.dtype == object else np.ascontiguousarray(array).tobytes())
        else:
            name = getattr(leaf, "__qualname__", None)  # a repr holds an address, which differs between processes
            found.update((repr(leaf) if name is None else f"{leaf.__module__}.{name}").encode())
    return found.digest()


def _as_bytes(value: str | bytes) -> np.ndarray:
    """Return a short text or a hash as bytes (32,)."""
    code = (value.encode() if isinstance(value, str) else value)[:_BYTES].ljust(_BYTES, b"\0")
    return np.frombuffer(code, np.uint8)
