"""compare: an EM solution beside posteriors, parameter by parameter and as a whole, and a verdict on whether they agree.

Posteriors are relabelled to the EM solution first. Where labels are not identified, single components mean little, and
quantities that no order of the components changes are shown instead.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..em.result import Fit
from ..posterior.relabel import relabel
from ..posterior.result import Posterior
from .inputs import ComparisonInputs, ComparisonOptions, Subject, prepare_inputs
from .point_vs_posterior import (
    LaplaceReference,
    batch_size,
    choose_rows,
    contraction_of,
    em_on_folds,
    find_laplace,
    information_errors,
    score_jointly,
    score_predictions,
    standard_deviations,
)
from .report_columns import ComparisonRow
from .result import Comparison
from .sampler_summary import SamplerSummary, describe_setting, diagnose_sampler, maximised_prior, notes
from .summaries import invariant_quantities, log_density_quantities, log_priors, parameter_quantities, summarise
from .verdict import INDEPENDENT, ChainsApart, chains_apart, judge


class _References(NamedTuple):
    """What all posteriors are compared with.

    em_se: standard errors of EM (P,). laplace: Laplace's approximation, if there is one. laplace_draws: standard deviations of
    parameters and invariant quantities by draws of `laplace`, if there are any.
    """

    em_se: np.ndarray
    laplace: LaplaceReference | None
    laplace_draws: tuple[np.ndarray, np.ndarray] | None

    def laplace_for(self, posterior: Posterior) -> LaplaceReference | None:
        """Return Laplace's approximation if a posterior can be compared with it."""
        return self.laplace if self.laplace and self.laplace.is_for(posterior) else None


class _Tables(NamedTuple):
    """The rows of one posterior, the log densities before other label-invariant quantities; where its chains are apart."""

    rows: list[ComparisonRow]
    label_invariant: list[ComparisonRow]
    apart: ChainsApart | None


def compare(
    fit: Fit,
    posterior: Posterior | Mapping[str, Posterior],
    x: Any,
    *,
    interval: float = 0.95,
    sample_weight: Any = None,
    feature_names: Sequence[str] | None = None,
    laplace: bool | None = None,
    scores: bool = True,
    num_folds: int = 10,
    seed: int = 0,
) -> Comparison:
    """Compare an EM solution with posteriors: parameter by parameter, all at once, as densities, and as clusterings.

    Laplace's approximation is computed here, from the prior of the first posterior that has one, and compared with the
    posteriors that have that prior; a posterior by `laplace` has standard deviations and k-hat of its own. Predictions are
    scored by PSIS-LOO and on folds: EM is fitted again without each fold from where it ended, and the posterior's draws are
    weighted by importance. The draws of a bootstrap are not from a posterior, and their predictions are not scored. The
    verdicts are described in `jaxgmm.comparison.verdict.Verdict`.

    Args:
        fit: one Fit, preferably the mode under the sampler's own prior: `jaxgmm.fit(start, x, prior)`. A mismatch is reported.
        posterior: a Posterior, or several by names of your choice, as {"nuts": ..., "gibbs": ...}.
        x: (N, D), the data of both, in data units.
        interval: probability of the central intervals, between 0 and 1.
        sample_weight: (N,) >= 0, as given to `fit` and the sampler.
        feature_names: D names for the columns.
        laplace: whether to compute Laplace's approximation; None: if it takes moments.
        scores: whether to compare densities and clusterings.
        num_folds: number of folds; below 2 none. Of more than 2000 rows, 2000 at random are scored, without folds.
        seed: seed of the folds, of the points where densities are compared, and of the draws from prior and Laplace's
            approximation.

    Returns:
        A Comparison.

    Raises:
        ValueError, TypeError: a stack of fits, shapes or types that do not match, an option out of range, traced values.

    Example:
        >>> import jax, jaxgmm
        >>> x = jaxgmm.datasets.load("galaxies")
        >>> prior = jaxgmm.default_prior(x, num_components=1)
        >>> fit = jaxgmm.fit(jaxgmm.initialize(jax.random.key(0), x, num_components=1), x, prior)
        >>> posterior = jaxgmm.nuts(jax.random.key(1), fit.mixture, x, prior, num_samples=100)
        >>> comparison = jaxgmm.compare(fit, posterior, x, feature_names=["velocity"], num_folds=0)
        >>> [row.name for row in comparison.rows]
        ['weights[0]', 'means[0,0]', 'covariances[0,0,0]']
        >>> all(row.inside for row in comparison.rows)
        True
    """
    posteriors = dict(posterior) if isinstance(posterior, Mapping) else {getattr(posterior, "method", ""): posterior}
    options = ComparisonOptions(interval, laplace, scores, num_folds, seed)
    inputs = prepare_inputs(fit, posteriors, x, sample_weight, feature_names, options)
    subjects = [
        Subject(name, relabel(draws, fit.mixture, inputs.x, sample_weight=inputs.weight), *log_priors(fit, draws))
        for name, draws in posteriors.items()
    ]
    prior, size = maximised_prior(inputs, subjects), batch_size(subjects)
    own = [standard_deviations(s.posterior.mixture) for s in subjects if s.posterior.method == "laplace"]
    references = _References(information_errors(inputs, prior), find_laplace(inputs, subjects), own[0] if own else None)
    tables = {subject.name: _summarise(inputs, subject, references) for subject in subjects}
    by_chains = [s.name for s in subjects if s.posterior.method not in INDEPENDENT and s.posterior.stats["labels_identified"]]
    rows_by_chains = tables[by_chains[0]].rows if by_chains else []
    joint, samplers = {}, {}
    for subject in subjects:
        name, laplace_here = subject.name, references.laplace_for(subject.posterior)
        samplers[name] = _judge(inputs, subject, laplace_here, tables[name], rows_by_chains)
        joint[name] = score_jointly(inputs, subject, laplace_here if samplers[name].identified else None, size)
    comparison = Comparison(
        interval=inputs.options.interval,
        meta=describe_setting(inputs, prior),
        rows=[row for table in tables.values() for row in table.rows],
        label_invariant=[row for table in tables.values() for row in table.label_invariant],
        samplers=samplers,
        posteriors={subject.name: subject.posterior for subject in subjects},
        joint=joint,
    )
    if options.scores and len(inputs.kept):
        scored = choose_rows(inputs)
        em_score = em_on_folds(inputs, prior, scored)
        for subject in subjects:
            found = score_predictions(inputs, subject, scored, em_score, size)
            comparison.density[subject.name], comparison.clustering[subject.name] = found
    return comparison


