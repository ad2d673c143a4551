"""nuts: draws from the posterior by the no-U-turn sampler, from where EM ended. Hoffman & Gelman (2014).

NumPyro's `MCMC` and `NUTS` do the sampling, inside one jitted function, in the coordinates that the bridge makes.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from numpyro.infer import MCMC, NUTS

from ..checks import caller_warns, check_count, check_number, is_traced
from ..mixture import Mixture
from ..prior import IndependentPrior, Prior
from .bridge import (
    Bridge,
    Problem,
    build_bridge,
    chain_starts,
    from_standard,
    log_volume,
    make_space,
    reference_total,
    standardise,
    to_standard,
)
from .diagnostics import split_rhat
from .draws import Posterior, PosteriorStatus, at_the_door

# NumPyro's last window, which settles the step size, is 50 steps from 150 on, and a tenth of fewer
SHORT_WARMUP, FULL_WARMUP = 150, 1000
_FIRST_STEP = 0.3  # dual averaging tries ten times it at once: NumPyro's 1.0 loses chains that start far out
_FIELDS = ("diverging", "num_steps", "accept_prob", "energy", "potential_energy", "adapt_state.step_size")


def nuts(
    key: jax.Array,
    start: Mixture,
    x: Any,
    prior: Prior | IndependentPrior,
    *,
    num_samples: int = 1000,
    num_chains: int = 4,
    num_warmup: int | None = None,
    sample_weight: Any = None,
    adapt_mass_matrix: bool | None = None,
    target_accept_prob: float | None = None,
    max_tree_depth: int = 10,
    progress: bool = False,
) -> Posterior:
    """Draws from p(weights, means, covariances | x) by NUTS on the marginal likelihood, chains started around an EM solution.

    From the start damped Newton goes to the mode in NumPyro's unconstrained space, whose information becomes the inverse mass
    matrix; chains start over-dispersed around it and only their step sizes are adapted. That is believed if the posterior is
    about normal there: smallest eigenvalue, Pareto k-hat, counts (all in `stats`). If not, or if the chains then disagree or
    diverge, eager calls run a full warm-up with dense adaptation; traced ones cannot look and say so in the status. All chains
    carry the start's labelling; see `relabel` before summaries of single components.

    Args:
        key: a random key.
        start: one mixture with no empty component, as `fit(...).mixture`, best under the same prior.
        x: (N, D).
        prior: a Prior or IndependentPrior, proper.
        num_samples: S, draws a chain.
        num_chains: C, run side by side.
        num_warmup: steps before; None is 150 with the fixed mass matrix, 1000 with adaptation.
        sample_weight: (N,) >= 0: an integer weight counts as repetition, 0 silences a row, whatever it holds.
        adapt_mass_matrix: None decides as said above; True or False insists.
        target_accept_prob: of the step size adaptation; None is 0.8, with adaptation 0.9.
        max_tree_depth: doublings a draw at most; smaller bounds the cost of a lane under vmap.
        progress: NumPyro's progress bar, eager only; compiles anew each time.

    Returns:
        A Posterior with mixture (C, S, ...) in data units and x's float dtype. stats: diverging, num_steps, tree_depth,
        accept_prob, energy (C, S); step_size (C,); counts at the mode (K,); khat, min_eigenvalue, newton_steps, num_warmup,
        adapted, and rhat of the log density and of the sizes of components ().

    Raises:
        ValueError, TypeError: start, data, prior or options that make no sense; traced values are not looked at.

    Warns:
        RuntimeWarning: eager only: the status is worse than FULL_WARMUP.

    Example:
        >>> import jax, jaxgmm
        >>> x = jaxgmm.datasets.load("galaxies")
        >>> prior = jaxgmm.default_prior(x, num_components=1)
        >>> fit = jaxgmm.fit(jaxgmm.initialize(jax.random.key(0), x, num_components=1), x, prior)
        >>> jaxgmm.nuts(jax.random.key(1), fit.mixture, x, prior, num_samples=100).mixture.means.shape
        (4, 100, 1, 1)
    """
    start, x, weight, prior = at_the_door(key, start, x, prior, sample_weight, num_samples, num_chains)
    _check_options(num_warmup, adapt_mass_matrix, target_accept_prob, max_tree_depth)
    traced = is_traced(key, start, x, weight, prior, target_accept_prob)
    key_bridge, key_chains = jax.random.split(key)
    problem, bridge = _bridge(key_bridge, start, x, weight, prior)
    if not traced and not bool(jnp.isfinite(bridge.value)):
        raise ValueError(
            "start has no finite posterior density: the prior's density or the data's is zero or overflows there; "
            "start from jaxgmm.fit(start, x, prior).mixture under the same prior."
        )
    run = partial(
        _run,
        key_chains,
        bridge,
        problem,
        prior,
        num_samples=num_samples,
        num_chains=num_chains,
        num_warmup=num_warmup,
        target_accept_prob=target_accept_prob,
        max_tree_depth=max_tree_depth,
        progress=progress and not traced,
    )
    if adapt_mass_matrix is not None or traced:
        posterior = run(adapt=bool(adapt_mass_matrix))
    else:
        posterior = run(adapt=False) if bool(bridge.sound) else None
        if posterior is None or _disappoints(posterior):
            posterior = run(adapt=True)
    posterior = jax.tree.map(lambda leaf: leaf.astype(x.dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf, posterior)
    if not traced and int(posterior.status) > PosteriorStatus.FULL_WARMUP:
        caller_warns(PosteriorStatus(int(posterior.status)).sentence)
    return posterior


def _disappoints(posterior: Posterior) -> bool:
    """A second look, at the draws: k-hat cannot see a mode that its proposals miss."""
    limit = 1.01 + 4 / posterior.log_density.shape[1]
    return int(posterior.status) != PosteriorStatus.OK or float(posterior.stats["rhat"]) > limit


def _run(
    key: jax.Array,
    bridge: Bridge,
    problem: Problem,
    prior: Prior | IndependentPrior,
    *,
    num_warmup: int | None,
    adapt: bool,
    target_accept_prob: Any,
    progress: bool,
    **options: Any,
) -> Posterior:
    if num_warmup is None:
        num_warmup = FULL_WARMUP if adapt else SHORT_WARMUP
    if target_accept_prob is None:
        target_accept_prob = 0.9 if adapt else 0.8
    # a bar is drawn from the host, between steps: not inside jit
    function = _sample.__wrapped__ if progress else _sample
    return function(
        key,
        bridge,
        problem,
        prior,
        jnp.asarray(target_accept_prob, problem.y.dtype),
        num_warmup=num_warmup,
        adapt=adapt,
        progress=progress,
        **options,
    )


def _check_options(num_warmup: Any, adapt_mass_matrix: Any, target_accept_prob: Any, max_tree_depth: Any) -> None:
    if num_warmup is not None:
        check_count(num_warmup, "num_warmup", 0)
    if adapt_mass_matrix not in (None, True, False):
        raise TypeError(f"adapt_mass_matrix is {adapt_mass_matrix!r}; None, True or False was expected.")
    if target_accept_prob is not None:
        check_number(target_accept_prob, "target_accept_prob", exclusive=True)
        if not is_traced(target_accept_prob) and float(target_accept_prob) >= 1:
            raise ValueError(f"target_accept_prob is {float(target_accept_prob):g}; a number between 0 and 1 was expected.")
    check_count(max_tree_depth, "max_tree_depth")


@jax.jit
def _bridge(
    key: jax.Array, start: Mixture, x: jax.Array, weight: jax.Array | None, prior: Prior | IndependentPrior
) -> tuple[Problem, Bridge]:
    problem = standardise(x, weight, prior, start.covariance_type)
    return problem, build_bridge(key, to_standard(start, problem), problem)


@partial(jax.jit, static_argnames=("num_samples", "num_chains", "num_warmup", "adapt", "max_tree_depth", "progress"))
def _sample(
    key: jax.Array,
    bridge: Bridge,
    problem: Problem,
    prior: Prior | IndependentPrior,
    target_accept_prob: jax.Array,
    *,
    num_samples: int,
    num_chains: int,
    num_warmup: int,
    adapt: bool,
    max_tree_depth: int,
    progress: bool,
) -> Posterior:
    key_start, key_run = jax.random.split(key)
    space = make_space(problem, bridge.start)
    kernel = NUTS(
        potential_fn=lambda u: space.potential(bridge.mode + bridge.root @ u),
        step_size=_FIRST_STEP,
        adapt_mass_matrix=adapt,
        dense_mass=adapt,
        target_accept_prob=target_accept_prob,
        max_tree_depth=max_tree_depth,
    )
    sampler = MCMC(
        kernel,
        num_warmup=num_warmup,
        num_samples=num_samples,
        num_chains=num_chains,
        chain_method="vectorized",
        progress_bar=progress,
    )
    starts = chain_starts(key_start, bridge, num_chains)
    sampler.run(key_run, init_params=starts if num_chains > 1 else starts[0], extra_fields=_FIELDS)
    fields = sampler.get_extra_fields(group_by_chain=True)
    draws = sampler.get_samples(group_by_chain=True)  # (C, S, P)
    mixture, jacobian = jax.vmap(jax.vmap(lambda u: space.unflatten(bridge.mode + bridge.root @ u)))(draws)
    log_density = reference_total(problem, bridge.start) - fields["potential_energy"] - jacobian
    log_density += log_volume(problem, mixture.covariance_type, mixture.num_components)
    sizes = [(mixture.weights**2).sum(-1)] if mixture.num_components > 1 else []
    rhat = split_rhat(jnp.stack([log_density, *sizes])).max()
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
        "num_warmup": jnp.array(num_warmup),
        "adapted": jnp.array(adapt),
    }
    status = _judge(bridge, mixture, log_density, fields["diverging"], rhat, adapt)
    return Posterior(from_standard(mixture, problem), log_density, prior, status, stats, "nuts")


def _judge(
    bridge: Bridge, mixture: Mixture, log_density: jax.Array, diverging: jax.Array, rhat: jax.Array, adapted: bool
) -> jax.Array:
    """The gravest finding."""
    finite = jnp.isfinite(log_density).all() & jnp.isfinite(bridge.value)
    stuck = (log_density == log_density[:, :1]).all(-1).any() & (log_density.shape[1] > 1)
    # over few draws R-hat of good chains varies too
    limit = 1.05 + 10 / log_density.shape[1]
    good = PosteriorStatus.FULL_WARMUP if adapted else PosteriorStatus.OK
    status = jnp.where(bridge.sound | adapted, good, PosteriorStatus.POOR_METRIC)
    status = jnp.where(diverging.any(), PosteriorStatus.DIVERGENCES, status)
    status = jnp.where(~(rhat < limit), PosteriorStatus.UNMIXED, status)
    status = jnp.where((diverging.mean() > 0.5) | stuck, PosteriorStatus.ALL_DIVERGENT, status)
    return jnp.where(finite, status, PosteriorStatus.NONFINITE)
