"""calibrate: is a method right? Simulation-based calibration: Talts, Betancourt, Simpson, Vehtari & Gelman (2018), arXiv:1804.06788.

    theta ~ prior,   x ~ p(x | theta),   theta_1, ..., theta_L ~ what the method draws given x

If the method draws from the posterior, theta and its draws are exchangeable, and the rank of any f(theta, x) among f(theta_l, x)
is uniform on 0, ..., L. All data sets of a batch run side by side in one program, from simulation to rank.
"""

from __future__ import annotations

import inspect
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..checks import as_float_array, check_count, check_covariance_type, check_flag, check_key, check_number, is_traced
from ..density import sample
from ..em.fitting import fit
from ..em.result import Status
from ..em.starts import initialize
from ..mixture import Mixture
from ..posterior.diagnostics import ess_bulk
from ..posterior.draws import Posterior, PosteriorStatus
from ..prior import HalfNormal, IndependentPrior, Prior, check_prior, is_data_scaled, sample_prior
from .blocks import Blocks, check_target, versions
from .calibration import Calibration
from .intervals import check_probabilities, draw_intervals, wald_intervals
from .methods import METHODS, as_method
from .quantities import in_order, parameter_names, quantities, quantity_names
from .rows import free_entries

_NUMBERS = 2**22  # densities of draws at observations that a batch holds, at most
_LANES = 128
# measured on K = 2 at a prior that separates components by some sds: with these the draws that count are about L
DEFAULTS: dict[str, dict[str, int]] = {
    "gibbs": {"thin": 20, "num_warmup": 200, "num_chains": 1},
    "nuts": {"thin": 2, "num_warmup": 150, "num_chains": 1},
}


class Design(NamedTuple):
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


@partial(jax.jit, static_argnums=0)
def _batch(design: Design, keys: jax.Array, prior: Prior | IndependentPrior) -> dict[str, jax.Array]:
    """Ranks and coverage of data sets (b,), one a key."""
    return jax.vmap(lambda key: _one(design, key, prior))(keys)


def _one(design: Design, key: jax.Array, prior: Prior | IndependentPrior) -> dict[str, jax.Array]:
    """One data set, from the truth to its ranks."""
    recipe = {"num_components": design.num_components, "covariance_type": design.covariance_type}
    key_truth, key_data, key_start, key_draws, key_ties = jax.random.split(key, 5)
    truth = sample_prior(key_truth, prior, num_samples=1, **recipe)[0]
    x, _ = sample(key_data, truth, design.num_observations)
    mode_prior = prior if design.has_mode else None
    em = fit(initialize(key_start, x, **recipe), x, mode_prior)
    _, draw = as_method(design.method, **dict(design.options))
    posterior = draw(key_draws, em.mixture, x, prior)
    draws = _thinned(posterior, design)  # (C, S, ...)
    truth_at, draws_at = quantities(truth, x, prior), quantities(draws, x, prior)
    drawn = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[: design.num_draws], draws)
    found = {
        "rank": _rank(key_ties, truth_at, draws_at.reshape(-1, len(truth_at))[: design.num_draws]),
        "draws": draws_at,
        "status": posterior.status,
        "fit_status": em.status,
    }
    true_entries = free_entries(in_order(truth))
    widened = [p * (design.num_draws + 1) / (design.num_draws - 1) for p in design.intervals]
    for name, ends in {
        "method": draw_intervals(free_entries(in_order(drawn)), widened),
        "em": wald_intervals(in_order(em.mixture), x, mode_prior, design.intervals),
    }.items():
        found[f"{name}_covers"] = (ends.lower <= true_entries) & (true_entries <= ends.upper)
        found[f"{name}_defined"] = ends.defined
    return found


