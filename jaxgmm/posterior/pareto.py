"""The tails of importance ratios: Pareto k-hat, Pareto-smoothed importance weights and effective numbers of draws.

`pareto_k` also works in JAX, because the samplers call it inside jit to set their status. ArviZ provides k-hat and smoothed
weights too. They are implemented here because ArviZ is a large, optional dependency. The tests compare the results with
ArviZ's.

A generalised Pareto distribution is fitted to the amounts by which the largest ratios exceed a cutoff. The fit uses the
logarithms of these amounts, because the amounts themselves overflow or underflow in float32 and at times in float64.

Vehtari, Simpson, Gelman, Yao & Gabry (2024), JMLR 25:1; Zhang & Stephens (2009), Technometrics 51:316.
"""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any, NamedTuple, TypeAlias

import jax
import numpy as np
from numpy.typing import ArrayLike

from ..linalg import Arrays

MAX_KHAT = 0.7  # upper limit of k-hat for reliable averages, for any number of ratios: Vehtari et al. (2024)
_FEWEST_EFFECTIVE = 10  # smallest effective number of draws with which an average over the draws can be trusted
_FEWEST = 5  # smallest number of ratios above the cutoff to which a distribution can be fitted
_LOWEST = math.log(float(np.finfo(np.float64).tiny))  # smallest value of log(cutoff / largest ratio), as in ArviZ
_FAR = 60.0  # for t above this number, log1p(a e^t) is computed as log1p(a e^60) + t - 60, so that e^t does not overflow
_NEGLIGIBLE = 10 * float(np.finfo(np.float64).eps)  # smallest weight of a grid point that is used in the fit, as in ArviZ

Array: TypeAlias = jax.Array | np.ndarray


class _Tail(NamedTuple):
    """The largest of M ratios, for Q quantities, and the distribution that is fitted to them.

    Attributes:
        above: (T, Q), whether each of the T largest ratios, in ascending order, is above the cutoff.
        num_above: (Q,), number of ratios above the cutoff.
        log_cut: (Q,), the cutoff relative to the largest ratio, as a logarithm.
        khat: (Q,), the shape of the distribution, infinite if too few ratios are above the cutoff.
        log_sigma: (Q,), the logarithm of the distribution's scale.
    """

    above: Array
    num_above: Array
    log_cut: Array
    khat: Array
    log_sigma: Array


def khat_limit(num_ratios: int) -> float:
    """Return the upper limit for Pareto k-hat estimated from `num_ratios` importance ratios: Vehtari et al. (2024), eq. 11.

    Example:
        >>> round(khat_limit(100), 2), khat_limit(10**6)
        (0.5, 0.7)
    """
    return min(MAX_KHAT, 1 - 1 / math.log10(max(num_ratios, 11)))


def effective_number(log_ratios: Arrays, *, xp: ModuleType = np) -> Arrays:
    """Return the effective number of M weighted draws, (sum of ratios)^2 / sum of squared ratios: (M, ...) -> (...).

    Args:
        log_ratios: (M, ...), logarithms of the ratios, up to a constant.
        xp: the module numpy, or jax.numpy inside jit.

    Returns:
        (...), between 1 and M; 0 if a ratio is NaN or infinite, or if all ratios are zero.

    Example:
        >>> import numpy as np
        >>> float(effective_number(np.array([0.0, 0.0, 0.0, -np.inf])))
        3.0
    """
    log_ratios = xp.asarray(log_ratios)
    usable = _is_usable(log_ratios, xp)
    relative = xp.exp(xp.where(usable, log_ratios - xp.where(usable, log_ratios.max(0), 0), 0))
    return xp.where(usable, relative.sum(0) ** 2 / (relative**2).sum(0), 0)


def honest_khat(log_ratios: Arrays, *, xp: ModuleType = np) -> Arrays:
    """Return `pareto_k` of ratios (M,), or infinity if k-hat is small although the effective number of draws is below 10.

    k-hat describes all of the largest ratios together. It can therefore be small even if one ratio exceeds the sum of all
    others.
    """
    khat = pareto_k(log_ratios, xp=xp)
    hopeless = (khat < MAX_KHAT) & (effective_number(log_ratios, xp=xp) < _FEWEST_EFFECTIVE)
    return xp.where(hopeless, xp.inf, khat)


