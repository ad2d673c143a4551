"""nuts: draw from the posterior by the no-U-turn sampler, starting at an EM solution. Hoffman & Gelman (2014).

NumPyro's `MCMC` and `NUTS` do the sampling inside one jitted function, in the coordinates of a Gaussian approximation.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from numpy.typing import ArrayLike

from ..calls import public
from ..covariance.types import check_uncoupled_type
from ..devices.chain_shards import chain_mesh
from ..incomplete.observations import Observations
from ..inputs import Inputs, check_draws, check_sampling_options, check_start, pad_inputs, validate_inputs
from ..mixture import Mixture, MixtureLike, as_mixture
from ..priors.interface import check_normalised
from ..progress import program_bar
from ..validation import check_count, check_number, check_progress, is_traced
from .chains import Approximations, sample_chains
from .combined_modes import sample_modes
from .gaussian_approximation import GaussianApproximation, approximate_posterior, check_density_at_start
from .mixing import R_HAT_LIMIT
from .nuts_chains import ChainOptions, num_bar_steps
from .result import Posterior, PosteriorStatus, in_dtype, warn_if_unreliable
from .user_model import approximate_user_posterior, check_model, mixture_determines_sites, prior_as_arrays

# Numbers of steps of the short and of the full warm-up. The short one has 150 steps, because NumPyro's last warm-up window, in
# which the step size settles, then has 50 steps. In a shorter warm-up, this window would have only a tenth of the steps.
SHORT_WARMUP, FULL_WARMUP = 150, 1000


@public
def nuts(
    key: jax.Array,
    start: MixtureLike,
    x: ArrayLike | Observations,
    prior: Any,
    *,
    model: Callable[..., object] | None = None,
    start_mass: ArrayLike | None = None,
    num_samples: int = 1000,
    num_chains: int = 4,
    num_warmup: int | None = None,
    sample_weight: ArrayLike | None = None,
    adapt_mass_matrix: bool | None = None,
    target_accept_prob: float | None = None,
    max_tree_depth: int = 10,
    progress: bool | None = None,
) -> Posterior:
    """Draw from p(weights, means, covariances | x) by NUTS, with the labels summed out. Chains start near an EM solution.

    A damped Newton method descends from the start to the mode in NumPyro's unconstrained space. The inverse information at the
    mode becomes the mass matrix. The starts of the chains are over-dispersed around the mode, and a short warm-up adapts only
    the step sizes. This is enough if the posterior is approximately Gaussian around the mode. Three statistics in `stats` show
    whether it is: the smallest eigenvalue of the information, Pareto k-hat, and the number of points in each component. If the
    posterior is not approximately Gaussian, or if the chains disagree or have divergences after the short warm-up, a full
    warm-up with a dense mass matrix follows. Inside jit no such decision is possible, and the status only reports the problem.
    All chains start with the start's labelling: call `relabel` before you summarise single components.

    A start with a leading axis (M,) is a stack of good EM optima. The first is the start of the chains described above. One
    additional chain runs from each of the other optima. The draws of these chains do not become part of the result, so they
    cannot bias it. Their log densities are in `stats`, so that you notice other modes.

    If you pass the mass of each mode, the draws describe all modes: nuts(key, modes.mixture, x, prior,
    start_mass=modes.mass), where `modes` is a result of `jaxgmm.modes`. Chains then run around each mode, with a Gaussian
    approximation of its own. Each chain of the result holds draws from all modes in proportion to the masses, in random order.
    The masses are taken as given: neither R-hat nor the effective sample size includes their error. R-hat is computed within
    each mode, so it is large if only some of the chains around a mode leave this mode.

    A model of your own is called as model(x, prior, num_components=K, covariance_type=...), and also with sample_weight= if
    weights are given. It must have sites or deterministics named weights, means and covariances, with the shapes that a Mixture
    has. If its latent sites are those of `jaxgmm.model`, or covariances is itself the latent site, everything above holds, but
    the data are not standardised. Otherwise there is no approximation, and a full warm-up is run. The chains then begin near
    the values of `start` for latent sites that share a name with these sites, and at random values for all other latent sites.

    Args:
        key: a random key.
        start: a Fit, or a Mixture, without empty components, ideally fitted under the same prior; or a stack
            (M,) of such mixtures.
        x: (N, D), in the units of the means, or `observations`.
        prior: a proper Prior or IndependentPrior. For a model of your own: any pytree of arrays that the model accepts, or
            None.
        model: a NumPyro model, or None for `jaxgmm.model`. A new function object causes a new compilation.
        start_mass: (M,) >= 0, the posterior masses of the modes at which a stack of starts lies, up to a common factor. A mode
            that would contribute less than half a draw is left out.
        num_samples: S, draws per chain.
        num_chains: C, number of chains. On a CPU they run one after another, on other devices at the same time.
        num_warmup: number of warm-up steps; None means 150 with a fixed mass matrix and 1000 with an adapted one.
        sample_weight: (N,) >= 0. A row with an integer weight w counts as w equal rows. A row of weight 0 is ignored, whatever
            values it holds.
        adapt_mass_matrix: whether the warm-up adapts the mass matrix; None decides as described above.
        target_accept_prob: target of the step size adaptation; None means 0.8 with a fixed mass matrix and 0.9 with an adapted
            one.
        max_tree_depth: the largest number of doublings per draw. A smaller number limits the cost under vmap, where every step
            takes as long as the slowest data set needs.
        progress: whether to show a progress bar, outside jit only; None: show it on a terminal. The program that advances a bar
            is compiled once in each process: a compilation cache on disk does not keep it.

    Returns:
        A Posterior with mixture (C, S, ...) in data units and x's float dtype. Its stats have these entries:

        | entry | shape | meaning |
        | --- | --- | --- |
        | diverging | (C, S) | whether the trajectory diverged |
        | num_steps | (C, S) | number of leapfrog steps |
        | tree_depth | (C, S) | number of doublings of the trajectory |
        | accept_prob | (C, S) | mean acceptance probability along the trajectory |
        | energy | (C, S) | the Hamiltonian, in nats |
        | step_size | (C,) | step size after the warm-up |
        | counts | (K,) | expected number of points in each component at the mode |
        | khat | () | Pareto k-hat of the normal approximation at the mode |
        | min_eigenvalue | () | smallest eigenvalue of the information at the mode |
        | newton_steps | () | number of Newton steps from the start to the mode |
        | num_warmup | () | number of warm-up steps |
        | adapted | () | whether the warm-up adapted the mass matrix |
        | rhat | () | largest R-hat of label-invariant quantities; NaN with fewer than 4 draws per chain |
        | ess | () | smallest effective sample size of these quantities, or NaN |

        With a stack of J + 1 starts, each start but the first gets an additional chain. These stats describe the J chains:

        | entry | shape | meaning |
        | --- | --- | --- |
        | other_log_density | (J, S) | log densities of the draws |
        | other_rhat | (J,) | R-hat of the posterior's draws and this chain; near 1 if the chain moved to the first mode |
        | other_share | (J,) | mass / (mass + mass of the first mode) of the mode where the chain starts, by Laplace's method |

        With start_mass, stats has no energy, but has mode (C, S): the index of the start of each draw among the starts that
        are not left out. step_size and counts have a leading axis of modes. khat, newton_steps, num_warmup, adapted and
        rhat are the largest over the modes; min_eigenvalue and ess are the smallest.

        With your own model, the posterior's prior is None, and there are these additional stats:

        | entry | shape | meaning |
        | --- | --- | --- |
        | log_likelihood | (C, S) | log-likelihood of all observed sites, including those of numpyro.factor |
        | pointwise_log_likelihood | (C, S, N) | log-likelihood of each row; only if all rows have own terms, at most 1.6e7 |
        | sites | dict | draws (C, S, ...) of the other latent sites, which `relabel` does not reorder |

        Unless the sites are those of `jaxgmm.model`, log_density is then a density with respect to the model's own sites.

    Raises:
        ValueError, TypeError: the start, the data, the prior, the model or an option is invalid, or the density or its gradient
            at the start is not finite. Traced values are not checked.

    Warns:
        RuntimeWarning: outside jit, if the status is none of OK, FULL_WARMUP and FEW_DRAWS.

    Example:
        >>> import jax, jaxgmm
        >>> x = jaxgmm.datasets.load("galaxies")
        >>> prior = jaxgmm.default_prior(x, num_components=1)
        >>> fit = jaxgmm.fit(jaxgmm.initialize(jax.random.key(0), x, num_components=1), x, prior)
        >>> jaxgmm.nuts(jax.random.key(1), fit.mixture, x, prior, num_samples=100).mixture.means.shape
        (4, 100, 1, 1)
    """
    check_sampling_options(key, num_samples, num_chains)
    if start_mass is not None:
        options = dict(num_samples=num_samples, num_chains=num_chains, num_warmup=num_warmup, sample_weight=sample_weight)
        options |= dict(adapt_mass_matrix=adapt_mass_matrix, target_accept_prob=target_accept_prob)
        options |= dict(max_tree_depth=max_tree_depth, progress=progress)
        sample = partial(nuts, x=x, prior=prior, model=model, **options)
        return sample_modes(key, sample, start, start_mass, num_samples * num_chains)
    start, others = _split_starts(start)
    prior_is = "required" if model is None else "unchecked"
    inputs = validate_inputs(start, x, prior, sample_weight, name="start", prior_is=prior_is, is_start=True)
    if model is None:
        check_normalised(inputs.prior, inputs.mixture.covariance_type, "nuts")
    else:
        check_uncoupled_type(inputs.mixture.covariance_type, "nuts with your own model")
    check_draws(inputs.mixture, num_samples, num_chains)
    _check_options(num_warmup, adapt_mass_matrix, target_accept_prob, max_tree_depth, progress)
    if model is not None:
        if isinstance(inputs.x, Observations):
            raise TypeError("model was given with Observations; your own model receives x as an array: give it complete rows.")
        check_model(model)
        inputs = inputs._replace(prior=prior_as_arrays(inputs.prior))
    traced = is_traced(key, inputs, others, target_accept_prob)
    mesh = None if traced else chain_mesh(inputs.x)
    shown = False if traced or mesh else progress
    settings = _Settings(num_samples, num_chains, num_warmup, target_accept_prob, max_tree_depth, shown, model, mesh)
    posterior = in_dtype(_draw(key, inputs, others, settings, adapt_mass_matrix, traced), inputs.x.dtype)
    if not traced:
        warn_if_unreliable(posterior)
    return posterior


class _Settings(NamedTuple):
    """Options of `nuts`. The default values of some options depend on whether the mass matrix is adapted."""

    num_samples: int
    num_chains: int
    num_warmup: int | None
    target_accept_prob: float | jax.Array | None
    max_tree_depth: int
    progress: bool | None
    model: Callable[..., object] | None
    mesh: Mesh | None


def _check_options(
    num_warmup: object,
    adapt_mass_matrix: object,
    target_accept_prob: float | jax.Array | None,
    max_tree_depth: object,
    progress: object,
) -> None:
    """Raise ValueError or TypeError if an option has an invalid value."""
    if num_warmup is not None:
        check_count(num_warmup, "num_warmup", 0)
    if adapt_mass_matrix not in (None, True, False):
        raise TypeError(f"adapt_mass_matrix is {adapt_mass_matrix!r}; None, True or False was expected.")
    if target_accept_prob is not None:
        check_number(target_accept_prob, "target_accept_prob", exclusive=True)
        if not is_traced(target_accept_prob) and float(target_accept_prob) >= 1:
            raise ValueError(f"target_accept_prob is {float(target_accept_prob):g}; a number between 0 and 1 was expected.")
    check_count(max_tree_depth, "max_tree_depth")
    check_progress(progress)


def _split_starts(start: MixtureLike) -> tuple[Mixture, Mixture | None]:
    """Split a stack of starts into the first start and the others. If there is one start, return it and None."""
    start = as_mixture(start, "start")
    if len(start.batch_shape) != 1 or not start.batch_shape[0]:
        return start, None
    others = start[1:] if start.batch_shape[0] > 1 else None
    if others is not None and not is_traced(others):
        with jax.ensure_compile_time_eval():
            for j in range(others.batch_shape[0]):
                check_start(others[j])
    return start[0], others


def _draw(
    key: jax.Array, inputs: Inputs, others: Mixture | None, settings: _Settings, adapt: bool | None, traced: bool
) -> Posterior:
    """Approximate the posterior near each start, warm up, and sample. If `adapt` is None, the draws decide on the warm-up."""
    model, (key_approximation, key_chains) = settings.model, jax.random.split(key)
    if model is not None and not mixture_determines_sites(model, inputs):
        if others is not None:
            raise ValueError("start is a stack, but a mixture does not determine the sites of this model; give one start.")
        adapt = True if adapt is None else adapt
    approximations = _approximate(key_approximation, inputs, others, model, traced)
    run = partial(_run, key_chains, approximations, inputs.prior if model is None else None, settings)
    return _choose_warmup(run, approximations.main, adapt, traced)


def _approximate(
    key: jax.Array, inputs: Inputs, others: Mixture | None, model: Callable[..., object] | None, traced: bool
) -> Approximations:
    """Approximate the posterior at the mode near each start.

    Raise ValueError if the density or its gradient at a start is not finite. Traced values are not checked.
    """
    start, x, weight, prior = pad_inputs(inputs, key, others) if model is None else inputs
    if others is not None:
        start = jax.tree.map(lambda one, rest: jnp.concatenate([one[None], rest.astype(one.dtype)]), start, others)
    if model is None:
        problem, found = approximate_posterior(key, start, x, weight, prior)
        agrees = np.array(True)
    else:
        problem, found, agrees = approximate_user_posterior(key, start, x, weight, prior, model=model)
    if not traced:
        check_density_at_start(found)
    if not traced and not bool(agrees.all()):
        raise ValueError(
            "model has sites that share a name with sites of jaxgmm.model but mean something else: at the start's values, its "
            "weights, means and covariances are not the start's; give such sites other names."
        )
    if others is None:
        return Approximations(problem, found, None)
    return Approximations(problem, *(jax.tree.map(lambda leaf, part=part: leaf[part], found) for part in (0, slice(1, None))))


def _choose_warmup(
    run: Callable[[bool], Posterior], approximation: GaussianApproximation, adapt: bool | None, traced: bool
) -> Posterior:
    """Sample after the short or the full warm-up, as `adapt` requests.

    If `adapt` is None, first use the short warm-up. If the approximation or the resulting draws are not good enough, use the
    full warm-up.
    """
    if adapt is not None or traced:
        return run(bool(adapt))
    posterior = run(False) if bool(approximation.sound) else None
    if posterior is None or _needs_full_warmup(posterior):
        posterior = run(True)
    return posterior


def _needs_full_warmup(posterior: Posterior) -> bool:
    """Return whether draws after a short warm-up are not good enough.

    k-hat cannot notice a mode that the approximation's draws do not reach, but chains can. The status MULTIMODAL does not
    require a full warm-up, because the other mode would still exist after it.
    """
    limit = R_HAT_LIMIT + 4 / posterior.log_density.shape[1]
    good = (PosteriorStatus.OK, PosteriorStatus.FEW_DRAWS, PosteriorStatus.MULTIMODAL)
    return int(posterior.status) not in good or float(posterior.stats["rhat"]) > limit


def _run(key: jax.Array, approximations: Approximations, prior: Any, settings: _Settings, adapt: bool) -> Posterior:
    """Sample with or without adaptation of the mass matrix. This choice determines the default values of options."""
    num_samples, num_chains, num_warmup, target_accept_prob, max_tree_depth, progress, model, mesh = settings
    if num_warmup is None:
        num_warmup = FULL_WARMUP if adapt else SHORT_WARMUP
    if target_accept_prob is None:
        target_accept_prob = 0.9 if adapt else 0.8
    options = ChainOptions(num_samples, num_chains, num_warmup, adapt, max_tree_depth, model, mesh)
    xp = jnp if isinstance(target_accept_prob, jax.Array) else np  # NumPy needs no compilation
    target_accept_prob = xp.asarray(target_accept_prob, approximations.problem.y.dtype)
    num_starts = num_chains + (0 if approximations.others is None else len(approximations.others.value))
    with program_bar(num_bar_steps(num_starts, num_warmup + num_samples), " steps", progress) as bar:
        posterior = sample_chains(key, approximations, prior, target_accept_prob, bar, options=options)
        return posterior if bar is None else jax.block_until_ready(posterior)
