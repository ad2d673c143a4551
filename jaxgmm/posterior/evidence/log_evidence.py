"""log_evidence: estimate log p(x), where p(x) is the likelihood averaged over the prior, by importance sampling.

    p(x) = integral of p(x, z) dz            z: unconstrained parameters
    estimated by the mean of p(x, z_i) / q(z_i),   z_i ~ q

The proposal q starts as a mixture of multivariate t distributions, one at each mode that Newton's method finds from the
posterior's draws. At some of these modes, a component is empty. The t distribution then has special coordinates for this
component (see the module `coordinates`). In pilot rounds, q adapts to the importance ratios (Cappe, Douc, Guillin, Marin &
Robert 2008, Statistics and Computing 18, 447-459). After the pilot rounds q is fixed. It therefore does not depend on the draws
whose ratios are averaged.

A labelling is an order of the components. If K components are exchangeable, the evidence must include all their K! labellings.
Otherwise the log evidence would be too small by up to log K! (Neal 1999, on Chib 1995). The density q is therefore averaged
over all labellings, that is, over all permutations of the components in z. Permutations do not change volumes.

If the posterior's draws are from the posterior itself, bridge sampling gives a second estimate (`bridge_sampling`). The
posterior and the averaged proposal do not depend on the labelling, so the draws may have any labelling.
"""

from __future__ import annotations

import dataclasses
import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from ...calls import public
from ...covariance.types import check_uncoupled_type
from ...incomplete.checks import check_match
from ...incomplete.observations import Data, Observations
from ...inputs import as_rows
from ...memory import check_memory
from ...mixture import Mixture, MixtureLike, as_mixture
from ...padding import pad_data
from ...priors.functions import log_prior
from ...row_sums import Weight, total_weight
from ...validation import check_count, check_key, is_traced, warn_at_caller
from ..likelihood import reference_total
from ..modes import Modes
from ..pareto import effective_number, khat_limit, pareto_k
from ..result import INDEPENDENT, Posterior, check_one_number, check_one_posterior, in_dtype
from ..standardization import StandardizedProblem, log_volume, log_volume_of_data, standardise, to_standard
from .bridge_sampling import bridge_sampling
from .proposal import choose_seeds
from .result import Evidence, EvidenceStatus
from .rounds import ROUNDS, Points, Ratios, log_ratios

_FEWEST_EFFECTIVE = 100  # with fewer effective samples, neither the value nor its error is trusted, whatever k-hat is
_FEWEST_DRAWS = 100  # with fewer draws from the posterior, bridge sampling is not attempted
_DRAW_ROUNDS = 2  # largest number of rounds whose points are draws from the posterior
_NEGLIGIBLE = 0.02  # if the draws miss a mode, the status reports this only if the mode's share of the posterior is larger
_REPRESENTED = 0.1  # the draws miss a mode if the share of the draws in it is below this fraction of the mode's mass
_DIFFERENCE = 3.0, 0.01  # two estimates disagree if they differ by more than 3.0 standard errors and by more than 0.01 nats