def pareto_k(log_ratios: Arrays, *, xp: ModuleType = np) -> Any:
    """Return k-hat, the shape of a generalised Pareto distribution fitted to the largest ratios. Vehtari et al. (2024).

    If k-hat is below 0.7, importance sampling from the proposal is reliable, and the proposal is close to the target, unless
    very few ratios dominate (`effective_number`). k-hat cannot notice a mode that the proposal does not cover. The distribution
    is fitted by the method of Zhang & Stephens (2009), with the weak prior of Vehtari et al. (2024), appendix G.

    Args:
        log_ratios: (M,), log target minus log proposal at M draws from the proposal, up to a constant.
        xp: the module numpy, or jax.numpy inside jit.

    Returns:
        k-hat, (). It is 0 if all ratios are positive and equal up to rounding, as for a perfect proposal. It is infinite if at
        most four ratios are above the cutoff, if a ratio is NaN or infinite, or if all ratios are zero.

    Example:
        >>> import numpy as np
        >>> from jaxgmm.posterior.pareto import pareto_k
        >>> ratios = 0.5 * np.random.default_rng(0).exponential(size=2000)  # Pareto of shape 0.5
        >>> bool(0.3 < pareto_k(ratios) < 0.7)
        True
    """
    log_ratios = xp.asarray(log_ratios)[:, None]
    usable = _is_usable(log_ratios, xp)
    relative = xp.where(usable, log_ratios - xp.where(usable, log_ratios.max(0), 0), 0)
    size = _tail_size(len(log_ratios))
    if size < _FEWEST:
        return xp.asarray(math.inf)
    with np.errstate(all="ignore"):  # where no distribution can be fitted, numbers may overflow, but they are not used
        return _khat(log_ratios, usable, _fit_tail(xp.sort(relative, 0)[-size - 1 :], xp), xp)[0]


