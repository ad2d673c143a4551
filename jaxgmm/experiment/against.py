"""EM against one posterior: health of its draws, Laplace's approximation, densities and memberships, put beside each other."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, NamedTuple

import jax
import numpy as np

from ..density import log_prob
from ..em.result import ComponentStatus, Fit, Status
from ..em.standard_errors import standard_errors
from ..mixture import Mixture, num_parameters
from ..posterior import diagnostics
from ..posterior.draws import Posterior, PosteriorStatus
from ..posterior.relabel import SMALL_MARGIN
from ..prior import HalfNormal
from .aside import Aside
from .blocks import versions
from .clustering import compare_memberships
from .contraction import contractions
from .joint import RATIOS, Approximation, approximate, compare_jointly, is_cheap, locate, spread
from .rows import values
from .scores import (
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
from .verdict import MAX_KHAT, khat_limit

_NUMBERS = 1 << 24  # of the largest table: draws, points, components
_MOST_ROWS = 2000  # rows that draws are scored on; of more, as many at random
_POINTS = 1000  # where densities are compared
_SD_DRAWS = 4000  # of Laplace's approximation
_SLOW = 2e9  # multiplications of an information that is not worth the wait


class Setting(NamedTuple):
    """What all posteriors of a comparison share. weight (N,) or None; kept: indices of the rows that count."""

    fit: Fit
    x: jax.Array
    weight: jax.Array | None
    kept: np.ndarray
    seed: int
    num_folds: int

    @property
    def counts(self) -> np.ndarray:
        """(N,), what each row counts."""
        return np.ones(len(self.x)) if self.weight is None else np.asarray(self.weight, float)


class Scored(NamedTuple):
    """Rows (R,) that draws are scored on, their weights (R,), and folds (R,) or None."""

    rows: np.ndarray
    weight: np.ndarray
    folds: np.ndarray | None


def choose_rows(setting: Setting) -> Scored:
    """Rows to be scored, and the fold of each."""
    rng = np.random.default_rng(setting.seed)
    rows, folds = setting.kept, None
    if len(rows) > _MOST_ROWS:
        rows = np.sort(rng.choice(rows, _MOST_ROWS, replace=False))
    elif min(setting.num_folds, len(rows)) >= 2:
        folds = assign_folds(rng, len(rows), min(setting.num_folds, len(rows)))
    return Scored(rows, setting.counts[rows], folds)


def health(posterior: Posterior, rows: list[dict[str, Any]], free: list[dict[str, Any]]) -> dict[str, Any]:
    """How the sampler did, and the labels."""
    chains, count = posterior.log_density.shape
    stats = posterior.stats
    worst = {name: np.array([row[name] for row in rows + free]) for name in ("r_hat", "ess_bulk", "ess_tail")}
    known = np.isfinite(worst["ess_bulk"])
    orders = np.asarray(stats["permutation"])
    away = (orders != np.arange(orders.shape[-1])).any(-1).mean(1) > 0.5
    share = np.asarray(stats["other_share"]) if "other_share" in stats else np.zeros(0)
    many = int(posterior.status) == PosteriorStatus.MULTIMODAL
    return {
        "method": posterior.method,
        "chains": chains,
        "draws": count,
        "num_warmup": int(stats["num_warmup"]) if "num_warmup" in stats else None,
        "status": PosteriorStatus(int(posterior.status)).name,
        "prior": describe_prior(posterior.prior),
        "divergences": int(np.asarray(stats.get("diverging", 0)).sum()),
        "tree_depth_max": int(np.max(stats["tree_depth"])) if "tree_depth" in stats else None,
        "e_bfmi_min": float(diagnostics.e_bfmi(stats["energy"]).min()) if "energy" in stats and count > 1 else None,
        "switch_rate": float(stats["switch_rate"]),
        "switched_chains": int(away.sum()),
        "unclear_rate": float((np.asarray(stats["relabel_margin"]) < SMALL_MARGIN).mean()),
        "identified": bool(stats["labels_identified"]),
        "r_hat_max": float(worst["r_hat"][known].max()) if known.any() else math.nan,
        "ess_min": float(worst["ess_bulk"][known].min()) if known.any() else math.nan,
        "ess_tail_min": float(worst["ess_tail"][known].min()) if known.any() else math.nan,
        "khat": float(stats["khat"]) if "khat" in stats else None,
        "khat_limit": khat_limit(RATIOS) if "khat" in stats else None,
        "other_share": float(share.max()) if many and share.size else None,
    }


def describe_prior(prior: Any) -> dict[str, Any] | None:
    """Name and hyperparameters in plain types; None without one."""
    if prior is None or not is_dataclass(prior):
        return None
    found: dict[str, Any] = {"name": type(prior).__name__}
    for f in fields(prior):
        value = getattr(prior, f.name)
        found[f.name] = describe_prior(value) if is_dataclass(value) else np.asarray(value, float).tolist()
    return found


def describe_setting(setting: Setting, names: list[str], maximised: Any) -> dict[str, Any]:
    """`Comparison.meta`."""
    fit, mixture = setting.fit, setting.fit.mixture
    em = {
        "status": Status(int(fit.status)).name,
        "converged": int(fit.status) == Status.CONVERGED,
        "num_iter": int(fit.num_iter),
        "log_likelihood": float(fit.log_likelihood),
        "objective": float(fit.objective),
        "component_status": [ComponentStatus(int(s)).name for s in np.asarray(fit.component_status)],
        "prior": describe_prior(maximised),
    }
    return {
        "num_observations": len(setting.x),
        "total_weight": float(setting.counts.sum()),
        "num_features": mixture.num_features,
        "feature_names": names,
        "num_components": mixture.num_components,
        "covariance_type": mixture.covariance_type,
        "num_parameters": num_parameters(mixture),
        "dtype": str(setting.x.dtype),
        "seed": setting.seed,
        "versions": versions(),
        "em": em,
    }


def tolerance(setting: Setting) -> float:
    """Differences of log-likelihoods that rounding makes, nats."""
    eps = float(np.finfo(np.asarray(setting.x[:0]).dtype).eps)
    return 1e-3 + 64 * eps * (abs(float(setting.fit.objective)) + len(setting.x))


def maximised_prior(setting: Setting, posteriors: Mapping[str, Posterior], log_priors: Mapping[str, float]) -> Any:
    """The prior under which EM found a mode; None where its objective is not that of any of the posteriors."""
    likelihood, objective = float(setting.fit.log_likelihood), float(setting.fit.objective)
    for name, posterior in posteriors.items():
        if posterior.prior is not None and abs(objective - likelihood - log_priors[name]) <= tolerance(setting):
            return posterior.prior
    return None


def notes(setting: Setting, posterior: Posterior, log_prior: float) -> list[str]:
    """What does not go together, a sentence each."""
    fit, found = setting.fit, []
    likelihood, objective = float(fit.log_likelihood), float(fit.objective)
    terms = np.asarray(log_prob(fit.mixture, setting.x), float)
    here = float(np.where(setting.counts > 0, terms, 0) @ setting.counts)
    if not abs(here - likelihood) <= tolerance(setting):
        found.append(f"The fit was not made on these data: its log-likelihood is {likelihood:.3f} nats, here it is {here:.3f}.")
    if int(fit.status) != Status.CONVERGED:
        found.append(Status(int(fit.status)).sentence)
    if posterior.prior is not None and not abs(objective - likelihood - log_prior) <= tolerance(setting):
        found.append(
            f"EM did not maximise what the sampler sampled: its objective is {objective:.3f} nats, log-likelihood plus "
            f"the sampler's log prior {likelihood + log_prior:.3f}; for like with like fit with prior=posterior.prior."
        )
    if int(posterior.status) > PosteriorStatus.FULL_WARMUP:
        found.append(PosteriorStatus(int(posterior.status)).sentence)
    return found


def _standard_errors(mixture: Mixture, x: jax.Array, prior: Any, weight: jax.Array | None) -> Any:
    return standard_errors(mixture, x, prior, sample_weight=weight)


_errors = Aside(_standard_errors)


def has_errors(setting: Setting, prior: Any) -> bool:
    """Whether standard errors are to be had, and soon."""
    mixture = setting.fit.mixture
    work = len(setting.x) * mixture.num_components * mixture.num_features * 20.0 * num_parameters(mixture)
    return work <= _SLOW and not isinstance(getattr(prior, "scale", None), HalfNormal)


def information_errors(setting: Setting, prior: Any) -> np.ndarray:
    """EM's standard errors by the observed information (P,), in the order of `rows.values`; NaN where there are none."""
    mixture = setting.fit.mixture
    if not has_errors(setting, prior):
        return np.full(values(mixture).shape, math.nan)
    errors = _errors(mixture, setting.x, prior, setting.weight)
    return values(Mixture(errors.weights, errors.means, errors.covariances, mixture.covariance_type))


