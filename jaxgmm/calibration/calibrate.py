"""`calibrate`: check by simulation-based calibration whether a method draws from the posterior.

    theta ~ prior,   x ~ p(x | theta),   theta_1, ..., theta_L ~ draws of the method given x

If the method draws from the posterior, theta and the draws are exchangeable. Then, for any function f, the rank of f(theta, x)
among f(theta_1, x), ..., f(theta_L, x) is uniform on 0, ..., L: Talts, Betancourt, Simpson, Vehtari & Gelman (2018),
arXiv:1804.06788. One compiled program does all steps for a batch of data sets, from the simulation to the ranks.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..calls import public
from ..checkpoint import Checkpoint, check_target
from ..chunking import calibration_batch
from ..covariance.types import as_covariance_type
from ..em.fit import fit
from ..em.initialization import initialize
from ..em.result import Status
from ..mixture import Mixture
from ..posterior.diagnostics import ess_bulk
from ..posterior.pooling import pool
from ..posterior.result import Posterior, PosteriorStatus
from ..priors.functions import sample_prior
from ..priors.interface import MixturePrior
from ..progress import progress_bar
from ..sampling import sample
from ..status import StatusEnum
from ..studies.intervals import draw_intervals, wald_intervals
from ..studies.methods import as_method
from ..studies.missing_values import check_missing, with_missing_values
from ..studies.parameters import free_entries, parameter_names
from ..validation import check_key, is_traced
from .config import SBCConfig, check_counts, check_thresholds, fingerprint, method_options, validate_prior
from .quantities import in_order, quantities, quantity_names
from .result import Calibration
from .rows import coverage_row


@public
def calibrate(
    key: jax.Array,
    prior: MixturePrior,
    method: str | Callable,
    *,
    num_components: int,
    covariance_type: str = "full",
    num_datasets: int = 256,
    num_observations: int = 100,
    missing: float = 0.0,
    num_draws: int = 127,
    thin: int | None = None,
    intervals: Sequence[float] = (0.5, 0.9),
    alpha: float = 0.01,
    batch_size: int | None = None,
    path: str | os.PathLike[str] | None = None,
    progress: bool | None = None,
    **options: object,
) -> Calibration:
    """Check by simulation-based calibration whether a method draws from the posterior.

    For each data set, draw a mixture (the truth) from the prior and data from the mixture. Run EM under the prior, start the
    method from the EM solution, and rank the truth among the draws. If EM cannot find a mode under the prior, EM maximises the
    likelihood. The method "smc" starts from the prior instead of the EM solution.

    Two groups of quantities are ranked. The first group is label-invariant, so the order of the components does not matter:
    log-likelihood, log joint density, sorted weights, log density at three fixed points, and log-determinant of the covariance
    of the mixture. The second group is the single parameters. For them, the components of the truth and of each draw are first
    sorted by their means of feature 0. If the method is correct, the ranks are uniform. For each quantity, a band limits how
    far the distribution of the ranks may be from the uniform distribution. The ranks of a correct method stay inside the bands
    of all quantities with probability at least 1 - alpha.

    The ranks are uniform only if the draws are nearly independent. If the effective sample sizes are far below num_draws, raise
    `thin`. The data sets that the prior produces must also be realistic. For standardised data with D features, a
    suitable Prior has concentration 3, mean 0, mean_precision 0.1, degrees of freedom D + 4 and a scale of 3 times the identity
    matrix. For diag and spherical, use D + 2 degrees of freedom. Under this prior, two components are about four standard
    deviations apart, and they overlap in one of five data sets.

    Args:
        key: a random key.
        prior: one proper prior with fixed hyperparameters. The truths are drawn from it, and the method runs under it. A prior
            that is scaled by the data is rejected.
        method: "nuts", "gibbs", "laplace", "smc", "bootstrap", or a function (key, start, x, prior, **options) -> Posterior
            that can be traced. For "bootstrap" only the coverage is computed, because its draws are not from the posterior. A
            function receives num_samples if it has an argument of this name.
        num_components: K.
        covariance_type: "full", "tied", "diag", "spherical", or a code such as "VEE": see `Mixture`. With "gibbs", one of
            the first four, "EEI" or "EII".
        num_datasets: B, the number of data sets.
        num_observations: N, the number of rows of each data set.
        missing: the probability with which each value of a data set is missing, whatever the values are. If it is positive, the
            method receives `observations`, and densities are those of the observed values.
        num_draws: L, the number of draws among which the truth is ranked in each data set.
        thin: every thin-th draw is ranked; None: 20 for gibbs, 4 for nuts, 5 for smc, else 1.
        intervals: probabilities of the central intervals whose coverage is computed.
        alpha: probability that a correct method fails the check for at least one quantity.
        batch_size: number of data sets in a batch; None: up to 128, depending on their size.
        path: a file that keeps every finished batch. After an interruption, the same call continues the calibration and gives
            the same numbers, bit for bit. If `method` is a function of your own, the file contains only its name, so a change
            of the function is not noticed.
        progress: whether to show a progress bar; None: show it on a terminal.
        **options: options of the method, such as num_warmup and num_chains (1 by default).

    Returns:
        A Calibration.

    Raises:
        ValueError, TypeError: the prior is scaled by the data, improper or a stack; an argument is out of range; the method
            does not take one of the options; or the file belongs to another calibration.

    Example:
        >>> import jax, jaxgmm
        >>> prior = jaxgmm.Prior(*map(jax.numpy.asarray, ([3.0], [0.0], 0.1, 5.0, [[3.0]])))
        >>> options = dict(num_components=1, num_datasets=20, num_observations=5, num_draws=31)
        >>> jaxgmm.calibrate(jax.random.key(0), prior, "gibbs", thin=1, num_warmup=5, **options).passed
        True
    """
    check_key(key)
    covariance_type = as_covariance_type(covariance_type)
    check_counts(num_components, num_datasets, num_observations, num_draws, thin, batch_size)
    missing = check_missing(missing)
    prior, has_mode = validate_prior(prior, num_components, covariance_type)
    check_thresholds(intervals, num_draws, alpha, progress)
    check_target(path)
    if is_traced(key):
        raise TypeError("calibrate makes a report on the host and cannot be traced; call it outside jit and vmap.")
    name, completed, thin = method_options(method, options, num_draws, thin)
    counts = (int(num_observations), int(num_draws), int(thin))
    settings, probabilities = tuple(sorted(completed.items())), tuple(float(p) for p in intervals)
    config = SBCConfig(method, settings, int(num_components), covariance_type, *counts, probabilities, has_mode, missing)
    size = batch_size or calibration_batch(num_datasets, num_draws, num_observations, num_components)
    design = fingerprint(key, config, prior, name, num_datasets, size)
    found = _run_batches(config, jax.random.split(key, num_datasets), prior, size, Checkpoint(path, design), progress)
    return _summarise(config, name, design, found, alpha)


@partial(jax.jit, static_argnums=0)
def _batch(config: SBCConfig, keys: jax.Array, prior: MixturePrior) -> dict[str, jax.Array]:
    """Simulate one data set for each of the keys (b,), and return the ranks and the coverage of all data sets."""
    return jax.vmap(lambda key: _calibrate_one(config, key, prior))(keys)


def _calibrate_one(config: SBCConfig, key: jax.Array, prior: MixturePrior) -> dict[str, jax.Array]:
    """Simulate one data set, fit it by EM, draw by the method, and rank the truth among the draws."""
    model = {"num_components": config.num_components, "covariance_type": config.covariance_type}
    key_truth, key_data, key_start, key_draws, key_ties = jax.random.split(key, 5)
    truth = sample_prior(key_truth, prior, num_samples=1, **model)[0]
    x, _ = sample(key_data, truth, config.num_observations)
    # For some generators, `split` uses `fold_in`, so a number below 5 would give one of the keys above again.
    x = with_missing_values(jax.random.fold_in(key, 5), x, config.missing)
    mode_prior = prior if config.has_mode else None
    em = fit(initialize(key_start, x, **model), x, mode_prior)
    _, draw = as_method(config.method, **dict(config.options))
    posterior = draw(key_draws, em.mixture, x, prior)
    draws = _thinned(posterior, config)  # (C, S, ...)
    ranked = pool(draws, posterior.stats)[: config.num_draws]
    truth_at, draws_at = quantities(truth, x, prior), quantities(draws, x, prior)
    found = {
        "rank": _rank(key_ties, truth_at, pool(draws_at, posterior.stats)[: config.num_draws]),
        "draws": draws_at,
        "status": posterior.status,
        "fit_status": em.status,
    }
    true_entries = free_entries(in_order(truth))
    # The intervals are made slightly wider. An interval of a correct method then contains the truth with exactly the nominal
    # probability, although it is computed from only L draws.
    widened = [p * (config.num_draws + 1) / (config.num_draws - 1) for p in config.intervals]
    for name, ends in {
        "method": draw_intervals(free_entries(in_order(ranked)), widened),
        "em": wald_intervals(in_order(em.mixture), x, mode_prior, config.intervals),
    }.items():
        found[f"{name}_covers"] = (ends.lower <= true_entries) & (true_entries <= ends.upper)
        found[f"{name}_defined"] = ends.defined
    return found


def _thinned(posterior: Posterior, config: SBCConfig) -> Mixture:
    """Return every thin-th draw, counted from the end of each chain. In all chains together, at least L draws remain.

    Raise ValueError if there are too few draws.
    """
    mixture = posterior.mixture
    chains, samples = mixture.batch_shape
    kept = -(-config.num_draws // chains)
    if samples < kept * config.thin:
        raise ValueError(
            f"method gave {chains} chains of {samples} draws; num_draws={config.num_draws} with thin={config.thin} needs "
            f"{kept * config.thin} a chain: lower num_draws or thin, or let the method draw more."
        )
    return jax.tree.map(lambda leaf: leaf[:, ::-1][:, : kept * config.thin : config.thin][:, ::-1], mixture)


def _rank(key: jax.Array, truth: jax.Array, draws: jax.Array) -> jax.Array:
    """Return the number (Q,) of draws (L, Q) below the truth (Q,), or -1 if a value is not finite.

    Draws that are equal to the truth are placed below or above it at random.
    """
    less, equal = (draws < truth).sum(0), (draws == truth).sum(0)
    tied = jnp.floor(jax.random.uniform(key, truth.shape) * (equal + 1)).astype(less.dtype)
    return jnp.where(jnp.isfinite(draws).all(0) & jnp.isfinite(truth), less + jnp.minimum(tied, equal), -1)


def _run_batches(
    config: SBCConfig, keys: jax.Array, prior: MixturePrior, size: int, checkpoint: Checkpoint, progress: bool | None
) -> dict[str, np.ndarray]:
    """Compute all batches that are not in the checkpoint, and return the results of all batches in the order of the keys."""
    parts = []
    with progress_bar(len(keys), " data sets", progress) as bar:
        for start in range(0, len(keys), size):
            # If the last batch is too short, its last key is repeated. All batches can then use one compiled program.
            members = np.minimum(np.arange(start, start + size), len(keys) - 1)
            count = min(size, len(keys) - start)
            compute = partial(_run_batch, config, keys[members], prior, count)
            parts.append(checkpoint.get(f"batch/{start}", compute))
            bar.update(count)
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _run_batch(config: SBCConfig, keys: jax.Array, prior: MixturePrior, count: int) -> dict[str, np.ndarray]:
    """Compute one batch and return its first `count` results as NumPy arrays.

    The results contain the effective sample sizes of the draws instead of the draws.
    """
    kept = {name: np.asarray(value)[:count] for name, value in _batch(config, keys, prior).items()}
    draws = np.moveaxis(kept.pop("draws"), 0, 2)  # (C, S, b, Q)
    ess = ess_bulk(draws) if draws.shape[1] >= 4 else np.full(draws.shape[2:], np.nan)
    return kept | {"ess": np.asarray(ess, np.float32)}


def _summarise(config: SBCConfig, name: str, design: dict[str, Any], found: dict[str, np.ndarray], alpha: float) -> Calibration:
    """Return the Calibration that summarises the results of all data sets."""
    k, d, covariance_type = config.num_components, design["num_features"], config.covariance_type
    names, label_invariant = quantity_names(k, d, covariance_type)
    if config.method == "bootstrap":
        names, label_invariant = [], []
    coverage = [
        coverage_row(label, parameter, p, found[f"{source}_covers"][:, q, i], found[f"{source}_defined"][:, i])
        for source, label in (("method", name), ("em", "em"))
        for i, parameter in enumerate(parameter_names(k, d, covariance_type))
        if k > 1 or i  # for K = 1, the weight (i = 0) is always 1, so it has no row
        for q, p in enumerate(config.intervals)
    ]
    return Calibration(
        name,
        design,
        names,
        np.array(label_invariant, bool),
        ranks=found["rank"][:, : len(names)],
        num_draws=config.num_draws,
        ess=found["ess"][:, : len(names)],
        coverage=coverage,
        statuses=_count_statuses(found["status"], PosteriorStatus),
        fit_statuses=_count_statuses(found["fit_status"], Status),
        alpha=float(alpha),
    )


def _count_statuses(codes: np.ndarray, statuses: type[StatusEnum]) -> dict[str, int]:
    """Return how often each status occurs, as a dict from name to number in the order of the codes."""
    counts = Counter(np.asarray(codes, int).ravel().tolist())
    return {statuses.name_of(code): counts[code] for code in sorted(counts)}