def psis(log_ratios: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return Pareto-smoothed importance weights, as logarithms, and k-hat. Vehtari et al. (2024), algorithm 1.

    Smoothing replaces the largest ratios by quantiles of a generalised Pareto distribution that is fitted to them.

    Args:
        log_ratios: (M, ...), log target minus log proposal at M draws from the proposal, up to a constant. Minus infinity means
            a ratio of 0. Infinity means a ratio so large that all finite ratios are negligible.

    Returns:
        Log weights (M, ...), normalised over the draws, and k-hat (...), as `pareto_k` returns it. If k-hat is above 0.7, the
        weights cannot be trusted. If k-hat is infinite, as for fewer than 21 draws, the ratios are not smoothed. If all ratios
        are 0, the weights are equal. If a ratio is NaN, the weights are NaN.

    Example:
        >>> import numpy as np
        >>> from jaxgmm.posterior.pareto import psis
        >>> log_weights, khat = psis(0.5 * np.random.default_rng(0).exponential(size=(2000, 3)))
        >>> bool((abs(khat - 0.5) < 0.2).all()), np.exp(log_weights).sum(0).round(6).tolist()
        (True, [1.0, 1.0, 1.0])
    """
    log_ratios = np.asarray(log_ratios, float)
    ratios = log_ratios.reshape(len(log_ratios), -1)
    usable, top = _is_usable(ratios, np), ratios.max(0)
    infinite = np.isinf(top)  # the largest ratio is 0 or infinite; all ratios equal to the largest then get equal weights
    relative = np.where(infinite, np.where(ratios == top, 0, -np.inf), ratios - np.where(infinite, 0, top))
    size, khat = _tail_size(len(ratios)), np.full(ratios.shape[1], np.inf)
    if size >= _FEWEST:
        order = np.argpartition(relative, -size - 1, axis=0)[-size - 1 :]
        order = np.take_along_axis(order, np.argsort(np.take_along_axis(relative, order, 0), axis=0), 0)
        largest = np.take_along_axis(relative, order, 0)
        with np.errstate(all="ignore"):  # where no distribution can be fitted, numbers may overflow, but they are not used
            tail = _fit_tail(np.where(usable, largest, 0), np)
            np.put_along_axis(relative, order[1:], np.where(usable, _smooth(largest[1:], tail), largest[1:]), 0)
            khat = _khat(ratios, usable, tail, np)
    shift = relative.max(0)
    log_weights = relative - shift - np.log(np.exp(relative - shift).sum(0))
    return log_weights.reshape(log_ratios.shape), khat.reshape(log_ratios.shape[1:])


def _is_usable(log_ratios: Arrays, xp: ModuleType) -> Arrays:
    """Return whether no ratio (M, ...) is NaN or infinite and at least one is positive, (...)."""
    top = log_ratios.max(0)  # NaN if a ratio is NaN
    return (top < xp.inf) & (top > -xp.inf)


def _tail_size(count: int) -> int:
    """Return the number of ratios above the cutoff among `count` ratios, no two of which are equal."""
    return math.ceil(min(0.2 * count, 3 * math.sqrt(count)))


def _khat(log_ratios: Arrays, usable: Arrays, tail: _Tail, xp: ModuleType) -> Arrays:
    """Return k-hat (Q,) of log ratios (M, Q). `usable` (Q,) is the result of `_is_usable`, and `tail` that of `_fit_tail`."""
    top, bottom = xp.where(usable, log_ratios.max(0), 0), xp.where(usable, log_ratios.min(0), -xp.inf)
    equal = top - bottom <= math.sqrt(float(np.finfo(log_ratios.dtype).eps)) * xp.maximum(1, abs(top))
    return xp.where(usable, xp.where(equal, 0, tail.khat), xp.inf)


def _fit_tail(largest: Array, xp: ModuleType) -> _Tail:
    """Fit a generalised Pareto distribution with shape k and scale sigma to the largest ratios.

    The argument `largest` (1 + T, Q) holds logarithms of ratios in ascending order. They are relative to the largest ratio, so
    the last one is 0. The first one is the cutoff. The distribution is fitted to the differences between the cutoff and the
    ratios above it. The method is that of Zhang & Stephens (2009), section 4: the posterior mean of theta = -k / sigma is
    computed on a grid that depends on the data, and k-hat and sigma are computed from this mean. In the code, x are the
    differences, divided by their first quartile.
    """
    size = len(largest) - 1
    log_cut = xp.maximum(largest[0], _LOWEST)
    above = largest[1:] > log_cut
    count = above.sum(0)
    gap = xp.where(above, largest[1:] - log_cut, 1)
    log_x = xp.where(above, log_cut + gap + xp.log(-xp.expm1(-gap)), -xp.inf)
    place = xp.clip(size - count + (count + 2) // 4 - 1, 0, size - 1)
    log_quartile = xp.take_along_axis(log_x, place[None], 0)[0]
    log_x = log_x - xp.where(count > 0, log_quartile, 0)
    x, beyond = xp.exp(xp.minimum(log_x, _FAR)), xp.maximum(log_x - _FAR, 0).sum(0)
    divisor = xp.maximum(count, 1)

    def shape(theta: Array) -> Array:  # (..., Q) -> (..., Q)
        return (xp.log1p(-theta[..., None, :] * x).sum(-2) + beyond) / divisor

    # The number of grid points is 30 + floor(sqrt(count)). A table of integer square roots avoids rounding errors.
    steps = xp.asarray(30 + np.array([math.isqrt(n) for n in range(size + 1)]))[count]
    places = xp.arange(1, 31 + math.isqrt(size))[:, None]
    used = places <= steps
    theta = (1 - xp.sqrt(steps / (places - 0.5))) / 3 + xp.exp(-xp.maximum(log_x[-1], 0))
    theta = xp.where(used, theta, -1)
    theta = xp.where(theta == 0, -1e-12, theta)
    k = shape(theta)
    profile = xp.where(used, divisor * (xp.log(-theta / k) - k - 1), -xp.inf)
    weight = xp.exp(profile - profile.max(0))
    weight = weight / weight.sum(0)
    weight = xp.where(weight >= _NEGLIGIBLE, weight, 0)
    theta = (theta * weight).sum(0) / weight.sum(0)
    k = shape(theta)
    enough = count >= _FEWEST
    log_sigma = xp.log(-k / theta) + log_quartile
    return _Tail(above, count, log_cut, xp.where(enough, (count * k + 5) / (count + 10), xp.inf), log_sigma)


def _smooth(largest: np.ndarray, tail: _Tail) -> np.ndarray:
    """Replace log ratios (T, Q) above the cutoff by quantiles of the fitted distribution, limited to the largest log ratio."""
    size = len(largest)
    rank = np.arange(size)[:, None] - (size - tail.num_above) + 0.5
    places = np.clip(rank, 0.5, None) / np.maximum(tail.num_above, 1)
    fitted = np.isfinite(tail.khat) & np.isfinite(tail.log_sigma)
    k = np.where(fitted & (tail.khat != 0), tail.khat, 1)
    log_quantile = np.log(np.expm1(-k * np.log1p(-np.minimum(places, 1 - 0.5 / size))) / k)
    smooth = np.minimum(np.logaddexp(tail.log_cut, log_quantile + np.where(fitted, tail.log_sigma, 0)), 0)
    return np.where(tail.above & fitted, smooth, largest)
