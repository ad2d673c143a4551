"""Validate loaded objects. A file may hold any values, so `load` checks that the loaded objects are valid."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from ..covariance import variances
from ..covariance.types import TYPES, as_covariance_type
from ..em.result import ComponentStatus, Fit, Status
from ..mixture import Mixture
from ..mixture_checks import check_covariances, check_shapes, check_weights
from ..posterior.result import Posterior, PosteriorStatus, is_usable
from ..priors.interface import MixturePrior, check_prior, check_prior_shapes

_FAILED = (Status.SINGULAR, Status.NONFINITE, Status.EMPTY_DATA)  # statuses of failed fits, whose numbers are not checked


def check_mixtures(thing: object) -> None:
    """Raise ValueError if a mixture inside `thing` has an unknown covariance type or shapes that do not match."""
    for part in jax.tree.leaves(thing, is_leaf=lambda part: isinstance(part, Mixture)):
        if isinstance(part, Mixture):
            as_covariance_type(part.covariance_type)
            fields: Any = jax.tree.map(np.asarray, part)
            check_shapes(fields.weights, fields.means, fields.covariances, part.covariance_type)


def check_values(thing: Mixture | Fit | Posterior | MixturePrior) -> None:
    """Raise ValueError or TypeError if a mixture, fit, posterior or prior with NumPy arrays does not hold valid values."""
    if isinstance(thing, Mixture):
        _check_mixture(thing, np.ones(thing.batch_shape, bool))
        check_covariances(np.asarray(thing.covariances, float), thing.covariance_type)
    elif isinstance(thing, Fit):
        batch = thing.mixture.batch_shape
        _check_shapes(thing, dict.fromkeys(("status", "num_iter", "log_likelihood", "objective"), batch))
        _check_shapes(thing, {"component_status": (*batch, thing.mixture.num_components)})
        _check_codes(thing.status, "status", len(Status))
        _check_codes(thing.component_status, "component_status", len(ComponentStatus))
        _check_mixture(thing.mixture, ~np.isin(thing.status, _FAILED))
    elif isinstance(thing, Posterior):
        batch = thing.mixture.batch_shape
        _check_shapes(thing, {"log_density": batch, "status": batch[:-2]})
        _check_codes(thing.status, "status", len(PosteriorStatus))
        _check_mixture(thing.mixture, np.broadcast_to(is_usable(thing.status)[..., None, None], batch))
        if isinstance(thing.prior, MixturePrior):
            _check_prior(thing.prior)
    else:
        _check_prior(thing)


def _check_shapes(thing: object, expected: dict[str, tuple[int, ...]]) -> None:
    """Raise ValueError if a field of an object does not have the expected shape."""
    for name, shape in expected.items():
        if np.shape(getattr(thing, name)) != shape:
            raise ValueError(f"{name} has shape {np.shape(getattr(thing, name))}; {shape} was expected.")


def _check_codes(codes: jax.Array | np.ndarray, name: str, number: int) -> None:
    """Raise ValueError if an array contains a number that is not a status code."""
    if codes.dtype.kind not in "iu" or (codes < 0).any() or (codes >= number).any():
        raise ValueError(f"{name} holds values that are no codes; integers from 0 to {number - 1} were expected.")


def _check_mixture(mixture: Mixture, is_sound: np.ndarray) -> None:
    """Raise ValueError if a mixture where `is_sound` is True is not finite, or has invalid weights or variances.

    The function does not check whether matrices are positive definite, because rounding can change this in draws and fits.
    """
    for name in ("weights", "means", "covariances"):
        values = getattr(mixture, name)
        if values.dtype.kind != "f" or not np.isfinite(values[is_sound]).all():
            raise ValueError(f"{name} holds NaN or infinity; finite numbers were expected.")
    check_weights(np.asarray(mixture.weights)[is_sound])
    lowest = variances(mixture.covariances, mixture.covariance_type, mixture.num_features)[is_sound]
    if lowest.size and lowest.min() <= 0:
        raise ValueError(f"covariances has a variance of {lowest.min():.4g}; variances > 0 were expected.")


def _check_prior(prior: MixturePrior) -> None:
    """Raise ValueError or TypeError if a prior in a stack (or a single prior) is not proper or has shapes that do not match."""
    prior = jax.tree.map(np.asarray, prior, is_leaf=lambda part: isinstance(part, list))
    leaves = jax.tree.leaves(prior)
    depth = np.ndim(prior.weight_concentration) - 1
    batch = np.shape(prior.weight_concentration)[:depth]
    if depth < 0 or any(leaf.shape[:depth] != batch for leaf in leaves):
        raise ValueError("prior has fields whose leading axes differ; one prior, or a stack of equal priors, was expected.")
    for index in np.ndindex(batch):
        member = jax.tree.map(lambda leaf, index=index: leaf[index], prior)
        k, d = len(member.weight_concentration), np.size(member.mean)
        errors = []
        for covariance_type in TYPES:
            try:
                check_prior_shapes(member, k, d, covariance_type)
            except (ValueError, TypeError) as error:  # a prior may suit only some covariance types
                errors.append(error)
            else:
                check_prior(member, k, d, covariance_type)
                break
        else:
            raise errors[0]
