"""EM against one posterior: standard errors, Laplace's approximation, densities and memberships, put beside each other."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from .. import ahead
from ..chunking import scored_draws
from ..em.standard_errors import standard_errors
from ..mixture import Mixture, num_parameters
from ..posterior.result import Posterior
from ..studies.parameters import values
from .clustering import compare_memberships, thinned
from .contraction import contractions
from .joint import RATIOS, Approximation, approximate, chart, compare_jointly, is_cheap
from .predictive_scores import (
    assign_folds,
    choose_points,
    distances,
    in_blocks,
    leave_one_out,
    pointwise,
    posterior_on_folds,
    refit,
    score,
    without_folds,
)
from .sampler_summary import ComparisonInputs
from .summaries import invariant_values
from .verdict import MAX_KHAT, khat_limit

_MOST_ROWS = 2000  # rows that draws are scored on; of more, as many at random
_POINTS = 1000  # where densities are compared
_SD_DRAWS = 4000  # of Laplace's approximation
_SLOW = 2e9  # multiplications of an information that is not worth the wait


class Scored(NamedTuple):
    """Rows (R,) that draws are scored on, their weights (R,), and folds (R,) or None."""

    rows: np.ndarray
    weight: np.ndarray
    folds: np.ndarray | None


def choose_rows(setting: ComparisonInputs) -> Scored:
    """Rows to be scored, and the fold of each."""
    rng = np.random.default_rng(setting.seed)
    rows, folds = setting.kept, None
    if len(rows) > _MOST_ROWS:
        rows = np.sort(rng.choice(rows, _MOST_ROWS, replace=False))
    elif min(setting.num_folds, len(rows)) >= 2:
        folds = assign_folds(rng, len(rows), min(setting.num_folds, len(rows)))
    return Scored(rows, setting.counts[rows], folds)


@jax.jit
def _errors(mixture: Mixture, x: jax.Array, prior: Any, weight: jax.Array | None) -> Any:
    return standard_errors(mixture, x, prior, sample_weight=weight)


def has_errors(setting: ComparisonInputs, prior: Any) -> bool:
    """Whether standard errors are to be had, and soon."""
    mixture = setting.fit.mixture
    work = len(setting.x) * mixture.num_components * mixture.num_features * 20.0 * num_parameters(mixture)
    return work <= _SLOW and getattr(prior, "has_closed_forms", True)


def information_errors(setting: ComparisonInputs, prior: Any) -> np.ndarray:
    """EM's standard errors by the observed information (P,), in the order of `rows.values`; NaN where there are none."""
    mixture = setting.fit.mixture
    if not has_errors(setting, prior):
        return np.full(values(mixture).shape, math.nan)
    errors = ahead.call(_errors, mixture, setting.x, prior, setting.weight)
    return values(Mixture(errors.weights, errors.means, errors.covariances, mixture.covariance_type))


def begin(setting: ComparisonInputs, prior: Any, scored: Scored | None, errors: bool) -> None:
    """Has the two programs compiled aside that are long to compile and needed last."""
    if errors and has_errors(setting, prior):
        ahead.start(_errors, setting.fit.mixture, setting.x, prior, setting.weight)
    if scored is not None and scored.folds is not None:
        ahead.start(refit, *_folded(setting, prior, scored))


def _folded(setting: ComparisonInputs, prior: Any, scored: Scored) -> tuple:
    x = setting.x[scored.rows]
    return setting.fit.mixture, x, prior, without_folds(x, scored.weight, scored.folds)


def same_prior(one: Any, other: Any) -> bool:
    """Whether two priors are the same, number by number."""
    if one is None or other is None or jax.tree.structure(one) != jax.tree.structure(other):
        return False
    return all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True))


class Laplace(NamedTuple):
    """Laplace's approximation under one prior, and the sds that it gives free entries (P,) and label-free quantities (Q,)."""

    approximation: Approximation
    prior: Any
    sd: np.ndarray
    free_sd: np.ndarray