def begin(setting: Setting, prior: Any, scored: Scored | None, errors: bool) -> None:
    """Has the two programs compiled aside that are long to compile and needed last."""
    if errors and has_errors(setting, prior):
        _errors.start(setting.fit.mixture, setting.x, prior, setting.weight)
    if scored is not None and scored.folds is not None:
        refit.start(*_folded(setting, prior, scored))


def _folded(setting: Setting, prior: Any, scored: Scored) -> tuple:
    x = setting.x[scored.rows]
    return setting.fit.mixture, x, prior, without_folds(x, scored.weight, scored.folds)


def same_prior(one: Any, other: Any) -> bool:
    """Whether two priors are the same, number by number."""
    if one is None or other is None or jax.tree.structure(one) != jax.tree.structure(other):
        return False
    return all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True))


class Laplace(NamedTuple):
    """Laplace's approximation under one prior, and the sd (P,) that it gives each free entry."""

    approximation: Approximation
    prior: Any
    sd: np.ndarray


def find_laplace(setting: Setting, posteriors: Mapping[str, Posterior], wanted: bool | None) -> Laplace | None:
    """Under the prior of the first posterior that has one. wanted: None is where it is cheap."""
    mixture = setting.fit.mixture
    cheap = is_cheap(mixture, len(setting.x))
    prior = next((p.prior for p in posteriors.values() if p.prior is not None), None)
    if wanted is False or prior is None or (wanted is None and not cheap):
        return None
    found = approximate(jax.random.key(setting.seed), mixture, setting.x, setting.weight, prior)
    if found is None:
        return None
    sd = np.full(values(mixture).shape, math.nan)
    if found.sound:
        u = np.random.default_rng(setting.seed).normal(size=(_SD_DRAWS, len(found.bridge.mode)))
        drawn = values(spread(found.problem, found.bridge, u.astype(found.bridge.mode.dtype)))
        sd = np.where(np.ptp(drawn, axis=0) > 0, drawn.std(0, ddof=1), 0.0)
    return Laplace(found, prior, sd)


