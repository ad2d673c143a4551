"""Covariance types that are fitted by the same compiled programs, and fits as these programs return them."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
import numpy as np

from ..covariance.estimates import Member, narrow
from ..covariance.types import is_dense
from ..em.result import Fit


def members_of(covariance_types: list[str]) -> dict[str, Member | None]:
    """Return the covariance types as members: all dense types are fitted by the same programs, and so are all others.

    The value is None if there is only one such type, because its own program is compiled faster.
    """
    members: dict[str, Member | None] = {}
    for kind in (True, False):
        types = tuple(name for name in covariance_types if is_dense(name) == kind)
        members |= {name: Member(types, np.asarray(i)) if len(types) > 1 else None for i, name in enumerate(types)}
    return members


def of_type(fit: Fit, covariance_type: str) -> Fit:
    """Return a fit with its covariances in the storage form of `covariance_type`.

    Programs that fit several covariance types return the covariances of all of them in one common form.
    """
    mixture = fit.mixture
    if mixture.covariance_type == covariance_type:
        return fit
    covariances = jnp.asarray(narrow(np.asarray(mixture.covariances), covariance_type))
    mixture = dataclasses.replace(mixture, covariances=covariances, covariance_type=covariance_type)
    return dataclasses.replace(fit, mixture=mixture)


def without_absent(fit: Fit, num_components: int) -> Fit:
    """Return a fit with only its first `num_components` components; the other components were absent from its start."""
    mixture, kept = fit.mixture, jnp.arange(num_components)
    covariances = mixture.covariances
    if covariances.shape[0] == mixture.num_components:
        covariances = covariances[kept]
    mixture = dataclasses.replace(mixture, weights=mixture.weights[kept], means=mixture.means[kept], covariances=covariances)
    return dataclasses.replace(fit, mixture=mixture, component_status=fit.component_status[kept])
