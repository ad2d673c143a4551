"""Scores of densities.

The scores measure the distance between EM's density and the posterior predictive density, and how well each density predicts
data.

    total variation  TV  = 1/2 int |p - q|        Hellinger  H^2 = 1 - int sqrt(p q)        KL(p || q) = int p log p / q

Here p is the posterior predictive density and q is EM's density. The integrals are averages over points drawn from (p + q) / 2.
With such points, the averaged terms of the first two integrals are bounded. For D = 1, the points form a grid instead.

    elpd_loo = sum_n log p(y_n | y without n)      Vehtari, Gelman & Gabry (2017), Stat. Comput. 27, 1413-1432, eq. 4, 10

This score is computed from the draws by Pareto-smoothed importance sampling. A second score leaves out one fold of rows at a
time. For this score, EM is fitted again without the fold. The posterior's draws are weighted by 1 / p(fold | draw), so that no
sampler has to run again. A large Pareto k-hat shows that the weights of a row or fold cannot be trusted.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np
from jax.typing import DTypeLike

from .. import covariance
from ..chunking import PSIS_ROWS
from ..density import log_prob, responsibilities
from ..em.fit import fit
from ..incomplete.observations import Data, Observations
from ..incomplete.rows import with_weights
from ..mixture import Mixture
from ..padding import pad_rows
from ..posterior.pareto import khat_limit, psis
from ..priors.interface import MixturePrior
from ..spread import quantiles

Stack = TypeVar("Stack")  # a pytree of arrays (M, ...)
Result = TypeVar("Result")


class Points(NamedTuple):
    """The points (T, D) at which densities are compared.

    The points either form a grid with quadrature weights (T,), or are drawn from (p + q) / 2. In the second case `quadrature`
    is None.
    """

    points: np.ndarray
    quadrature: np.ndarray | None


@jax.jit
def _evaluate(stack: Mixture, rows: Data, places: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return the log densities at the rows and at other places, and the responsibilities at the rows."""
    return log_prob(stack, rows), log_prob(stack, places), responsibilities(stack, rows)


