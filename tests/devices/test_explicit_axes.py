"""Test calls with arrays on a mesh with Explicit axes. One device is enough here; test_row_shards.py uses four."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxgmm.calls import public
from jaxgmm.devices.explicit_axes import call_with_auto_axes, explicit_mesh

MESH = jax.make_mesh((1,), ("rows",), axis_types=(AxisType.Explicit,))
ROWS = NamedSharding(MESH, PartitionSpec("rows"))


def kinds(*arrays):
    """Return the kinds of axes of the meshes of arrays."""
    return {kind for array in arrays for kind in array.sharding.mesh.axis_types}


def test_explicit_mesh():
    """A mesh with Explicit axes is found in arrays and pytrees of arrays, and nothing else counts."""
    x = jax.device_put(np.ones((4, 2)), ROWS)
    assert explicit_mesh((x,)) == explicit_mesh((None, {"x": (1.0, x)})) == MESH
    assert explicit_mesh((np.ones(2), jnp.ones(2), "text", [x], {1: 2.0, None: "text"})) is None


def test_arrays_return_to_the_mesh():
    """Within a call, arrays and the mesh set by `jax.set_mesh` have Auto axes; afterwards, all is as before."""
    x = jax.device_put(np.ones((4, 2)), ROWS)
    seen = []

    @public
    def double(x, *, by):
        seen.append(kinds(x, by) | set(jax.sharding.get_abstract_mesh().axis_types))
        return {"x": 2 * x, "text": "unchanged"}

    result = double(x, by=x)
    with jax.set_mesh(MESH):
        within = double(x, by=x)
        assert jax.sharding.get_abstract_mesh() == MESH.abstract_mesh
    assert seen == [{AxisType.Auto}] * 2
    assert kinds(x, result["x"], within["x"]) == {AxisType.Explicit}
    assert result["text"] == "unchanged"
    assert result["x"].tolist() == [[2, 2]] * 4
    assert call_with_auto_axes(lambda x: kinds(x), MESH, (x,), {}) == {AxisType.Auto}
    assert call_with_auto_axes(lambda by_name: kinds(*by_name.values()), MESH, ({1: x, None: x},), {}) == {AxisType.Auto}


def test_traced_arrays():
    """Inside the caller's own jit, arrays have Auto axes within a call, and results are on the caller's mesh."""
    seen = []

    @public
    def double(x, text):
        seen.append(jax.typeof(x).sharding.mesh.axis_types)
        return 2 * x if text else x

    result = jax.jit(lambda x: double(x, "text") + x)(jax.device_put(np.ones((4, 2)), ROWS))
    assert seen == [(AxisType.Auto,)]
    assert kinds(result) == {AxisType.Explicit}
    assert result.tolist() == [[3, 3]] * 4
