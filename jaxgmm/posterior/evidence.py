"""log_evidence: estimate log p(x), where p(x) is the likelihood averaged over the prior, by importance sampling.

    p(x) = integral of p(x, z) dz            z: unconstrained parameters
    estimated by the mean of p(x, z_i) / q(z_i),   z_i ~ q

The proposal q starts as a mixture of multivariate t distributions, one at each mode that Newton's method finds from the
posterior's draws. At some of these modes, a component is empty. The t distribution then has special coordinates for this
component (`evidence_coordinates`). In pilot rounds, q adapts to the importance ratios (Cappe, Douc, Guillin, Marin & Robert
2008, Statistics and Computing 18, 447-459). After the pilot rounds q is fixed. It therefore does not depend on the draws whose
ratios are averaged.

A labelling is an order of the components. If K components are exchangeable, the evidence must include all their K! labellings.
Otherwise the log evidence would be too small by up to log K! (Neal 1999, on Chib 1995). The density q is therefore averaged
over all labellings, that is, over all permutations of the components in z. Permutations do not change volumes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from numpy.typing import ArrayLike

from ..calls import public
from ..cells import REACH, look, reach
from ..memory import check_memory
from ..mixture import Mixture, MixtureLike, as_mixture
from ..padding import pad_data
from ..priors.functions import log_prior
from ..row_sums import Weight, total_weight
from ..status import StatusEnum
from ..tables import Printed, Table
from ..validation import as_weighted_data, check_count, check_key, is_traced, warn_at_caller
from .evidence_coordinates import Coordinates
from .evidence_labellings import make_labellings
from .evidence_proposal import choose_seeds, first_proposal
from .importance import Proposal, adapt, draw
from .likelihood import reference_total
from .pareto import effective_number, khat_limit, pareto_k
from .result import Posterior, check_one_posterior, in_dtype
from .standardization import StandardizedProblem, log_volume, standardise, to_standard
from .unconstrained_space import make_unconstrained_space, map_points

_FEWEST_EFFECTIVE = 100  # with fewer effective samples, neither the value nor its error is trusted, whatever k-hat is
_PILOTS, _ROUNDS = 6, 4  # number of rounds that adapt the proposal; number of rounds whose importance ratios are averaged


class EvidenceStatus(StatusEnum):
    """The reliability of an estimate of the evidence. `EvidenceStatus(int(evidence.status)).sentence` explains the status.

    Example:
        >>> import jaxgmm
        >>> print(jaxgmm.EvidenceStatus(0).sentence)
        The importance ratios are well behaved.
    """

    OK = 0, "The importance ratios are well behaved."
    UNRELIABLE = (
        1,
        "A few importance ratios dominate (k-hat over 0.7, or less for few samples; or fewer than 100 effective samples), so "
        "neither the value nor its error can be trusted. The posterior may have more modes, or heavier tails, than the "
        "proposal; raise num_samples or num_modes, give other optima as modes, or use fewer components.",
    )
    OTHER_DATA = (
        2,
        "The posterior was not made from these data: with them, the log density of its best draw has another value. Give the x "
        "and sample_weight that the posterior was made from.",
    )
    NONFINITE = (
        3,
        "The evidence is not finite: draws, data or prior contain NaN or infinity, or no mode with a finite density was found. "
        "Look at the posterior's status.",
    )


@partial(jax.tree_util.register_dataclass, meta_fields=[], data_fields=["value", "error", "khat", "ess", "status"])
@dataclass(frozen=True, eq=False, repr=False)
class Evidence(Printed):
    """An estimate of log p(x), which unpacks as `value, error = log_evidence(...)`.

    Under vmap, all fields gain a leading axis (B,).

    Attributes:
        value: (), the estimate of log p(x), nats.
        error: (), Monte Carlo standard error of the value, nats.
        khat: (), Pareto k-hat of the importance ratios. The error is meaningful only if k-hat is below the limit for S samples,
            min(0.7, 1 - 1 / log10 S) (Vehtari et al. 2024).
        ess: (), effective number of samples, (sum of ratios)^2 / sum of squared ratios.
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
        """Return an iterator over value and error."""
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


