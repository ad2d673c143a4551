"""likelihood_ratio_test: a parametric bootstrap test of K components against K + 1.

Source: McLachlan (1987), Appl. Stat. 36, 318-324. The likelihood ratio has no chi-squared distribution here, because under K
components the parameters of the additional component are not identified.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Unpack

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from .. import covariance
from ..calls import public_with
from ..cells import number
from ..chunking import padded_length, replicates_per_batch
from ..devices.host import Tree
from ..em.assignments import weighted_data
from ..em.batch.fit_many import EM_OPTIONS, EMOptions, fit_many
from ..em.batch.restarts import best_of, check_restarts, largest_first
from ..em.initialization import StartOptions, check_start_options
from ..em.restart_starts import num_fitted, restart_starts
from ..em.result import Fit, Status, unsoundness_of
from ..incomplete.observations import Observations
from ..incomplete.replicates import as_design
from ..incomplete.rows import with_weights
from ..linalg import eigh
from ..mixture import Mixture
from ..padding import cut, pad_data
from ..posterior.bootstrap import draw_designs, draw_parametric, replicate_size
from ..progress import progress_bar
from ..row_sums import Weight, total_weight
from ..tables import Printed, Table
from ..validation import check_count, is_traced, warn_at_caller, warn_of_small_weights
from .members import without_absent
from .observation_starts import check_observations, starts_of_observations

_NEGLIGIBLE = 1e-3  # nats; up to this size, a negative statistic is due to the tolerance of EM or to rounding
_SPLIT = 0.8  # distance of the halves of a split component from its mean, in standard deviations along its longest axis


@dataclass(frozen=True, eq=False, repr=False)
class LikelihoodRatioTest(Printed):
    """The result of `likelihood_ratio_test`.

    Attributes:
        statistic: 2 (l_{K+1} - l_K), the likelihood ratio statistic of the data, in nats.
        p_value: (1 + number of replicates with a statistic at least as large) / (1 + number of replicates in use). It is NaN if
            a fit to the data is not sound, or if no replicate is in use.
        p_value_error: the Monte Carlo standard error of the p-value.
        replicates: (B,), the statistics of the replicates; NaN for replicates without a sound fit, which are not used.
        null: the best fit with K components, ordered by weight, the largest first.
        alternative: the best fit with K + 1 components, ordered likewise.
        num_rejected: number of replicates that are not used.
        num_negative: number of replicates whose statistic is below -0.001 nats by more than rounding can explain. For these
            replicates the search for the best fit with K + 1 components failed, because the maximum of the likelihood with
            K + 1 components cannot be smaller than the maximum with K components.
    """

    statistic: float
    p_value: float
    p_value_error: float
    replicates: np.ndarray
    null: Fit
    alternative: Fit
    num_rejected: int
    num_negative: int

    def _tables(self) -> list[Table]:
        fits = (self.null, self.alternative)
        counts = [fit.mixture.num_components for fit in fits]
        used = len(self.replicates) - self.num_rejected
        title = (
            f"Likelihood ratio test of K={counts[0]} against K={counts[1]}: statistic {number(self.statistic)}, p-value "
            f"{number(self.p_value, 3)} +- {number(self.p_value_error, 2)}, {used} replicates"
        )
        rows = [
            [str(k), f"{float(fit.log_likelihood):.2f}", Status.name_of(fit.status)]
            for k, fit in zip(counts, fits, strict=True)
        ]
        notes = [f"{self.num_rejected} replicates without a sound fit were left out"] if self.num_rejected else []
        notes += [f"{self.num_negative} replicates have a negative statistic"] if self.num_negative else []
        return [Table(title, ("K", "log-likelihood", "status"), rows, notes)]


class _Search(NamedTuple):
    """The options of the search for the best fits with K and K + 1 components, for the data and for every replicate.

    num_starts: the number of fits to one data set with each number of components, apart from those that begin at a split.
    """

    num_components: int
    start_options: StartOptions
    num_restarts: int
    num_starts: int
    options: EMOptions

    @property
    def starts(self) -> tuple[StartOptions, int]:
        """The options of the starts and the number of restarts, as `restart_starts` expects them."""
        return self.start_options, self.num_restarts

    @property
    def num_fits(self) -> int:
        """The number of fits to one data set."""
        return 2 * self.num_starts + self.num_components


@public_with(*EM_OPTIONS)
def likelihood_ratio_test(
    key: jax.Array,
    x: ArrayLike | Observations,
    *,
    num_components: int,
    covariance_type: str = "full",
    num_samples: int = 199,
    num_restarts: int = 10,
    method: str = "k-means++",
    sample_weight: ArrayLike | None = None,
    **options: Unpack[EMOptions],
) -> LikelihoodRatioTest:
    """Test K components against K + 1 by the likelihood ratio 2 (l_{K+1} - l_K), with a parametric bootstrap.

    Replicates of the data are drawn from the best fit with K components. The p-value is the share of the replicates whose
    statistic is at least as large as the statistic of the data. The data themselves count as one replicate:

        p = (1 + #{b: LR_b >= LR}) / (1 + B)

    All fits are maximum likelihood fits. The data and the replicates are fitted from the same kinds of starts: the starts of
    `fit_restarts` with K and with K + 1 components, and K starts in which one component of the best fit with K is split.
    Only sound fits count, as in `fit_restarts`. All replicates are fitted as one batch, as far as memory allows. Sources:
    McLachlan (1987), Appl. Stat. 36, 318-324; for the p-value, Davison & Hinkley (1997), Bootstrap Methods and their
    Application, eq. 4.11.

    Args:
        key: a random key.
        x: (N, D), or `observations` without labels and limits. The rows of a replicate have the missing values and the noise of
            the rows of x; weights must then be whole numbers.
        num_components: K, the number of components under the null hypothesis.
        covariance_type: "full", "tied", "diag", "spherical", or a code such as "VEE": see `Mixture`.
        num_samples: B, number of replicates. The p-value is at least 1 / (B + 1).
        num_restarts: as in `fit_restarts`, for each number of components.
        method: as in `initialize`.
        sample_weight: (N,) >= 0, or None. A replicate has round(sum of weights) rows.
        **options: options that are passed to `fit_many`: tol, max_iter, reg_covar, accelerate, chunk_size, progress. EM
            is accelerated by default, unless reg_covar is given.

    Returns:
        A LikelihoodRatioTest.

    Raises:
        ValueError, TypeError: an option is unknown or out of range, x has fewer than K + 1 rows or is not finite, or a value is
            traced.

    Warns:
        RuntimeWarning: a fit to the data is not sound, replicates are left out, or the search failed for a replicate.

    Example:
        >>> import jax, jaxgmm
        >>> x = jaxgmm.datasets.load("acidity")
        >>> options = {"num_components": 1, "covariance_type": "tied", "num_samples": 19, "num_restarts": 2}
        >>> jaxgmm.likelihood_ratio_test(jax.random.key(0), x, **options)
        Likelihood ratio test of K=1 against K=2: statistic 79.67, p-value 0.05 +- 0.049, 19 replicates
          K  log-likelihood     status
          1         -225.79  CONVERGED
          2         -185.95  CONVERGED
    """
    if is_traced(key, x, sample_weight):
        raise TypeError(
            "a value is traced, but likelihood_ratio_test chooses fits by their values; call it outside jit and vmap."
        )
    check_count(num_components, "num_components")
    start_options = check_start_options(key, StartOptions(num_components + 1, covariance_type, method))
    check_count(num_samples, "num_samples")
    check_count(num_restarts, "num_restarts")
    rows, weight = weighted_data(x, sample_weight, num_components + 1)
    check_restarts(num_restarts, num_components + 1, rows)
    warn_of_small_weights(weight)
    num_starts, design = num_fitted(int(num_restarts)), None
    if isinstance(rows, Observations):
        num_starts, design = int(num_restarts), _as_design(rows, weight, start_options)
        rows = rows.with_own_noise()
    completed: EMOptions = {"history": False, "accelerate": options.get("reg_covar") is None, **options}
    found = _Search(int(num_components), start_options, int(num_restarts), num_starts, completed)
    total = replicate_size(rows, weight)
    key_data, key_sample, key_fits = jax.random.split(key, 3)
    with progress_bar((num_samples + 1) * found.num_fits, " fits", options.get("progress")):
        data = _best_pairs(key_data[None], jax.tree.map(lambda leaf: leaf[None], rows), weight, found)
        null = jax.tree.map(lambda leaf: leaf[0], data.null.mixture)
        batch, parts = replicates_per_batch(total * rows.shape[1] * found.num_fits), []
        sample_keys, fit_keys = jax.random.split(key_sample, num_samples), jax.random.split(key_fits, num_samples)
        for i in range(0, num_samples, batch):
            keys = sample_keys[i : i + batch]
            if design is None:
                drawn = cut(draw_parametric(keys, null, padded_length(total)), total, 1)
            else:
                drawn = draw_designs(keys, null, design)
            parts.append(_best_pairs(fit_keys[i : i + batch], drawn, None, found).statistic)
    return _collect(data, np.concatenate(parts), found)


def _as_design(rows: Observations, weight: jax.Array | None, options: StartOptions) -> Observations:
    """Return the design of the replicates of observations; raise ValueError if there are no replicates of such rows."""
    if rows.allowed is not None:
        raise ValueError(
            "x has labels, but likelihood_ratio_test compares numbers of components, so that no label names one: leave the "
            "labels out."
        )
    if rows.lower is not None:
        raise ValueError(
            "likelihood_ratio_test does not take limits, because the limits of new values are not known: use select with "
            "another criterion."
        )
    check_observations(rows, weight, [options.num_components], [options.covariance_type], has_prior=False)
    return as_design(rows, weight, "likelihood_ratio_test")


class _Pairs(NamedTuple):
    """The best fits (B,) with K and with K + 1 components, and the statistic (B,), NaN where a fit is not sound."""

    null: Fit
    alternative: Fit
    statistic: np.ndarray


def _best_pairs(keys: jax.Array, x: Any, weight: jax.Array | None, search: _Search) -> _Pairs:
    """Return the best fits to each of B data sets (B, N, D), arrays or observations, with common weights (N,) or None."""
    size, fitted, k = len(keys), search.num_starts, search.num_components
    data_sets = jax.tree.map(lambda leaf: np.repeat(np.asarray(leaf), 2 * fitted, 0), x)
    fits = _stacked(_fit_each(_starts(keys, x, weight, search), data_sets, weight, search), (size, 2, fitted))
    total = total_weight(weight, x.shape[1], x.dtype)
    null = _best(jax.tree.map(lambda leaf: leaf[:, 0], fits), total)
    split = _split(null.mixture, k)  # (B, K)
    data_sets = jax.tree.map(lambda leaf: np.repeat(np.asarray(leaf), k, 0), x)
    refits = _fit_each(_stacked(split, (size * k,), 2), data_sets, weight, search)
    both = jax.tree.map(lambda a, b: np.concatenate([a[:, 1], b], 1), fits, _stacked(refits, (size, k)))
    alternative = _best(both, total)
    sound = np.asarray((unsoundness_of(null, total) == 0) & (unsoundness_of(alternative, total) == 0))
    statistic = 2 * (np.asarray(alternative.log_likelihood, float) - np.asarray(null.log_likelihood, float))
    return _Pairs(null, alternative, np.where(sound, statistic, np.nan))


def _starts(keys: jax.Array, x: Any, weight: jax.Array | None, search: _Search) -> Mixture:
    """Return the starts of all fits to B data sets as one stack, F for each data set and number of components, (2 B F,)."""
    counts = np.array([search.num_components, search.num_components + 1])
    if isinstance(x, Observations):
        members = [pad_data(jax.tree.map(lambda leaf, b=b: leaf[b], x), weight) for b in range(len(keys))]
        each = [starts_of_observations(key, *one, counts, *search.starts) for key, one in zip(keys, members, strict=True)]
    else:
        padded, shape = pad_data(x, weight), (2 * search.num_starts,)
        # The program that makes the starts of one data set is called for the data and for each replicate. It compiles in half
        # of the time of a program for all data sets together.
        members = zip(keys, padded.x, strict=True)
        each = [_stacked(_start_one(key, one, padded.weight, counts, *search.starts), shape, 2) for key, one in members]
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *each)


@partial(jax.jit, static_argnums=(4, 5))
def _start_one(
    key: jax.Array, x: jax.Array, weight: Weight, present: np.ndarray, options: StartOptions, num_restarts: int
) -> Mixture:
    """Return starts (2, F) for one data set (N, D): F starts for each of the two numbers of components in `present`."""

    def one(arguments: tuple[jax.Array, jax.Array]) -> Mixture:
        return restart_starts(arguments[0], x, weight, options, num_restarts, num_present=arguments[1])

    return jax.lax.map(one, (jax.random.split(key), jnp.asarray(present)))


def _fit_each(starts: Mixture, data_sets: Any, weight: jax.Array | None, search: _Search) -> Fit:
    """Fit each data set (M, N, D) from its own start, and return the fits on the host."""
    weights = None if weight is None else np.broadcast_to(np.asarray(weight), data_sets.shape[:2])
    fits = fit_many(starts, *with_weights(data_sets, weights), **search.options)
    return jax.tree.map(np.asarray, fits)


def _stacked(tree: Tree, shape: tuple[int, ...], axes: int = 1) -> Tree:
    """Return a tree in which `shape` replaces the first `axes` leading axes of each leaf."""
    return jax.tree.map(lambda leaf: np.asarray(leaf).reshape(*shape, *leaf.shape[axes:]), tree)


@jax.jit
def _best(fits: Fit, total: jax.Array) -> Fit:
    """Return the best fit along the second axis of fits (B, R), with its components ordered by weight.

    An absent component stays the last one.
    """
    equal = jnp.ones(fits.mixture.num_components)

    def best(fits: Fit) -> Fit:
        chosen = best_of(fits, total)
        return largest_first(jax.tree.map(lambda leaf: leaf[chosen], fits), equal)

    return jax.vmap(best)(fits)


@partial(jax.jit, static_argnums=1)
def _split(mixtures: Mixture, num_components: int) -> Mixture:
    """Return starts (B, K), in each of which one of K components is split in two along its longest axis.

    The mixtures (B,) have K + 1 components, of which the last one is absent and becomes the second half.
    """
    return jax.vmap(lambda mixture: jax.vmap(lambda k: _split_one(mixture, k))(jnp.arange(num_components)))(mixtures)


def _split_one(mixture: Mixture, k: jax.Array) -> Mixture:
    """Return a start in which component k is split in two, and its second half replaces the last component."""
    count, d = mixture.num_components, mixture.num_features
    dense = covariance.to_dense(mixture.covariances, mixture.covariance_type, count, d)
    values, vectors = eigh(dense[k])
    step = _SPLIT * jnp.sqrt(jnp.maximum(values[-1], 0)) * vectors[:, -1]
    weights = mixture.weights.at[k].multiply(0.5).at[-1].set(mixture.weights[k] / 2)
    means = mixture.means.at[k].add(step).at[-1].set(mixture.means[k] - step)
    own = mixture.covariances  # if all components share one covariance, there is nothing to copy
    covariances = own.at[-1].set(own[k]) if len(own) == count else own
    return dataclasses.replace(mixture, weights=weights, means=means, covariances=covariances)


def _collect(data: _Pairs, replicates: np.ndarray, search: _Search) -> LikelihoodRatioTest:
    """Issue the warnings of the test, and return its result."""
    statistic, used = float(data.statistic[0]), replicates[np.isfinite(replicates)]
    log_likelihood = np.asarray(data.null.log_likelihood)
    least = -_NEGLIGIBLE - 8 * float(np.finfo(log_likelihood.dtype).eps * abs(log_likelihood[0]))
    rejected, negative = len(replicates) - len(used), int((used < least).sum())
    p = math.nan
    if math.isfinite(statistic) and len(used):
        p = (1 + int((used >= statistic).sum())) / (1 + len(used))
    if not math.isfinite(statistic):
        warn_at_caller(
            "no sound fit to the data was found, so that the test has no p-value: use more restarts (num_restarts), fewer "
            "components or a simpler covariance_type."
        )
    if rejected:
        warn_at_caller(f"{rejected} of {len(replicates)} replicates have no sound fit and are left out: use more restarts.")
    if negative or statistic < least:
        where = f"{negative} of {len(replicates)} replicates{' and of the data' * (statistic < least)}"
        warn_at_caller(
            f"the statistic of {where} is negative, so the search for the best fit failed there: raise num_restarts, the "
            "number of starts."
        )
    null, alternative = (jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), fits) for fits in (data.null, data.alternative))
    error = math.sqrt(p * (1 - p) / (1 + len(used)))
    null = without_absent(null, search.num_components)
    return LikelihoodRatioTest(statistic, p, error, replicates, null, alternative, rejected, negative)
