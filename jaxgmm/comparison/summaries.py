"""The rows of a comparison: what is compared, and how draws are summed up."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

import jax
import numpy as np

from ..em.result import Fit
from ..mixture import Mixture
from ..posterior import diagnostics
from ..posterior.diagnose import label_invariants
from ..posterior.result import Posterior
from ..priors.functions import log_prior
from ..studies.parameters import Parameter
from ..studies.serialization import ordinal

_log_prior = jax.jit(log_prior)  # whole: operation by operation it costs seconds of a first call


def summaries(
    described: list[Parameter], em: np.ndarray, draws: np.ndarray, method: str, interval: float
) -> list[dict[str, Any]]:
    """Rows from what the entries are, EM's values (P,) and draws (C, S, P)."""
    flat = draws.reshape(-1, draws.shape[-1])
    mean, sd = flat.mean(0), flat.std(0, ddof=1)
    sd = np.where(np.ptp(flat, axis=0) > 0, sd, 0.0)
    lower, median, upper = np.quantile(flat, [(1 - interval) / 2, 0.5, (1 + interval) / 2], axis=0)
    columns = {"em": em, "mean": mean, "median": median, "sd": sd, "lower": lower, "upper": upper, **_diagnose(draws)}
    tail = (flat < em).mean(0) + (flat == em).mean(0) / 2
    rows = []
    for p, entry in enumerate(described):
        numbers = {name: float(column[p]) for name, column in columns.items()}
        z = _z(numbers["em"] - numbers["mean"], numbers["sd"], numbers["mean"])
        inside = numbers["lower"] <= numbers["em"] <= numbers["upper"] or z == 0
        rows.append(
            {
                "method": method,
                **asdict(entry),
                "features": list(entry.features),
                **numbers,
                "z": z,
                "tail": float(tail[p]),
                "inside": inside,
            }
        )
    return rows


def _z(difference: float, sd: float, size: float) -> float:
    if sd > 0:
        return difference / sd
    # K = 1: the weight is 1 by definition, for EM and in every draw
    return 0.0 if abs(difference) <= 1e-6 * abs(size) else math.copysign(math.inf, difference)


def _diagnose(draws: np.ndarray) -> dict[str, np.ndarray]:
    chains, count, p = draws.shape
    if count < 4:
        return dict.fromkeys(("mcse", "r_hat", "ess_bulk", "ess_tail"), np.full(p, np.nan))
    return {
        "mcse": diagnostics.mcse_mean(draws),
        "r_hat": diagnostics.rhat(draws),
        "ess_bulk": diagnostics.ess_bulk(draws),
        "ess_tail": diagnostics.ess_tail(draws),
    }


def log_priors(fit: Fit, posterior: Posterior) -> tuple[float, np.ndarray]:
    """Log prior of EM's mixture and of the draws (C, S), nats, under the posterior's prior; 0 without one."""
    shape = posterior.log_density.shape
    if posterior.prior is None:
        return 0.0, np.zeros(shape)
    # one stack, so that one program does
    both = [jax.tree.map(np.asarray, m) for m in (fit.mixture, posterior.mixture)]
    stack = jax.tree.map(lambda em, draws: np.concatenate([em[None], draws.reshape(-1, *em.shape)]), *both)
    density = np.asarray(_log_prior(stack, posterior.prior), float)
    return float(density[0]), density[1:].reshape(shape)


def label_free(
    fit: Fit, posterior: Posterior, priors: tuple[float, np.ndarray], names: list[str]
) -> tuple[list[Parameter], np.ndarray, np.ndarray]:
    """Quantities that no order of components changes: what they are, under EM (Q,), and in the draws (C, S, Q)."""
    described = [(f"{rank} weight", []) for rank in _ranks(fit.mixture.num_components)]
    described += [(f"overall {what}", [name]) for what in ("mean", "sd") for name in names]
    em, draws = invariant_values(fit.mixture), invariant_values(posterior.mixture)
    log_density = np.asarray(posterior.log_density, float)
    log_likelihood, em_log_density = log_density - priors[1], float(fit.log_likelihood) + priors[0]
    if posterior.prior is None and "log_likelihood" in posterior.stats:  # a model of one's own: its joint density is not known
        log_likelihood, em_log_density = np.asarray(posterior.stats["log_likelihood"], float), math.nan
    described = [("log-likelihood (nats)", []), ("log joint density (nats)", []), *described]
    em = np.concatenate([[float(fit.log_likelihood), em_log_density], em])
    draws = np.concatenate([np.stack([log_likelihood, log_density], -1), draws], -1)
    return (
        [Parameter(f"{kind} {' '.join(features)}".rstrip(), kind, None, tuple(features)) for kind, features in described],
        em,
        draws,
    )


def _ranks(k: int) -> list[str]:
    return ["largest", *(f"{ordinal(i)}-largest" for i in range(2, k + 1))]


def invariant_values(mixture: Mixture) -> np.ndarray:
    """Sorted weights, means and sds of the features under the whole mixture, (..., K + 2 D)."""
    return np.concatenate(list(label_invariants(mixture).values()), -1)
