"""Compute standard errors of a point estimate from the observed information or by the sandwich estimator.

All derivatives are computed by automatic differentiation.

The free parameters are K - 1 weights, the means, and the free entries of the stored covariances. If the covariances of
different components share parameters, the free parameters are the coordinates of `covariance_chart`, and the delta method gives
the standard errors of the entries. The weight of the last present component is one minus the sum of the other weights. Let H be
the Hessian of the log-likelihood plus the log prior, and g_n the gradient of the log-density of row n. For "observed", the
covariance of the estimate is (-H)^-1. For "sandwich", it is H^-1 (sum_n w_n g_n g_n') H^-1, which is valid for large N even if
the model is wrong.
Sources: Boldea & Magnus (2009), JASA 104, 1539-1549; White (1982), Econometrica 50, 1-25.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from numpy.typing import ArrayLike

from .. import covariance, linalg
from ..calls import public
from ..cells import REACH, look, number, numbers, numbers_of, reach
from ..chunking import derivative_rows_per_chunk
from ..covariance.types import is_coupled
from ..density import log_prob
from ..incomplete.observations import Data, Observations
from ..incomplete.rows import standardised
from ..inputs import pad_inputs, validate_inputs
from ..mixture import Mixture, MixtureLike
from ..priors.functions import log_prior
from ..priors.interface import MixturePrior
from ..row_sums import Weight, sum_over_rows, vary_with
from ..status import StatusEnum
from ..tables import Printed, Table, elided
from ..validation import check_choice
from .covariance_chart import Chart, make_chart

ESTIMATORS = ("observed", "sandwich")


class InformationStatus(StatusEnum):
    """A code for whether the information matrix can be inverted. `InformationStatus(int(errors.status)).sentence` explains it.

    Example:
        >>> import jaxgmm
        >>> print(jaxgmm.InformationStatus(0).sentence)
        The information is positive definite.
    """

    OK = 0, "The information is positive definite."
    SINGULAR = (
        1,
        "The information is not positive definite, so there are no standard errors. The mixture is not at a maximum, or "
        "components are equal, degenerate or hold too few points; fit to a smaller tol, use a prior, or fewer components.",
    )
    NONFINITE = (
        2,
        "The information is not finite: the mixture or the data hold NaN or infinity, or a covariance is singular; look at the "
        "fit's status.",
    )


@partial(jax.tree_util.register_dataclass, data_fields=["weights", "means", "covariances", "status"], meta_fields=[])
@dataclass(frozen=True, eq=False, repr=False)
class StandardErrors(Printed):
    """Standard errors, in the shapes of the fields of a mixture. A standard error that is not defined is NaN.

    Attributes:
        weights: (K,), standard errors of the weights.
        means: (K, D), standard errors of the means, in data units.
        covariances: standard errors of the covariances, in the shape of the mixture's covariances and in data units squared.
        status: (), an InformationStatus.

    Example:
        >>> import jaxgmm, numpy as np
        >>> x = np.array([[0.0], [2.0], [4.0], [6.0]])
        >>> errors = jaxgmm.standard_errors(jaxgmm.from_labels(x, [0, 0, 0, 0], num_components=1), x)
        >>> errors.means.shape, errors.covariances.shape, jaxgmm.InformationStatus(int(errors.status)).name
        ((1, 1), (1, 1, 1), 'OK')
    """

    weights: jax.Array
    means: jax.Array
    covariances: jax.Array
    status: jax.Array

    def _tables(self) -> list[Table]:
        *batch, k, d = self.means.shape
        title = f"StandardErrors, K={k} components, D={d} features"
        status = look(self.status)
        if status is None:
            return [Table(f"{title}, traced")]
        errors = {"weight": look(self.weights), "mean": look(self.means), "covariance": look(self.covariances)}
        if batch:
            good = int((status == InformationStatus.OK).sum())
            rows = [[name, *reach(values)] for name, values in errors.items()]
            return [Table(f"{title}, stacked {tuple(batch)}: {good} of {status.size} OK", ("", *REACH), rows, left=(0,))]
        notes = [InformationStatus(int(status)).sentence] if status != InformationStatus.OK else []
        rows = [["..."] * 4 if i is None else self._row(i) for i in elided(k)]
        return [Table(f"{title}: {InformationStatus.name_of(status)}", ("k", *errors), rows, notes)]

    def _row(self, component: int) -> list[str]:
        """Return the row of one component in the printed table."""
        weights, means, covariances = look(self.weights), look(self.means), look(self.covariances)
        if weights is None or means is None or covariances is None:
            return [str(component), "", "", ""]
        stored = covariances[min(component, len(covariances) - 1)]  # tied stores one covariance for all components
        return [str(component), number(weights[component]), numbers(means[component]), numbers_of(stored)]


@public
def standard_errors(
    mixture: MixtureLike,
    x: ArrayLike | Observations,
    prior: MixturePrior | None = None,
    *,
    kind: str = "observed",
    sample_weight: ArrayLike | None = None,
) -> StandardErrors:
    """Compute standard errors of weights, means and covariances at a maximum of the likelihood or the posterior density.

    Wald intervals from these standard errors are accurate if components are well separated and N is large. The intervals are
    poor for weights near 0 and for variances of small components, because the distributions of these estimates are skewed.
    `compare` shows standard errors beside the standard deviations of the posterior.

    Args:
        mixture: the estimate: a Mixture or a Fit. Give `fit` a small tol such as 1e-10, because the Hessian is computed at
            exactly this mixture.
        x: (N, D), the data that the mixture was fitted to, or `observations`.
        prior: the prior that the mixture was fitted with, or None for maximum likelihood.
        kind: how the covariance matrix of the estimate is computed. Let H be the Hessian of the objective (log-likelihood plus
            log prior), and g_n the gradient of the log-density of row n. "observed": (-H)^-1. "sandwich": H^-1 (sum_n w_n g_n
            g_n') H^-1, which is valid for large N even if the model is wrong.
        sample_weight: (N,) >= 0, or None. A row of integer weight w counts as w copies of the row.

    Returns:
        StandardErrors. The standard errors of absent components (weight 0) are NaN. If the information is singular, the status
        says so and all standard errors are NaN. With EVE, VVE, EEV and VEV, this is also so if a covariance has exactly equal
        variances along two of its axes, because these axes are then not determined. Use `bootstrap` in this case. A
        pseudo-inverse of the information would not help: rotations of the two axes do not change the covariance, so its entry
        for the two axes would get the standard error 0, which is far too small. Nearly equal variances do no harm.

    Raises:
        ValueError: kind is unknown, shapes do not match, or the data hold invalid values.
        TypeError: an argument has the wrong type.

    Example:
        >>> import jaxgmm, numpy as np
        >>> x = np.array([[0.0], [2.0], [4.0], [6.0]])
        >>> one = jaxgmm.from_labels(x, [0, 0, 0, 0], num_components=1)
        >>> round(float(jaxgmm.standard_errors(one, x).means[0, 0]), 3)  # sd / sqrt(N)
        1.118
    """
    check_choice(kind, "kind", ESTIMATORS)
    return _standard_errors(*pad_inputs(validate_inputs(mixture, x, prior, sample_weight)), kind)


@partial(jax.jit, static_argnums=4)
def _standard_errors(mixture: Mixture, x: Data, weight: Weight, prior: MixturePrior | None, estimator: str) -> StandardErrors:
    """Compute the standard errors from validated input.

    All derivatives are computed in standardised coordinates, because in extreme units powers of variances overflow or
    underflow.
    """
    covariance_type = mixture.covariance_type
    if isinstance(x, Observations):
        x = x.with_own_noise()
    unit = jnp.sqrt(covariance.variances(mixture.covariances, covariance_type, mixture.num_features).mean(0))
    if is_coupled(covariance_type):  # a change of single units changes what components share
        unit = jnp.broadcast_to(jnp.sqrt((unit**2).mean()), unit.shape)
    shift = covariance.einsum("k,kd->d", mixture.weights, mixture.means)
    factor = covariance.from_data_scatter(covariance.outer(unit, covariance_type), covariance_type)
    mixture = Mixture(mixture.weights, (mixture.means - shift) / unit, mixture.covariances / factor, covariance_type)
    prior = None if prior is None else prior.standardise(shift, unit, factor[0])
    parameters = _free_parameters(mixture)
    origin, shared = jnp.zeros(len(parameters.is_free), x.dtype), (parameters, shift, unit)
    chunk = derivative_rows_per_chunk()
    hessian = sum_over_rows(_curvature, x, weight, chunk, shared)
    if prior is not None:
        hessian += jax.hessian(lambda move: log_prior(parameters.moved(move), prior, present=parameters.present))(origin)
    free = parameters.is_free
    information = jnp.where(free[:, None] & free, -hessian, 0) + jnp.diag(jnp.where(free, 0, 1).astype(x.dtype))
    inverse, status = _invert(information)
    if estimator == "sandwich":
        inverse = inverse @ sum_over_rows(_outer_products, x, weight, chunk, shared) @ inverse
    errors = parameters.standard_errors(inverse, status)
    return dataclasses.replace(errors, means=errors.means * unit, covariances=errors.covariances * factor)


def _invert(information: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the inverse of an information matrix, and an InformationStatus.

    The matrix is scaled before its Cholesky factorisation, so that the entries on its diagonal are 1.
    """
    scale = jnp.sqrt(jnp.where(linalg.diagonal(information) > 0, linalg.diagonal(information), 1))
    lower = linalg.cholesky(information / scale[:, None] / scale)
    pivots = linalg.diagonal(lower) ** 2
    definite = (linalg.diagonal(information) > 0).all() & (pivots > 100 * len(scale) * jnp.finfo(scale.dtype).eps).all()
    finite = jnp.isfinite(information).all()
    whitener = linalg.invert_lower(lower) / scale
    inverse = covariance.einsum("ki,kj->ij", whitener, whitener)
    status = jnp.where(definite, InformationStatus.OK, InformationStatus.SINGULAR)
    return inverse, jnp.where(finite, status, InformationStatus.NONFINITE)


class _FreeParameters(NamedTuple):
    """The parameters of a mixture as one vector (P,): K weights, K D means, then the free entries of the stored covariances.

    Attributes:
        mixture: the mixture; `moved` adds a vector to its parameters.
        present: (K,), whether each component has a positive weight.
        entries: index arrays of the free entries of the covariances.
        mirrored: index arrays of the transposed entries if covariances are stored as matrices, else None.
        is_free: (P,), False for parameters of absent components and for the weight of the last present component.
        chart: the coordinates of coupled covariances, which then take the place of the entries; else None.
    """

    mixture: Mixture
    present: jax.Array
    entries: tuple[jax.Array, ...]
    mirrored: tuple[jax.Array, ...] | None
    is_free: jax.Array
    chart: Chart | None

    def moved(self, move: jax.Array) -> Mixture:
        """Return the mixture with a vector (P,) added to its parameters.

        The weight of the last present component is then computed so that the weights sum to 1.
        """
        mixture = self.mixture
        k, d = mixture.num_components, mixture.num_features
        is_last = jnp.arange(k) == _last(self.present)
        step = jnp.where(is_last, 0, move[:k])
        means = mixture.means + move[k : k + k * d].reshape(k, d)
        moved = move[k + k * d :]
        if self.chart is not None:
            covariances = self.chart.covariances(moved)
        else:
            covariances = mixture.covariances.at[self.entries].add(moved)
            if self.mirrored is not None:
                covariances = covariances.at[self.mirrored].add(jnp.where(self.entries[1] != self.entries[2], moved, 0))
        weights = mixture.weights + step - jnp.where(is_last, step.sum(), 0)
        return dataclasses.replace(mixture, weights=weights, means=means, covariances=covariances)

    def standard_errors(self, inverse: jax.Array, status: jax.Array) -> StandardErrors:
        """Return standard errors in the shapes of the mixture's fields, given the covariance (P, P) of the parameter vector."""
        mixture, is_ok = self.mixture, status == InformationStatus.OK
        k, d = mixture.num_components, mixture.num_features
        error = jnp.where(is_ok & self.is_free, jnp.sqrt(linalg.diagonal(inverse)), jnp.nan)
        others = jnp.where(self.is_free[:k], 1.0, 0.0)
        last = jnp.sqrt(jnp.maximum(others @ inverse[:k, :k] @ others, 0))  # the last weight is one minus the sum of the others
        weights = jnp.where(jnp.arange(k) == _last(self.present), jnp.where(is_ok, last, jnp.nan), error[:k])
        values = error[k + k * d :]
        if self.chart is not None:
            covariances = self._errors_of_coupled(self.chart, inverse[k + k * d :, k + k * d :], is_ok)
            return StandardErrors(weights, error[k : k + k * d].reshape(k, d), covariances, status)
        covariances = jnp.full(mixture.covariances.shape, jnp.nan, values.dtype).at[self.entries].set(values)
        if self.mirrored is not None:
            covariances = covariances.at[self.mirrored].set(values)
        return StandardErrors(weights, error[k : k + k * d].reshape(k, d), covariances, status)

    def _errors_of_coupled(self, chart: Chart, inverse: jax.Array, is_ok: jax.Array) -> jax.Array:
        """Return the standard errors of coupled covariances by the delta method, given the covariance (C, C) of the chart."""
        free = self.is_free[-len(inverse) :]
        slopes = jnp.where(free, jax.jacfwd(chart.covariances)(jnp.zeros(len(inverse), inverse.dtype)), 0)
        errors = jnp.sqrt(covariance.einsum("...i,ij,...j->...", slopes, inverse, slopes))
        known = covariance.expand(self.present & is_ok, self.mixture.covariance_type)
        return jnp.where(known, errors, jnp.nan)


def _row_log_prob(
    move: jax.Array, x: Data, w: jax.Array, parameters: _FreeParameters, shift: jax.Array, unit: jax.Array
) -> jax.Array:
    """Return the log-densities (n,) of rows x (n, D) for parameters moved by a vector (P,); they are 0 for rows of weight 0.

    Rows of weight 0 may hold any values, so they are replaced by finite values.
    """
    if isinstance(x, Observations):
        rows = standardised(x, shift, unit)
    else:
        rows = jnp.where((w > 0)[:, None], (x - shift) / unit, parameters.mixture.means[0])
    return jnp.where(w > 0, log_prob(parameters.moved(move), rows), 0)


def _curvature(x: Data, w: jax.Array, parameters: _FreeParameters, *units: jax.Array) -> jax.Array:
    """Return the Hessian (P, P) of the weighted log-likelihood of rows; the arguments are those of `_row_log_prob`."""
    # If all devices shared the origin, JAX would add the derivatives over the devices. Therefore, each device has its own.
    origin = vary_with(jnp.zeros(len(parameters.is_free), x.dtype), x, w)
    return jax.hessian(lambda move: w @ _row_log_prob(move, x, w, parameters, *units))(origin)


def _outer_products(x: Data, w: jax.Array, parameters: _FreeParameters, *units: jax.Array) -> jax.Array:
    """Return the weighted sum (P, P) of outer products of the rows' gradients; the arguments are those of `_row_log_prob`."""
    origin = vary_with(jnp.zeros(len(parameters.is_free), x.dtype), x, w)
    scores = jax.jacfwd(lambda move: _row_log_prob(move, x, w, parameters, *units))(origin)  # (n, P)
    return (w[:, None] * scores).T @ scores


def _free_parameters(mixture: Mixture) -> _FreeParameters:
    """Return the free parameters of a mixture."""
    k, d = mixture.num_components, mixture.num_features
    present = mixture.weights > 0
    entries = tuple(map(jnp.array, zip(*covariance.labels(mixture.covariance_type, k, d), strict=True)))
    mirrored = (entries[0], entries[2], entries[1]) if len(entries) == 3 else None
    of_present = present[entries[0]] if len(mixture.covariances) == k else jnp.ones(len(entries[0]), bool)
    chart = None
    if is_coupled(mixture.covariance_type):
        chart = make_chart(mixture.covariances, mixture.covariance_type, present)
        owners = chart.components()
        of_present = (owners < 0) | present[owners]
    is_free = jnp.concatenate([present & (jnp.arange(k) != _last(present)), jnp.repeat(present, d), of_present])
    return _FreeParameters(mixture, present, entries, mirrored, is_free, chart)


def _last(present: jax.Array) -> jax.Array:
    """Return the index of the last present component."""
    return len(present) - 1 - jnp.argmax(present[::-1])
