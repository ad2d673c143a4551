"""How far draws can be trusted: R-hat, effective sample sizes, Monte Carlo errors, E-BFMI, Pareto k-hat.

In NumPy, on the host (what samplers judge themselves by: in JAX): arrays are (C, S, ...), chains and draws in front; what
follows is worked through at once.

Vehtari, Gelman, Simpson, Carpenter & Burkner (2021), Bayesian Analysis 16:667; Betancourt (2016), arXiv:1604.00695;
Vehtari, Simpson, Gelman, Yao & Gabry (2024), JMLR 25:1; Zhang & Stephens (2009), Technometrics 51:316.
"""

from __future__ import annotations

import math
from typing import Any

import jax.numpy as jnp
import numpy as np
from scipy.special import ndtri
from scipy.stats import rankdata


def rhat(draws: Any) -> np.ndarray:
    """Rank-normalised split R-hat, the larger of bulk and folded. Vehtari et al. (2021), section 4.

    Args:
        draws: (C, S, ...), S >= 4.

    Returns:
        (...): near 1 where chains agree, under 1.01 is good. NaN where draws are not finite or all the same; huge or infinite
        where each chain stands still at a place of its own.

    Example:
        >>> import numpy as np
        >>> from jaxgmm.posterior.diagnostics import rhat
        >>> bool(rhat(np.random.default_rng(0).normal(size=(4, 500))) < 1.02)
        True
    """
    halves = _split(_as_draws(draws))
    folded = abs(halves - np.median(halves, axis=(0, 1)))
    return np.maximum(_plain_rhat(_rank_normalise(halves)), _plain_rhat(_rank_normalise(folded)))


def ess_bulk(draws: Any) -> np.ndarray:
    """Effective sample size of rank-normalised draws: how well the centre is known. Vehtari et al. (2021), section 4.

    Args:
        draws: (C, S, ...), S >= 4.

    Returns:
        (...), in draws; at least 100 a chain is good. NaN where draws are not finite or all the same.

    Example:
        >>> import numpy as np
        >>> from jaxgmm.posterior.diagnostics import ess_bulk
        >>> bool(1500 < ess_bulk(np.random.default_rng(0).normal(size=(4, 500))) < 2500)
        True
    """
    return _ess(_rank_normalise(_split(_as_draws(draws))))


def ess_tail(draws: Any, *, prob: float = 0.9) -> np.ndarray:
    """Effective sample size of the tails: the smaller of those of two quantiles. Vehtari et al. (2021), section 4.3.

    Args:
        draws: (C, S, ...), S >= 4.
        prob: mass between the two quantiles.

    Returns:
        (...), in draws. NaN where draws are not finite or all the same.

    Example:
        >>> import numpy as np
        >>> from jaxgmm.posterior.diagnostics import ess_tail
        >>> bool(ess_tail(np.random.default_rng(0).normal(size=(4, 500))) > 1000)
        True
    """
    draws = _as_draws(draws)
    low, high = np.quantile(draws, [(1 - prob) / 2, (1 + prob) / 2], axis=(0, 1))
    return np.minimum(*(_keep_nan(_ess(_split((draws <= q).astype(float))), draws) for q in (low, high)))


def ess_mean(draws: Any) -> np.ndarray:
    """Effective sample size for the mean, without ranks: (C, S, ...) -> (...). Vehtari et al. (2021), eq. 10 to 13."""
    return _ess(_split(_as_draws(draws)))


def mcse_mean(draws: Any) -> np.ndarray:
    """Monte Carlo standard error of the posterior mean: (C, S, ...) -> (...), in the units of the draws."""
    draws = _as_draws(draws)
    return draws.std((0, 1), ddof=1) / np.sqrt(ess_mean(draws))


def mcse_sd(draws: Any) -> np.ndarray:
    """Monte Carlo standard error of the posterior standard deviation: (C, S, ...) -> (...), in the units of the draws.

    By the delta method from the variance of squared deviations, each on its own effective sample size.
    """
    draws = _as_draws(draws)
    squares = (draws - draws.mean((0, 1))) ** 2
    variance = squares.mean((0, 1))
    spread = (squares**2).mean((0, 1)) - variance**2
    return np.sqrt(spread / ess_mean(squares) / (4 * np.where(variance > 0, variance, np.nan)))


