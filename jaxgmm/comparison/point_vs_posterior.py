"""The parts of a comparison of EM with one posterior.

The parts are standard errors, Laplace's approximation, joint scores, and the scores of densities and clusterings.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from ..chunking import COMPARISON_DRAWS, scored_draws
from ..em.standard_errors import StandardErrors, standard_errors
from ..incomplete.observations import Data, Observations
from ..incomplete.rows import rows_at, with_weights
from ..mixture import Mixture, num_parameters
from ..padding import Padded, pad_data, pad_rows
from ..posterior.pareto import khat_limit
from ..posterior.pointwise import own_pointwise
from ..posterior.pooling import pool
from ..posterior.result import Posterior
from ..priors.interface import MixturePrior
from ..row_sums import Weight, weight_or_ones
from ..spread import mean_and_sd
from ..studies.parameters import values
from .clustering import compare_clusterings, evenly_spaced
from .contraction import contractions
from .inputs import ComparisonInputs, Subject
from .joint import Approximation, approximate, compare_jointly, is_cheap, transform
from .predictive_scores import (
    assign_folds,
    choose_points,
    distances,
    in_batches,
    leave_one_out,
    pointwise,
    posterior_on_folds,
    refit,
    score,
    without_folds,
)
from .report_columns import ClusteringScores, DensityScores, JointScores
from .summaries import invariant_values

_MOST_ROWS = 2000  # largest number of scored rows; if the data have more rows, a random sample of this size is scored
_NUM_POINTS = 1000  # number of points at which densities are compared
_SD_DRAWS = 4000  # number of draws from Laplace's approximation, from which its standard deviations are estimated
_SLOW = 2e9  # largest number of multiplications for which standard errors are computed; more would take too long


class ScoredRows(NamedTuple):
    """The rows that are scored: their indices (R,), their weights (R,), and their folds (R,) or None."""

    rows: np.ndarray
    weight: np.ndarray
    folds: np.ndarray | None


class LaplaceReference(NamedTuple):
    """Laplace's approximation under one prior, with its standard deviations.

    `sd` (P,) holds the standard deviations of the parameters. `invariant_sd` (Q,) holds the standard deviations of the
    label-invariant quantities.
    """

    approximation: Approximation
    prior: MixturePrior
    sd: np.ndarray
    invariant_sd: np.ndarray

    def is_for(self, posterior: Posterior) -> bool:
        """Return whether a posterior has the prior of this approximation. For a bootstrap, return True."""
        return posterior.method == "bootstrap" or same_prior(posterior.prior, self.prior)


def batch_size(subjects: Sequence[Subject]) -> int:
    """Return the number of draws in a batch. All posteriors use the same number, so that they share the compiled programs."""
    return min(COMPARISON_DRAWS, *(subject.posterior.log_density.size for subject in subjects))


def choose_rows(inputs: ComparisonInputs) -> ScoredRows:
    """Return the rows to score, with the weight and the fold of each."""
    rng, num_folds = np.random.default_rng(inputs.options.seed), inputs.options.num_folds
    rows, folds = inputs.kept, None
    if len(rows) > _MOST_ROWS:
        rows = np.sort(rng.choice(rows, _MOST_ROWS, replace=False))
    elif min(num_folds, len(rows)) >= 2:
        folds = assign_folds(rng, len(rows), min(num_folds, len(rows)))
    return ScoredRows(rows, inputs.counts[rows], folds)


@jax.jit
def _errors(mixture: Mixture, x: Data, weight: Weight, prior: MixturePrior | None) -> StandardErrors:
    """Return standard errors from the observed information, computed in one compiled program."""
    rows, sample_weight = with_weights(x, weight_or_ones(weight, x.shape[:1], x.dtype))
    return standard_errors(mixture, rows, prior, sample_weight=sample_weight)


def information_errors(inputs: ComparisonInputs, prior: MixturePrior | None) -> np.ndarray:
    """Return EM's standard errors (P,) from the observed information.

    Return NaN if standard errors are not requested, are not defined, or take too long to compute.
    """
    mixture = inputs.fit.mixture
    work = len(inputs.x) * mixture.num_components * mixture.num_features * 20.0 * num_parameters(mixture)
    if inputs.options.laplace is False or work > _SLOW or not (prior is None or prior.has_closed_forms):
        return np.full(values(mixture).shape, math.nan)
    errors = _errors(mixture, *pad_data(inputs.x, inputs.weight), prior)
    return values(Mixture(errors.weights, errors.means, errors.covariances, mixture.covariance_type))


def same_prior(one: MixturePrior | None, other: MixturePrior | None) -> bool:
    """Return whether two priors have the same type and exactly equal hyperparameters."""
    if one is None or other is None or jax.tree.structure(one) != jax.tree.structure(other):
        return False
    return all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True))


def find_laplace(inputs: ComparisonInputs, subjects: Sequence[Subject]) -> LaplaceReference | None:
    """Return Laplace's approximation. Its prior is taken from the first posterior that stores one.

    Return None if the approximation is not requested, is slow to compute, or does not exist.
    """
    mixture, wanted = inputs.fit.mixture, inputs.options.laplace
    prior = next((s.posterior.prior for s in subjects if s.posterior.prior is not None), None)
    if wanted is False or prior is None or (wanted is None and not is_cheap(mixture, len(inputs.x))):
        return None
    if not prior.covariance_law.is_normalised(mixture.covariance_type):
        return None
    found = approximate(jax.random.key(inputs.options.seed), mixture, inputs.x, inputs.weight, prior)
    if found is None:
        return None
    if not found.sound:
        return LaplaceReference(found, prior, *(np.full(of(mixture).shape, math.nan) for of in (values, invariant_values)))
    rng, p = np.random.default_rng(inputs.options.seed), len(found.gaussian.mode)
    u = rng.normal(size=(_SD_DRAWS, p)).astype(found.gaussian.mode.dtype)
    stack = _with_em(inputs, subjects[0].posterior)
    return LaplaceReference(found, prior, *standard_deviations(_transform(found, stack, u, batch_size(subjects))[1]))


def standard_deviations(draws: Mixture) -> tuple[np.ndarray, np.ndarray]:
    """Return the standard deviations of the parameters (P,) and of the label-invariant quantities (Q,) over all draws."""

    def of(numbers: np.ndarray) -> np.ndarray:
        """Return the standard deviation of each quantity; it is exactly 0 if the quantity does not vary."""
        return mean_and_sd(numbers.reshape(-1, numbers.shape[-1]))[1]

    return of(values(draws)), of(invariant_values(draws))


def flat_draws(posterior: Posterior) -> Mixture:
    """Return the draws of all chains as one stack (M, ...) of NumPy arrays."""
    return pool(jax.tree.map(np.asarray, posterior.mixture), posterior.stats)


def _with_em(inputs: ComparisonInputs, posterior: Posterior) -> Mixture:
    """Return EM's mixture and the draws as one stack (1 + M, ...)."""
    return _stacked(inputs.fit.mixture, flat_draws(posterior))


