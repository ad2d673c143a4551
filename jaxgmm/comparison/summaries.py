"""The rows of a comparison: the quantities that are compared, and the summary of the draws of each quantity."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from ..em.result import Fit
from ..mixture import Mixture
from ..posterior import diagnostics
from ..posterior.diagnose import label_invariants
from ..posterior.pooling import pool
from ..posterior.result import Posterior
from ..priors.functions import log_prior
from ..spread import mean_and_sd, quantiles
from ..studies.parameters import Parameter, parameters, values
from ..studies.serialization import ordinal
from .inputs import ComparisonInputs, Subject
from .report_columns import ComparisonRow

_log_prior = jax.jit(log_prior)  # compiled as one program; compiling each operation separately would take seconds longer


class Quantities(NamedTuple):
    """P quantities: their descriptions, their values (P,) under EM, and their values (C, S, P) in the draws.

    stats: the statistics of the posterior, which may include weights of the chains.
    """

    described: list[Parameter]
    em: np.ndarray
    draws: np.ndarray
    stats: Mapping[str, jax.Array]


def parameter_quantities(inputs: ComparisonInputs, subject: Subject) -> Quantities:
    """Return the parameters: the free entries of weights, means and covariances."""
    mixture = inputs.fit.mixture
    posterior = subject.posterior
    described = parameters(mixture, inputs.feature_names)
    return Quantities(described, values(mixture), values(posterior.mixture), posterior.stats)


def log_density_quantities(inputs: ComparisonInputs, subject: Subject) -> Quantities:
    """Return the log-likelihood and the log density of parameters and data, in nats."""
    posterior, em_log_likelihood = subject.posterior, float(inputs.fit.log_likelihood)
    log_density = np.asarray(posterior.log_density, float)
    log_likelihood, em_log_density = log_density - subject.log_prior, em_log_likelihood + subject.em_log_prior
    # for a user's own model, the prior is not known to this package, so the joint density at EM is unknown
    if posterior.prior is None and "log_likelihood" in posterior.stats:
        log_likelihood, em_log_density = np.asarray(posterior.stats["log_likelihood"], float), math.nan
    if subject.own_likelihood:
        em_log_likelihood = math.nan  # EM's log-likelihood is not comparable with that of the user's model
    described = [Parameter(name, name, None, ()) for name in ("log-likelihood (nats)", "log joint density (nats)")]
    draws = np.stack([log_likelihood, log_density], -1)
    return Quantities(described, np.array([em_log_likelihood, em_log_density]), draws, posterior.stats)


def invariant_quantities(inputs: ComparisonInputs, subject: Subject) -> Quantities:
    """Return the sorted weights, and the mean and standard deviation of each feature under the whole mixture."""
    ranks = ["largest", *(f"{ordinal(i)}-largest" for i in range(2, inputs.fit.mixture.num_components + 1))]
    described = [Parameter(f"{rank} weight", f"{rank} weight", None, ()) for rank in ranks]
    for kind in ("overall mean", "overall sd"):
        described += [Parameter(f"{kind} {name}", kind, None, (name,)) for name in inputs.feature_names]
    posterior = subject.posterior
    return Quantities(described, invariant_values(inputs.fit.mixture), invariant_values(posterior.mixture), posterior.stats)


def invariant_values(mixture: Mixture) -> np.ndarray:
    """Return label-invariant quantities (..., K + 2 D).

    They are the sorted weights, and the means and standard deviations of the features under the whole mixture.
    """
    return np.concatenate(list(label_invariants(mixture).values()), -1)


def summarise(
    quantities: Quantities, method: str, interval: float, known: Mapping[str, np.ndarray] | None = None
) -> list[ComparisonRow]:
    """Summarise the draws of each quantity.

    Args:
        quantities: the P quantities.
        method: name of the posterior.
        interval: probability of the central interval.
        known: a dict that may contain em_se, laplace_sd and contraction, each (P,). Entries that were not computed are absent.

    Returns:
        One row for each quantity.
    """
    em, draws, known = quantities.em, quantities.draws, dict(known or {})
    flat = pool(draws, quantities.stats)
    mean, sd = mean_and_sd(flat)
    lower, median, upper = quantiles(flat, [(1 - interval) / 2, 0.5, (1 + interval) / 2])
    tail = (flat < em).mean(0) + (flat == em).mean(0) / 2
    numbers = {"em": em, "mean": mean, "median": median, "sd": sd, "lower": lower, "upper": upper, "tail": tail}
    numbers |= _diagnose(draws) | known
    if "laplace_sd" in known:
        numbers["sd_ratio"] = np.where(sd > 0, known["laplace_sd"] / np.where(sd > 0, sd, 1), math.nan)
    return [
        _row(entry, method, {name: float(column[p]) for name, column in numbers.items()})
        for p, entry in enumerate(quantities.described)
    ]


def _row(entry: Parameter, method: str, numbers: dict[str, Any]) -> ComparisonRow:
    """Return the row of one quantity."""
    z = _z(numbers["em"] - numbers["mean"], numbers["sd"], numbers["mean"])
    inside = numbers["lower"] <= numbers["em"] <= numbers["upper"] or z == 0
    return ComparisonRow(method=method, **vars(entry), z=z, inside=inside, **numbers)


def _z(difference: float, sd: float, size: float) -> float:
    """Return difference / sd. If sd is 0, return 0 for a negligible difference, and otherwise plus or minus infinity."""
    if sd > 0:
        return difference / sd
    # The sd is 0 for K = 1, because the weight is then always 1. Rounding may still cause a small difference.
    return 0.0 if abs(difference) <= 1e-6 * abs(size) else math.copysign(math.inf, difference)


def _diagnose(draws: np.ndarray) -> dict[str, np.ndarray]:
    """Return Monte Carlo errors, R-hat and effective sample sizes (P,) of draws (C, S, P); NaN if S is less than 4."""
    _, num_draws, num_quantities = draws.shape
    if num_draws < 4:
        return dict.fromkeys(("mcse", "r_hat", "ess_bulk", "ess_tail"), np.full(num_quantities, np.nan))
    return {
        "mcse": diagnostics.mcse_mean(draws),
        "r_hat": diagnostics.rhat(draws),
        "ess_bulk": diagnostics.ess_bulk(draws),
        "ess_tail": diagnostics.ess_tail(draws),
    }


def log_priors(fit: Fit, posterior: Posterior) -> tuple[float, np.ndarray]:
    """Return the log prior density of EM's mixture and of the draws (C, S), in nats, under the posterior's prior.

    Both are 0 if the posterior has no prior.
    """
    shape = posterior.log_density.shape
    if posterior.prior is None:
        return 0.0, np.zeros(shape)
    # EM's mixture and the draws form one stack, so that one compiled program is enough
    both = [jax.tree.map(np.asarray, m) for m in (fit.mixture, posterior.mixture)]
    stack = jax.tree.map(lambda em, draws: np.concatenate([em[None], draws.reshape(-1, *em.shape)]), *both)
    density = np.asarray(_log_prior(stack, posterior.prior), float)
    return float(density[0]), density[1:].reshape(shape)
