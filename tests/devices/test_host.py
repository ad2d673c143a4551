"""Looking at arrays on the host and copying them to devices: views, copies, extremes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgmm.devices.host import extremes, on_host, to_device, to_host


def test_views_and_trees():
    """An array in the host's memory is seen without a copy; trees become trees of NumPy arrays."""
    array = jnp.arange(4.0)
    assert np.shares_memory(on_host(array), np.asarray(array))
    tree = to_host({"a": array, "b": jnp.zeros(())})
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(tree))


def test_extremes_of_constants_inside_jit():
    """The smallest and largest value, NaN included, also where the array is a constant of a traced function."""
    array = jnp.array([3.0, -1.0, 2.0])
    assert extremes(array) == (-1.0, 3.0)
    assert np.isnan(extremes(array.at[0].set(jnp.nan))).all()
    seen = []
    jax.jit(lambda y: seen.append(extremes(array)) or y)(1.0)
    assert seen == [(-1.0, 3.0)]


@pytest.mark.parametrize("offset", [0, 16])
def test_large_arrays_are_copied(offset):
    """Wherever the memory lies, what the caller writes to it afterwards is not seen."""
    memory = np.zeros(2**21 + 128, np.uint8)
    first = -memory.ctypes.data % 64 + offset
    x = memory[first : first + 2**21].view(np.float32)
    taken = to_device(x, np.float32)
    x[:] = 7
    assert float(taken.max()) == 0


def test_random_keys_stay_as_they_are():
    keys = jax.random.split(jax.random.key(0), 2)
    assert on_host(keys) is keys
