"""Call functions with arrays that lie on a mesh with Explicit axes. The type of such an array contains its sharding.

Compiled programs of this package divide rows themselves, which needs a mesh with Auto axes. During a call, the arrays are
therefore placed on a mesh with the same devices and Auto axes. This copies nothing. The results return to the caller's mesh.
Traced arrays are treated in the same way, except that results are on all devices, and JAX decides what moves between devices.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import jax
from jax.core import Tracer
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

from .copies import arrays_in, copy_arrays


def explicit_mesh(values: Iterable[object]) -> Mesh | AbstractMesh | None:
    """Return a mesh with an Explicit axis on which an array of a pytree lies, or None; for traced arrays, it is abstract."""
    found = None
    for leaf in arrays_in(values):
        mesh = getattr(jax.typeof(leaf).sharding if isinstance(leaf, Tracer) else leaf.sharding, "mesh", None)
        if mesh is not None and AxisType.Explicit in mesh.axis_types:
            found = mesh
            if isinstance(leaf, Tracer):
                break
    return found


def call_with_auto_axes(function: Callable[..., Any], mesh: Mesh | AbstractMesh, args: tuple, kwargs: dict[str, Any]) -> Any:
    """Return function(*args, **kwargs), where arrays on the mesh lie on a mesh with Auto axes until the function returns."""
    if not isinstance(mesh, Mesh):
        return _call_traced(function, mesh, args, kwargs)
    auto = Mesh(mesh.devices, mesh.axis_names, axis_types=(AxisType.Auto,) * len(mesh.axis_names))
    args, kwargs = _move(args, mesh, auto), _move(kwargs, mesh, auto)
    with _context(auto):
        result = function(*args, **kwargs)
    return _move(result, auto, mesh)


def _call_traced(function: Callable[..., Any], mesh: AbstractMesh, args: tuple, kwargs: dict[str, Any]) -> Any:
    """Return `call_with_auto_axes` for traced arrays on an abstract mesh."""
    leaves, structure = jax.tree.flatten((args, kwargs))
    places = [place for place, leaf in enumerate(leaves) if isinstance(leaf, jax.Array)]

    def of_arrays(*arrays: jax.Array) -> Any:
        given = [*leaves]
        for place, array in zip(places, arrays, strict=True):
            given[place] = array
        args, kwargs = jax.tree.unflatten(structure, given)
        return function(*args, **kwargs)

    everywhere = NamedSharding(mesh, PartitionSpec())
    mapped = jax.sharding.auto_axes(of_arrays, axes=mesh.axis_names, out_sharding=everywhere)
    return mapped(*(leaves[place] for place in places))


def _context(mesh: Mesh) -> AbstractContextManager:
    """Return a context in which the mesh takes the place of the mesh that the caller has set with `jax.set_mesh`, if any."""
    if jax.sharding.get_abstract_mesh().empty:
        return nullcontext()
    try:
        return jax.set_mesh(mesh)
    except ValueError:  # inside a trace, JAX does not allow another mesh
        return nullcontext()


def _move(tree: Any, source: Mesh, target: Mesh) -> Any:
    """Return a pytree whose concrete arrays on the mesh `source` lie on the mesh `target`, which has the same devices."""

    def move(array: jax.Array) -> jax.Array:
        sharding = array.sharding
        if isinstance(sharding, NamedSharding) and sharding.mesh == source:
            return jax.device_put(array, NamedSharding(target, sharding.spec))
        if sharding.is_fully_replicated and sharding.device_set == set(source.devices.flat):
            return jax.device_put(array, NamedSharding(target, PartitionSpec()))
        return array

    return copy_arrays(tree, move)
