"""`select` fits models in batches, and chooses the number of components and the covariance type by a criterion."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias, Unpack

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from .. import covariance
from ..calls import public_with
from ..covariance.types import (
    CLASSIC,
    TYPES,
    as_covariance_type,
    canonical,
    fewest_points,
)
from ..data_frames import column_names
from ..em.assignments import weighted_data
from ..em.batch.fit_many import EM_OPTIONS, EMOptions, is_spread
from ..em.batch.restarts import check_restarts
from ..em.fit_warnings import warn_of_collinear_columns
from ..em.initialization import METHODS
from ..em.result import Fit, Status, has_degenerate_component
from ..incomplete.observations import Data, Observations
from ..incomplete.rows import filled_rows
from ..priors.interface import MixturePrior
from ..row_sums import total_weight
from ..validation import check_choice, check_count, check_key, is_traced, warn_of_small_weights
from .criteria import CRITERIA as INFORMATION_CRITERIA
from .criteria import information_criterion
from .members import members_of, of_type, without_absent
from .observation_starts import check_observations
from .result import Cell, Selection, best_cell
from .sweep import Sweep, SweepOptions, best_fits, cross_validate

if TYPE_CHECKING:  # imported on first use, because only criterion="evidence" needs it
    from .evidence import ModelEvidence

Array: TypeAlias = jax.Array | np.ndarray

CRITERIA = (*INFORMATION_CRITERIA, "cv", "evidence")


@public_with(*EM_OPTIONS)
def select(
    key: jax.Array,
    x: ArrayLike | Observations,
    *,
    num_components: Iterable[int] = range(1, 10),
    covariance_types: Iterable[str] = CLASSIC,
    criterion: str = "bic",
    prior: MixturePrior | Mapping[str, MixturePrior] | None = None,
    num_restarts: int = 10,
    num_folds: int = 5,
    method: str = "k-means++",
    num_samples: int = 1000,
    num_chains: int = 4,
    sample_weight: ArrayLike | None = None,
    **options: Unpack[EMOptions],
) -> Selection:
    """Fit every number of components with every covariance type, in batches, and choose the best model by a criterion.

    Sound fits rank above all others, both among the restarts of a model and among the models. A fit is sound if EM converged or
    ran out of steps, all numbers are finite and no component is degenerate. A component is degenerate if it holds fewer than
    D + 1 points (2 points for diag and spherical), or if only the regularisation keeps its covariance from collapsing. With the
    covariance type tied, no component is degenerate. The components of each fit are ordered by weight, the largest first, as in
    `fit_restarts`.

    Args:
        key: a random key.
        x: (N, D), or `observations`. Every restart of observations begins at a start of `initialize`, and rows
            without observed values do not count in the N of BIC.
        num_components: the numbers of components to try.
        covariance_types: the covariance types to try: names or codes, or "all" for the fourteen types. "evidence" takes only
            "full", "tied", "diag", "spherical", "EEI" and "EII".
        criterion: "bic", "aic", "icl", "cv" or "evidence". "cv" is cross-validation: -2 times the log-likelihood of the
            held-out rows. Each row is held out once. "evidence" is -2 log p(x | M), where M is a model. The evidence is
            estimated by `smc`, and the posterior probabilities p(M | x) of the models are computed from it. Before the data are
            seen, all models have the same probability.
        prior: the prior under which EM fits: a conjugate prior for the largest number of components, or a dict that has such a
            prior for each covariance type. A model with K components uses the first K concentrations. The prior is required
            for "evidence". Evidences for different K can be compared only if their priors have the same scale, so a separate
            prior for each K is refused. If the prior is scaled to the data, as by `default_prior`, the probabilities
            depend on this scale. For "evidence", EM replaces concentrations below 1 by 1.
        num_restarts: the number of starts for each combination of number of components and covariance type.
        num_folds: the number of folds of the cross-validation.
        method: as in `initialize`.
        num_samples: the number of particles in each run of `smc`, for "evidence".
        num_chains: the number of runs of `smc`, at least 2, for "evidence".
        sample_weight: (N,) >= 0, or None.
        **options: other options of `fit_many`: tol, max_iter, reg_covar, accelerate, chunk_size, progress.

    Returns:
        A Selection.

    Raises:
        ValueError: an option is unknown or out of range, or x has fewer rows than the largest number of components.
        TypeError: an argument has the wrong type.

    Example:
        >>> import jax, jaxgmm
        >>> x = jaxgmm.datasets.load("acidity")
        >>> jaxgmm.select(jax.random.key(0), x, num_components=[1, 2], covariance_types=["tied"], num_restarts=2)
        BIC, lower is better
          K    tied
          1  461.66
          2  392.07*
          * best
    """
    check_key(key)
    check_choice(criterion, "criterion", CRITERIA)
    check_choice(method, "method", METHODS)
    check_count(num_restarts, "num_restarts")
    check_count(num_folds, "num_folds", 2)
    check_count(num_chains, "num_chains", 2)
    counts, types = _grid(num_components, covariance_types)
    feature_names = column_names(x)
    rows, weight = weighted_data(x, sample_weight, max(counts))
    if isinstance(rows, Observations):
        check_observations(rows, weight, counts, types, has_prior=prior is not None)
    check_restarts(num_restarts, max(counts), rows)
    keys = list(jax.random.split(key, 3))
    warn_of_small_weights(weight)
    priors = as_priors(prior, types)
    evidence: Mapping[tuple[str, int], ModelEvidence] = {}
    if criterion == "evidence":
        from .evidence import Effort, evidence_of_models

        effort, progress = Effort(num_samples, num_chains), options.get("progress")
        evidence = evidence_of_models(keys[1], (rows, weight), priors, counts, effort, progress)
        priors = {name: with_mode(one) for name, one in priors.items() if one is not None}
    is_default = options.get("reg_covar") is None and not any(priors.values())
    members = members_of(types) if is_default and num_restarts > 1 and _can_share(rows) else dict.fromkeys(types)
    cells = {}
    for name in types:
        of_fits: SweepOptions = {**options, "prior": priors[name]}
        sweep = Sweep(counts, num_restarts, num_folds, method, of_fits, members[name])
        cells |= _fit_cells(keys, (rows, weight), name, sweep, criterion, evidence)
    if any(cell.spike and covariance.is_dense(name) for (name, _), cell in cells.items()):
        warn_of_collinear_columns(filled_rows(rows) if isinstance(rows, Observations) else rows, weight)
    return Selection(criterion, cells, best_cell(cells.values()), feature_names)


def _can_share(rows: Data) -> bool:
    """Return whether the fits of several covariance types to such data can share compiled programs."""
    return not isinstance(rows, Observations) and not is_spread(rows)


def as_priors(
    prior: MixturePrior | Mapping[str, MixturePrior] | None, covariance_types: list[str]
) -> Mapping[str, MixturePrior | None]:
    """Return the prior for each covariance type, or raise ValueError if a dict has other keys than the covariance types."""
    if not isinstance(prior, Mapping):
        return dict.fromkeys(covariance_types, prior)
    prior = {canonical(name): one for name, one in prior.items()}
    if prior.keys() != set(covariance_types):
        raise ValueError(
            f"prior is a dict with the keys {list(prior)}; one prior for each of the covariance types {covariance_types} was "
            "expected. A prior must not depend on the number of components."
        )
    return prior


def with_mode(prior: MixturePrior) -> MixturePrior:
    """Return a prior under which EM finds a mode: concentrations below 1 are replaced by 1."""
    concentration = np.maximum(np.asarray(prior.weight_concentration), 1)
    return dataclasses.replace(prior, weight_concentration=concentration)


def _grid(num_components: Iterable[int] | int, covariance_types: Iterable[str] | str) -> tuple[list[int], list[str]]:
    """Return lists of the numbers of components and of the covariance types, after validation."""
    if isinstance(num_components, Iterable) and getattr(num_components, "ndim", 1):
        counts: list[int] = [_as_python(k) for k in num_components]
    else:
        counts = [_as_python(num_components)]
    if isinstance(covariance_types, str):
        types = list(TYPES) if covariance_types == "all" else [covariance_types]
    else:
        types = list(covariance_types)
    for k in counts:
        check_count(k, "num_components")
    types = [as_covariance_type(name) for name in types]
    if not counts or not types:
        raise ValueError("num_components or covariance_types is empty; at least one of each was expected.")
    return list(dict.fromkeys(int(k) for k in counts)), list(dict.fromkeys(types))


def _as_python(number: Any) -> Any:
    """Return a NumPy or JAX number as a Python number, and any other object unchanged."""
    is_one = isinstance(number, np.generic | np.ndarray | jax.Array) and number.ndim == 0 and not is_traced(number)
    return number.item() if is_one else number


def _fit_cells(
    keys: Sequence[jax.Array],
    data: tuple[Data, jax.Array | None],
    covariance_type: str,
    sweep: Sweep,
    criterion: str,
    evidence: Mapping[tuple[str, int], ModelEvidence],
) -> dict[tuple[str, int], Cell]:
    """Fit all numbers of components of one covariance type, and return their cells. The keys (3,) are random keys."""
    rows, weight = data
    best = best_fits(keys[0], rows, weight, covariance_type, sweep)
    total, fewest = total_weight(weight, len(rows), rows.dtype), np.asarray(fewest_points(covariance_type, rows.shape[1]))
    fits, each, degenerate = _separate(best, total, fewest, tuple(sweep.counts))
    if evidence:
        values = [-2 * evidence[covariance_type, k].log_evidence for k in sweep.counts]
    elif criterion == "cv":
        values = cross_validate(keys[1:], rows, weight, covariance_type, sweep)
    else:
        values = information_criterion(criterion, fits.mixture, rows, weight, covariance_type)
    each = [of_type(fit, covariance_type) for fit in each]
    return _cells(each, np.asarray(values), np.asarray(degenerate), evidence)


def _cells(
    fits: list[Fit], values: np.ndarray, degenerate: np.ndarray, evidence: Mapping[tuple[str, int], ModelEvidence]
) -> dict[tuple[str, int], Cell]:
    """Return the cells of the fits of one covariance type, which have these values of the criterion."""
    cells = {}
    for fit, value, is_degenerate in zip(fits, values, degenerate, strict=True):
        name = fit.mixture.covariance_type, fit.mixture.num_components
        cells[name] = _cell(fit, float(value), bool(is_degenerate), evidence.get(name))
    return cells


@partial(jax.jit, static_argnums=3)
def _separate(fits: Fit, total: Array, fewest: Array, counts: tuple[int, ...]) -> tuple[Fit, list[Fit], jax.Array]:
    """Return fits (len(counts), 1) as a stack, one by one without absent components, and which of them are degenerate."""
    fits = jax.tree.map(lambda leaf: leaf[:, 0], fits)
    each = [without_absent(jax.tree.map(lambda leaf, i=i: leaf[i], fits), k) for i, k in enumerate(counts)]
    return fits, each, has_degenerate_component(fits, jnp.asarray(total), jnp.asarray(fewest))


def _cell(fit: Fit, value: float, degenerate: bool, evidence: ModelEvidence | None) -> Cell:
    """Return the cell of a fit. The criterion is inf if the fit failed, or if the evidence is not finite."""
    mixture, status, log_likelihood = fit.mixture, Status(int(fit.status)), float(fit.log_likelihood)
    if math.isnan(value) or (evidence is None and not math.isfinite(log_likelihood)):
        value = math.inf
    name, k = mixture.covariance_type, mixture.num_components
    return Cell(name, k, value, log_likelihood, status, degenerate, fit, evidence)
