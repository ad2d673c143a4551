"""`compare`: compare an EM solution with posteriors, and give a verdict on whether they agree.

The comparison is made for each parameter and for the whole mixture. First, every posterior is relabelled to match the EM
solution. If labels are not identified, the parameters of single components cannot be interpreted. In this case, label-invariant
quantities, which do not depend on the order of the components, are shown instead.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ..calls import public
from ..em.result import Fit
from ..incomplete.observations import Observations
from ..posterior.modes import Modes
from ..posterior.pointwise import has_own_likelihood
from ..posterior.relabel import relabel
from ..posterior.result import INDEPENDENT, Posterior
from ..progress import progress_bar
from ..validation import check_progress
from .conclusion import ORDER, doubt_about
from .findings import ChainsApart, chains_apart, judge
from .inputs import ComparisonInputs, ComparisonOptions, Subject, by_name, prepare_inputs
from .mode_search import ModeSearch, findings_for, search_modes
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
from .verdict import insert, is_mixed


class _References(NamedTuple):
    """The reference values with which all posteriors are compared.

    `em_se` (P,) holds EM's standard errors. `laplace` is Laplace's approximation, or None. `laplace_draws` holds the standard
    deviations of the parameters and of the label-invariant quantities in the draws of the method `laplace`. It is None if there
    are no such draws. `search` is the search for other modes, or None if none was wanted.
    """

    em_se: np.ndarray
    laplace: LaplaceReference | None
    laplace_draws: tuple[np.ndarray, np.ndarray] | None
    search: ModeSearch | None

    def laplace_for(self, posterior: Posterior) -> LaplaceReference | None:
        """Return Laplace's approximation, or None if the posterior cannot be compared with it."""
        return self.laplace if self.laplace and self.laplace.is_for(posterior) else None


class _Tables(NamedTuple):
    """The rows of one posterior, and the quantity in which its chains differ most (None if the chains do not differ).

    In `label_invariant`, the rows of the log densities come before the rows of the other quantities.
    """

    rows: list[ComparisonRow]
    label_invariant: list[ComparisonRow]
    apart: ChainsApart | None


@public
def compare(
    fit: Fit,
    posterior: Posterior | Mapping[str, Posterior],
    x: ArrayLike | Observations,
    *,
    interval: float = 0.95,
    sample_weight: ArrayLike | None = None,
    feature_names: Sequence[str] | None = None,
    laplace: bool | None = None,
    modes: Modes | bool | None = None,
    restart: Fit | None = None,
    scores: bool = True,
    num_folds: int = 10,
    seed: int = 0,
    progress: bool | None = None,
) -> Comparison:
    """Compare an EM solution with posteriors: single parameters, all parameters jointly, densities, and clusterings.

    `compare` computes Laplace's approximation under the prior of the first posterior that stores a prior. It compares the
    approximation with all posteriors that have this prior. If one of the posteriors is by the method `laplace`, the standard
    deviations of the approximation are computed from the draws of this posterior. The k-hat that this posterior stores is used
    to judge its draws.

    Predictions are scored in two ways: by PSIS-LOO, which leaves out one row at a time, and on folds, which are groups of rows
    that are left out together. For each fold, EM is fitted again without the fold, starting from the solution for all data. The
    posterior's draws are reweighted by importance sampling. The draws of a bootstrap are not from a posterior, so their
    predictions are not scored. The draws may come from a model of your own whose likelihood is not the density of its mixtures.
    In this case, predictions are scored by the likelihood of your model, and these scores are not compared with those of EM.
    Densities and clusters are computed from the weights, means and covariances of the draws. A note in the comparison says so.

    If the modes of the posterior are known (see `modes` below), the verdict on every posterior under the same prior uses them.
    EM agrees with a posterior only if the other modes hold at most 2 % of the posterior, and if no mode has a higher objective
    than EM's. EM cannot use a prior with a concentration below 1 or with the scale HalfNormal or VolumeShapeOrientation. The
    comparison then says that it did not search for modes.

    `jaxgmm.comparison.verdict.Verdict` describes the verdicts.

    Args:
        fit: one Fit, preferably the mode under the sampler's own prior: `jaxgmm.fit(start, x, prior)`. If EM used another
            prior, the comparison states this.
        posterior: a Posterior, or a dict of several with names of your choice, such as {"nuts": ..., "gibbs": ...}.
        x: (N, D), the data of the fit and of the posteriors, in data units, or `observations`. With observations, a row is
            scored by the density of its observed values, given that its label is one of those allowed. Distances between
            densities are those between the densities of complete rows without noise.
        interval: probability of the central intervals, between 0 and 1.
        sample_weight: (N,) >= 0, the same weights as for `fit` and for the sampler.
        feature_names: D names for the columns; None: the names of the columns of x if it is a data frame.
        laplace: whether to compute Laplace's approximation. None: compute it only if this is fast.
        modes: the result of `jaxgmm.modes` under the prior of the first posterior that stores a prior. True: compute it from
            the draws by `smc`, or else from the draws of the first posterior. None: compute it only if there are draws by
            `smc`, which can reach all modes. False: do not use modes.
        restart: a fit from other starts under the prior of the first posterior that stores a prior, as from `fit_restarts`. If
            it has a higher objective than EM's mode, the verdict is "poor mode". None: it is computed with 32 restarts if the
            modes are computed. A mode that only a restart finds has mass 0.
        scores: whether to compare densities and clusterings.
        num_folds: number of folds; with fewer than 2, there are no folds. If the data have more than 2000 rows, 2000 random
            rows are scored, without folds.
        seed: seed for the folds, for the points at which densities are compared, for the draws from the prior and from
            Laplace's approximation, and for the restarts.
        progress: whether to show a progress bar; None: show it on a terminal.

    Returns:
        A Comparison.

    Raises:
        ValueError, TypeError: `fit` is a stack of fits, shapes or types do not match, a posterior is from `telescope` and was
            not given to `condition_on_occupied`, an option is out of range, or a value is traced.

    Example:
        >>> import jax, jaxgmm
        >>> x = jaxgmm.datasets.load("galaxies")
        >>> prior = jaxgmm.default_prior(x, num_components=1)
        >>> fit = jaxgmm.fit(jaxgmm.initialize(jax.random.key(0), x, num_components=1), x, prior)
        >>> posterior = jaxgmm.gibbs(jax.random.key(1), fit.mixture, x, prior, num_samples=100)
        >>> comparison = jaxgmm.compare(fit, posterior, x, feature_names=["velocity"], num_folds=0)
        >>> [row.name for row in comparison.rows]
        ['weights[0]', 'means[0,0]', 'covariances[0,0,0]']
        >>> all(row.inside for row in comparison.rows)
        True
    """
    posteriors = by_name(posterior)
    check_progress(progress)
    options = ComparisonOptions(interval, laplace, scores, num_folds, seed, modes, restart)
    inputs = prepare_inputs(fit, posteriors, x, sample_weight, feature_names, options)
    num_steps = (2 + bool(scores)) * len(posteriors) + 1
    with progress_bar(num_steps, " steps", progress) as bar:
        return _compare(inputs, posteriors, bar.update)


