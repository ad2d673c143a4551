"""Test copies of the arrays of pytrees."""

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import jaxgmm
from jaxgmm.devices.copies import arrays_in, copy_arrays, original
from jaxgmm.priors.defaults import is_data_scaled


def test_arrays_in():
    """Arrays are found in pytrees and dictionaries, but not in lists."""
    one = jax.device_put(np.ones(2))
    assert list(arrays_in((None, {1: one, None: (one, "text")}, [one], np.ones(2)))) == [one, one]


def test_copies_remember_their_original():
    """A pytree without arrays to copy is returned itself; copies of copies lead to the first object."""
    prior, rest = jaxgmm.Prior(*map(jax.device_put, (np.ones(2), np.ones(1), 1.0, 3.0, np.ones(1)))), {1: "text", None: 2.0}
    assert copy_arrays(prior, lambda array: array) is prior
    again, unchanged = copy_arrays(copy_arrays((prior, rest), lambda array: array + 0), lambda array: array + 0)
    assert again is not prior
    assert original(again) is prior
    assert unchanged == rest
    assert original(3) == 3
    assert original(copy_arrays({"a": prior.mean}, lambda array: array + 1)["a"]).tolist() == [2]


def test_default_priors_are_recognised_on_explicit_axes():
    """`default_prior` returns a copy on the mesh of the data, which counts as data-scaled, as do the copies of arguments."""
    mesh = jax.make_mesh((1,), ("rows",), axis_types=(AxisType.Explicit,))
    x = jax.device_put(np.arange(8.0).reshape(4, 2), NamedSharding(mesh, PartitionSpec("rows")))
    prior = jaxgmm.default_prior(x, num_components=1)
    assert prior.mean.sharding.mesh == mesh
    assert is_data_scaled(prior)
    assert is_data_scaled(copy_arrays(prior, lambda array: array + 0))
    assert not is_data_scaled(jax.tree.map(lambda leaf: leaf, prior))
