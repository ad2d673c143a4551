"""The M-step computes the mixture that maximises the expected complete-data objective. Bishop (2006), eq. 9.24 to 9.26."""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from numpy.typing import ArrayLike

from .. import covariance, linalg
from ..calls import public
from ..covariance.estimates import Member, estimate
from ..covariance.types import accepts_ridge, is_coupled, is_shared
from ..mixture import Mixture, MixtureLike, as_mixture
from ..priors.interface import ComponentSums, MixturePrior, check_prior
from ..rounding import positive_factors, ridge_fraction, smallest_variance
from ..row_sums import nonzero
from ..validation import as_float_array, check_number, is_traced
from .kernels import unwhiten
from .moments import Moments

PSEUDO_COUNT = 1e-6  # number of observations to which the default regularisation is equivalent, called e in formulas
# for full and tied, the diagonal of the covariance of the data is raised by this fraction, because columns may be collinear
_COLLINEARITY_RIDGE = 1e-6


class Regularisation(NamedTuple):
    """The regularisation that keeps covariances from collapsing: a prior, reg_covar, or by default the penalty of `m_step`.

    If the program serves several covariance types, `member` is the type. Such a program has neither a prior nor reg_covar.
    """

    data_covariance: jax.Array
    prior: MixturePrior | None
    reg_covar: ArrayLike | None
    member: Member | None = None


@public
def m_step(
    mixture: MixtureLike,
    moments: Moments,
    prior: MixturePrior | None = None,
    *,
    reg_covar: ArrayLike | None = None,
    data_covariance: ArrayLike | None = None,
) -> Mixture:
    """Return the mixture that maximises the expected complete-data objective. Bishop (2006), eq. 9.24 to 9.26.

    Without a prior, this is maximum likelihood with a penalty that keeps covariances from collapsing:

        Sigma_k = (A_k + e V) / (n_k + e)

    Here A_k is the scatter about the mean of the component, n_k its count, V the covariance of the data, and e = 1e-6 a
    pseudo-count of observations. This Sigma_k maximises the log-likelihood - (e / 2) sum_k (tr(V Sigma_k^-1) + log |Sigma_k|)
    exactly. With a prior, the result is the mode of the density of (weights, means, covariances). If components share their
    volume, shape or orientation, A_k + e V takes the place of the scatter and n_k + e that of the count, and Sigma_k maximises
    the same penalised objective over all covariances of the type. Where this maximum has no closed form (VEI, VEE, VEV, EVE and
    VVE), a few iterations from the covariances of `mixture` approach it. They never decrease the objective.

    Args:
        mixture: the Mixture or Fit under which the moments were computed; it must not be a stack.
        moments: from `e_step`, summed over any number of chunks.
        prior: a Prior, or an IndependentPrior whose scale is InverseWishart or InverseGamma, for the posterior mode; None for
            maximum likelihood.
        reg_covar: a number >= 0, in data units squared, that is added to each variance. This rule of scikit-learn replaces the
            penalty. 0 gives plain maximum likelihood. For any value of reg_covar, full and tied covariances stay positive
            definite despite rounding.
        data_covariance: V of the penalty, as the covariances of a fit of one component. With None, V is computed from the
            moments. If values are missing, this V depends on the mixture, and the objective may fall by the size of the
            penalty; `fit` uses one V in all steps.

    Returns:
        A Mixture. Without a prior, a component that holds no data gets weight 0 and keeps its mean and covariance. It keeps
        only its mean if components share their volume, shape or orientation. With a prior, the parameters of such a component
        are the mode of the prior. A component of weight 0 keeps weight 0.

    Raises:
        ValueError, TypeError: prior and reg_covar are both given, or one of them is out of range or has the wrong shape.

    Example:
        >>> import jaxgmm, numpy as np
        >>> mixture = jaxgmm.make_mixture([1.0], [[0.0]], [[[4.0]]])
        >>> jaxgmm.m_step(mixture, jaxgmm.e_step(mixture, np.array([[2.0], [4.0]]))).means.tolist()
        [[3.0]]
    """
    given = as_mixture(mixture, single=True)
    check_regularisation(prior, reg_covar, given.num_components, given.num_features, given.covariance_type)
    if data_covariance is not None:
        expected = covariance.storage_shape(given.covariance_type, 1, given.num_features)
        data_covariance = as_float_array(data_covariance, "data_covariance").astype(given.means.dtype)
        if data_covariance.shape != expected:
            raise ValueError(
                f"data_covariance has shape {data_covariance.shape}; {expected} was expected, as for one component."
            )
    return _m_step(given, moments, prior, reg_covar, data_covariance)