def find_laplace(
    setting: ComparisonInputs, posteriors: Mapping[str, Posterior], wanted: bool | None, size: int
) -> Laplace | None:
    """Under the prior of the first posterior that has one. wanted: None is where it is cheap."""
    mixture = setting.fit.mixture
    cheap = is_cheap(mixture, len(setting.x))
    prior = next((p.prior for p in posteriors.values() if p.prior is not None), None)
    if wanted is False or prior is None or (wanted is None and not cheap):
        return None
    found = approximate(jax.random.key(setting.seed), mixture, setting.x, setting.weight, prior)
    if found is None:
        return None
    if not found.sound:
        return Laplace(found, prior, *(np.full(of(mixture).shape, math.nan) for of in (values, invariant_values)))
    rng, p = np.random.default_rng(setting.seed), len(found.bridge.mode)
    u = rng.normal(size=(_SD_DRAWS, p)).astype(found.bridge.mode.dtype)
    return Laplace(found, prior, *sds(_chart(found, setting, next(iter(posteriors.values())), u, size)[1]))


def sds(draws: Mixture) -> tuple[np.ndarray, np.ndarray]:
    """Standard deviations over all leading axes of the free entries (P,) and of what no labelling changes (Q,)."""
    flat = (found.reshape(-1, found.shape[-1]) for found in (values(draws), invariant_values(draws)))
    return tuple(np.where(np.ptp(found, axis=0) > 0, found.std(0, ddof=1), 0.0) for found in flat)


def _chart(
    found: Approximation, setting: ComparisonInputs, posterior: Posterior, u: np.ndarray | None, size: int
) -> tuple[np.ndarray, Mixture]:
    """`joint.chart` of EM and the draws, (1 + M, P), and of u (U, P), whichever are more; the shorter is gone through again."""
    stack = jax.tree.map(
        lambda em, draws: np.concatenate([np.asarray(em, draws.dtype)[None], draws]), setting.fit.mixture, flat_draws(posterior)
    )
    count = len(stack.weights)
    u = np.zeros((1, len(found.bridge.mode)), found.bridge.mode.dtype) if u is None else u
    most = max(count, len(u))
    pair = stack[np.arange(most) % count], u[np.arange(most) % len(u)]
    located, mixtures = in_blocks(lambda block: chart(found.problem, found.bridge, *block), pair, size)
    return located[:count], mixtures[: len(u)]


def goes_with(laplace: Laplace, posterior: Posterior) -> bool:
    """Whether a posterior is of the same prior; a bootstrap, which averages over none, is set beside it in any case."""
    return posterior.method == "bootstrap" or same_prior(posterior.prior, laplace.prior)


def khat_of(laplace: Laplace) -> dict[str, float]:
    """How good the approximation is, and how good it must be."""
    return {"khat": laplace.approximation.khat, "khat_limit": khat_limit(RATIOS)}


def add_columns(rows: list[dict[str, Any]], errors: np.ndarray, contraction: np.ndarray | None) -> None:
    """em_se and contraction, in place; NaN where not known."""
    for p, row in enumerate(rows):
        row["em_se"] = float(errors[p])
        row["contraction"] = math.nan if contraction is None else float(contraction[p])


def add_ratios(rows: list[dict[str, Any]], laplace_sd: np.ndarray | None) -> None:
    """laplace_sd and sd_ratio, in place; NaN where not known."""
    for p, row in enumerate(rows):
        row["laplace_sd"] = math.nan if laplace_sd is None else float(laplace_sd[p])
        row["sd_ratio"] = row["laplace_sd"] / row["sd"] if row["sd"] > 0 else math.nan


def contraction_of(setting: ComparisonInputs, posterior: Posterior) -> np.ndarray | None:
    """None without a prior of this package."""
    if posterior.prior is None:
        return None
    mixture, prior = setting.fit.mixture, jax.tree.map(np.asarray, posterior.prior)
    return contractions(mixture, prior, values(posterior.mixture), setting.seed)


