"""Diagnostics of draws: R-hat, effective sample sizes, Monte Carlo errors, E-BFMI.

Draws have shape (C, S, ...): C chains and S draws per chain. Additional axes hold different quantities, which are processed
together. The computations use NumPy on the host. Only `split_rhat` uses JAX, because it is called inside jit. The module
`mixing` has the diagnostics that set the status of a sampler. ArviZ provides most of these functions too. They are implemented
here because ArviZ is a large, optional dependency. The tests compare the results with ArviZ's results.

Vehtari, Gelman, Simpson, Carpenter & Burkner (2021), Bayesian Analysis 16:667; Betancourt (2016), arXiv:1604.00695.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtri

from ..spread import is_constant


def rhat(draws: ArrayLike) -> np.ndarray:
    """Return rank-normalised split R-hat, which is the larger of two values.

    The first value is computed from the draws. The second is computed from the folded draws, which are the distances of the
    draws from their median.

    Vehtari et al. (2021), section 4.

    Args:
        draws: (C, S, ...), S >= 4.

    Returns:
        (...). Values are near 1 if the chains agree; values below 1.01 are good. The values are NaN where draws are not finite
        or all draws are equal up to rounding, and very large or infinite where each chain is constant but the chains differ.

    Example:
        >>> import numpy as np
        >>> from jaxgmm.posterior.diagnostics import rhat
        >>> bool(rhat(np.random.default_rng(0).normal(size=(4, 500))) < 1.02)
        True
    """
    halves = _split(_as_draws(draws))
    folded = abs(halves - np.median(halves, axis=(0, 1)))
    return np.maximum(_rhat_of_chains(_rank_normalise(halves)), _rhat_of_chains(_rank_normalise(folded)))


def ess_bulk(draws: ArrayLike) -> np.ndarray:
    """Return the effective sample size of the rank-normalised draws (bulk), which describes the centre of the distribution.

    Vehtari et al. (2021), section 4.

    Args:
        draws: (C, S, ...), S >= 4.

    Returns:
        (...), a number of draws; at least 100 per chain is good. It is NaN where draws are not finite or all draws are equal up
        to rounding.

    Example:
        >>> import numpy as np
        >>> from jaxgmm.posterior.diagnostics import ess_bulk
        >>> bool(1500 < ess_bulk(np.random.default_rng(0).normal(size=(4, 500))) < 2500)
        True
    """
    return _ess(_rank_normalise(_split(_as_draws(draws))))


def ess_tail(draws: ArrayLike, *, prob: float = 0.9) -> np.ndarray:
    """Return the tail effective sample size: the smaller of the effective sample sizes for a low and a high quantile.

    Vehtari et al. (2021), section 4.3.

    Args:
        draws: (C, S, ...), S >= 4.
        prob: probability between the two quantiles.

    Returns:
        (...), a number of draws. It is NaN where draws are not finite or all draws are equal up to rounding.

    Example:
        >>> import numpy as np
        >>> from jaxgmm.posterior.diagnostics import ess_tail
        >>> bool(ess_tail(np.random.default_rng(0).normal(size=(4, 500))) > 1000)
        True
    """
    draws = _as_draws(draws)
    low, high = np.quantile(draws, [(1 - prob) / 2, (1 + prob) / 2], axis=(0, 1))
    return np.minimum(*(_ess(_split(_at_most(draws, quantile))) for quantile in (low, high)))


def ess_mean(draws: ArrayLike) -> np.ndarray:
    """Return the effective sample size for estimating the mean, without rank normalisation: (C, S, ...) -> (...).

    Vehtari et al. (2021), eq. 10-13.
    """
    return _ess(_split(_as_draws(draws)))


def mcse_mean(draws: ArrayLike) -> np.ndarray:
    """Return the Monte Carlo standard error of the posterior mean: (C, S, ...) -> (...), in the units of the draws."""
    draws = _as_draws(draws)
    return draws.std((0, 1), ddof=1) / np.sqrt(ess_mean(draws))


def mcse_sd(draws: ArrayLike) -> np.ndarray:
    """Return the Monte Carlo standard error of the posterior standard deviation: (C, S, ...) -> (...), in the draws' units.

    The delta method gives this error from the variance of the squared deviations and their effective sample size.
    """
    draws = _as_draws(draws)
    squares = (draws - draws.mean((0, 1))) ** 2
    variance = squares.mean((0, 1))
    variance_of_squares = (squares**2).mean((0, 1)) - variance**2
    return np.sqrt(variance_of_squares / ess_mean(squares) / (4 * np.where(variance > 0, variance, np.nan)))


def mcse_quantile(draws: ArrayLike, prob: float) -> np.ndarray:
    """Return the Monte Carlo standard error of a quantile: (C, S, ...) -> (...). Vehtari et al. (2021), section 4.4."""
    from scipy.stats import beta

    draws = _as_draws(draws)
    quantile = np.quantile(draws, prob, axis=(0, 1))
    ess = _ess(_split(_at_most(draws, quantile)))
    size = draws.shape[0] * draws.shape[1]
    ordered = np.sort(draws.reshape(size, *draws.shape[2:]), axis=0)
    edges = [beta.ppf(p, ess * prob + 1, ess * (1 - prob) + 1) for p in (0.1586553, 0.8413447)]
    low = np.clip(np.floor(np.nan_to_num(edges[0]) * size) - 1, 0, size - 1).astype(int)
    high = np.clip(np.ceil(np.nan_to_num(edges[1]) * size) - 1, 0, size - 1).astype(int)
    width = np.take_along_axis(ordered, high[None], 0)[0] - np.take_along_axis(ordered, low[None], 0)[0]
    return np.where(np.isfinite(ess), width / 2, np.nan)


def e_bfmi(energy: ArrayLike) -> np.ndarray:
    """Return the energy Bayesian fraction of missing information of each chain. Betancourt (2016), section 5.

    Args:
        energy: (C, S), the Hamiltonian at each draw, such as `stats["energy"]` of a posterior from `nuts`.

    Returns:
        (C,). Values below 0.3 are poor.

    Example:
        >>> import numpy as np
        >>> from jaxgmm.posterior.diagnostics import e_bfmi
        >>> e_bfmi(np.random.default_rng(0).normal(size=(4, 500))).shape
        (4,)
    """
    energy = np.asarray(energy, float)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (np.diff(energy, axis=1) ** 2).sum(1) / ((energy - energy.mean(1, keepdims=True)) ** 2).sum(1)


def rhat_limit(num_samples: int) -> float:
    """Return an upper limit for the R-hat of good chains. With few draws R-hat varies more, so the limit is larger."""
    return 1.05 + 10 / num_samples


def split_rhat(draws: jax.Array) -> jax.Array:
    """Return split R-hat without rank normalisation: (..., C, S) -> (...).

    Gelman et al. (2013), eq. 11.4. It is NaN where draws are not finite. It is 1 where all draws are equal up to rounding or
    where there are fewer than 4 draws per chain.
    """
    finite = jnp.isfinite(draws).all((-2, -1))
    half = draws.shape[-1] // 2
    if half < 2:
        return jnp.where(finite, jnp.ones(draws.shape[:-2], draws.dtype), jnp.nan)
    halves = jnp.concatenate([draws[..., :half], draws[..., -half:]], -2)
    within, between = halves.var(-1, ddof=1).mean(-1), halves.mean(-1).var(-1, ddof=1)
    value = jnp.where(is_constant(draws, (-2, -1), jnp), 1, jnp.sqrt((half - 1) / half + between / within))
    return jnp.where(finite, value, jnp.nan)


def _as_draws(draws: ArrayLike) -> np.ndarray:
    """Return draws as a float64 array (C, S, ...), or raise ValueError if there are fewer than 4 draws per chain.

    If a draw of a quantity is not finite, all draws of this quantity become NaN. If the draws of a quantity are equal up to
    rounding, they become exactly equal.
    """
    draws = np.asarray(draws, float)
    if draws.ndim < 2 or draws.shape[1] < 4:
        raise ValueError(
            f"draws has shape {draws.shape}; (C, S, ...) with at least 4 draws per chain was expected: use draws[None] for one "
            "chain."
        )
    finite = np.isfinite(draws).all((0, 1))
    draws = np.where(finite, draws, 0.0)
    draws = np.where(is_constant(draws, (0, 1)), draws[:1, :1], draws)
    return np.where(finite, draws, np.nan)


def _split(draws: np.ndarray) -> np.ndarray:
    """Split each chain into two halves, (C, S, ...) -> (2 C, S // 2, ...); if S is odd, the middle draw is dropped."""
    half = draws.shape[1] // 2
    return np.concatenate([draws[:, :half], draws[:, -half:]])


def _at_most(draws: np.ndarray, quantile: np.ndarray) -> np.ndarray:
    """Return 1 for each draw that is at most the quantile, 0 for all others, and NaN where diagnostics are undefined.

    The draws are (C, S, ...). The quantile has their trailing axes.
    """
    return np.where(_is_undefined(draws), np.nan, (draws <= quantile).astype(float))


def _rank_normalise(draws: np.ndarray) -> np.ndarray:
    """Replace draws by the normal scores of their ranks over all chains. Vehtari et al. (2021), eq. 14."""
    size = draws.shape[0] * draws.shape[1]
    ranks = _average_ranks(draws.reshape(size, -1)).reshape(draws.shape)
    return np.where(_is_undefined(draws), np.nan, ndtri((ranks - 0.375) / (size + 0.25)))


def _average_ranks(values: np.ndarray) -> np.ndarray:
    """Rank the values (N, Q) of each column from 1 to N; equal values share the average of their ranks.

    `scipy.stats.rankdata` does the same, but the import of scipy.stats takes more than half a second of CPU time.
    """
    ranks = np.empty(values.shape)
    for column, found in zip(values.T, ranks.T, strict=True):
        ordered = np.sort(column)
        found[:] = (np.searchsorted(ordered, column, "left") + np.searchsorted(ordered, column, "right") + 1) / 2
    return ranks


def _is_undefined(draws: np.ndarray) -> np.ndarray:
    """Return, for each quantity, whether one of its draws is not finite or all its draws are equal.

    The draws are (C, S, ...). The result has their trailing axes, one entry for each quantity.
    """
    return ~np.isfinite(draws).all((0, 1)) | (draws == draws[:1, :1]).all((0, 1))


def _rhat_of_chains(draws: np.ndarray) -> np.ndarray:
    """Return R-hat of chains (C, S, ...), without splitting or ranks. Vehtari et al. (2021), eq. 1-4."""
    n = draws.shape[1]
    within = draws.var(1, ddof=1).mean(0)
    between = draws.mean(1).var(0, ddof=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.sqrt((n - 1) / n + between / within)


def _ess(draws: np.ndarray) -> np.ndarray:
    """Return effective sample sizes by Geyer's initial monotone sequence over all chains. Vehtari et al. (2021), eq. 10-13."""
    c, s = draws.shape[:2]
    flat = draws.reshape(c, s, -1)
    undefined = _is_undefined(flat)
    flat = np.where(undefined, np.arange(s)[:, None] % 2, flat)
    covariances = _autocovariances(flat).mean(0)  # (S, Q)
    within = covariances[0] * s / (s - 1)
    total = covariances[0] + (flat.mean(1).var(0, ddof=1) if c > 1 else 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        rho = 1 - (within - covariances) / total
    rho[0] = 1
    pairs = rho[: s // 2 * 2].reshape(s // 2, 2, -1).sum(1)[: max(1, (s - 1) // 2)]
    counted = np.logical_and.accumulate(pairs > 0, axis=0)
    counted[-1] = False  # the last pair ends the sequence of counted pairs, if no earlier pair does
    counted[0] = True
    monotone = np.minimum.accumulate(np.where(counted, pairs, np.inf), axis=0)
    time = -1 + 2 * np.where(counted, monotone, 0).sum(0)
    # A pair holds the autocorrelations at an even lag and at the next lag. Of the pair that ends the sequence, only the
    # autocorrelation at the even lag is added, if it is positive.
    end = np.minimum(counted.sum(0), len(pairs) - 1)
    even = np.take_along_axis(rho[0::2], end[None], 0)[0]
    time += np.where(counted.all(0), 0, np.maximum(even, 0))
    time = np.maximum(time, 1 / math.log10(c * s))
    return np.where(undefined, np.nan, c * s / time).reshape(draws.shape[2:])


def _autocovariances(draws: np.ndarray) -> np.ndarray:
    """Compute autocovariances of draws (C, S, Q), with divisor S, by fast Fourier transforms. The second axis is the lag."""
    from scipy.fft import irfft, next_fast_len, rfft

    s = draws.shape[1]
    size = next_fast_len(2 * s, real=True)
    spectrum = np.asarray(rfft(draws - draws.mean(1, keepdims=True), size, axis=1))
    return np.asarray(irfft(spectrum * spectrum.conj(), size, axis=1))[:, :s] / s
