"""Fit one model for `jaxgmm fit` and `jaxgmm compare`.

EM first finds the posterior mode. From this mode, EM then finds the maximum likelihood estimate.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from ..em.batch.restarts import fit_restarts
from ..em.fit import fit
from ..em.result import Fit, Status
from ..incomplete.observations import Observations
from ..priors.defaults import default_prior
from ..priors.interface import MixturePrior, reason_without_mode
from .data import check_rows
from .messages import print_progress, warnings_to_stderr
from .records import arrays_as_lists, data_record, fit_record, mixture_record


class ModeFit(NamedTuple):
    """The best of several EM fits under the default prior, together with the prior and the JSON record of the fit."""

    fit: Fit
    prior: MixturePrior
    record: dict[str, Any]


def fit_mode(
    arguments: argparse.Namespace,
    x: np.ndarray | Observations,
    names: list[str],
    before_em: Callable[[MixturePrior], object] | None = None,
    *,
    is_sampled: bool = False,
) -> ModeFit:
    """Fit the posterior mode under the default prior from several starts, and return the best fit.

    before_em: a function that is called with the prior before EM starts.
    is_sampled: whether samplers need the prior. If EM does not take such a prior, the fit is the maximum likelihood estimate.
    """
    check_rows(x, arguments.num_components, arguments.data)
    options = {"num_components": arguments.num_components, "covariance_type": arguments.covariance_type}
    print_progress(f"EM from {arguments.restarts} starts")
    prior = default_prior(x, **options, normalised=is_sampled)
    if before_em is not None:
        before_em(prior)
    with warnings_to_stderr():
        prior_of_em = None if reason_without_mode(prior) else prior
        best = fit_restarts(jax.random.key(arguments.seed), x, prior_of_em, num_restarts=arguments.restarts, **options)
    if not np.isfinite(float(best.objective)):
        raise ValueError(Status(int(best.status)).sentence)
    record = data_record(arguments, x, names, options | {"restarts": arguments.restarts})
    record |= {"mixture": mixture_record(best.mixture), "prior": arrays_as_lists(prior), "fit": fit_record(best)}
    return ModeFit(best, prior, record)


def fit_maximum_likelihood(mode: Fit, x: np.ndarray | Observations) -> Fit:
    """Run EM without a prior, with the posterior mode as the start."""
    if isinstance(x, Observations):
        with warnings_to_stderr():
            return fit(mode.mixture, x)
    return _fit(mode.mixture, x.astype(mode.mixture.means.dtype))


_fit = jax.jit(fit)  # compiled as one program, because an eager call takes longer


def maximum_likelihood_line(record: dict[str, Any]) -> str:
    """Return a line with the log-likelihoods of the maximum likelihood estimate and of the posterior mode."""
    maximum = record["maximum_likelihood"]["log_likelihood"]
    at_mode = record["fit"]["log_likelihood"]
    return f"Maximum likelihood, by EM from this mode: log-likelihood {maximum:.3f} nats ({at_mode:.3f} at the mode)."
