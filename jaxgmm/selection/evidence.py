"""The evidence of models with different numbers of components, and the posterior probabilities of these models.

    p(M | x) = p(x | M) / sum over all models M' of p(x | M')

All models have the same probability before the data are seen. The evidence p(x | M) is estimated by `smc`, which uses no
solution of EM. One compiled program serves all numbers of components: every model has as many components as the largest one,
and the components that a smaller model does not use are absent.
"""

from __future__ import annotations

import dataclasses
import itertools
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import jax
import numpy as np

from ..covariance.types import check_uncoupled_type
from ..incomplete.observations import Data
from ..incomplete.rows import with_weights
from ..posterior.conditionals import check_closed_forms, check_integer_weights
from ..posterior.result import PosteriorStatus
from ..posterior.smc.smc import smc
from ..priors.interface import MixturePrior, check_prior

Model: TypeAlias = tuple[str, int]  # covariance type and number of components

_RELIABLE = (PosteriorStatus.OK, PosteriorStatus.FEW_DRAWS)
_NEGLIGIBLE = 1e-3  # if the probability of a model is below this number, its evidence need not be reliable


@dataclass(frozen=True)
class ModelEvidence:
    """The evidence and the posterior probability of one model, from several runs of `smc`.

    Attributes:
        log_evidence: log p(x | M), nats.
        log_evidence_error: the standard error of log_evidence, from the differences between the runs.
        probability: p(M | x), if all models that are compared have the same probability before the data are seen.
        probability_error: the standard error of probability.
        smc_status: the status of the runs.
    """

    log_evidence: float
    log_evidence_error: float
    probability: float
    probability_error: float
    smc_status: PosteriorStatus

    @property
    def reliable(self) -> bool:
        """Whether the runs of `smc` agree, or the probability is too small to matter."""
        return self.smc_status in _RELIABLE or self.probability < _NEGLIGIBLE

    def record(self) -> Mapping[str, object]:
        """Return all fields by name; the status is replaced by its name."""
        return dataclasses.asdict(self) | {"smc_status": self.smc_status.name}


EVIDENCE_FIELDS = tuple(field.name for field in dataclasses.fields(ModelEvidence))


class Effort(NamedTuple):
    """The number of particles in each run of `smc`, and the number of runs."""

    num_samples: int
    num_chains: int


def evidence_of_models(
    key: jax.Array,
    data: tuple[Data, Any],
    priors: Mapping[str, MixturePrior | None],
    counts: Sequence[int],
    effort: Effort,
    progress: bool | None = None,
) -> dict[Model, ModelEvidence]:
    """Return the evidence of each model. Each model with K components uses the first K components of its prior.

    Raise ValueError or TypeError unless each covariance type has a proper conjugate prior for the largest number of components,
    and `smc` can use the weights. `data` holds validated x (N, D), or observations, and weights (N,) or None.
    """
    check_integer_weights(data[1], "criterion='evidence'")
    x, weight = with_weights(*data)
    for name, prior in priors.items():
        _check_prior(prior, max(counts), x.shape[1], name)
    models = list(itertools.product(priors, counts))
    keys = jax.random.split(key, len(models))
    runs = [
        _run(one, x, priors[model[0]], effort, model, sample_weight=weight, progress=progress)
        for one, model in zip(keys, models, strict=True)
    ]
    values, errors, statuses = zip(*runs, strict=True)
    rows = zip(values, errors, *probabilities(np.array(values), np.array(errors)), statuses, strict=True)
    found = [ModelEvidence(float(v), float(e), float(p), float(p_error), status) for v, e, p, p_error, status in rows]
    return dict(zip(models, found, strict=True))


def _check_prior(prior: Any, num_components: int, num_features: int, covariance_type: str) -> None:
    """Raise ValueError or TypeError unless a prior is proper and conjugate. `num_components` is the largest number."""
    if prior is None:
        raise TypeError(
            "prior is None; criterion='evidence' needs one proper prior for all numbers of components, such as "
            f"prior=jaxgmm.default_prior(x, num_components={num_components}), whose scale is then the same for all of them."
        )
    check_uncoupled_type(covariance_type, "criterion='evidence'", remedy="take the evidence that smc estimates")
    check_prior(prior, num_components, num_features, covariance_type)
    check_closed_forms(prior, "criterion='evidence'")


def _run(key: jax.Array, x: Any, prior: Any, effort: Effort, model: Model, **options: Any) -> tuple:
    """Return the log evidence of a model, its standard error and the status of the runs of `smc`.

    The mixtures have as many components as the prior. Only the first K components are present, where
    K is the model's number of components. One compiled program therefore serves all K.
    """
    name, k = model
    size = len(prior.weight_concentration)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the table marks the runs that disagree
        posterior = smc(
            key, x, prior, num_components=size, covariance_type=name, present=np.arange(size) < k, **effort._asdict(), **options
        )
    values = np.asarray(posterior.stats["log_evidence"], float)
    error = float(posterior.stats["log_evidence_error"])
    return float(np.logaddexp.reduce(values) - np.log(len(values))), error, PosteriorStatus(int(posterior.status))


def probabilities(log_evidence: np.ndarray, error: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the probabilities (M,) of M models and their standard errors, from log evidences and their standard errors.

    The errors follow by the delta method from dp_i = p_i (dl_i - sum_j p_j dl_j). A model whose evidence is not finite gets
    probability 0.

    Example:
        >>> p, error = probabilities(np.log([1.0, 3.0]), np.array([0.1, 0.0]))
        >>> p.round(6).tolist(), error.round(6).tolist()
        ([0.25, 0.75], [0.01875, 0.01875])
    """
    finite = np.isfinite(log_evidence)
    if not finite.any():
        return np.full(len(finite), np.nan), np.full(len(finite), np.nan)
    shares = np.where(finite, np.exp(log_evidence - log_evidence[finite].max()), 0)
    p = shares / shares.sum()
    own = np.where(finite, error**2, 0)
    variance = own * (1 - 2 * p) + (p**2 * own).sum()
    return p, p * np.sqrt(np.maximum(variance, 0))