@public
def log_evidence(
    key: jax.Array,
    posterior: Posterior,
    x: ArrayLike | Observations,
    *,
    sample_weight: ArrayLike | None = None,
    num_samples: int = 20000,
    num_modes: int = 8,
    modes: MixtureLike | Modes | None = None,
) -> Evidence:
    """Estimate log p(x) under the posterior's prior, and the standard error of this estimate. All labellings are counted.

    Importance sampling uses the posterior's draws only to find modes. Newton's method searches in unconstrained space. It
    starts from some of the draws, and from copies of the best draw in which one component has been emptied. The proposal is
    built around the modes that Newton's method finds. A posterior from `laplace` is therefore as suitable as a posterior from
    `nuts`, unless its draws miss a mode. No diagnostic can notice a mode that neither the proposal nor the draws cover. If you
    suspect such modes, pass the result of `jaxgmm.modes`, or optima from other starts, as the argument `modes`. If one of these
    modes holds more than 2 % of the posterior and the draws miss it, the status is MISSED_MODES.

    A component that holds no data follows its prior, which may be vague. Under a Dirichlet concentration below 1, the weight of
    such a component may be as small as e^-1000. Some parts of the proposal therefore describe an emptied component in
    coordinates in which its prior has light tails.

    With up to 6 components, the proposal is averaged over all K! labellings. With more components, only one labelling is used,
    in which the means are in ascending order along the axis that separates the means best. The importance ratio of
    each sample with this labelling is multiplied by K!, and the importance ratio of every other sample by 0. This
    result is also correct, but less accurate if components overlap.

    If the draws are from `nuts`, `gibbs` or `smc`, bridge sampling gives a second estimate from the same samples and from the
    draws (Meng & Wong 1996), with its standard error (Fruehwirth-Schnatter 2004). If the two estimates differ by more than
    three standard errors and by more than 0.01 nats, the status is DISAGREEMENT.

    The evidence refers to the data as given, so it depends on their units. Do not compare the evidence of different K under
    priors that were made from the data, such as `default_prior`: that comparison is not fair.

    Args:
        key: a random key.
        posterior: draws (C, S, ...) of the covariance type full, tied, diag, spherical, EEI or EII, and their prior. For the
            other types, `smc` estimates the evidence.
        x: (N, D), the data that the posterior was made from, or `observations`. Components that labels of rows distinguish are
            not permuted. The evidence is then that of the rows and their labels.
        sample_weight: (N,) >= 0, the weights with which the posterior was made. The weight of a row is the exponent of the
            row's density in the likelihood.
        num_samples: number of importance samples that are averaged, at least 1000. In addition, the pilot rounds use one
            and a half times as many samples.
        num_modes: number of draws from which Newton's method searches for modes: the best draw, and others chosen at random.
        modes: additional points from which Newton's method searches for modes: a result of `jaxgmm.modes`, or a Mixture or Fit
            (M, ...), or None.

    Returns:
        Evidence, which unpacks into value and error.

    Raises:
        ValueError, TypeError: the posterior, the data or an option is invalid, the posterior was not made from these data, or
            it is from `telescope` and was not given to `condition_on_occupied`.

    Warns:
        RuntimeWarning: outside jit, if the status is not OK.

    Example:
        >>> import jax, jaxgmm
        >>> x = jaxgmm.datasets.load("galaxies")
        >>> prior = jaxgmm.default_prior(x, num_components=1)
        >>> fit = jaxgmm.fit(jaxgmm.initialize(jax.random.key(0), x, num_components=1), x, prior)
        >>> posterior = jaxgmm.laplace(jax.random.key(1), fit.mixture, x, prior, num_samples=500)
        >>> value, error = jaxgmm.log_evidence(jax.random.key(2), posterior, x, num_samples=4000)
        >>> round(float(value)), bool(error < 0.02)
        (-247, True)
    """
    check_key(key)
    check_count(num_samples, "num_samples", 1000)
    check_count(num_modes, "num_modes")
    given = None if modes is None else as_mixture(modes.mixture if isinstance(modes, Modes) else modes, "modes")
    _check(posterior, given)
    k, d = posterior.mixture.means.shape[-2:]
    check_memory(4.0 * num_samples * k * d, f"num_samples={num_samples}")
    rows, weight = as_rows(x, sample_weight, num_features=posterior.mixture.num_features)
    check_match(rows, k, posterior.mixture.covariance_type)
    padded = pad_data(rows, weight, key, posterior, given)
    evidence = _estimate(key, posterior, *padded, given, num_samples=-(-num_samples // ROUNDS), num_modes=num_modes)
    if is_traced(evidence):
        return evidence
    status = EvidenceStatus(int(evidence.status))
    if status == EvidenceStatus.OTHER_DATA:
        raise ValueError(status.sentence)
    if status != EvidenceStatus.OK:
        warn_at_caller(status.sentence)
    return evidence


def _check(posterior: Posterior, modes: Mixture | None) -> None:
    """Raise ValueError or TypeError if the posterior has no prior, or if the modes do not match the posterior."""
    check_one_posterior(posterior)
    check_one_number(posterior, "log_evidence")
    check_uncoupled_type(posterior.mixture.covariance_type, "log_evidence", remedy="take the evidence that smc estimates")
    if posterior.prior is None:
        raise TypeError(
            "posterior has no prior, but the evidence is an average over it; give a posterior from laplace, nuts or gibbs."
        )
    if modes is None:
        return
    wanted = posterior.mixture.means.shape[-2:]
    if modes.means.shape[-2:] != wanted or len(modes.batch_shape) != 1:
        raise ValueError(f"modes has means of shape {modes.means.shape}; (M, K, D) with K, D = {wanted} was expected.")
    if modes.covariance_type != posterior.mixture.covariance_type:
        raise ValueError(f"modes is {modes.covariance_type!r}, but the posterior is {posterior.mixture.covariance_type!r}.")


@partial(jax.jit, static_argnames=("num_samples", "num_modes"))
def _estimate(
    key: jax.Array,
    posterior: Posterior,
    x: Data,
    weight: Weight,
    modes: Mixture | None,
    *,
    num_samples: int,
    num_modes: int,
) -> Evidence:
    """Estimate the evidence in rounds of num_samples draws each."""
    assert posterior.prior is not None
    key_seeds, key_rounds = jax.random.split(key)
    problem = standardise(x, weight, posterior.prior, posterior.mixture.covariance_type)
    seeds, checked, density = choose_seeds(key_seeds, posterior, modes, problem, num_modes)
    start = seeds[0]
    given = num_modes + np.arange(0 if modes is None else len(modes.weights))
    draws = _choose_draws(posterior, len(given) > 0, _DRAW_ROUNDS * num_samples)
    standard = None if draws is None else jax.vmap(lambda mixture: to_standard(mixture, problem))(draws)
    ratios = log_ratios(key_rounds, Points(seeds, given, standard), problem, num_samples)
    # if x is not the data that the posterior was made from, a draw's density at x differs from its stored density
    same = _has_density(to_standard(checked, problem), problem, density)
    offset = reference_total(problem, start) + log_volume_of_data(problem)
    offset = jnp.where(jnp.isnan(density), jnp.nan, offset)
    evidence = _summarise(ratios.of_samples, offset, same)
    if draws is not None:
        # the density of a draw is unknown if one of its weights was rounded to 0, or to about the smallest positive number
        is_known = (draws.weights > 10 * jnp.finfo(draws.weights.dtype).tiny).all(-1)
        ratios = ratios._replace(of_draws=jnp.where(is_known, ratios.of_draws, -jnp.inf))
        shares = posterior.stats.get("chain_weight", jnp.ones(len(posterior.log_density)))
        evidence = _check_draws(evidence, ratios, offset, shares / shares.sum(), posterior.method)
    return in_dtype(evidence, x.dtype)


def _choose_draws(posterior: Posterior, has_modes: bool, most: int) -> Mixture | None:
    """Return about `most` draws (T, ...), evenly spaced in each chain, or all draws if there are fewer.

    Return None if there are too few draws, or if bridge sampling cannot use the draws and no modes were given.
    """
    chains, samples = posterior.log_density.shape
    if chains * samples < _FEWEST_DRAWS or samples < 4 or (posterior.method in INDEPENDENT and not has_modes):
        return None
    each = min(samples, max(4, most // chains))
    places = np.linspace(0, samples - 1, each).round().astype(int)
    return jax.tree.map(lambda leaf: leaf[:, places].reshape(chains * each, *leaf.shape[2:]), posterior.mixture)


def _check_draws(evidence: Evidence, ratios: Ratios, offset: jax.Array, chain_weight: jax.Array, method: str) -> Evidence:
    """Add the estimate by bridge sampling, and change a status of OK if the draws miss a mode or the estimates disagree.

    The weights (C,) of the chains sum to 1, and `method` is the method that made the draws.
    """
    chains = len(chain_weight)
    status = evidence.status
    if method not in INDEPENDENT:
        of_draws = ratios.of_draws.reshape(chains, -1)
        value, error = bridge_sampling(ratios.of_samples, of_draws, chain_weight, in_time=method != "smc")
        evidence = dataclasses.replace(evidence, bridge=offset + value, bridge_error=error)
        difference, (errors, nats) = abs(offset + value - evidence.value), _DIFFERENCE
        disagree = (difference > errors * jnp.hypot(error, evidence.error)) & (difference > nats)
        status = jnp.where(disagree, EvidenceStatus.DISAGREEMENT, status)
    if ratios.shares_of_draws.shape[-1]:
        status = jnp.where(_misses_a_mode(ratios, chain_weight), EvidenceStatus.MISSED_MODES, status)
    return dataclasses.replace(evidence, status=jnp.where(evidence.status == EvidenceStatus.OK, status, evidence.status))


def _misses_a_mode(ratios: Ratios, chain_weight: jax.Array) -> jax.Array:
    """Return whether the draws miss a given mode that is not negligible, ().

    The mass of a mode is estimated twice: from the samples of the proposal, weighted by their importance ratios, and from those
    posterior draws that have a finite density. The draws miss the mode if the second estimate is much smaller than the first.
    """
    mass = jax.nn.softmax(ratios.of_samples) @ jnp.maximum(ratios.shares_of_samples, 0)
    count = len(ratios.of_draws)
    weight = jnp.repeat(chain_weight, count // len(chain_weight), total_repeat_length=count)[:, None]
    shares = ratios.shares_of_draws
    weight = jnp.where(shares >= 0, weight, 0)
    total = weight.sum(0)
    missed = (weight * shares).sum(0) < _REPRESENTED * mass * total
    return (missed & (mass > max(_NEGLIGIBLE, 10 / count)) & (total > 0)).any()


def _has_density(mixture: Mixture, problem: StandardizedProblem, density: jax.Array) -> jax.Array:
    """Return whether a log density () in data units equals the one computed from a standardised mixture, up to rounding.

    If a weight of the mixture was rounded to 0, the density cannot be checked, and the result is also True.
    """
    expected = reference_total(problem, mixture) + log_prior(mixture, problem.prior)
    expected += log_volume(problem, mixture.covariance_type, mixture.num_components)
    rows = total_weight(problem.weight, len(problem.y), problem.y.dtype)
    close = abs(expected - density) <= 0.1 + 1e-4 * (abs(density) + rows)
    return close | (mixture.weights < jnp.finfo(mixture.weights.dtype).tiny).any()


def _summarise(log_ratios: jax.Array, offset: jax.Array, same: jax.Array) -> Evidence:
    """Compute the evidence from log importance ratios (S,).

    The ratios are those of the standardised problem, up to a constant factor. `offset` is added to the logarithm of their mean.
    `same` is True if x is the data set that the posterior was made from.
    """
    count, top = len(log_ratios), log_ratios.max()
    relative = jnp.exp(log_ratios - top)
    mean = relative.mean()
    value = offset + top + jnp.log(mean)
    error = relative.std() / mean / math.sqrt(count)
    khat, effective = pareto_k(log_ratios, xp=jnp), effective_number(log_ratios, xp=jnp)
    reliable = (khat < khat_limit(count)) & (effective >= _FEWEST_EFFECTIVE)
    status = jnp.where(reliable, EvidenceStatus.OK, EvidenceStatus.UNRELIABLE)
    status = jnp.where(same, status, EvidenceStatus.OTHER_DATA)
    status = jnp.where(jnp.isfinite(value), status, EvidenceStatus.NONFINITE)
    return Evidence(value, error, khat, effective, status)
