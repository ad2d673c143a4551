"""Standard errors of a point estimate, from the observed information or the sandwich, by automatic differentiation.

Free parameters: K - 1 weights (the last present one is one minus the rest), means, and the free entries of the stored
covariances. observed: (-H)^-1, H the Hessian of log-likelihood plus log-prior; sandwich: H^-1 (sum_n w g g') H^-1, right for
large N when the model is wrong. Sources: Boldea & Magnus (2009), JASA 104, 1539-1549; White (1982), Econometrica 50, 1-25.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from .. import covariance, linalg
from ..chunking import derivative_rows_per_chunk
from ..density import log_prob
from ..inputs import validate_inputs
from ..mixture import Mixture
from ..priors.functions import log_prior
from ..priors.interface import MixturePrior
from ..row_sums import sum_over_rows
from ..status import StatusEnum
from ..tables import REACH, Printed, Table, elided, look, number, numbers, numbers_of, reach
from ..validation import check_choice

KINDS = ("observed", "sandwich")


class InformationStatus(StatusEnum):
    """Whether the information has an inverse: `InformationStatus(int(errors.status)).sentence` says it in words.

    Example:
        >>> import jaxgmm
        >>> print(jaxgmm.InformationStatus(0).sentence)
        The information is positive definite.
    """

    OK = 0, "The information is positive definite."
    SINGULAR = (
        1,
        "The information is not positive definite, so there are no standard errors. The mixture is not at a maximum, or "
        "components coincide, sit at the floor or hold too few points; fit to a smaller tol, use a prior, or fewer components.",
    )
    NONFINITE = (
        2,
        "The information is not finite: the mixture or the data hold NaN or infinity, or a covariance is singular; look at the "
        "fit's status.",
    )


@partial(jax.tree_util.register_dataclass, data_fields=["weights", "means", "covariances", "status"], meta_fields=[])
@dataclass(frozen=True, eq=False, repr=False)
class StandardErrors(Printed):
    """Standard errors in the shapes and units of a mixture's fields; NaN where there are none.

    Attributes:
        weights: (K,).
        means: (K, D), data units.
        covariances: the shape of the mixture's covariances, data units squared.
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
        weights, means, covariances = errors.values()
        rows = [
            ["..."] * 4
            if i is None
            else [str(i), number(weights[i]), numbers(means[i]), numbers_of(covariances[min(i, len(covariances) - 1)])]
            for i in elided(k)
        ]
        return [Table(f"{title}: {InformationStatus.name_of(status)}", ("k", *errors), rows, notes)]


def standard_errors(
    mixture: Mixture,
    x: Any,
    prior: MixturePrior | None = None,
    *,
    kind: str = "observed",
    sample_weight: Any = None,
) -> StandardErrors:
    """Standard errors of weights, means and covariances at a maximum of the likelihood, or of the posterior density.

    Wald intervals from them suit well separated components and large N; weights near 0 and variances of small components
    are skewed, which `compare` shows.

    Args:
        mixture: the estimate, as `fit(...).mixture`; converge it well (tol 1e-10), the curvature is taken where it stands.
        x: (N, D), the data it was fitted to.
        prior: the prior it was fitted with, or None for maximum likelihood.
        kind: "observed" or "sandwich".
        sample_weight: (N,) >= 0: an integer weight counts as repetition.

    Returns:
        StandardErrors. Absent components (weight 0) get NaN; a singular information is a status, and NaN throughout.

    Raises:
        ValueError, TypeError: data, prior or kind that do not fit.

    Example:
        >>> import jaxgmm, numpy as np
        >>> x = np.array([[0.0], [2.0], [4.0], [6.0]])
        >>> one = jaxgmm.from_labels(x, [0, 0, 0, 0], num_components=1)
        >>> round(float(jaxgmm.standard_errors(one, x).means[0, 0]), 3)  # sd / sqrt(N)
        1.118
    """
    check_choice(kind, "kind", KINDS)
    return _standard_errors(*validate_inputs(mixture, x, prior, sample_weight), kind == "sandwich")


@partial(jax.jit, static_argnums=4)
def _standard_errors(
    mixture: Mixture, x: jax.Array, weight: jax.Array | None, prior: MixturePrior | None, sandwich: bool
) -> StandardErrors:
    present = mixture.weights > 0
    unit = _unit(mixture)
    origin = jnp.zeros(_size(mixture), x.dtype)

    def at(move: jax.Array) -> Mixture:
        return _moved(mixture, move, unit, present)

    def row_log_prob(move: jax.Array, rows: jax.Array, w: jax.Array) -> jax.Array:
        return jnp.where(w > 0, log_prob(at(move), jnp.where((w > 0)[:, None], rows, mixture.means[0])), 0)

    def curvature(rows: jax.Array, w: jax.Array) -> jax.Array:
        return jax.hessian(lambda move: w @ row_log_prob(move, rows, w))(origin)

    chunk = derivative_rows_per_chunk()
    hessian = sum_over_rows(curvature, x, weight, chunk)
    if prior is not None:
        hessian += jax.hessian(lambda move: log_prior(at(move), prior, present=present))(origin)
    free = _free(mixture, present)
    information = jnp.where(free[:, None] & free, -hessian, 0) + jnp.diag(jnp.where(free, 0, 1).astype(x.dtype))
    inverse, status = _invert(information)
    if sandwich:

        def outer(rows: jax.Array, w: jax.Array) -> jax.Array:
            scores = jax.jacfwd(lambda move: row_log_prob(move, rows, w))(origin)  # (n, P)
            return (w[:, None] * scores).T @ scores

        inverse = inverse @ sum_over_rows(outer, x, weight, chunk) @ inverse
    return _in_shape(mixture, inverse, unit, present, free, status)


