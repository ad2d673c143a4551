"""nuts: draws from the posterior by the no-U-turn sampler, from where EM ended. Hoffman & Gelman (2014).

NumPyro's `MCMC` and `NUTS` do the sampling, inside one jitted function, in the coordinates that the bridge makes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import ahead
from ..inputs import check_sampling_options, check_start, validate_inputs
from ..mixture import Mixture
from ..validation import check_count, check_number, is_traced
from .chains import sample_chains
from .gaussian_approximation import GaussianApproximation, build_approximation, prepare, refuse_without_density
from .result import Posterior, PosteriorStatus, in_dtype, warn_of
from .standardization import StandardizedProblem, standardise, to_standard
from .user_model import check_model, check_prior_leaves, has_bridge, raw_problem, user_model_approximation

# NumPyro's last window, which settles the step size, is 50 steps from 150 on, and a tenth of fewer
SHORT_WARMUP, FULL_WARMUP = 150, 1000


def nuts(
    key: jax.Array,
    start: Mixture,
    x: Any,
    prior: Any,
    *,
    model: Callable | None = None,
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

    A start with a leading axis (M,) holds other good EM optima after the first: one chain from each stays outside of the draws,
    with its log density in `stats`, so that another mode shows and biases nothing.

    A model of your own is called as model(x, prior, num_components=K, covariance_type=...), with sample_weight= too if one is
    given, and has sites or deterministics weights, means and covariances in the shapes of a Mixture. Where its latent sites are
    those of `jaxgmm.model`, or covariances itself, all is as above, in data units. Where not, there is no bridge: chains start
    at what the start tells of sites by their names, elsewhere at random, and a full warm-up is run.

    Args:
        key: a random key.
        start: one mixture with no empty component, as `fit(...).mixture`, best under the same prior; or a stack (M,) of them.
        x: (N, D).
        prior: a Prior or IndependentPrior, proper; with a model of your own, any pytree of arrays that it takes, or None.
        model: a NumPyro model, or None for `jaxgmm.model`'s. Compiled anew for each function object.
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
        adapted, and rhat of the log density and of the sizes of components (). With a stack of J + 1 starts: other_log_density
        (J, S); other_rhat (J,), of each such chain beside the draws, near 1 if it came to them; other_share (J,), its mode's mass
        as a share of its own and the first one's, by Laplace. With a model of your own: log_likelihood (C, S), of what it
        observes, factors included; sites, draws (C, S, ...) of its other latent sites by name, which relabel leaves as they
        are; the posterior's prior is None, and where its sites are not jaxgmm's, log_density is one in its own sites.

    Raises:
        ValueError, TypeError: start, data, prior, model or options that make no sense, a start where density or gradient is
            not finite; traced values are not looked at.

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
    start, others = _split(start)
    check_sampling_options(key, num_samples, num_chains)
    prior_is = "required" if model is None else "unchecked"
    start, x, weight, prior = validate_inputs(start, x, prior, sample_weight, name="start", prior_is=prior_is, is_start=True)
    _check_options(num_warmup, adapt_mass_matrix, target_accept_prob, max_tree_depth)
    if model is not None:
        check_model(model)
        prior = check_prior_leaves(prior)
    traced = is_traced(key, start, others, x, weight, prior, target_accept_prob)
    key_bridge, key_chains = jax.random.split(key)
    if model is not None and not has_bridge(model, start, x, weight, prior):
        if others is not None:
            raise ValueError("start is a stack, and a mixture does not say where the model's sites are; give one start.")
        adapt_mass_matrix = True if adapt_mass_matrix is None else adapt_mass_matrix
    run = partial(
        _run,
        key_chains,
        prior=prior if model is None else None,
        model=model,
        num_samples=num_samples,
        num_chains=num_chains,
        num_warmup=num_warmup,
        target_accept_prob=target_accept_prob,
        max_tree_depth=max_tree_depth,
        progress=progress and not traced,
    )
    if not traced and model is None and others is None and not progress:
        _compile_ahead(run, (key_bridge, start, x, weight, prior), bool(adapt_mass_matrix))
    problem, bridge, others = _bridges(key_bridge, start, others, x, weight, prior, model, traced)
    posterior = _choose(partial(run, bridge, others, problem), bridge, adapt_mass_matrix, traced)
    posterior = in_dtype(posterior, x.dtype)
    if not traced:
        warn_of(posterior)
    return posterior


def _split(start: Any) -> tuple[Any, Mixture | None]:
    """The first start, and the others where there are any."""
    if not isinstance(start, Mixture) or len(start.batch_shape) != 1 or not start.batch_shape[0]:
        return start, None
    others = start[1:] if start.batch_shape[0] > 1 else None
    if others is not None and not is_traced(others):
        with jax.ensure_compile_time_eval():
            for j in range(others.batch_shape[0]):
                check_start(others[j])
    return start[0], others


def _compile_ahead(run: Callable, arguments: tuple, adapt: bool) -> None:
    """Has both programs compiled at the same time: the first one's results are the second one's arguments, in their shapes."""
    ahead.start(prepare, *arguments)
    problem, bridge = jax.eval_shape(prepare, *arguments)
    run(bridge, None, problem, adapt=adapt, enter=ahead.start)


def _choose(run: Callable, bridge: GaussianApproximation, adapt: bool | None, traced: bool) -> Posterior:
    """The short warm-up, the full one, or both: by insistence, by the gate, by a look at the draws."""
    if adapt is not None or traced:
        return run(adapt=bool(adapt))
    posterior = run(adapt=False) if bool(bridge.sound) else None
    if posterior is None or _disappoints(posterior):
        posterior = run(adapt=True)
    return posterior


def _disappoints(posterior: Posterior) -> bool:
    """A second look, at the draws: k-hat cannot see a mode that its proposals miss; one seen from another start stays there."""
    limit = 1.01 + 4 / posterior.log_density.shape[1]
    good = (PosteriorStatus.OK, PosteriorStatus.MULTIMODAL)
    return int(posterior.status) not in good or float(posterior.stats["rhat"]) > limit


def _run(
    key: jax.Array,
    bridge: GaussianApproximation,
    others: GaussianApproximation | None,
    problem: StandardizedProblem,
    *,
    prior: Any,
    num_warmup: int | None,
    adapt: bool,
    target_accept_prob: Any,
    progress: bool,
    enter: Callable = ahead.call,
    **options: Any,
) -> Posterior:
    if num_warmup is None:
        num_warmup = FULL_WARMUP if adapt else SHORT_WARMUP
    if target_accept_prob is None:
        target_accept_prob = 0.9 if adapt else 0.8
    # a bar is drawn from the host, between steps: not inside jit
    return (sample_chains.__wrapped__ if progress else partial(enter, sample_chains))(
        key,
        bridge,
        others,
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


def _bridges(
    key: jax.Array,
    start: Mixture,
    others: Mixture | None,
    x: jax.Array,
    weight: jax.Array | None,
    prior: Any,
    model: Callable | None,
    traced: bool,
) -> tuple[StandardizedProblem, GaussianApproximation, GaussianApproximation | None]:
    """Coordinates, and a bridge from each start; refused, unless traced, where there is none."""
    if others is None and model is None:
        problem, bridge = ahead.call(prepare, key, start, x, weight, prior)  # the program that laplace and compare enter by too
        agrees = np.array(True)
    elif others is None:
        problem, bridge, agrees = _bridge(key, start, x, weight, prior, model=model)
    else:
        starts = jax.tree.map(lambda one, rest: jnp.concatenate([one[None], rest.astype(one.dtype)]), start, others)
        problem, bridge, agrees = _bridge(key, starts, x, weight, prior, model=model)
    if not traced:
        refuse_without_density(bridge)
    if not traced and not bool(agrees.all()):
        raise ValueError(
            "model has sites named as jaxgmm.model's that mean something else: at the start's values its weights, means and "
            "covariances are not the start's; give such sites other names."
        )
    if others is None:
        return problem, bridge, None
    return problem, *(jax.tree.map(lambda leaf, part=part: leaf[part], bridge) for part in (0, slice(1, None)))


@partial(jax.jit, static_argnames="model")
def _bridge(
    key: jax.Array, start: Mixture, x: jax.Array, weight: jax.Array | None, prior: Any, *, model: Callable | None
) -> tuple[StandardizedProblem, GaussianApproximation, jax.Array]:
    """A bridge, or a stack of them from a stack of starts, and whether the model's sites mean what they are called."""
    if model is None:
        problem = standardise(x, weight, prior, start.covariance_type)
        build = lambda key, start: (build_approximation(key, to_standard(start, problem), problem), jnp.array(True))  # noqa: E731
    else:
        problem = raw_problem(x, weight, prior)
        start = jax.tree.map(lambda leaf: leaf.astype(problem.y.dtype), start)
        build = lambda key, start: user_model_approximation(key, model, problem, start)  # noqa: E731
    if not start.batch_shape:
        return problem, *build(key, start)
    return problem, *jax.vmap(build)(jax.random.split(key, start.batch_shape[0]), start)
