"""Draw random points from a mixture, or from the members of a stack of mixtures."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp

from . import covariance
from .calls import public
from .density import safe_log
from .memory import check_memory
from .mixture import Mixture, MixtureLike, as_mixture
from .rounding import positive_factors
from .validation import check_count, check_key


@public
def sample(key: jax.Array, mixture: MixtureLike, num_samples: int) -> tuple[jax.Array, jax.Array]:
    """Draw independent points from one mixture; the points of different components come in random order.

    Args:
        key: a random key.
        mixture: one Mixture or one Fit; for several mixtures, use `jax.vmap` over keys and mixtures.
        num_samples: N.

    Returns:
        x (N, D), in the units of the means, and labels (N,). The label of a point is the index of its component.

    Raises:
        ValueError, TypeError: `mixture` is not one Mixture or Fit, `key` is not a random key, or num_samples is not an
            integer >= 0.

    Example:
        >>> import jax, jaxgmm
        >>> x, labels = jaxgmm.sample(jax.random.key(0), jaxgmm.make_mixture([1.0], [[0.0]], [[[1.0]]]), 5)
        >>> x.shape, labels.shape
        ((5, 1), (5,))
    """
    check_key(key)
    check_count(num_samples, "num_samples", 0)
    mixture = as_mixture(mixture, single=True)
    numbers = mixture.num_components + mixture.num_features + 1
    check_memory(num_samples * numbers * mixture.means.dtype.itemsize, f"num_samples={num_samples}")
    return _sample(key, mixture, num_samples)


@partial(jax.jit, static_argnums=2)
def _sample(key: jax.Array, mixture: Mixture, num_samples: int) -> tuple[jax.Array, jax.Array]:
    """Return points (N, D) drawn from one mixture, and their labels (N,)."""
    stack = jax.tree.map(lambda leaf: leaf[None], mixture)
    return sample_from_stack(jax.random.split(key), stack, jnp.zeros(num_samples, int))


def sample_from_stack(keys: jax.Array | Sequence[jax.Array], stack: Mixture, index: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return points (N, D) drawn from members of a stack of mixtures, and the components (N,) that they came from.

    Args:
        keys: two random keys, one for the components and one for the noise.
        stack: M mixtures, with a leading axis (M,).
        index: (N,), the member of the stack that each point is drawn from.
    """
    k, d, covariance_type = stack.num_components, stack.num_features, stack.covariance_type
    labels = jax.random.categorical(keys[0], safe_log(stack.weights)[index])
    lower = positive_factors(stack).lower
    lower = jnp.broadcast_to(lower, (len(lower), k, *lower.shape[2:]))[index, labels]
    noise = jax.random.normal(keys[1], (len(index), d), stack.means.dtype)
    return stack.means[index, labels] + covariance.transform(lower, noise, covariance_type), labels
