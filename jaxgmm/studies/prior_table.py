"""Build a prior from a table of numbers, which comes from a TOML file or from `Design.prior`.

A table may set any of the hyperparameters in `HYPERPARAMETERS`. The caller provides a default for each hyperparameter. The
defaults of `jaxgmm calibrate` describe well-separated components of unit variance; the defaults of `Design` describe a weak
prior.

The prior is conjugate. If components share volumes, shapes or orientations, the normalising constant of the conjugate prior is
not known, so methods that draw get an `IndependentPrior` from the same hyperparameters (c, m, kappa, nu, S):

    weights ~ Dirichlet(c),   mu_k ~ N(m, S / (nu kappa)),   covariances ~ VolumeShapeOrientation(nu / 2, S / 2, 1)

A variance with the law InverseGamma(nu / 2, S / 2) has the typical value S / nu. Volumes have this law here.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from ..covariance.types import is_coupled, prior_scale_shape, shape_and_axes_scale
from ..files import parse_file
from ..priors.conjugate import Prior
from ..priors.independent import IndependentPrior
from ..priors.volume_shape_orientation import VolumeShapeOrientation

HYPERPARAMETERS = ("weight_concentration", "mean", "mean_precision", "degrees_of_freedom", "scale")


def prior_from_table(
    table: Mapping[str, ArrayLike],
    *,
    defaults: Mapping[str, ArrayLike],
    num_components: int,
    num_features: int,
    covariance_type: str,
    normalised: bool = False,
) -> Prior | IndependentPrior:
    """Return the prior that a table describes.

    Args:
        table: hyperparameters by name. A single number is used for every component or feature; a single number for the scale
            multiplies the identity matrix. An array must have the shape that `Prior` expects.
        defaults: values for the hyperparameters that the table does not set, in the same form as in the table.
        num_components: K.
        num_features: D.
        covariance_type: the covariance type, which determines the shape of the scale.
        normalised: whether the density of the prior must be normalised, as methods that draw need it. If components share
            volumes, shapes or orientations, the result is then an IndependentPrior.

    Raises:
        ValueError: the table has an unknown name, or a value of the wrong shape or kind.

    Example:
        >>> weak = {"weight_concentration": 1, "mean": 0, "mean_precision": 0.01, "degrees_of_freedom": 4, "scale": 1}
        >>> shapes = {"num_components": 3, "num_features": 2, "covariance_type": "full"}
        >>> prior = prior_from_table({"mean": [1.0, 2.0], "scale": 3}, defaults=weak, **shapes)
        >>> prior.mean.tolist(), prior.scale.tolist()
        ([1.0, 2.0], [[3.0, 0.0], [0.0, 3.0]])
    """
    check_table(table, "prior")
    values = {name: np.asarray(table.get(name, defaults[name])) for name in HYPERPARAMETERS}
    by_blocks = normalised and is_coupled(covariance_type)
    scale_shape = (shape_and_axes_scale if by_blocks else prior_scale_shape)(covariance_type, num_features)
    if len(scale_shape) == 2 and values["scale"].ndim == 0:
        values["scale"] = values["scale"] * np.eye(num_features)
    shapes = {"weight_concentration": (num_components,), "mean": (num_features,), "scale": scale_shape}
    prior = Prior(**{name: _as_array(name, value, shapes.get(name, ())) for name, value in values.items()})
    return _prior_by_blocks(prior) if by_blocks else prior


def _prior_by_blocks(prior: Prior) -> IndependentPrior:
    """Return the prior of volumes, shapes and orientations that has the hyperparameters of a conjugate prior."""
    nu, scale = prior.degrees_of_freedom, prior.scale
    typical = scale / (nu * prior.mean_precision)
    mean_covariance = typical if scale.ndim == 2 else jnp.diag(jnp.broadcast_to(typical, prior.mean.shape))
    law = VolumeShapeOrientation(nu / 2, scale / 2, jnp.ones_like(nu))
    return IndependentPrior(prior.weight_concentration, prior.mean, mean_covariance, law)


def read_prior_table(path: Path) -> dict[str, ArrayLike]:
    """Return the table of hyperparameters in a TOML file.

    Raises:
        ValueError: the file does not exist, is not TOML, or has an entry that `check_table` rejects.
    """
    if not path.is_file():
        raise ValueError(f"there is no file '{path}'; a TOML file with {', '.join(HYPERPARAMETERS)} was expected.")
    try:
        table = parse_file(path, tomllib.loads)
    except ValueError as error:
        raise ValueError(f"'{path}' is not TOML: {error}.") from error
    check_table(table, f"'{path}'")
    return table


def check_table(table: Mapping[str, object], source: str) -> None:
    """Raise ValueError if a table has an unknown name or a value that is not numeric; `source` names the table."""
    for name, value in table.items():
        if name not in HYPERPARAMETERS:
            raise ValueError(f"{source} has an entry '{name}'; only {', '.join(HYPERPARAMETERS)} were expected.")
        if not _is_numeric(value):
            raise ValueError(f"{source} sets {name} to {value!r}; a number or a list of numbers was expected.")


def _is_numeric(value: object) -> bool:
    """Return whether a value is a number or a rectangular list of numbers."""
    try:
        return np.asarray(value).dtype.kind in "fiu"
    except ValueError:  # the value contains lists of different lengths
        return False


def _as_array(name: str, value: np.ndarray, shape: tuple[int, ...]) -> jax.Array:
    """Return a hyperparameter as an array of the given shape. `value` has this shape, or is one number for all entries."""
    if value.ndim and value.shape != shape:
        raise ValueError(f"{name} in the prior has shape {value.shape}; {shape}, or one number, was expected.")
    return jnp.asarray(np.broadcast_to(value, shape), jnp.result_type(float))
