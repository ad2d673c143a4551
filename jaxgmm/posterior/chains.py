"""Draw from the posterior by chains of NUTS, in the coordinates of a Gaussian approximation."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .. import linalg
from ..density import log_prob
from ..devices.chain_shards import over_chains
from ..mixture import Mixture
from .diagnostics import rhat_limit, split_rhat
from .gaussian_approximation import GaussianApproximation, overdispersed_starts
from .likelihood import reference_total
from .mixing import Mixing, judge_mixing, label_invariant_draws, measure_mixing
from .nuts_chains import ChainOptions, make_kernel, run_chains
from .result import Posterior, PosteriorStatus, is_usable
from .standardization import StandardizedProblem, from_standard, log_volume
from .unconstrained_space import make_unconstrained_space
from .user_model import user_model_starts
from .user_model_space import Statistics, make_user_space

# Smallest share of another mode that is reported. The share is the mass of the other mode, divided by the sum of this mass and
# the mass of the main mode.
_SMALLEST_MODE = 0.01


class Approximations(NamedTuple):
    """The standardised problem, and Gaussian approximations of its posterior.

    Attributes:
        problem: the data and the prior.
        main: the approximation at the mode that is sampled.
        others: approximations (J, ...) at other modes, or None.
    """

    problem: StandardizedProblem
    main: GaussianApproximation
    others: GaussianApproximation | None


class Target(NamedTuple):
    """The distribution that is sampled, given by two functions.

    Attributes:
        potential: a function of a point z (P,). It returns minus the log density of z, ().
        describe: a function of points z (C, S, P) and their potentials (C, S). It returns mixtures (C, S, ...) in data units,
            log densities (C, S), and a dictionary of additional statistics.
    """

    potential: Callable[[jax.Array], jax.Array]
    describe: Callable[[jax.Array, jax.Array], tuple[Mixture, jax.Array, Statistics]]


def make_target(problem: StandardizedProblem, start: Mixture, model: Callable[..., object] | None) -> Target:
    """Return the posterior to sample from. Its model is the user's `model`, or `jaxgmm.model` if `model` is None."""
    if model is not None:
        user = make_user_space(model, problem, start)
        return Target(user.space.potential, lambda z, potentials: user.describe(z))
    space = make_unconstrained_space(problem, start)

    def describe(z: jax.Array, potentials: jax.Array) -> tuple[Mixture, jax.Array, Statistics]:
        mixture, jacobian = jax.vmap(jax.vmap(space.unflatten))(z)
        log_density = reference_total(problem, start) - potentials - jacobian
        log_density += log_volume(problem, mixture.covariance_type, mixture.num_components)
        return from_standard(mixture, problem), log_density, {}

    return Target(space.potential, describe)


@partial(jax.jit, static_argnames="options")
def sample_chains(
    key: jax.Array,
    approximations: Approximations,
    prior: Any,
    target_accept_prob: jax.Array | np.ndarray,
    bar: jax.Array | None = None,
    *,
    options: ChainOptions,
) -> Posterior:
    """Draw from the posterior, with chains that start around the mode of the main approximation.

    One additional chain starts at each of the J other modes. The draws of these chains are compared with the draws of the main
    chains, but they are not part of the result. `bar` is the number that identifies a progress bar for steps, or None.
    """
    problem, main, others = approximations
    num_chains = options.num_chains
    key_start, key_run = jax.random.split(key)
    target = make_target(problem, main.start, options.model)
    starts = _chain_starts(key_start, approximations, options)

    run = partial(_run_from, options, bar, target if options.mesh is None else None)
    keys = jax.random.split(key_run, len(starts))
    u, fields = over_chains(run, options.mesh, (keys, starts), (approximations, target_accept_prob))
    z = main.mode + jnp.matmul(u, main.root.T, precision="highest")
    mixture, log_density, further = target.describe(z, fields["potential_energy"])
    invariants = jnp.stack([log_density, *([(mixture.weights**2).sum(-1)] if mixture.num_components > 1 else [])])
    fields = {name: field[:num_chains] for name, field in fields.items()}
    ours = jax.tree.map(lambda leaf: leaf[:num_chains], (mixture, log_density))
    mixing = measure_mixing(label_invariant_draws(*ours))
    stats = _statistics(main, mixing, fields, options)
    status = chains_status(main, ours[1], fields["diverging"], mixing, options.adapt)
    if others is not None:
        invariants = jnp.concatenate([invariants, _log_prob_at_starts(mixture, problem, (main, others))])
        found = _compare_modes(main, others, target, invariants[:, :num_chains], invariants[:, num_chains:])
        stats |= found
        apart = ~(found["other_rhat"] < rhat_limit(options.num_samples)) & (found["other_share"] > _SMALLEST_MODE)
        settled = is_usable(status) & (status != PosteriorStatus.UNMIXED)
        status = jnp.where(settled & apart.any(), PosteriorStatus.MULTIMODAL, status)
    mixture, log_density, further = jax.tree.map(lambda leaf: leaf[:num_chains], (mixture, log_density, further))
    stats = stats | {"num_warmup": jnp.array(options.num_warmup)} | further
    return Posterior(mixture, log_density, prior, status, stats, "nuts")


