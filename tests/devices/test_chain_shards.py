"""Test chains on several devices. One device is enough here; test_row_shards.py uses four."""

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxgmm.devices.chain_shards import chain_mesh, over_chains


def test_one_device():
    """Without several devices there is no mesh for chains, and a function runs as it is."""
    mesh = jax.make_mesh((1,), ("chains",), axis_types=(AxisType.Auto,))
    for value in (None, "text", jnp.ones(2), jax.device_put(jnp.ones(2), NamedSharding(mesh, PartitionSpec()))):
        assert chain_mesh(value) is None
    assert jax.jit(lambda x: chain_mesh(x) is None)(jnp.ones(2))
    assert over_chains(jnp.add, None, (jnp.arange(3),), (1,)).tolist() == [1, 2, 3]