def _compare(inputs: ComparisonInputs, posteriors: Mapping[str, Posterior], advance: Callable[[int], object]) -> Comparison:
    """Return the comparison. After each step, call `advance` to move the progress bar."""
    subjects = []
    for name, draws in posteriors.items():
        subjects.append(_subject(inputs, name, draws))
        advance(1)
    prior, size = maximised_prior(inputs, subjects), batch_size(subjects)
    own = [standard_deviations(s.posterior.mixture) for s in subjects if s.posterior.method == "laplace"]
    search = search_modes(inputs, subjects)
    laplace = find_laplace(inputs, subjects)
    references = _References(information_errors(inputs, prior), laplace, own[0] if own else None, search)
    advance(1)
    tables = {subject.name: _summarise(inputs, subject, references) for subject in subjects}
    samplers, joint = _judge_all(inputs, subjects, references, tables), {}
    for subject in subjects:
        laplace_here = references.laplace_for(subject.posterior) if samplers[subject.name].identified else None
        joint[subject.name] = score_jointly(inputs, subject, laplace_here, size)
        advance(1)
    comparison = Comparison(
        interval=inputs.options.interval,
        meta=describe_setting(inputs, prior),
        rows=[row for table in tables.values() for row in table.rows],
        label_invariant=[row for table in tables.values() for row in table.label_invariant],
        samplers=samplers,
        posteriors={subject.name: subject.posterior for subject in subjects},
        joint=joint,
        search=search,
    )
    if inputs.options.scores and len(inputs.kept):
        scored = choose_rows(inputs)
        em_score = em_on_folds(inputs, prior, scored)
        for subject in subjects:
            found = score_predictions(inputs, subject, scored, em_score, size)
            comparison.density[subject.name], comparison.clustering[subject.name] = found
            advance(1)
    return comparison


def _subject(inputs: ComparisonInputs, name: str, draws: Posterior) -> Subject:
    """Return one posterior, relabelled to match EM, with the other fields of a `Subject`."""
    x, weight = inputs.weighted_rows
    relabelled = relabel(draws, inputs.fit.mixture, x, sample_weight=weight)
    own = has_own_likelihood(draws, inputs.x, inputs.weight)
    return Subject(name, relabelled, *log_priors(inputs.fit, draws), own)


def _summarise(inputs: ComparisonInputs, subject: Subject, references: _References) -> _Tables:
    """Return the rows of one posterior, and the quantity in which its chains differ most."""
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


def _judge_all(
    inputs: ComparisonInputs, subjects: Sequence[Subject], references: _References, tables: Mapping[str, _Tables]
) -> dict[str, SamplerSummary]:
    """Return the diagnostics and the findings of all posteriors.

    Posteriors from chains are judged first, because the findings of the other posteriors depend on them.
    """
    judged: dict[str, SamplerSummary] = {}
    for subject in sorted(subjects, key=lambda subject: ORDER.get(subject.posterior.method, 0)):
        judged[subject.name] = _judge(inputs, subject, references, tables, judged)
    return {subject.name: judged[subject.name] for subject in subjects}


def _judge(
    inputs: ComparisonInputs,
    subject: Subject,
    references: _References,
    tables: Mapping[str, _Tables],
    judged: Mapping[str, SamplerSummary],
) -> SamplerSummary:
    """Return the diagnostics and the findings of one posterior. `judged` holds the summaries from earlier calls."""
    posterior, own = subject.posterior, tables[subject.name]
    laplace = references.laplace_for(posterior)
    chains = [name for name, s in judged.items() if s.method not in INDEPENDENT and s.identified and is_mixed(s.findings)]
    khat = laplace.approximation.khat if laplace and posterior.method not in INDEPENDENT else None
    sampler = diagnose_sampler(posterior, [*own.rows, *own.label_invariant], khat)
    findings = judge(
        own.rows,
        own.label_invariant,
        sampler,
        inputs.options.interval,
        laplace_sound=laplace is None or laplace.approximation.sound,
        apart=own.apart,
        rows_by_chains=tables[chains[0]].rows if chains else (),
        doubt=doubt_about(posterior.method, judged),
    )
    findings = insert(findings, findings_for(references.search, subject))
    return SamplerSummary(**vars(sampler), notes=notes(inputs, subject), findings=tuple(findings))
