"""Reorder the components of mixtures, and find the order that sorts exchangeable components by a value."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from . import covariance
from .mixture import Mixture


def permute_components(mixture: Mixture, order: jax.Array) -> Mixture:
    """Reorder the components of mixtures (...). The component with index `order[..., j]` moves to position j."""
    weights = jnp.take_along_axis(mixture.weights, order, -1)
    means = jnp.take_along_axis(mixture.means, order[..., None], -2)
    covariances = covariance.permute(mixture.covariances, order, mixture.covariance_type)
    return Mixture(weights, means, covariances, mixture.covariance_type)


def ascending_order(values: jax.Array, concentration: jax.Array) -> jax.Array:
    """Return the order (K,) in which the values (K,) of exchangeable components ascend; equal values keep their order.

    Components are exchangeable if they have the same prior weight concentration, (K,). A component only moves to the places of
    components that are exchangeable with it.
    """
    exchangeable = concentration[:, None] == concentration[None, :]
    group = exchangeable.argmax(-1)  # for each component, the index of the first component with the same concentration
    return jnp.zeros(len(group), int).at[jnp.argsort(group)].set(jnp.lexsort((values, group)))