def mcse_quantile(draws: Any, prob: float) -> np.ndarray:
    """Monte Carlo standard error of a posterior quantile: (C, S, ...) -> (...). Vehtari et al. (2021), section 4.4."""
    from scipy.stats import beta

    draws = _as_draws(draws)
    quantile = np.quantile(draws, prob, axis=(0, 1))
    ess = _ess(_split((draws <= quantile).astype(float)))
    size = draws.shape[0] * draws.shape[1]
    ordered = np.sort(draws.reshape(size, *draws.shape[2:]), axis=0)
    edges = [beta.ppf(p, ess * prob + 1, ess * (1 - prob) + 1) for p in (0.1586553, 0.8413447)]
    low = np.clip(np.floor(np.nan_to_num(edges[0]) * size) - 1, 0, size - 1).astype(int)
    high = np.clip(np.ceil(np.nan_to_num(edges[1]) * size) - 1, 0, size - 1).astype(int)
    width = np.take_along_axis(ordered, high[None], 0)[0] - np.take_along_axis(ordered, low[None], 0)[0]
    return np.where(np.isfinite(ess), width / 2, np.nan)


def e_bfmi(energy: Any) -> np.ndarray:
    """Energy Bayesian fraction of missing information, a chain each; under 0.3 is poor. Betancourt (2016), section 5.

    Args:
        energy: (C, S), the Hamiltonian at each draw, as in a NUTS posterior's `stats["energy"]`.

    Returns:
        (C,).

    Example:
        >>> import numpy as np
        >>> from jaxgmm.posterior.diagnostics import e_bfmi
        >>> e_bfmi(np.random.default_rng(0).normal(size=(4, 500))).shape
        (4,)
    """
    energy = np.asarray(energy, float)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (np.diff(energy, axis=1) ** 2).sum(1) / ((energy - energy.mean(1, keepdims=True)) ** 2).sum(1)


def pareto_k(log_ratios: Any, *, xp: Any = np) -> Any:
    """k-hat: the shape of the generalised Pareto distribution of the largest importance ratios. Vehtari et al. (2024).

    Under 0.7 importance sampling from the proposal works, and the proposal is near the target; it cannot see a mode that no
    proposal covers. Fitted by Zhang & Stephens (2009), with the weak prior of Vehtari et al. (2024), appendix G.

    Args:
        log_ratios: (M,), log target minus log proposal at M draws from the proposal, up to a constant.
        xp: numpy, or jax.numpy inside jit.

    Returns:
        (). Infinite where a ratio is NaN or plus infinity, or all are zero.

    Example:
        >>> import numpy as np
        >>> from jaxgmm.posterior.diagnostics import pareto_k
        >>> ratios = 0.5 * np.random.default_rng(0).exponential(size=2000)  # Pareto of shape 0.5
        >>> bool(0.3 < pareto_k(ratios) < 0.7)
        True
    """
    log_ratios = xp.asarray(log_ratios)
    m = log_ratios.shape[0]
    tail = math.ceil(min(0.2 * m, 3 * math.sqrt(m)))
    if tail < 5:
        return xp.asarray(math.inf)
    usable = ~xp.isnan(log_ratios).any() & (log_ratios.max() < xp.inf) & (log_ratios.max() > -xp.inf)
    ordered = xp.sort(xp.where(usable, log_ratios, 0.0))
    shifted = xp.exp(xp.maximum(ordered[m - tail - 1 :] - ordered[-1], math.log(float(np.finfo(np.float32).tiny))))
    exceedances = shifted[1:] - shifted[0]
    constant = exceedances[-1] <= 0  # ratios all the same: as good as a proposal can be
    exceedances = xp.where(constant, xp.arange(1, tail + 1) / tail, xp.maximum(exceedances, 1e-12))
    return xp.where(usable, xp.where(constant, 0.0, _pareto_shape(exceedances, xp)[0]), xp.inf)


