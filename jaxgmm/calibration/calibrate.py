"""calibrate: is a method right? Simulation-based calibration: Talts, Betancourt, Simpson, Vehtari & Gelman (2018), arXiv:1804.06788.

    theta ~ prior,   x ~ p(x | theta),   theta_1, ..., theta_L ~ what the method draws given x

If the method draws from the posterior, theta and its draws are exchangeable, and the rank of any f(theta, x) among f(theta_l, x)
is uniform on 0, ..., L. All data sets of a batch run side by side in one program, from simulation to rank.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..chunking import calibration_batch
from ..density import sample
from ..em.fit import fit
from ..em.initialization import initialize
from ..em.result import Status
from ..mixture import Mixture
from ..posterior.diagnostics import ess_bulk
from ..posterior.result import Posterior, PosteriorStatus
from ..priors.functions import sample_prior
from ..priors.interface import MixturePrior
from ..progress import progress_bar
from ..studies.checkpoint import Checkpoint, check_target
from ..studies.intervals import draw_intervals, wald_intervals
from ..studies.methods import as_method
from ..studies.parameters import free_entries, parameter_names
from ..validation import check_key, is_traced
from .config import SBCConfig, as_prior, check_protocol, check_thresholds, options_of, told
from .quantities import in_order, quantities, quantity_names
from .result import Calibration


def calibrate(
    key: jax.Array,
    prior: MixturePrior,
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
    num_draws. A sampling prior under which data sets make sense is part of it: for standardised data and D features a
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
        path: of a file that keeps every batch: a killed calibration goes on from it, bitwise as if it had not been. A function of
            your own is told from another by its name alone.
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
        >>> options = dict(num_components=1, num_datasets=20, num_observations=5, num_draws=31)
        >>> jaxgmm.calibrate(jax.random.key(0), prior, "gibbs", thin=1, num_warmup=5, **options).passed
        True
    """
    check_key(key)
    check_protocol(num_components, covariance_type, num_datasets, num_observations, num_draws, thin, batch_size)
    prior, has_mode = as_prior(prior, num_components, covariance_type)
    check_thresholds(intervals, num_draws, alpha, progress)
    check_target(path)
    if is_traced(key):
        raise TypeError("calibrate makes a report on the host and cannot be traced; call it outside jit and vmap.")
    name, options, thin = options_of(method, options, num_draws, thin)
    k, kind, levels = int(num_components), covariance_type, tuple(float(p) for p in intervals)
    recipe = tuple(sorted(options.items()))
    protocol = SBCConfig(method, recipe, k, kind, int(num_observations), int(num_draws), int(thin), levels, has_mode)
    size = batch_size or calibration_batch(num_datasets, num_draws, num_observations, k)
    about = told(key, protocol, prior, name, num_datasets, size)
    found = _gathered(protocol, jax.random.split(key, num_datasets), prior, size, Checkpoint(path, about), progress)
    return _calibration(protocol, name, about, found, alpha)


@partial(jax.jit, static_argnums=0)
def _batch(protocol: SBCConfig, keys: jax.Array, prior: MixturePrior) -> dict[str, jax.Array]:
    """Ranks and coverage of data sets (b,), one a key."""
    return jax.vmap(lambda key: _one(protocol, key, prior))(keys)


def _one(protocol: SBCConfig, key: jax.Array, prior: MixturePrior) -> dict[str, jax.Array]:
    """One data set, from the truth to its ranks."""
    recipe = {"num_components": protocol.num_components, "covariance_type": protocol.covariance_type}
    key_truth, key_data, key_start, key_draws, key_ties = jax.random.split(key, 5)
    truth = sample_prior(key_truth, prior, num_samples=1, **recipe)[0]
    x, _ = sample(key_data, truth, protocol.num_observations)
    mode_prior = prior if protocol.has_mode else None
    em = fit(initialize(key_start, x, **recipe), x, mode_prior)
    _, draw = as_method(protocol.method, **dict(protocol.options))
    posterior = draw(key_draws, em.mixture, x, prior)
    draws = _thinned(posterior, protocol)  # (C, S, ...)
    truth_at, draws_at = quantities(truth, x, prior), quantities(draws, x, prior)
    drawn = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[: protocol.num_draws], draws)
    found = {
        "rank": _rank(key_ties, truth_at, draws_at.reshape(-1, len(truth_at))[: protocol.num_draws]),
        "draws": draws_at,
        "status": posterior.status,
        "fit_status": em.status,
    }
    true_entries = free_entries(in_order(truth))
    widened = [p * (protocol.num_draws + 1) / (protocol.num_draws - 1) for p in protocol.intervals]
    for name, ends in {
        "method": draw_intervals(free_entries(in_order(drawn)), widened),
        "em": wald_intervals(in_order(em.mixture), x, mode_prior, protocol.intervals),
    }.items():
        found[f"{name}_covers"] = (ends.lower <= true_entries) & (true_entries <= ends.upper)
        found[f"{name}_defined"] = ends.defined
    return found


