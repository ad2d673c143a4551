"""log_evidence: log p(x), the likelihood averaged over the prior, by importance sampling.

    p(x) = integral of p(x, z) dz,   z unconstrained;   estimated by the mean of p(x, z_i) / q(z_i),   z_i ~ q

q starts as a mixture of multivariate t's, one at each mode that Newton finds from the posterior's draws, adapts to the ratios in
pilot rounds (Cappe, Douc, Guillin, Marin & Robert 2008, Statistics and Computing 18, 447-459), and is then held fixed: what is
averaged is independent of it. A mixture of K exchangeable components has K! labellings, which all count: left out, the evidence
is too small by up to log K! (Neal 1999, on Chib 1995). q is averaged over them, by permuting z, which keeps volumes.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from .. import linalg
from ..em.m_step import m_step
from ..em.moments import e_step
from ..mixture import Mixture
from ..priors.functions import log_prior
from ..status import StatusEnum
from ..tables import REACH, Printed, Table, look, reach
from ..validation import as_weighted_data, check_count, check_key, is_traced, warn_at_caller
from .diagnostics import pareto_k
from .gaussian_approximation import MAX_KHAT
from .importance import Labellings, Proposal, adapt, draw, make_labellings, make_proposal
from .likelihood import reference_total
from .newton import find_mode
from .result import Posterior, check_one_posterior, in_dtype
from .standardization import StandardizedProblem, log_volume, standardise, to_standard
from .unconstrained_space import UnconstrainedSpace, make_unconstrained_space, map_points

_PILOTS, _ROUNDS = 8, 4  # rounds that adapt the proposal, and rounds that count
_EM_STEPS = 30  # to settle the others where one component is emptied
_LIGHTEST = 1e-6  # a weight of 0 has no logit for Newton to start from


class EvidenceStatus(StatusEnum):
    """Whether an evidence can be trusted: `EvidenceStatus(int(evidence.status)).sentence` says it in words.

    Example:
        >>> import jaxgmm
        >>> print(jaxgmm.EvidenceStatus(0).sentence)
        The importance ratios are well behaved.
    """

    OK = 0, "The importance ratios are well behaved."
    UNRELIABLE = (
        1,
        "A few importance ratios dominate (k-hat over 0.7), so value and error cannot be trusted. The posterior may have more "
        "modes, or heavier tails, than the proposal; raise num_samples or num_modes, give other optima as modes, or use fewer "
        "components.",
    )
    OTHER_DATA = (
        2,
        "The posterior was not made from these data: its log density at its best draw is another one here. Give the same x and "
        "sample_weight.",
    )
    NONFINITE = (
        3,
        "The evidence is not finite: draws, data or prior hold NaN or infinity, or no proposal has any density. Look at the "
        "posterior's status.",
    )


@partial(jax.tree_util.register_dataclass, meta_fields=[], data_fields=["value", "error", "khat", "ess", "status"])
@dataclass(frozen=True, eq=False, repr=False)
class Evidence(Printed):
    """An estimate of log p(x): `value, error = log_evidence(...)` unpacks it; vmapped, all fields gain a leading (B,).

    Attributes:
        value: (), log p(x), nats.
        error: (), its Monte Carlo standard error, nats.
        khat: (), Pareto k-hat of the importance ratios: the error means something while it is under 0.7.
        ess: (), effective number of the samples, (sum of ratios)^2 / sum of their squares.
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
    """log p(x) under the posterior's prior, all labellings counted, with its standard error.

    Draws only say where to look: Newton goes from some of them, and from the best with each component emptied in turn, to the
    modes in unconstrained space, around which the proposal is built. So a posterior by `laplace` serves as well as one by `nuts`,
    unless there are modes that its draws do not reach: no figure here can see a mode that no proposal covers. Where that is to be
    feared, give optima of other starts as `modes`. A component that holds next to nothing follows its prior; if that is vague, its
    tails are heavier than any proposal's, and the value comes out a little low while k-hat nears 0.7.

    Up to 6 components the proposal is averaged over all K! labellings. Beyond, draws count only while their means lie in one
    order along the axis that best separates them, times K!: right too, but costlier where components overlap.

    The evidence is that of the data as given: it depends on their units, and it is no fair judge of priors made from the data,
    as `default_prior` is, when K differs.

    Args:
        key: a random key.
        posterior: draws (C, S, ...) with their prior.
        x: (N, D), the data they were made from.
        sample_weight: (N,) >= 0, as given to the sampler: powers of the likelihood's factors.
        num_samples: draws that are averaged, at least 1000; twice as many go to the pilot rounds.
        num_modes: draws from which Newton looks for modes: the best, and others at random.
        modes: a Mixture (M, ...) of further places to look from, or None.

    Returns:
        Evidence, which unpacks into value and error.

    Raises:
        ValueError, TypeError: posterior, data or options that make no sense; data that the posterior was not made from.

    Warns:
        RuntimeWarning: eager only: the status is not OK.

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
    check_one_posterior(posterior)
    if posterior.prior is None:
        raise TypeError("posterior has no prior; an evidence is an average over one: use laplace, nuts or gibbs.")
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
    """num_samples: of one round."""
    key_seeds, key_rounds = jax.random.split(key)
    kind, prior = posterior.mixture.covariance_type, posterior.prior
    problem = standardise(x, weight, prior, kind)
    seeds, density = _seeds(key_seeds, posterior, modes, problem, num_modes)
    start = seeds[0]
    space = make_unconstrained_space(problem, start)
    labels = make_labellings(space, start, prior.weight_concentration)
    proposal = _first_proposal(space, labels, seeds, problem)

    def advance(proposal: Proposal, step: tuple) -> tuple[Proposal, jax.Array]:
        key, pilot = step
        z = draw(key, proposal, num_samples)
        potentials = map_points(space.potential, z, problem, start)
        ratios = -jnp.where(jnp.isnan(potentials), jnp.inf, potentials) - labels.log_average(proposal, z)
        adapted = adapt(proposal, z, ratios)
        return jax.tree.map(lambda new, old: jnp.where(pilot, new, old), adapted, proposal), ratios

    steps = jax.random.split(key_rounds, _PILOTS + _ROUNDS), jnp.arange(_PILOTS + _ROUNDS) < _PILOTS
    ratios = jax.lax.scan(advance, proposal, steps)[1][_PILOTS:].ravel()
    total = reference_total(problem, start)
    found = total + log_prior(start, problem.prior) + log_volume(problem, kind, start.num_components)
    same = abs(found - density) <= 0.1 + 1e-4 * (abs(density) + len(x))
    rows = len(x) if weight is None else problem.weight.sum()
    offset = total - rows * jnp.log(problem.scale).sum()
    evidence = _summarise(ratios, jnp.where(jnp.isfinite(density), offset, jnp.nan), same)
    return in_dtype(evidence, x.dtype)


def _summarise(ratios: jax.Array, offset: jax.Array, same: jax.Array) -> Evidence:
    """From log ratios (S,), in units of exp(offset)."""
    count, top = len(ratios), ratios.max()
    relative = jnp.exp(ratios - top)
    mean = relative.mean()
    value = offset + top + jnp.log(mean)
    error = relative.std() / mean / math.sqrt(count)
    khat = pareto_k(ratios, xp=jnp)
    status = jnp.where(khat < MAX_KHAT, EvidenceStatus.OK, EvidenceStatus.UNRELIABLE)
    status = jnp.where(same, status, EvidenceStatus.OTHER_DATA)
    status = jnp.where(jnp.isfinite(value), status, EvidenceStatus.NONFINITE)
    return Evidence(value, error, khat, relative.sum() ** 2 / (relative**2).sum(), status)


def _seeds(
    key: jax.Array, posterior: Posterior, modes: Mixture | None, problem: StandardizedProblem, num_modes: int
) -> tuple[Mixture, jax.Array]:
    """Standardised mixtures to look for modes from, the best draw first, those with one component emptied last; its density."""
    density = posterior.log_density.ravel()
    draws = jax.tree.map(lambda leaf: leaf.reshape(len(density), *leaf.shape[2:]), posterior.mixture)
    best = jnp.where(jnp.isnan(density), -jnp.inf, density).argmax()
    chosen = jnp.concatenate([best[None], jax.random.randint(key, (num_modes - 1,), 0, len(density))])
    seeds = draws[chosen]
    if modes is not None:
        seeds = jax.tree.map(lambda a, b: jnp.concatenate([a, b.astype(a.dtype)]), seeds, modes)
    weights = jnp.maximum(seeds.weights, _LIGHTEST)
    seeds = Mixture(weights / weights.sum(-1, keepdims=True), seeds.means, seeds.covariances, seeds.covariance_type)
    seeds = jax.vmap(lambda mixture: to_standard(mixture, problem))(seeds)
    if seeds.num_components > 1:
        lighter = jax.vmap(lambda k: _without(seeds[0], k, problem))(jnp.arange(seeds.num_components))
        seeds = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), seeds, lighter)
    return seeds, density[best]


def _without(mixture: Mixture, k: jax.Array, problem: StandardizedProblem) -> Mixture:
    """Where the others hold all data and component k only what its prior gives it: a region that few draws may reach."""
    prior = problem.prior
    concentration = prior.weight_concentration
    total = len(problem.y) if problem.weight is None else problem.weight.sum()
    share = jnp.clip(concentration[k] / (total + concentration.sum()), _LIGHTEST, 0.5)
    absent = jnp.arange(mixture.num_components) == k
    flat = dataclasses.replace(prior, weight_concentration=jnp.ones_like(concentration)) if prior.has_closed_forms else None

    def step(_: int, mixture: Mixture) -> Mixture:
        return m_step(mixture, e_step(mixture, problem.y, sample_weight=problem.weight), flat)

    weights = jnp.where(absent, 0, mixture.weights)
    start = dataclasses.replace(mixture, weights=weights / weights.sum())
    settled = jax.lax.fori_loop(0, _EM_STEPS, step, start)
    weights = jnp.maximum(settled.weights, _LIGHTEST)
    weights = jnp.where(absent, share, (1 - share) * weights / jnp.where(absent, 0, weights).sum())
    return dataclasses.replace(settled, weights=weights)


def _first_proposal(space: UnconstrainedSpace, labels: Labellings, seeds: Mixture, problem: StandardizedProblem) -> Proposal:
    """A t at each mode, as heavy as its normal approximation; the same mode twice does no harm."""

    def look(seed: Mixture) -> tuple[jax.Array, ...]:
        newton, root, _ = find_mode(space, space.flatten(labels.canonical(seed)), problem, seed)
        # minus infinity: a seed without density led nowhere
        mass = jnp.where(jnp.isfinite(newton.value), jnp.log(linalg.eigh(root)[0]).sum() - newton.value, -jnp.inf)
        return newton.z, root, mass

    center, root, mass = jax.lax.map(look, seeds)
    usable = jnp.isfinite(mass) & jnp.isfinite(center.sum(-1)) & jnp.isfinite(root.sum((-2, -1)))
    center = jnp.where(usable[:, None], center, 0)
    root = jnp.where(usable[:, None, None], root, jnp.eye(space.size, dtype=root.dtype))
    return make_proposal(jax.nn.log_softmax(jnp.where(usable, mass, -1e30)), center, root @ jnp.swapaxes(root, -1, -2))