def pointwise(stack: Mixture, rows: Any, places: np.ndarray, batch_size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return log densities and responsibilities under each of M mixtures.

    Args:
        stack: the mixtures (M, ...).
        rows: data (R, D), or observations without weights.
        places: (T, D), the other places at which densities are computed.
        batch_size: the number of mixtures in a batch.

    Returns:
        The log densities at the rows (M, R) and at the places (M, T), and the responsibilities at the rows (M, R, K).
    """
    count = len(rows)
    padded = rows.map_rows(pad_rows) if isinstance(rows, Observations) else pad_rows(rows)
    at_rows, elsewhere, shares = in_batches(lambda batch: _evaluate(batch, padded, places), stack, batch_size)
    return np.asarray(at_rows, float)[:, :count], np.asarray(elsewhere, float), np.asarray(shares)[:, :count]


def in_batches(function: Callable[[Stack], Result], stack: Stack, batch_size: int) -> Result:
    """Apply a function to a stack (M, ...) in batches of equal size.

    Because all batches have the same size, stacks of all lengths share one compiled program.

    Args:
        function: a function of a stack (batch_size, ...). If the last batch is too short, its last member is repeated.
        stack: any tree of arrays (M, ...).
        batch_size: number of members of each batch.

    Returns:
        The results of the function, as NumPy arrays (M, ...).
    """
    count = len(jax.tree.leaves(stack)[0])
    parts = []
    for low in range(0, count, batch_size):
        index = np.minimum(np.arange(low, low + batch_size), count - 1)
        batch = function(jax.tree.map(lambda leaf, index=index: np.asarray(leaf)[index], stack))
        parts.append(jax.tree.map(lambda leaf, low=low: np.asarray(leaf)[: count - low], batch))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)


def simulate(rng: np.random.Generator, stack: Mixture, which: np.ndarray) -> np.ndarray:
    """Return random points (T, D). Point t is drawn from the mixture at position `which[t]` of the stack."""
    k, d = stack.num_components, stack.num_features
    weights = np.asarray(stack.weights, float)[which]
    edges = np.cumsum(weights / weights.sum(-1, keepdims=True), -1)
    component = np.minimum((rng.random(len(which))[:, None] > edges).sum(-1), k - 1)
    stored: np.ndarray = np.asarray(stack.covariances)[which]
    dense = np.asarray(covariance.to_dense(stored, stack.covariance_type, k, d), float)
    rows = np.arange(len(which))
    roots = _roots(dense[rows, component])
    return np.asarray(stack.means, float)[which, component] + (roots @ rng.normal(size=(len(which), d, 1)))[..., 0]


def _roots(matrices: np.ndarray) -> np.ndarray:
    """Return square roots (M, D, D) of covariance matrices. Eigenvalues that rounding has made negative are set to 0."""
    try:
        return np.linalg.cholesky(matrices)
    except np.linalg.LinAlgError:
        eigenvalues, vectors = np.linalg.eigh(matrices)
        return vectors * np.sqrt(np.maximum(eigenvalues, 0))[:, None]


def choose_points(rng: np.random.Generator, em: Mixture, draws: Mixture, count: int) -> Points:
    """Return the points at which densities are compared.

    For D = 1 they are a grid that spans the components of EM and of the draws. Otherwise half of the points are drawn from EM's
    density and half from the posterior predictive density.

    Args:
        rng: random generator for the points.
        em: one mixture.
        draws: a stack (M, ...) of mixtures.
        count: number of points.
    """
    em = jax.tree.map(lambda leaf: np.asarray(leaf)[None], em)
    if em.num_features == 1:
        return _grid(em, draws, count)
    half = count // 2
    from_em = simulate(rng, em, np.zeros(half, int))
    flat = [np.asarray(leaf).reshape(len(draws.weights), -1) for leaf in jax.tree.leaves(draws)]
    finite = np.flatnonzero(np.isfinite(np.concatenate(flat, -1)).all(-1))  # draws under a vague prior may overflow
    source, finite = (draws, finite) if len(finite) else (em, np.zeros(1, int))
    return Points(np.concatenate([from_em, simulate(rng, source, finite[rng.integers(0, len(finite), count - half)])]), None)


def _grid(em: Mixture, draws: Mixture, count: int) -> Points:
    """Return a grid with trapezoidal weights.

    The points of the grid are dense within EM's components, and they cover the components of all draws.
    """

    def ends_of(stack: Mixture) -> tuple[np.ndarray, np.ndarray]:
        """Return the positions 8 standard deviations below and above the mean of each component."""
        stored: np.ndarray = np.asarray(stack.covariances, float)
        sd = np.sqrt(np.maximum(covariance.variances(stored, stack.covariance_type, 1), 0))
        mean = np.asarray(stack.means, float)
        return (mean - 8 * sd).ravel(), (mean + 8 * sd).ravel()

    low, high = ends_of(em)
    share = max(count // (len(low) + 1), 2)
    parts = [np.linspace(a, b, share) for a, b in zip(low, high, strict=True)]
    all_low, all_high = ends_of(draws)
    finite = np.isfinite(all_low) & np.isfinite(all_high)  # draws under a vague prior may overflow
    all_low, all_high = np.r_[low, all_low[finite]], np.r_[high, all_high[finite]]
    ends = min(low.min(), *quantiles(all_low, [0.01])), max(high.max(), *quantiles(all_high, [0.99]))
    x = np.sort(np.concatenate([*parts, np.linspace(*ends, count - share * len(low))]))
    steps = np.diff(x)
    quadrature = np.concatenate([[0], steps]) / 2 + np.concatenate([steps, [0]]) / 2
    return Points(x[:, None], quadrature)


def distances(log_p: np.ndarray, log_q: np.ndarray, quadrature: np.ndarray | None) -> dict[str, float]:
    """Return distances between two densities.

    Args:
        log_p: log density (T,) of p at the points of `Points`.
        log_q: log density (T,) of q at the same points.
        quadrature: the quadrature weights of a grid; None for random points.

    Returns:
        A dict of total_variation and hellinger, which go from 0 (equal) to 1 (disjoint), and kl, which is KL(p || q) in nats.
        For each distance, the dict also has the Monte Carlo standard error, such as kl_error; on a grid, this error is 0.

    Example:
        >>> x = np.linspace(-9, 10, 2001)
        >>> log_p, log_q = -(x**2) / 2 - np.log(2 * np.pi) / 2, -((x - 1) ** 2) / 2 - np.log(2 * np.pi) / 2
        >>> round(distances(log_p, log_q, np.full(2001, x[1] - x[0]))["kl"], 3)
        0.5
    """
    log_p, log_q = np.asarray(log_p, float), np.asarray(log_q, float)
    log_half = np.logaddexp(log_p, log_q) - math.log(2)
    usable = np.isfinite(log_half)
    # From here on, p and q are density ratios: each of the two densities is divided by the average of the two.
    half = np.where(usable, log_half, 0)
    p, q = (np.where(usable, np.exp(np.where(usable, v, 0) - half), 0) for v in (log_p, log_q))
    both = usable & np.isfinite(log_p) & np.isfinite(log_q)
    difference = np.where(both, log_p, 0) - np.where(both, log_q, 0)
    # The integral of q - p is 0. Adding q - p to the integrand therefore keeps the integral, but makes each term nonnegative.
    logs = np.where(both, p * difference - p + q, np.where(p > 0, np.inf, q))
    terms = {"total_variation": abs(p - q) / 2, "hellinger": (np.sqrt(p) - np.sqrt(q)) ** 2 / 2, "kl": logs}
    found = {}
    for name, term in terms.items():
        if quadrature is None:
            value, error = term.mean(), (term.std(ddof=1) if np.isfinite(term).all() else math.nan) / math.sqrt(len(term))
        else:
            mass = quadrature * np.where(usable, np.exp(np.where(usable, log_half, 0)), 0)
            value, error = np.where(mass > 0, mass * np.where(mass > 0, term, 0), 0).sum(), 0.0
        if name == "hellinger":
            value = math.sqrt(max(value, 0.0))
            error = error / (2 * value) if value > 0 else 0.0
        found |= {name: float(value), f"{name}_error": float(error)}
    return found


def leave_one_out(
    log_likelihood: np.ndarray, weight: np.ndarray, total: float, log_ratio: np.ndarray | None = None
) -> dict[str, float]:
    """Return the expected log density of new data by PSIS-LOO.

    The method is that of Vehtari, Gelman & Gabry (2017). For draws from a normal approximation, it follows Magnusson, Andersen,
    Jonasson & Vehtari (2019), ICML 97, 4244-4253.

    Args:
        log_likelihood: (M, R), log density of each row under each draw, in nats.
        weight: (R,), the number of copies of each row; one copy is left out at a time.
        total: total weight of all data. The scored rows may be a sample of the data.
        log_ratio: (M,), log posterior density minus log density of the distribution of the draws; None: the draws are from the
            posterior.

    Returns:
        A dict of elpd_loo and its standard error elpd_loo_se; p_loo, the effective number of parameters; khat_max, the largest
        k-hat; and num_khat_high, the number of rows whose k-hat is not below the limit for M draws.

    Example:
        >>> found = leave_one_out(np.full((100, 3), -1.0), np.ones(3), 3.0)
        >>> round(found["elpd_loo"], 6), round(found["p_loo"], 6)
        (-3.0, 0.0)
    """
    base = 0.0 if log_ratio is None else np.asarray(log_ratio, float)[:, None]
    left_out = np.minimum(weight, 1.0)
    elpd, khat = [], []
    for low in range(0, len(weight), PSIS_ROWS):
        part = log_likelihood[:, low : low + PSIS_ROWS]
        log_weights, k = psis(base - left_out[low : low + PSIS_ROWS] * part)
        elpd.append(log_mean(part, log_weights))
        khat.append(k)
    elpd, khat = np.concatenate(elpd), np.concatenate(khat)
    plain = np.full(len(log_likelihood), -math.log(len(log_likelihood)))
    everything = log_mean(log_likelihood, (plain if log_ratio is None else psis(log_ratio)[0])[:, None])
    return score("elpd_loo", elpd, weight, total) | {
        "p_loo": float(total * np.average(everything - elpd, weights=weight)),
        "khat_max": float(khat.max()),
        "num_khat_high": int((khat >= khat_limit(len(log_likelihood))).sum()),
    }


def log_mean(values: np.ndarray, log_weights: np.ndarray) -> np.ndarray:
    """Return log sum_m w_m exp(v_m) for values v and log weights log w. The sum is over the first axis."""
    terms = values + log_weights
    top = terms.max(0)
    shift = np.where(np.isfinite(top), top, 0)
    with np.errstate(divide="ignore"):
        return np.log(np.exp(terms - shift).sum(0)) + shift


def score(name: str, elpd: np.ndarray, weight: np.ndarray, total: float) -> dict[str, float]:
    """Return the total of a score over all data, and its standard error, as a dict. The keys are `name` and `name`_se.

    `elpd` (R,) holds the score of each row.
    """
    mean = np.average(elpd, weights=weight)
    sd = math.sqrt(np.average((elpd - mean) ** 2, weights=weight)) if np.isfinite(mean) else math.nan
    return {name: float(total * mean), f"{name}_se": float(total * sd / math.sqrt(weight.sum()))}


def assign_folds(rng: np.random.Generator, num_rows: int, num_folds: int) -> np.ndarray:
    """Return the fold (N,) of each row. Folds are assigned at random, with sizes as equal as possible."""
    return rng.permutation(np.arange(num_rows) % num_folds)


def without_folds(dtype: DTypeLike, weight: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """Return weights (F, N) of the data for F fits. In row f, the data of fold f have weight 0, so they are left out."""
    return np.where(folds == np.arange(folds.max() + 1)[:, None], 0, weight).astype(dtype)


@jax.jit
def refit(mixture: Mixture, x: Data, prior: MixturePrior | None, weights: jax.Array) -> jax.Array:
    """Return the log densities (F, N) of all data under F fits, one for each row of `weights` (F, N).

    Each fit starts from `mixture`, the EM solution for all data.
    """

    def fit_with(weight: jax.Array) -> Mixture:
        rows, sample_weight = with_weights(x, weight)
        return fit(mixture, rows, prior, sample_weight=sample_weight).mixture

    return log_prob(jax.vmap(fit_with)(weights), x)


def posterior_on_folds(
    log_likelihood: np.ndarray, weight: np.ndarray, folds: np.ndarray, log_ratio: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the log predictive density (N,) of each row given the other folds, and k-hat (F,) of each fold.

    Args:
        log_likelihood: (M, N), log density of each row under each draw, in nats.
        weight: (N,), weights of the rows.
        folds: (N,), the fold of each row, from 0 to F - 1.
        log_ratio: (M,), log posterior density minus log density of the distribution of the draws; None: the draws are from the
            posterior.
    """
    member = (folds[:, None] == np.arange(folds.max() + 1)) * weight[:, None]  # (N, F)
    ratios = -np.where(weight > 0, log_likelihood, 0) @ member
    log_weights, khat = psis(ratios + (0.0 if log_ratio is None else np.asarray(log_ratio, float)[:, None]))
    return log_mean(log_likelihood, log_weights[:, folds]), khat
