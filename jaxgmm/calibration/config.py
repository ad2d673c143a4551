"""The configuration of a calibration.

This module defines the type of the configuration and validates the arguments of `calibrate`. It also makes the fingerprint,
which shows whether a file holds results of the same calibration.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..checkpoint import versions
from ..memory import check_memory
from ..posterior.result import Posterior
from ..priors.defaults import is_data_scaled
from ..priors.interface import MixturePrior, check_normalised, check_prior
from ..studies.intervals import check_probabilities
from ..studies.method_names import POSTERIOR_METHODS
from ..studies.methods import as_method
from ..validation import as_float_array, check_count, check_number, check_progress

# Default options of the methods. With these options, the effective sample size of the L ranked draws is about L. This was
# measured for K = 2 under a prior that separates the components by a few standard deviations.
_DEFAULTS: Mapping[str, Mapping[str, int]] = {
    "gibbs": {"thin": 20, "num_warmup": 200, "num_chains": 1},
    "nuts": {"thin": 4, "num_warmup": 150, "num_chains": 1},
    "smc": {"thin": 5, "num_chains": 1},
}

_FIXED_NUMBERS_NEEDED = (
    "the truth is drawn from the prior before there are data, so the hyperparameters must be fixed numbers. A prior that is "
    "scaled by the data, such as that of jaxgmm.default_prior, uses the data twice; then the ranks are not uniform even if the "
    "method is correct. Write a jaxgmm.Prior or IndependentPrior with numbers of your own."
)


class SBCConfig(NamedTuple):
    """The settings that are compiled into the program of simulation-based calibration. The object is hashable.

    Attributes:
        method: a name, or a user's own function.
        options: names and values of the method's options, sorted by name.
        num_components: K.
        covariance_type: covariance type of the truths, the fits and the draws.
        num_observations: N, the number of rows of each data set.
        num_draws: L.
        thin: every thin-th draw is ranked.
        intervals: probabilities of the intervals.
        has_mode: whether MAP-EM can find the mode under the prior; if not, EM maximises the likelihood.
        missing: probability with which each value is missing.
    """

    method: str | Callable[..., Posterior]
    options: tuple[tuple[str, object], ...]
    num_components: int
    covariance_type: str
    num_observations: int
    num_draws: int
    thin: int
    intervals: tuple[float, ...]
    has_mode: bool
    missing: float = 0.0


def check_counts(
    num_components: int, num_datasets: int, num_observations: int, num_draws: int, thin: int | None, batch_size: int | None
) -> None:
    """Raise an error if a count is not an integer or is too small; `thin` and `batch_size` may be None."""
    check_count(num_components, "num_components")
    check_count(num_datasets, "num_datasets")
    check_count(num_observations, "num_observations", num_components)
    check_count(num_draws, "num_draws", 3)
    check_memory(8.0 * num_datasets * num_components, f"num_datasets={num_datasets}")  # the ranks take at least this memory
    check_memory(4.0 * num_observations * num_components, f"num_observations={num_observations}")
    check_memory(4.0 * num_draws * num_components, f"num_draws={num_draws}")
    if thin is not None:
        check_count(thin, "thin")
    if batch_size is not None:
        check_count(batch_size, "batch_size")


def check_thresholds(intervals: Sequence[float], num_draws: int, alpha: float, progress: object) -> None:
    """Raise an error if an argument is invalid.

    `alpha` and the entries of `intervals` must be probabilities between 0 and 1. No entry of `intervals` may be too large for
    the number of draws, `num_draws`. `progress` must be None or a boolean.
    """
    check_probabilities(intervals)
    widest = (num_draws - 1) / (num_draws + 1)
    if max(intervals) > widest:
        raise ValueError(
            f"intervals has {max(intervals):g}, but {num_draws} draws only give intervals of at most {widest:.3g}; "
            "raise num_draws."
        )
    check_number(alpha, "alpha", exclusive=True)
    if alpha >= 1:
        raise ValueError(f"alpha is {alpha:g}; a probability below 1 was expected, such as 0.01.")
    check_progress(progress)


def validate_prior(prior: MixturePrior, num_components: int, covariance_type: str) -> tuple[MixturePrior, bool]:
    """Return the prior with arrays of one float type, and whether MAP-EM can find the mode under it.

    Raise an error unless the prior is proper and its hyperparameters are fixed numbers.
    """
    if not isinstance(prior, MixturePrior):
        what = repr(prior) if isinstance(prior, str) else f"a {type(prior).__name__}"
        raise TypeError(f"prior is {what}; a jaxgmm.Prior or IndependentPrior was expected: {_FIXED_NUMBERS_NEEDED}")
    if is_data_scaled(prior):
        raise ValueError(f"prior comes from jaxgmm.default_prior: {_FIXED_NUMBERS_NEEDED}")
    if jnp.ndim(prior.weight_concentration) > 1 or jnp.ndim(prior.mean) > 1:
        raise ValueError(
            f"prior is a stack: weight_concentration has shape {jnp.shape(prior.weight_concentration)}; one prior for all data "
            "sets was expected: call calibrate for each."
        )
    dtype = as_float_array(prior.mean, "prior.mean").dtype
    prior = jax.tree.map(lambda leaf: as_float_array(leaf, "prior").astype(dtype), prior)
    num_features = prior.mean.shape[-1] if prior.mean.ndim else 1
    check_prior(prior, num_components, num_features, covariance_type)
    check_normalised(prior, covariance_type, "calibrate")
    return prior, prior.has_closed_forms and bool((np.asarray(prior.weight_concentration) >= 1).all())


def method_options(
    method: str | Callable[..., Posterior], options: Mapping[str, Any], num_draws: int, thin: int | None
) -> tuple[str, dict[str, Any], int]:
    """Return the name of the method, its options, and thin.

    The returned options include the default options and the number of draws that the method must make.
    """
    if "num_samples" in options:
        raise TypeError(
            "num_samples is not an option of calibrate: set num_draws, the number of draws to rank, and thin, their distance."
        )
    is_named = isinstance(method, str) and method in POSTERIOR_METHODS
    defaults = dict(_DEFAULTS.get(method, {})) if isinstance(method, str) else {}
    default_thin = defaults.pop("thin", 1)
    thin = default_thin if thin is None else thin
    completed = defaults | dict(options)
    chains = completed.get("num_chains", 1)
    check_count(chains, "num_chains")
    if is_named or _takes(method, "num_samples"):
        completed["num_samples"] = -(-num_draws // chains) * thin
    name, _ = as_method(method, **completed)
    for option, value in completed.items():
        try:
            hash(value)
        except TypeError:
            raise TypeError(f"{option} is {type(value).__name__}; a number, a name or a function was expected.") from None
    return name, completed, thin


def _takes(method: Any, name: str) -> bool:
    """Return whether a function has an argument called `name`. If an object has no signature, return False."""
    try:
        parameters = inspect.signature(method).parameters
    except (ValueError, TypeError):
        return False
    return name in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def fingerprint(
    key: jax.Array, config: SBCConfig, prior: MixturePrior, name: str, num_datasets: int, batch_size: int
) -> dict[str, object]:
    """Return everything on which the numbers of a calibration depend, in plain types.

    The dict is stored in the file of the calibration. It shows whether the file belongs to a given call.
    """
    leaves, _ = jax.tree_util.tree_flatten_with_path(prior)
    data = jax.random.key_data(key) if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else key
    return {
        "key": np.asarray(data).tolist(),
        "method": name if isinstance(config.method, str) else _plain_value(config.method),
        "options": {option: _plain_value(value) for option, value in config.options},
        "prior": {jax.tree_util.keystr(place).lstrip("."): np.asarray(leaf).tolist() for place, leaf in leaves},
        "num_components": config.num_components,
        "num_features": prior.mean.shape[-1],
        "covariance_type": config.covariance_type,
        "num_datasets": int(num_datasets),
        "num_observations": config.num_observations,
        "missing": config.missing,
        "num_draws": config.num_draws,
        "thin": config.thin,
        "intervals": list(config.intervals),
        "batch_size": int(batch_size),
        "dtype": str(prior.mean.dtype),
        "backend": jax.default_backend(),
        "versions": versions(),
    }


def _plain_value(value: object) -> bool | float | str | None:
    """Return an option in a type that JSON has. Replace a function by its qualified name, and any other object by its repr."""
    if callable(value):
        return f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', type(value).__qualname__)}"
    return value if isinstance(value, bool | int | float | str | None) else repr(value)
