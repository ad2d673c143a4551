"""A person's own NumPyro model in the place of jaxgmm's: its unconstrained space, where its chains start, what its draws say.

The model is called as jaxgmm.model is and has sites or deterministics weights, means and covariances, these as a Mixture stores
them. If its latent sites are jaxgmm.model's (or covariances itself), a mixture says where they are: then there is a bridge, and
the density of draws is one in (weights, means, covariances). Else chains start around what fits by name, the rest at random.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from numpyro import handlers
from numpyro.distributions import biject_to
from numpyro.infer.util import compute_log_probs

from .. import covariance, linalg
from ..chunking import draws_per_batch
from ..density import responsibilities
from ..mixture import Mixture
from .gaussian_approximation import GaussianApproximation, build_approximation, chain_starts
from .model import mixture_of
from .standardization import StandardizedProblem

_NAMES = ("weights", "means", "covariances")
_CANDIDATES = 20  # places tried for each chain; NumPyro's init_to_uniform: the cube from -2 to 2


class UserModelSpace(NamedTuple):
    """The unconstrained space of a person's model at one problem; the first four as in `bridge.Space`.

    flatten: sites that a mixture does not tell stay at 0; inverted: there is none. told (P,): 1 where a mixture tells.
    """

    size: int
    potential: Callable
    flatten: Callable
    unflatten: Callable
    describe: Callable
    inverted: bool
    told: jax.Array


def check_model(model: Any) -> None:
    """Callable as jaxgmm.model is."""
    if not callable(model):
        raise TypeError(f"model is {type(model).__name__}; a NumPyro model was expected: a function called as jaxgmm.model is.")
    try:
        inspect.signature(model).bind(None, None, num_components=2, covariance_type="full")
    except TypeError as error:
        raise TypeError(
            f"model cannot be called as model(x, prior, num_components=K, covariance_type=...): {error}; give it these "
            "arguments, or **options, used or not."
        ) from None


def check_prior_leaves(prior: Any) -> Any:
    """What a person's model is handed as its prior, as arrays."""
    try:
        return jax.tree.map(jnp.asarray, prior)
    except TypeError as error:
        raise TypeError(
            f"prior holds something that is no array ({error}); arrays in any pytree, or None, were expected with a model of "
            "your own: close over the rest."
        ) from None


def raw_problem(x: jax.Array, weight: jax.Array | None, prior: Any) -> StandardizedProblem:
    """Data in their own units, in JAX's default float; rows of weight 0 hold a row that counts."""
    y = x if weight is None else jnp.where(weight[:, None] > 0, x, x[jnp.argmax(weight > 0)])
    y = y.astype(jnp.result_type(float))
    return StandardizedProblem(y, weight, prior, jnp.zeros(y.shape[1], y.dtype), jnp.ones(y.shape[1], y.dtype))


def has_bridge(model: Callable, start: Mixture, x: jax.Array, weight: jax.Array | None, prior: Any) -> bool:
    """Whether a mixture says where all of the model's sites are; the model is only traced."""
    found = []

    def look(start: Mixture, x: jax.Array, weight: jax.Array | None, prior: Any) -> jax.Array:
        found.append(make_user_space(model, raw_problem(x, weight, prior), start).inverted)
        return jnp.zeros(())

    jax.eval_shape(look, start, x, weight, prior)
    return found[0]


def make_user_space(model: Callable, problem: StandardizedProblem, start: Mixture) -> UserModelSpace:
    """Potential, transforms and what draws say, from one trace of the model; data units, log densities relative to the start."""
    arguments, options = (problem.y, problem.prior), _options(problem, start)
    trace = handlers.trace(handlers.seed(model, jax.random.key(0))).get_trace(*arguments, **options)
    latents = _latents(trace, start)
    inverses = {name: biject_to(site["fn"].support).inv for name, site in latents.items()}
    shapes = {name: jnp.shape(site["value"]) for name, site in latents.items()}
    known = {name for name, value in _site_values(start).items() if shapes.get(name) == value.shape}
    inverted = _is_inverted(set(latents), known, start)

    def to_z(mixture: Mixture) -> dict[str, jax.Array]:
        values = _site_values(mixture)
        return {
            name: inverse(values[name]) if name in known else jnp.zeros_like(inverse(latents[name]["value"]))
            for name, inverse in inverses.items()
        }

    at_start = jax.lax.stop_gradient(to_z(start))
    flat, unravel = ravel_pytree(at_start)
    told = ravel_pytree({name: jnp.full(jnp.shape(z), float(name in known)) for name, z in at_start.items()})[0]
    evaluate = _evaluator(model, arguments, options, unravel)
    reference = jax.lax.stop_gradient(evaluate(flat).terms)
    reference = {name: jnp.where(jnp.isfinite(term), term, 0) for name, term in reference.items()}

    def potential(z: jax.Array) -> jax.Array:
        found = evaluate(z)
        return -found.log_det - sum((term - reference[name]).sum() for name, term in found.terms.items())

    def unflatten(z: jax.Array) -> tuple[Mixture, jax.Array]:
        values, log_det = evaluate(z)[1:3]
        mixture = Mixture(*(values[name] for name in _NAMES), start.covariance_type)
        if inverted and "covariances" not in latents:
            log_det += mixture_of({name: values[name] for name in latents}, start.covariance_type)[1]
        return mixture, log_det

    numbers_per_draw = len(problem.y) * start.num_components * start.num_features
    further = () if inverted else tuple(sorted(set(latents) - set(_NAMES)))
    describe = partial(_describe, evaluate, unflatten, numbers_per_draw, further)
    return UserModelSpace(flat.size, potential, lambda m: ravel_pytree(to_z(m))[0], unflatten, describe, inverted, told)