def flat_draws(posterior: Posterior) -> Mixture:
    """Draws (M, ...) on the host."""
    return jax.tree.map(lambda leaf: np.asarray(leaf).reshape(-1, *leaf.shape[2:]), posterior.mixture)


def joint_of(
    setting: ComparisonInputs, posterior: Posterior, log_prior: float, laplace: Laplace | None, size: int
) -> dict[str, float]:
    """`joint.compare_jointly` of one posterior; its log densities are those of EM's own space."""
    known = posterior.prior is not None or posterior.method == "bootstrap"
    em_density = float(setting.fit.log_likelihood) + log_prior if known else math.nan
    em_u = u = None
    if laplace is not None and laplace.approximation.sound:
        u = _chart(laplace.approximation, setting, posterior, None, size)[0]
        em_u, u = u[0], u[1:]
    return compare_jointly(em_density, np.asarray(posterior.log_density, float), em_u, u)


def refitted(setting: ComparisonInputs, prior: Any, scored: Scored) -> np.ndarray | None:
    """EM's score of each row (R,), fitted without its fold; None without folds."""
    if scored.folds is None:
        return None
    densities = np.asarray(ahead.call(refit, *_folded(setting, prior, scored)), float)  # (F, R)
    return densities[scored.folds, np.arange(len(scored.rows))]


def scores_of(
    setting: ComparisonInputs, posterior: Posterior, scored: Scored, em_score: np.ndarray | None, size: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What one posterior says of densities, and of memberships."""
    rng = np.random.default_rng([setting.seed, 1])
    em, draws = setting.fit.mixture, flat_draws(posterior)
    k, count = em.num_components, len(scored.rows) + _POINTS
    most = scored_draws(count, k)
    chosen = thinned(len(draws.weights), most)
    draws = draws[chosen]
    x = np.asarray(setting.x)[scored.rows]
    places = choose_points(rng, em, draws, _POINTS)
    points = np.concatenate([x, places.points.astype(x.dtype)])
    stack = jax.tree.map(lambda one, many: np.concatenate([np.asarray(one, many.dtype)[None], many]), em, draws)
    log_density, shares = pointwise(stack, points, len(x), size)
    rows, beyond = log_density[:, : len(x)], log_density[:, len(x) :]
    predictive = np.logaddexp.reduce(beyond[1:], axis=0) - math.log(len(draws.weights))
    density: dict[str, Any] = {"num_draws": len(chosen), "num_rows": len(x), "num_points": _POINTS}
    density |= distances(predictive, beyond[0], places.quadrature)
    density |= _predictions(posterior, rows, scored, em_score, setting.counts.sum(), chosen)
    named = bool(posterior.stats["labels_identified"])
    return density, compare_memberships(shares[0], shares[1:], scored.weight, named)


def _predictions(
    posterior: Posterior,
    rows: np.ndarray,
    scored: Scored,
    em_score: np.ndarray | None,
    total: float,
    chosen: np.ndarray,
) -> dict[str, Any]:
    """lpd of EM, and what both predict of rows left out; a bootstrap's draws have no likelihood to be weighed by."""
    found: dict[str, Any] = {"lpd_em": float(total * np.average(rows[0], weights=scored.weight))}
    if em_score is not None:
        found |= score("elpd_folds_em", em_score, scored.weight, total)
    if posterior.method == "bootstrap":
        return found
    ratio = posterior.stats.get("log_ratio")
    ratio = None if ratio is None else np.asarray(ratio, float).ravel()[chosen]
    found |= leave_one_out(rows[1:], scored.weight, total, ratio)
    if em_score is not None:
        elpd, khat = posterior_on_folds(rows[1:], scored.weight, scored.folds, ratio)
        found |= score("elpd_folds", elpd, scored.weight, total)
        found |= score("elpd_folds_difference", elpd - em_score, scored.weight, total)
        found |= {
            "num_folds": len(khat),
            "folds_khat_max": float(khat.max()),
            "num_folds_khat_high": int((khat > MAX_KHAT).sum()),
        }
    return found
