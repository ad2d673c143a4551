"""bootstrap: estimate the variability of a fit by fitting replicates of the data. Source: Efron (1979), Ann. Stat. 7, 1-26.

On every replicate, EM starts at the original fit. The components therefore keep their labels, and the replicate fits spread
around one optimum. The result is a `Posterior`, but the replicate fits are not draws from a posterior: they do not average over
a prior. The log densities are computed after the fits, and do not influence them.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple, Unpack

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from ..calls import public_with
from ..chunking import padded_length, replicates_per_batch
from ..density import log_prob
from ..em.batch.fit_many import EM_OPTIONS, EMOptions, fit_many
from ..em.result import Fit, Status, has_degenerate_component, unsoundness
from ..incomplete.observations import Data, Observations
from ..incomplete.replicates import as_design, draw_like
from ..inputs import check_draws, check_sampling_options, validate_inputs
from ..mixture import Mixture, MixtureLike
from ..padding import as_count, cut, pad_data
from ..priors.functions import log_prior
from ..priors.interface import MixturePrior
from ..progress import progress_bar
from ..row_sums import Weight, repeat_valid_row, weight_array, weight_or_ones
from ..sampling import sample
from ..validation import check_choice, is_traced, warn_at_caller
from .relabel import relabel
from .result import Posterior, PosteriorStatus

SCHEMES = ("nonparametric", "parametric", "weighted-likelihood")


@public_with(*EM_OPTIONS)
def bootstrap(
    key: jax.Array,
    start: MixtureLike,
    x: ArrayLike | Observations,
    prior: MixturePrior | None = None,
    *,
    kind: str = "nonparametric",
    num_samples: int = 1000,
    num_chains: int = 1,
    sample_weight: ArrayLike | None = None,
    **options: Unpack[EMOptions],
) -> Posterior:
    """Fit a mixture to each of many replicates of the data, and relabel the fits to match the start.

    There are three kinds of replicates. "nonparametric": rows of x are drawn with replacement (Efron 1979). "parametric": new
    data are drawn from the start. "weighted-likelihood": the rows of x get random weights from a Dirichlet distribution whose
    parameters are the weights of the rows (Newton & Raftery 1994, JRSS B 56, 3-26). This is a smooth version of the first kind,
    in which no row is left out.

    Args:
        key: a random key.
        start: a Fit, or its Mixture, at which EM starts on every replicate; it must have no empty component.
        x: (N, D), or `observations`. Rows are drawn with their missing values, noise and labels; the rows of a parametric
            replicate have those of the rows of x, except that known labels are drawn, too. A parametric replicate needs
            weights that are whole numbers, no limits, and labels that name one component or none.
        prior: the prior of the original fit (MAP), or None if the original fit is a maximum likelihood fit.
        kind: "nonparametric", "parametric" or "weighted-likelihood".
        num_samples: S, number of replicates per chain.
        num_chains: C. All replicates are independent: the division into chains only gives the result the same shape as the
            results of other methods.
        sample_weight: (N,) >= 0. A row with an integer weight w counts as w equal rows. A replicate has round(sum of weights)
            rows.
        **options: options that are passed to `fit_many`: tol, max_iter, reg_covar, accelerate, chunk_size, progress.

    Returns:
        A Posterior with mixture (C, S, ...). log_density (C, S) is evaluated at the parameters of each replicate fit, but with
        the original data x: log p(x, theta) in nats, or the log-likelihood if there is no prior. Its stats have the entries
        that `relabel` adds, and the following entries:

        | entry | shape | meaning |
        | --- | --- | --- |
        | fit_status | (C, S) | the Status of each fit |
        | num_iter | (C, S) | number of EM steps |
        | spike | (C, S) | whether the fit has a degenerate component |

    Raises:
        ValueError: shapes do not match, a value is invalid or an option is unknown. Traced values are not validated.
        TypeError: an argument has the wrong type.

    Warns:
        RuntimeWarning: outside jit, if fits to replicates did not converge or have a degenerate component.

    Example:
        >>> import jax, jaxgmm
        >>> x = jaxgmm.datasets.load("acidity")
        >>> fit = jaxgmm.fit(jaxgmm.initialize(jax.random.key(0), x, num_components=2), x)
        >>> draws = jaxgmm.bootstrap(jax.random.key(1), fit.mixture, x, num_samples=20, tol=1e-4)
        >>> draws.mixture.means.shape, bool(draws.mixture.means.std() > 0)
        ((1, 20, 2, 1), True)
    """
    check_choice(kind, "kind", SCHEMES)
    check_sampling_options(key, num_samples, num_chains)
    start, rows, weight, prior = validate_inputs(start, x, prior, sample_weight, name="start", is_start=True)
    check_draws(start, num_samples, num_chains)
    total, design = replicate_size(rows, weight), None
    if isinstance(rows, Observations):
        design = as_design(rows, weight, "bootstrap with kind='parametric'") if kind == "parametric" else None
        rows = rows.with_own_noise()
    data = _Data(*pad_data(rows, weight, key, start, prior), total, design)
    size = num_chains * num_samples
    batch = replicates_per_batch(total * (rows.shape[1] if kind == "parametric" else 1))
    keys = jax.random.split(key, size)
    options = {"history": False, **options}
    with progress_bar(size, " fits", False if is_traced(keys, start, x) else options.get("progress")):
        parts = [_fit_replicates(keys[i : i + batch], start, data, prior, kind, options) for i in range(0, size, batch)]
    fits = jax.tree.map(lambda *leaves: jnp.concatenate(leaves).reshape(num_chains, num_samples, *leaves[0].shape[1:]), *parts)
    log_density = _log_density(fits.mixture, data.x, data.weight, prior)
    degenerate = has_degenerate_component(fits, jnp.asarray(total, rows.dtype))
    stats = {
        "fit_status": fits.status,
        "num_iter": fits.num_iter,
        "spike": jnp.broadcast_to(degenerate, fits.status.shape),
    }
    if not is_traced(fits):
        _emit_warnings(stats, start.num_components, has_prior=prior is not None)
    status = jnp.where(jnp.isfinite(log_density).all(), PosteriorStatus.OK, PosteriorStatus.NONFINITE)
    posterior = Posterior(fits.mixture, log_density, prior, status, stats, "bootstrap")
    return relabel(posterior, start, x, sample_weight=sample_weight)


def replicate_size(x: Data, weight: Weight) -> int:
    """Return the number of rows in a replicate, which is the rounded sum of the weights.

    Return N if there are no weights or if they are traced. Raise ValueError if the rounded sum is 0.
    """
    values = weight_array(weight)
    if values is None or is_traced(values):
        return len(x)
    total = float(np.asarray(values).sum())
    if round(total) == 0:
        raise ValueError(
            f"sample_weight sums to {total:.4g}, so that a replicate, of round(sum of weights) rows, would have none: weights "
            "count observations, so multiply them by the number of observations over their sum."
        )
    return round(total)


class _Data(NamedTuple):
    """The data (N, D), the weights of the rows, the number of rows in each replicate, and the design of `as_design` or None."""

    x: Any
    weight: Weight
    total: int
    design: Observations | None


def _fit_replicates(
    keys: jax.Array, start: Mixture, data: _Data, prior: MixturePrior | None, scheme: str, options: EMOptions
) -> Fit:
    """Make one replicate of the data for each key, fit a mixture to each replicate, and return the fits (B, ...)."""
    starts = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (len(keys), *leaf.shape)), start)
    # all numbers of rows with the same padded length share one compiled program
    size = data.total if is_traced(keys, data) else padded_length(data.total)
    if data.design is not None:
        return fit_many(starts, draw_designs(keys, start, data.design), prior, **options)
    if scheme == "parametric":
        return fit_many(starts, cut(draw_parametric(keys, start, size), data.total, 1), prior, **options)
    if scheme == "nonparametric":
        weights = _multinomial_counts(keys, data.x, data.weight, as_count(data.total), size)
    else:
        weights = _dirichlet_weights(keys, data.x, data.weight)
    return fit_many(starts, data.x, prior, sample_weight=weights, **options)


@jax.jit
def draw_designs(keys: jax.Array, start: Mixture, design: Observations) -> Observations:
    """Return observations drawn from the start for each key, (B, n, D), with the missing values and the noise of a design."""
    return jax.vmap(lambda key: draw_like(key, start, design))(keys)


@partial(jax.jit, static_argnums=2)
def draw_parametric(keys: jax.Array, start: Mixture, size: int) -> jax.Array:
    """Return `size` rows drawn from the start for each key, (B, size, D)."""
    return jax.vmap(lambda key: sample(key, start, size)[0])(keys)


@partial(jax.jit, static_argnums=4)
def _multinomial_counts(keys: jax.Array, x: Data, weight: Weight, total: jax.Array, size: int) -> jax.Array:
    """Return how often each row is drawn, (B, N), if `total` rows are drawn for each key in proportion to the weights.

    `size` is an upper limit of `total`. In contrast to `total`, it must be known when the function is compiled.
    """
    weight = weight_or_ones(weight, x.shape[:1], x.dtype)
    cumulative = jnp.cumsum(weight)

    def one(key: jax.Array) -> jax.Array:
        uniform = jax.random.uniform(key, (size,), weight.dtype) * cumulative[-1]
        drawn = jnp.sort(jnp.where(jnp.arange(size) < total, uniform, jnp.inf))
        # The count of a row is a difference of two numbers: the number of draws below the cumulative weight of the row, and the
        # number of draws below the cumulative weight of the previous row.
        ends = jnp.searchsorted(drawn, cumulative, side="left")
        ends = jnp.where(cumulative < cumulative[-1], ends, total.astype(ends.dtype))
        return jnp.diff(ends, prepend=0).astype(weight.dtype)

    return jnp.where(weight > 0, jax.vmap(one)(keys), 0)


@jax.jit
def _dirichlet_weights(keys: jax.Array, x: Data, weight: Weight) -> jax.Array:
    """Return random weights (B, N): draws from Dirichlet(weight), multiplied by the sum of the weights.

    A row of integer weight w gets the sum of w exponential random numbers, as w rows of weight 1 would get together.
    """
    weight = weight_or_ones(weight, x.shape[:1], x.dtype)
    shape = jnp.where(weight > 0, weight, 1)
    gammas = jax.vmap(lambda key: jax.random.gamma(key, shape, dtype=weight.dtype))(keys)
    gammas = jnp.where(weight > 0, gammas, 0)
    return gammas * (weight.sum() / gammas.sum(-1, keepdims=True))


@jax.jit
def _log_density(mixture: Mixture, x: Data, weight: Weight, prior: MixturePrior | None) -> jax.Array:
    """Return log p(x, theta) (C, S) for the original data x at the parameters theta of each replicate fit."""
    densities = log_prob(mixture, x if isinstance(x, Observations) else repeat_valid_row(x, weight))  # (C, S, N)
    weight = weight_or_ones(weight, x.shape[:1], x.dtype)
    log_likelihood = jnp.where(weight > 0, weight * densities, 0).sum(-1)
    return log_likelihood if prior is None else log_likelihood + log_prior(mixture, prior)


def _emit_warnings(stats: dict[str, jax.Array], num_components: int, *, has_prior: bool) -> None:
    """Issue a warning, with remedies, if fits to replicates failed, did not converge or have a degenerate component."""
    status, degenerate = np.asarray(stats["fit_status"]), int(np.asarray(stats["spike"]).sum())
    failed, size = int((unsoundness(status, False, True) > 0).sum()), status.size
    unfinished = int((status != Status.CONVERGED).sum()) - failed
    a_prior = "a more informative prior" if has_prior else "a prior"
    if failed:
        warn_at_caller(f"{failed} of {size} replicates failed (stats: fit_status): leave them out, or fit with {a_prior}.")
    if unfinished:
        warn_at_caller(f"{unfinished} of {size} replicates did not converge (stats: fit_status): raise max_iter or tol.")
    if degenerate:
        warn_at_caller(
            f"{degenerate} of {size} replicates have a degenerate component: it has too few points, or only the regularisation "
            f"keeps its covariance from being singular (stats: spike). Leave them out, or use {a_prior}"
            f"{' or fewer components' if num_components > 1 else ''}."
        )
