"""Copy the arrays of arguments and results to other devices or meshes, and remember of which object a copy was made.

Some objects are recognised by their identity: see `priors.defaults.is_data_scaled`. For such an object, `original` returns the
object that the user has made.
"""

from __future__ import annotations

import dataclasses
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
from jax.core import Tracer

_originals: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()  # maps copies to the objects that were copied


def arrays_in(values: Iterable[object]) -> Iterator[jax.Array]:
    """Yield the JAX arrays of pytrees; they may be traced.

    Lists are not searched, because data in lists may have millions of leaves, and JAX does not accept iterators. The keys of a
    dictionary need not be sortable.
    """
    values = [value for value in values if not isinstance(value, list | Iterator)]
    searched = [list(value.values()) if isinstance(value, dict) else value for value in values]
    for leaf in jax.tree.leaves(searched):
        if isinstance(leaf, jax.Array):
            yield leaf


def copy_arrays(tree: Any, copy: Callable[[jax.Array], jax.Array]) -> Any:
    """Return a pytree with copy(array) in place of each concrete array; if no array changes, return the pytree itself."""
    if isinstance(tree, dict):  # jax.tree.map would sort the keys
        return {key: copy_arrays(value, copy) for key, value in tree.items()}
    if isinstance(tree, tuple) and not hasattr(tree, "_fields"):
        return tuple(copy_arrays(value, copy) for value in tree)
    leaves, structure = jax.tree.flatten(tree)
    copies = [copy(leaf) if isinstance(leaf, jax.Array) and not isinstance(leaf, Tracer) else leaf for leaf in leaves]
    if all(one is other for one, other in zip(leaves, copies, strict=True)):
        return tree
    result = jax.tree.unflatten(structure, copies)
    if _is_compared_by_identity(result):
        _originals[result] = original(tree)
    return result


def original(value: object) -> object:
    """Return the object of which a value was copied by `copy_arrays`, or the value itself if it is no such copy."""
    return _originals.get(value, value) if _is_compared_by_identity(value) else value


def _is_compared_by_identity(value: object) -> bool:
    """Return whether a value is an object like a Mixture or a Prior: a dataclass that does not define equality."""
    return dataclasses.is_dataclass(value) and type(value).__eq__ is object.__eq__