@public
def log_evidence(
    key: jax.Array,
    posterior: Posterior,
    x: ArrayLike,
    *,
    sample_weight: ArrayLike | None = None,
    num_samples: int = 20000,
    num_modes: int = 8,
    modes: MixtureLike | None = None,
) -> Evidence:
    """Estimate log p(x) under the posterior's prior, and the standard error of this estimate. All labellings are counted.

    The posterior's draws are used only to find modes. Newton's method searches in unconstrained space. It starts from some of
    the draws, and from copies of the best draw in which one component has been emptied. The proposal is built around the modes
    that Newton's method finds. A posterior from `laplace` is therefore as suitable as a posterior from `nuts`, unless its draws
    miss a mode. No diagnostic can notice a mode that the proposal does not cover. If you suspect such modes, pass optima from
    other starts as `modes`. A component that holds no data follows its prior, which may be vague. Under a Dirichlet
    concentration below 1, the weight of such a component may be as small as e^-1000. Some parts of the proposal therefore
    describe an emptied component in coordinates in which its prior has light tails.

    With up to 6 components, the proposal is averaged over all K! labellings. With more components, only one labelling is used,
    in which the means are in ascending order along the axis that separates the means best. The importance ratio of
    each sample with this labelling is multiplied by K!, and that of every other sample by 0. This is correct too, but less
    efficient if components overlap.

    The evidence refers to the data as given, so it depends on their units. Do not compare the evidence of different K under
    priors that were made from the data, such as `default_prior`: that comparison is not fair.

    Args:
        key: a random key.
        posterior: draws (C, S, ...) and their prior.
        x: (N, D), the data that the posterior was made from.
        sample_weight: (N,) >= 0, the weights with which the posterior was made. The weight of a row is the exponent of the
            row's density in the likelihood.
        num_samples: number of importance samples that are averaged, at least 1000. In addition, the pilot rounds use one
            and a half times as many samples.
        num_modes: number of draws from which Newton's method searches for modes: the best draw, and others chosen at random.
        modes: a Mixture or Fit (M, ...), further points from which Newton's method searches for modes, or None.

    Returns:
        Evidence, which unpacks into value and error.

    Raises:
        ValueError, TypeError: the posterior, the data or an option is invalid, or the posterior was not made from these data.

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
    modes = None if modes is None else as_mixture(modes, "modes")
    _check(posterior, modes)
    k, d = posterior.mixture.means.shape[-2:]
    check_memory(4.0 * num_samples * k * d, f"num_samples={num_samples}")
    x, weight = as_weighted_data(x, sample_weight, num_features=posterior.mixture.num_features)
    padded = pad_data(x, weight, key, posterior, modes)
    evidence = _estimate(key, posterior, *padded, modes, num_samples=-(-num_samples // _ROUNDS), num_modes=num_modes)
    if is_traced(evidence):
        return evidence
    status = EvidenceStatus(int(evidence.status))
    if status == EvidenceStatus.OTHER_DATA:
        raise ValueError(status.sentence)
    if status != EvidenceStatus.OK:
        warn_at_caller(status.sentence)
    return evidence


def _check(posterior: Posterior, modes: Mixture | None) -> None:
    """Raise ValueError or TypeError if the posterior has no prior, or if the modes do not fit the posterior."""
    check_one_posterior(posterior)
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
    x: jax.Array,
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
    ratios = _log_ratios(key_rounds, seeds, problem, num_samples)
    # if x is not the data that the posterior was made from, a draw's density at x differs from its stored density
    same = _has_density(to_standard(checked, problem), problem, density)
    rows = total_weight(problem.weight, len(x), problem.y.dtype)
    offset = reference_total(problem, start) - rows * jnp.log(problem.scale).sum()
    evidence = _summarise(ratios, jnp.where(jnp.isnan(density), jnp.nan, offset), same)
    return in_dtype(evidence, x.dtype)


def _has_density(mixture: Mixture, problem: StandardizedProblem, density: jax.Array) -> jax.Array:
    """Return whether a log density () in data units belongs to a standardised mixture, up to rounding.

    The result is True if a weight of the mixture was rounded to 0, because the density is then unknown.
    """
    expected = reference_total(problem, mixture) + log_prior(mixture, problem.prior)
    expected += log_volume(problem, mixture.covariance_type, mixture.num_components)
    rows = total_weight(problem.weight, len(problem.y), problem.y.dtype)
    close = abs(expected - density) <= 0.1 + 1e-4 * (abs(density) + rows)
    return close | (mixture.weights < jnp.finfo(mixture.weights.dtype).tiny).any()


def _log_ratios(key: jax.Array, seeds: Mixture, problem: StandardizedProblem, num_samples: int) -> jax.Array:
    """Adapt the proposal in the pilot rounds. Return the log importance ratios of all later rounds, (S,)."""
    start = seeds[0]
    space = make_unconstrained_space(problem, start)
    coordinates = Coordinates(space, problem)
    labellings = make_labellings(space, coordinates, start, problem.prior.weight_concentration)

    def advance(proposal: Proposal, step: tuple[jax.Array, jax.Array]) -> tuple[Proposal, jax.Array]:
        key, is_pilot = step
        points = jax.vmap(coordinates.place)(*draw(key, proposal, num_samples))
        potentials = map_points(space.potential, points.z, problem, start)
        ratios = -jnp.where(jnp.isnan(potentials), jnp.inf, potentials) - labellings.log_average(proposal, points)
        adapted = adapt(proposal, jax.vmap(coordinates.describe)(points), ratios)
        return jax.tree.map(lambda new, old: jnp.where(is_pilot, new, old), adapted, proposal), ratios

    steps = jax.random.split(key, _PILOTS + _ROUNDS), jnp.arange(_PILOTS + _ROUNDS) < _PILOTS
    first = first_proposal(space, coordinates, labellings, seeds, problem)
    return jax.lax.scan(advance, first, steps)[1][_PILOTS:].ravel()


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