class _Evaluation(NamedTuple):
    """terms: of the log density, by site; values, by site; log_det: log |d sites / dz|; observed: names, factors too."""

    terms: dict[str, jax.Array]
    values: dict[str, jax.Array]
    log_det: jax.Array
    observed: set[str]


def _evaluator(model: Callable, arguments: tuple, options: dict[str, Any], unravel: Callable) -> Callable:
    """z (P,) -> _Evaluation; supports may depend on other sites."""

    def evaluate(z: jax.Array) -> _Evaluation:
        parts, log_dets = unravel(z), [jnp.zeros(())]

        def put(site: dict) -> Any:
            if site["type"] != "sample" or site["name"] not in parts:
                return None
            transform, part = biject_to(site["fn"].support), parts[site["name"]]
            value = transform(part)
            log_dets.append(transform.log_abs_det_jacobian(part, value).sum())
            return value

        placed = handlers.substitute(handlers.seed(model, jax.random.key(0)), substitute_fn=put)
        terms, trace = compute_log_probs(placed, arguments, options, {}, sum_log_prob=False)
        observed = {name for name, site in trace.items() if site["type"] == "sample" and site["is_observed"]}
        return _Evaluation(terms, {name: site["value"] for name, site in trace.items()}, sum(log_dets), observed)

    return evaluate


def _describe(
    evaluate: Callable, unflatten: Callable, numbers_per_draw: int, further: tuple[str, ...], z: jax.Array
) -> tuple[Mixture, jax.Array, dict[str, Any]]:
    """Mixtures (C, S, ...), log densities (C, S), log-likelihoods and further sites as stats, of z (C, S, P)."""

    def one(z: jax.Array) -> tuple[Mixture, jax.Array, jax.Array, dict[str, jax.Array]]:
        found = evaluate(z)
        mixture, log_det = unflatten(z)
        totals = {name: term.sum() for name, term in found.terms.items()}
        likelihood = sum((totals[name] for name in found.observed), jnp.zeros(()))
        sites = {name: found.values[name] for name in further}
        return mixture, sum(totals.values()) + found.log_det - log_det, likelihood, sites

    points = z.reshape(-1, z.shape[-1])
    flat = jax.lax.map(one, points, batch_size=draws_per_batch(numbers_per_draw, len(points)))
    mixture, log_density, likelihood, sites = jax.tree.map(lambda leaf: leaf.reshape(*z.shape[:2], *leaf.shape[1:]), flat)
    return mixture, log_density, {"log_likelihood": likelihood} | ({"sites": sites} if sites else {})


def _options(problem: StandardizedProblem, start: Mixture) -> dict[str, Any]:
    options = {"num_components": start.num_components, "covariance_type": start.covariance_type}
    return options if problem.weight is None else options | {"sample_weight": problem.weight}


def _latents(trace: dict[str, dict], start: Mixture) -> dict[str, dict]:
    """The sites to be sampled, of a model that is what it must be."""
    k, d = start.num_components, start.num_features
    shapes = ((k,), (k, d), covariance.storage_shape(start.covariance_type, k, d))
    for name, shape in zip(_NAMES, shapes, strict=True):
        if name not in trace or trace[name]["type"] not in ("sample", "deterministic"):
            raise ValueError(
                f"model has no site {name!r}; sites or deterministics weights, means and covariances were expected."
            )
        if jnp.shape(trace[name]["value"]) != shape:
            raise ValueError(
                f"model's site {name!r} has shape {jnp.shape(trace[name]['value'])}; {shape} was expected, as a "
                f"{start.covariance_type} Mixture stores it."
            )
    latents = {name: site for name, site in trace.items() if site["type"] == "sample" and not site["is_observed"]}
    for name, site in latents.items():
        if site["fn"].support.is_discrete:
            raise ValueError(f"model's site {name!r} is discrete; sum it out, as NumPyro's MixtureSameFamily does.")
    if not latents:
        raise ValueError("model samples nothing: every site is observed.")
    return latents