def psis(log_ratios: Any) -> tuple[np.ndarray, np.ndarray]:
    """Pareto-smoothed importance weights: the largest ratios replaced by quantiles of their Pareto fit. Vehtari et al. (2024).

    Args:
        log_ratios: (M, ...), log target minus log proposal at M draws from the proposal, up to a constant; minus infinity
            counts for nothing.

    Returns:
        log weights (M, ...), normalised over the draws, and k-hat (...): over 0.7 they cannot be trusted. k-hat is infinite, and
        the ratios are as they came, where there are fewer than 25 draws.

    Example:
        >>> import numpy as np
        >>> from jaxgmm.posterior.diagnostics import psis
        >>> log_weights, khat = psis(0.5 * np.random.default_rng(0).exponential(size=(2000, 3)))
        >>> bool((abs(khat - 0.5) < 0.2).all()), np.exp(log_weights).sum(0).round(6).tolist()
        (True, [1.0, 1.0, 1.0])
    """
    log_ratios = np.asarray(log_ratios, float)
    ratios = log_ratios.reshape(len(log_ratios), -1)
    top = ratios.max(0)
    ratios = np.maximum(ratios - np.where(np.isfinite(top), top, 0), math.log(float(np.finfo(float).tiny)))
    m, khat = len(ratios), np.full(ratios.shape[1], np.inf)
    tail = math.ceil(min(0.2 * m, 3 * math.sqrt(m)))
    if tail >= 5:
        order = np.argsort(ratios, axis=0)
        largest = np.take_along_axis(ratios, order[m - tail - 1 :], 0)
        cut = np.exp(largest[0])
        exceedances = np.exp(largest[1:]) - cut
        varied = exceedances[-1] > 0
        safe = np.maximum(np.where(varied, exceedances, np.arange(1, tail + 1)[:, None] / tail), 1e-12)
        k, sigma = _pareto_shape(safe, np)
        places = (np.arange(1, tail + 1)[:, None] - 0.5) / tail
        smooth = np.log(cut + np.expm1(-k * np.log1p(-places)) * sigma / k)
        np.put_along_axis(ratios, order[m - tail :], np.where(varied, np.minimum(smooth, 0), largest[1:]), 0)
        khat = np.where(varied, k, 0.0)
    shift = ratios.max(0)
    log_weights = ratios - shift - np.log(np.exp(ratios - shift).sum(0))
    return log_weights.reshape(log_ratios.shape), khat.reshape(log_ratios.shape[1:])


def _pareto_shape(x: Any, xp: Any) -> tuple[Any, Any]:
    """k-hat and sigma of exceedances (n, ...), ascending.

    Zhang & Stephens (2009), section 4: a posterior mean of theta = -k / sigma over a data-driven grid.
    """
    n = x.shape[0]
    size = 30 + int(math.sqrt(n))
    places = xp.arange(1, size + 1).reshape(-1, *[1] * (x.ndim - 1))
    grid = (1 - xp.sqrt(size / (places - 0.5))) / (3 * x[int(n / 4 + 0.5) - 1]) + 1 / x[-1]
    grid = xp.where(grid == 0, 1e-12, grid)
    shape = xp.log1p(-grid[:, None] * x).mean(1)
    profile = n * (xp.log(-grid / shape) - shape - 1)
    weight = xp.exp(profile - profile.max(0))
    theta = (grid * weight).sum(0) / weight.sum(0)
    k = xp.log1p(-theta * x).mean(0)
    return (n * k + 5) / (n + 10), -k / theta


def rhat_limit(num_samples: int) -> float:
    """What R-hat of good chains stays under; over few draws it varies too."""
    return 1.05 + 10 / num_samples


def split_rhat(draws: Any) -> Any:
    """Split R-hat without ranks, in JAX, (..., C, S) -> (...): Gelman et al. (2013), eq. 11.4. 1 where there are too few draws."""
    half = draws.shape[-1] // 2
    if half < 2:
        return jnp.ones(draws.shape[:-2], draws.dtype)
    halves = jnp.concatenate([draws[..., :half], draws[..., -half:]], -2)
    within, between = halves.var(-1, ddof=1).mean(-1), halves.mean(-1).var(-1, ddof=1)
    return jnp.where(within + between > 0, jnp.sqrt((half - 1) / half + between / within), 1)