def _thinned(posterior: Posterior, protocol: SBCConfig) -> Mixture:
    """Every thin-th draw, of the last of each chain; no fewer than L in all."""
    mixture, chains = posterior.mixture, posterior.mixture.batch_shape[0]
    kept = -(-protocol.num_draws // chains)
    if mixture.batch_shape[1] < kept * protocol.thin:
        raise ValueError(
            f"method gave {mixture.batch_shape[0]} chains of {mixture.batch_shape[1]} draws; num_draws={protocol.num_draws} with "
            f"thin={protocol.thin} needs {kept * protocol.thin} a chain: give fewer, or let the method draw more."
        )
    return jax.tree.map(lambda leaf: leaf[:, ::-1][:, : kept * protocol.thin : protocol.thin][:, ::-1], mixture)


def _rank(key: jax.Array, truth: jax.Array, draws: jax.Array) -> jax.Array:
    """How many of draws (L, Q) are under truth (Q,), ties by lot; -1 where a value is not finite."""
    less, equal = (draws < truth).sum(0), (draws == truth).sum(0)
    lot = jnp.floor(jax.random.uniform(key, truth.shape) * (equal + 1)).astype(less.dtype)
    return jnp.where(jnp.isfinite(draws).all(0) & jnp.isfinite(truth), less + jnp.minimum(lot, equal), -1)


def _gathered(
    protocol: SBCConfig, keys: jax.Array, prior: Any, size: int, blocks: Checkpoint, progress: bool | None
) -> dict[str, np.ndarray]:
    """What all batches found, in the order of the keys; the last batch is filled up, so that one program serves all."""
    parts = []
    with progress_bar(len(keys), " data sets", progress) as bar:
        for lo in range(0, len(keys), size):
            lanes = np.minimum(np.arange(lo, lo + size), len(keys) - 1)
            count = min(size, len(keys) - lo)
            parts.append(blocks.get(f"batch/{lo}", lambda: _kept(_batch(protocol, keys[lanes], prior), count)))  # noqa: B023
            bar.update(count)
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _kept(found: dict[str, jax.Array], count: int) -> dict[str, np.ndarray]:
    """A batch on the host: effective sample sizes in the place of draws."""
    kept = {name: np.asarray(value)[:count] for name, value in found.items()}
    draws = np.moveaxis(kept.pop("draws"), 0, 2)  # (C, S, b, Q)
    ess = ess_bulk(draws) if draws.shape[1] >= 4 else np.full(draws.shape[2:], np.nan)
    return kept | {"ess": np.asarray(ess, np.float32)}


def _calibration(
    protocol: SBCConfig, name: str, about: dict[str, Any], found: dict[str, np.ndarray], alpha: float
) -> Calibration:
    k, d, kind = protocol.num_components, about["num_features"], protocol.covariance_type
    names, label_invariant = quantity_names(k, d, kind)
    if protocol.method == "bootstrap":
        names, label_invariant = [], []
    entries = parameter_names(k, d, kind)
    coverage = [
        {"method": label, "name": entry, "probability": p}
        | _covered(found[f"{which}_covers"][:, q, i], found[f"{which}_defined"][:, i])
        for which, label in (("method", name), ("em", "em"))
        for i, entry in enumerate(entries)
        if k > 1 or i  # the weight of one component is known
        for q, p in enumerate(protocol.intervals)
    ]
    ranks, ess = found["rank"][:, : len(names)], found["ess"][:, : len(names)]
    statuses, fits = _counted(found["status"], PosteriorStatus), _counted(found["fit_status"], Status)
    invariant = np.array(label_invariant, bool)
    return Calibration(name, about, names, invariant, ranks, protocol.num_draws, ess, coverage, statuses, fits, float(alpha))


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
