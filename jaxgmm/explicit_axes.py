"""Call functions with arrays that lie on a mesh with Explicit axes. The type of such an array contains its sharding.

Compiled programs of this package divide rows themselves, which needs a mesh with Auto axes. During a call, the arrays are
therefore placed on a mesh with the same devices and Auto axes. This copies nothing. The results return to the caller's mesh.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import jax
from jax.core import Tracer
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec


def explicit_mesh(values: Iterable[object]) -> Mesh | None:
    """Return a mesh with an Explicit axis on which a concrete array of a pytree lies, or None.

    Lists are not searched, because data in lists may have millions of leaves.
    """
    for leaf in jax.tree.leaves([value for value in values if not isinstance(value, list)]):
        if isinstance(leaf, jax.Array) and not isinstance(leaf, Tracer):
            mesh = getattr(leaf.sharding, "mesh", None)
            if isinstance(mesh, Mesh) and AxisType.Explicit in mesh.axis_types:
                return mesh
    return None


def call_with_auto_axes(function: Callable[..., Any], mesh: Mesh, args: tuple, kwargs: dict[str, Any]) -> Any:
    """Return function(*args, **kwargs), where arrays on the mesh lie on a mesh with Auto axes until the function returns."""
    auto = Mesh(mesh.devices, mesh.axis_names, axis_types=(AxisType.Auto,) * len(mesh.axis_names))
    args, kwargs = _move((args, kwargs), mesh, auto)
    with _context(auto):
        result = function(*args, **kwargs)
    return _move(result, auto, mesh)


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

    def move(leaf: Any) -> Any:
        if not isinstance(leaf, jax.Array) or isinstance(leaf, Tracer):
            return leaf
        sharding = leaf.sharding
        if isinstance(sharding, NamedSharding) and sharding.mesh == source:
            return jax.device_put(leaf, NamedSharding(target, sharding.spec))
        if sharding.is_fully_replicated and sharding.device_set == set(source.devices.flat):
            return jax.device_put(leaf, NamedSharding(target, PartitionSpec()))
        return leaf

    return jax.tree.map(move, tree)
