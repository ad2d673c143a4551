"""compare: an EM solution beside posteriors, entry by entry and as a whole, and in words whether they agree.

Posteriors are relabelled to the EM solution first. Where the labels are not identified, single components mean little, and what
no labelling changes is shown instead.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

from ..chunking import COMPARISON_DRAWS
from ..em.result import Fit
from ..posterior.relabel import relabel
from ..posterior.result import Posterior, check_posterior
from ..studies.parameters import parameters, value_at, values
from ..studies.serialization import csv_text, json_text, plain
from ..validation import as_data, as_weighted_data, check_count, check_flag, check_number, is_traced
from . import text_report as page
from .point_vs_posterior import (
    add_columns,
    add_ratios,
    begin,
    choose_rows,
    contraction_of,
    find_laplace,
    goes_with,
    information_errors,
    joint_of,
    khat_of,
    refitted,
    scores_of,
    sds,
)
from .sampler_summary import ComparisonInputs, describe_setting, health, maximised_prior, notes
from .summaries import label_free, log_priors, summaries
from .verdict import INDEPENDENT, chains_apart, judge

_NUM_FOLDS = 10  # unless told otherwise
_FIELDS = (
    "method",
    "name",
    "kind",
    "component",
    "features",
    "em",
    "em_se",
    "mean",
    "median",
    "sd",
    "mcse",
    "lower",
    "upper",
    "z",
    "tail",
    "inside",
    "r_hat",
    "ess_bulk",
    "ess_tail",
    "laplace_sd",
    "sd_ratio",
    "contraction",
)


@dataclass(frozen=True, eq=False)
class Comparison:
    """EM against one or several posteriors: `print` it, or take its numbers.

    Attributes:
        interval: probability of the intervals.
        meta: the data and EM: num_observations, total_weight, num_features, feature_names, num_components, covariance_type,
            num_parameters, dtype, seed, versions, and em: status, converged, num_iter, log_likelihood, objective (nats),
            component_status, prior (that it maximised under, by name and hyperparameters; None: none of the posteriors').
        rows: one dict for each free entry of weights, means and covariances and each posterior: method (the posterior's name),
            name (its place in the Mixture, as "means[0,1]"), kind, component (None where shared), features, em, em_se (by the
            observed information), mean, median, sd, mcse, lower, upper, z = (em - mean) / sd, tail = P(theta < em) with half of those equal, inside,
            r_hat, ess_bulk, ess_tail, laplace_sd, sd_ratio = laplace_sd / sd, contraction = 1 - (width of the central 90 %,
            posterior over prior)^2. Weights are shares, means in data units, covariances in products of them.
        label_free: the same, without em_se and contraction, for what no labelling changes: log-likelihood and log density of parameters and
            data (nats), sorted weights, mean and sd of each feature under the whole mixture.
        samplers: by posterior: method, chains, draws, num_warmup, status, prior, divergences, tree_depth_max, e_bfmi_min,
            switch_rate (share of draws whose order of components differs from the draw before), switched_chains (mostly not in
            EM's order), unclear_rate (share that another order fits nearly as well), identified, r_hat_max, ess_min,
            ess_tail_min, khat (of Laplace's approximation), khat_limit, verdict (word, words and sentences), notes.
        posteriors: by name, relabelled to EM.
        joint: by posterior, all parameters at once: `jaxgmm.comparison.joint.compare_jointly`.
        density: by posterior: total_variation, hellinger, kl (nats) of the predictive density and EM's, each with _error; nats
            over the data: lpd_em, elpd_loo and elpd_loo_se, p_loo, khat_max, num_khat_high; over the same folds elpd_folds,
            elpd_folds_em, elpd_folds_difference (posterior minus EM), each with _se, and folds_khat_max.
        clustering: by posterior: adjusted_rand, membership_difference, entropy_em, entropy_posterior, entropy_within (nats),
            unsure_share.
    """

    interval: float
    meta: dict[str, Any]
    rows: list[dict[str, Any]]
    label_free: list[dict[str, Any]]
    samplers: dict[str, dict[str, Any]]
    posteriors: dict[str, Posterior]
    joint: dict[str, dict[str, Any]] = field(default_factory=dict)
    density: dict[str, dict[str, Any]] = field(default_factory=dict)
    clustering: dict[str, dict[str, Any]] = field(default_factory=dict)

    def draws(self, row: dict[str, Any]) -> np.ndarray:
        """The draws (C, S) behind one of `rows`, after relabelling."""
        return value_at(self.posteriors[row["method"]].mixture, row["name"])

    def to_dict(self) -> dict[str, Any]:
        """Every number in plain Python types, None for what is not defined; draws are not included."""
        return plain(
            {
                "interval": self.interval,
                "meta": self.meta,
                "samplers": self.samplers,
                "parameters": self.rows,
                "label_free": self.label_free,
                "joint": self.joint,
                "density": self.density,
                "clustering": self.clustering,
            }
        )

    def to_json(self, path: Any = None) -> str:
        """`to_dict` as JSON text; written to `path` too, if given."""
        return json_text(self.to_dict(), path)

    def to_csv(self, path: Any = None) -> str:
        """`rows` and `label_free` as CSV text, a header first; written to `path` too, if given."""
        rows = [{**row, "features": " ".join(row["features"])} for row in self.rows + self.label_free]
        return csv_text(rows, _FIELDS, path)

    def __str__(self) -> str:
        return "\n".join(page.render(self))

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        return page.as_html(self)


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
    num_folds: int = _NUM_FOLDS,
    seed: int = 0,
) -> Comparison:
    """An EM solution beside posteriors: parameter by parameter, all at once, as densities, as clusterings; what it adds up to.

    Laplace's approximation is made here, from the prior of the first posterior that has one, and set beside the others with
    that prior; a posterior by `laplace` brings sds and k-hat of its own. Predictions are scored by PSIS-LOO, and on folds: EM is
    fitted again without each fold from where it ended, the posterior's draws are weighed by importance. A bootstrap's draws are
    no posterior's, and are not scored. Words of the verdict: `jaxgmm.comparison.verdict`.

    Args:
        fit: one Fit; best the mode under the sampler's own prior: `jaxgmm.fit(start, x, prior)`. A mismatch is named.
        posterior: a Posterior, or several by names of your own, as {"nuts": ..., "gibbs": ...}.
        x: (N, D), the data of both, in data units.
        interval: probability of the central intervals, over 0 and under 1.
        sample_weight: (N,) >= 0, as given to `fit` and the sampler.
        feature_names: D names for the columns.
        laplace: whether to make Laplace's approximation; None does where it takes moments.
        scores: whether to compare densities and clusterings.
        num_folds: folds that both are scored on; under 2 none. Of more than 2000 rows none either, and that many at random are
            scored otherwise.
        seed: of folds, of points where densities are compared, of draws from prior and Laplace's approximation.

    Returns:
        A Comparison.

    Raises:
        ValueError, TypeError: a stack of fits, shapes or types that do not go together, options that make no sense, traced values.

    Example:
        >>> import jax, jaxgmm
        >>> x = jaxgmm.datasets.load("galaxies")
        >>> prior = jaxgmm.default_prior(x, num_components=1)
        >>> fit = jaxgmm.fit(jaxgmm.initialize(jax.random.key(0), x, num_components=1), x, prior)
        >>> posterior = jaxgmm.nuts(jax.random.key(1), fit.mixture, x, prior, num_samples=100)
        >>> comparison = jaxgmm.compare(fit, posterior, x, feature_names=["velocity"], num_folds=0)
        >>> [row["name"] for row in comparison.rows]
        ['weights[0]', 'means[0,0]', 'covariances[0,0,0]']
        >>> all(row["inside"] for row in comparison.rows)
        True
    """
    posteriors = dict(posterior) if isinstance(posterior, Mapping) else {getattr(posterior, "method", ""): posterior}
    x, weight = _check(fit, posteriors, x, sample_weight)
    _check_options(interval, laplace, scores, num_folds, seed)
    names = _feature_names(feature_names, fit.mixture.num_features)
    kept = np.arange(len(x)) if weight is None else np.flatnonzero(np.asarray(weight) > 0)
    setting = ComparisonInputs(fit, x, weight, kept, int(seed), int(num_folds))
    priors = {name: log_priors(fit, draws) for name, draws in posteriors.items()}
    maximised = maximised_prior(setting, posteriors, {name: pair[0] for name, pair in priors.items()})
    scored = choose_rows(setting) if scores and len(kept) else None
    begin(setting, maximised, scored, laplace is not False)
    relabelled = {name: relabel(draws, fit.mixture, x, sample_weight=weight) for name, draws in posteriors.items()}
    rows, free, samplers, joint = _summarise(setting, relabelled, priors, maximised, names, interval, laplace)
    density, clustering = {}, {}
    if scored is not None:
        em_score = refitted(setting, maximised, scored)
        for name, draws in relabelled.items():
            density[name], clustering[name] = scores_of(setting, draws, scored, em_score, _block(relabelled))
    meta = describe_setting(setting, names, maximised)
    return Comparison(float(interval), meta, rows, free, samplers, relabelled, joint, density, clustering)


def begin_ahead(fit: Fit, x: Any, prior: Any) -> None:
    """For whoever is about to draw the posteriors of a `compare` by its defaults: its longest compilations begin now."""
    x = as_data(x)
    setting = ComparisonInputs(fit, x, None, np.arange(len(x)), seed=0, num_folds=_NUM_FOLDS)
    begin(setting, prior, choose_rows(setting), True)


def _summarise(
    setting: ComparisonInputs,
    relabelled: dict[str, Posterior],
    priors: dict[str, tuple[float, np.ndarray]],
    maximised: Any,
    names: list[str],
    interval: float,
    laplace: bool | None,
) -> tuple[list[dict], list[dict], dict[str, dict], dict[str, dict]]:
    """Rows, label-free rows, samplers with their verdicts, and all parameters at once."""
    fit, mixture = setting.fit, setting.fit.mixture
    approximation = find_laplace(setting, relabelled, laplace, _block(relabelled))
    errors = np.full(values(mixture).shape, math.nan) if laplace is False else information_errors(setting, maximised)
    rows, every_free, samplers, joint = [], [], {}, {}
    beside: list[dict[str, Any]] = []  # rows by chains, which sds by Laplace are held against
    own_sds = [sds(draws.mixture) for draws in relabelled.values() if draws.method == "laplace"]
    for name, draws in sorted(relabelled.items(), key=lambda item: item[1].method == "laplace"):
        own = summaries(parameters(mixture, names), values(mixture), values(draws.mixture), name, interval)
        described, em, drawn = label_free(fit, draws, priors[name], names)
        free = summaries(described, em, drawn, name, interval)
        near = approximation if approximation and goes_with(approximation, draws) else None
        sd, free_sd = own_sds[0] if own_sds else (near.sd, near.free_sd) if near else (None, None)
        sampler = health(draws, own, free) | (khat_of(near) if near and draws.method not in INDEPENDENT else {})
        add_columns(own, errors, contraction_of(setting, draws))
        add_ratios(own, sd)
        add_ratios(free[2:], free_sd)  # not of the two log densities
        joint[name] = joint_of(setting, draws, priors[name][0], near if sampler["identified"] else None, _block(relabelled))
        sampler["notes"] = notes(setting, draws, priors[name][0])
        finding = {"laplace_sound": near is None or near.approximation.sound, "beside": beside}
        sampler["verdict"] = judge(own, free, sampler | finding | {"apart": chains_apart(drawn, described)}, interval)
        if not beside and draws.method not in INDEPENDENT and sampler["identified"]:
            beside = own
        rows, every_free, samplers[name] = rows + own, every_free + free, sampler
    samplers, joint = ({name: found[name] for name in relabelled} for found in (samplers, joint))
    order = list(relabelled)
    rows, every_free = (sorted(found, key=lambda row: order.index(row["method"])) for found in (rows, every_free))
    return rows, every_free, samplers, joint


def _block(posteriors: Mapping[str, Posterior]) -> int:
    """Draws worked through at once: all posteriors then share the programs."""
    return min(COMPARISON_DRAWS, *(p.log_density.size for p in posteriors.values()))


def _check_options(interval: Any, laplace: Any, scores: Any, num_folds: Any, seed: Any) -> None:
    check_number(interval, "interval", exclusive=True)
    if interval >= 1:
        raise ValueError(f"interval is {interval:g}; a probability under 1 was expected, as 0.95.")
    if laplace not in (None, True, False):
        raise TypeError(f"laplace is {laplace!r}; None, True or False was expected.")
    check_flag(scores, "scores")
    check_count(num_folds, "num_folds", 0)
    check_count(seed, "seed", 0)


def _check(fit: Any, posteriors: Mapping[str, Any], x: Any, sample_weight: Any) -> tuple[jax.Array, jax.Array | None]:
    if not isinstance(fit, Fit):
        raise TypeError(f"fit is {type(fit).__name__}; a jaxgmm.Fit was expected, as from jaxgmm.fit(start, x, prior).")
    if not posteriors:
        raise ValueError("posterior is an empty dict; at least one posterior was expected.")
    if is_traced(fit, dict(posteriors), x):
        raise TypeError("compare makes a report on the host and cannot be traced; call it outside jit and vmap.")
    if fit.mixture.batch_shape:
        raise ValueError(
            f"fit is a stack of shape {fit.mixture.batch_shape}; one was expected: take one by "
            "jax.tree.map(lambda leaf: leaf[0], fits)."
        )
    k, d, kind = fit.mixture.num_components, fit.mixture.num_features, fit.mixture.covariance_type
    for posterior in posteriors.values():
        check_posterior(posterior)
        got = posterior.mixture
        if (got.num_components, got.num_features, got.covariance_type) != (k, d, kind) or len(got.batch_shape) != 2:
            raise ValueError(
                f"fit has K={k}, D={d}, covariance_type={kind!r}; the posterior has K={got.num_components}, "
                f"D={got.num_features}, covariance_type={got.covariance_type!r} and leading axes {got.batch_shape}: "
                "the same model with leading axes (chains, draws) was expected."
            )
    return as_weighted_data(x, sample_weight, num_features=d)


def _feature_names(feature_names: Sequence[str] | None, d: int) -> list[str]:
    if feature_names is None:
        return [f"feature {i}" for i in range(d)] if d > 1 else ["feature"]
    names = [feature_names] if isinstance(feature_names, str) else [str(name) for name in feature_names]
    if len(names) != d:
        raise ValueError(f"feature_names has {len(names)} names; one a column of x was expected: {d}.")
    return names