@jax.jit
def _m_step(
    given: Mixture, moments: Moments, prior: MixturePrior | None, reg_covar: ArrayLike | None, v: jax.Array | None
) -> Mixture:
    """Return the result of `m_step` for valid arguments."""
    name = given.covariance_type
    dtype = jnp.result_type(moments.count.dtype, given.means.dtype)  # the dtype in which `e_step` factorised
    given, moments = jax.tree.map(lambda leaf: leaf.astype(dtype), (given, moments))
    sums = unwhiten(given, positive_factors(given), moments.count, moments.first, moments.second)
    regularisation = Regularisation(data_covariance(sums, 0.0, name) if v is None else v, prior, reg_covar)
    return maximize(given, sums, regularisation, given.weights > 0)


def check_regularisation(
    prior: MixturePrior | None, reg_covar: ArrayLike | None, num_components: int, num_features: int, covariance_type: str
) -> None:
    """Raise ValueError or TypeError if the prior does not match the mixture, reg_covar is negative, or both are given."""
    if reg_covar is not None:
        check_number(reg_covar, "reg_covar")
        if prior is not None:
            raise ValueError("prior and reg_covar were both given; give one: a prior already keeps covariances from collapse.")
        if not accepts_ridge(covariance_type) and (is_traced(reg_covar) or float(np.asarray(reg_covar)) > 0):
            raise ValueError(
                f"reg_covar would give covariances that are not of covariance_type={covariance_type!r}; leave reg_covar at "
                "None, set it to 0, or use a prior."
            )
    if prior is not None:
        check_prior(prior, num_components, num_features, covariance_type, mode=True)


def data_covariance(sums: ComponentSums, center: jax.Array | float, covariance_type: str) -> jax.Array:
    """Return V, the covariance of all data, in the storage form; V is never singular.

    V is the sum of the covariances within and between components, so it does not depend on the mixture under which the sums
    were computed. For full and tied, the diagonal of V is then multiplied by 1 + 1e-6. For all types, V holds a positive
    variance for a constant column. This variance is so large that the regularised variances of the column are at least the
    squared rounding error of its values.

    Args:
        sums: the component sums of all data, relative to `center`.
        center: (D,), the point that was subtracted from the data; it determines the size of the rounding error.
        covariance_type: the covariance type of the result.
    """
    count, mean, scatter = sums.count, sums.mean, sums.scatter
    total = count.sum()
    safe = nonzero(total)
    data_mean = covariance.einsum("k,kd->d", count, mean) / safe
    between = covariance.expand(count, covariance_type) * covariance.outer(mean - data_mean[None], covariance_type)
    pooled = (scatter + between).sum(0) / safe  # (D, D), or (D,) for diag and spherical
    dense = covariance.is_dense(covariance_type)
    variances = linalg.diagonal(pooled) if dense else pooled
    size = (data_mean + center) ** 2 + variances
    smallest = smallest_variance(jnp.where(size > 0, size, jnp.where(size.max() > 0, size.max(), 1)))
    floor = jnp.where(variances > smallest, 0, smallest * (1 + total / PSEUDO_COUNT))
    ridged = covariance.ridge(pooled, floor + (_COLLINEARITY_RIDGE * variances if dense else 0), covariance_type)
    return covariance.from_data_scatter(ridged, covariance_type)