def _run_from(
    options: ChainOptions,
    bar: jax.Array | None,
    target: Target | None,
    keys: jax.Array,
    starts: jax.Array,
    approximations: Approximations,
    target_accept_prob: jax.Array | np.ndarray,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Return `run_chains` for a target; if it is None, make the target, because each device needs its own."""
    problem, main, _ = approximations
    potential = (target or make_target(problem, main.start, options.model)).potential
    kernel = make_kernel(lambda u: potential(main.mode + main.root @ u), target_accept_prob, bar, options, len(starts))
    return run_chains(keys, starts, kernel, options)


def _chain_starts(key: jax.Array, approximations: Approximations, options: ChainOptions) -> jax.Array:
    """Return the starts (C + J, P) of all chains, in the coordinates u of the main approximation.

    The first C starts are over-dispersed around the mode of the main approximation. The last J starts are the other modes.
    """
    problem, main, others = approximations
    if options.model is None:
        starts = overdispersed_starts(key, main, options.num_chains)
    else:
        starts = user_model_starts(key, options.model, main, problem, options.num_chains)
    if others is None:
        return starts
    return jnp.concatenate([starts, linalg.solve(main.root, (others.mode - main.mode).T).T])


def _statistics(
    main: GaussianApproximation, mixing: Mixing, fields: dict[str, jax.Array], options: ChainOptions
) -> dict[str, jax.Array]:
    """Return the statistics of the chains by name.

    They are the R-hat and effective sample size of label-invariant quantities, NumPyro's fields (C, S), and statistics of the
    approximation.
    """
    return {
        "diverging": fields["diverging"],
        "num_steps": fields["num_steps"],
        "tree_depth": jnp.ceil(jnp.log2(fields["num_steps"] + 1)).astype(int),
        "accept_prob": fields["accept_prob"],
        "energy": fields["energy"],
        "step_size": fields["adapt_state.step_size"][:, -1],
        "khat": main.khat,
        "min_eigenvalue": main.min_eigenvalue,
        "newton_steps": main.num_steps,
        "counts": main.counts,
        "rhat": mixing.rhat,
        "ess": mixing.ess,
        "adapted": jnp.array(options.adapt),
    }


def _log_prob_at_starts(
    mixture: Mixture, problem: StandardizedProblem, approximations: tuple[GaussianApproximation, GaussianApproximation]
) -> jax.Array:
    """Return the log density of each drawn mixture at Q points, (Q, C, S). The points are the component means of all starts.

    These quantities are label-invariant, and together they distinguish any two modes.
    """
    points = [from_standard(one.start, problem).means.reshape(-1, problem.y.shape[1]) for one in approximations]
    return jnp.moveaxis(log_prob(mixture, jnp.concatenate(points)), -1, 0)


def _compare_modes(
    main: GaussianApproximation,
    others: GaussianApproximation,
    target: Target,
    draws: jax.Array,
    other_draws: jax.Array,
) -> dict[str, jax.Array]:
    """Return statistics, by name, that compare the chains from the J other modes with the main chains.

    other_log_density (J, S): the log densities of the other chains' draws. other_rhat (J,): for each other chain, R-hat of the
    main chains together with this chain. other_share (J,): for each other mode, its mass divided by the sum of its mass and the
    mass of the main mode. The inputs draws (Q, C, S) and other_draws (Q, J, S) hold Q label-invariant quantities. The first
    quantity is the log density.
    """

    def rhat(chain: jax.Array) -> jax.Array:
        return split_rhat(jnp.concatenate([draws, chain[:, None]], 1)).max()

    def log_mass(one: GaussianApproximation) -> jax.Array:
        """Return the log mass of a mode by Laplace's method, up to an additive constant."""
        return jnp.log(linalg.eigh(one.root)[0]).sum() - target.potential(one.mode)

    share = jax.nn.sigmoid(jax.vmap(log_mass)(others) - log_mass(main))
    return {
        "other_log_density": other_draws[0],
        "other_rhat": jax.vmap(rhat, in_axes=1)(other_draws),
        "other_share": share,
    }


def chains_status(
    approximation: GaussianApproximation, log_density: jax.Array, diverging: jax.Array, mixing: Mixing, adapted: bool
) -> jax.Array:
    """Return the most severe PosteriorStatus that applies, as an array (). Log densities and divergences are (C, S)."""
    finite = jnp.isfinite(log_density).all() & jnp.isfinite(approximation.value)
    stuck = (log_density == log_density[:, :1]).all(-1).any() & (log_density.shape[1] > 1)
    mixed = judge_mixing(mixing, *log_density.shape)
    good = PosteriorStatus.FULL_WARMUP if adapted else PosteriorStatus.OK
    status = jnp.where(mixed == PosteriorStatus.FEW_DRAWS, mixed, good)
    status = jnp.where(approximation.sound | adapted, status, PosteriorStatus.POOR_METRIC)
    status = jnp.where(diverging.any(), PosteriorStatus.DIVERGENCES, status)
    status = jnp.where(mixed == PosteriorStatus.UNMIXED, mixed, status)
    status = jnp.where((diverging.mean() > 0.5) | stuck, PosteriorStatus.ALL_DIVERGENT, status)
    return jnp.where(finite, status, PosteriorStatus.NONFINITE)