def _site_values(mixture: Mixture) -> dict[str, jax.Array]:
    """Values at a mixture of all sites that are named as jaxgmm.model names its own."""
    values = {name: getattr(mixture, name) for name in _NAMES}
    if not covariance.is_dense(mixture.covariance_type):
        return values | {"variances": mixture.covariances, "scales": jnp.sqrt(mixture.covariances)}
    lower = linalg.cholesky(mixture.covariances)
    scales = jnp.sqrt(linalg.diagonal(mixture.covariances))
    return values | {"scale_tril": lower, "scales": scales, "corr_tril": lower / scales[..., None]}


def _is_inverted(latents: set[str], known: set[str], start: Mixture) -> bool:
    """A mixture says where all sites are, and they say no more than the mixture."""
    scales = {"scales", "corr_tril"} if covariance.is_dense(start.covariance_type) and start.num_features > 1 else {"scales"}
    forms = [{"covariances"}, {"scale_tril"}, {"variances"}, scales]
    return latents == known and any(latents == {"weights", "means"} | form for form in forms)


def user_model_approximation(
    key: jax.Array, model: Callable, problem: StandardizedProblem, start: Mixture
) -> tuple[GaussianApproximation, jax.Array]:
    """A bridge in the model's own space, or what stands for one; and whether sites mean what they are called."""
    space = make_user_space(model, problem, start)
    z = space.flatten(start)
    agrees = jnp.array(True)
    if space.inverted:
        again = space.unflatten(z)[0]
        for name in _NAMES:
            value = getattr(start, name)
            agrees &= (abs(getattr(again, name) - value) <= 1e-3 * abs(value).max()).all()
        return build_approximation(key, start, problem, space), agrees
    starts, values = _places(key, space, problem, start, 1)
    none = jnp.asarray(jnp.nan, z.dtype)
    weight = jnp.ones(len(problem.y), z.dtype) if problem.weight is None else problem.weight
    counts = weight @ responsibilities(start, problem.y)
    zero, unsound = jnp.array(0), jnp.array(False)
    root = jnp.eye(space.size, dtype=z.dtype)
    return GaussianApproximation(start, 0 * z, root, values[0], none, zero, none, none, counts, unsound), agrees


def user_model_starts(
    key: jax.Array, model: Callable, bridge: GaussianApproximation, problem: StandardizedProblem, num_chains: int
) -> jax.Array:
    """Starts in u, (C, P)."""
    space = make_user_space(model, problem, bridge.start)
    if space.inverted:
        return chain_starts(key, bridge, num_chains)
    return _places(key, space, problem, bridge.start, num_chains)[0]


def _places(
    key: jax.Array, space: UserModelSpace, problem: StandardizedProblem, start: Mixture, num_chains: int
) -> tuple[jax.Array, jax.Array]:
    """Places (C, P) with finite density and gradient, and potentials (C,); not finite where none was found.

    What the start tells, with its means moved by 1.5 standard errors; else as NumPyro's init_to_uniform.
    """
    total = len(problem.y) if problem.weight is None else problem.weight.sum()
    spread = covariance.variances(start.covariances, start.covariance_type, start.num_features)
    error = jnp.sqrt(spread / (total * start.weights[:, None]))

    def place(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        key_means, key_rest = jax.random.split(key)
        noise = jax.random.normal(key_means, start.means.shape, start.means.dtype)
        moved = Mixture(start.weights, start.means + 1.5 * error * noise, start.covariances, start.covariance_type)
        z = space.flatten(moved)
        z = jnp.where(space.told > 0, z, jax.random.uniform(key_rest, z.shape, z.dtype, -2, 2))
        value, gradient = jax.value_and_grad(space.potential)(z)
        return z, jnp.where(jnp.isfinite(gradient).all(), value, jnp.nan)

    z, values = jax.lax.map(place, jax.random.split(key, num_chains * _CANDIDATES), batch_size=_CANDIDATES)
    z, values = z.reshape(num_chains, _CANDIDATES, -1), values.reshape(num_chains, _CANDIDATES)
    first = jnp.isfinite(values).argmax(1)
    rows = np.arange(num_chains)
    return z[rows, first], values[rows, first]
