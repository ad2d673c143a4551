"""Chains by NumPyro's MCMC and NUTS inside one jitted function, in the coordinates that a bridge makes, and their judgement."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from numpyro.infer import MCMC, NUTS

from .. import linalg
from ..density import log_prob
from ..mixture import Mixture
from .diagnostics import rhat_limit, split_rhat
from .gaussian_approximation import GaussianApproximation, chain_starts, make_space
from .likelihood import reference_total
from .result import Posterior, PosteriorStatus
from .standardization import StandardizedProblem, from_standard, log_volume
from .user_model import make_user_space, user_model_starts

MIN_SHARE = 0.01  # of another mode's mass beside the first one's: below, it is not spoken of
_FIRST_STEP = 0.3  # dual averaging tries ten times it at once: NumPyro's 1.0 loses chains that start far out
_FIELDS = ("diverging", "num_steps", "accept_prob", "energy", "potential_energy", "adapt_state.step_size")


class Target(NamedTuple):
    """What is sampled: a potential over z (P,), and what draws z (C, S, P) of given potentials (C, S) say.

    describe: -> mixture (C, S, ...) in data units, log density (C, S), further stats.
    """

    potential: Callable
    describe: Callable


def make_target(problem: StandardizedProblem, start: Mixture, model: Callable | None) -> Target:
    """jaxgmm's model in standardised coordinates, or a person's own."""
    if model is not None:
        space = make_user_space(model, problem, start)
        return Target(space.potential, lambda z, potentials: space.describe(z))
    space = make_space(problem, start)

    def describe(z: jax.Array, potentials: jax.Array) -> tuple[Mixture, jax.Array, dict]:
        mixture, jacobian = jax.vmap(jax.vmap(space.unflatten))(z)
        log_density = reference_total(problem, start) - potentials - jacobian
        log_density += log_volume(problem, mixture.covariance_type, mixture.num_components)
        return from_standard(mixture, problem), log_density, {}

    return Target(space.potential, describe)


@partial(jax.jit, static_argnames=("num_samples", "num_chains", "num_warmup", "adapt", "max_tree_depth", "progress", "model"))
def sample_chains(
    key: jax.Array,
    bridge: GaussianApproximation,
    others: GaussianApproximation | None,
    problem: StandardizedProblem,
    prior: Any,
    target_accept_prob: jax.Array,
    *,
    num_samples: int,
    num_chains: int,
    num_warmup: int,
    adapt: bool,
    max_tree_depth: int,
    progress: bool,
    model: Callable | None,
) -> Posterior:
    """Draws from around a bridge's mode; one chain more from each of the other modes (J, ...) stays outside of them."""
    key_start, key_run = jax.random.split(key)
    target = make_target(problem, bridge.start, model)
    kernel = NUTS(
        potential_fn=lambda u: target.potential(bridge.mode + bridge.root @ u),
        step_size=_FIRST_STEP,
        adapt_mass_matrix=adapt,
        dense_mass=adapt,
        target_accept_prob=target_accept_prob,
        max_tree_depth=max_tree_depth,
    )
    starts = _starts(key_start, bridge, others, problem, model, num_chains)
    sampler = MCMC(
        kernel,
        num_warmup=num_warmup,
        num_samples=num_samples,
        num_chains=len(starts),
        chain_method="vectorized",
        progress_bar=progress,
    )
    sampler.run(key_run, init_params=starts if len(starts) > 1 else starts[0], extra_fields=_FIELDS)
    fields = sampler.get_extra_fields(group_by_chain=True)
    z = bridge.mode + jnp.matmul(sampler.get_samples(group_by_chain=True), bridge.root.T, precision="highest")
    mixture, log_density, further = target.describe(z, fields["potential_energy"])
    sizes = [(mixture.weights**2).sum(-1)] if mixture.num_components > 1 else []
    stats, status = _report(bridge, jnp.stack([log_density, *sizes]), fields, num_chains, adapt)
    if others is not None:
        places = _densities(mixture, bridge, others, problem)
        invariants = jnp.concatenate([jnp.stack([log_density, *sizes]), places])
        found, status = _report_others(bridge, others, target, invariants, num_chains, status)
        stats |= found
    mixture, log_density, further = jax.tree.map(lambda leaf: leaf[:num_chains], (mixture, log_density, further))
    return Posterior(mixture, log_density, prior, status, stats | {"num_warmup": jnp.array(num_warmup)} | further, "nuts")


