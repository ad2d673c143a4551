"""likelihood_ratio_test: a parametric bootstrap test of K components against K + 1.

Source: McLachlan (1987), Appl. Stat. 36, 318-324. The likelihood ratio has no chi-squared distribution here, because under K
components the parameters of the additional component are not identified.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Unpack

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from ..calls import public_with
from ..cells import number
from ..chunking import padded_length, replicates_per_batch
from ..em.assignments import weighted_data
from ..em.batch.fit_many import EM_OPTIONS, EMOptions
from ..em.batch.restarts import check_restarts
from ..em.initialization import StartOptions, check_start_options
from ..em.restart_starts import num_fitted
from ..em.result import Fit, Status
from ..incomplete.observations import Observations
from ..incomplete.replicates import as_design
from ..padding import cut
from ..posterior.bootstrap import draw_designs, draw_parametric, replicate_size
from ..progress import progress_bar
from ..tables import Printed, Table
from ..validation import check_count, is_traced, warn_at_caller, warn_of_small_weights
from .fit_pairs import Pairs, Search, best_pairs
from .members import without_absent
from .observation_starts import check_observations

_NEGLIGIBLE = 1e-3  # nats; up to this size, a negative statistic is due to the tolerance of EM or to rounding


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
    found = Search(int(num_components), start_options, int(num_restarts), num_starts, completed)
    total = replicate_size(rows, weight)
    key_data, key_sample, key_fits = jax.random.split(key, 3)
    with progress_bar((num_samples + 1) * found.num_fits, " fits", options.get("progress")):
        data = best_pairs(key_data[None], jax.tree.map(lambda leaf: leaf[None], rows), weight, found)
        null = jax.tree.map(lambda leaf: leaf[0], data.null.mixture)
        batch, parts = replicates_per_batch(total * rows.shape[1] * found.num_fits), []
        sample_keys, fit_keys = jax.random.split(key_sample, num_samples), jax.random.split(key_fits, num_samples)
        for i in range(0, num_samples, batch):
            keys = sample_keys[i : i + batch]
            if design is None:
                drawn = cut(draw_parametric(keys, null, padded_length(total)), total, 1)
            else:
                drawn = draw_designs(keys, null, design)
            parts.append(best_pairs(fit_keys[i : i + batch], drawn, None, found).statistic)
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


def _collect(data: Pairs, replicates: np.ndarray, search: Search) -> LikelihoodRatioTest:
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
