"""Summaries of the draws, the EM fit and the data of a comparison. Notes report inputs that do not match."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass
from typing import Any

import jax
import numpy as np

from ..checkpoint import versions
from ..density import log_prob
from ..em.result import Status, is_sound
from ..mixture import num_parameters
from ..posterior import diagnostics
from ..posterior.pareto import khat_limit
from ..posterior.pointwise import own_pointwise
from ..posterior.relabel import SMALL_MARGIN
from ..posterior.result import Posterior, PosteriorStatus, needs_warning
from ..priors.interface import MixturePrior, reason_without_mode
from ..studies.columns import column, documented
from ..studies.serialization import describe_fit
from .inputs import ComparisonInputs, Subject
from .joint import NUM_RATIOS
from .report_columns import ComparisonRow, SamplerDiagnostics
from .verdict import BOOTSTRAP_WORDS, Finding, Verdict, gravest

_is_sound = jax.jit(is_sound)  # compiled as one program, because an eager call compiles each operation


@documented
@dataclass(frozen=True, kw_only=True)
class SamplerSummary(SamplerDiagnostics):
    """The summary of one posterior: how its draws were made, how good they are, and whether EM agrees with them."""

    notes: tuple[str, ...] = column("sentences on every mismatch between fit, posterior and data")
    findings: tuple[Finding, ...] = column("findings that led to the verdict, the gravest first")

    @property
    def verdict(self) -> Verdict:
        """The gravest of all verdicts that the findings cause."""
        return gravest(self.findings)

    @property
    def word(self) -> str:
        """The verdict in a few words. A bootstrap has other words, because a bootstrap does not draw from a posterior."""
        return (BOOTSTRAP_WORDS if self.method == "bootstrap" else {}).get(self.verdict, self.verdict.word)

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """All verdicts that the findings cause, the gravest first."""
        return tuple(dict.fromkeys(finding.verdict for finding in self.findings if finding.verdict is not None))

    def to_dict(self) -> dict[str, Any]:
        """Return the columns by name.

        In place of the findings, there is an entry "verdict". It holds the word of the gravest verdict, the words of all
        verdicts and the sentences of all findings.
        """
        found = super().to_dict()
        sentences = [finding.sentence for finding in found.pop("findings")]
        words = [verdict.word for verdict in self.verdicts]
        return found | {"verdict": {"word": self.verdict.word, "words": words, "sentences": sentences}}


@dataclass(frozen=True)
class FitSummary:
    """The outcome of an EM fit.

    Attributes:
        status: name of the Status.
        converged: whether the status is CONVERGED.
        num_iter: number of EM steps.
        log_likelihood: weighted sum over the data, in nats.
        objective: the value that EM maximised, in nats.
        component_status: name of the ComponentStatus of each component.
        prior: name and hyperparameters of the prior under which EM found a mode; None if no posterior has this prior.
    """

    status: str
    converged: bool
    num_iter: int
    log_likelihood: float
    objective: float
    component_status: list[str]
    prior: Mapping[str, object] | None


@dataclass(frozen=True)
class ComparisonMeta:
    """The data and the model of a comparison.

    Attributes:
        num_observations: N.
        total_weight: sum of the weights, N without weights.
        num_features: D.
        feature_names: D names.
        num_components: K.
        covariance_type: covariance type of the mixture.
        num_parameters: number of free parameters.
        dtype: float type of the data.
        seed: the seed of `compare`.
        versions: versions of the Python packages that the numbers depend on.
        em: the outcome of the EM fit.
    """

    num_observations: int
    total_weight: float
    num_features: int
    feature_names: list[str]
    num_components: int
    covariance_type: str
    num_parameters: int
    dtype: str
    seed: int
    versions: dict[str, str]
    em: FitSummary

    def to_dict(self) -> dict[str, Any]:
        """Return all fields by name, in nested dictionaries."""
        return asdict(self)

    def sentences(self) -> dict[str, str]:
        """Return three phrases by name: one about the data, one about the model, and one about EM."""
        k, em = self.num_components, self.em
        return {
            "data": f"{self.num_observations} observations of {', '.join(self.feature_names)}",
            "model": f"{k} component{'s' * (k > 1)}, {self.covariance_type} covariances, {self.num_parameters} free "
            f"parameters, {self.dtype}",
            "EM": f"{em.status.lower().replace('_', ' ')} after {em.num_iter} step{'s' * (em.num_iter != 1)}, "
            f"log-likelihood {em.log_likelihood:.3f} nats, objective {em.objective:.3f} nats",
        }


def diagnose_sampler(posterior: Posterior, rows: Sequence[ComparisonRow], khat: float | None) -> SamplerDiagnostics:
    """Return the diagnostics of a posterior: how the draws were made, and how good they are.

    Args:
        posterior: the relabelled posterior.
        rows: the rows of all quantities of the posterior.
        khat: Pareto k-hat of Laplace's approximation under the same prior, or None. For a posterior by the method `laplace`,
            pass None, because the posterior has its own k-hat.
    """
    chains, draws = posterior.log_density.shape
    stats = posterior.stats
    worst = {name: np.array([getattr(row, name) for row in rows]) for name in ("r_hat", "ess_bulk", "ess_tail")}
    known = np.isfinite(worst["ess_bulk"])
    orders = np.asarray(stats["permutation"])
    switched = (orders != np.arange(orders.shape[-1])).any(-1).mean(1) > 0.5
    share = np.asarray(stats["other_share"]) if "other_share" in stats else np.zeros(0)
    multimodal = int(posterior.status) == PosteriorStatus.MULTIMODAL
    khat = float(stats["khat"]) if khat is None and "khat" in stats else khat
    khat = None if khat is None or math.isnan(khat) else khat  # k-hat is NaN if the model has no normal approximation
    return SamplerDiagnostics(
        method=posterior.method,
        chains=chains,
        draws=draws,
        num_warmup=int(stats["num_warmup"]) if "num_warmup" in stats else None,
        status=PosteriorStatus(int(posterior.status)).name,
        prior=describe_prior(posterior.prior),
        r_hat_max=float(worst["r_hat"][known].max()) if known.any() else math.nan,
        ess_min=float(worst["ess_bulk"][known].min()) if known.any() else math.nan,
        ess_tail_min=float(worst["ess_tail"][known].min()) if known.any() else math.nan,
        divergences=int(np.asarray(stats.get("diverging", 0)).sum()),
        tree_depth_max=int(np.asarray(stats["tree_depth"]).max()) if "tree_depth" in stats else None,
        e_bfmi_min=float(diagnostics.e_bfmi(stats["energy"]).min()) if "energy" in stats and draws > 1 else None,
        khat=khat,
        khat_limit=None if khat is None else khat_limit(NUM_RATIOS),
        identified=bool(stats["labels_identified"]),
        switch_rate=float(stats["switch_rate"]),
        switched_chains=int(switched.sum()),
        unclear_rate=float((np.asarray(stats["relabel_margin"]) < SMALL_MARGIN).mean()),
        other_share=float(share.max()) if multimodal and share.size else None,
    )


def describe_prior(prior: object) -> dict[str, object] | None:
    """Return the name and hyperparameters of a prior in plain types; None if there is no prior."""
    if prior is None or not is_dataclass(prior):
        return None
    found: dict[str, object] = {"name": type(prior).__name__}
    for f in fields(prior):
        value = getattr(prior, f.name)
        found[f.name] = describe_prior(value) if is_dataclass(value) else np.asarray(value, float).tolist()
    return found


def describe_setting(inputs: ComparisonInputs, maximised: MixturePrior | None) -> ComparisonMeta:
    """Return a description of the data, the model and the EM fit. `maximised` is the result of `maximised_prior`."""
    mixture, em = inputs.fit.mixture, describe_fit(inputs.fit)
    return ComparisonMeta(
        num_observations=len(inputs.x),
        total_weight=float(inputs.counts.sum()),
        num_features=mixture.num_features,
        feature_names=inputs.feature_names,
        num_components=mixture.num_components,
        covariance_type=mixture.covariance_type,
        num_parameters=num_parameters(mixture),
        dtype=str(inputs.x.dtype),
        seed=inputs.options.seed,
        versions=versions(),
        em=FitSummary(**em, converged=em["status"] == Status.CONVERGED.name, prior=describe_prior(maximised)),
    )


def _tolerance(inputs: ComparisonInputs) -> float:
    """Return the largest difference, in nats, that rounding can cause between two values of one log-likelihood."""
    eps = float(np.finfo(inputs.x.dtype).eps)
    return 1e-3 + 64 * eps * (abs(float(inputs.fit.objective)) + len(inputs.x))


def maximised_prior(inputs: ComparisonInputs, subjects: Sequence[Subject]) -> MixturePrior | None:
    """Return the prior under which EM found a mode; None if EM's objective does not match the prior of any posterior."""
    fit = inputs.fit
    for subject in subjects:
        gap = float(fit.objective) - float(fit.log_likelihood) - subject.em_log_prior
        if subject.posterior.prior is not None and abs(gap) <= _tolerance(inputs):
            return subject.posterior.prior
    return None