def _thinned(posterior: Posterior, design: Design) -> Mixture:
    """Every thin-th draw, of the last of each chain; no fewer than L in all."""
    mixture, chains = posterior.mixture, posterior.mixture.batch_shape[0]
    kept = -(-design.num_draws // chains)
    if mixture.batch_shape[1] < kept * design.thin:
        raise ValueError(
            f"method gave {mixture.batch_shape[0]} chains of {mixture.batch_shape[1]} draws; num_draws={design.num_draws} with "
            f"thin={design.thin} needs {kept * design.thin} a chain: give fewer, or let the method draw more."
        )
    return jax.tree.map(lambda leaf: leaf[:, ::-1][:, : kept * design.thin : design.thin][:, ::-1], mixture)


def _rank(key: jax.Array, truth: jax.Array, draws: jax.Array) -> jax.Array:
    """How many of draws (L, Q) are under truth (Q,), ties by lot; -1 where a value is not finite."""
    less, equal = (draws < truth).sum(0), (draws == truth).sum(0)
    lot = jnp.floor(jax.random.uniform(key, truth.shape) * (equal + 1)).astype(less.dtype)
    return jnp.where(jnp.isfinite(draws).all(0) & jnp.isfinite(truth), less + jnp.minimum(lot, equal), -1)


_REASON = (
    "the truth is drawn from the prior before there are data, so its hyperparameters must be fixed numbers. A prior that is scaled "
    "by the data, as jaxgmm.default_prior's, uses them twice, and ranks are then not uniform even for a right method; write a "
    "jaxgmm.Prior or IndependentPrior with numbers of your own."
)


def calibrate(
    key: jax.Array,
    prior: Prior | IndependentPrior,
    method: str | Callable,
    *,
    num_components: int,
    covariance_type: str = "full",
    num_datasets: int = 256,
    num_observations: int = 100,
    num_draws: int = 127,
    thin: int | None = None,
    intervals: Sequence[float] = (0.5, 0.9),
    alpha: float = 0.01,
    batch_size: int | None = None,
    path: Any = None,
    progress: bool | None = None,
    **options: Any,
) -> Calibration:
    """Ranks of truths among a method's draws over many simulated data sets, judged, and the coverage of its intervals and EM's.

    Each data set: a mixture from the prior, data from the mixture, EM under the prior (maximum likelihood where the prior has no
    mode), the method from there, ranks. Ranked are log-likelihood, log joint density, weights by size, log density at three
    fixed points and the log-determinant of the mixture's covariance, which no order of components changes, then single
    parameters, components ordered by their means of feature 0 in truth and draws alike. Ranks of a right method are uniform;
    bands for their distribution hold for all quantities at once.

    That needs draws that are nearly independent: look at the effective sample sizes, and raise `thin` if they are far under
    num_draws. A sampling prior under which data sets make sense is part of the design: for standardised data and D features a
    Prior with concentration 3, mean 0, mean_precision 0.1, degrees of freedom D + 4 and a scale of 3 times the identity (diag and
    spherical: D + 2 times) separates two components by some four standard deviations, with overlap in one data set of five.

    Args:
        key: a random key.
        prior: of fixed hyperparameters, one, proper; that of the truths and of the method. One scaled by data is refused.
        method: "nuts", "gibbs", "laplace", "bootstrap" (coverage only: its draws are from no posterior), or a function of your
            own (key, start, x, prior, **options) -> Posterior that can be traced; it is given num_samples if it takes it.
        num_components: K.
        covariance_type: "full", "tied", "diag" or "spherical".
        num_datasets: B.
        num_observations: N of each.
        num_draws: L that count, of each data set.
        thin: every thin-th draw counts; None: 20 for gibbs, 4 for nuts, else 1.
        intervals: probabilities of the central intervals whose coverage is counted.
        alpha: probability that a right method fails, over all quantities.
        batch_size: data sets side by side; None: up to 128, by their size.
        path: of a file that keeps every batch: a killed calibration goes on from it, bitwise as if it had not been.
        progress: a progress bar; None: on a terminal.
        **options: the method's own: num_warmup, num_chains (1 by default), ...

    Returns:
        A Calibration.

    Raises:
        ValueError, TypeError: a prior that is scaled by data, improper or a stack; options that make no sense; a file of another
            calibration.

    Example:
        >>> import jax, jaxgmm
        >>> prior = jaxgmm.Prior(*map(jax.numpy.asarray, ([3.0], [0.0], 0.1, 5.0, [[3.0]])))
        >>> options = dict(num_components=1, num_datasets=20, num_observations=5, num_draws=15)
        >>> jaxgmm.calibrate(jax.random.key(0), prior, "gibbs", thin=1, num_warmup=5, **options).passed
        True
    """
    check_key(key)
    _check_design(num_components, covariance_type, num_datasets, num_observations, num_draws, thin, batch_size)
    prior, has_mode = _as_prior(prior, num_components, covariance_type)
    _check_judgement(intervals, num_draws, alpha, progress)
    check_target(path)
    if is_traced(key):
        raise TypeError("calibrate makes a report on the host and cannot be traced; call it outside jit and vmap.")
    name, options, thin = _options_of(method, options, num_draws, thin)
    k, kind, levels = int(num_components), covariance_type, tuple(float(p) for p in intervals)
    recipe = tuple(sorted(options.items()))
    design = Design(method, recipe, k, kind, int(num_observations), int(num_draws), int(thin), levels, has_mode)
    size = batch_size or max(1, min(_LANES, num_datasets, _NUMBERS // (num_draws * num_observations * k)))
    told = _told(key, design, prior, name, num_datasets, size)
    found = _gathered(design, jax.random.split(key, num_datasets), prior, size, Blocks(path, told), progress)
    return _calibration(design, name, told, found, alpha)


def _check_design(
    num_components: Any, covariance_type: Any, num_datasets: Any, num_observations: Any, num_draws: Any, thin: Any, batch: Any
) -> None:
    check_count(num_components, "num_components")
    check_covariance_type(covariance_type)
    check_count(num_datasets, "num_datasets")
    check_count(num_observations, "num_observations", num_components)
    check_count(num_draws, "num_draws", 3)
    if thin is not None:
        check_count(thin, "thin")
    if batch is not None:
        check_count(batch, "batch_size")


def _check_judgement(intervals: Any, num_draws: int, alpha: Any, progress: Any) -> None:
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


def _as_prior(prior: Any, num_components: int, covariance_type: str) -> tuple[Prior | IndependentPrior, bool]:
    """One proper prior of fixed numbers, as arrays of one float type, and whether MAP-EM can find its mode."""
    if not isinstance(prior, Prior | IndependentPrior):
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
    conjugate = isinstance(prior, Prior) or not isinstance(prior.scale, HalfNormal)
    return prior, conjugate and bool((np.asarray(prior.weight_concentration) >= 1).all())


def _options_of(method: Any, options: dict[str, Any], num_draws: int, thin: int | None) -> tuple[str, dict[str, Any], int]:
    """A method's name, its options with the number of draws that it is to make, and thin."""
    if "num_samples" in options:
        raise TypeError("num_samples is not an option here: num_draws says how many draws count, thin how many are between.")
    named = isinstance(method, str) and method in METHODS
    defaults = dict(DEFAULTS.get(method, {})) if named else {}
    default_thin = defaults.pop("thin", 1)
    thin = default_thin if thin is None else thin
    options = defaults | options
    name, _ = as_method(method, **options)
    chains = options.get("num_chains", 1)
    check_count(chains, "num_chains")
    if named or _takes(method, "num_samples"):
        options["num_samples"] = -(-num_draws // chains) * thin
    for option, value in options.items():
        try:
            hash(value)
        except TypeError:
            raise TypeError(f"{option} is {type(value).__name__}; a number, a name or a function was expected.") from None
    return name, options, thin


def _takes(method: Callable, name: str) -> bool:
    try:
        parameters = inspect.signature(method).parameters
    except ValueError:
        return False
    return name in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def _told(key: jax.Array, design: Design, prior: Any, name: str, num_datasets: int, batch_size: int) -> dict[str, Any]:
    """All that the numbers depend on, in plain types."""

    def say(value: Any) -> Any:
        if callable(value):
            return f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', type(value).__qualname__)}"
        return value if isinstance(value, bool | int | float | str | None) else repr(value)

    leaves, _ = jax.tree_util.tree_flatten_with_path(prior)
    data = jax.random.key_data(key) if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else key
    return {
        "key": np.asarray(data).tolist(),
        "method": name if isinstance(design.method, str) else say(design.method),
        "options": {option: say(value) for option, value in design.options},
        "prior": {jax.tree_util.keystr(where).lstrip("."): np.asarray(leaf).tolist() for where, leaf in leaves},
        "num_components": design.num_components,
        "num_features": prior.mean.shape[-1],
        "covariance_type": design.covariance_type,
        "num_datasets": int(num_datasets),
        "num_observations": design.num_observations,
        "num_draws": design.num_draws,
        "thin": design.thin,
        "intervals": list(design.intervals),
        "batch_size": int(batch_size),
        "dtype": str(prior.mean.dtype),
        "backend": jax.default_backend(),
        "versions": versions(),
    }


def _gathered(
    design: Design, keys: jax.Array, prior: Any, size: int, blocks: Blocks, progress: bool | None
) -> dict[str, np.ndarray]:
    """What all batches found, in the order of the keys; the last batch is filled up, so that one program serves all."""
    from tqdm import tqdm  # no import of jaxgmm waits for it

    hidden = not (sys.stderr.isatty() if progress is None else progress)
    parts = []
    with tqdm(total=len(keys), disable=hidden, unit=" data sets") as bar:
        for lo in range(0, len(keys), size):
            lanes = np.minimum(np.arange(lo, lo + size), len(keys) - 1)
            count = min(size, len(keys) - lo)
            parts.append(blocks.get(f"batch/{lo}", lambda: _kept(_batch(design, keys[lanes], prior), count)))  # noqa: B023
            bar.update(count)
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _kept(found: dict[str, jax.Array], count: int) -> dict[str, np.ndarray]:
    """A batch on the host: effective sample sizes in the place of draws."""
    kept = {name: np.asarray(value)[:count] for name, value in found.items()}
    draws = np.moveaxis(kept.pop("draws"), 0, 2)  # (C, S, b, Q)
    ess = ess_bulk(draws) if draws.shape[1] >= 4 else np.full(draws.shape[2:], np.nan)
    return kept | {"ess": np.asarray(ess, np.float32)}


def _calibration(design: Design, name: str, told: dict[str, Any], found: dict[str, np.ndarray], alpha: float) -> Calibration:
    k, d, kind = design.num_components, told["num_features"], design.covariance_type
    names, label_invariant = quantity_names(k, d, kind)
    if design.method == "bootstrap":
        names, label_invariant = [], []
    entries = parameter_names(k, d, kind)
    coverage = [
        {"method": label, "name": entry, "probability": p}
        | _covered(found[f"{which}_covers"][:, q, i], found[f"{which}_defined"][:, i])
        for which, label in (("method", name), ("em", "em"))
        for i, entry in enumerate(entries)
        for q, p in enumerate(design.intervals)
    ]
    ranks, ess = found["rank"][:, : len(names)], found["ess"][:, : len(names)]
    statuses, fits = _counted(found["status"], PosteriorStatus), _counted(found["fit_status"], Status)
    invariant = np.array(label_invariant, bool)
    return Calibration(name, told, names, invariant, ranks, design.num_draws, ess, coverage, statuses, fits, float(alpha))


def _covered(covers: np.ndarray, defined: np.ndarray) -> dict[str, float]:
    """Coverage of the intervals that there are, its Monte Carlo error, and with the others as misses."""
    count, hits = int(defined.sum()), int((covers & defined).sum())
    share = hits / count if count else np.nan
    return {
        "coverage": share,
        "error": float(np.sqrt(share * (1 - share) / count)) if count else np.nan,
        "undefined": 1 - count / len(defined),
        "coverage_with_misses": hits / len(defined),
    }


def _counted(status: np.ndarray, kinds: Any) -> dict[str, int]:
    known = {int(kind): kind.name for kind in kinds}
    counts = Counter(np.asarray(status, int).ravel().tolist())
    return {known.get(value, str(value)): counts[value] for value in sorted(counts)}
