"""The free entries of a mixture as a list of parameters with names, kinds and values.

All functions use the same order: first all weights (including the last), then all means, then the free entries of the stored
covariances.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import covariance
from ..mixture import Mixture


@dataclass(frozen=True)
class Parameter:
    """One free entry of a mixture.

    Attributes:
        name: the place of the entry in the Mixture, such as "means[0,1]".
        kind: "weight", "mean", "variance" or "covariance"; or the name of a label-invariant quantity.
        component: the component to which the entry belongs; None if all components share the entry.
        features: names of the features to which the entry belongs: none for a weight, two for a covariance.
    """

    name: str
    kind: str
    component: int | None
    features: tuple[str, ...]

    @property
    def place(self) -> tuple[str, tuple[int, ...]]:
        """The field of the Mixture and the index in that field.

        Example:
            >>> Parameter("means[0,1]", "mean", 0, ("waiting",)).place
            ('means', (0, 1))
        """
        return parse_name(self.name)


def parameters(mixture: Mixture, feature_names: Sequence[str] | None = None) -> list[Parameter]:
    """Return the free entries of one mixture, in the order of `values`.

    Args:
        mixture: one mixture; only its shapes are used.
        feature_names: D names; by default the numbers of the features.

    Returns:
        One Parameter for each free entry.

    Example:
        >>> import jaxgmm
        >>> mixture = jaxgmm.make_mixture([1.0], [[0.0, 1.0]], [[1.0, 2.0]], covariance_type="diag")
        >>> [parameter.name for parameter in parameters(mixture)]
        ['weights[0]', 'means[0,0]', 'means[0,1]', 'covariances[0,0]', 'covariances[0,1]']
    """
    k, d = mixture.num_components, mixture.num_features
    names = [str(j) for j in range(d)] if feature_names is None else list(feature_names)
    found = [Parameter(f"weights[{i}]", "weight", i, ()) for i in range(k)]
    found += [Parameter(f"means[{i},{j}]", "mean", i, (names[j],)) for i in range(k) for j in range(d)]
    num_stored, *_, width = mixture.covariances.shape
    for index in covariance.labels(mixture.covariance_type, k, d):
        features = ("every feature",) if width < d else tuple(names[i] for i in dict.fromkeys(reversed(index[1:])))
        kind = "covariance" if len(features) > 1 else "variance"
        found.append(Parameter(_covariance_name(index), kind, index[0] if num_stored == k else None, features))
    return found


def parameter_names(num_components: int, num_features: int, covariance_type: str) -> list[str]:
    """Return the names of all free entries, in the order of `values`.

    Example:
        >>> parameter_names(1, 2, "diag")
        ['weights[0]', 'means[0,0]', 'means[0,1]', 'covariances[0,0]', 'covariances[0,1]']
    """
    k, d = num_components, num_features
    names = [f"weights[{i}]" for i in range(k)] + [f"means[{i},{j}]" for i in range(k) for j in range(d)]
    return names + [_covariance_name(index) for index in covariance.labels(covariance_type, k, d)]


def parse_name(name: str) -> tuple[str, tuple[int, ...]]:
    """Split the name of a parameter into the field of the Mixture and the index in that field.

    Example:
        >>> parse_name("covariances[0,1,1]")
        ('covariances', (0, 1, 1))
    """
    field, index = name.rstrip("]").split("[")
    return field, tuple(map(int, index.split(",")))


def value_at(mixture: Mixture, name: str) -> np.ndarray:
    """Return the values (...) of the parameter called `name` in a stack of mixtures, as a float64 NumPy array."""
    field, index = parse_name(name)
    return np.asarray(getattr(mixture, field), float)[(..., *index)]


def values(mixture: Mixture) -> np.ndarray:
    """Return the free entries (..., P) of a stack of mixtures, as a float64 NumPy array."""
    return np.asarray(free_entries(jax.tree.map(lambda leaf: np.asarray(leaf, float), mixture)))


def free_entries(mixture: Mixture) -> jax.Array:
    """Return the free entries (..., P) of a stack of mixtures.

    If the arrays of the mixture are NumPy arrays, the result is a NumPy array too. Otherwise the result is a JAX array, which
    may be traced.
    """
    k, d, batch = mixture.num_components, mixture.num_features, mixture.batch_shape
    index = tuple(np.array(covariance.labels(mixture.covariance_type, k, d)).T)
    parts = [mixture.weights, mixture.means.reshape(*batch, k * d), mixture.covariances[(..., *index)]]
    namespace: Any = np if isinstance(mixture.means, np.ndarray) else jnp
    return namespace.concatenate(parts, -1)


def _covariance_name(index: tuple[int, ...]) -> str:
    """Return the name of one stored entry of the covariances."""
    return f"covariances[{','.join(map(str, index))}]"