def _summarise(inputs: ComparisonInputs, subject: Subject, references: _References) -> _Tables:
    """Return the rows of one posterior, and where its chains are apart."""
    posterior, name, interval = subject.posterior, subject.name, inputs.options.interval
    parameters, invariant = parameter_quantities(inputs, subject), invariant_quantities(inputs, subject)
    log_densities = log_density_quantities(inputs, subject)
    laplace = references.laplace_for(posterior)
    sd, invariant_sd = references.laplace_draws or ((laplace.sd, laplace.invariant_sd) if laplace else (math.nan, math.nan))
    known = {
        "em_se": references.em_se,
        "contraction": contraction_of(inputs, posterior),
        "laplace_sd": np.broadcast_to(sd, parameters.em.shape),
    }
    invariant_known = {"laplace_sd": np.broadcast_to(invariant_sd, invariant.em.shape)}
    free = [*summarise(log_densities, name, interval), *summarise(invariant, name, interval, invariant_known)]
    draws = np.concatenate([log_densities.draws, invariant.draws], -1)
    apart = chains_apart(draws, [*log_densities.described, *invariant.described])
    return _Tables(summarise(parameters, name, interval, known), free, apart)


def _judge(
    inputs: ComparisonInputs,
    subject: Subject,
    laplace: LaplaceReference | None,
    own: _Tables,
    rows_by_chains: Sequence[ComparisonRow],
) -> SamplerSummary:
    """Return the diagnostics of one posterior with the findings."""
    posterior = subject.posterior
    khat = laplace.approximation.khat if laplace and posterior.method not in INDEPENDENT else None
    sampler = diagnose_sampler(posterior, [*own.rows, *own.label_invariant], khat)
    findings = judge(
        own.rows,
        own.label_invariant,
        sampler,
        inputs.options.interval,
        laplace_sound=laplace is None or laplace.approximation.sound,
        apart=own.apart,
        rows_by_chains=rows_by_chains,
    )
    return SamplerSummary(**vars(sampler), notes=notes(inputs, subject), findings=tuple(findings))
