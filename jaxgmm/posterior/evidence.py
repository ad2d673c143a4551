"""log_evidence: estimate log p(x), the likelihood averaged over the prior, by importance sampling.

    p(x) = integral of p(x, z) dz            z: unconstrained parameters
    estimated by the mean of p(x, z_i) / q(z_i),   z_i ~ q

The proposal q starts as a mixture of multivariate t distributions, one at each mode that Newton finds from the posterior's
draws. It adapts to the importance ratios in pilot rounds (Cappe, Douc, Guillin, Marin & Robert 2008, Statistics and Computing
18, 447-459) and is then held fixed, so that the ratios that are averaged are independent of it. All K! labellings of K
exchangeable
components count: without them the evidence would be too small by up to log K! (Neal 1999, on Chib 1995). Therefore q is
averaged over them, by permutations of z, which keep volumes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from ..mixture import Mixture
from ..priors.functions import log_prior
from ..status import StatusEnum
from ..tables import REACH, Printed, Table, look, reach
from ..validation import as_weighted_data, check_count, check_key, is_traced, warn_at_caller
from .evidence_labellings import make_labellings
from .evidence_proposal import choose_seeds, first_proposal
from .gaussian_approximation import MAX_KHAT
from .importance import Proposal, adapt, draw
from .likelihood import reference_total
from .pareto import pareto_k
from .result import Posterior, check_one_posterior, in_dtype
from .standardization import StandardizedProblem, log_volume, standardise
from .unconstrained_space import make_unconstrained_space, map_points

_PILOTS, _ROUNDS = 8, 4  # rounds that adapt the proposal, and rounds whose ratios are averaged


class EvidenceStatus(StatusEnum):
    """Whether an evidence can be trusted; `EvidenceStatus(int(evidence.status)).sentence` explains it.

    Example:
        >>> import jaxgmm
        >>> print(jaxgmm.EvidenceStatus(0).sentence)
        The importance ratios are well behaved.
    """

    OK = 0, "The importance ratios are well behaved."
    UNRELIABLE = (
        1,
        "A few importance ratios dominate (k-hat over 0.7), so neither the value nor its error can be trusted. The posterior "
        "may have more modes, or heavier tails, than the proposal; raise num_samples or num_modes, give other optima as modes, "
        "or use fewer components.",
    )
    OTHER_DATA = (
        2,
        "The posterior was not made from these data: the log density of its best draw is different here. Give the x and "
        "sample_weight that it was made from.",
    )
    NONFINITE = (
        3,
        "The evidence is not finite: draws, data or prior hold NaN or infinity, or the proposal has no density anywhere. Look "
        "at the posterior's status.",
    )


@partial(jax.tree_util.register_dataclass, meta_fields=[], data_fields=["value", "error", "khat", "ess", "status"])
@dataclass(frozen=True, eq=False, repr=False)
class Evidence(Printed):
    """An estimate of log p(x), which unpacks as `value, error = log_evidence(...)`; vmapped, all fields gain a leading (B,).

    Attributes:
        value: (), log p(x), nats.
        error: (), its Monte Carlo standard error, nats.
        khat: (), Pareto k-hat of the importance ratios; the error is meaningful while it is below 0.7.
        ess: (), effective number of samples, (sum of ratios)^2 / sum of their squares.
        status: (), an EvidenceStatus.

    Example:
        >>> import jax.numpy as jnp, jaxgmm
        >>> value, error = jaxgmm.Evidence(*(jnp.array(v) for v in (-247.1, 0.01, 0.2, 3900.0, 0)))
        >>> round(float(value), 1), round(float(error), 2)
        (-247.1, 0.01)
    """

    value: jax.Array
    error: jax.Array
    khat: jax.Array
    ess: jax.Array
    status: jax.Array

    def __iter__(self) -> Iterator[jax.Array]:
        """Iterate over value and error."""
        return iter((self.value, self.error))

    def _tables(self) -> list[Table]:
        status, value = look(self.status), look(self.value)
        if status is None or value is None:
            return [Table("Evidence, traced")]
        if status.ndim:
            good = int((status == EvidenceStatus.OK).sum())
            fields = {"log p(x)": value, "error": self.error, "k-hat": self.khat, "effective samples": self.ess}
            rows = [[name, *reach(values)] for name, values in fields.items()]
            return [Table(f"Evidence stacked {status.shape}: {good} of {status.size} OK", ("", *REACH), rows, left=(0,))]
        title = (
            f"Evidence {EvidenceStatus.name_of(status)}: log p(x) = {float(value):.4f} +- {float(self.error):.4f} nats, k-hat "
            f"{float(self.khat):.2f}, {float(self.ess):.0f} effective samples"
        )
        return [Table(title, notes=[EvidenceStatus(int(status)).sentence] if status != EvidenceStatus.OK else [])]


def log_evidence(
    key: jax.Array,
    posterior: Posterior,
    x: Any,
    *,
    sample_weight: Any = None,
    num_samples: int = 20000,
    num_modes: int = 8,
    modes: Mixture | None = None,
) -> Evidence:
    """Estimate log p(x) under the posterior's prior, with all labellings counted, and its standard error.

    The draws only show where to look. Newton descends in unconstrained space from some of them, and from the best draw with
    each component emptied in turn, to the modes around which the proposal is built. A posterior by `laplace` therefore serves
    as well as one by `nuts`, unless there are modes that its draws do not reach: no diagnostic can notice a mode that no
    proposal covers. If you suspect such modes, give optima from other starts as `modes`. A component that holds almost no data
    follows its prior; if the prior is vague, its tails are heavier than those of any proposal, and the value is slightly too
    low while k-hat approaches 0.7.

    Up to 6 components the proposal is averaged over all K! labellings. Beyond, only draws whose means are in ascending order
    along the axis that separates them best are counted, K! times: this is correct too, but less efficient where components
    overlap.

    The evidence refers to the data as given, so it depends on their units. It is not a fair comparison of different K under
    priors that were made from the data, such as `default_prior`.

    Args:
        key: a random key.
        posterior: draws (C, S, ...) with their prior.
        x: (N, D), the data that they were made from.
        sample_weight: (N,) >= 0, as given to the sampler: exponents of the likelihood's factors.
        num_samples: number of draws that are averaged, at least 1000; twice as many are used in the pilot rounds.
        num_modes: number of draws from which Newton searches modes: the best one, and others at random.
        modes: a Mixture (M, ...) of further starts of the search, or None.

    Returns:
        Evidence, which unpacks into value and error.

    Raises:
        ValueError, TypeError: posterior, data or options are invalid, or the posterior was not made from these data.

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
    _check(posterior, modes)
    x, weight = as_weighted_data(x, sample_weight, num_features=posterior.mixture.num_features)
    evidence = _estimate(key, posterior, x, weight, modes, num_samples=-(-num_samples // _ROUNDS), num_modes=num_modes)
    if is_traced(evidence):
        return evidence
    status = EvidenceStatus(int(evidence.status))
    if status == EvidenceStatus.OTHER_DATA:
        raise ValueError(status.sentence)
    if status != EvidenceStatus.OK:
        warn_at_caller(status.sentence)
    return evidence


def _check(posterior: Any, modes: Any) -> None:
    """Raise ValueError or TypeError if the posterior has no prior, or the modes do not fit it."""
    check_one_posterior(posterior)
    if posterior.prior is None:
        raise TypeError(
            "posterior has no prior, over which an evidence is an average; give a posterior by laplace, nuts or gibbs."
        )
    if modes is None:
        return
    if not isinstance(modes, Mixture):
        raise TypeError(f"modes is {type(modes).__name__}; a jaxgmm.Mixture with a leading (M,) was expected.")
    wanted = posterior.mixture.means.shape[-2:]
    if modes.means.shape[-2:] != wanted or len(modes.batch_shape) != 1:
        raise ValueError(f"modes has means of shape {modes.means.shape}; (M, K, D) with K, D = {wanted} was expected.")
    if modes.covariance_type != posterior.mixture.covariance_type:
        raise ValueError(f"modes is {modes.covariance_type!r}, the posterior {posterior.mixture.covariance_type!r}.")


@partial(jax.jit, static_argnames=("num_samples", "num_modes"))
def _estimate(
    key: jax.Array,
    posterior: Posterior,
    x: jax.Array,
    weight: jax.Array | None,
    modes: Mixture | None,
    *,
    num_samples: int,
    num_modes: int,
) -> Evidence:
    """Return the evidence from rounds of num_samples draws each."""
    assert posterior.prior is not None
    key_seeds, key_rounds = jax.random.split(key)
    problem = standardise(x, weight, posterior.prior, posterior.mixture.covariance_type)
    seeds, density = choose_seeds(key_seeds, posterior, modes, problem, num_modes)
    start = seeds[0]
    ratios = _log_ratios(key_rounds, seeds, problem, num_samples)
    total = reference_total(problem, start)
    volume = log_volume(problem, start.covariance_type, start.num_components)
    # the best draw's density, computed from these data, differs from the stored one if the data are others
    same = abs(total + log_prior(start, problem.prior) + volume - density) <= 0.1 + 1e-4 * (abs(density) + len(x))
    rows = len(x) if problem.weight is None else problem.weight.sum()
    offset = total - rows * jnp.log(problem.scale).sum()
    evidence = _summarise(ratios, jnp.where(jnp.isfinite(density), offset, jnp.nan), same)
    return in_dtype(evidence, x.dtype)


def _log_ratios(key: jax.Array, seeds: Mixture, problem: StandardizedProblem, num_samples: int) -> jax.Array:
    """Adapt the proposal in pilot rounds, then return the log importance ratios of the rounds that count, (S,)."""
    start = seeds[0]
    space = make_unconstrained_space(problem, start)
    labellings = make_labellings(space, start, problem.prior.weight_concentration)

    def advance(proposal: Proposal, step: tuple[jax.Array, jax.Array]) -> tuple[Proposal, jax.Array]:
        key, is_pilot = step
        z = draw(key, proposal, num_samples)
        potentials = map_points(space.potential, z, problem, start)
        ratios = -jnp.where(jnp.isnan(potentials), jnp.inf, potentials) - labellings.log_average(proposal, z)
        adapted = adapt(proposal, z, ratios)
        return jax.tree.map(lambda new, old: jnp.where(is_pilot, new, old), adapted, proposal), ratios

    steps = jax.random.split(key, _PILOTS + _ROUNDS), jnp.arange(_PILOTS + _ROUNDS) < _PILOTS
    return jax.lax.scan(advance, first_proposal(space, labellings, seeds, problem), steps)[1][_PILOTS:].ravel()


def _summarise(log_ratios: jax.Array, offset: jax.Array, same: jax.Array) -> Evidence:
    """Return the evidence from log importance ratios (S,) in units of exp(offset); same: whether the data are the same."""
    count, top = len(log_ratios), log_ratios.max()
    relative = jnp.exp(log_ratios - top)
    mean = relative.mean()
    value = offset + top + jnp.log(mean)
    error = relative.std() / mean / math.sqrt(count)
    khat = pareto_k(log_ratios, xp=jnp)
    status = jnp.where(khat < MAX_KHAT, EvidenceStatus.OK, EvidenceStatus.UNRELIABLE)
    status = jnp.where(same, status, EvidenceStatus.OTHER_DATA)
    status = jnp.where(jnp.isfinite(value), status, EvidenceStatus.NONFINITE)
    return Evidence(value, error, khat, relative.sum() ** 2 / (relative**2).sum(), status)