def _stacked(em: Mixture, draws: Mixture) -> Mixture:
    """Return one mixture and a stack (M, ...) as one stack (1 + M, ...) of NumPy arrays."""
    return jax.tree.map(lambda one, many: np.concatenate([np.asarray(one, many.dtype)[None], many]), em, draws)


def _transform(found: Approximation, stack: Mixture, u: np.ndarray, size: int) -> tuple[np.ndarray, Mixture]:
    """Transform mixtures to coordinates, and other coordinates to mixtures.

    Return the coordinates (M, P) of the M mixtures in `stack`, and the mixtures whose coordinates are the rows of `u`. One
    compiled program makes both transformations, and its two inputs must have equal lengths. Therefore, the shorter input is
    repeated until it is as long as the longer input.
    """
    count = len(stack.weights)
    most = max(count, len(u))
    pair = stack[np.arange(most) % count], u[np.arange(most) % len(u)]
    located, mixtures = in_batches(lambda batch: transform(found.problem, found.gaussian, *batch), pair, size)
    return np.asarray(located)[:count], mixtures[: len(u)]


def contraction_of(inputs: ComparisonInputs, posterior: Posterior) -> np.ndarray:
    """Return the contraction (P,) of each parameter. Return NaN if the posterior stores no prior."""
    mixture = inputs.fit.mixture
    if posterior.prior is None:
        return np.full(values(mixture).shape, math.nan)
    return contractions(mixture, jax.tree.map(np.asarray, posterior.prior), values(flat_draws(posterior)), inputs.options.seed)


def score_jointly(inputs: ComparisonInputs, subject: Subject, laplace: LaplaceReference | None, size: int) -> JointScores:
    """Return the joint scores of one posterior. Without Laplace's approximation, the scores in unconstrained space are NaN."""
    posterior = subject.posterior
    known = posterior.prior is not None or posterior.method == "bootstrap"
    em_density = float(inputs.fit.log_likelihood) + subject.em_log_prior if known else math.nan
    density = np.asarray(posterior.log_density, float)
    if laplace is None or not laplace.approximation.sound:
        return compare_jointly(em_density, density, None, None)
    mode = laplace.approximation.gaussian.mode
    u, _ = _transform(laplace.approximation, _with_em(inputs, posterior), np.zeros((1, len(mode)), mode.dtype), size)
    return compare_jointly(em_density, density, u[0], u[1:])


