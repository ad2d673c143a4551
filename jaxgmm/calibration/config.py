"""The protocol of a calibration: what it is made of, what is refused at its door, and how a file tells it from another."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..priors.defaults import is_data_scaled
from ..priors.interface import MixturePrior, check_prior
from ..studies.checkpoint import versions
from ..studies.intervals import check_probabilities
from ..studies.methods import METHODS, as_method
from ..validation import as_float_array, check_count, check_covariance_type, check_flag, check_number

# measured on K = 2 at a prior that separates components by some sds: with these the draws that count are about L
DEFAULTS: dict[str, dict[str, int]] = {
    "gibbs": {"thin": 20, "num_warmup": 200, "num_chains": 1},
    "nuts": {"thin": 4, "num_warmup": 150, "num_chains": 1},
}


_REASON = (
    "the truth is drawn from the prior before there are data, so its hyperparameters must be fixed numbers. A prior that is scaled "
    "by the data, as jaxgmm.default_prior's, uses them twice, and ranks are then not uniform even for a right method; write a "
    "jaxgmm.Prior or IndependentPrior with numbers of your own."
)


class SBCConfig(NamedTuple):
    """All that is compiled in."""

    method: str | Callable
    options: tuple[tuple[str, Any], ...]
    num_components: int
    covariance_type: str
    num_observations: int
    num_draws: int
    thin: int
    intervals: tuple[float, ...]
    has_mode: bool


def check_protocol(
    num_components: Any, covariance_type: Any, num_datasets: Any, num_observations: Any, num_draws: Any, thin: Any, batch: Any
) -> None:
    """Refuses a model, or counts, that make no sense."""
    check_count(num_components, "num_components")
    check_covariance_type(covariance_type)
    check_count(num_datasets, "num_datasets")
    check_count(num_observations, "num_observations", num_components)
    check_count(num_draws, "num_draws", 3)
    if thin is not None:
        check_count(thin, "thin")
    if batch is not None:
        check_count(batch, "batch_size")


def check_thresholds(intervals: Any, num_draws: int, alpha: Any, progress: Any) -> None:
    """Refuses intervals, a rate of failures, or a wish for a bar, that make no sense."""
    check_probabilities(intervals)
    widest = (num_draws - 1) / (num_draws + 1)
    if max(intervals) > widest:
        raise ValueError(
            f"intervals has {max(intervals):g}, which {num_draws} draws cannot tell (at most {widest:.3g}); raise num_draws."
        )
    check_number(alpha, "alpha", exclusive=True)
    if alpha >= 1:
        raise ValueError(f"alpha is {alpha:g}; a probability under 1 was expected, as 0.01.")
    if progress is not None:
        check_flag(progress, "progress")


def as_prior(prior: Any, num_components: int, covariance_type: str) -> tuple[MixturePrior, bool]:
    """One proper prior of fixed numbers, as arrays of one float type, and whether MAP-EM can find its mode."""
    if not isinstance(prior, MixturePrior):
        what = repr(prior) if isinstance(prior, str) else f"a {type(prior).__name__}"
        raise TypeError(f"prior is {what}; a jaxgmm.Prior or IndependentPrior was expected: {_REASON}")
    if is_data_scaled(prior):
        raise ValueError(f"prior comes from jaxgmm.default_prior: {_REASON}")
    if jnp.ndim(prior.weight_concentration) > 1 or jnp.ndim(prior.mean) > 1:
        raise ValueError(
            f"prior is a stack: weight_concentration has shape {jnp.shape(prior.weight_concentration)}; one prior for all data "
            "sets was expected: calibrate under each."
        )
    dtype = as_float_array(prior.mean, "prior.mean").dtype
    prior = jax.tree.map(lambda leaf: as_float_array(leaf, "prior").astype(dtype), prior)
    num_features = prior.mean.shape[-1] if prior.mean.ndim else 1
    check_prior(prior, num_components, num_features, covariance_type)
    return prior, prior.has_closed_forms and bool((np.asarray(prior.weight_concentration) >= 1).all())


def options_of(method: Any, options: dict[str, Any], num_draws: int, thin: int | None) -> tuple[str, dict[str, Any], int]:
    """A method's name, its options with the number of draws that it is to make, and thin."""
    if "num_samples" in options:
        raise TypeError("num_samples is not an option here: num_draws says how many draws count, thin how many are between.")
    named = isinstance(method, str) and method in METHODS
    defaults = dict(DEFAULTS.get(method, {})) if named else {}
    default_thin = defaults.pop("thin", 1)
    thin = default_thin if thin is None else thin
    options = defaults | options
    chains = options.get("num_chains", 1)
    check_count(chains, "num_chains")
    if named or _takes(method, "num_samples"):
        options["num_samples"] = -(-num_draws // chains) * thin
    name, _ = as_method(method, **options)
    for option, value in options.items():
        try:
            hash(value)
        except TypeError:
            raise TypeError(f"{option} is {type(value).__name__}; a number, a name or a function was expected.") from None
    return name, options, thin


def _takes(method: Any, name: str) -> bool:
    """Whether a function has an argument of that name; what is no function, or tells no signature, has none."""
    try:
        parameters = inspect.signature(method).parameters
    except (ValueError, TypeError):
        return False
    return name in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def told(key: jax.Array, protocol: SBCConfig, prior: Any, name: str, num_datasets: int, batch_size: int) -> dict[str, Any]:
    """All that the numbers depend on, in plain types."""

    def say(value: Any) -> Any:
        if callable(value):
            return f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', type(value).__qualname__)}"
        return value if isinstance(value, bool | int | float | str | None) else repr(value)

    leaves, _ = jax.tree_util.tree_flatten_with_path(prior)
    data = jax.random.key_data(key) if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else key
    return {
        "key": np.asarray(data).tolist(),
        "method": name if isinstance(protocol.method, str) else say(protocol.method),
        "options": {option: say(value) for option, value in protocol.options},
        "prior": {jax.tree_util.keystr(where).lstrip("."): np.asarray(leaf).tolist() for where, leaf in leaves},
        "num_components": protocol.num_components,
        "num_features": prior.mean.shape[-1],
        "covariance_type": protocol.covariance_type,
        "num_datasets": int(num_datasets),
        "num_observations": protocol.num_observations,
        "num_draws": protocol.num_draws,
        "thin": protocol.thin,
        "intervals": list(protocol.intervals),
        "batch_size": int(batch_size),
        "dtype": str(prior.mean.dtype),
        "backend": jax.default_backend(),
        "versions": versions(),
    }