def maximize(mixture: Mixture, sums: ComponentSums, regularisation: Regularisation, present: jax.Array) -> Mixture:
    """Return the mixture that maximises the expected complete-data objective, given the component sums of the data.

    Args:
        mixture: the previous mixture. Components that hold no data keep their means and covariances from this mixture.
        sums: the component sums of the data under `mixture`.
        regularisation: V, and a prior or reg_covar.
        present: (K,), whether the prior counts a component. It counts every component that was present at the start,
            even if the component has become empty since.
    """
    covariance_type, d = mixture.covariance_type, mixture.num_features
    count, mean, scatter = sums.count, sums.mean, sums.scatter
    # a component is empty if it holds so little weight that its sums could underflow
    empty = count <= count.sum() * math.sqrt(float(jnp.finfo(count.dtype).tiny))
    count = jnp.where(empty, 0, count)
    ridge = ridge_fraction(d, count.dtype)
    if regularisation.prior is not None:
        posterior = regularisation.prior.maximize(mixture, dataclasses.replace(sums, count=count), present)
        covariances = covariance.relative_ridge(posterior.covariances, ridge, covariance_type)
        return dataclasses.replace(posterior, covariances=covariances)
    scatter = jnp.where(covariance.expand(empty, covariance_type), 0, scatter)
    covariances = _covariances(mixture, count, scatter, regularisation, present)
    covariances = covariance.relative_ridge(covariances, ridge, covariance_type)
    # empty components keep their last mean and covariance, so that users can inspect them
    old_mean, old_covariances = jax.lax.stop_gradient((mixture.means, mixture.covariances))
    means = jnp.where(empty[:, None], old_mean, mean)
    kept = empty
    if is_coupled(covariance_type):
        kept &= empty.all() | _has_own_covariances(regularisation.member)
    covariances = covariance.select_components(~kept, covariances, old_covariances, covariance_type)
    return dataclasses.replace(mixture, weights=count / nonzero(count.sum()), means=means, covariances=covariances)


def _covariances(
    mixture: Mixture, count: jax.Array, scatter: jax.Array, regularisation: Regularisation, present: jax.Array
) -> jax.Array:
    """Return the covariances that maximise the expected objective without a prior, in storage form.

    In coupled types, the penalty counts every component that is present, even one that holds no data: the covariances of the
    other components depend on the penalty of this component, too.
    """
    covariance_type, amount = mixture.covariance_type, regularisation.reg_covar
    if is_coupled(covariance_type):
        if amount is None:
            penalised = covariance.expand(present, covariance_type)
            extra = pseudo_count(present, count.dtype, regularisation.member)
            scatter = jnp.where(penalised, scatter + extra * regularisation.data_covariance, 0)
            count = jnp.where(present, count + extra, 0)
        start = jax.lax.stop_gradient(mixture.covariances)
        covariances = estimate(scatter, count, covariance_type, start, member=regularisation.member)
    else:
        scatter, divisor = covariance.pool(scatter, covariance_type), covariance.pool_counts(count, covariance_type)
        if amount is None:
            return (scatter + PSEUDO_COUNT * regularisation.data_covariance) / (divisor + PSEUDO_COUNT)
        covariances = scatter / nonzero(divisor)
    if amount is None:
        return covariances
    return covariance.ridge(covariances, jnp.asarray(amount, count.dtype)[None], covariance_type)


def pseudo_count(present: jax.Array, dtype: DTypeLike, member: Member | None) -> jax.Array | float:
    """Return e of the default regularisation for each covariance that the program stores.

    Every covariance of a mixture has the pseudo-count e. If a program that serves several types stores a shared covariance once
    for each component that is present, these copies share the pseudo-count.
    """
    if member is None:
        return PSEUDO_COUNT
    num_copies = jnp.where(member.property_of_type(is_shared), nonzero(present.astype(dtype).sum()), 1)
    return PSEUDO_COUNT / num_copies


def _has_own_covariances(member: Member | None) -> jax.Array | bool:
    """Return whether the components share no part of their covariances, although the mixture has a wide type."""
    if member is None:
        return False
    return member.property_of_type(lambda name: not (is_coupled(name) or is_shared(name)))
