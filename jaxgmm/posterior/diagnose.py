"""diagnose: collect all diagnostics of a posterior's draws in one dictionary.

Label-invariant quantities are always diagnosed. Single components are diagnosed only after `relabel`, and only if `relabel`
found that the labels are identified. Otherwise the entry with index k may describe different components in different draws,
and its R-hat and effective sample size have no meaning.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from numpy.typing import ArrayLike

from .. import covariance
from ..calls import public
from ..mixture import Mixture
from ..spread import mean_and_sd
from ..validation import is_traced
from . import diagnostics
from .pooling import pool
from .result import Posterior, PosteriorStatus, check_one_posterior


@public
def diagnose(posterior: Posterior) -> dict[str, Any]:
    """Return R-hat, effective sample sizes, Monte Carlo errors, divergences, tree depths and energies of a posterior's draws.

    Draws are good if the rank-normalised split R-hat is below 1.01, the bulk and tail effective sample sizes are at least 100
    per chain, there is no divergence, and E-BFMI is above 0.3. Sources: Vehtari et al. (2021), Betancourt (2016).

    Args:
        posterior: draws (C, S, ...) with S >= 4, relabelled or not. The values must not be traced.

    Returns:
        A dictionary with these entries. status: the name of the status. num_chains: C. num_samples: S. divergences: the number
        of divergent draws. tree_depth: the largest tree depth. e_bfmi: (C,). The entries divergences, tree_depth and e_bfmi are
        None if the method does not report them. label_invariant: a dictionary of the label-invariant quantities log_density (),
        weights_by_size (K,), overall_mean (D,) and overall_sd (D,); the last two describe the whole mixture. Each quantity is
        summarised by a dictionary of mean, sd, mcse_mean, mcse_sd (all four in the quantity's units), rhat, ess_bulk and
        ess_tail, with NaN where all draws are equal. labels_identified: True or False, or None before relabelling. parameters:
        summaries of the same form for weights (K,), means (K, D) and covariances, or None before relabelling and if labels are
        not identified.

    Raises:
        TypeError, ValueError: posterior is not a single Posterior, is traced, or has fewer than 4 draws per chain.

    Example:
        >>> import jax, jaxgmm, numpy as np
        >>> draws = jaxgmm.make_mixture([1.0], [[0.0]], [[[1.0]]])
        >>> noise = jax.random.normal(jax.random.key(0), (4, 100))
        >>> draws = jax.tree.map(lambda leaf: np.abs(leaf + 0 * noise.reshape(4, 100, *[1] * leaf.ndim)), draws)
        >>> posterior = jaxgmm.Posterior(draws, noise, None, np.array(0), {})
        >>> bool(jaxgmm.diagnose(posterior)["label_invariant"]["log_density"]["rhat"] < 1.05)
        True
    """
    check_one_posterior(posterior)
    if is_traced(posterior):
        raise TypeError("posterior is traced; diagnose works on the host: call it outside jit and vmap.")
    stats = posterior.stats
    identified = bool(stats["labels_identified"]) if "labels_identified" in stats else None
    parameters = {name: getattr(posterior.mixture, name) for name in ("weights", "means", "covariances")}
    invariant = {"log_density": posterior.log_density} | label_invariants(posterior.mixture)
    return {
        "status": PosteriorStatus(int(posterior.status)).name,
        "num_chains": posterior.log_density.shape[0],
        "num_samples": posterior.log_density.shape[1],
        "divergences": int(np.sum(stats["diverging"])) if "diverging" in stats else None,
        "tree_depth": int(np.max(stats["tree_depth"])) if "tree_depth" in stats else None,
        "e_bfmi": diagnostics.e_bfmi(stats["energy"]) if "energy" in stats else None,
        "label_invariant": {name: summarise_draws(draws, stats) for name, draws in invariant.items()},
        "labels_identified": identified,
        "parameters": {name: summarise_draws(draws, stats) for name, draws in parameters.items()} if identified else None,
    }


def label_invariants(mixture: Mixture) -> dict[str, np.ndarray]:
    """Return three label-invariant quantities of mixtures with leading axes (...), as a dict from name to values.

    The quantities are the sorted weights (..., K), the overall mean (..., D) and the overall standard deviation (..., D).
    """
    weights, means = np.asarray(mixture.weights, float), np.asarray(mixture.means, float)
    covariances = np.asarray(mixture.covariances, float)
    variances = covariance.variances(covariances, mixture.covariance_type, mixture.num_features)
    overall = (weights[..., None] * means).sum(-2)
    within = (weights[..., None] * (variances + (means - overall[..., None, :]) ** 2)).sum(-2)
    return {"weights_by_size": -np.sort(-weights, -1), "overall_mean": overall, "overall_sd": np.sqrt(within)}


def summarise_draws(draws: ArrayLike, stats: Mapping[str, jax.Array | np.ndarray]) -> dict[str, np.ndarray]:
    """Return a dict of the summaries of draws (C, S, ...). Each summary has the trailing axes of the draws.

    The summaries are the mean, the sd, their Monte Carlo errors, R-hat, and two effective sample sizes. `stats` holds the
    statistics of the posterior. If `stats` contains a weight for each chain, as for `smc`, the mean and the sd are weighted.
    """
    draws = np.asarray(draws, float)
    mean, sd = mean_and_sd(pool(draws, stats))
    return {
        "mean": mean,
        "sd": sd,
        "mcse_mean": diagnostics.mcse_mean(draws),
        "mcse_sd": diagnostics.mcse_sd(draws),
        "rhat": diagnostics.rhat(draws),
        "ess_bulk": diagnostics.ess_bulk(draws),
        "ess_tail": diagnostics.ess_tail(draws),
    }
