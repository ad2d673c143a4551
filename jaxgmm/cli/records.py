"""Build the JSON records that the commands write."""

from __future__ import annotations

import argparse
from dataclasses import fields

import jax
import numpy as np

from .. import __version__
from ..em.result import Fit
from ..incomplete.observations import Observations
from ..mixture import Mixture
from ..priors.covariance_laws import CovarianceLaw
from ..priors.interface import MixturePrior
from ..studies.serialization import describe_fit


def command_record(arguments: argparse.Namespace, options: dict[str, object]) -> dict[str, object]:
    """Return the first entries of every record: the versions, the command and its options."""
    return {
        "jaxgmm": __version__,
        "jax": jax.__version__,
        "command": arguments.command,
        "options": options | {"seed": arguments.seed},
    }


def data_record(
    arguments: argparse.Namespace, x: np.ndarray | Observations, names: list[str], options: dict[str, object]
) -> dict[str, object]:
    """Return the first entries of a record about data: the entries of `command_record` and a description of the data."""
    return command_record(arguments, options) | {
        "data": {"source": arguments.data, "feature_names": names, "num_observations": len(x)}
    }


def mixture_record(mixture: Mixture) -> dict[str, object]:
    """Return a mixture as a dict that `jaxgmm sample` can read from a record."""
    return arrays_as_lists(mixture) | {"covariance_type": mixture.covariance_type}


def arrays_as_lists(record: Mixture | MixturePrior | CovarianceLaw) -> dict[str, object]:
    """Return the arrays of a mixture or a prior by name, as nested lists of floats. A law within a prior is a dict."""
    values = {field.name: getattr(record, field.name) for field in fields(record) if not field.metadata.get("static")}
    return {
        name: arrays_as_lists(value) if isinstance(value, CovarianceLaw) else np.asarray(value, float).tolist()
        for name, value in values.items()
    }


def fit_record(fit: Fit) -> dict[str, object]:
    """Return the entries of `describe_fit` for a fit, and an entry with the history of the objective."""
    history = np.asarray(fit.history, float)[: int(fit.num_iter) + 1]
    return describe_fit(fit) | {"history": history[np.isfinite(history)].tolist()}
