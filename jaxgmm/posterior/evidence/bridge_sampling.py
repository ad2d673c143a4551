"""Bridge sampling: the ratio of two normalising constants from draws of both distributions. Meng & Wong (1996).

Let q be a normalised density and p an unnormalised density with the integral r. With l = log(p / q), the estimate solves

    r = mean_q[p / (s1 p + s2 r q)] / mean_p[q / (s1 p + s2 r q)]

where s1 and s2 are the shares of the effective numbers of draws from p and from q. Meng & Wong (1996), Statistica Sinica 6:831,
show that the mean squared error is then smallest. The standard error is that of Fruehwirth-Schnatter (2004), Econometrics
Journal 7:143. In contrast to importance sampling, the estimate counts parts of p that q misses, if the draws from p visit them.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.nn import logsumexp, sigmoid

from ..mixing import measure_mixing

_BISECTIONS = 60  # number of bisections that find log r; it is then as exact as float64 allows
_MARGIN = 40.0  # nats by which the first bracket of log r exceeds the range of the log ratios


def bridge_sampling(of_q: jax.Array, of_p: jax.Array, chain_weight: jax.Array, *, in_time: bool) -> tuple[jax.Array, jax.Array]:
    """Return an estimate of log r = log(integral of p), and its standard error; both are NaN if a log ratio of p is not finite.

    Args:
        of_q: (S,), log(p / q) at draws from q.
        of_p: (C, T), log(p / q) at draws from p in C chains, T >= 4.
        chain_weight: (C,), the weights of the chains, which sum to 1.
        in_time: whether the draws of a chain have an order in time. If not, the error is computed from the differences between
            the chains, and for a single chain from independent draws.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> z = jax.random.normal(jax.random.key(0), (2, 4000))  # q = N(0, 1), p = 5 N(0.5, 1)
        >>> of_q, of_p = (jnp.log(5) - 0.5 * (y - 0.5) ** 2 + 0.5 * y**2 for y in (z[0], z[1] + 0.5))
        >>> log_r, error = bridge_sampling(of_q, of_p.reshape(4, -1), jnp.full(4, 0.25), in_time=True)
        >>> bool(abs(log_r - jnp.log(5)) < 3 * error), bool(error < 0.02)
        (True, True)
    """
    chains, samples = of_p.shape
    center = logsumexp(of_q) - jnp.log(jnp.asarray(len(of_q), of_q.dtype))
    of_q, of_p = of_q - center, of_p - center
    ess = measure_mixing(of_p[None], in_time=in_time).ess
    effective = jnp.where(jnp.isfinite(ess), jnp.clip(ess, 1, chains * samples), chains * samples)
    share = effective / (effective + len(of_q))
    offset = jnp.log(effective / len(of_q))

    def terms(log_r: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Return the terms of both means, apart from constant factors, (S,) and (C, T)."""
        return sigmoid(offset + of_q - log_r), sigmoid(log_r - offset - of_p)

    def halve(_: int, bracket: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = bracket
        middle = 0.5 * (low + high)
        numerator, denominator = terms(middle)
        too_large = share * (chain_weight @ denominator.mean(1)) > (1 - share) * numerator.mean()
        return jnp.where(too_large, low, middle), jnp.where(too_large, middle, high)

    finite = jnp.isfinite(of_q)
    low = jnp.minimum(jnp.where(finite, of_q, 0).min(), of_p.min()) + offset - _MARGIN
    high = jnp.maximum(jnp.where(finite, of_q, 0).max(), of_p.max()) + offset + _MARGIN
    log_r = jax.lax.fori_loop(0, _BISECTIONS, halve, (low, high))[0]
    numerator, denominator = terms(log_r)
    of_numerator = numerator.var() / len(of_q) / numerator.mean() ** 2
    of_denominator = _variance_of_mean(denominator, chain_weight, effective, in_time)
    error = jnp.sqrt(of_numerator + of_denominator / (chain_weight @ denominator.mean(1)) ** 2)
    valid = jnp.isfinite(of_p).all()
    return jnp.where(valid, center + log_r, jnp.nan), jnp.where(valid, error, jnp.nan)


def _variance_of_mean(values: jax.Array, chain_weight: jax.Array, effective: jax.Array, in_time: bool) -> jax.Array:
    """Return the variance of the weighted mean of values (C, T), whose effective number is given."""
    chains, samples = values.shape
    if in_time:
        return values.var() / effective
    means = values.mean(1)
    independent = (chain_weight**2 * values.var(1)).sum() / samples
    if chains == 1:
        return independent
    between = (chain_weight**2 * (means - chain_weight @ means) ** 2).sum() * chains / (chains - 1)
    return jnp.maximum(independent, between)