def _as_draws(draws: Any) -> np.ndarray:
    draws = np.asarray(draws, float)
    if draws.ndim < 2 or draws.shape[1] < 4:
        raise ValueError(
            f"draws has shape {draws.shape}; (C, S, ...) with at least 4 draws a chain was expected: draws[None] for one chain."
        )
    return draws


def _split(draws: np.ndarray) -> np.ndarray:
    """Each chain as two: (C, S, ...) -> (2 C, S // 2, ...); an odd draw in the middle is left out."""
    half = draws.shape[1] // 2
    return np.concatenate([draws[:, :half], draws[:, -half:]])


def _rank_normalise(draws: np.ndarray) -> np.ndarray:
    """Normal scores of the ranks over all chains, Vehtari et al. (2021), eq. 14; NaN stays."""
    size = draws.shape[0] * draws.shape[1]
    ranks = rankdata(draws.reshape(size, -1), axis=0).reshape(draws.shape)
    return _keep_nan(ndtri((ranks - 0.375) / (size + 0.25)), draws)


def _keep_nan(values: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """values, NaN where any draw of that quantity is not finite or all are the same."""
    bad = ~np.isfinite(draws).all((0, 1)) | (draws == draws[:1, :1]).all((0, 1))
    return np.where(bad, np.nan, values)


def _plain_rhat(draws: np.ndarray) -> np.ndarray:
    """Vehtari et al. (2021), eq. 1 to 4."""
    n = draws.shape[1]
    within = draws.var(1, ddof=1).mean(0)
    between = draws.mean(1).var(0, ddof=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.sqrt((n - 1) / n + between / within)


def _ess(draws: np.ndarray) -> np.ndarray:
    """Effective sample size by Geyer's initial monotone sequence over all chains. Vehtari et al. (2021), eq. 10 to 13."""
    c, s = draws.shape[:2]
    flat = draws.reshape(c, s, -1)
    bad = ~np.isfinite(flat).all((0, 1)) | (flat == flat[:1, :1]).all((0, 1))
    flat = np.where(bad, np.arange(s)[:, None] % 2, flat)
    covariances = _autocovariances(flat).mean(0)  # (S, Q)
    within = covariances[0] * s / (s - 1)
    total = covariances[0] + (flat.mean(1).var(0, ddof=1) if c > 1 else 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        rho = 1 - (within - covariances) / total
    rho[0] = 1
    pairs = rho[: s // 2 * 2].reshape(s // 2, 2, -1).sum(1)[: max(1, (s - 1) // 2)]
    alive = np.logical_and.accumulate(pairs > 0, axis=0)
    alive[-1] = False  # never the last pair: there is none after it to say that the sum has come to its end
    alive[0] = True
    falling = np.minimum.accumulate(np.where(alive, pairs, np.inf), axis=0)
    time = -1 + 2 * np.where(alive, falling, 0).sum(0)
    # the first pair that fell below zero may still hold a positive even lag
    end = np.minimum(alive.sum(0), len(pairs) - 1)
    even = np.take_along_axis(rho[0::2], end[None], 0)[0]
    time += np.where(alive.all(0), 0, np.maximum(even, 0))
    time = np.maximum(time, 1 / math.log10(c * s))
    return np.where(bad, np.nan, c * s / time).reshape(draws.shape[2:])


def _autocovariances(draws: np.ndarray) -> np.ndarray:
    """(C, S, Q) -> (C, S, Q), lags in the second axis, divided by S; by fast Fourier transforms."""
    from scipy.fft import irfft, next_fast_len, rfft

    s = draws.shape[1]
    size = next_fast_len(2 * s, real=True)
    spectrum = rfft(draws - draws.mean(1, keepdims=True), size, axis=1)
    return irfft(spectrum * spectrum.conj(), size, axis=1)[:, :s] / s