def _advice_on_prior(prior: MixturePrior) -> str:
    """Return advice for the case that EM did not maximise the density under the sampler's prior."""
    reason = reason_without_mode(prior)
    if reason is None:
        return "to compare like with like, fit with prior=posterior.prior"
    return f"EM cannot maximise that density ({reason}), so compare densities and clusters rather than log densities"


def _own_likelihood(inputs: ComparisonInputs, posterior: Posterior) -> str:
    """Return a sentence on the scores of a model whose likelihood is not the density of the drawn mixtures."""
    scores = "so points left out are not scored, because that likelihood is not stored for single points"
    if own_pointwise(posterior, inputs.counts) is not None:
        scores = "so the scores of points left out are by that likelihood, and are not compared with EM's"
    return (
        "The likelihood of the model that was sampled is not the density of its weights, means and covariances, "
        f"{scores}; distances between densities and clusters describe its weights, means and covariances."
    )


def notes(inputs: ComparisonInputs, subject: Subject) -> tuple[str, ...]:
    """Return one sentence for each mismatch between fit, posterior and data."""
    fit, posterior, found = inputs.fit, subject.posterior, []
    likelihood, objective = float(fit.log_likelihood), float(fit.objective)
    terms = np.asarray(log_prob(fit.mixture, inputs.x), float)
    here = float(np.where(inputs.counts > 0, terms, 0) @ inputs.counts)
    if not abs(here - likelihood) <= _tolerance(inputs):
        found.append(f"The fit was not made on these data: its log-likelihood is {likelihood:.3f} nats, here it is {here:.3f}.")
    if int(fit.status) != Status.CONVERGED:
        found.append(Status(int(fit.status)).sentence)
    if not _is_sound(fit, np.asarray(inputs.counts.sum())) and int(fit.status) == Status.CONVERGED:
        found.append("EM's estimate has a degenerate component, on too few points or held up by the regularisation.")
    sampled = likelihood + subject.em_log_prior
    if posterior.prior is not None and not abs(objective - sampled) <= _tolerance(inputs):
        found.append(
            f"EM did not maximise the density that the sampler drew from: its objective is {objective:.3f} nats, "
            f"log-likelihood plus the sampler's log prior is {sampled:.3f}; {_advice_on_prior(posterior.prior)}."
        )
    if subject.own_likelihood:
        found.append(_own_likelihood(inputs, posterior))
    if needs_warning(np.asarray(posterior.status)):
        found.append(PosteriorStatus(int(posterior.status)).sentence)
    return tuple(found)
