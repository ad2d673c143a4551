"""The tails of importance ratios: Pareto k-hat and Pareto-smoothed importance weights.

`pareto_k` also works in JAX, because the samplers call it inside jit to set their status. ArviZ provides both functions too.
They are implemented here because ArviZ is a large, optional dependency; the tests compare their results with ArviZ's.

Vehtari, Simpson, Gelman, Yao & Gabry (2024), JMLR 25:1; Zhang & Stephens (2009), Technometrics 51:316.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np


def pareto_k(log_ratios: Any, *, xp: Any = np) -> Any:
    """Return k-hat, the shape of a generalised Pareto distribution fitted to the largest ratios. Vehtari et al. (2024).

    If k-hat is below 0.7, importance sampling from the proposal is reliable, and the proposal is close to the target. k-hat
    cannot notice a mode that the proposal does not cover. The distribution is fitted by the method of Zhang & Stephens (2009),
    with the weak prior of Vehtari et al. (2024), appendix G.

    Args:
        log_ratios: (M,), log target minus log proposal at M draws from the proposal, up to a constant.
        xp: the module numpy, or jax.numpy inside jit.

    Returns:
        k-hat, (); infinite if a ratio is NaN or infinite, or if all ratios are zero.

    Example:
        >>> import numpy as np
        >>> from jaxgmm.posterior.pareto import pareto_k
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
    constant = exceedances[-1] <= 0  # all of the largest ratios are equal, as for a perfect proposal
    exceedances = xp.where(constant, xp.arange(1, tail + 1) / tail, xp.maximum(exceedances, 1e-12))
    return xp.where(usable, xp.where(constant, 0.0, _pareto_shape(exceedances, xp)[0]), xp.inf)


def psis(log_ratios: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return Pareto-smoothed importance weights, as logarithms, and k-hat. Vehtari et al. (2024), algorithm 1.

    Smoothing replaces the largest ratios by quantiles of a generalised Pareto distribution that is fitted to them.

    Args:
        log_ratios: (M, ...), log target minus log proposal at M draws from the proposal, up to a constant; minus infinity
            stands for a ratio of 0.

    Returns:
        Log weights (M, ...), normalised over the draws, and k-hat (...). If k-hat is above 0.7, the weights cannot be trusted.
        With fewer than 25 draws, k-hat is infinite and the ratios are not smoothed.

    Example:
        >>> import numpy as np
        >>> from jaxgmm.posterior.pareto import psis
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
    """Fit a generalised Pareto distribution to ascending exceedances (n, ...); return k-hat and sigma.

    The method is that of Zhang & Stephens (2009), section 4: k-hat and sigma follow from the posterior mean of
    theta = -k / sigma over a grid that depends on the data.
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
