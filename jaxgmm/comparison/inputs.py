"""Validation of the arguments of `compare`, and the inputs that all posteriors of a comparison share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from numpy.typing import ArrayLike

from ..data_frames import check_names, column_names
from ..em.result import Fit
from ..incomplete.checks import check_match
from ..incomplete.observations import Data, Observations
from ..incomplete.rows import with_weights
from ..inputs import as_rows
from ..posterior.modes import Modes
from ..posterior.result import Posterior, check_one_number, check_posterior
from ..validation import check_count, check_flag, check_number, check_seed, is_traced


class ComparisonOptions(NamedTuple):
    """The options of `compare`; each field has the meaning of the argument with the same name."""

    interval: float = 0.95
    laplace: bool | None = None
    scores: bool = True
    num_folds: int = 10
    seed: int = 0
    modes: Modes | bool | None = None
    restart: Fit | None = None


class ComparisonInputs(NamedTuple):
    """The EM fit, the data, the weights (N,) of the rows or None, the D feature names, and the options.

    x: (N, D), or observations without weights.
    """

    fit: Fit
    x: Data
    weight: jax.Array | None
    feature_names: list[str]
    options: ComparisonOptions

    @property
    def counts(self) -> np.ndarray:
        """(N,), the weight of each row."""
        return np.ones(len(self.x)) if self.weight is None else np.asarray(self.weight, float)

    @property
    def weighted_rows(self) -> tuple[Any, Any]:
        """The data and the weights as the public functions take them."""
        return with_weights(self.x, self.weight)

    @property
    def kept(self) -> np.ndarray:
        """Indices of the rows with positive weight."""
        return np.flatnonzero(self.counts > 0)


class Subject(NamedTuple):
    """One posterior of a comparison, relabelled to match EM.

    `em_log_prior` is the log density of EM's mixture under the posterior's prior, in nats. `log_prior` (C, S) holds the log
    densities of the draws under this prior. `own_likelihood` is True if the draws are from a user's model whose likelihood is
    not the density of the drawn mixtures.
    """

    name: str
    posterior: Posterior
    em_log_prior: float
    log_prior: np.ndarray
    own_likelihood: bool = False


def by_name(posterior: Posterior | Mapping[str, Posterior]) -> dict[str, Posterior]:
    """Return the posteriors of a comparison by name. Convert names that are not strings, such as integers, to strings."""
    if not isinstance(posterior, Mapping):
        return {str(getattr(posterior, "method", "")): posterior}
    named = {str(name): draws for name, draws in posterior.items()}
    if len(named) < len(posterior):
        raise ValueError(
            f"posterior has the names {list(posterior)}, some of which are the same as text; give different names."
        )
    return named


def prepare_inputs(
    fit: Fit,
    posteriors: Mapping[str, Posterior],
    x: ArrayLike | Observations,
    sample_weight: ArrayLike | None,
    feature_names: Sequence[str] | None,
    options: ComparisonOptions,
) -> ComparisonInputs:
    """Validate the arguments of `compare` and return them as one object. Raise ValueError or TypeError if one is invalid."""
    _check_fit(fit, posteriors, x)
    num_features = fit.mixture.num_features
    feature_names = column_names(x) if feature_names is None else feature_names
    rows, weight = as_rows(x, sample_weight, num_features=num_features)
    check_match(rows, fit.mixture.num_components, fit.mixture.covariance_type)
    _check_options(options)
    options = options._replace(interval=float(options.interval), num_folds=int(options.num_folds), seed=int(options.seed))
    names = check_names(feature_names, num_features) if feature_names is not None or num_features > 1 else ["feature"]
    return ComparisonInputs(fit, rows, weight, names, options)


def _check_fit(fit: Fit, posteriors: Mapping[str, Posterior], x: ArrayLike | Observations) -> None:
    """Raise an error if `fit` is not one fit, a posterior has another model than the fit, or an argument is traced.

    Raise an error also if there is no posterior.
    """
    if not isinstance(fit, Fit):
        raise TypeError(f"fit is {type(fit).__name__}; a jaxgmm.Fit was expected, such as jaxgmm.fit(start, x, prior).")
    if not posteriors:
        raise ValueError("posterior is an empty dict; at least one posterior was expected.")
    if is_traced(fit, dict(posteriors), x):
        raise TypeError("compare makes a report on the host and cannot be traced; call it outside jit and vmap.")
    if fit.mixture.batch_shape:
        raise ValueError(
            f"fit is a stack of shape {fit.mixture.batch_shape}; one fit was expected: take one by "
            "jax.tree.map(lambda leaf: leaf[0], fits)."
        )
    k, d, covariance_type = fit.mixture.num_components, fit.mixture.num_features, fit.mixture.covariance_type
    for posterior in posteriors.values():
        check_posterior(posterior)
        check_one_number(posterior, "compare")
        got = posterior.mixture
        if (got.num_components, got.num_features, got.covariance_type) != (k, d, covariance_type) or len(got.batch_shape) != 2:
            raise ValueError(
                f"fit has K={k}, D={d}, covariance_type={covariance_type!r}; the posterior has K={got.num_components}, "
                f"D={got.num_features}, covariance_type={got.covariance_type!r} and leading axes {got.batch_shape}: the same "
                "model with leading axes (chains, draws) was expected."
            )


def _check_options(options: ComparisonOptions) -> None:
    """Raise an error if an option has a wrong type or is out of range."""
    check_number(options.interval, "interval", exclusive=True)
    if options.interval >= 1:
        raise ValueError(f"interval is {options.interval:g}; a probability under 1 was expected, as 0.95.")
    if options.laplace not in (None, True, False):
        raise TypeError(f"laplace is {options.laplace!r}; None, True or False was expected.")
    if not isinstance(options.modes, Modes) and options.modes not in (None, True, False):
        raise TypeError(
            f"modes is {type(options.modes).__name__}; None, True, False or the result of jaxgmm.modes was expected."
        )
    if options.restart is not None and not (isinstance(options.restart, Fit) and not options.restart.mixture.batch_shape):
        raise TypeError(f"restart is {type(options.restart).__name__}; one Fit was expected, such as jaxgmm.fit_restarts(...).")
    check_flag(options.scores, "scores")
    check_count(options.num_folds, "num_folds", 0)
    check_seed(options.seed)