def goes_with(laplace: Laplace, posterior: Posterior) -> bool:
    """Whether a posterior is of the same prior; a bootstrap, which averages over none, is set beside it in any case."""
    return posterior.method == "bootstrap" or same_prior(posterior.prior, laplace.prior)


def khat_of(laplace: Laplace) -> dict[str, float]:
    """How good the approximation is, and how good it must be."""
    return {"khat": laplace.approximation.khat, "khat_limit": khat_limit(RATIOS)}


def add_columns(
    rows: list[dict[str, Any]], errors: np.ndarray, laplace_sd: np.ndarray | None, contraction: np.ndarray | None
) -> None:
    """em_se, laplace_sd, sd_ratio and contraction, in place; NaN where not known."""
    for p, row in enumerate(rows):
        sd = math.nan if laplace_sd is None else float(laplace_sd[p])
        row["em_se"] = float(errors[p])
        row["laplace_sd"] = sd
        row["sd_ratio"] = sd / row["sd"] if row["sd"] > 0 else math.nan
        row["contraction"] = math.nan if contraction is None else float(contraction[p])


def contraction_of(setting: Setting, posterior: Posterior) -> np.ndarray | None:
    """None without a prior of this package."""
    if posterior.prior is None:
        return None
    mixture, prior = setting.fit.mixture, jax.tree.map(np.asarray, posterior.prior)
    return contractions(mixture, prior, values(posterior.mixture), setting.seed)


def flat_draws(posterior: Posterior) -> Mixture:
    """Draws (M, ...) on the host."""
    return jax.tree.map(lambda leaf: np.asarray(leaf).reshape(-1, *leaf.shape[2:]), posterior.mixture)


def joint_of(setting: Setting, posterior: Posterior, log_prior: float, laplace: Laplace | None, size: int) -> dict[str, float]:
    """`joint.compare_jointly` of one posterior; its log densities are those of EM's own space."""
    known = posterior.prior is not None or posterior.method == "bootstrap"
    em_density = float(setting.fit.log_likelihood) + log_prior if known else math.nan
    em_u = u = None
    if laplace is not None and laplace.approximation.sound:
        stack = jax.tree.map(
            lambda em, draws: np.concatenate([np.asarray(em, draws.dtype)[None], draws]),
            setting.fit.mixture,
            flat_draws(posterior),
        )
        problem, bridge = laplace.approximation.problem, laplace.approximation.bridge
        u = in_blocks(lambda block: locate(problem, bridge, block), stack, size)
        em_u, u = u[0], u[1:]
    return compare_jointly(em_density, np.asarray(posterior.log_density, float), em_u, u)


def refitted(setting: Setting, prior: Any, scored: Scored) -> np.ndarray | None:
    """EM's score of each row (R,), fitted without its fold; None without folds."""
    if scored.folds is None:
        return None
    densities = np.asarray(refit(*_folded(setting, prior, scored)), float)  # (F, R)
    return densities[scored.folds, np.arange(len(scored.rows))]


def scores_of(
    setting: Setting, posterior: Posterior, scored: Scored, em_score: np.ndarray | None, size: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What one posterior says of densities, and of memberships."""
    rng = np.random.default_rng([setting.seed, 1])
    em, draws = setting.fit.mixture, flat_draws(posterior)
    k, count = em.num_components, len(scored.rows) + _POINTS
    most = max(200, _NUMBERS // (count * k))
    chosen = np.unique(np.linspace(0, len(draws.weights) - 1, min(most, len(draws.weights))).round().astype(int))
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
