"""How a comparison's draws were made and how good they are, what EM and the data were, and what of it does not go together."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, NamedTuple

import jax
import numpy as np

from ..density import log_prob
from ..em.result import ComponentStatus, Fit, Status
from ..mixture import num_parameters
from ..posterior import diagnostics
from ..posterior.relabel import SMALL_MARGIN
from ..posterior.result import Posterior, PosteriorStatus
from ..studies.checkpoint import versions
from .joint import RATIOS
from .verdict import khat_limit


class ComparisonInputs(NamedTuple):
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


def describe_setting(setting: ComparisonInputs, names: list[str], maximised: Any) -> dict[str, Any]:
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


def tolerance(setting: ComparisonInputs) -> float:
    """Differences of log-likelihoods that rounding makes, nats."""
    eps = float(np.finfo(np.asarray(setting.x[:0]).dtype).eps)
    return 1e-3 + 64 * eps * (abs(float(setting.fit.objective)) + len(setting.x))


def maximised_prior(setting: ComparisonInputs, posteriors: Mapping[str, Posterior], log_priors: Mapping[str, float]) -> Any:
    """The prior under which EM found a mode; None where its objective is not that of any of the posteriors."""
    likelihood, objective = float(setting.fit.log_likelihood), float(setting.fit.objective)
    for name, posterior in posteriors.items():
        if posterior.prior is not None and abs(objective - likelihood - log_priors[name]) <= tolerance(setting):
            return posterior.prior
    return None


def notes(setting: ComparisonInputs, posterior: Posterior, log_prior: float) -> list[str]:
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
