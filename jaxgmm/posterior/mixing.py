"""The rule that says whether chains have mixed. It sets the status of every sampler with chains, inside jit and outside.

The rule is applied to label-invariant quantities: the log density, the sorted weights, and, for each feature, the sorted means
and the sorted variances of the components. These quantities do not depend on the order of the components, so label switching
does not count as a failure. After `relabel`, the rule is also applied to the parameters, if labels are identified.

    mixed       R-hat < 1.01 and at least 100 effective draws for each chain    Vehtari et al. (2021), section 4
    unmixed     R-hat >= 1.05, or fewer than 20 effective draws for each chain
    too few     otherwise, and always with fewer than 4 draws for each chain, because R-hat is then not defined

For short chains, the limits in the second line are 1.05 + 10 / S for R-hat and S / 10 effective draws for each chain. R-hat and
the effective sample size are computed from rank-normalised, split chains, as in `diagnostics`. Here R-hat is computed only from
the draws, whereas `diagnostics` also uses folded draws.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import ndtri

from .. import covariance
from ..mixture import Mixture
from ..spread import is_constant
from .diagnostics import rhat_limit
from .result import PosteriorStatus, is_good

R_HAT_LIMIT = 1.01  # chains agree if R-hat is below this value
ESS_PER_CHAIN = 100  # smallest effective number of draws for each chain with which chains count as mixed
_UNMIXED_ESS = 20  # chains are unmixed if the effective number of draws for each chain is below this value


class Mixing(NamedTuple):
    """The largest R-hat () and the smallest bulk effective sample size () of several quantities.

    Both are NaN if a draw is not finite.
    """

    rhat: jax.Array
    ess: jax.Array


def label_invariant_draws(mixture: Mixture, log_density: jax.Array) -> jax.Array:
    """Return the draws (Q, C, S) of the label-invariant quantities, from mixtures (C, S, ...) and log densities (C, S)."""
    variances = covariance.variances(mixture.covariances, mixture.covariance_type, mixture.num_features)
    ordered = [_sort_components(leaf) for leaf in (mixture.weights[..., None], mixture.means, jnp.log(variances))]
    ordered[0] = ordered[0][:, :, 1:]  # leave out the smallest weight, because it is 1 minus the sum of the others
    return jnp.concatenate([log_density[None], *(_first(leaf) for leaf in ordered)])


def _sort_components(leaf: jax.Array) -> jax.Array:
    """Sort draws (C, S, K, D) along the axis of the K components.

    Neighbours are exchanged until all are in order, for all draws at the same time. For few components this is much faster than
    XLA's sort, which sorts one draw after another.
    """
    k = leaf.shape[2]

    def exchange(leaf: jax.Array, first: int) -> jax.Array:
        stop = first + 2 * ((k - first) // 2)
        left, right = leaf[:, :, first:stop:2], leaf[:, :, first + 1 : stop : 2]
        leaf = leaf.at[:, :, first:stop:2].set(jnp.minimum(left, right))
        return leaf.at[:, :, first + 1 : stop : 2].set(jnp.maximum(left, right))

    return jax.lax.fori_loop(0, (k + 1) // 2, lambda _, leaf: exchange(exchange(leaf, 0), 1), leaf) if k > 1 else leaf


def parameter_draws(mixture: Mixture) -> jax.Array:
    """Return the draws (Q, C, S) of all parameters of mixtures (C, S, ...), with variances as logarithms."""
    variances = covariance.variances(mixture.covariances, mixture.covariance_type, mixture.num_features)
    leaves = [mixture.weights[..., None], mixture.means, jnp.log(variances)]
    if covariance.is_dense(mixture.covariance_type):
        sd = jnp.sqrt(variances)
        correlations = mixture.covariances / (sd[..., :, None] * sd[..., None, :])
        leaves.append(correlations.reshape(*correlations.shape[:-2], -1))
    return jnp.concatenate([_first(leaf) for leaf in leaves])


def _first(leaf: jax.Array) -> jax.Array:
    """Join all axes except the first two into one axis, and move this axis to the front: (C, S, K, ...) -> (Q, C, S)."""
    return jnp.moveaxis(leaf.reshape(*leaf.shape[:2], -1), -1, 0)


def measure_mixing(draws: jax.Array, *, in_time: bool = True) -> Mixing:
    """Return the largest R-hat and the smallest effective sample size of draws (Q, C, S). Constants are left out.

    Both are NaN if there are fewer than 4 draws per chain.

    in_time: whether the draws of a chain have an order in time. The particles of a run of `smc` have no order, so runs are not
    split, and only differences between runs count. For a single run, both results are then NaN.
    """
    chains, samples = draws.shape[1:]
    half = samples // 2
    if half < 2:
        return Mixing(*[jnp.full((), jnp.nan, draws.dtype)] * 2)
    constant = is_constant(draws, (1, 2), jnp)
    finite = jnp.isfinite(draws).all()  # the results below cannot show this, because max and min need not return NaN for a NaN
    halves = jnp.concatenate([draws[..., :half], draws[..., -half:]], 1) if in_time else draws
    # The quantities are diagnosed one at a time. A Fourier transform of all would need many times the memory of the draws.
    rhat, ess = jax.lax.map(lambda one: _diagnose(_rank_normalise(one)), halves)
    rhat, ess = jnp.where(constant, 1, rhat).max(), jnp.where(constant, chains * samples, ess).min()
    return Mixing(jnp.where(finite, rhat, jnp.nan), jnp.where(finite, ess, jnp.nan))


def _rank_normalise(draws: jax.Array) -> jax.Array:
    """Replace draws (C, S) by the normal scores of their ranks. Vehtari et al. (2021), eq. 14.

    Equal draws get the smallest of their ranks; they are rare, except in a chain that does not move. The draws are sorted as
    integers that have the same order, because XLA sorts integers four times as fast on a CPU.
    """
    bits = jax.lax.bitcast_convert_type((draws - draws.mean()).astype(jnp.float32).ravel(), jnp.int32)
    keys = jnp.where(bits < 0, bits ^ jnp.iinfo(jnp.int32).max, bits)
    scores = ndtri((jnp.arange(1, keys.size + 1, dtype=draws.dtype) - 0.375) / (keys.size + 0.25))
    return scores[jnp.searchsorted(jnp.sort(keys), keys)].reshape(draws.shape)


def _diagnose(draws: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return R-hat () and the effective sample size () of chains (C, S). Vehtari et al. (2021), eq. 1-4 and 10-13."""
    c, s = draws.shape
    means = draws.mean(1)
    spectrum = jnp.fft.rfft(draws - means[:, None], 1 << (2 * s - 1).bit_length(), axis=1)
    covariances = jnp.fft.irfft(jnp.abs(spectrum) ** 2, axis=1)[:, :s].mean(0) / s
    within = covariances[0] * s / (s - 1)
    total = covariances[0] + means.var(ddof=1)
    rho = 1 - (within - covariances) / total
    pairs = rho.at[0].set(1)[: s // 2 * 2].reshape(-1, 2)[: max(1, (s - 1) // 2)]
    sums = pairs.sum(1).at[-1].min(0)  # the last sum becomes at most 0, so that the sequence below ends
    # Geyer's initial monotone sequence ends before the first pair whose sum is not positive, and counts at least one pair
    end = jnp.maximum(jnp.argmax(~(sums > 0)), 1)
    counted = jnp.arange(len(sums)) < end
    time = -1 + 2 * jnp.where(counted, jax.lax.cummin(pairs.sum(1)), 0).sum()
    # A pair holds the autocorrelations at an even lag and at the next lag. Of the pair that ends the sequence, only the
    # autocorrelation at the even lag is added, if it is positive.
    time += jnp.where(end < len(sums), jnp.maximum(pairs[jnp.minimum(end, len(sums) - 1), 0], 0), 0)
    return jnp.sqrt(total / within), c * s / jnp.maximum(time, 1 / jnp.log10(c * s))


def judge_mixing(mixing: Mixing, num_chains: int, num_samples: int) -> jax.Array:
    """Return a status (): OK if chains have mixed, UNMIXED if they have not, FEW_DRAWS if there are too few draws to decide."""
    if num_samples < 4:
        return jnp.asarray(PosteriorStatus.FEW_DRAWS)
    mixed = (mixing.rhat < R_HAT_LIMIT) & (mixing.ess >= ESS_PER_CHAIN * num_chains)
    least = num_chains * min(_UNMIXED_ESS, num_samples / 10)
    unmixed = ~((mixing.rhat < rhat_limit(num_samples)) & (mixing.ess >= least))
    return jnp.where(mixed, PosteriorStatus.OK, jnp.where(unmixed, PosteriorStatus.UNMIXED, PosteriorStatus.FEW_DRAWS))


def status_of_parameters(status: jax.Array, mixture: Mixture, identified: jax.Array) -> jax.Array:
    """Return the given status, made worse if the parameters of the relabelled mixtures (C, S, ...) have not mixed.

    If labels are not identified, return the status unchanged.
    """
    found = judge_mixing(measure_mixing(parameter_draws(mixture)), *mixture.batch_shape)
    good = is_good(status)
    few = good | (status == PosteriorStatus.FEW_DRAWS)
    worse = ((found == PosteriorStatus.UNMIXED) & few) | ((found == PosteriorStatus.FEW_DRAWS) & good)
    return jnp.where(identified & worse, found, status)