def _invert(information: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The inverse, by a Cholesky factorisation in units where the diagonal is one, and how that went."""
    scale = jnp.sqrt(jnp.where(linalg.diagonal(information) > 0, linalg.diagonal(information), 1))
    lower = linalg.cholesky(information / scale[:, None] / scale)
    pivots = linalg.diagonal(lower) ** 2
    definite = (linalg.diagonal(information) > 0).all() & (pivots > 100 * len(scale) * jnp.finfo(scale.dtype).eps).all()
    finite = jnp.isfinite(information).all()
    whitener = linalg.invert_lower(lower) / scale
    inverse = covariance.einsum("ki,kj->ij", whitener, whitener)
    status = jnp.where(
        finite, jnp.where(definite, InformationStatus.OK, InformationStatus.SINGULAR), InformationStatus.NONFINITE
    )
    return inverse, status


def _unit(mixture: Mixture) -> jax.Array:
    """A standard deviation a feature (D,): the Hessian is taken in these units, so that float32 can invert it."""
    return jnp.sqrt(covariance.variances(mixture.covariances, mixture.covariance_type, mixture.num_features).mean(0))


def _size(mixture: Mixture) -> int:
    k, d = mixture.num_components, mixture.num_features
    return k + k * d + covariance.num_free(mixture.covariance_type, k, d)


def _moved(mixture: Mixture, move: jax.Array, unit: jax.Array, present: jax.Array) -> Mixture:
    """The mixture moved by free parameters (P,): the last present weight takes what the others give."""
    k, d = mixture.num_components, mixture.num_features
    last = _last(present)
    step = jnp.where(jnp.arange(k) == last, 0, move[:k])
    weights = mixture.weights + step - jnp.where(jnp.arange(k) == last, step.sum(), 0)
    entries, mirror = _entries(mixture)
    moved = move[k + k * d :] * _entry_units(mixture, unit)
    covariances = mixture.covariances.at[entries].add(moved)
    if mirror is not None:
        covariances = covariances.at[mirror].add(jnp.where(entries[1] != entries[2], moved, 0))
    return dataclasses.replace(
        mixture, weights=weights, means=mixture.means + move[k : k + k * d].reshape(k, d) * unit, covariances=covariances
    )


def _last(present: jax.Array) -> jax.Array:
    return len(present) - 1 - jnp.argmax(present[::-1])


def _entries(mixture: Mixture) -> tuple[tuple, tuple | None]:
    """Index arrays of the free entries of the covariances, and of their mirror images in matrices."""
    labels = covariance.labels(mixture.covariance_type, mixture.num_components, mixture.num_features)
    index = tuple(jnp.array(column) for column in zip(*labels, strict=True))
    return index, (index[0], index[2], index[1]) if len(index) == 3 else None


def _entry_units(mixture: Mixture, unit: jax.Array) -> jax.Array:
    index, _ = _entries(mixture)
    if len(index) == 3:
        return unit[index[1]] * unit[index[2]]
    return (unit**2)[index[1]] if mixture.covariances.shape[-1] == len(unit) else jnp.full(len(index[0]), (unit**2).mean())


def _free(mixture: Mixture, present: jax.Array) -> jax.Array:
    """Which of the P entries are parameters: not those of absent components, nor the last weight."""
    k, d = mixture.num_components, mixture.num_features
    owner, _ = _entries(mixture)
    owned = present[owner[0]] if len(mixture.covariances) == k else jnp.ones(len(owner[0]), bool)
    return jnp.concatenate([present & (jnp.arange(k) != _last(present)), jnp.repeat(present, d), owned])


def _in_shape(
    mixture: Mixture, inverse: jax.Array, unit: jax.Array, present: jax.Array, free: jax.Array, status: jax.Array
) -> StandardErrors:
    k, d = mixture.num_components, mixture.num_features
    error = jnp.where((status == InformationStatus.OK) & free, jnp.sqrt(linalg.diagonal(inverse)), jnp.nan)
    others = jnp.where(free[:k], 1.0, 0.0)
    last = jnp.sqrt(jnp.maximum(others @ inverse[:k, :k] @ others, 0))  # sd of a sum
    weights = jnp.where(jnp.arange(k) == _last(present), jnp.where(status == InformationStatus.OK, last, jnp.nan), error[:k])
    entries, mirror = _entries(mixture)
    values = error[k + k * d :] * _entry_units(mixture, unit)
    covariances = jnp.full(mixture.covariances.shape, jnp.nan, values.dtype).at[entries].set(values)
    if mirror is not None:
        covariances = covariances.at[mirror].set(values)
    return StandardErrors(weights, error[k : k + k * d].reshape(k, d) * unit, covariances, status)
