"""compare: an EM solution beside a posterior, entry by entry, and in words whether they agree.

The posterior is relabelled to the EM solution first. Where the labels are not identified, single components mean little, and
what no labelling changes is shown instead.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from ..checks import as_data, as_sample_weight, check_number, check_rows_finite, is_traced
from ..density import log_prob
from ..em.result import Fit, Status
from ..files import write_text
from ..mixture import num_parameters
from ..posterior.draws import Posterior, PosteriorStatus, check_posterior
from ..posterior.relabel import SMALL_MARGIN, relabel
from . import page
from .rows import at, entries, label_free, log_priors, summaries, values
from .verdict import judge

_FIELDS = (
    "method",
    "name",
    "kind",
    "component",
    "features",
    "em",
    "mean",
    "median",
    "sd",
    "mcse",
    "lower",
    "upper",
    "z",
    "inside",
    "r_hat",
    "ess_bulk",
    "ess_tail",
)


@dataclass(frozen=True, eq=False)
class Comparison:
    """EM against one or several posteriors: `print` it, or take its numbers.

    Attributes:
        interval: probability of the intervals.
        meta: the data and EM: num_observations, num_features, feature_names, num_components, covariance_type, dtype, and em:
            status, converged, num_iter, log_likelihood, objective (nats).
        rows: one dict for each free entry of weights, means and covariances and each method: method, name (its place in the
            Mixture, as "means[0,1]"), kind, component (None where shared), features, em, mean, median, sd, mcse, lower,
            upper, z = (em - mean) / sd, inside, r_hat, ess_bulk, ess_tail. Weights are shares, means in data units,
            covariances in products of them.
        label_free: the same for what no labelling changes: log-likelihood and log density of parameters and data (nats),
            sorted weights, mean and sd of each feature under the whole mixture.
        samplers: by method: chains, draws, status, divergences, switch_rate (share of draws whose order of components
            differs from the draw before), unclear_rate (share that another order fits nearly as well), identified, r_hat_max,
            ess_min, verdict (word and sentences), notes.
        posteriors: by method, relabelled to EM.
    """

    interval: float
    meta: dict[str, Any]
    rows: list[dict[str, Any]]
    label_free: list[dict[str, Any]]
    samplers: dict[str, dict[str, Any]]
    posteriors: dict[str, Posterior]

    def draws(self, row: dict[str, Any]) -> np.ndarray:
        """The draws (C, S) behind one of `rows`, after relabelling."""
        return at(self.posteriors[row["method"]].mixture, row["name"])

    def to_dict(self) -> dict[str, Any]:
        """Every number in plain Python types, None for what is not defined; draws are not included."""
        return _plain(
            {
                "interval": self.interval,
                "meta": self.meta,
                "samplers": self.samplers,
                "parameters": self.rows,
                "label_free": self.label_free,
            }
        )

    def to_json(self, path: Any = None) -> str:
        """`to_dict` as JSON text; written to `path` too, if given."""
        return _written(json.dumps(self.to_dict(), indent=1, allow_nan=False, ensure_ascii=False) + "\n", path)

    def to_csv(self, path: Any = None) -> str:
        """`rows` and `label_free` as CSV text, a header first; written to `path` too, if given."""
        text = io.StringIO()
        writer = csv.DictWriter(text, _FIELDS, lineterminator="\n")
        writer.writeheader()
        for row in _plain(self.rows + self.label_free):
            writer.writerow({**row, "features": " ".join(row["features"])})
        return _written(text.getvalue(), path)

    def __str__(self) -> str:
        return "\n".join(page.render(self.interval, self.meta, self.rows, self.label_free, self.samplers))

    def __repr__(self) -> str:
        return str(self)


def compare(
    fit: Fit,
    posterior: Posterior | Mapping[str, Posterior],
    x: Any,
    *,
    interval: float = 0.95,
    sample_weight: Any = None,
    feature_names: Sequence[str] | None = None,
) -> Comparison:
    """An EM solution beside a posterior: per entry EM, posterior mean, sd, interval, z, R-hat and ESS; then what it adds up to.

    Args:
        fit: one Fit; best the mode under the sampler's own prior: `jaxgmm.fit(start, x, prior)`. A mismatch is named.
        posterior: a Posterior, or several by name.
        x: (N, D), the data of both, in data units.
        interval: probability of the central intervals, over 0 and under 1.
        sample_weight: (N,) >= 0, as given to `fit` and the sampler.
        feature_names: D names for the columns.

    Returns:
        A Comparison.

    Raises:
        ValueError, TypeError: a stack of fits, shapes or types that do not go together, traced values.

    Example:
        >>> import jax, jaxgmm
        >>> x = jaxgmm.datasets.load("galaxies")
        >>> prior = jaxgmm.default_prior(x, num_components=1)
        >>> fit = jaxgmm.fit(jaxgmm.initialize(jax.random.key(0), x, num_components=1), x, prior)
        >>> posterior = jaxgmm.nuts(jax.random.key(1), fit.mixture, x, prior, num_samples=100)
        >>> comparison = jaxgmm.compare(fit, posterior, x, feature_names=["velocity"])
        >>> [row["name"] for row in comparison.rows]
        ['weights[0]', 'means[0,0]', 'covariances[0,0,0]']
        >>> all(row["inside"] for row in comparison.rows)
        True
    """
    posteriors = posterior if isinstance(posterior, Mapping) else {getattr(posterior, "method", ""): posterior}
    x, weight = _check(fit, posteriors, x, sample_weight)
    check_number(interval, "interval", exclusive=True)
    if interval >= 1:
        raise ValueError(f"interval is {interval:g}; a probability under 1 was expected, as 0.95.")
    names = _feature_names(feature_names, fit.mixture.num_features)
    rows, every_free, samplers, relabelled = [], [], {}, {}
    for method, draws in posteriors.items():
        relabelled[method] = draws = relabel(draws, fit.mixture, x, sample_weight=weight)
        own = summaries(entries(fit.mixture, names), values(fit.mixture), values(draws.mixture), method, interval)
        priors = log_priors(fit, draws)
        free = summaries(*label_free(fit, draws, priors, names), method, interval)
        sampler = _sampler(draws, own, free)
        sampler["notes"] = _notes(fit, draws, priors[0], x, weight)
        sampler["verdict"] = judge(own, free, sampler, interval)
        rows, every_free, samplers[method] = rows + own, every_free + free, sampler
    return Comparison(float(interval), _meta(fit, x, weight, names), rows, every_free, samplers, relabelled)


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
    x = as_data(check_rows_finite(x, sample_weight), check_values=True, num_features=d)
    return x, as_sample_weight(sample_weight, len(x), x.dtype, check_values=True)


def _feature_names(feature_names: Sequence[str] | None, d: int) -> list[str]:
    if feature_names is None:
        return [f"feature {i}" for i in range(d)] if d > 1 else ["feature"]
    names = [feature_names] if isinstance(feature_names, str) else [str(name) for name in feature_names]
    if len(names) != d:
        raise ValueError(f"feature_names has {len(names)} names; one a column of x was expected: {d}.")
    return names


def _sampler(posterior: Posterior, rows: list[dict[str, Any]], free: list[dict[str, Any]]) -> dict[str, Any]:
    """How the sampler did, and the labels."""
    chains, count = posterior.log_density.shape
    stats = posterior.stats
    every = rows + free
    worst = {name: np.array([row[name] for row in every]) for name in ("r_hat", "ess_bulk")}
    known = np.isfinite(worst["ess_bulk"])
    return {
        "chains": chains,
        "draws": count,
        "status": PosteriorStatus(int(posterior.status)).name,
        "divergences": int(np.asarray(stats.get("diverging", 0)).sum()),
        "switch_rate": float(stats["switch_rate"]),
        "unclear_rate": float((np.asarray(stats["relabel_margin"]) < SMALL_MARGIN).mean()),
        "identified": bool(stats["labels_identified"]),
        "r_hat_max": float(worst["r_hat"][known].max()) if known.any() else math.nan,
        "ess_min": float(worst["ess_bulk"][known].min()) if known.any() else math.nan,
    }


def _notes(fit: Fit, posterior: Posterior, log_prior: float, x: jax.Array, weight: jax.Array | None) -> list[str]:
    """What does not go together, a sentence each."""
    notes, likelihood, objective = [], float(fit.log_likelihood), float(fit.objective)
    tolerance = 1e-3 + 64 * float(np.finfo(np.asarray(x).dtype).eps) * (abs(objective) + len(x))
    terms = np.asarray(log_prob(fit.mixture, x), float)
    here = float(terms.sum() if weight is None else np.where(np.asarray(weight) > 0, terms, 0) @ np.asarray(weight, float))
    if not abs(here - likelihood) <= tolerance:
        notes.append(f"The fit was not made on these data: its log-likelihood is {likelihood:.3f} nats, here it is {here:.3f}.")
    if int(fit.status) != Status.CONVERGED:
        notes.append(Status(int(fit.status)).sentence)
    if posterior.prior is not None:
        expected = likelihood + log_prior
        if not abs(objective - expected) <= tolerance:
            notes.append(
                f"EM did not maximise what the sampler sampled: its objective is {objective:.3f} nats, log-likelihood plus "
                f"the sampler's log prior {expected:.3f}; for like with like fit with prior=posterior.prior."
            )
    if int(posterior.status) > PosteriorStatus.FULL_WARMUP:
        notes.append(PosteriorStatus(int(posterior.status)).sentence)
    return notes


def _meta(fit: Fit, x: jax.Array, weight: jax.Array | None, names: list[str]) -> dict[str, Any]:
    mixture = fit.mixture
    total = float(len(x)) if weight is None else float(weight.sum())
    em = {
        "status": Status(int(fit.status)).name,
        "converged": int(fit.status) == Status.CONVERGED,
        "num_iter": int(fit.num_iter),
        "log_likelihood": float(fit.log_likelihood),
        "objective": float(fit.objective),
    }
    return {
        "num_observations": len(x),
        "total_weight": total,
        "num_features": mixture.num_features,
        "feature_names": names,
        "num_components": mixture.num_components,
        "covariance_type": mixture.covariance_type,
        "num_parameters": num_parameters(mixture),
        "dtype": str(x.dtype),
        "em": em,
    }


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(v) for name, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value


def _written(text: str, path: Any) -> str:
    if path is not None:
        write_text(path, text)
    return text
