"""Run the chains of a sampler on several devices, so that each device runs its own chains.

A user asks for this by placing a copy of the data on each device of a mesh. If the rows are divided among the devices instead,
all devices work together on each chain: see `row_shards`. While the chains run, nothing moves between devices.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np
from jax.core import Tracer
from jax.sharding import Mesh, NamedSharding, PartitionSpec

Found = TypeVar("Found")


def chain_mesh(x: object) -> Mesh | None:
    """Return the mesh of several devices that all hold the concrete data x, or None if there is no such mesh."""
    if not isinstance(x, jax.Array) or isinstance(x, Tracer) or not isinstance(x.sharding, NamedSharding):
        return None
    mesh = x.sharding.mesh
    has_all = x.is_fully_replicated and x.is_fully_addressable
    return mesh if has_all and isinstance(mesh, Mesh) and mesh.size > 1 else None


def over_chains(function: Callable[..., Found], mesh: Mesh | None, by_chain: tuple[Any, ...], shared: tuple[Any, ...]) -> Found:
    """Return function(*by_chain, *shared), where each device of the mesh computes the entries of its own chains.

    If the number of chains is not a multiple of the number of devices, some devices run a chain that another device also runs.

    Args:
        function: maps pytrees of arrays (C, ...) and `shared` to a pytree of arrays (C, ...). The entries of one chain must not
            depend on other chains. With a mesh, the function must take all arrays as arguments.
        mesh: the devices, or None for one device.
        by_chain: pytrees of arrays (C, ...).
        shared: pytrees of arrays that are the same for all chains.
    """
    if mesh is None:
        return function(*by_chain, *shared)
    num_chains = len(jax.tree.leaves(by_chain)[0])
    index = np.arange(-(-num_chains // mesh.size) * mesh.size) % num_chains
    by_device, everywhere = PartitionSpec(mesh.axis_names), PartitionSpec()
    specs = (by_device,) * len(by_chain) + (everywhere,) * len(shared)
    mapped = jax.shard_map(function, mesh=mesh, in_specs=specs, out_specs=by_device, check_vma=False)
    found = mapped(*jax.tree.map(lambda leaf: leaf[index], by_chain), *shared)
    sharding = NamedSharding(mesh, everywhere)
    return jax.tree.map(lambda leaf: jax.lax.with_sharding_constraint(leaf[:num_chains], sharding), found)