def em_on_folds(inputs: ComparisonInputs, prior: MixturePrior | None, scored: ScoredRows) -> np.ndarray | None:
    """Return the log density (R,) of each row under an EM fit without the row's fold. Return None if there are no folds."""
    if scored.folds is None:
        return None
    x = rows_at(inputs.x, scored.rows)
    padded = _pad_folds(x, without_folds(x.dtype, scored.weight, scored.folds))
    densities = refit(inputs.fit.mixture, padded.x, prior, padded.weight)  # (F, R)
    return np.asarray(densities, float)[scored.folds, np.arange(len(scored.rows))]


def _pad_folds(x: Any, weights: np.ndarray) -> Padded:
    """Return rows and their weights (F, N), padded to one of a few lengths."""
    if isinstance(x, Observations):
        return Padded(x.map_rows(pad_rows), pad_rows(weights, -1, with_zeros=True))
    return pad_data(x, weights)


def score_predictions(
    inputs: ComparisonInputs, subject: Subject, scored: ScoredRows, em_score: np.ndarray | None, size: int
) -> tuple[DensityScores, ClusteringScores]:
    """Return the density and clustering scores of one posterior.

    Args:
        inputs: the inputs of the comparison.
        subject: the posterior.
        scored: the rows to score.
        em_score: the result of `em_on_folds`.
        size: number of draws in a batch.
    """
    rng = np.random.default_rng([inputs.options.seed, 1])
    em, draws = inputs.fit.mixture, flat_draws(subject.posterior)
    most = scored_draws(len(scored.rows) + _NUM_POINTS, em.num_components)
    chosen = evenly_spaced(len(draws.weights), most)
    draws = draws[chosen]
    x = rows_at(inputs.x, scored.rows)
    places = choose_points(rng, em, draws, _NUM_POINTS)
    rows, elsewhere, shares = pointwise(_stacked(em, draws), x, places.points.astype(x.dtype), size)
    predictive = np.logaddexp.reduce(elsewhere[1:], axis=0) - math.log(len(draws.weights))
    scores: dict[str, Any] = {"lpd_em": float(inputs.counts.sum() * np.average(rows[0], weights=scored.weight))}
    if em_score is not None:
        scores |= score("elpd_folds_em", em_score, scored.weight, inputs.counts.sum())
    if subject.posterior.method != "bootstrap":  # draws of a bootstrap are not from a posterior and cannot be reweighted
        ratio = subject.posterior.stats.get("log_ratio")
        ratio = None if ratio is None else np.asarray(ratio, float).ravel()[chosen]
        if not subject.own_likelihood:
            scores |= _score_draws(rows[1:], scored, em_score, inputs.counts.sum(), ratio)
        elif (own := own_pointwise(subject.posterior, inputs.counts)) is not None:
            own = own.reshape(-1, own.shape[-1])[chosen][:, scored.rows]
            scores |= _score_draws(own, scored, None, inputs.counts.sum(), ratio)
    density = DensityScores(
        num_draws=len(chosen),
        num_rows=len(x),
        num_points=_NUM_POINTS,
        **distances(predictive, elsewhere[0], places.quadrature),
        **scores,
    )
    identified = bool(subject.posterior.stats["labels_identified"])
    return density, compare_clusterings(shares[0], shares[1:], scored.weight, identified)


def _score_draws(
    log_density: np.ndarray, scored: ScoredRows, em_score: np.ndarray | None, total: float, ratio: np.ndarray | None
) -> dict[str, Any]:
    """Return the scores of the draws' predictions for left-out rows and left-out folds.

    `log_density` (M, R) is the log density of each row under each draw. `em_score` is the result of `em_on_folds`; if it is
    None, the scores are not compared with EM's. `ratio` (M,) is passed to `leave_one_out` as `log_ratio`.
    """
    found: dict[str, Any] = leave_one_out(log_density, scored.weight, total, ratio)
    if scored.folds is None:
        return found
    elpd, khat = posterior_on_folds(log_density, scored.weight, scored.folds, ratio)
    found |= score("elpd_folds", elpd, scored.weight, total)
    if em_score is not None:
        found |= score("elpd_folds_difference", elpd - em_score, scored.weight, total)
    return found | {
        "num_folds": len(khat),
        "folds_khat_max": float(khat.max()),
        "num_folds_khat_high": int((khat >= khat_limit(len(log_density))).sum()),
    }