def _starts(
    key: jax.Array,
    bridge: GaussianApproximation,
    others: GaussianApproximation | None,
    problem: StandardizedProblem,
    model: Callable | None,
    num_chains: int,
) -> jax.Array:
    """Over-dispersed around the mode, then the other modes as they are, (C + J, P), in u."""
    if model is None:
        starts = chain_starts(key, bridge, num_chains)
    else:
        starts = user_model_starts(key, model, bridge, problem, num_chains)
    if others is None:
        return starts
    return jnp.concatenate([starts, linalg.solve(bridge.root, (others.mode - bridge.mode).T).T])


def _report(
    bridge: GaussianApproximation, invariants: jax.Array, fields: dict[str, jax.Array], num_chains: int, adapt: bool
) -> tuple[dict[str, jax.Array], jax.Array]:
    """stats and status of the first chains; invariants (Q, C + J, S), the log density first."""
    fields = {name: field[:num_chains] for name, field in fields.items()}
    rhat = split_rhat(invariants[:, :num_chains]).max()
    stats = {
        "diverging": fields["diverging"],
        "num_steps": fields["num_steps"],
        "tree_depth": jnp.ceil(jnp.log2(fields["num_steps"] + 1)).astype(int),
        "accept_prob": fields["accept_prob"],
        "energy": fields["energy"],
        "step_size": fields["adapt_state.step_size"][:, -1],
        "khat": bridge.khat,
        "min_eigenvalue": bridge.min_eigenvalue,
        "newton_steps": bridge.num_steps,
        "counts": bridge.counts,
        "rhat": rhat,
        "adapted": jnp.array(adapt),
    }
    return stats, judge(bridge, invariants[0, :num_chains], fields["diverging"], rhat, adapt)


def _densities(
    mixture: Mixture, bridge: GaussianApproximation, others: GaussianApproximation, problem: StandardizedProblem
) -> jax.Array:
    """log p of each draw at the means of all starts, (Q, C, S): no labelling changes it, and it tells any two modes apart."""
    points = [from_standard(one.start, problem).means.reshape(-1, problem.y.shape[1]) for one in (bridge, others)]
    return jnp.moveaxis(log_prob(mixture, jnp.concatenate(points)), -1, 0)


def _report_others(
    bridge: GaussianApproximation,
    others: GaussianApproximation,
    target: Target,
    invariants: jax.Array,
    num_chains: int,
    status: jax.Array,
) -> tuple[dict[str, jax.Array], jax.Array]:
    """stats of the chains from other modes, and the status where one of them counts."""
    rhat = jax.vmap(
        lambda chain: split_rhat(jnp.concatenate([invariants[:, :num_chains], chain[:, None]], 1)).max(), in_axes=1
    )(invariants[:, num_chains:])

    def log_mass(one: GaussianApproximation) -> jax.Array:  # Laplace's, up to a constant
        return jnp.log(linalg.eigh(one.root)[0]).sum() - target.potential(one.mode)

    share = jax.nn.sigmoid(jax.vmap(log_mass)(others) - log_mass(bridge))
    stats = {"other_log_density": invariants[0, num_chains:], "other_rhat": rhat, "other_share": share}
    apart = ~(rhat < rhat_limit(invariants.shape[-1])) & (share > MIN_SHARE)
    good = (status <= PosteriorStatus.DIVERGENCES) & apart.any()
    return stats, jnp.where(good, PosteriorStatus.MULTIMODAL, status)


def judge(
    bridge: GaussianApproximation, log_density: jax.Array, diverging: jax.Array, rhat: jax.Array, adapted: bool
) -> jax.Array:
    """The gravest finding."""
    finite = jnp.isfinite(log_density).all() & jnp.isfinite(bridge.value)
    stuck = (log_density == log_density[:, :1]).all(-1).any() & (log_density.shape[1] > 1)
    good = PosteriorStatus.FULL_WARMUP if adapted else PosteriorStatus.OK
    status = jnp.where(bridge.sound | adapted, good, PosteriorStatus.POOR_METRIC)
    status = jnp.where(diverging.any(), PosteriorStatus.DIVERGENCES, status)
    status = jnp.where(~(rhat < rhat_limit(log_density.shape[1])), PosteriorStatus.UNMIXED, status)
    status = jnp.where((diverging.mean() > 0.5) | stuck, PosteriorStatus.ALL_DIVERGENT, status)
    return jnp.where(finite, status, PosteriorStatus.NONFINITE)
